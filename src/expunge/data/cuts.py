"""How an order of samples is cut into batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SMALLEST_LAST = 8
"""A last batch under this joins the batch before it: BatchNorm cannot train on one sample, and no
process of up to this many is left without a share. The same for any number of processes."""
Cut = Literal["filled", "struck", "shifted"]
"""How the shuffled retain set is cut into batches. filled: each as large as asked. struck: as retain and
forget set together would be, with the forget set left out of each batch, so that of a training of both
nothing changes but that. shifted: the first half as large, and so all others elsewhere."""
Cuts = Sequence[tuple[int, int]]
"""Start and end of each batch in an order."""


def cuts_of(count: int, size: int, first: int = 0) -> list[tuple[int, int]]:
    """Start and end of each batch; a last one under SMALLEST_LAST joins the one before it.

    first: samples of a shorter batch before all others; 0: none.
    """
    if 0 < first < count:
        rest = cuts_of(count - first, size)
        return [(0, first), *((first + start, first + stop) for start, stop in rest)]
    steps = math.ceil(count / size)
    if steps > 1 and count - (steps - 1) * size < min(SMALLEST_LAST, size):
        steps -= 1
    return [
        (step * size, count if step == steps - 1 else (step + 1) * size) for step in range(steps)
    ]


def struck_cuts(stays: NDArray[np.bool_], size: int) -> list[tuple[int, int]]:
    """Start and end of each batch among those that stay, cut where all of them would be.

    stays: in the order of all. A batch of which fewer than two are left, for BatchNorm cannot train on
    one, joins the one before it; the first joins the next.
    """
    count = int(stays.sum())
    cuts: list[tuple[int, int]] = []
    start = 0
    for _, place in cuts_of(len(stays), size):
        stop = int(stays[:place].sum())
        if stop - start >= min(2, size):
            cuts.append((start, stop))
        elif cuts:
            cuts[-1] = (cuts[-1][0], stop)
        else:
            continue
        start = stop
    return cuts or [(0, count)][:count]
