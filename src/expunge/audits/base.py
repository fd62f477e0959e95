"""What every audit is: validated settings, the scores that it gives, what it needs, one function."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, NO_VERDICT
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from expunge.audits.panel import Panel

Need = Literal[
    "outputs", "model", "original", "retrained", "shadows", "method", "siblings", "swapped"
]
Family = Literal["outputs", "representation", "reversal"]
"""Where an audit looks: at what a model says, at what it computes on the way, at how it learns again."""


class Audit(Settings):
    """A way to judge a model after forgetting. Its fields are its settings.

    A new audit is one file with such a class, and one line in `expunge.audits.AUDITS`; the command
    line, studies and reports then take it. What is built in imports torch only where it computes.

    name: how it is asked for. info: the scores that it may give. needs: what must be there:
    "outputs" (the model's outputs on each part, observed once), "model" (its weights), "original",
    "retrained" (these models beside it), "shadows" (models of the bank), "method" (those, made to
    forget by the method that made the model), "siblings" (what that method made from other seeds),
    "swapped" (two models that it made forget different samples). An audit that needs outputs and
    shadows alone is computed for the original and the retrained models too, and read against them;
    others look at these themselves.
    usual: made without being asked for, where it can be. family: where it looks.
    """

    name: ClassVar[str]
    info: ClassVar[tuple[ScoreInfo, ...]]
    needs: ClassVar[frozenset[Need]]
    usual: ClassVar[bool] = False
    family: ClassVar[Family] = "outputs"

    @abstractmethod
    def scores(self, panel: Panel) -> Iterable[Score]:
        """The scores of `panel.subject`; none where it has nothing to say. No model is changed."""


def without_verdict(score: Score) -> Score:
    """The score, marked when the forget set behind it is nearly empty."""
    if score.n >= NEAR_EMPTY:
        return score
    return replace(score, detail={**score.detail, "verdict": NO_VERDICT})
