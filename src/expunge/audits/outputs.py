"""What a model said about each part of the data: observed once, then only read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from expunge.errors import ConfigError, DataError, ModelError


@dataclass(frozen=True, eq=False)
class PartOutputs:
    """A model's outputs on one part, one row per sample, in any order.

    Attributes:
        logits: (n, classes), float32, on the CPU; -inf closes a class, nan and +inf are refused.
        labels: (n,), int64, each in [0, classes).
        ids: the n samples' ids.

    Raises:
        ConfigError: if shapes, types or lengths do not fit each other.
        DataError: if a label is not one of the model's classes.
        ModelError: if the model's outputs are not finite.
    """

    logits: Tensor
    labels: Tensor
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        logits, labels = self.logits, self.labels
        if logits.ndim != 2 or logits.dtype != torch.float32 or logits.device.type != "cpu":
            raise ConfigError(
                "logits must be (n, classes), float32, on the CPU; got "
                f"{tuple(logits.shape)}, {logits.dtype}, on {logits.device}. "
                "Use `logits.float().cpu()`."
            )
        if labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
            raise ConfigError(
                f"labels must be ({len(logits)},), int64, one per row of logits; got "
                f"{tuple(labels.shape)}, {labels.dtype}"
            )
        if len(self.ids) != len(logits):
            raise ConfigError(f"{len(self.ids)} ids for {len(logits)} rows of logits")
        classes = logits.shape[1]
        strange = labels[(labels < 0) | (labels >= classes)]
        if len(strange):
            raise DataError(
                f"label {int(strange[0])} is not a class of this model, which has {classes} outputs"
            )
        broken = ~torch.isfinite(torch.logsumexp(logits.double(), dim=1))
        if broken.any():
            raise ModelError(
                f"the model's outputs are not finite for {int(broken.sum())} of {len(logits)} "
                "samples: its weights or its inputs hold nan or inf, so no score would mean "
                "anything"
            )

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.ids)

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, (n, classes), float64, each row summing to 1."""
        return functional.softmax(self.logits.double(), dim=1)

    @property
    def losses(self) -> Tensor:
        """Cross-entropy per sample in nats, (n,), float64, 0 or more."""
        return functional.cross_entropy(self.logits.double(), self.labels, reduction="none")

    @property
    def correct(self) -> Tensor:
        """Whether the largest logit (of equal ones the first) is the label's, (n,), bool."""
        return self.logits.argmax(dim=1) == self.labels

    @property
    def true_class_confidence(self) -> Tensor:
        """Probability given to the label, (n,), float64, in [0, 1]."""
        return self.probabilities.gather(1, self.labels[:, None])[:, 0]

    def of(self, ids: Collection[str]) -> PartOutputs:
        """The rows of the samples with these ids; ids that are not here are skipped."""
        rows = [row for row, name in enumerate(self.ids) if name in ids]
        return PartOutputs(
            self.logits[rows], self.labels[rows], tuple(self.ids[row] for row in rows)
        )


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
        target: index of the class that the backdoor calls; None where no poison is known of.

    Raises:
        ConfigError: for triggered or poisoned samples without a target, or a target that is no class.
    """

    forget: PartOutputs | None
    retain: PartOutputs | None
    test_kept: PartOutputs | None
    test_forgotten: PartOutputs | None = None
    triggered: PartOutputs | None = None
    rest: PartOutputs | None = None
    target: int | None = None

    def __post_init__(self) -> None:
        for part in (self.triggered, self.rest):
            if part is None:
                continue
            if self.target is None or not 0 <= self.target < part.logits.shape[1]:
                raise ConfigError(
                    f"target {self.target} is none of this model's {part.logits.shape[1]} classes; "
                    "give the index of the class that the trigger should call"
                )
