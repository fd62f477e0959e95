"""What many models say of the same samples: those of a method beside retrained ones.

Two groups of models that were made alike differ too, by chance alone, and a measure of how far apart two
laws are is seldom 0. So what a method's models have is read beside what retrained ones have: a part of
them, as many as of the method's, is measured against the same others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.scores.statistics import student_p, student_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.outputs import Outputs
    from expunge.audits.panel import Panel

    Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]

PARTS = ("forget", "retain", "test_kept")
"""Parts of the data that laws are compared on."""
LEAST = 10
"""Models of each group."""
DRAWS = 50
"""Times that models change places, and are drawn again, to see how far a number rests on them."""
SOME = 200
"""Samples that this is seen on, at most: fewer make it no smaller."""


@dataclass(frozen=True, eq=False)
class Populations:
    """Log odds of each part's samples: ours part -> (N, n), retrained part -> (k, n), float64."""

    ours: Mapping[str, NDArray[np.float64]]
    retrained: Mapping[str, NDArray[np.float64]]


def populations(panel: Panel) -> Populations:
    """Of the subject with its siblings, and of all retrained models, on the parts that there are."""
    ours = [odds(panel.outputs)]
    for number, one in enumerate(panel.siblings):
        key = ("log odds", number)
        if key not in panel.kept:
            panel.kept[key] = odds(panel.observed(one))
        ours.append(panel.kept[key])
    beside = [panel.beside(one) for one in panel.references]
    return Populations(_stacked(ours), _stacked([odds(one.outputs) for one in beside if one]))


def odds(outputs: Outputs) -> dict[str, NDArray[np.float64]]:
    """Log odds on every part that has samples: (n,) each."""
    from expunge.audits.log_odds import part_log_odds

    parts = {name: getattr(outputs, name) for name in PARTS}
    return {name: part_log_odds(part) for name, part in parts.items() if part is not None}


def _stacked(
    models: list[dict[str, NDArray[np.float64]]],
) -> dict[str, NDArray[np.float64]]:
    import numpy as np

    return {part: np.stack([one[part] for one in models]) for part in models[0]} if models else {}


@dataclass(frozen=True)
class OverFloor:
    """A measure of a method's models, less the floor, each of `models` against as many retrained ones.

    excess = ours - floor, with the 95 % interval from low to high. p: the chance of one so far from 0
    between equal laws, in [0, 1].
    """

    ours: float
    floor: float
    low: float
    high: float
    p: float
    models: int

    @property
    def excess(self) -> float:
        """0 in the mean, where the method's law is that of retraining."""
        return self.ours - self.floor


def beside_floor(
    ours: NDArray[np.float64],
    retrained: NDArray[np.float64],
    measure: Measure,
    generator: np.random.Generator,
) -> OverFloor | None:
    """A measure between models and retrained ones, and between retrained ones: all of the same number.

    The retrained models are dealt into two halves. One is what the others are measured against: as many
    of ours, and the other half. Under equal laws both numbers have the same law, also where models of
    the two change places: how far the difference strays then tells p, by Student's t. The interval adds
    what models drawn again, with replacement, stray more than they do among those that changed places:
    of laws that differ a number is less sure.

    ours: (N, n). retrained: (k, n). measure: of (h, n) and (h, n), in this order.

    Returns None where there are fewer than LEAST of a group.
    """
    import numpy as np

    h = min(len(ours), len(retrained) // 2)
    if h < LEAST:
        return None
    mine = ours[generator.permutation(len(ours))[:h]]
    dealt = retrained[generator.permutation(len(retrained))]
    one, other = dealt[:h], dealt[h : 2 * h]
    whole = measure(mine, one), measure(other, one)
    columns = generator.permutation(ours.shape[1])[:SOME]
    some = np.stack([mine[:, columns], other[:, columns], one[:, columns]])
    exchanged, again, alike = [], [], []
    for _ in range(DRAWS):
        places = generator.permutation(2 * h)
        mixed = np.concatenate([some[:2].reshape(2 * h, -1)[places], some[2]]).reshape(some.shape)
        drawn = generator.integers(0, h, (3, h, 1))
        exchanged.append(_apart(mixed, measure))
        again.append(_apart(np.take_along_axis(some, drawn, axis=1), measure))
        alike.append(_apart(np.take_along_axis(mixed, drawn, axis=1), measure) - exchanged[-1])
    chance = math.sqrt(np.square(exchanged).mean())
    error = math.sqrt(chance**2 + max(0.0, float(np.var(again) - np.square(alike).mean())))
    value, half = whole[0] - whole[1], student_quantile(0.975, DRAWS - 1) * error
    p = student_p(value / chance, DRAWS - 1) if chance else float(value == 0)
    return OverFloor(*whole, value - half, value + half, p, h)


def _apart(groups: NDArray[np.float64], measure: Measure) -> float:
    """groups: ours, other and one, (3, h, n)."""
    mine, other, one = groups
    return measure(mine, one) - measure(other, one)
