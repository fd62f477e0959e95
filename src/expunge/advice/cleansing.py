"""Which way to cleanse a model: candidates tried under a budget, judged without the trigger.

Judged is on clean validation samples, and either on known poison that no try has seen or, where none is
known, by the triggers that inversion finds in the model. The trigger and the test set that will say how
well the choice was made are not there while it is made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from expunge.advice.expected import Expected, Stopwatch
from expunge.advice.trials import in_brackets
from expunge.api import unlearn
from expunge.audits.observe import observe_rows
from expunge.backdoor.inspected import Inspected
from expunge.backdoor.inversion import Inverted, detect_inverted, followed_on
from expunge.data.answer import Answered
from expunge.data.aside import stratified
from expunge.data.parts import Part
from expunge.data.poison import Poisoning
from expunge.data.split import Split
from expunge.errors import ConfigError, DivergenceError, UserError, told
from expunge.methods import Method, make_method
from expunge.names.seeds import numpy_generator
from expunge.place import HERE, Place
from expunge.pruning import make_pruner
from expunge.pruning.original import prune
from expunge.scores.statistics import wilson
from expunge.scores.table import NEAR_EMPTY, WORKS
from expunge.trained.trained import Trained
from expunge.training.run import Run, accelerator_on

SettingsInTurn = tuple[Mapping[str, Any], ...]
_NEGGRAD: SettingsInTurn = ({}, {"alpha": 0.8}, {"alpha": 0.8, "lr": 0.03})
_FINETUNE: SettingsInTurn = ({}, {"lr": 0.03}, {"lr": 0.1})
_CLEAN: Mapping[str, SettingsInTurn] = {
    "fine_pruning": ({}, {"lr": 0.03}, {"lost": 0.1, "lr": 0.03}),
    "l1_sparse": ({}, {"gamma": 2e-3}, {"gamma": 2e-3, "lr": 0.03}),
    "ibau": ({"steps": 20}, {"steps": 20, "radius": 0.3}, {"steps": 50, "lr": 1e-4}),
    "anp": ({"steps": 400}, {"steps": 400, "threshold": 0.5}, {"steps": 400, "threshold": 0.05}),
}
NAMED: Mapping[str, SettingsInTurn] = {
    "ssd": ({}, {"alpha": 3.0}, {"alpha": 1.5}),
    "neggrad_plus": _NEGGRAD,
    "prune+neggrad_plus": _NEGGRAD,
    **_CLEAN,
}
"""What is tried where poison is known: by method, settings one after another."""
UNNAMED: Mapping[str, SettingsInTurn] = {
    "finetune": _FINETUNE,
    "prune+finetune": _FINETUNE,
    **_CLEAN,
}
"""What is tried where none is."""
PRUNED = 0.9
"""Share of the weights that is cut where pruning goes first."""
ASIDE, LEAST = 0.2, 2 * NEAR_EMPTY
"""Share of the clean samples that is set aside to judge by where there are no validation samples, and
the fewest that this is done with."""
STEPS, SMALLEST_BATCH = 16, 16
"""Steps that a pass should have at least, and the fewest samples of one."""
SPARE = 0.25
"""Share of the budget that must be left for a way of which nobody knows what it costs."""
PRICE = 10.0
"""Points of accuracy that a choice may cost at most."""


@dataclass(frozen=True)
class CleansingWay:
    """A way to cleanse: a method with its settings, and the share of weights that is cut before."""

    method: Method
    changed: Mapping[str, Any] = field(default_factory=dict)
    sparsity: float | None = None

    def __str__(self) -> str:
        return f"{self.kind}{in_brackets(self.changed)}"

    @property
    def kind(self) -> str:
        """Its method, and what is done before."""
        first = "" if self.sparsity is None else f"prune {self.sparsity:.0%}, then "
        return f"{first}{self.method.name}"

    def start(self, model: Trained, split: Split, place: Place) -> Trained:
        """The model that the method begins with; pruning reads nothing that is to be forgotten."""
        if self.sparsity is None:
            return model
        pruner = make_pruner("omp", {"sparsity": self.sparsity}, allow_code=False)
        cut = prune(replace(model, split=split.settled()), pruner, place=place, allow_code=False)
        return replace(cut, split=model.split)


@dataclass(frozen=True)
class Outcome:
    """What a way came to.

    way: None of doing nothing. lost: points of accuracy on clean validation samples. left: percent of
    what the backdoor is judged by that still follows it, with the upper end of its interval. failed: why
    nothing came of it.
    """

    way: CleansingWay | None
    seconds: float = 0.0
    lost: float = math.nan
    left: float = math.nan
    most_left: float = math.nan
    failed: str = ""

    @property
    def points(self) -> float:
        """Lower is better: what is left of the backdoor and what was lost of accuracy, together."""
        return math.inf if self.failed else self.left + max(0.0, self.lost)

    @property
    def passes(self) -> bool:
        """Whether the backdoor works on less than half, beyond chance, at no higher price than PRICE."""
        return not self.failed and self.most_left < WORKS and self.lost <= PRICE


@dataclass(frozen=True)
class ChosenWay:
    """What was tried, and which way is best.

    Attributes:
        ground: the model that was cleansed, with validation samples.
        asked: what is to be forgotten, all of it; None where nothing is named.
        judged_by: what the backdoor was judged by, in words.
        before: of doing nothing.
        outcomes: in the order of the tries.
        best: None where none passes.
        untried: ways for which there was no time left.
    """

    ground: Trained
    asked: Answered | None
    judged_by: str
    before: Outcome
    outcomes: tuple[Outcome, ...]
    best: Outcome | None
    untried: tuple[str, ...] = ()

    @property
    def split(self) -> Split:
        """What is to be forgotten of the ground, and what stays."""
        return self.ground.answered(self.asked).split

    def why(self) -> str:
        """Why this one, in a sentence."""
        if self.best is None:
            return (
                "nothing that was tried breaks the backdoor at a price of "
                f"{PRICE:g} points of accuracy or less"
            )
        one = self.best
        return (
            f"chosen: {one.way}, with the fewest points of {len(self.outcomes)} tries: {one.left:.1f} % "
            f"of {self.judged_by} still follow the backdoor ({self.before.left:.1f} % before), and "
            f"{max(0.0, one.lost):.1f} points of accuracy on clean validation samples are lost"
        )


def blinded(original: Trained, asked: Split | Answered | None) -> tuple[Trained, Split]:
    """The model without its trigger and its test set, and what is to be forgotten of it.

    Where it has too few validation samples, a fifth of what it retains is set aside for them, but
    nothing that is named. Poison that nobody knows of stays among the validation samples, too.

    Raises ConfigError where too few would be left.
    """
    split = original.answered(asked).split
    poison = original.data.poison
    gone = set(split.forget)
    if poison is not None and not poison.ids.intersection(split.retain):  # all of it is known
        gone |= poison.ids
    clean = [name for name in split.validation if name not in gone]
    if len(clean) < NEAR_EMPTY:
        kept = np.array([name for name in split.retain if name not in gone])
        if len(kept) < LEAST:
            raise ConfigError(
                f"ways to cleanse are judged on clean validation samples, and {original.name} has "
                f"{len(clean)}, and only {len(kept)} others to set some aside of; give more clean data"
            )
        labels = original.data.train.labels[original.data.train.rows_of(kept.tolist())]
        rows = stratified(labels, ASIDE, numpy_generator("cleansing", "aside"))
        clean = kept[rows].tolist()
        held = set(clean)
        split = replace(
            split,
            retain=tuple(name for name in split.retain if name not in held),
            validation=(*split.validation, *clean),
        )
    target = poison.target if poison is not None else None
    data = original.data
    judged = data.train.subset(np.sort(data.train.rows_of(clean)))
    blind = replace(data, test=judged, poison=Poisoning(frozenset(split.forget), None, target))
    base = replace(split.whole_again(), excluded=split.excluded)
    return replace(original, data=blind, split=base), split


def choose_way(
    original: Trained,
    asked: Split | Answered | None,
    *,
    budget: float,
    known: Collection[str] | None = None,
    seed: int = 0,
    place: Place = HERE,
    tell: Callable[[str], object] = str,
) -> ChosenWay:
    """Try ways to cleanse a model until a budget is spent, and say which is best.

    asked: the poison that is known; half of it is forgotten in the tries and the other half judges them.
    None: none is; then triggers are inverted from the model, and what they still do is the judge.
    budget: seconds, of all tries. known: those asked for that are poisoned for sure, and may judge; all
    by default. tell: called with what it will cost, before.

    Raises ConfigError for a model with too little clean data to judge by.
    """
    quiet = replace(place, strike=False)
    blind, split = blinded(original, asked)
    bench = _bench(blind, split, split.forget if known is None else known, seed, quiet)
    before = bench.judge(Outcome(None), blind)
    ways = list(_ways(len(bench.request.split.retain), named=bool(split.forget)))
    watch = Stopwatch(blind, bench.request, seed, quiet, most=min(60.0, budget / 4))
    costs: dict[str, Expected] = {}
    for way in ways:
        if way.kind not in costs:
            costs[way.kind] = _cost(way, watch)
    tell(_told_costs(costs, budget))
    ways.sort(key=lambda way: costs[way.kind].at_most)  # the cheap ones first
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    untried: list[str] = []
    with place.progress.work("trying", len(ways), unit="ways") as bar:
        for way in ways:
            bar.note(str(way))
            left, needed = budget - (time.perf_counter() - began), costs[way.kind].at_most
            if (SPARE * budget if math.isinf(needed) else needed) > left:
                untried.append(str(way))
            else:
                outcomes.append(bench.attempt(way))
            bar.advance()
    best = min((one for one in outcomes if one.passes), key=lambda one: one.points, default=None)
    ground = replace(original, split=blind.split)
    whole = replace(original.answered(asked), split=split) if split.forget else None
    return ChosenWay(ground, whole, bench.judged_by, before, tuple(outcomes), best, tuple(untried))


def _ways(retained: int, *, named: bool) -> Iterator[CleansingWay]:
    """The first settings of every method, then the second of each, then the third; with smaller batches
    where few samples are retained and nothing else is read.
    """
    size = max(SMALLEST_BATCH, 2 ** int(math.log2(max(1.0, retained / STEPS))))
    table = NAMED if named else UNNAMED
    for place in range(max(map(len, table.values()))):
        for name, settings in table.items():
            first, _, second = name.rpartition("+")
            for changed in settings[place : place + 1]:
                method = make_method(second, changed, allow_code=False)
                alone = method.trains and not method.reads & Part.FORGET
                if alone and getattr(method, "batch_size", 0) > size:
                    changed = {**changed, "batch_size": size}
                    method = make_method(second, changed, allow_code=False)
                yield CleansingWay(method, changed, PRUNED if first else None)


def _cost(way: CleansingWay, watch: Stopwatch) -> Expected:
    """What a way will take, by a rehearsal."""
    try:
        expected = watch.expect(way.method)
    except (UserError, DivergenceError):
        return Expected(None)
    if way.sparsity is None or expected.seconds is None or watch.an_epoch is None:
        return expected
    return replace(expected, seconds=expected.seconds + 10 * watch.an_epoch)


def _told_costs(costs: Mapping[str, Expected], budget: float) -> str:
    each = ", ".join(f"{name} {one}" for name, one in costs.items())
    return f"trying for {budget:g} s at most; one try takes: {each}"


@dataclass(frozen=True)
class _Bench:
    """Where ways are tried and judged.

    request: what the tries forget. held: ids of known poison that judge; triggers: where none is known.
    """

    ground: Trained
    request: Answered
    held: tuple[str, ...]
    triggers: tuple[Inverted, ...]
    seed: int
    place: Place

    @property
    def judged_by(self) -> str:
        """What the backdoor is judged by."""
        if self.held:
            apart = not set(self.held) & set(self.request.split.forget)
            rest = "that were not forgotten" if apart else "that were themselves forgotten"
            return f"{len(self.held):,} known poisoned samples {rest}"
        names = [self.ground.data.classes[one.target] for one in self.triggers]
        return f"clean samples under the trigger that was inverted for class {', '.join(names)}"

    def attempt(self, way: CleansingWay) -> Outcome:
        """One run, judged; a way that fails is no reason to stop."""
        outcome, begin = Outcome(way), time.perf_counter()
        try:
            start = way.start(self.ground, self.request.split, self.place)
            made = unlearn(
                start,
                self.request,
                way.method,
                seed=self.seed,
                place=self.place,
                allow_code=self.place.allow_code,
            )
        except (UserError, DivergenceError) as error:
            return replace(outcome, failed=told(error))
        return self.judge(replace(outcome, seconds=time.perf_counter() - begin), made)

    def judge(self, outcome: Outcome, made: Trained) -> Outcome:
        """With what was lost and what is left."""
        right, count = self._right(made), len(self.ground.data.test)
        lost = 100 * (self._right(self.ground) - right) / count
        if self.held:
            rows = self.ground.data.train.rows_of(self.held)
            seen = observe_rows(
                made.model,
                self.ground.data,
                self.ground.data.train,
                rows,
                self._run,
                "known poison",
            )
            followed, of = int(seen.correct.sum()), len(rows)
        else:
            seen_by = Inspected.of(made, clean=self.ground.data.test, place=self.place)
            counts = [followed_on(seen_by, one, apart=False) for one in self.triggers]
            followed, of = max(counts, key=lambda one: one[0] / max(1, one[1]))
            if not of:
                return replace(
                    outcome, failed="no clean sample of another class is there to judge by"
                )
        return replace(
            outcome, lost=lost, left=100 * followed / of, most_left=100 * wilson(followed, of)[1]
        )

    def _right(self, made: Trained) -> int:
        data = self.ground.data
        rows = np.arange(len(data.test))
        seen = observe_rows(made.model, data, data.test, rows, self._run, "validation samples")
        return int(torch.as_tensor(seen.correct).sum())

    @property
    def _run(self) -> Run:
        return Run(
            task=self.ground.data.task,
            accelerator=accelerator_on(self.place.device),
        )


def _bench(
    ground: Trained, split: Split, known: Collection[str], seed: int, place: Place
) -> _Bench:
    """Half of the known poison is kept out of the tries; of less than 20 all is forgotten and judges."""
    if not split.forget:
        clean = ground.data.train.subset(split.rows(ground.data.train, Part.RETAIN))
        found, triggers = detect_inverted(Inspected.of(ground, clean=clean, seed=seed, place=place))
        if not triggers:
            raise ConfigError(f"no poison is known, and no trigger could be sought: {found.why}")
        order = sorted(triggers, key=lambda one: one.norm)
        chosen = [one for one in order if one.target in found.suspects] or order[:1]
        return _Bench(ground, Answered(split, unnamed=True), (), tuple(chosen), seed, place)
    order = (
        numpy_generator("cleansing", "half")
        .permutation(sorted(set(known).intersection(split.forget)))
        .tolist()
    )
    few = len(order) < 20
    held = tuple(order if few else order[: len(order) // 2])
    given = split
    if not few:
        out = set(held)
        given = replace(
            split,
            forget=tuple(name for name in split.forget if name not in out),
            excluded=tuple(sorted({*split.excluded, *out})),
        )
    return _Bench(ground, Answered(given), held, (), seed, place)
