"""`recommend`: what is named for a request, what is left out and why, and what a trial keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from commands import expunge, refused
from helpers import CPU, digits
from torch import nn

import expunge as package
from expunge.advice import expected as measured
from expunge.advice.duration import beyond_budget
from expunge.advice.expected import Expected, Stopwatch, in_seconds
from expunge.advice.preference import BY_KIND, CERTIFIED, EXACT, LAST, preferred
from expunge.advice.recommend import Candidate, Recommendation, recommend
from expunge.advice.trials import beyond_margins, few_settings, try_candidates, tuned_setting
from expunge.api import train
from expunge.data.parts import Part
from expunge.errors import ConfigError, SplitError
from expunge.methods import METHODS, Method
from expunge.methods.finetune import Finetune
from expunge.methods.head_zeroed import HeadZeroed
from expunge.methods.retrain import Retrain
from expunge.scores.score import Score
from expunge.trained.record import OUR_STEPS
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

COUNT = 600
SECONDS = {
    "retrain": 100.0,
    "unsir": 5.0,
    "neggrad_plus": 30.0,
    "finetune": 10.0,
    "l1_sparse": 12.0,
}


@pytest.fixture(scope="module")
def model() -> Trained:
    """A model that has learned digits well enough for a class to be missed."""
    recipe = Recipe(epochs=12, lr=0.05, batch_size=64)
    return train(digits(COUNT), "mlp", recipe=recipe, place=CPU)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, float | None]], None]:
    """`told({name: seconds})`: what rehearsals say, so that nothing is measured."""

    def tell(seconds: Mapping[str, float | None]) -> None:
        monkeypatch.setattr(
            Stopwatch, "expect", lambda _, method: Expected(seconds.get(method.name, 20.0))
        )

    tell(SECONDS)
    return tell


def names(found: Recommendation) -> list[str]:
    return [one.method.name for one in found.candidates]


# --- the table of preferences


def test_every_name_is_a_method_of_ours_and_every_reason_a_short_one() -> None:
    tables = [EXACT, CERTIFIED, *BY_KIND.values()]
    for table in tables:
        assert set(table) <= set(OUR_STEPS) - {"train", "import", "prune", LAST}
        for name, why in table.items():
            assert 20 < len(why) < 80 and not why.endswith(".") and why[0].islower(), name
    for kind, table in BY_KIND.items():
        there = [METHODS[name] for name in table if name in METHODS]
        scopes = {method.scope for method in there}
        assert scopes <= ({"any", "class"} if kind == "classes" else {"any", "random"}), kind


def test_a_guarantee_leaves_those_that_prove_it() -> None:
    assert list(preferred("classes", "exact")) == ["sisa"]
    assert list(preferred("samples", "certified")) == ["sisa", *CERTIFIED]
    assert list(preferred("tiny", "none"))[:2] == ["sisa", "ssd"]


# --- what is named


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("forget", "kind"), [("class:3", "classes"), ("random:0.2", "samples"), ("indices:0,1", "tiny")]
)
def test_the_first_three_that_fit_are_named_in_the_order_of_the_table(
    model: Trained, forget: str, kind: Any
) -> None:
    found = recommend(model, forget, place=CPU)
    fit = [name for name in BY_KIND[kind] if name in METHODS]
    assert found.kind == kind and names(found) == fit[:3]
    assert found.retrain is not None and found.retrain.expected.seconds == 100
    assert all(one.why == BY_KIND[kind][one.name] for one in found.candidates)
    assert str(found).count("\n") >= 3 and "s  exact: a new model" in str(found)


def test_what_takes_longer_than_the_budget_is_left_out_and_said(model: Trained, told: Any) -> None:
    told({**dict.fromkeys(METHODS, 40.0), **SECONDS})
    found = recommend(model, "class:3", budget=8.0, place=CPU)
    assert names(found) == ["unsir"]
    assert found.left_out["neggrad_plus"] == "would take 30 s, more than the 8 s of the budget"
    assert found.retrain is not None, "retraining is always named"
    assert "Retraining is beyond the budget of 8 s." in found.notes


def test_what_takes_longer_than_retraining_is_left_out(model: Trained, told: Any) -> None:
    told({**dict.fromkeys(METHODS, 9.0), "retrain": 8.0, "unsir": 5.0})
    found = recommend(model, "class:3", place=CPU)
    assert names(found) == ["unsir"]
    assert "retraining, which is exact, 8.0 s" in found.left_out["neggrad_plus"]
    assert any("less than 2 times" in note for note in found.notes)
    told(dict.fromkeys(METHODS, 9.0))
    none = recommend(model, "class:3", place=CPU)
    assert not none.candidates and any("retrain." in note for note in none.notes)


@pytest.mark.usefixtures("told")
def test_an_exact_result_is_retraining_where_no_method_gives_one(model: Trained) -> None:
    found = recommend(model, "class:3", guarantee="exact", place=CPU)
    assert not found.candidates and found.retrain is not None
    assert any("No method but retraining is exact" in note for note in found.notes)


def test_a_model_without_a_recipe_cannot_be_retrained_and_why_is_said(model: Trained) -> None:
    found = recommend(replace(model, recipe=None), "random:0.2", guarantee="exact", place=CPU)
    assert found.retrain is None
    assert "import it with --recipe" in found.left_out["retrain"]
    (note,) = found.notes
    assert note.startswith(
        "No method is exact for this model and request, and it cannot be retrained"
    )
    assert "Import it with --recipe" in note
    bare = replace(model, recipe=None)
    assert "euk" not in names(recommend(bare, "random:0.2", place=CPU))


class ReadsValidation(Finetune):
    """Fine-tuning of somebody else's, which looks at validation samples."""

    name: ClassVar[str] = "euk"
    reads: ClassVar[Part] = Part.RETAIN | Part.VALIDATION


