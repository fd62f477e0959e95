"""`recommend`: the methods that fit a request to a model, and what each would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.advice.checks import check_budget, known_guarantee
from expunge.advice.duration import beyond_budget, in_seconds
from expunge.advice.expected import MOST_ALL, Expected, Stopwatch
from expunge.advice.preference import LAST, Guarantee, RequestKind, of_its_own, preferred
from expunge.data.answer import Answered
from expunge.data.load import Data
from expunge.data.split import Split
from expunge.errors import ConfigError, DivergenceError, SplitError, UserError, told
from expunge.methods import ALL_METHODS, METHODS, Method, method_name
from expunge.methods.card import method_card
from expunge.methods.needs import check_supplied
from expunge.methods.scope import check_split
from expunge.methods.taking_part import as_trained
from expunge.place import HERE, Place
from expunge.scores.table import NEAR_EMPTY
from expunge.scores.verdict import CHEAP
from expunge.trained.trained import Trained
from expunge.training.run import accelerator_on

WANTED, MOST_LOOKED_AT = 3, 6
"""Methods that are named, and that are rehearsed for it at most."""
IN_WORDS: Mapping[RequestKind, str] = {
    "classes": "whole classes",
    "samples": "samples of classes that stay",
    "tiny": f"fewer than {NEAR_EMPTY} samples",
}


@dataclass(frozen=True)
class Candidate:
    """A method that fits. why: in a sentence. use, avoid: what its card says of when to take it."""

    method: Method
    expected: Expected
    why: str
    use: str = ""
    avoid: str = ""

    @property
    def name(self) -> str:
        """Of the method, as `--method` takes it."""
        return method_name(self.method)


@dataclass(frozen=True)
class Recommendation:
    """What fits a request to a model, with its default settings; printed, a short table.

    Attributes:
        original, asked: the model and the request.
        kind: of the request: "classes", "samples" or "tiny".
        candidates: methods that fit, the first one first; at most three.
        retrain: retraining, the exact way; None where this model cannot be retrained.
        left_out: methods that were looked at and do not fit, and why.
        notes: what else should be known, one sentence each.
        spent: seconds that it took to find out.
    """

    original: Trained
    asked: Answered
    kind: RequestKind
    candidates: tuple[Candidate, ...]
    retrain: Candidate | None
    left_out: Mapping[str, str]
    notes: tuple[str, ...]
    spent: float

    def __str__(self) -> str:
        rows = [*self.candidates, *([self.retrain] if self.retrain else [])]
        lines = [f"{one.name:16} {one.expected!s:>14}  {one.why}" for one in rows]
        lines += [f"left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join([self.headline, *lines, *self.notes])

    @property
    def headline(self) -> str:
        """What was asked, in a line."""
        split = self.asked.split
        return (
            f"to forget {len(split.forget):,} of {len(split.forget) + len(split.retain):,} samples: "
            f"{IN_WORDS[self.kind]}"
        )


def recommend(
    original: Trained,
    forget: Any,
    *,
    budget: float | None = None,
    guarantee: str = "none",
    seed: int = 0,
    forget_seed: int = 0,
    place: Place = HERE,
) -> Recommendation:
    """Name up to three methods for a request, and retraining, each with the seconds that it would take.

    They are chosen by what they are made for and what they prove, in a fixed order, and each is
    rehearsed on a copy of the model: a few steps of each kind, the rest counted. Nothing is forgotten.

    Args:
        original: the model.
        forget: what it is to forget, as `unlearn` takes it.
        budget: seconds; what would take longer is left out, and measuring takes no more than that.
        guarantee: what must be proved: "none", "certified" or "exact"; a stronger one will do.
        seed: of the runs.
        forget_seed: of a random request.
        place: device and progress.

    Raises:
        SplitError: for a request that cannot be met.
        ConfigError: for settings that do not fit, and under several processes.
    """
    if not isinstance(original, Trained):
        raise ConfigError(
            f"the model that is to forget is what `train`, `adopt` or `load` made, not {original!r}"
        )
    proof = known_guarantee(guarantee)
    check_budget(budget)
    if accelerator_on(place.device).num_processes > 1:
        raise ConfigError(
            "recommend measures in one process; run it without torchrun, and give the method that it "
            "names to torchrun"
        )
    asked = original.answered(forget, seed=forget_seed)
    if not asked.split.forget:
        raise SplitError("the request has nothing to forget; name some samples")
    kind = request_kind(asked.split, original.data)
    own = original.trained_by
    reasons = preferred(kind, proof) if own is None else of_its_own(own, proof)
    watch = Stopwatch(original, asked, seed, place, min(MOST_ALL, budget or MOST_ALL))
    search = _Search(watch, budget, proof, kind)
    names = [name for name in reasons if own is not None or name in ALL_METHODS.names()]
    with place.progress.work("measuring", 1 + len(names), unit="methods") as bar:
        bar.note(LAST)
        search.look_at_retraining()
        for name in names:
            bar.advance(name)
            if len(search.found) == WANTED or search.looked_at == MOST_LOOKED_AT:
                break
            search.look_at(name, reasons[name])
    return Recommendation(
        original,
        asked,
        kind,
        tuple(search.found),
        search.retrain,
        search.left_out,
        tuple(_notes(search, proof)),
        watch.spent,
    )


def request_kind(split: Split, data: Data) -> RequestKind:
    """What kind of request a split is."""
    if split.only_whole_classes(data):
        return "classes"
    return "tiny" if len(split.forget) < NEAR_EMPTY else "samples"


class _Search:
    """Candidates as they are found."""

    def __init__(
        self, watch: Stopwatch, budget: float | None, guarantee: Guarantee, kind: RequestKind
    ) -> None:
        self.watch, self.budget, self.guarantee, self.kind = watch, budget, guarantee, kind
        self.found: list[Candidate] = []
        self.retrain: Candidate | None = None
        self.left_out: dict[str, str] = {}
        self.looked_at = 0

    def look_at_retraining(self) -> None:
        """Retraining is named whatever it takes, for all else is measured by it."""
        try:
            method = self._fitting(LAST)
            expected = self.watch.expect(method)
        except (UserError, DivergenceError) as error:
            self.left_out[LAST] = told(error)
            return
        why = "exact: a new model that never saw the samples"
        card = method_card(type(method))
        self.retrain = Candidate(method, expected, why, card.use, card.avoid)

    def look_at(self, name: str, why: str) -> None:
        """Take a method up, or say why not."""
        try:
            method = self._fitting(name)
            self.looked_at += 1
            expected = self.watch.expect(method)
        except (UserError, DivergenceError) as error:
            if self.guarantee != "none" or _is_ordinary(name):
                self.left_out[name] = told(error)
            return
        reason = self._too_long(expected)
        if reason:
            self.left_out[name] = reason
            return
        card = method_card(type(method))
        self.found.append(Candidate(method, expected, why, card.use, card.avoid))

    def _fitting(self, name: str) -> Method:
        """A method as it would forget from this model.

        Raises UserError for what is known before a rehearsal: it did not train the model or another one
        did, its scope, and what it needs.
        """
        original, split = self.watch.original, self.watch.asked.split
        own = original.trained_by
        method = own if own is not None and own.name == name else None
        method = method or ALL_METHODS.find(name, allow_code=False)()
        method = as_trained(method, own, original.name)
        check_split(method, original.data, split)
        check_supplied(
            method,
            original.recipe,
            len(split.validation),
            original.name,
            whole_classes=lambda: self.kind == "classes",
        )
        return method

    def _too_long(self, expected: Expected) -> str:
        """Why a method is too dear; empty where it is not."""
        if expected.seconds is None:
            return ""
        if self.budget is not None and expected.seconds > self.budget:
            return beyond_budget(expected.seconds, self.budget, rough=expected.rough)
        exact = self.retrain and self.retrain.expected.seconds
        if exact and not expected.rough and expected.seconds >= exact:
            return f"would take {expected}, and retraining, which is exact, {in_seconds(exact)}"
        return ""


def _is_ordinary(name: str) -> bool:
    """Whether a method is for any model; of one that needs a model made for it nobody is told that it
    does not fit, unless a guarantee is asked for.
    """
    method = METHODS.get(name)
    return method is None or method.guarantee == "none"


def _remedy(search: _Search) -> str:
    """What makes retraining possible."""
    if search.watch.original.recipe is None:
        return "Import it with --recipe FILE, which says how it was trained: then it can be."
    return "Mend what stands in the way of retraining, or train a new model (expunge train)."


def _notes(search: _Search, guarantee: Guarantee) -> Sequence[str]:
    """What else should be known."""
    notes = []
    exact = None if search.retrain is None else search.retrain.expected.seconds
    times = [one.expected.seconds for one in search.found if one.expected.seconds is not None]
    if exact is not None and times and exact < CHEAP * min(times):
        notes.append(
            f"Retraining takes less than {CHEAP:g} times as long as any of these methods, and is exact: "
            "retrain."
        )
    beyond = exact is not None and search.budget is not None and exact > search.budget
    if exact is not None and not search.found and guarantee == "none" and not beyond:
        notes.append("No method is left that is quicker than retraining, which is exact: retrain.")
    if beyond and search.budget is not None:
        notes.append(f"Retraining is beyond the budget of {search.budget:g} s.")
    if not search.found and guarantee != "none" and search.retrain is not None:
        notes.append(f"No method but retraining is {guarantee} for this model and request.")
    if not search.found and search.retrain is None:
        fits = "fits" if guarantee == "none" else f"is {guarantee} for"
        notes.append(
            f"No method {fits} this model and request, and it cannot be retrained. {_remedy(search)}"
        )
    if any(one.expected.rough for one in search.found):
        notes.append(
            "roughly: the method could not be rehearsed in time, or at all; its epochs were counted, "
            "each for one of plain training."
        )
    notes += [
        f"{one.name}: its rehearsal failed ({one.expected.failed})"
        for one in search.found
        if one.expected.failed
    ]
    return notes
