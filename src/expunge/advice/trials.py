"""Candidates tried with a few settings each, and judged without a retrained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from expunge.advice.checks import check_can_judge, check_enough
from expunge.advice.recommend import Recommendation
from expunge.api import unlearn
from expunge.audits.panel import Panel
from expunge.audits.unseen import held_apart, judged_unseen, reads_on, tested_on, unseen_panel
from expunge.data.parts import Part
from expunge.errors import ConfigError, DivergenceError, UserError, told
from expunge.methods import CONTROLS, Method
from expunge.place import HERE, Place
from expunge.scores.score import Score
from expunge.scores.table import MARGINS
from expunge.training.run import Run, accelerator_on

FACTORS = (1.0, 1 / 3, 3.0)
"""What the tuned setting's default is multiplied by; the default itself is tried first."""
MARGIN_OF = {
    "accuracy_forget": "TA_forget",
    "accuracy_apart": "UA",
    "told_apart": "MIA",
    "accuracy_lost": "TA",
}
"""Term of the criterion -> the score whose margin it must keep, as a verdict has it."""
WORDS = {
    "accuracy_forget": "right on the forget set",
    "accuracy_apart": "accuracy on the forget set off that on unseen samples",
    "told_apart": "losses tell the forget set from unseen samples",
    "accuracy_lost": "accuracy lost on unseen samples",
}


@dataclass(frozen=True)
class Attempt:
    """One setting of a method, tried.

    method: with these settings; None of doing nothing. changed: settings other than the defaults.
    seconds: that it took. score: its criterion, lower is better; None where it failed. beyond: the terms
    of it that are beyond their margins, in words. failed: why nothing came of it.
    """

    method: Method | None
    changed: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    score: Score | None = None
    beyond: tuple[str, ...] = ()
    failed: str = ""

    def __str__(self) -> str:
        name = "nothing done" if self.method is None else self.method.name
        return f"{name}{in_brackets(self.changed)}"

    @property
    def passes(self) -> bool:
        """Whether all terms are within their margins."""
        return self.score is not None and not self.beyond

    @property
    def points(self) -> float:
        """Of the criterion; infinite where there is none."""
        return math.inf if self.score is None or math.isnan(self.score.value) else self.score.value


@dataclass(frozen=True)
class Tried:
    """What came of trying a recommendation's candidates.

    Attributes:
        attempts: in the order in which they were made.
        best: of those that pass the one with the fewest points; None where none passes. `unlearn` with
            its method makes it again.
        before: the original's own criterion: what doing nothing would score.
        untried: settings for which there was no time left.
        controls: what forgets nothing, judged alike; of whole classes.
    """

    attempts: tuple[Attempt, ...]
    best: Attempt | None
    before: Attempt
    untried: int = 0
    controls: tuple[Attempt, ...] = ()

    @property
    def seconds(self) -> float:
        """What all attempts took."""
        return sum(one.seconds for one in (*self.attempts, *self.controls))

    @property
    def equals(self) -> tuple[Attempt, ...]:
        """Controls that pass as the best does, so that the criterion cannot tell them apart."""
        return tuple(one for one in self.controls if self.best is not None and one.passes)


def try_candidates(
    recommendation: Recommendation,
    *,
    budget: float | None = None,
    seed: int = 0,
    place: Place = HERE,
) -> Tried:
    """Run each candidate with a few settings, judge each, and keep the best that passes.

    Judged is as `audits.criterion` says, on validation samples and without a retrained model; an attempt
    passes where each term is within the margin that a verdict has for such a score.
    Beside whole classes stand the controls, which forget nothing: where one of them passes, too, passing
    says little.

    Args:
        recommendation: as `recommend` makes it.
        budget: seconds for all attempts; settings that would take longer than what is left are not
            tried.
        seed: of the runs.
        place: device and progress.

    Raises:
        ConfigError: for a request or a model with too few samples to judge by.
    """
    original, asked = recommendation.original, recommendation.asked
    check_enough(len(asked.split.forget))
    check_can_judge(len(asked.split.validation), original.name)
    bench = _Bench(recommendation, seed, replace(place, strike=False))
    settings = [
        (one, method, changed)
        for factor in range(len(FACTORS))
        for one in recommendation.candidates
        for method, changed in few_settings(one.method)[factor : factor + 1]
    ]
    attempts: list[Attempt] = []
    untried, spent = 0, 0.0
    with place.progress.work("trying", len(settings), unit="settings") as bar:
        for candidate, method, changed in settings:
            bar.note(f"{candidate.name}{in_brackets(changed)}")
            if budget is not None and spent + (candidate.expected.seconds or 0.0) > budget:
                untried += 1
            else:
                attempts.append(bench.attempt(method, changed))
                spent += attempts[-1].seconds
            bar.advance()
    best = min((one for one in attempts if one.passes), key=lambda one: one.points, default=None)
    # a control that does not fit the time left is no loss where the cheap one stands
    controls = [
        bench.attempt(control, {})
        for control in _controls(recommendation)
        if not control.trains or budget is None or spent < budget
    ]
    return Tried(tuple(attempts), best, bench.before(), untried, tuple(controls))


