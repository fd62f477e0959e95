"""How far a call of `fit` has come: counted in epochs, or in steps whatever the epochs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from expunge.errors import ConfigError


@dataclass(frozen=True)
class Pace:
    """The length of a training.

    epochs: how many, where they count. steps: how many in all, where these count; epochs then go on
    until they are made, and the last one may be cut short. first_epoch: where epochs begin.
    """

    epochs: int
    steps: int | None = None
    first_epoch: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps = {self.steps}: train for 1 step or more")
        if self.steps is not None and self.first_epoch:
            raise ConfigError(
                f"steps = {self.steps} and first_epoch = {self.first_epoch}: a training that is "
                "counted in steps cannot start in a later epoch; give one of the two"
            )

    def rounds(self) -> Iterable[int]:
        """The numbers of the epochs; without end where steps count."""
        if self.steps is not None:
            return itertools.count()
        return range(self.first_epoch, self.epochs)

    def total(self, per_epoch: int | None) -> int | None:
        """Steps of all epochs from 0, or None where nobody knows how many steps one has."""
        if self.steps is not None:
            return self.steps
        return self.epochs * per_epoch if per_epoch else None

    def done(self, epoch: int, step: int, per_epoch: int | None, before: int) -> float:
        """Progress in [0, 1) ahead of a step of an epoch, `before` steps being made in all."""
        if self.steps is not None:
            return before / self.steps
        return (epoch + (step / per_epoch if per_epoch else 0.0)) / self.epochs

    def epoch(self, epoch: int) -> str:
        """`epoch 2 of 10`, for progress; without the end where steps count."""
        return f"epoch {epoch + 1}" + ("" if self.steps is not None else f" of {self.epochs}")

    def place(self, epoch: int, step: int, before: int) -> str:
        """Where a step is, for errors: step `step` of an epoch, `before` steps being made in all."""
        if self.steps is not None:
            return f"step {before + 1} of {self.steps}"
        return f"{self.epoch(epoch)}, step {step + 1}"
