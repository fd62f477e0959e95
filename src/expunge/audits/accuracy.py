"""The accuracy scores: how often the model is right, and on the forget set how often wrong.

Jia et al. (2023), "Model Sparsity Can Simplify Machine Unlearning".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from expunge.audits.base import Audit, Need, without_verdict
from expunge.errors import ConfigError
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import wilson
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel


class Accuracy(Audit):
    """UA, RA, TA, and TA_forget where whole classes are forgotten; absent parts are left out."""

    name: ClassVar[str] = "accuracy"
    info: ClassVar[tuple[ScoreInfo, ...]] = tuple(
        SCORES[n] for n in ("UA", "RA", "TA", "TA_forget")
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})
    usual: ClassVar[bool] = True

    def scores(self, panel: Panel) -> Iterator[Score]:
        """How often the model is right, part by part."""
        seen = panel.outputs
        if seen.forget is not None and seen.forget.n:
            yield without_verdict(unlearning_accuracy(seen.forget))
        if seen.retain is not None and seen.retain.n:
            yield remaining_accuracy(seen.retain)
        if seen.test_kept is not None and seen.test_kept.n:
            yield accuracy_on_test(seen.test_kept)
        if seen.test_forgotten is not None and seen.test_forgotten.n:
            yield accuracy_on_forgotten_classes(seen.test_forgotten)


def unlearning_accuracy(forget: PartOutputs) -> Score:
    """`UA`: 100 minus the accuracy on the forget set, in percent.

    100 = every forgotten sample is misclassified. Forgetting means to come near the retrained
    model's value, which for random samples is about the test error, not near 100.

    Raises:
        ConfigError: if the part is empty.
    """
    return _share("UA", forget, "forget", wrong=True)


def remaining_accuracy(retain: PartOutputs) -> Score:
    """`RA`: accuracy on the retain set, in percent. Raises ConfigError if the part is empty."""
    return _share("RA", retain, "retain")


def accuracy_on_test(test_kept: PartOutputs) -> Score:
    """`TA`: accuracy on the test samples of the classes that stay, in percent.

    Raises:
        ConfigError: if the part is empty.
    """
    return _share("TA", test_kept, "test")


def accuracy_on_forgotten_classes(test_forgotten: PartOutputs) -> Score:
    """`TA_forget`: accuracy on the test samples of the forgotten classes, in percent.

    A model that never saw a class scores 0.

    Raises:
        ConfigError: if the part is empty.
    """
    return _share("TA_forget", test_forgotten, "forgotten classes' test")


def _share(name: str, part: PartOutputs, what: str, *, wrong: bool = False) -> Score:
    if part.n == 0:
        raise ConfigError(f"{name} needs samples in the {what} part; it is empty")
    right = int(part.correct.sum())
    hits = part.n - right if wrong else right
    low, high = wilson(hits, part.n)
    return Score(
        name=name,
        value=100 * hits / part.n,
        n=part.n,
        low=100 * low,
        high=100 * high,
        unit="percent",
        target="retrained",
    )
