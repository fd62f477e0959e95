"""Run-time efficiency: the seconds that the method took, from the record of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from expunge.audits.base import Audit, Need
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    from expunge.audits.panel import Panel


class RunTime(Audit):
    """RTE: wall seconds inside the method, evaluation excluded (Jia et al. 2023)."""

    name: ClassVar[str] = "run_time"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["RTE"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"model"})
    usual: ClassVar[bool] = True

    def scores(self, panel: Panel) -> Iterator[Score]:
        """Nothing of an imported model, whose cost nobody measured."""
        cost = panel.subject.record.cost
        if not cost.seconds:
            return
        reference = None
        if panel.retrained is not None and panel.retrained.record.cost.seconds:
            reference = panel.retrained.record.cost.seconds
        yield Score("RTE", cost.seconds, 1, None, None, "seconds", "low", cost.to_dict(), reference)
