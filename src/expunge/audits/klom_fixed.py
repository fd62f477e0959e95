"""KLoM that cannot be won by models that all say the same, and that is 0 where laws are equal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from expunge.audits.base import Audit, Need
from expunge.audits.klom import LEAST_MODELS, few_models, klom, summary, tail
from expunge.audits.populations import OverFloor, beside_floor, populations
from expunge.names.seeds import numpy_generator
from expunge.scores.finding import ALPHA, NOT_MEASURABLE, OUTSIDE, Finding, settled
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel

CONSTANT = 0.05
"""Share of samples of which a method's models may all say the same, where retrained ones do not."""


class KlomFixed(Audit):
    """KLoM with its last bin closed, less what retrained models have among themselves.

    The retrained models are dealt into two halves; the divergence of the method's models from one half,
    less that of the other half from it, both of equally many models: 0 where the laws are equal. The
    value is the difference of the 95th percentiles over the forget set, in nats, with an interval that
    comes of models that change places or are drawn again. Models that say one thing alike, where
    retrained ones vary, are no law: they are outside whatever the number.
    """

    name: ClassVar[str] = "klom_fixed"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["klom_fixed"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "retrained", "siblings"})

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score; the detail has the floor, and mean, median and tail of every part."""
        if not panel.split.forget:
            return
        both = populations(panel)
        ours, retrained = both.ours["forget"], both.retrained["forget"]
        found = beside_floor(
            ours, retrained, _tails, numpy_generator("audit", self.name, panel.seed)
        )
        each = {
            part: klom(mine, both.retrained[part], closed=True) for part, mine in both.ours.items()
        }
        detail: dict[str, Any] = {
            "parts": {part: summary(kl) for part, kl in each.items()},
            "models": (len(ours), len(retrained)),
            "constant": constant_share(ours, retrained),
        }
        if found is not None:
            detail |= {"floor": found.floor, "of_models": found.models}
        yield Score(
            self.name,
            math.nan if found is None else found.excess,
            ours.shape[1],
            None if found is None else found.low,
            None if found is None else found.high,
            "nats",
            "low",
            detail,
            per_sample=dict(zip(panel.forget().ids, each["forget"].tolist(), strict=True)),
            finding=judged(ours, retrained, found, panel.margins.of(self.name)),
        )


def _tails(ours: NDArray[np.float64], retrained: NDArray[np.float64]) -> float:
    return tail(klom(ours, retrained, closed=True))


def constant_share(ours: NDArray[np.float64], retrained: NDArray[np.float64]) -> float:
    """Share of the samples of which all of ours say the same and retrained models do not, in [0, 1].

    Of few models that says nothing: a single one says the same of everything.
    """
    import numpy as np

    spread = np.ptp(ours, axis=0), np.ptp(retrained, axis=0)
    same = spread[0] <= 1e-6 * np.maximum(spread[1], 1e-9)
    return float((same & (spread[1] > 1e-9)).mean())


def judged(
    ours: NDArray[np.float64],
    retrained: NDArray[np.float64],
    found: OverFloor | None,
    margin: float | None,
) -> Finding:
    """What two groups of models, (N, n) and (k, n), tell of the method."""
    few = few_models(len(ours), len(retrained), LEAST_MODELS)
    if few is not None:
        return few
    share = constant_share(ours, retrained)
    if share > CONSTANT:
        return Finding(
            OUTSIDE,
            f"its {len(ours)} models say one thing alike of {100 * share:.0f} % of the samples, of "
            "which retrained ones do not",
            0.0,
        )
    return against_margin(found, margin, "nats")


def against_margin(found: OverFloor | None, margin: float | None, unit: str) -> Finding:
    """An excess over the floor beside its margin: shown by its interval on one side, or undecided."""
    if found is None or margin is None or not math.isfinite(found.excess):
        return Finding(NOT_MEASURABLE, "there is no floor to compare with, or no margin")
    told = (
        f"{found.excess:+.3g} {unit} beyond the floor of {found.floor:.3g}, interval {found.low:.3g} "
        f"to {found.high:.3g}, margin {margin:g}"
    )
    nearest = min(abs(found.low), abs(found.high)) if found.low * found.high > 0 else 0.0
    if nearest > margin and found.p < ALPHA:
        return Finding(OUTSIDE, told, found.p)
    upper = max(abs(found.low), abs(found.high))
    return settled(told, found.p, margin, upper=upper, least=(found.high - found.low) / 2)
