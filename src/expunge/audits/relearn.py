"""Relearn time: how quickly a model picks up again what it was made to forget.

Tarun et al. (TNNLS 2023) propose the score; the anamnesis index (AIN), its ratio to the retrained
model's, is Chundawat et al.'s (TIFS 2023). A model that relearns much faster than one that never saw
the forget set has hidden what it knew, not lost it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Family, Need
from expunge.audits.references import too_few
from expunge.errors import ConfigError, DivergenceError
from expunge.scores.finding import (
    NOT_MEASURABLE,
    UNDECIDED,
    WITHIN,
    Finding,
    compared,
)
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Censoring, Score
from expunge.scores.table import NEAR_EMPTY, SCORES
from expunge.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.audits.panel import Panel
    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.trained.trained import Trained
    from expunge.training.run import Run

FACTOR = 1.0
"""Doublings of the steps that do not matter: half or twice as many."""
CHANCE = 0.5
"""Doublings by which two retrained models may well differ, where too few are there to show it."""


class RelearnTime(Audit):
    """Steps on the forget set until the original's accuracy there is reached again, and AIN.

    Every model is made to learn it again in the same way.
    """

    name: ClassVar[str] = "relearn_time"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["relearn_time"], SCORES["AIN"])
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "model", "original"})
    family: ClassVar[Family] = "reversal"

    lr: float = Field(default=1e-3, gt=0, description="learning rate of Adam")
    batch_size: int = Field(default=256, ge=1, description="forget samples a step")
    cap: int = Field(default=500, ge=1, description="steps after which to give up")
    margin: float = Field(
        default=0.05, ge=0, lt=1, description="relative distance to the original's accuracy"
    )

    def scores(self, panel: Panel) -> Iterator[Score]:
        """`relearn_time`, and with a retrained model `AIN`; each works on a copy."""
        if panel.original_outputs is None:
            return
        correct = panel.forget(panel.original_outputs).correct
        percent = 100 * float(correct.double().mean())
        theirs = [
            panel.once(self, f"retrained {number}", partial(self._relearn, one, panel, percent))
            for number, one in enumerate(panel.references)
        ]
        mine = self._relearn(panel.subject, panel, percent)
        time, *ain = relearn_scores(mine, theirs[0] if theirs else None, cap=self.cap)
        if theirs:
            few = len(panel.split.forget) < NEAR_EMPTY
            found = (
                too_few(len(panel.split.forget)) if few else found_of_times(mine, theirs, self.cap)
            )
            known = (
                {"references": [_time(one, self.cap)[0] for one in theirs]} if theirs[1:] else {}
            )
            time = replace(time, finding=found, detail={**time.detail, **known})
        yield from (time, *ain)

    def _relearn(self, one: Trained, panel: Panel, percent: float) -> Relearned:
        """The same seed names for every model, so that they see the same batches."""
        from expunge.data.parts import Part
        from expunge.data.transform import Transform
        from expunge.data.view import DataView

        run = replace(
            panel.run, names=("relearn", *panel.run.names), label="relearning", mask=one.mask
        )
        view = DataView(
            data=one.data,
            split=panel.split,
            declared=Part.FORGET,
            names=run.names,
            transform=Transform(one.data.normalisation),
            device=run.device,
            rank=run.rank,
            world=run.world,
        )
        return relearn(one.model, view, run, original_percent=percent, how=self)


@dataclass(frozen=True)
class Relearned:
    """steps: mini-batches until the accuracy was reached. reached: False at the cap, or diverged."""

    steps: int
    reached: bool


@dataclass(frozen=True)
class UntilReached:
    """Batches that may end before their length, which is what progress can promise."""

    make: Callable[[], Iterator[Batch]]
    length: int

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        return self.make()


def relearn(
    model: nn.Module,
    data: DataView,
    run: Run,
    *,
    original_percent: float,
    how: RelearnTime | None = None,
) -> Relearned:
    """Train a copy on the forget set until its accuracy there is within 5 % of the original's.

    data: a view that may read the forget set; it is not augmented, and it is measured whole, in
    evaluation mode, before the first step and after each.
    original_percent: the original's accuracy on the forget set, 0 to 100.
    """
    import torch

    from expunge.data.parts import Part
    from expunge.data.task import logits_of_task
    from expunge.models.copying import copied
    from expunge.training.fit import fit
    from expunge.training.loop import evaluating

    how = how or RelearnTime()
    pupil = copied(model).to(run.device).requires_grad_(True)
    source = data.source(Part.FORGET)
    wanted = (1 - how.margin) * original_percent / 100 * len(source) - 1e-9

    def reached() -> bool:
        right, left = 0, len(source)
        with evaluating(pupil), torch.no_grad():
            for batch in source.batches(how.batch_size, shuffle=False, augment=False):
                predicted = logits_of_task(run.task.observe(pupil, batch)).argmax(dim=1)
                right += int(torch.eq(predicted, _labels(batch)).sum()) * bool(batch.weight)
                left -= len(batch) * bool(batch.weight)
                if right + left < wanted:
                    break  # too many are wrong already, whatever the others and other processes find
        return int(run.sum(torch.tensor(right, device=run.device))) >= wanted

    if reached():
        return Relearned(0, True)
    done = Relearned(0, False)

    def steps() -> Iterator[Batch]:
        nonlocal done
        for epoch in itertools.count():
            for batch in source.batches(how.batch_size, epoch=epoch, augment=False):
                yield batch
                done = Relearned(done.steps + 1, reached())  # resumed when the step is made
                if done.reached or done.steps == how.cap:
                    return

    recipe = Recipe(
        epochs=1,
        lr=how.lr,
        batch_size=how.batch_size,
        optimizer="adam",
        weight_decay=0.0,
        schedule="constant",
        augmentation="none",
    )
    try:
        fit(
            pupil,
            lambda _: UntilReached(steps, how.cap),
            lambda m, batch, _: run.loss(m, batch),
            recipe=recipe,
            run=run,
        )
    except DivergenceError:
        return Relearned(done.steps, False)
    return done


def _labels(batch: Batch) -> Tensor:
    if batch.labels is None:
        raise ConfigError("relearn_time asks how often the model is right, and there are no labels")
    return batch.labels


def relearn_scores(
    model: Relearned, retrained: Relearned | None = None, *, cap: int
) -> list[Score]:
    """`relearn_time` in steps, and with a retrained model `AIN`, which should be 1.

    A model that never got there, because it diverged or for want of steps, counts as `cap` steps "at
    least"; the detail has the steps that it made. AIN is then a bound too. It is undefined (nan) where
    neither model got there, and where the retrained model needs no step, as random forgetting often
    has it.
    """
    mine, bound = _time(model, cap)
    detail: dict[str, object] = {"steps": model.steps, "reached": model.reached, "cap": cap}
    if retrained is None:
        return [
            Score("relearn_time", mine, 1, None, None, "steps", "retrained", detail, bound=bound)
        ]
    beside, theirs = _time(retrained, cap)
    detail |= {"retrained_steps": retrained.steps, "retrained_reached": retrained.reached}
    time = Score(
        "relearn_time", mine, 1, None, None, "steps", "retrained", detail, beside, bound, theirs
    )
    ratio = mine / beside if beside and not (bound and theirs) else math.nan
    at_most: Censoring | None = "at most" if theirs and mine else None
    known = None if math.isnan(ratio) else bound or at_most
    return [time, Score("AIN", ratio, 1, None, None, "ratio", "retrained", {}, 1.0, known)]


def found_of_times(mine: Relearned, theirs: Sequence[Relearned], cap: int) -> Finding:
    """Steps beside those of retrained models, on the scale of doublings: half or twice as many matter.

    A model that never got there counts as `cap` steps, and no such one is found within.
    """
    steps, bound = _time(mine, cap)
    known = [_time(one, cap) for one in theirs]
    if not any(beside for beside, _ in known):
        return Finding(NOT_MEASURABLE, "retrained models know the samples without a step")
    if bound and all(theirs_bound for _, theirs_bound in known):
        return Finding(
            NOT_MEASURABLE, f"neither this model nor retraining got there in {cap} steps"
        )
    doublings = [math.log2(1 + beside) for beside, _ in known]
    one_step = math.log2(2 + min(beside for beside, _ in known)) - min(doublings)
    found = compared(
        math.log2(1 + steps),
        doublings,
        FACTOR,
        error=CHANCE if len(theirs) < 3 else 0.0,
        step=one_step,
        limits=(0.0, math.log2(1 + cap)),
    )
    typical = 2 ** (sum(doublings) / len(doublings)) - 1
    many = f"{steps:.0f} step{'' if steps == 1 else 's'}"
    told = f"{many} against {typical:.0f}; from half to twice as many make no matter"
    ends = found.interval and (2 ** found.interval[0] - 1, 2 ** found.interval[1] - 1)
    found = replace(found, why=told, interval=ends, band=None)  # differences of doublings: no steps
    if found.word == WITHIN and (bound or any(one for _, one in known)):
        return replace(found, word=UNDECIDED)
    return found


def _time(one: Relearned, cap: int) -> tuple[float, Censoring | None]:
    """Steps, and that there are no fewer where a model never got there."""
    return (float(one.steps), None) if one.reached else (float(cap), "at least")
