"""When a study that goes on until it is decided is looked at, and what of the error each look may use.

After a share t of the largest number of seeds, alpha log(1 + (e - 1) t) of it may have been used (Lan &
DeMets, Biometrika 70, 1983, their function of Pocock's type, which leaves enough for early looks to
decide clear cases). A look's own share is what was added since the look before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from expunge.errors import ConfigError

FIRST_LOOK = 5
"""Seeds of the first look: with fewer, a spread over seeds says next to nothing."""
GROWTH = 1.4
"""From one look to the next."""
MAX_SEEDS, MOST_SEEDS = 20, 1_000


@dataclass(frozen=True)
class Plan:
    """When a study is looked at, fixed before the first look.

    max_seeds: of the last look, 5 to 1,000. alpha: the chance of any false finding in any look.
    """

    max_seeds: int = MAX_SEEDS
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if self.max_seeds < FIRST_LOOK:
            raise ConfigError(
                f"max_seeds = {self.max_seeds}: the first look is at {FIRST_LOOK} seeds, for fewer say "
                f"next to nothing of a spread; give {FIRST_LOOK} or more"
            )
        if self.max_seeds > MOST_SEEDS:
            raise ConfigError(
                f"max_seeds = {self.max_seeds}: no study has so many; give {MOST_SEEDS:,} or fewer"
            )

    @property
    def looks(self) -> tuple[int, ...]:
        """Seeds at each look: 5, 7, 10, 14, ... and the last."""
        found, size = [], float(FIRST_LOOK)
        while size <= self.max_seeds / 1.2:  # no look just before the last
            found.append(round(size))
            size *= GROWTH
        return (*found, self.max_seeds)

    def spent(self, seeds: int) -> float:
        """The part of alpha that may be used up to a look."""
        return self.alpha * math.log1p((math.e - 1) * seeds / self.max_seeds)

    def levels(self) -> dict[int, float]:
        """Seeds of each look -> the part of alpha that is its own."""
        before = 0.0
        found = {}
        for look in self.looks:
            found[look] = self.spent(look) - before
            before = self.spent(look)
        return found
