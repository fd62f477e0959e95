"""A model's outputs on samples that were changed a little, the same for every model.

What stands in front of a model and knows the forgotten samples does not know these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from expunge.audits.observe import observe_rows
from expunge.audits.outputs import PartOutputs
from expunge.data.batch import Ids, Indices
from expunge.data.keyed import hashes_of
from expunge.data.load import Data
from expunge.data.samples import Samples, Store
from expunge.data.table import TableStore
from expunge.errors import DataError
from expunge.training.run import Run

Change = Callable[[Tensor, Ids], Tensor]
"""Inputs (batch, ...) before they are normalised, float32, those of images of bytes in [0, 1]; and their
ids (batch,). The same shape comes out; what leaves [0, 1] there is brought back."""


def observe_changed(
    model: nn.Module, data: Data, samples: Samples, rows: Indices, change: Change, run: Run
) -> PartOutputs:
    """Outputs on some rows, each changed, in their order. The model comes back as it was.

    Raises DataError for inputs that are no numbers, such as texts.
    """
    changed = samples.with_store(ChangedStore(samples.store, samples.ids, change))
    return observe_rows(model, data, changed, rows, run, "changed samples")


@dataclass(frozen=True, eq=False)
class ChangedStore:
    """A store whose inputs are changed as they are read. ids: (n,) of its rows."""

    clean: Store
    ids: Ids
    change: Change

    def fetch(self, index: Indices, device: torch.device) -> Tensor:
        """Rows on the device, changed."""
        return self._changed(self.clean.fetch(index, device), index)

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Tensor]:
        """Rows of many batches; the clean store reads ahead as it does."""
        for index, raw in zip(batches, self.clean.stream(batches, device), strict=True):
            yield self._changed(raw, index)

    def rows(self, index: Indices) -> Store:
        """Some of the rows, changed as before."""
        return ChangedStore(self.clean.rows(index), self.ids[index], self.change)

    def whole(self) -> None:
        """Never held in memory."""

    def _changed(self, raw: Any, index: Indices) -> Tensor:
        if not is_numbers(raw):
            raise DataError(
                "these inputs are no numbers or bytes, so there is no changing them a little"
            )
        if raw.dtype != torch.uint8:
            return self.change(raw.float(), self.ids[index])
        return self.change(raw.float() / 255, self.ids[index]).clamp(0, 1)


def is_numbers(raw: Any) -> bool:
    """Whether a batch is of images (n, channels, height, width) or vectors (n, features), as bytes or
    with a fraction.
    """
    known = isinstance(raw, Tensor) and raw.ndim in (2, 4)
    return known and (raw.dtype == torch.uint8 or raw.is_floating_point())


def shifted(pixels: int) -> Change:
    """Images moved by so many pixels to a side that the id decides; the edge is repeated."""

    def change(inputs: Tensor, ids: Ids) -> Tensor:
        height, width = inputs.shape[2:]
        padded = torch.nn.functional.pad(inputs, [pixels] * 4, mode="replicate")
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        sides = torch.tensor([[0, 1], [2, 1], [1, 0], [1, 2]]) * pixels
        drawn = sides[torch.from_numpy((hashes_of(ids, "shift", pixels) % 4).astype(np.int64))]
        row, column = drawn.to(inputs.device).unbind(1)
        return windows[torch.arange(len(inputs), device=inputs.device), :, row, column]

    return change


def noisy(amount: float, spread: Tensor) -> Change:
    """Inputs with Gaussian noise, drawn by the id.

    spread: of each channel or feature (c,), of which `amount`, above 0, is the noise's deviation.
    """

    def change(inputs: Tensor, ids: Ids) -> Tensor:
        keys = hashes_of(ids, "noise", repr(amount)).tolist()
        drawn = np.stack([_normal(key, tuple(inputs.shape[1:])) for key in keys])
        scale = (amount * spread).reshape(-1, *[1] * (inputs.ndim - 2))
        return inputs + (torch.from_numpy(drawn) * scale).to(inputs.device)

    return change


def _normal(key: int, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal(shape, dtype=np.float32)


def spread_of(data: Data) -> Tensor | None:
    """Standard deviation of each channel or feature of the training inputs (c,), those of bytes by the
    full scale; 0 of a table's categories, which a little noise makes no sense of. None for inputs that
    are no numbers.
    """
    train = data.train
    if not len(train) or not is_numbers(train.store.fetch(np.array([0]), torch.device("cpu"))):
        return None
    known = data.normalisation or train.statistics()
    if known is None:
        return None
    spread = torch.tensor(known.std)
    if isinstance(train.store, TableStore):
        spread[torch.tensor(train.store.indicators)] = 0
    return spread
