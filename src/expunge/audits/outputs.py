"""What a model said about each part of the data: observed once, then only read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from expunge.data.batch import Ids
from expunge.data.poison import NEXT, Target
from expunge.errors import ConfigError, DataError, ModelError

KEPT_VALUES = 2**24
"""Logits of a part that are kept in memory; of a part with more, they are made again when asked for."""
AT_ONCE = 2**20
"""Logits that are looked at in double precision at a time."""
FEW = 16
"""Classes; of no more, torch sums faster over columns of many samples than over short rows."""


class PartOutputs:
    """A model's outputs on one part, one row per sample, in any order.

    What they say of each sample is worked out once, some rows at a time, so that memory grows with
    the number of samples, and not with that times the number of classes.

    Attributes:
        labels: (n,), int64, each in [0, classes).
        classes: number of classes.
        losses: cross-entropy per sample in nats, (n,), float64, 0 or more.
        predicted: the class of the largest logit (of equal ones the first), (n,), int64.
        true_class_confidence: probability given to the label, (n,), float64, in [0, 1].
    """

    def __init__(
        self,
        logits: Tensor | Callable[[], Iterable[Tensor]],
        labels: Tensor,
        ids: tuple[str, ...] | Ids,
    ) -> None:
        """Look at all logits, (n, classes), float32, on the CPU; -inf closes a class.

        Args:
            logits: all of them, or a function that gives them, some rows after another, each time that
                it is called.
            labels: see above.
            ids: the n samples' ids.

        Raises:
            ConfigError: if shapes, types or lengths do not fit each other.
            DataError: if a label is not one of the model's classes.
            ModelError: if the model's outputs are not finite: nan, or +inf.
        """
        if isinstance(logits, Tensor):
            _check(logits)
        rows = len(logits) if isinstance(logits, Tensor) else len(ids)
        if labels.shape != (rows,) or labels.dtype != torch.int64:
            raise ConfigError(
                f"labels must be ({rows},), int64, one per row of logits; got {tuple(labels.shape)}, "
                f"{labels.dtype}"
            )
        if len(ids) != rows:
            raise ConfigError(f"{len(ids)} ids for {rows} rows of logits")
        self.labels, self._given, self.classes = labels, ids, 0
        self._chunks = (lambda: [logits]) if isinstance(logits, Tensor) else logits
        self._kept: list[Tensor] | None = []
        self.losses = torch.empty(rows, dtype=torch.float64)
        self.true_class_confidence = torch.empty(rows, dtype=torch.float64)
        self.predicted = torch.empty(rows, dtype=torch.int64)
        facts = (self.losses, self.predicted, self.true_class_confidence)
        start = 0
        for piece, own in self._look():
            stop = start + len(own)
            for fact, values in zip(facts, _facts(piece, own), strict=True):
                fact[start:stop] = values
            start = stop
        broken = int(self.losses.isnan().sum())
        if broken:
            raise ModelError(
                f"the model's outputs are not finite for {broken} of {self.n} samples: its weights or "
                "its inputs hold nan or inf, so no score would mean anything"
            )

    def _look(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The first look: as `pieces`; rows are checked, and kept as long as they are few."""
        values = rows = 0
        for chunk in self._chunks():
            _check(chunk)
            if not rows:
                self.classes = chunk.shape[1]
                _check_labels(self.labels, self.classes)
            values += chunk.numel()
            if values > KEPT_VALUES:
                self._kept = None
            elif self._kept is not None:
                self._kept.append(chunk)
            start, rows = rows, rows + len(chunk)
            if rows > self.n:
                break
            yield from _pieces(chunk, self.labels[start:rows])
        if rows != self.n:
            raise ConfigError(f"{self.n} ids for {rows} rows of logits")

    def pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (m, classes) and labels (m,), some rows after another."""
        rows = 0
        for chunk in self._chunks() if self._kept is None else self._kept:
            yield from _pieces(chunk, self.labels[rows : rows + len(chunk)])
            rows += len(chunk)

    def each(
        self, feature: Callable[[Tensor, Tensor], Tensor], *, first: int | None = None
    ) -> Tensor:
        """(n, ...): a feature of each sample, of its probabilities (m, classes) and labels (m,).

        first: of so many samples alone.
        """
        found, rows = [], 0
        for logits, own in self.pieces():
            found.append(feature(_softmax(logits), own))
            rows += len(own)
            if first is not None and rows >= first:
                break
        return torch.cat(found)[:first]

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self._given)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The samples' ids; a tuple of a million texts is made where somebody asks for it."""
        given = self._given
        return given if isinstance(given, tuple) else tuple(given.tolist())

    @cached_property
    def by_id(self) -> NDArray[np.intp]:
        """Rows in the order of their ids: (n,)."""
        return np.argsort(np.asarray(self._given, dtype=np.str_), kind="stable")

    @property
    def logits(self) -> Tensor:
        """(n, classes), float32, on the CPU."""
        return torch.cat([logits for logits, _ in self.pieces()])

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, (n, classes), float64, each row summing to 1."""
        return self.each(lambda probabilities, _: probabilities)

    @property
    def mean_probabilities(self) -> Tensor:
        """Mean of the probabilities over samples: (classes,), float64, summing to 1."""
        total = torch.zeros(self.classes, dtype=torch.float64)
        for logits, _ in self.pieces():
            total += _softmax(logits).sum(dim=0)
        return total / self.n

    @property
    def correct(self) -> Tensor:
        """Whether the class predicted is the label's, (n,), bool."""
        return self.predicted == self.labels

    def of(self, ids: Collection[str]) -> PartOutputs:
        """The rows of the samples with these ids; ids that are not here are skipped."""
        wanted = torch.tensor([name in ids for name in self.ids], dtype=torch.bool)
        names = tuple(compress(self.ids, wanted.tolist()))
        found, rows = [], 0
        for logits, _ in self.pieces():
            found.append(logits[wanted[rows : rows + len(logits)]])
            rows += len(logits)
        return PartOutputs(torch.cat(found), self.labels[wanted], names)