class WholeClasses(Finetune):
    """Fine-tuning of somebody else's, for whole classes."""

    name: ClassVar[str] = "scrub"
    scope: ClassVar[Any] = "class"


@pytest.mark.usefixtures("told")
def test_what_a_method_lacks_is_said(model: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    for most in ("WANTED", "MOST_LOOKED_AT"):
        monkeypatch.setattr(f"expunge.advice.recommend.{most}", 20)
    others = {"euk": ReadsValidation, "scrub": WholeClasses}
    own = {**package.METHODS, **others}
    monkeypatch.setattr("expunge.advice.recommend.ALL_METHODS", Methods(own))
    bare = replace(model, split=replace(model.split, validation=()))
    found = recommend(bare, "random:0.2", place=CPU)
    assert "--validation" in found.left_out["euk"]
    assert "forgets whole classes only" in found.left_out["scrub"]
    assert "euk" in names(recommend(model, "random:0.2", place=CPU))


@pytest.mark.usefixtures("told")
def test_what_forgets_from_what_it_kept_is_named_for_its_own_models_alone(model: Trained) -> None:
    asked = recommend(model, "random:0.2", guarantee="certified", place=CPU)
    assert "was trained without a method" in asked.left_out["sisa"]
    assert not {"sisa", "certified_head"} & {*names(asked)}
    plain = recommend(model, "random:0.2", place=CPU)
    assert "sisa" not in {*names(plain), *plain.left_out}, "of which nobody asked"
    own = METHODS["sisa"](shards=2)
    made = recommend(replace(model, trained_by=own), "random:0.2", place=CPU)
    assert names(made) == ["sisa"] and made.candidates[0].method == own and not made.left_out
    assert made.retrain is not None
    head = replace(model, trained_by=METHODS["certified_head"]())
    assert not names(recommend(head, "random:0.2", guarantee="exact", place=CPU))
    assert names(recommend(head, "random:0.2", place=CPU)) == ["certified_head"]


def test_no_comparison_is_made_false_by_rounding() -> None:
    told = [beyond_budget(*pair) for pair in ((0.05, 0.01), (8.04, 8.0), (30.0, 8.0))]
    assert told == [
        "would take 0.05 s, more than the 0.01 s of the budget",
        "would take 8.0 s, slightly more than the 8 s of the budget",
        "would take 30 s, more than the 8 s of the budget",
    ]


class Methods:
    """A catalogue of these alone."""

    def __init__(self, own: Mapping[str, type[Method]]) -> None:
        self.own = own

    def names(self) -> tuple[str, ...]:
        return tuple(self.own)

    def find(self, name: str, *, allow_code: bool) -> type[Method]:
        assert not allow_code
        return self.own[name]


def test_what_cannot_be_meant_is_refused(model: Trained) -> None:
    with pytest.raises(ConfigError, match="budget = 0"):
        recommend(model, "class:3", budget=0, place=CPU)
    with pytest.raises(ConfigError, match="did you mean 'exact'"):
        recommend(model, "class:3", guarantee="exat", place=CPU)
    with pytest.raises(ConfigError, match="`adopt`"):
        recommend(model.model, "class:3", place=CPU)  # type: ignore[arg-type]
    with pytest.raises(SplitError, match="no class"):
        recommend(model, "class:33", place=CPU)


# --- how seconds are found


class Keeps(Method):
    """Needs what it finds of each sample, so it cannot be cut short."""

    name: ClassVar[str] = "keeps"
    paper: ClassVar[str] = "none"
    reads: ClassVar[Part] = Part.RETAIN
    seen: ClassVar[list[int]] = []
    always: ClassVar[bool] = False

    epochs: int = 7

    def unlearn(self, model: nn.Module, data: Any, run: Any) -> nn.Module:
        found = [name for batch in data.batches(Part.RETAIN, 16) for name in batch.ids]
        self.seen.append(len(found))
        if self.always or len(found) < data.size(Part.RETAIN):
            raise KeyError(found[0])
        return model


class NeverTells(Keeps):
    """Fails whatever happens."""

    always: ClassVar[bool] = True


@pytest.fixture
def watch(model: Trained, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stopwatch]:
    monkeypatch.setattr(measured, "ENOUGH_SECONDS", 0.0)
    Keeps.seen.clear()
    yield Stopwatch(model, model.answered("random:0.2"), place=CPU)


def test_a_method_that_needs_whole_passes_is_rehearsed_with_these(watch: Stopwatch) -> None:
    found = watch.expect(Keeps())
    assert not found.rough and found.seconds is not None
    retained = len(watch.asked.split.retain)
    assert len(Keeps.seen) == 2 and Keeps.seen[0] < Keeps.seen[1] == retained


def test_a_method_that_cannot_be_rehearsed_is_guessed_by_its_passes(watch: Stopwatch) -> None:
    watch.__dict__["an_epoch"] = 3.0
    found = watch.expect(NeverTells())
    assert (found.seconds, found.rough) == (21.0, True) and "KeyError" in found.failed
    assert str(found) == "roughly 21 s"


class CountsOtherwise(Method):
    """Fails too, and counts in no epochs what it takes."""

    name: ClassVar[str] = "counts_otherwise"
    paper: ClassVar[str] = "none"
    reads: ClassVar[Part] = Part.RETAIN

    rounds: int = 8

    def unlearn(self, model: nn.Module, data: Any, run: Any) -> nn.Module:
        raise KeyError("rounds")


def test_of_a_method_that_counts_in_no_epochs_nothing_is_guessed(watch: Stopwatch) -> None:
    watch.__dict__["an_epoch"] = 3.0
    assert watch.expect(CountsOtherwise()).seconds is None
    assert watch._guessed(Retrain()).seconds == 12 * 3.0


def test_nothing_is_rehearsed_when_the_time_for_it_is_spent(model: Trained) -> None:
    times = iter([0.0, *[5.0] * 9])
    watch = Stopwatch(
        model, model.answered("random:0.2"), place=CPU, most=4.0, clock=lambda: next(times)
    )
    watch.__dict__["an_epoch"] = 3.0
    assert watch.expect(Finetune(epochs=4)) == Expected(12.0, rough=True)


def test_retraining_tells_how_long_an_epoch_is(watch: Stopwatch) -> None:
    found = watch.expect(Retrain())
    assert found.seconds is not None and watch.an_epoch == found.seconds / 12
    assert str(Expected(None)) == "unknown"
    told = [in_seconds(s) for s in (0.01, 3.14159, 42.4, 1800, 9000)]
    assert told == ["under 0.1 s", "3.1 s", "42 s", "30 min", "2.5 h"]


# --- trials


class Certified(Finetune):
    """Fine-tuning of somebody else's, which proves something."""

    name: ClassVar[str] = "certified"
    guarantee: ClassVar[str] = "certified(epsilon, delta)"


def tried_with(model: Trained, forget: str, *methods: Method, **fields: Any) -> Any:
    asked = model.answered(forget)
    found = tuple(Candidate(one, Expected(1.0), "") for one in methods)
    advice = Recommendation(model, asked, "classes", found, None, {}, (), 0.0)
    return try_candidates(advice, place=CPU, **fields)


def test_the_best_that_passes_is_kept_and_doing_nothing_stands_beside(model: Trained) -> None:
    tried = tried_with(model, "class:3", Finetune(epochs=1, lr=1e-4), HeadZeroed())
    assert [str(one) for one in tried.attempts] == [
        "finetune",
        "head_zeroed",
        "finetune (lr=3.3e-05)",
        "finetune (lr=0.0003)",
    ]
    assert str(tried.best) == "head_zeroed" and tried.best.points < 2
    assert [str(one) for one in tried.controls] == ["head_zeroed", "last_epoch"]
    assert [str(one) for one in tried.equals] == ["head_zeroed"]
    assert tried.before.points > 50 and not tried.before.passes
    assert "right on the forget set" in tried.attempts[0].beyond[0]


def test_where_nothing_passes_nothing_is_the_best(model: Trained) -> None:
    tried = tried_with(model, "class:3", Finetune(epochs=1, lr=1e-4))
    assert tried.best is None and len(tried.attempts) == 3


def test_a_trial_that_fails_is_no_reason_to_stop(model: Trained) -> None:
    tried = tried_with(model, "class:3", Finetune(epochs=1, lr=1e9), HeadZeroed())
    assert "diverged" in tried.attempts[0].failed and tried.attempts[0].score is None
    assert str(tried.best) == "head_zeroed"


def test_the_budget_ends_the_trials(model: Trained) -> None:
    tried = tried_with(model, "class:3", Finetune(epochs=1), HeadZeroed(), budget=0.5)
    assert not tried.attempts and tried.untried == 4 and tried.best is None


def test_too_few_samples_are_nothing_to_judge_by(model: Trained) -> None:
    with pytest.raises(ConfigError, match=r"so few samples to forget \(1; 30 are needed\)"):
        tried_with(model, "indices:0,1", Finetune())
    bare = replace(model, split=replace(model.split, validation=()))
    with pytest.raises(ConfigError, match=r"has none; import it with --validation ids:FILE"):
        tried_with(bare, "class:3", Finetune())
    few = replace(model, split=replace(model.split, validation=model.split.validation[:5]))
    with pytest.raises(ConfigError, match=r"has only \d of them"):
        tried_with(few, "class:3", Finetune())


def test_margins_are_those_of_a_verdict_and_never_less_than_chance() -> None:
    def beyond(n: int, others: int, **terms: float) -> tuple[str, ...]:
        return beyond_margins(Score("criterion", 0, n, None, None, "points", "low", terms), others)

    assert not beyond(1000, 1000, accuracy_forget=5.0, accuracy_lost=2.0)
    assert len(beyond(1000, 1000, accuracy_forget=5.1, accuracy_lost=2.1)) == 2
    assert not beyond(1000, 40, accuracy_lost=2.5), "one sample of 40"
    assert beyond(1000, 1000, told_apart=5.1) and not beyond(50, 50, told_apart=11.0)
    assert beyond(50, 50, told_apart=12.0)
    assert beyond(1000, 1000, accuracy_forget=float("nan"))


def test_the_setting_that_is_tried_is_the_rate_or_what_drives_the_method() -> None:
    found = {name: tuned_setting(method) for name, method in METHODS.items()}
    wanted = {"finetune": "lr", "unsir": "impair_lr", "influence": "alpha", "fisher": "alpha"}
    assert {name: found[name] for name in wanted} == wanted
    assert few_settings(Certified()) == [(Certified(), {})]
    assert tuned_setting(HeadZeroed) is None and few_settings(HeadZeroed()) == [(HeadZeroed(), {})]
    assert [changed for _, changed in few_settings(Finetune())] == [
        {},
        {"lr": 0.0033},
        {"lr": 0.03},
    ]


# --- the command


@pytest.fixture(scope="module")
def folders(model: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommend")
    model.save(folder / "original")
    bare = replace(model, split=replace(model.split, validation=()))
    bare.save(folder / "bare")
    return folder


@pytest.mark.usefixtures("told")
def test_the_command_names_methods_with_commands_that_run_them(folders: Path) -> None:
    done = expunge("recommend", "original", "--forget", "class:3", "--seed", "2", cwd=folders)
    assert re.search(r"delete +20 s +none +reads the class alone", done.stdout)
    line = (
        "expunge unlearn original --forget class:3 --seed 2 --method delete --out original-forgot"
    )
    assert line in done.stdout.splitlines()
    assert "tuned to no model" in done.stdout and "--try --out FOLDER" in done.stdout
    assert not (folders / "original-forgot").exists()


@pytest.mark.usefixtures("told")
def test_the_command_tries_and_writes_the_best(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge.advice.recommend.preferred", lambda *_: {"head_zeroed": "quick"})
    asked = ("recommend", "original", "--forget", "class:3", "--try", "--out", "best")
    done = expunge(*asked, cwd=folders)
    assert "yes, the best; head_zeroed passes too" in " ".join(done.stdout.split())
    assert "nothing done" in done.stdout and "control: head_zeroed" in done.stdout
    assert "A control that forgets nothing passes too (head_zeroed)" in done.stdout
    assert "audit best --original original --also relearn_time" in done.stdout
    assert "retraining, which is exact, would have taken 100 s" in done.stdout
    made = package.load(folders / "best")
    assert made.record.step == "head_zeroed" and len(made.split.forget) > 30


@pytest.mark.usefixtures("told")
def test_the_command_writes_nothing_where_nothing_passes(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge.advice.recommend.preferred", lambda *_: {"finetune": "plain"})
    asked = ("recommend", "original", "--forget", "class:3", "--try", "--out", "none")
    done = expunge(*asked, cwd=folders, ok=False)
    assert done.returncode == 1 and not (folders / "none").exists()
    assert "Nothing that was tried passes, and nothing was written." in done.stdout
    line = "expunge unlearn original --forget class:3 --method retrain --out none"
    assert line in done.stdout.splitlines()


def test_no_table_is_shown_without_rows_and_the_remedy_is(
    model: Trained, tmp_path: Path, told: Any
) -> None:
    told({})
    replace(model, recipe=None).save(tmp_path / "bare")
    done = expunge("recommend", "bare", "--forget", "class:3", "--guarantee", "exact", cwd=tmp_path)
    assert "would take" not in done.stdout and "to forget 55 of 540 samples" in done.stdout
    assert "cannot be retrained. Import it with --recipe FILE" in " ".join(done.stdout.split())
    assert "tuned to no model" not in done.stdout


def test_trials_without_validation_samples_are_refused_at_once(folders: Path) -> None:
    line = refused(
        *("recommend", "bare", "--forget", "class:3", "--try", "--out", "x"), cwd=folders
    )
    assert "has none; import it with --validation ids:FILE" in line
