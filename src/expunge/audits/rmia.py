"""Robust membership inference: a sample's likelihood ratio against those of samples never seen.

Zarifzadeh, Liu & Shokri (ICML 2024), "Low-Cost High-Power Membership Inference Attacks".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Shadows


class Rmia(Audit):
    """RMIA: how well a sample's likelihood ratio tells the forget set from samples never seen.

    A sample's ratio is p(x) / p̄(x): p is the probability of its own class under the judged model, p̄ a
    mean over models of the bank: offline ((1 + a) p̄_out + 1 - a) / 2 over those that did not learn from
    it, online the mean of that of these and of that of those which did. Its score is the share of never
    seen samples z whose gamma-fold ratio is smaller. AUC in percent, 50 is chance; what the retrained
    model has is the target.
    """

    name: ClassVar[str] = "rmia"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["rmia"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "shadows"})

    online: bool = Field(default=False, description="use the models that learned from it too")
    gamma: float = Field(default=1.0, ge=1, description="how many times smaller a ratio must be")
    a: float = Field(default=0.3, ge=0, le=1, description="of the offline mean of all models")
    temperature: float = Field(default=1.0, gt=0, description="what logits are divided by")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score, where there are shadows and samples that nobody learned from."""
        import numpy as np

        from expunge.audits.told_apart import auc

        shadows, others = panel.shadows, panel.outputs.test_kept
        if shadows is None or others is None or not others.n:
            return
        forget = panel.forget()
        own, theirs = self._ratios(forget, shadows), self._ratios(others, shadows)
        there, seen = np.isfinite(own), theirs[np.isfinite(theirs)]
        if not there.any() or not len(seen):
            return
        scores = share_below(own[there], self.gamma * seen)
        value, low, high = auc(scores, share_below(seen, self.gamma * seen))
        names = [name for name, known in zip(forget.ids, there, strict=True) if known]
        score = Score(
            "rmia",
            value,
            len(names),
            low,
            high,
            "percent",
            "retrained",
            {**self.model_dump(mode="json"), "shadows": len(shadows)},
            per_sample=dict(zip(names, scores.tolist(), strict=True)),
        )
        yield without_verdict(score)

    def _ratios(self, part: PartOutputs, shadows: Shadows) -> NDArray[np.float64]:
        """p(x) / p̄(x) of each sample, nan for one that the shadows cannot be asked about: (n,)."""
        import numpy as np

        from expunge.audits.log_odds import own_confidence, part_log_odds

        rows = shadows.rows(part.ids)
        p = own_confidence(part_log_odds(part, self.temperature))
        seen, learned = shadows.confidence(self.temperature)[:, rows], shadows.learned[:, rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.where(learned, 0, seen).sum(axis=0) / (~learned).sum(axis=0)
            inside = np.where(learned, seen, 0).sum(axis=0) / learned.sum(axis=0)
        offline = ((1 + self.a) * out + 1 - self.a) / 2
        both = np.where(learned.any(axis=0), (out + inside) / 2, out)
        return np.where(rows >= 0, p / (both if self.online else offline), np.nan)


def share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each value, the share of the others that lie below it: (n,), in [0, 1]."""
    import numpy as np

    found = np.searchsorted(np.sort(others), values, side="left")
    return np.asarray(found / len(others), dtype=np.float64)
