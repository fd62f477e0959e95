"""The likelihood ratio attack: is what a model says of a sample that of models which learned from it?

Carlini et al. (2022), "Membership Inference Attacks From First Principles". Their code takes the spread
of the models that learned from a sample for that of the others too where the spread is fixed; here each
kind has its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.never_seen import of_never_seen
from expunge.scores.finding import NOT_MEASURABLE, Finding
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Shadows

NO_LAW = "too few models of the bank tell of these samples to know how they spread"


class Lira(Audit):
    """LiRA: how well the laws of a bank's models tell that a model still knows the forget set.

    Online: the log of the ratio of two laws of phi, of the models that learned from a sample and of
    those that did not, at the judged model's phi. It is compared with what the latter say of the same
    samples themselves, each judged without it and its other half. Offline: how far phi lies above the
    models that did not learn from it, compared with never seen samples of its classes
    under the judged model. AUC in
    percent, 50 is chance; what the retrained model has is the target.
    """

    name: ClassVar[str] = "lira"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["lira"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "shadows"})

    online: bool = Field(default=True, description="use the models that learned from it too")
    spread: Literal["auto", "own", "shrunk", "pooled"] = Field(
        default="auto",
        description="of a sample's phi: its own, drawn towards that of all samples, or that of all; "
        "auto: its own from 64 models on, else drawn (the paper: its own from 64, else that of all)",
    )

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score, where there is a bank."""
        import numpy as np

        from expunge.audits.laws import spread_used
        from expunge.audits.told_apart import auc

        shadows = panel.shadows
        if shadows is None:
            return
        forget = panel.forget()
        found = self._online(panel, shadows) if self.online else self._offline(panel, shadows)
        ours, null, detail = found
        there = np.isfinite(ours)
        names, ours = np.array(forget.ids)[there].tolist(), ours[there]
        null = null[np.isfinite(null)]
        detail = {
            "online": self.online,
            "spread": spread_used(self.spread, len(shadows)),
            "shadows": len(shadows),
            **detail,
        }
        if not there.all():
            detail["no law"] = int((~there).sum())
        if not len(ours) or not len(null):
            yield Score(
                *("lira", math.nan, 0, None, None, "percent", "retrained", detail),
                finding=Finding(NOT_MEASURABLE, NO_LAW),
            )
            return
        value, low, high = auc(ours, null)
        score = Score(
            *("lira", value, len(ours), low, high, "percent", "retrained", detail),
            per_sample=dict(zip(names, ours.tolist(), strict=True)),
        )
        yield without_verdict(score)

    def _online(
        self, panel: Panel, shadows: Shadows
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, Any]]:
        """Log ratios of the forget set, those of models that did not learn from it, and what is known
        of the attack itself: `bank`, its AUC on the bank's models.
        """
        import numpy as np

        from expunge.audits.laws import laws, pair_left_out, spread_used
        from expunge.audits.log_odds import part_log_odds
        from expunge.audits.told_apart import auc

        forget = panel.forget()
        rows, spread = shadows.rows(forget.ids), spread_used(self.spread, len(shadows))
        learned, phi = shadows.learned[:, rows], np.where(rows >= 0, shadows.phi[:, rows], np.nan)
        inside, outside = laws(phi, learned, spread), laws(phi, ~learned, spread)
        own = part_log_odds(forget)
        ours = inside.log_density(own) - outside.log_density(own)
        among = pair_left_out(phi, learned, ~learned, spread)
        known = np.isfinite(among)
        members, null = among[known & learned], among[known & ~learned]
        if not len(members) or not len(null):
            return ours, null, {}
        return ours, null, {"bank": auc(members, null)[0]}

    def _offline(
        self, panel: Panel, shadows: Shadows
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, Any]]:
        """How far phi lies above the laws of models that did not learn: forget set, never seen."""
        import numpy as np

        from expunge.audits.laws import laws, spread_used
        from expunge.audits.log_odds import part_log_odds

        spread = spread_used(self.spread, len(shadows))

        def above(part: PartOutputs) -> NDArray[np.float64]:
            rows = shadows.rows(part.ids)
            phi = np.where(rows >= 0, shadows.phi[:, rows], np.nan)
            return laws(phi, ~shadows.learned[:, rows], spread).standard(part_log_odds(part))

        return above(panel.forget()), of_never_seen(panel.outputs, above), {}
