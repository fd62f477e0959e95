"""What a batch of one part of a split looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten

from expunge.data.parts import Part

Ids = NDArray[np.str_]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Some samples of one part, on the device, ready for the model.

    ids: (batch,) the samples' stable names.
    inputs: a tensor (batch, ...), or a pytree of such tensors.
    labels: (batch,) int64, or None where the source has none.
    part: where the samples come from; None for samples that a method made itself.
    weight: this process's share of the global batch times the number of processes: 1.0 in one
        process. A mean over the local batch times `weight`, averaged over processes, is the mean
        over the global batch. 0.0 marks a stand-in that only keeps an idle process in step.
    """

    ids: Ids
    inputs: Any
    labels: Tensor | None
    part: Part | None
    weight: float = 1.0

    def __len__(self) -> int:
        return int(first_tensor(self.inputs).shape[0])


def first_tensor(inputs: Any) -> Tensor:
    """The first tensor of a pytree; its first axis counts samples."""
    leaves, _ = tree_flatten(inputs)
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            return leaf
    raise TypeError(f"no tensor in inputs of type {type(inputs).__name__}")
