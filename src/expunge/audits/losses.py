"""Mean loss on each part, for a task that has no classes: the loss is all that can be judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from expunge.audits.base import Audit, Need
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import student_interval
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    from expunge.audits.panel import Panel
    from expunge.trained.trained import Trained

PARTS = ("forget", "retain", "test")


class Losses(Audit):
    """Mean loss of the task on the forget set, the retain set and the test set."""

    name: ClassVar[str] = "losses"
    info: ClassVar[tuple[ScoreInfo, ...]] = tuple(SCORES[f"loss_{part}"] for part in PARTS)
    needs: ClassVar[frozenset[Need]] = frozenset({"model"})

    def scores(self, panel: Panel) -> Iterator[Score]:
        """Each beside the original's and the retrained model's."""
        mine = _losses(panel.subject, panel)
        theirs = _losses(panel.retrained, panel) if panel.retrained is not None else {}
        before = _losses(panel.original, panel) if panel.original is not None else {}
        for part, values in mine.items():
            mean, low, high = student_interval(values)
            other = theirs.get(part)
            detail = {"original": student_interval(before[part])[0]} if part in before else {}
            yield Score(
                f"loss_{part}",
                mean,
                len(values),
                low if len(values) > 1 else None,
                high if len(values) > 1 else None,
                "loss",
                "retrained",
                detail,
                student_interval(other)[0] if other else None,
            )


def _losses(one: Trained, panel: Panel) -> dict[str, list[float]]:
    """Part -> loss of each sample; parts without samples are left out."""
    from expunge.audits.observe import observe_losses

    return observe_losses(one.model, one.data, panel.split, panel.run)
