"""How many models a bank is to have, and how long they take: told before they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

FEWEST = 2


@dataclass(frozen=True)
class BankPlan:
    """What building a bank will take.

    models: how many there are to be. finished: how many of them are there. each: seconds that the first
    one took. workers: processes.
    """

    models: int
    finished: int
    each: float
    workers: int

    @property
    def seconds(self) -> float:
        """For the models that are missing, as far as workers do not slow each other down."""
        return self.each * math.ceil((self.models - self.finished) / self.workers)


def models_within(budget: float, each: float, workers: int) -> int:
    """The largest even number of models, 2 or more, that a budget in seconds allows: the first one is
    made alone, then each worker makes one at a time. each: seconds of one.
    """
    rounds = max(0, math.floor(budget / max(each, 1e-9) - 1 + 1e-9))
    models = 1 + rounds * workers
    return max(FEWEST, models - models % 2)
