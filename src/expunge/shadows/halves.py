"""Which half of the learned samples each model of a bank learns from.

Models 2 p and 2 p + 1 have complementary halves, so exactly half of them leave a sample out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.names.seeds import numpy_generator


def drawn_half(number: int, model: int, seed: int = 0) -> NDArray[np.bool_]:
    """(number,): whether a model learns from each sample, in the order of their ids; of an odd number
    the even model has one more. model: its number in the bank, from 0. seed: of the bank.
    """
    drawn = numpy_generator("bank", seed, model // 2).permutation(number)
    chosen = np.zeros(number, dtype=np.bool_)
    chosen[drawn[: (number + 1) // 2]] = True
    return chosen if model % 2 == 0 else ~chosen


def by_id(ids: Sequence[str]) -> NDArray[np.intp]:
    """(n,): the order that sorts ids."""
    return np.argsort(np.asarray(ids, dtype=np.str_), kind="stable")
