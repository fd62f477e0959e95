"""Which half of the learned samples each model of a bank learns from.

Models 2 p and 2 p + 1 have complementary halves, so exactly half of them leave a sample out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.names.seeds import numpy_generator


def learns(ids: Sequence[str], model: int, seed: int = 0) -> NDArray[np.bool_]:
    """(n,): whether a model learns from each sample; of an odd number the even model has one more.

    ids: of what the original learned from, each once, in any order: a sample's half does not depend on
    it. model: its number in the bank, from 0. seed: of the bank.
    """
    order = np.argsort(np.asarray(ids, dtype=np.str_), kind="stable")
    drawn = numpy_generator("bank", seed, model // 2).permutation(len(order))
    chosen = np.zeros(len(order), dtype=np.bool_)
    chosen[order[drawn[: (len(order) + 1) // 2]]] = True
    return chosen if model % 2 == 0 else ~chosen