def _controls(recommendation: Recommendation) -> list[Method]:
    """What stands beside the attempts: for whole classes, and where it can be made at all."""
    original = recommendation.original
    if recommendation.kind != "classes" or original.trained_by is not None:
        return []
    made = [control() for control in CONTROLS.values()]
    return [one for one in made if not one.needs_recipe or original.recipe is not None]


def few_settings(method: Method) -> list[tuple[Method, dict[str, Any]]]:
    """A method with its settings, and with its learning rate (or what it says is to be tuned) lower and
    higher; those that it refuses are left out.

    What proves something is run as it is: a proof does not cover the best of several runs.
    """
    name = tuned_setting(type(method)) if method.guarantee == "none" else None
    if name is None:
        return [(method, {})]
    found: list[tuple[Method, dict[str, Any]]] = []
    for factor in FACTORS:
        value = float(f"{getattr(method, name) * factor:.2g}")
        changed = {} if factor == 1 else {name: value}
        try:
            found.append((type(method)(**{**method.model_dump(), **changed}), changed))
        except ConfigError:
            continue
    return found


def tuned_setting(method: type[Method]) -> str | None:
    """The setting that is tried: `lr`, else what makes the method diverge, else another rate, else a
    number that is to be tuned.
    """
    numbers = {
        name: field.description or ""
        for name, field in method.model_fields.items()
        if isinstance(field.default, float) and field.default > 0
    }
    rates = [name for name in numbers if name.endswith("_lr")]
    to_tune = [name for name, what in numbers.items() if "tune it" in what]
    wanted = ["lr", *method.diverges, *rates, *to_tune]
    return next((name for name in wanted if name in numbers), None)


def beyond_margins(score: Score, others: int) -> tuple[str, ...]:
    """Terms of a criterion that are beyond their margins, in words.

    others: samples that the forget set was held against. A margin is never less than one sample, nor,
    of how well losses tell two sets apart, than what chance alone makes of sets of these sizes.
    """
    told = []
    for name, value in score.detail.items():
        few = others if name == "accuracy_lost" else min(score.n, others)
        margin = max(MARGINS[MARGIN_OF[name]], 100 / few)
        if name == "told_apart":  # the AUC of two samples of one distribution, in points
            deviation = math.sqrt((score.n + others + 1) / (12 * score.n * others))
            margin = max(margin, 196 * deviation)
        if not value <= margin:
            told.append(f"{WORDS[name]}: {value:.1f} points, {margin:.1f} allowed")
    return tuple(told)


def in_brackets(changed: Mapping[str, Any]) -> str:
    """` (lr=0.003)`; nothing for the defaults."""
    return (
        f" ({', '.join(f'{name}={value:g}' for name, value in changed.items())})" if changed else ""
    )


class _Bench:
    """Where attempts are made and judged; the original is looked at once."""

    def __init__(self, recommendation: Recommendation, seed: int, place: Place) -> None:
        self.original, self.asked = recommendation.original, recommendation.asked
        self.seed, self.place = seed, place
        self.panels: dict[bool, Panel] = {}

    def panel(self, reads: Part) -> Panel:
        """The original judged like an attempt of a method that reads so."""
        looks = Part.VALIDATION in reads
        if looks not in self.panels:
            split, judged = held_apart(self.original, self.asked.split, reads)
            run = Run(
                names=("audit", self.seed),
                label="audit",
                task=self.original.data.task,
                accelerator=accelerator_on(self.place.device),
                progress=self.place.progress,
            )
            undone = replace(self.original, split=split)
            data = tested_on(judged, self.original)
            self.panels[looks] = unseen_panel(undone, self.original, data, run)
        return self.panels[looks]

    def before(self) -> Attempt:
        """What doing nothing scores."""
        return self.judged(Attempt(None), self.panel(Part.RETAIN))

    def attempt(self, method: Method, changed: dict[str, Any]) -> Attempt:
        """One run, judged; a method that fails is no reason to stop."""
        attempt = Attempt(method, changed)
        try:
            panel = self.panel(reads_on(method, self.original, self.asked.split))
            made = unlearn(
                self.original,
                replace(self.asked, split=panel.split),
                method,
                seed=self.seed,
                place=self.place,
                allow_code=self.place.allow_code,
            )
            subject = replace(made, data=panel.subject.data)
            attempt = replace(attempt, seconds=made.record.cost.seconds)
            return self.judged(attempt, panel.judging(subject))
        except (UserError, DivergenceError) as error:
            return replace(attempt, failed=told(error))

    def judged(self, attempt: Attempt, panel: Panel) -> Attempt:
        """With its criterion."""
        score = judged_unseen(panel)
        kept = panel.outputs.test_kept
        return replace(attempt, score=score, beyond=beyond_margins(score, kept.n if kept else 0))
