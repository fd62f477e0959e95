"""Counts beyond a threshold that samples of the other kind have set, and what chance makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion, as fractions in [0, 1]; (0, 1) without samples.

    It holds the truth at least as often as it says, however small that is. Clopper & Pearson (1934),
    Biometrika 26.
    """
    from scipy import special

    tail = (1 - confidence) / 2
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    if successes == n:
        return low, 1.0
    return low, float(special.betaincinv(successes + 1, n - successes, 1 - tail))


def threshold(null: NDArray[np.float64], share: float) -> tuple[float, int]:
    """What so large a share of the null lies above, or the next smaller one, and the place of that.

    null: (m,), finite. share: below 1.

    Returns:
        The place-th largest of the null: place - 1 of them lie above it where no two are equal.
    """
    import numpy as np

    place = int(np.floor(share * len(null) + 1e-9)) + 1
    return float(np.partition(null, len(null) - place)[len(null) - place]), place


def chance_of_count(n: int, place: int, m: int) -> NDArray[np.float64]:
    """Probabilities that 0 ... n of n samples lie above the place-th largest of m like them: (n + 1,).

    The uncertainty of the threshold itself is in it: the share that lies above has the law
    Beta(place, m - place + 1), whatever law the values follow, so the count is beta-binomial.
    """
    import numpy as np
    from scipy import special

    k = np.arange(n + 1)
    a, b = place, m - place + 1
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    found = np.exp(ways + special.betaln(k + a, n - k + b) - special.betaln(a, b))
    return np.asarray(found, dtype=np.float64)
