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
from expunge.audits.never_seen import of_never_seen
from expunge.audits.rmia import Rmia
from expunge.scores.finding import (
    ALPHA,
    NOT_MEASURABLE,
    OUTSIDE,
    UNDECIDED,
    WITHIN,
    Finding,
)
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

    The threshold is set by never seen samples alone, which a retrained model treats as it treats the
    forget set: of either, as many lie above it. The score is that of robust membership inference where
    there is a bank, else the loss.
    """

    name: ClassVar[str] = "low_fpr"
    info: ClassVar[tuple[ScoreInfo, ...]] = tuple(SCORES[name] for name, _ in RATES)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})

    by: Literal["auto", "rmia", "loss"] = Field(
        default="auto", description="the score; auto: rmia where there is a bank, else loss"
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
                    finding=tpr_finding(
                        above, len(ours), place, len(null), rate, info.margin or 0.0
                    ),
                )
            )

    def _membership(
        self, panel: Panel
    ) -> tuple[str, Sequence[str], NDArray[np.float64], NDArray[np.float64]]:
        """By which score, ids, and the scores of the forget set and of never seen samples."""
        from expunge.audits.log_odds import part_log_odds

        if self.by != "loss":
            compared = Rmia().compared(panel)
            if compared is not None and len(compared.ours) and len(compared.null):
                return "rmia", compared.ids, compared.ours, compared.null
        if self.by == "rmia":
            import numpy as np

            return "rmia", (), np.empty(0), np.empty(0)
        forget = (
            panel.forget()
        )  # phi falls where the loss rises, and never so far that all are equal
        own = part_log_odds(forget)
        return "loss", forget.ids, own, of_never_seen(panel.outputs, part_log_odds)


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
    if 100 * (clopper_pearson(above, n, 1 - 2 * ALPHA)[1] - rate) < margin:
        return Finding(WITHIN, told, p)
    return Finding(UNDECIDED, told, p)


def _too_few(m: int, rate: float, needed: int) -> str:
    """Why nothing is found."""
    return f"{m:,} never seen samples place no threshold at {100 * rate:g} %; that takes {needed:,}"
