"""What a model sees in the samples that it learned from, and in clean ones, class by class."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.backdoor.subject import Subject
from expunge.data.batch import Ids
from expunge.errors import ConfigError

CLEAN_OF_EACH = 500
"""Clean samples of a class that are looked at."""
CHANCE = 0.05
"""How often any of the classes differs by chance, at most."""


@dataclass(frozen=True, eq=False)
class Activations:
    """Features: what goes into the last layer, (n, width) float32 on the processor.

    Attributes:
        classes: names.
        ids, labels, features: of n training samples, labelled as they were learned.
        clean_labels, clean: of m clean samples.
    """

    classes: tuple[str, ...]
    ids: Ids
    labels: NDArray[np.int64]
    features: Tensor
    clean_labels: NDArray[np.int64]
    clean: Tensor

    @classmethod
    def of(cls, subject: Subject) -> Activations:
        """Of all samples that a subject's model learned from, and of 500 clean ones of each class.

        Raises:
            ConfigError: where what it learned from is not at hand.
            HeadError: for a model without a last linear layer.
        """
        learned = subject.learned
        if learned is None:
            raise ConfigError("what the model learned from is not at hand")
        rows = subject.some_of_each(subject.clean, CLEAN_OF_EACH, "clean")
        return cls(
            subject.classes,
            learned.ids,
            learned.labels,
            subject.features(learned, np.arange(len(learned))),
            subject.clean.labels[rows],
            subject.features(subject.clean, rows),
        )

    def of_class(self, target: int) -> tuple[Tensor, Tensor, Ids]:
        """Features of a class's training samples and of its clean ones, and the ids of the former."""
        own = self.labels == target
        clean = torch.from_numpy(self.clean_labels == target)
        return self.features[torch.from_numpy(own)], self.clean[clean], self.ids[own]


def share_by_chance(share: float, other: float, count: int, others: int) -> float:
    """The chance that one share, of `count` samples, lies so far above another, of `others`, where both
    come from the same: a normal approximation, the shares pooled.
    """
    if not count or not others:
        return 1.0
    pooled = (share * count + other * others) / (count + others)
    spread = math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / count + 1 / others))
    return 1 - statistics.NormalDist().cdf((share - other) / spread) if spread else 1.0


def can_tell(limit: float, other: float, count: int, others: int, classes: int) -> bool:
    """Whether so many samples of a class could show an excess of `limit` over a share of the clean."""
    return share_by_chance(other + limit, other, count, others) < CHANCE / classes
