"""What a batch looks like: some samples of one part of a split, or of a mix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten

from expunge.data.parts import Part
from expunge.errors import DataError

Ids = NDArray[np.str_]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Some samples, on the device, ready for the model.

    ids: (batch,) the samples' stable names.
    inputs: a tensor (batch, ...), or a pytree of such tensors.
    labels: (batch,) int64, or None where the source has none.
    part: where all the samples come from; None for a mix, and for samples that a method made itself.
    weight: this process's share of the global batch times the number of processes: 1.0 in one
        process. A mean over the local batch times `weight`, averaged over processes, is the mean
        over the global batch. 0.0 marks a stand-in that only keeps an idle process in step.
    of_forget: (batch,) bool, of a mix: which samples come from the forget set. `forget` reads it.
    """

    ids: Ids
    inputs: Any
    labels: Tensor | None
    part: Part | None
    weight: float = 1.0
    of_forget: Tensor | None = None

    def __len__(self) -> int:
        return int(first_tensor(self.inputs).shape[0])

    @property
    def forget(self) -> Tensor:
        """Which samples are to be forgotten: (batch,) bool, whatever the batch is made of.

        All False for a method that did not declare the forget set, for it reads none of it, and for
        samples that a method made itself.
        """
        if self.of_forget is not None:
            return self.of_forget
        device = first_tensor(self.inputs).device
        return torch.full((len(self),), self.part is Part.FORGET, device=device)

    def relabelled(self, labels: Tensor) -> Batch:
        """The same samples under other labels: (batch,) class indices, or (batch, classes) shares.

        Raises DataError unless there is one label per sample.
        """
        if labels.ndim == 0 or len(labels) != len(self):
            raise DataError(
                f"labels of shape {tuple(labels.shape)} do not fit a batch of {len(self)} samples; "
                "give one label per sample"
            )
        return replace(self, labels=labels.to(first_tensor(self.inputs).device))


def first_tensor(inputs: Any) -> Tensor:
    """The first tensor of a pytree; its first axis counts samples."""
    if isinstance(inputs, Tensor):
        return inputs
    leaves, _ = tree_flatten(inputs)
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            return leaf
    raise TypeError(f"no tensor in inputs of type {type(inputs).__name__}")
