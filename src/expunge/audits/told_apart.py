"""How well a number tells two groups of samples apart: the area under the ROC, and its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from expunge.scores.finding import Z95

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def auc(ours: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, float, float]:
    """100 P(ours > others), ties half, and its 95 % interval: (value, low, high), each in [0, 100].

    ours, others: (n,) and (m,), finite, at least one each. The interval is that of Hanley & McNeil
    (Radiology 143, 1982), whose width is never less than what half a sample of the smaller group makes.
    """
    import numpy as np

    n, m = len(ours), len(others)
    ordered = np.sort(others)
    below = np.searchsorted(ordered, ours, side="left")
    not_above = np.searchsorted(ordered, ours, side="right")
    a = float((below + not_above).mean()) / (2 * m)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (n - 1) * (q1 - a * a) + (m - 1) * (q2 - a * a)) / (n * m)
    half = Z95 * max(math.sqrt(max(variance, 0.0)), 0.5 / min(n, m))
    return 100 * a, 100 * max(a - half, 0.0), 100 * min(a + half, 1.0)
