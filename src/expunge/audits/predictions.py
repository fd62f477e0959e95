"""Prediction distribution: what a model now calls the samples that it forgot.

Tarun et al. (TNNLS 2023) compare the distributions by eye; the number is their Jensen-Shannon
divergence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from expunge.audits.base import Audit, Need
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel


class PredictionDistribution(Audit):
    """Divergence of the mean prediction on the forget set from the retrained model's."""

    name: ClassVar[str] = "prediction_distribution"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["prediction_distribution"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "retrained"})

    def scores(self, panel: Panel) -> Iterator[Score]:
        """See `prediction_distribution`."""
        other = panel.retrained_outputs
        yield prediction_distribution(
            panel.forget(), None if other is None else panel.forget(other)
        )


def mean_prediction(part: PartOutputs) -> Tensor:
    """Mean over samples of the predicted probabilities: (classes,), float64, summing to 1."""
    return part.mean_probabilities


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    """Divergence of two distributions (classes,) in bits: 0 = the same, 1 = nothing in common."""
    import torch

    middle = (p + q) / 2
    bits = [torch.special.xlogy(each, each / middle) for each in (p, q)]
    # where both are 0, 0 / 0 has no part in the sum; rounding must not leave a value below 0
    total = sum(float(torch.nan_to_num(each).sum()) for each in bits) / 2 / math.log(2)
    return min(1.0, max(0.0, total))


def prediction_distribution(forget: PartOutputs, retrained: PartOutputs | None = None) -> Score:
    """`prediction_distribution`: divergence from the retrained model's on the forget set, in bits.

    nan without a retrained model. The detail has the mean distributions.
    """
    ours = mean_prediction(forget)
    detail = {"distribution": ours}
    value = math.nan
    if retrained is not None:
        detail["retrained"] = mean_prediction(retrained)
        value = jensen_shannon(ours, detail["retrained"])
    return Score("prediction_distribution", value, forget.n, None, None, "bits", "low", detail)
