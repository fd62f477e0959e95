"""Batches cut to what memory holds, and the model held still while it is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.models.mask import Mask, check_fits
from expunge.training.loop import evaluating

MEMORY = 2**30
"""Bytes that a pass may hold where the caller does not say; on a GPU at least so many."""
GPU_SHARE = 8
"""That part of a GPU's memory is a pass's, where it is more: a GPU is quick with large batches alone."""
PIECE = 128
"""Samples in one piece at most: more gain nothing."""


def counted(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches that hold samples of their own; a stand-in of weight 0 counts for nothing."""
    for batch in batches:
        if batch.weight and len(batch):
            yield batch


def piece(batch: Batch, start: int, stop: int) -> Batch:
    """Samples `start` to `stop` of a batch."""
    count = len(batch)

    def cut(leaf: object) -> object:
        along = isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == count
        return leaf[start:stop] if along else leaf  # type: ignore[index]

    labels = None if batch.labels is None else batch.labels[start:stop]
    marks = None if batch.of_forget is None else batch.of_forget[start:stop]
    return replace(
        batch,
        ids=batch.ids[start:stop],
        inputs=tree_map(cut, batch.inputs),
        labels=labels,
        of_forget=marks,
    )


def pieces(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch in the fewest pieces of at most `size` samples, as equal as can be."""
    count = len(batch)
    parts = math.ceil(count / size)
    if parts <= 1:
        yield batch
        return
    for part in range(parts):
        yield piece(batch, part * count // parts, (part + 1) * count // parts)


def channels_last(batch: Batch) -> Batch:
    """The batch with images stored channels last, in which convolutions are quicker.

    All that follows an image follows its layout; the values are the same.
    """

    def lay_out(leaf: object) -> object:
        image = isinstance(leaf, Tensor) and leaf.ndim == 4
        return leaf.contiguous(memory_format=torch.channels_last) if image else leaf  # type: ignore[attr-defined]

    return replace(batch, inputs=tree_map(lay_out, batch.inputs))


def memory_for(device: torch.device, asked: int | None = None) -> int:
    """Bytes that a pass may hold: as many as are asked for, else what suits the device.

    It goes by what a GPU has, not by what is free, so that the same card cuts batches alike.
    """
    if asked is not None:
        return asked
    if device.type != "cuda":
        return MEMORY
    return max(MEMORY, torch.cuda.get_device_properties(device).total_memory // GPU_SHARE)


def size_for(memory_bytes: int, bytes_per_sample: int) -> int:
    """Samples in a piece: at least 1, however little memory there is."""
    return max(1, min(PIECE, memory_bytes // max(1, bytes_per_sample)))


def wanted(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that count: those that require a gradient.

    Raises ConfigError if there are none, or one is complex.
    """
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ConfigError(
            "no parameter of the model requires a gradient, so there is nothing to differentiate "
            "by; call model.requires_grad_(True)"
        )
    odd = [name for name, p in found.items() if p.is_complex()]
    if odd:
        raise ConfigError(
            f"{odd[0]!r} is complex, and gradients of single samples are taken by real weights; use a "
            "method that trains, such as finetune, or keep its real and imaginary parts"
        )
    return found


def checked_mask(model: nn.Module, mask: Mask | None) -> dict[str, Tensor]:
    """The mask on the parameters' devices; raises ConfigError where it does not fit the model."""
    check_fits(model, mask or {}, "mask")
    parameters = dict(model.named_parameters())
    return {
        name: kept.to(device=parameters[name].device, dtype=torch.bool)
        for name, kept in (mask or {}).items()
    }


@contextmanager
def held_still(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients enabled whatever the caller has; modes are put back.

    cuDNN has no gradients of recurrent layers in evaluation mode, so they do without it.
    """
    cudnn = torch.backends.cudnn.enabled
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with evaluating(model), torch.enable_grad():
        torch.backends.cudnn.enabled = cudnn and not recurrent
        try:
            yield
        finally:
            torch.backends.cudnn.enabled = cudnn
