"""Inputs that can be learned from: of one shape, and finite. What is not is named by its sample's id."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten
from torch.utils.data import default_collate

from expunge.disk.reading import reason
from expunge.errors import DataError

NameOf = Callable[[int], str]
"""What the sample at a place is called."""


def stacked(items: Sequence[Any], name: NameOf) -> Any:
    """Inputs of some samples as a batch: a tensor (n, ...), or a pytree of them.

    Raises DataError that names the sample for None, for inputs of several shapes, for nan, and for
    inf where an input is one tensor (masks among several may well hold it).
    """
    for place, item in enumerate(items):
        if item is None:
            raise DataError(
                f"sample {name(place)!r} is None instead of an input; leave out of the dataset what "
                "cannot be read"
            )
    try:
        batch = default_collate(list(items))
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as cause:
        for leaf in tree_flatten(list(items))[0]:
            if isinstance(leaf, Tensor):
                check_kind(leaf)
        first = _described(items[0])
        for place, item in enumerate(items):
            if (other := _described(item)) != first:
                raise DataError(
                    f"sample {name(place)!r} is {other}, sample {name(0)!r} is {first}; make all "
                    "inputs alike: resize, crop or pad them in the dataset"
                ) from cause
        raise DataError(
            f"inputs such as {first} make no batch ({reason(cause)}); give tensors, arrays or images"
        ) from cause
    check_finite(batch, name)
    return batch


def check_finite(batch: Any, name: NameOf) -> None:
    """Raise DataError that names the first sample of a batch (n, ...) that holds nan, or inf where the
    batch is one tensor; and for tensors that `check_kind` refuses.
    """
    for leaf in tree_flatten(batch)[0]:
        if isinstance(leaf, Tensor):
            check_kind(leaf)
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or not leaf.numel():
            continue
        if math.isfinite(leaf.sum()):  # one quick look; whatever is odd makes the sum so
            continue
        odd = ~leaf.isfinite() if leaf is batch else leaf.isnan()
        rows = odd.reshape(len(leaf), -1).any(dim=1).nonzero()[:, 0].tolist()
        if rows:
            what = "nan" if bool(leaf[rows[0]].isnan().any()) else "inf"
            more = f" ({len(rows):,} such samples)" if len(rows) > 1 else ""
            raise DataError(
                f"the input of sample {name(rows[0])!r} holds {what}{more}, of which nothing can be "
                "learned; fill in what is missing, or leave the sample out"
            )


def check_kind(tensor: Tensor) -> None:
    """Raise DataError for complex numbers, and for tensors that are not dense."""
    if tensor.layout != torch.strided:
        raise DataError(
            "a tensor of the data is sparse, of which no rows are taken; give it dense, as "
            "tensor.to_dense() is"
        )
    if tensor.is_complex():
        raise DataError(
            "a tensor of the data holds complex numbers, of which no model here learns; give real ones, "
            "such as torch.view_as_real(tensor)"
        )


def detached(value: Tensor) -> Tensor:
    """A tensor as a plain value: what made it is not to be trained."""
    return value.detach() if value.requires_grad else value


def _described(item: Any) -> str:
    """An input in words, such that alike ones read alike."""
    if isinstance(item, dict):
        parts = (f"{key}: {_described(value)}" for key, value in sorted(item.items()))
        return "{" + ", ".join(parts) + "}"
    if isinstance(item, list | tuple):
        return "(" + ", ".join(map(_described, item)) + ")"
    if isinstance(item, torch.Tensor):
        return f"{str(item.dtype).removeprefix('torch.')} of shape {tuple(item.shape)}"
    return f"a {type(item).__name__}"
