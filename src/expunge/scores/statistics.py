"""Intervals for proportions and for means over seeds, and p values of paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SEEDS = 10_000
"""More than anybody would run: `seeds_needed` looks no farther."""


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, as fractions in [0, 1].

    Unlike the interval of the normal approximation it stays inside [0, 1] and has a width when
    all or none succeed. Without samples it is (0, 1): nothing is known. Wilson (1927), JASA 22.

    Raises:
        ConfigError: unless 0 <= successes <= n and 0 < confidence < 1.
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ConfigError(f"successes must lie in [0, n]; got {successes} of n = {n}")
    if n == 0:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exact here; the formula leaves a rounding error beside them.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1 in the denominator; nan for one value).

    Raises:
        ConfigError: if there are no values.
    """
    if len(values) == 0:
        raise ConfigError("a mean needs at least one value; got none")
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else math.nan


def student_quantile(level: float, freedom: float) -> float:
    """Student's t below which `level` of it lies; with freedom infinite the normal's."""
    if math.isinf(freedom):
        return statistics.NormalDist().inv_cdf(level)
    from scipy import special  # scipy.stats has the same function, and takes a second to import

    return float(special.stdtrit(freedom, level))


def student_p(t: float, freedom: float) -> float:
    """Two-sided p of a value of Student's t, in [0, 1]; with freedom infinite of the normal's."""
    if math.isinf(freedom):
        return math.erfc(abs(t) / math.sqrt(2))
    from scipy import special

    return float(2 * special.stdtr(freedom, -abs(t)))


def student_interval(
    values: Sequence[float], confidence: float = 0.95, least: float = 0.0
) -> tuple[float, float, float]:
    """Mean and Student-t interval of it: (mean, low, high); the ends are nan for one value.

    least: as in `p_values`.

    Raises:
        ConfigError: if there are no values, or unless 0 < confidence < 1.
    """
    _check_confidence(confidence)
    mean, sd = mean_sd(values)
    n = len(values)
    if n == 1:
        return mean, math.nan, math.nan
    half = student_quantile((1 + confidence) / 2, n - 1) * max(sd, least) / math.sqrt(n)
    return mean, mean - half, mean + half


def left_out_band(retrained: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest difference of one retrained model from the mean of all others.

    What lies between them is no farther from retraining than retrained models are from each other; one
    more of k lies beyond them at most about 2 times in k + 1, by chance.
    Raises ConfigError for fewer than three values.
    """
    k = len(retrained)
    if k < 3:
        raise ConfigError(f"a band takes three retrained models or more; got {k}")
    mean, _ = mean_sd(retrained)
    apart = [(value - mean) * k / (k - 1) for value in retrained]
    return min(apart), max(apart)


def paired_interval(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of the differences a - b and its Student-t interval, the seeds pairing the values.

    An interval that holds 0 means "undecided", not "equal".

    Raises:
        ConfigError: if the two differ in length or are empty, or unless 0 < confidence < 1.
    """
    if len(a) != len(b):
        raise ConfigError(f"paired values must come in equal numbers; got {len(a)} and {len(b)}")
    return student_interval([x - y for x, y in zip(a, b, strict=True)], confidence)


def p_values(differences: NDArray[np.float64], least: float = 0.0) -> NDArray[np.float64]:
    """Two-sided p of Student's t that the mean is 0, of each row (rows, n); nan where a row holds nan.

    least: standard deviation that counts where the values' own is smaller. Shares of few samples go in
    steps, so five equal differences do not say that there is no spread: give one step. Without any the
    difference is compared with 0 directly: p is 0, or 1 where it is 0.
    Raises ConfigError for fewer than two values a row.
    """
    import numpy as np
    from scipy import special

    mean, error, n = _mean_and_error(differences, least)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(mean) / error
    found: NDArray[np.float64] = 2 * special.stdtr(n - 1, -t)
    exact = np.where(mean == 0, 1.0, 0.0)
    return np.where(error == 0, exact, found)


def equivalence_p_values(
    differences: NDArray[np.float64], margin: float, least: float = 0.0
) -> NDArray[np.float64]:
    """The p of two one-sided t tests that |mean| is `margin` or more, of each row (rows, n).

    Small: the mean lies within the margin. Schuirmann (1987), J. Pharmacokinet. Biopharm. 15. Without
    any spread the mean is compared with the margin directly. least: as in `p_values`.
    Raises ConfigError for fewer than two values a row, or unless margin > 0.
    """
    import numpy as np
    from scipy import special

    if not margin > 0:
        raise ConfigError(f"a margin of equivalence lies above 0; got {margin}")
    mean, error, n = _mean_and_error(differences, least)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (margin - np.abs(mean)) / error
    found: NDArray[np.float64] = special.stdtr(n - 1, -t)
    exact = np.where(np.abs(mean) < margin, 0.0, 1.0)
    return np.where(error == 0, exact, found)


def _mean_and_error(
    differences: NDArray[np.float64], least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean of each row and its standard error; rounding errors of equal values count as none."""
    import numpy as np

    n = differences.shape[-1]
    if n < 2:
        raise ConfigError(f"a test needs two values or more; got {n}")
    mean = differences.mean(axis=-1)
    sd = differences.std(axis=-1, ddof=1)
    sd = np.where(sd <= 1e-12 * np.abs(differences).max(axis=-1), 0.0, sd)
    return mean, np.maximum(sd, least) / math.sqrt(n), n


def seeds_needed(
    sd: float, difference: float, *, alpha: float = 0.05, chance: float = 0.8
) -> int | None:
    """Seeds with which a paired two-sided t test finds a mean difference with this chance.

    sd: standard deviation of the paired differences, in the unit of `difference`. By the noncentral t
    distribution. None: more than 10,000.

    Raises:
        ConfigError: unless sd >= 0 and the difference is not 0.
    """
    if not sd >= 0 or not difference:
        raise ConfigError(
            "a power needs a spread of 0 or more and a difference other than 0; got "
            f"{sd} and {difference}"
        )
    if sd == 0:
        return 2

    def found(n: int) -> bool:
        from scipy import special

        critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
        centre = abs(difference) / sd * math.sqrt(n)
        # the other tail is nothing beside this one; beyond the function's reach the chance is 1
        below = float(special.nctdtr(n - 1, centre, critical))
        return math.isnan(below) or 1 - below >= chance

    low, high = 1, 2
    while not found(high):
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1; got {confidence}")
