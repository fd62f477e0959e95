"""What an audit finds of one score, read against retrained models: a word, and the reason.

The margin is a number of the score's unit that was fixed before anything was measured. A difference
tells against a model only where it lies beyond the margin and beyond what chance does between retrained
models; a model is found within only where so many are known that it could not well be larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from expunge.scores.statistics import left_out_band, mean_sd, student_p, student_quantile
from expunge.scores.words import NOT_MEASURABLE, OUTSIDE, UNDECIDED, WITHIN, AuditWord

__all__ = [
    "ALPHA",
    "ENOUGH",
    "NOT_MEASURABLE",
    "OUTSIDE",
    "UNDECIDED",
    "WITHIN",
    "Z95",
    "Finding",
    "compared",
    "settled",
]

ALPHA = 0.05
"""The chance that one audit calls a true retraining outside, at most."""
Z95 = 1.96
"""Half the width of a 95 % interval in standard errors."""
ENOUGH = 5
"""Retrained models from which on a model can be found within."""
SPREAD = 3
"""Retrained models from which on their own spread counts; of fewer the margin stands in for it."""
NO_LIMITS = (-math.inf, math.inf)


@dataclass(frozen=True)
class Finding:
    """word: what was found. why: in a sentence without its full stop. p: the chance that a true
    retraining lies as far away, in [0, 1]; None where nobody knows it. decidable: False where so few
    samples, or so wide a spread of retraining, could not have shown any value to be within. interval:
    where one more retrained model lies in 95 of 100 cases, (low, high). band: `left_out_band` of the
    retrained models. Both in the score's unit; None where their spread was not what it was found by.
    """

    word: AuditWord
    why: str
    p: float | None = None
    decidable: bool = True
    interval: tuple[float, float] | None = None
    band: tuple[float, float] | None = None

    @property
    def beyond(self) -> bool:
        """Whether the model lies beyond the interval, on a side that is farther from retraining."""
        return self.interval is not None and self.p is not None and self.p < ALPHA


def compared(
    value: float,
    references: Sequence[float],
    margin: float,
    *,
    error: float = 0.0,
    step: float = 0.0,
    tests: int = 1,
    unit: str = "points",
    limits: tuple[float, float] = NO_LIMITS,
) -> Finding:
    """A value beside those of k retrained models.

    margin: the largest difference that does not matter. error: the standard error of one value that the
    number of samples alone makes; step: what one sample moves it by; both in the same unit, 0 or more.
    tests: how many such findings there are, for a joint chance of ALPHA that a true retraining is
    outside in any (Bonferroni). limits: the smallest and the largest value that there can be.

    Another retraining differs from the mean of k by a spread of sd sqrt(1 + 1 / k), where sd is their
    standard deviation, which counts as no less than `step`; with Student's t of k - 1 degrees it gives a
    prediction interval. Of fewer than ENOUGH nobody knows the sd: no less than `error` counts then. Of
    fewer than three there is none: the margin stands in for it, for what retraining does by itself is
    what a margin lets pass, and the quantile is the normal's.
    """
    known = [one for one in references if math.isfinite(one)]
    if not math.isfinite(value) or not known:
        return Finding(NOT_MEASURABLE, "there is no value of both models to compare")
    mean, sd = mean_sd(known)
    k = len(known)
    freedom = k - 1 if k >= SPREAD else math.inf
    sd = max(sd if k >= SPREAD else margin, step, error if k < ENOUGH else 0.0)
    spread = sd * math.sqrt(1 + 1 / k)
    apart = round(abs(value - mean), 9)
    chance = student_quantile(1 - ALPHA / (2 * tests), freedom) * spread
    p = student_p(apart / spread, freedom) if spread else float(apart == 0)
    far = f"{apart:.3g} {unit}" if unit == "points" else f"{apart:.3g}"
    side = "over" if value > mean else "under" if apart else "from"
    told = f"{far} {side} retraining, margin {margin:g}, chance up to {chance:.3g}"
    reach = student_quantile(1 - ALPHA, freedom) * spread
    if apart > margin and apart > chance:
        finding = Finding(OUTSIDE, told, p)
    elif k < ENOUGH:
        finding = Finding(UNDECIDED, told, p)
    else:
        finding = settled(told, p, margin, upper=apart + reach, least=reach)
    if k < SPREAD:
        return finding
    half = student_quantile(1 - ALPHA / 2, freedom) * spread
    interval = max(mean - half, limits[0]), min(mean + half, limits[1])
    low, high = (round(end, 9) for end in left_out_band(known))
    place = "inside" if low <= math.copysign(apart, value - mean) <= high else "beyond"
    why = f"{told}, {place} the {low:+z.3g} to {high:+z.3g} among retrained ones"
    return replace(finding, why=why, interval=interval, band=(low, high))


def settled(
    told: str, p: float | None, margin: float, *, upper: float, least: float, able: bool = True
) -> Finding:
    """What is found of a value that is not outside: within or undecided.

    upper: how far from retraining it may lie at most, with a chance of ALPHA to be wrong; least: the
    same of the best value that there could have been, all below in the unit of the margin. able: whether
    so few could be found within at all.
    """
    if able and upper < margin:
        return Finding(WITHIN, told, p)
    return Finding(UNDECIDED, told, p, decidable=able and least < margin)
