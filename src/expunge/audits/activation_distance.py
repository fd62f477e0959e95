"""Activation distance: how far a model's answers on the forget set are from a retrained model's.

Golatkar, Achille & Soatto (CVPR 2020) and Chundawat et al. (AAAI 2023) measure it so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.references import forget_of, of_others, read_beside, some_ids
from expunge.scores.finding import NOT_MEASURABLE, Finding
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from expunge.audits.panel import Panel
    from expunge.trained.trained import Trained


class ActivationDistance(Audit):
    """Distance of the predicted probabilities on forget samples to the retrained models'.

    The Euclidean distance of the two rows of probabilities, from 0 to the root of 2, as a mean over
    samples and over retrained models. The floor is that of each retrained model to the others, as widely
    spread as distances of one more model would be.
    """

    name: ClassVar[str] = "activation_distance"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["activation_distance"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "retrained"})

    samples: int = Field(default=5000, ge=1, description="forget samples, at most")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score; its reference is the floor, where there are two retrained models or more."""
        from expunge.audits.likeness import mean_interval, probabilities_of

        (info,) = self.info
        ids = some_ids(panel.forget().ids, self.samples, self.name, panel.seed)

        def seen(one: Trained) -> Tensor:
            return probabilities_of(forget_of(panel, one), ids)

        before, theirs = of_others(self, panel, seen)
        if not theirs or not ids:
            return
        each = distances(seen(panel.subject), theirs)
        value, low, high = mean_interval(each)
        score = Score(
            *(info.name, value, len(ids), max(low, 0.0), high, info.unit, info.target),
            {"seed": panel.seed, "references_used": len(theirs)},
            per_sample=dict(zip(ids, each.tolist(), strict=True)),
        )
        floor = floors(theirs)
        if not floor:
            why = "one retrained model shows no distance between two; give more"
            score = replace(score, finding=Finding(NOT_MEASURABLE, why))
        first = None if before is None else float(distances(before, theirs).mean())
        yield without_verdict(
            read_beside(score, first, floor, info, panel.margins, lower_is_nearer=True)
        )


def floors(models: Sequence[Tensor]) -> list[float]:
    """Mean distance of each of k retrained models to the others; none of one model.

    A pair's distance is shared by both, so that these lie (k - 1) / (k - 2) times nearer together than
    distances of further models to all k do: they are set apart again around their mean.
    """
    k = len(models)
    found = [
        float(distances(one, [*models[:place], *models[place + 1 :]]).mean())
        for place, one in enumerate(models)
        if k > 1
    ]
    if k < 3:
        return found
    mean = sum(found) / k
    return [max(mean + (one - mean) * (k - 1) / (k - 2), 0.0) for one in found]


def distances(one: Tensor, others: Sequence[Tensor]) -> NDArray[np.float64]:
    """Of each sample, the mean Euclidean distance of a model's probabilities (n, classes) to those of
    others, one or more: (n,), in [0, the root of 2].
    """
    import torch

    each: NDArray[np.float64] = (
        torch.stack([(one - other).norm(dim=1) for other in others]).mean(dim=0).numpy()
    )
    return each
