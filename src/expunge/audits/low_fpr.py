"""What an attacker finds who is hardly ever wrong: TPR at 1 % and at 0.1 % FPR.

Carlini et al. (2022), "Membership Inference Attacks From First Principles": a few samples that a model
still knows well do not move a mean, and are what a person would complain of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.counts import chance_of_count, clopper_pearson, threshold
from expunge.audits.lira import Lira
from expunge.audits.never_seen import of_never_seen
from expunge.audits.references import beside_chance
from expunge.audits.rmia import Rmia
from expunge.scores.finding import ALPHA, NOT_MEASURABLE, OUTSIDE, Finding, settled
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel

ROUNDING = 1e-9
RATES = (("tpr_1pct", 0.01), ("tpr_01pct", 0.001))
WELL = 10
"""Never seen samples beyond a threshold, from which on it is placed well enough to find something."""


class LowFpr(Audit):
    """TPR at 1 % and at 0.1 % FPR: the share of the forget set above what few never seen samples are.

    The threshold is set by never seen samples of the forget set's classes alone, which a retrained model
    treats as it treats a forget set that was drawn at random: of either, as many lie above it. Of other
    requests what retrained models have is the target. The score is that of robust
    membership inference where there is a bank, else the loss.
    """

    name: ClassVar[str] = "low_fpr"
    info: ClassVar[tuple[ScoreInfo, ...]] = tuple(SCORES[name] for name, _ in RATES)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})

    by: Literal["auto", "rmia", "lira", "loss"] = Field(
        default="auto",
        description="the score; auto: rmia where there is a bank, else loss; lira: offline",
    )

    def scores(self, panel: Panel) -> Iterator[Score]:
        """Two scores, of a forget set that is not empty."""
        by, ids, ours, null = self._membership(panel)
        for info, (name, rate) in zip(self.info, RATES, strict=True):
            detail = {"by": by, "never seen": len(null), "fpr": 100 * rate}
            if not len(ours) or len(null) * rate < 1 - ROUNDING:
                yield Score(
                    *(name, math.nan, len(ours), None, None, "percent", "retrained", detail),
                    finding=Finding(NOT_MEASURABLE, _too_few(len(null), rate, round(1 / rate))),
                )
                continue
            limit, place = threshold(null, rate)
            above = int((ours > limit).sum())
            low, high = clopper_pearson(above, len(ours))
            margin = panel.margins.judging(info) or 0.0
            yield without_verdict(
                Score(
                    name=name,
                    value=100 * above / len(ours),
                    n=len(ours),
                    low=100 * low,
                    high=100 * high,
                    unit="percent",
                    target="retrained",
                    detail=detail | {"threshold": limit, "above": above},
                    per_sample=dict(zip(ids, (ours - limit).tolist(), strict=True)),
                    finding=beside_chance(
                        panel, tpr_finding(above, len(ours), place, len(null), rate, margin)
                    ),
                )
            )

    def _membership(
        self, panel: Panel
    ) -> tuple[str, Sequence[str], NDArray[np.float64], NDArray[np.float64]]:
        """By which score, ids, and the scores of the forget set and of never seen samples."""
        import numpy as np

        from expunge.audits.log_odds import part_log_odds

        if self.by in ("auto", "rmia"):
            compared = Rmia().compared(panel, alike=True)
            if compared is not None and len(compared.ours) and len(compared.null):
                return "rmia", compared.ids, compared.ours, compared.null
        if self.by == "lira" and panel.shadows is not None:
            own, null = Lira(online=False).offline(panel, panel.shadows, alike=True)
            there = np.isfinite(own)
            ids = tuple(np.array(panel.forget().ids)[there].tolist())
            return self.by, ids, own[there], null[np.isfinite(null)]
        if self.by in ("rmia", "lira"):
            return self.by, (), np.empty(0), np.empty(0)
        # phi falls where the loss rises, and tells samples apart where the loss is nearly 0
        ours = part_log_odds(panel.forget())
        return (
            "loss",
            panel.forget().ids,
            ours,
            of_never_seen(panel.outputs, part_log_odds, alike=True),
        )


def tpr_finding(above: int, n: int, place: int, m: int, rate: float, margin: float) -> Finding:
    """Of n samples so many lie above the place-th largest of m never seen ones, where `rate` should.

    margin: in points. More than chance makes, the threshold's own included, are a trace; fewer are no
    reason for anything, since so few are to be expected.
    """
    if m * rate < WELL - ROUNDING:
        return Finding(NOT_MEASURABLE, _too_few(m, rate, round(WELL / rate)))
    p = float(chance_of_count(n, place, m)[above:].sum())
    apart = 100 * (above / n - rate)
    told = f"{above} of {n:,} where {n * rate:.3g} are expected, margin {margin:g} points"
    if p < ALPHA and apart > margin:
        return Finding(OUTSIDE, told, p)
    upper, least = (100 * (clopper_pearson(k, n, 1 - 2 * ALPHA)[1] - rate) for k in (above, 0))
    return settled(told, p, margin, upper=upper, least=least)


def _too_few(m: int, rate: float, needed: int) -> str:
    """Why nothing is found."""
    return f"{m:,} never seen samples place no threshold at {100 * rate:g} %; that takes {needed:,}"
