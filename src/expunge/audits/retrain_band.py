"""Whether a model lies among retrained ones, by how far each sample's log odds are from theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need
from expunge.audits.populations import odds
from expunge.audits.references import beyond_original
from expunge.scores.finding import (
    ALPHA,
    NOT_MEASURABLE,
    OUTSIDE,
    UNDECIDED,
    WITHIN,
    Finding,
    compared,
)
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import mean_sd
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel
    from expunge.trained.trained import Trained

LEAST_MODELS = 19
"""Retrained models among which a rank can be as rare as ALPHA."""


class RetrainBand(Audit):
    """How far a model's log odds on the forget set lie from the retrained models', in their own spread.

    Of k retrained models and the judged one, each is compared with the k others: its log odds of a
    sample less their mean, divided by their standard deviation, which is drawn towards that of all
    samples. The value is the mean size of these over the forget set, and p the model's rank in it among
    the k + 1, which is 1 / (k + 1) at the least: alone it takes 19 retrained models to tell, and as one
    of m findings 20 m - 1. Its ranks by the largest size and by the mean stand beside it.
    """

    name: ClassVar[str] = "retrain_band"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["retrain_band"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "retrained"})

    prior: float = Field(
        default=4.0, ge=0, description="models that the spread of all samples counts as"
    )

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score; none with fewer than two retrained models, which have no spread."""
        references = panel.references
        if not panel.split.forget or len(references) < 2:
            return
        import numpy as np

        beside = [panel.beside(one) for one in references]
        retrained = np.stack([odds(one.outputs)["forget"] for one in beside if one])
        found = band(odds(panel.outputs)["forget"], retrained, self.prior)
        detail = {"references": found.sizes[1:].tolist(), "p": found.ranks, "k": len(references)}
        before = panel.once(
            self, "original", partial(self._before, panel.original, panel, retrained)
        )
        margin = panel.margins.of(self.name)
        finding = found.finding(margin)
        if before is not None:
            detail["original"] = float(before.sizes[0])
            finding = beyond_original(finding, before.finding(margin))
        yield Score(
            self.name,
            float(found.sizes[0]),
            len(found.apart),
            None,
            None,
            "standard deviations",
            "retrained",
            detail,
            reference=float(found.sizes[1]),
            per_sample=dict(zip(panel.forget().ids, found.apart.tolist(), strict=True)),
            finding=finding,
        )

    def _before(
        self, original: Trained | None, panel: Panel, retrained: NDArray[np.float64]
    ) -> Band | None:
        """The original, judged in the model's place."""
        seen = panel.beside(original)
        if seen is None:
            return None
        return band(odds(seen.outputs)["forget"], retrained, self.prior)


@dataclass(frozen=True, eq=False)
class Band:
    """A model beside k retrained ones.

    apart: of each sample, in standard deviations: (n,). sizes: mean size of the model, then of each
    retrained one beside the others: (k + 1,). ranks: p of the mean size, of the largest, of the mean.
    """

    apart: NDArray[np.float64]
    sizes: NDArray[np.float64]
    ranks: tuple[float, float, float]

    def finding(self, margin: float | None) -> Finding:
        """By the rank of the mean size. margin: of that, beyond the mean of retrained models."""
        k = len(self.sizes) - 1
        if k < LEAST_MODELS or margin is None:
            return Finding(
                NOT_MEASURABLE, f"{k} retrained models, and a rank among them takes {LEAST_MODELS}"
            )
        size, known, p = float(self.sizes[0]), self.sizes[1:].tolist(), self.ranks[0]
        near = compared(size, known, margin, unit="standard deviations")
        told = (
            f"p = {p:.3g} among {k} retrained models, enough for {(k + 1) // 20} findings together; "
            f"{near.why}"
        )
        if p <= ALPHA and size - mean_sd(known)[0] > margin:
            return Finding(OUTSIDE, told, p)
        word = WITHIN if near.word == WITHIN else UNDECIDED
        return Finding(word, told, p, decidable=near.decidable)


def band(model: NDArray[np.float64], retrained: NDArray[np.float64], prior: float) -> Band:
    """Judge a model, (n,), and each of k retrained ones, (k, n), k >= 2, beside the k others of them.

    prior: degrees of freedom that the spread of all samples counts as.
    """
    import numpy as np

    every = np.concatenate([model[None], retrained])
    k = len(retrained)
    apart = every - every.mean(axis=0)
    total = (apart**2).sum(axis=0)
    # less the mean of the others; their sum of squares about their own mean
    difference = apart * (k + 1) / k
    squares = np.maximum(total - apart**2 * (k + 1) / k, 0.0)
    variance = squares / (k - 1)
    pooled = variance.mean(axis=1, keepdims=True)
    spread = np.sqrt((prior * pooled + (k - 1) * variance) / (prior + k - 1))
    t = difference / np.maximum(spread, 1e-9)
    sizes, largest, means = np.abs(t).mean(axis=1), np.abs(t).max(axis=1), t.mean(axis=1)
    above, below = _rank(means), _rank(-means)
    return Band(t[0], sizes, (_rank(sizes), _rank(largest), min(1.0, 2 * min(above, below))))


def _rank(values: NDArray[np.float64]) -> float:
    """Share of the values that are as large as the first or larger, itself among them."""
    return float((values >= values[0]).mean())