def _check(logits: Tensor) -> None:
    if logits.ndim != 2 or logits.dtype != torch.float32 or logits.device.type != "cpu":
        raise ConfigError(
            "logits must be (n, classes), float32, on the CPU; got "
            f"{tuple(logits.shape)}, {logits.dtype}, on {logits.device}. "
            "Use `logits.float().cpu()`."
        )


def _check_labels(labels: Tensor, classes: int) -> None:
    strange = labels[(labels < 0) | (labels >= classes)]
    if len(strange):
        raise DataError(
            f"label {int(strange[0])} is not a class of this model, which has {classes} outputs"
        )


def _pieces(logits: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, AT_ONCE // max(1, logits.shape[1]))
    if 0 < len(logits) <= rows:
        yield logits, labels
        return
    yield from zip(torch.split(logits, rows), torch.split(labels, rows), strict=True)


def _softmax(logits: Tensor) -> Tensor:
    return functional.softmax(logits.double(), dim=1)


def _facts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (nan where outputs are not finite), class predicted, probability of the label."""
    if logits.shape[1] <= FEW:
        columns = functional.log_softmax(logits.t().double().contiguous(), dim=0)
        own = columns.gather(0, labels[None])[0]
    else:
        own = functional.log_softmax(logits.double(), dim=1).gather(1, labels[:, None])[:, 0]
    return -own, logits.argmax(dim=1), own.exp()


@dataclass(frozen=True, eq=False)
class Outputs:
    """A model's outputs on every part; None or no rows where there is no such part.

    Attributes:
        forget: the forget set; None for a model that nothing was asked to forget.
        retain: the retain set.
        test_kept: test samples of the classes that stay; all of the test set when no whole class
            is forgotten.
        test_forgotten: test samples of the forgotten classes; None or no rows when there are none.
        triggered: all clean test samples with a backdoor's trigger laid on, under their true labels;
            None where no trigger is known.
        rest: poisoned samples that stay in the retain set, under the label that poisoned them, without
            those that were of the target class before, as far as that is known.
        target: index of the class that the backdoor calls, or "next": each the one after its own; None
            where no poison is known of.

    Raises:
        ConfigError: for triggered or poisoned samples without a target, or a target that is no class.
    """

    forget: PartOutputs | None
    retain: PartOutputs | None
    test_kept: PartOutputs | None
    test_forgotten: PartOutputs | None = None
    triggered: PartOutputs | None = None
    rest: PartOutputs | None = None
    target: Target | None = None

    def __post_init__(self) -> None:
        for part in (self.triggered, self.rest):
            if part is None:
                continue
            if self.target == NEXT:
                continue
            if self.target is None or not 0 <= self.target < part.classes:
                raise ConfigError(
                    f"target {self.target} is none of this model's {part.classes} classes; "
                    "give the index of the class that the trigger should call"
                )
