"""What a model sees in the samples that it learned from, and in clean ones, class by class."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.backdoor.detection import CANNOT_TELL, NOTHING, SUSPECT, Detection, Word
from expunge.backdoor.inspected import Inspected
from expunge.backdoor.thresholds import THRESHOLDS
from expunge.data.batch import Ids
from expunge.errors import ConfigError

CLEAN_OF_EACH = 500
"""Clean samples of a class that are looked at."""
LEAST = 10
"""Training samples, and clean ones, without which a class is not looked at."""
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
    def of(cls, subject: Inspected) -> Activations:
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

    def each(self) -> Iterator[tuple[int, Tensor, Tensor, Ids]]:
        """Of each class with samples enough: its index, features of its training samples and of its
        clean ones, and the ids of the former.
        """
        for target in range(len(self.classes)):
            own, clean = self.labels == target, self.clean_labels == target
            if min(own.sum(), clean.sum()) >= LEAST:
                features = self.features[torch.from_numpy(own)]
                yield target, features, self.clean[torch.from_numpy(clean)], self.ids[own]


def share_by_chance(share: float, other: float, count: int, others: int) -> float:
    """The chance that one share, of `count` samples, lies so far above another, of `others`, where both
    come from the same: a normal approximation, the shares pooled.
    """
    if not count or not others:
        return 1.0
    pooled = (share * count + other * others) / (count + others)
    spread = math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / count + 1 / others))
    return 1 - statistics.NormalDist().cdf((share - other) / spread) if spread else 1.0


@dataclass(frozen=True)
class Excess:
    """How many more of a class's training samples than of its clean ones are of a kind.

    Attributes:
        share, other: of the training samples and of the clean ones, 0 to 1.
        count, others: how many there are of either.
        names: the training samples of that kind -> their score, the most suspicious first.
        chosen_of: how many kinds this one is the largest excess of.
    """

    share: float
    other: float
    count: int
    others: int
    names: Mapping[str, float]
    chosen_of: int = 1

    @property
    def value(self) -> float:
        """Of the shares, -1 to 1."""
        return self.share - self.other

    @property
    def chance(self) -> float:
        """That any of the kinds exceeds so much where both come from the same."""
        alone = share_by_chance(self.share, self.other, self.count, self.others)
        return min(1.0, self.chosen_of * alone)

    def can_tell(self, limit: float, classes: int) -> bool:
        """Whether so many samples could show an excess of `limit` over none, in any of the classes."""
        return replace(self, share=limit, other=0.0).chance < CHANCE / classes


def judge_excess(
    detector: str,
    found: Mapping[int, Excess],
    classes: Sequence[str],
    says: str,
    columns: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Detection:
    """What the excesses of the classes say: a class is suspect where its excess is beyond the detector's
    threshold, and more than chance makes of so many samples. Nothing is found only where every class has
    samples enough to show an excess of that size.

    found: by class index. says: what is in excess. columns: further numbers, one for each class.
    """
    limit, count = THRESHOLDS[detector].value, len(classes)
    if not found:
        return Detection(detector, CANNOT_TELL, "every class has too few training or clean samples")
    order = sorted(found, key=lambda target: -found[target].value)
    suspects = [c for c in order if found[c].value > limit and found[c].chance < CHANCE / count]
    blind = [c for c in range(count) if c not in found or not found[c].can_tell(limit, count)]
    top = order[0]
    why = (
        f"of class {classes[top]!r} {100 * found[top].value:.0f} points more of the training samples "
        f"than of the clean ones {says}, threshold {100 * limit:g}"
    )
    word: Word = SUSPECT if suspects else CANNOT_TELL if blind else NOTHING
    if word == CANNOT_TELL:
        why += f"; {len(blind)} of {count} classes have too few samples for less than that to show"
    excess = tuple(found[c].value if c in found else math.nan for c in range(count))
    return Detection(
        detector,
        word,
        why,
        found[top].value,
        limit,
        tuple(suspects),
        {**{name: tuple(values) for name, values in columns.items()}, "excess": excess},
        {name: score for c in suspects for name, score in found[c].names.items()},
    )
