"""An audit: how sure the model is of what it calls the forgotten samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from expunge import Audit, Panel, Score, ScoreInfo

SURE = ScoreInfo(
    "certainty",
    "mean probability of the class that forget samples are called",
    "percent",
    "retrained",
    "none; for tests",
)


class Certainty(Audit):
    """Mean probability of the predicted class on the forget set."""

    name: ClassVar[str] = "certainty"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SURE,)
    needs: ClassVar[frozenset[str]] = frozenset({"outputs"})

    def scores(self, panel: Panel) -> Iterator[Score]:
        part = panel.forget()
        sure = part.probabilities.amax(dim=1)
        yield Score(
            "certainty", 100 * float(sure.mean()), part.n, None, None, "percent", "retrained"
        )
