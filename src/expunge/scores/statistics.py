"""Intervals for proportions and for means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from expunge.errors import ConfigError


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


def student_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean and Student-t interval of it: (mean, low, high); the ends are nan for one value.

    Raises:
        ConfigError: if there are no values, or unless 0 < confidence < 1.
    """
    _check_confidence(confidence)
    mean, sd = mean_sd(values)
    n = len(values)
    if n == 1:
        return mean, math.nan, math.nan
    from scipy import special  # scipy.stats has the same function, and takes a second to import

    quantile = float(special.stdtrit(n - 1, (1 + confidence) / 2))
    half = quantile * sd / math.sqrt(n)
    return mean, mean - half, mean + half


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


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1; got {confidence}")
