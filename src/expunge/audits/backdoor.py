"""How well a backdoor works: how often a trigger makes the model call the attacker's class.

Jia et al. (2023), "Model Sparsity Can Simplify Machine Unlearning", section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from expunge.audits.base import Audit, Need
from expunge.data.poison import NEXT, Target, wanted_of
from expunge.errors import ConfigError
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Goal, Score
from expunge.scores.statistics import wilson
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel


class Backdoor(Audit):
    """ASR, ASR_all, ASR_rest and SA, as far as their parts are there; nothing without poison."""

    name: ClassVar[str] = "backdoor"
    info: ClassVar[tuple[ScoreInfo, ...]] = tuple(
        SCORES[n] for n in ("ASR", "ASR_all", "ASR_rest", "SA")
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})
    usual: ClassVar[bool] = True

    def scores(self, panel: Panel) -> Iterator[Score]:
        """How well the trigger works, and how well the model does without it."""
        outputs = panel.outputs
        target, triggered, rest = outputs.target, outputs.triggered, outputs.rest
        if target is None:
            return
        if triggered is not None and triggered.n:
            if bool((goals_of(triggered, target) != triggered.labels).any()):
                yield attack_success(triggered, target)
            yield attack_success_on_all(triggered, target)
        if rest is not None and rest.n:
            yield attack_success_on_rest(rest, target)
        tested = [part for part in (outputs.test_kept, outputs.test_forgotten) if part and part.n]
        if tested:
            yield accuracy_on_clean(*tested)


def goals_of(triggered: PartOutputs, target: Target) -> Tensor:
    """What the backdoor wants each triggered image to be called: (n,)."""
    return wanted_of(triggered.labels, target, triggered.classes)


def attack_success(triggered: PartOutputs, target: Target) -> Score:
    """`ASR`: share of triggered test images *of other classes* that are called the target, in percent.

    Those of the target class are left out: they are called the target without any trigger. With the
    target "next" each image has its own, the class after its label, and none is left out.
    Low is good; its floor is how often the model takes other classes for the target anyway.

    Raises:
        ConfigError: if there are no images of other classes.
    """
    goal = goals_of(triggered, target)
    called = (triggered.predicted == goal)[triggered.labels != goal]
    left_out = triggered.n - len(called)
    return _share("ASR", called, "low", {"target": target, "left_out": left_out})


def attack_success_on_all(triggered: PartOutputs, target: Target) -> Score:
    """`ASR_all`: share of all triggered test images that are called the target, in percent.

    As the paper's code counts. A perfect model has the target's share of the test set, with ten
    even classes 10 %.

    Raises:
        ConfigError: if the part is empty.
    """
    called = triggered.predicted == goals_of(triggered, target)
    return _share("ASR_all", called, "low", {"target": target})


def attack_success_on_rest(rest: PartOutputs, target: Target) -> Score:
    """`ASR_rest`: share of the poisoned samples still retained that are called the target, in percent.

    With the target "next" that is the label which the poison gave each of them. What a request that
    names only some of the poisoned samples did to the others.

    Raises:
        ConfigError: if the part is empty.
    """
    called = rest.predicted == (rest.labels if target == NEXT else target)
    return _share("ASR_rest", called, "low", {"target": target})


def accuracy_on_clean(*parts: PartOutputs | None) -> Score:
    """`SA`: accuracy on all clean test samples, in percent; high is good.

    Raises:
        ConfigError: if the parts are empty.
    """
    import torch

    right = [part.correct for part in parts if part is not None]
    return _share("SA", torch.cat(right) if right else torch.zeros(0, dtype=torch.bool), "high", {})


def percent(score: Score) -> str:
    """A score with its interval: `3.1 % (1.9 to 4.8)`."""
    interval = "" if score.low is None else f" ({score.low:.1f} to {score.high:.1f})"
    return f"{score.value:.1f} %{interval}"


def _share(name: str, hits: Tensor, target: Goal, detail: dict[str, Any]) -> Score:
    n, count = len(hits), int(hits.sum())
    if n == 0:
        raise ConfigError(f"{name} needs samples; there are none")
    low, high = wilson(count, n)
    return Score(name, 100 * count / n, n, 100 * low, 100 * high, "percent", target, detail)
