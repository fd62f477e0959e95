"""From stored samples to model inputs: crop, flip and normalise, a whole batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from expunge.data.batch import Indices

Augmentation = Literal["none", "crop", "flip", "crop_flip"]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel (images) or per feature (vectors).

    For uint8 samples both are in units of the full scale (0 to 1), as is usual for images.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @cached_property
    def _lines(self) -> dict[tuple[float, torch.device], tuple[Tensor, Tensor]]:
        return {}

    def __getstate__(self) -> dict[str, tuple[float, ...]]:  # no tensors, which a device may hold
        return {"mean": self.mean, "std": self.std}

    def line(self, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
        """Factor and shift, one each per channel, on a device; made there once, and not for each batch.

        (x / scale - mean) / std = x * factor + shift
        """
        key = scale, device
        if key not in self._lines:
            with torch.inference_mode(False):  # they are kept, so they must serve any caller
                mean, std = torch.tensor(self.mean), torch.tensor(self.std)
                factor, shift = 1.0 / (scale * std), -mean / std
                self._lines[key] = factor.to(device), shift.to(device)
        return self._lines[key]


@dataclass(frozen=True)
class Transform:
    """Turns a batch as it is stored into what the model reads.

    uint8 inputs become float32 in [0, 1]; then `normalisation` is applied; images come out
    channels-last. Anything that is not a plain tensor passes through untouched: a dataset of
    dictionaries brings its own preprocessing.
    """

    normalisation: Normalisation | None = None
    augmentation: Augmentation = "none"

    def __call__(self, inputs: Any, draws: Draws | None = None) -> Any:
        """Transform a batch; augment it if random choices are given (see `draw`)."""
        if not isinstance(inputs, Tensor):
            return inputs
        if draws is not None:
            inputs = augment(inputs, draws, self.augmentation)
        return self.normalise(inputs)

    def draw(self, inputs: Any, count: int, generator: torch.Generator) -> Draws | None:
        """Random choices for `count` samples of which these are some; None where none apply.

        The generator lives on the CPU, so that a seed means the same crops on every device.
        """
        if self.augmentation == "none" or not isinstance(inputs, Tensor) or inputs.ndim != 4:
            return None
        span = 2 * padding_of(*inputs.shape[2:]) + 1
        return Draws(
            rows=torch.randint(0, span, (count,), generator=generator),
            columns=torch.randint(0, span, (count,), generator=generator),
            flips=torch.rand(count, generator=generator) < 0.5,
        )

    def normalise(self, inputs: Tensor) -> Tensor:
        """Scale and normalise a batch (batch, ...), without augmentation."""
        images = inputs.ndim == 4
        scale = 255.0 if inputs.dtype == torch.uint8 else 1.0
        if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
            return inputs  # token ids and the like
        if self.normalisation is None:
            outputs = inputs.float() / scale if scale != 1.0 else inputs.float()
        else:
            factor, shift = self.normalisation.line(scale, inputs.device)
            if images:
                factor, shift = factor[:, None, None], shift[:, None, None]
            outputs = inputs.float() * factor + shift
        return outputs.contiguous(memory_format=torch.channels_last) if images else outputs

    def bounds(self, inputs: Any, device: torch.device) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest value that each channel of a picture, or feature of bytes, may have.

        inputs: a batch as it is stored. Two tensors, (channels, 1, 1) or (features,), that go with a
        batch of model inputs. None for all but bytes: how far other numbers may go nobody knows.
        """
        if not isinstance(inputs, Tensor) or inputs.dtype != torch.uint8:
            return None
        extent = (inputs.shape[1], 1, 1) if inputs.ndim == 4 else inputs.shape[1:]
        ends = torch.tensor([0, 255], dtype=torch.uint8, device=device)
        low, high = self.normalise(ends.reshape(2, *[1] * len(extent)).expand(2, *extent))
        return low, high


@dataclass(frozen=True)
class Draws:
    """Random choices, one for each of n samples: offsets (n,) in [0, 2 * padding], flips (n,) bool."""

    rows: Tensor
    columns: Tensor
    flips: Tensor

    def of(self, samples: Indices) -> Draws:
        """The choices for some of the samples, (batch,) indices."""
        chosen = torch.from_numpy(samples)
        return Draws(self.rows[chosen], self.columns[chosen], self.flips[chosen])


def padding_of(height: int, width: int) -> int:
    """Pixels of zero padding for a random crop: 4 at 32x32, an eighth of the shorter side."""
    return max(1, min(height, width) // 8)


def augment(inputs: Tensor, draws: Draws, kind: Augmentation) -> Tensor:
    """Random crop after zero padding, and horizontal flip, each image its own choice.

    inputs: (batch, channels, height, width), any dtype; the same shape comes out.
    """
    count, _, height, width = inputs.shape
    device = inputs.device
    if kind in ("crop", "crop_flip"):
        pad = padding_of(height, width)
        padded = torch.nn.functional.pad(inputs, (pad, pad, pad, pad))
        # every window as a strided view; the gather below copies only the chosen ones
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        chosen = torch.arange(count, device=device)
        rows = draws.rows.to(device, non_blocking=True)
        columns = draws.columns.to(device, non_blocking=True)
        inputs = windows[chosen, :, rows, columns]
    if kind in ("flip", "crop_flip"):
        flips = draws.flips.to(device, non_blocking=True).reshape(-1, 1, 1, 1)
        inputs = torch.where(flips, inputs.flip(-1), inputs)
    return inputs


def to_device(inputs: Any, device: torch.device) -> Any:
    """Move every tensor of a pytree."""
    return tree_map(
        lambda leaf: leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf,
        inputs,
    )
