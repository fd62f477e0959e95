"""The likelihood ratio attack: is what a model says of a sample that of models which learned from it?

Carlini et al. (2022), "Membership Inference Attacks From First Principles". Their code takes the spread
of the models that learned from a sample for that of the others too where the spread is fixed; here each
kind has its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.never_seen import of_never_seen, spared
from expunge.scores.finding import NOT_MEASURABLE, Finding
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.laws import SpreadOf
    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Shadows

NO_LAW = "too few models of the bank tell of these samples to know how they spread"


class Lira(Audit):
    """LiRA: how well the laws of a bank's models tell that a model still knows the forget set.

    Online: the log of the ratio of two laws of phi, of the models that learned from a sample and of
    those that did not, at the judged model's phi. It is compared with what the latter say of the same
    samples themselves, each judged without it and its other half. Offline: how far phi lies above the
    models that did not learn from it, one of each pair, compared with never seen samples of the classes
    that stay. AUC in percent, 50 is chance; what the retrained model has is the target.
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
        detail: dict[str, Any] = {}
        if self.online:
            ours, null, detail = self._online(panel, shadows)
        else:
            ours, null = self.offline(panel, shadows)
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
        from expunge.audits.log_odds import part_log_odds
        from expunge.audits.told_apart import auc

        forget = panel.forget()
        ours, null, members = ratios(shadows, forget.ids, part_log_odds(forget), self.spread)
        return ours, null, {"bank": auc(members, null)[0]} if len(members) and len(null) else {}

    def offline(
        self, panel: Panel, shadows: Shadows, *, alike: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far phi lies above the laws of models that did not learn: forget set and never seen.

        (n,) and (m,), in standard deviations; nan where no law is known. alike: as of `of_never_seen`.
        """
        import numpy as np

        from expunge.audits.laws import laws, spread_used
        from expunge.audits.log_odds import part_log_odds

        spread = spread_used(self.spread, len(shadows))

        def above(part: PartOutputs, *, test: bool = True) -> NDArray[np.float64]:
            rows = shadows.rows(part.ids, test=test)
            phi = np.where(rows >= 0, shadows.phi[:, rows], np.nan)
            return laws(phi, spared(shadows, rows), spread).standard(part_log_odds(part))

        return above(panel.forget(), test=False), of_never_seen(panel.outputs, above, alike=alike)


def ratios(
    shadows: Shadows, ids: Sequence[str], phi: NDArray[np.float64], spread: SpreadOf = "auto"
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Log of the ratio of two laws of phi: of a bank's models that learned from a sample and of those
    that did not.

    Args:
        shadows: the bank's models.
        ids: of n samples.
        phi: (n,), what a model says of them.
        spread: as the audit takes it.

    Returns:
        At phi, (n,), nan where no law is known; and what the bank's models themselves have, each judged
        without it and its other half: those that did not learn from a sample, and those that did.
    """
    import numpy as np

    from expunge.audits.laws import laws, pair_left_out, spread_used

    rows, used = shadows.rows(ids), spread_used(spread, len(shadows))
    learned, known = shadows.learned[:, rows], np.where(rows >= 0, shadows.phi[:, rows], np.nan)
    inside, outside = laws(known, learned, used), laws(known, ~learned, used)
    among = pair_left_out(known, learned, ~learned, used)
    there = np.isfinite(among)
    own = inside.log_density(phi) - outside.log_density(phi)
    return own, among[there & ~learned], among[there & learned]
