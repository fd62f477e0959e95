"""Whether models that forgot equal retrained ones: two one-sided tests, a margin fixed beforehand.

That a test finds no difference says nothing: with three runs a side it finds none in most methods that
are two standard deviations away. Here equality is what has to be shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.errors import ConfigError
from expunge.names.seeds import numpy_generator
from expunge.scores.finding import ALPHA, ENOUGH, Finding
from expunge.scores.statistics import mean_sd, student_quantile
from expunge.scores.words import NOT_MEASURABLE, OUTSIDE, UNDECIDED, WITHIN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 4_000
"""Times that a true retraining is drawn: its rate of passing is then known to a point or so."""


def equivalent(
    ours: Sequence[float],
    retrained: Sequence[float],
    margin: float,
    *,
    step: float = 0.0,
    unit: str = "points",
    alpha: float = ALPHA,
) -> Finding:
    """What several models of one method are, beside several retrained ones.

    Two one-sided tests of Welch's t at `alpha` (Schuirmann 1987; Welch 1947): within where the mean
    difference is shown to be smaller than the margin, outside where it is shown to be larger, else
    undecided, as it is with fewer than ENOUGH on a side. Where neither side varies the difference is
    compared with the margin directly. p is that of the test for within.

    margin: fixed before any model was made, above 0; never less than `step`, what one sample makes.
    Raises ConfigError for a margin that is not above 0.
    """
    if not (margin > 0 and math.isfinite(margin)):
        raise ConfigError(f"a margin of equivalence lies above 0; got {margin}")
    import numpy as np

    margin = max(margin, step)
    few = min(len(ours), len(retrained))
    if not few or not all(map(math.isfinite, (*ours, *retrained))):
        return Finding(NOT_MEASURABLE, "a side has no value, or one that is not finite")
    apart = mean_sd(ours)[0] - mean_sd(retrained)[0]
    told = f"{apart:+.3g} {unit} from retraining, margin {margin:g}"
    if few < ENOUGH:
        return Finding(UNDECIDED, f"{told}; {few} on a side, and a decision takes {ENOUGH}")
    error, freedom = _welch(np.asarray(ours, float), np.asarray(retrained, float))
    if error == 0:
        return Finding(WITHIN if abs(apart) < margin else OUTSIDE, f"{told}; neither side varies")
    _, low, high = difference(ours, retrained, alpha)
    told = f"{told}, {100 - 200 * alpha:g} % interval {low:.3g} to {high:.3g}"
    p = float(_p_within(np.asarray(abs(apart)), error, freedom, margin))
    if p <= alpha:
        return Finding(WITHIN, told, p)
    return Finding(OUTSIDE if low > margin or high < -margin else UNDECIDED, told, p)


def difference(
    ours: Sequence[float], retrained: Sequence[float], alpha: float = ALPHA
) -> tuple[float, float, float]:
    """How far the means of two sides lie apart, ours less theirs, and the ends of the interval that
    holds it with 1 - 2 `alpha` (Welch), by which `equivalent` decides. Two or more values a side.
    """
    import numpy as np

    error, freedom = _welch(np.asarray(ours, float), np.asarray(retrained, float))
    apart = mean_sd(ours)[0] - mean_sd(retrained)[0]
    half = student_quantile(1 - alpha, float(freedom)) * float(error) if error else 0.0
    return apart, apart - half, apart + half


@dataclass(frozen=True)
class PassRate:
    """How often a true retraining passes, of so many models a side: all required scores, and each.

    joint: in [0, 1]. single: score -> its own rate. n: models on each side.
    """

    joint: float
    single: Mapping[str, float]
    n: int

    def __str__(self) -> str:
        scores = f"{len(self.single)} score{'' if len(self.single) == 1 else 's'}"
        return (
            f"with {self.n} models a side a true retraining passes all of {scores} in "
            f"{100 * self.joint:.0f} % of such tests"
        )


def pass_rate(
    retrained: Mapping[str, Sequence[float]],
    margins: Mapping[str, float],
    n: int,
    alpha: float = ALPHA,
) -> PassRate:
    """The rate at which a true retraining passes `equivalent` by every score at once, simulated.

    Both sides are drawn from the normal law that has the mean, the spreads and the correlations of the
    retrained models, from a seed that is always the same.

    retrained: score -> the values of k models, 2 or more, in the same order for every score. margins:
    score -> margin, above 0. n: models on each side.
    Raises ConfigError where a score has another number of values, or no margin.
    """
    import numpy as np

    names = list(retrained)
    counts = {len(values) for values in retrained.values()}
    lacking = [name for name in names if not margins.get(name, 0) > 0]
    if len(counts) != 1 or min(counts) < 2 or lacking:
        raise ConfigError(
            "a rate of passing takes for every score a margin and the values of the same two or more "
            f"retrained models; got {counts or 'none'} values, and no margin of {lacking or 'none'}"
        )
    if n < ENOUGH:
        return PassRate(0.0, dict.fromkeys(names, 0.0), n)
    law = np.array([retrained[name] for name in names], dtype=np.float64)
    apart = law - law.mean(axis=1, keepdims=True)
    axes, spreads, _ = np.linalg.svd(apart / math.sqrt(law.shape[1] - 1), full_matrices=False)
    normal = numpy_generator("pass rate", n, *names).normal(size=(2, DRAWS, len(spreads), n))
    ours, others = np.einsum("sa,tdan->tsdn", axes * spreads, normal)
    limits = np.array([margins[name] for name in names])[:, None]
    passed = passes(ours, others, limits, alpha)
    single = dict(zip(names, passed.mean(axis=1).tolist(), strict=True))
    return PassRate(float(passed.all(axis=0).mean()), single, n)


def passes(
    ours: NDArray[np.float64],
    retrained: NDArray[np.float64],
    margin: NDArray[np.float64] | float,
    alpha: float = ALPHA,
) -> NDArray[np.bool_]:
    """Whether `equivalent` finds ours within, of many comparisons at once.

    ours: (..., n). retrained: (..., m). margin: (...), above 0.
    """
    import numpy as np

    apart = np.abs(ours.mean(axis=-1) - retrained.mean(axis=-1))
    within = _p_within(apart, *_welch(ours, retrained), margin) <= alpha
    enough = min(ours.shape[-1], retrained.shape[-1]) >= ENOUGH
    return np.asarray(within & enough, dtype=np.bool_)


def _p_within(
    apart: NDArray[np.float64],
    error: NDArray[np.float64],
    freedom: NDArray[np.float64],
    margin: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    """P of the larger of two one-sided tests, (...): small, where a difference is within the margin.

    apart: sizes of the differences, 0 or more. Without any error it is 0 or 1.
    """
    import numpy as np
    from scipy import special

    with np.errstate(divide="ignore", invalid="ignore"):
        p = special.stdtr(freedom, (apart - margin) / error)
    return np.asarray(np.where(error == 0, apart >= margin, p), dtype=np.float64)


def _welch(
    ours: NDArray[np.float64], retrained: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard error of the difference of means, and Satterthwaite's degrees of freedom: (...) each.

    Rounding errors of equal values are no spread.
    """
    import numpy as np

    parts = []
    for side in (ours, retrained):
        variance = side.var(axis=-1, ddof=1)
        equal = variance <= (1e-12 * np.abs(side).max(axis=-1)) ** 2
        parts.append((np.where(equal, 0.0, variance) / side.shape[-1], side.shape[-1] - 1))
    (a, free_a), (b, free_b) = parts
    with np.errstate(invalid="ignore"):
        freedom = (a + b) ** 2 / (a**2 / free_a + b**2 / free_b)
    return np.sqrt(a + b), freedom
