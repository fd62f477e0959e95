"""How many models a bank is to have, and how long they take: told before they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from expunge.errors import ConfigError

FEWEST, MOST = 2, 10_000
STACK = 8
"""Models at once: more gain little, and all their activations are in memory together."""
BLOCK = "block-"
"""Begins the name of the lock of models that are trained at once, which has the number of the first."""


@dataclass(frozen=True)
class BankPlan:
    """What building a bank will take.

    models: how many there are to be. finished: how many of them are there. each: seconds that one takes.
    workers: processes. at_once: models that each of these trains together.
    """

    models: int
    finished: int
    each: float
    workers: int
    at_once: int = 1

    @property
    def seconds(self) -> float:
        """For the models that are missing, as far as workers do not slow each other down."""
        blocks = math.ceil((self.models - self.finished) / self.at_once)
        return self.each * self.at_once * math.ceil(blocks / self.workers)


def models_within(budget: float, each: float, workers: int, at_once: int = 1) -> int:
    """The largest even number of models, 2 or more, that a budget in seconds allows: the first ones are
    made alone, then each worker makes so many at a time. each: seconds of one.
    """
    most = budget / max(each, 1e-9) + 1e-9
    rounds = math.floor(most / at_once)
    models = at_once * (1 + (rounds - 1) * workers) if rounds else math.floor(most)
    return max(FEWEST, models - models % 2)


def check_number(models: int) -> None:
    """Raise ConfigError for a number of models that no bank has."""
    if not FEWEST <= models <= MOST or models % 2:
        raise ConfigError(
            f"models = {models}: they come in pairs; give an even number, 2 or more, at most {MOST:,}"
        )
