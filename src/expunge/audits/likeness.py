"""Probabilities of a model on some of the forget set, to lay beside another's, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.scores.finding import Z95

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from expunge.audits.outputs import PartOutputs


def probabilities_of(part: PartOutputs, ids: Sequence[str]) -> Tensor:
    """The probabilities (n, classes) of these samples, float64, in the order of the ids.

    A model may have its samples in another order than the next.
    """
    import numpy as np

    few = part if len(ids) == part.n else part.of(frozenset(ids))
    place = np.empty(len(ids), dtype=np.int64)
    place[np.argsort(np.asarray(ids), kind="stable")] = few.by_id
    return few.probabilities[place]


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean of values (n,), n of 1 or more, and its 95 % interval by the normal distribution."""
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    half = Z95 * spread / math.sqrt(len(values))
    return mean, mean - half, mean + half


def divergences(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence of each row of p and q (n, classes), in bits: (n,), in [0, 1]."""
    import torch

    middle = (p + q) / 2
    bits = [torch.special.xlogy(each, each / middle).nan_to_num() for each in (p, q)]
    return (sum(bits, torch.zeros_like(p)).sum(dim=1) / (2 * math.log(2))).clamp(0, 1)
