"""Tuning: equal budgets, a seed that is not reported, validation samples, and the best of the trials."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.study import work
from expunge.study.launch import planned, run_study
from expunge.study.results import results
from expunge.study.schema import Study
from expunge.study.tuning import Trial, TuningSearch, chosen, gap_of, sentences

RATES = [1e-4, 1e-2, 1e9]


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "tuned",
        "data": ["digits:200"],
        "models": ["mlp"],
        "recipes": {"quick": {"epochs": 3, "lr": 0.05, "batch_size": 32}},
        "scenarios": ["class", "random:0.2"],
        "seeds": [0],
        "floor": False,
        "methods": {"finetune": {"epochs": 1}, "ascent": {"method": "gradient_ascent"}},
        "tuning": {
            "seed": 7,
            "trials": 3,
            "methods": {"ascent": {"lr": RATES}, "finetune": {"lr": [0.01, 0.05, 0.1]}},
        },
    }
    return Study.model_validate({**given, **changes})


def test_the_smallest_gap_on_the_tuning_seed_is_chosen(tmp_path: Path) -> None:
    first = planned(study(), tmp_path / "out")
    assert not first.tuned and not first.rows
    assert {cell.seed for cell in first.cells} == {7}
    made = run_study(first)
    assert made.tuned
    assert len(made.searches) == 2 * 2, "two methods in two scenarios"
    for search in made.searches:
        assert search.budget == len(search.trials) == 3
        best = search.best
        assert best is not None and best.gap == min(
            t.gap for t in search.trials if t.gap is not None
        )
        rows = [
            row for row in made.rows if (row.setting, row.method) == (search.setting, search.label)
        ]
        for row in rows:
            settings = made.store.read(row.cell)["config"]["settings"]
            assert {name: settings[name] for name in best.fields} == best.fields
    diverged = [
        t for s in made.searches if s.label == "ascent" for t in s.trials if t.fields["lr"] == 1e9
    ]
    assert [trial.gap for trial in diverged] == [math.inf, math.inf], "and the study went on"
    frame = results(made.rows, made.store)
    assert set(frame["seed"]) == {0}, "the tuning seed is not reported"
    assert set(frame["method"]) == {"original", "retrain", "finetune", "ascent"}
    told = sentences(made.study, made.searches)
    assert len(told) == 4
    assert all("the best of 3 by grid on seed 7" in line for line in told)
    again = planned(study(), tmp_path / "out")
    assert again.tuned and again.counts().waiting == 0


def test_trials_are_judged_on_validation_samples_and_never_on_the_test_set(tmp_path: Path) -> None:
    made = run_study(planned(study(), tmp_path / "out"))
    data = load_data("digits:200")
    held = Split.whole(data).rows(data.train, Part.VALIDATION)
    trials = [c for c in made.cells if c.config.get("on") == "validation" and c.kind == "unlearn"]
    assert trials
    for cell in trials:
        if not made.store.done(cell.key):
            continue
        scores = {s["name"]: s for s in made.store.read(cell.key)["scores"]}
        counted = scores["TA"]["n"] + (scores["TA_forget"]["n"] if "TA_forget" in scores else 0)
        # a forgotten class's validation samples are struck with it
        assert counted <= len(held) < len(data.test)
    reported = [c for c in made.cells if "on" not in c.config and c.kind == "retrain"]
    for cell in reported:
        scores = {s["name"]: s for s in made.store.read(cell.key)["scores"]}
        counted = scores["TA"]["n"] + (scores["TA_forget"]["n"] if "TA_forget" in scores else 0)
        assert counted == len(data.test)


def test_the_gap_by_hand(tmp_path: Path) -> None:
    made = run_study(planned(study(), tmp_path / "out"))
    search = next(s for s in made.searches if s.label == "finetune")
    retrain = next(
        c
        for c in made.cells
        if c.kind == "retrain"
        and c.config.get("on") == "validation"
        and c.config["scenario"] == made.store.read(search.trials[0].cell)["config"]["scenario"]
    )
    ours, theirs = (
        {s["name"]: s["value"] for s in made.store.read(key)["scores"]}
        for key in (search.trials[0].cell, retrain.key)
    )
    by_hand = np.mean([abs(ours[name] - theirs[name]) for name in ("UA", "RA", "TA", "MIA")])
    assert search.trials[0].gap == pytest.approx(by_hand)
    assert gap_of("nobody", retrain.key, made.store) is None


def test_where_all_trials_fail_the_study_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = {"seed": 7, "trials": 2, "methods": {"ascent": {"lr": [1e8, 1e9]}}}
    with pytest.raises(ConfigError, match=r"tuning ascent .*: all 2 trials failed"):
        run_study(planned(study(tuning=tuning), tmp_path / "out"))


def test_a_lost_reference_of_the_tuning_seed_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = work.do_cell

    def broken(cell: Any, bench: Any) -> None:
        if cell.kind == "retrain":
            raise RuntimeError("lost")
        real(cell, bench)

    monkeypatch.setattr("expunge.study.runner.do_cell", broken)
    with pytest.raises(ConfigError, match="trials failed"):
        run_study(planned(study(), tmp_path / "out"))


def test_a_lost_reference_is_trained_again_by_the_next_run(tmp_path: Path) -> None:
    """A failure is told with its reason, it can be looked at, and it locks nothing."""
    real = work.do_cell

    def broken(cell: Any, bench: Any) -> None:
        if cell.kind == "retrain":
            raise OSError("no space left on device")
        real(cell, bench)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.study.runner.do_cell", broken)
        with pytest.raises(ConfigError, match=r"trials failed \(OSError: no space left on device"):
            run_study(planned(study(), tmp_path / "out"))
    looked = planned(study(), tmp_path / "out")
    assert not looked.tuned and not looked.rows and looked.counts().failed == 4, "two diverge"
    assert sentences(looked.study, looked.searches) == []
    made = run_study(looked)
    assert made.tuned and all(made.store.done(row.cell) for row in made.rows)


def test_what_speaks_against_an_optimum_is_told() -> None:
    setting = ("d", "m", "r", "dense", "class")

    def told(gaps: list[float]) -> str:
        trials = [Trial({"lr": r}, str(r), g) for r, g in zip(RATES, gaps, strict=True)]
        return sentences(study(), [TuningSearch(setting, "ascent", tuple(trials), 3)])[0]

    assert told([3.0, 1.0, 2.0]).endswith("average gap 1.00 on validation samples")
    assert told([1.0, 3.0, math.inf]).endswith(
        "; 1 of the trials failed; lr at the end of what was tried: the best may lie beyond"
    )


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({"seed": 0}, "seed 0 is among the seeds that are reported"),
        ({"trials": 4}, "its grid has 3 points, and every method gets 4 trials"),
        ({"methods": {"ascent": {"rate": RATES}}}, "no setting 'rate'"),
        ({"methods": {"ascend": {"lr": RATES}}}, "no method 'ascend', did you mean 'ascent'"),
        (
            {"methods": {"ascent": {"lr": {"low": 1e-5, "high": 1}}}},
            "a grid needs a list of values",
        ),
        ({"search": "optuna", "methods": {"ascent": {"lr": {"low": 1}}}}, "write lr as a list"),
        (
            {"search": "optuna", "methods": {"ascent": {"lr": {"low": 0.1, "high": 0.01}}}},
            "low 0.1 must be a number below high 0.01",
        ),
        (
            {"search": "optuna", "methods": {"ascent": {"lr": {"low": 0, "high": 1, "log": True}}}},
            "on a logarithmic scale low must be above 0",
        ),
        (
            {"search": "optuna", "methods": {"finetune": {"epochs": {"low": 1, "high": 2.5}}}},
            "epochs is a whole number; high 2.5 is none",
        ),
    ],
)
def test_searches_that_do_not_fit(tuning: dict[str, Any], words: str) -> None:
    base: dict[str, Any] = {"seed": 7, "trials": 3, "methods": {"ascent": {"lr": RATES}}}
    with pytest.raises((ConfigError, ValueError), match=words):
        study(tuning={**base, **tuning})
    with pytest.raises((ConfigError, ValueError), match="tuning needs validation samples"):
        study(validation=0)


def test_the_first_of_equal_trials_wins_and_nothing_is_chosen_too_early() -> None:
    setting = ("d", "m", "r", "dense", "class")
    trials = (
        Trial({"lr": 1}, "a", 2.0),
        Trial({"lr": 2}, "b", 2.0),
        Trial({"lr": 3}, "c", math.inf),
    )
    found = TuningSearch(setting, "x", trials, 3)
    assert chosen([found]) == {(setting, "x"): {"lr": 1}}
    assert chosen([TuningSearch(setting, "x", trials[:2], 3)]) is None
    unknown = (*trials[:2], Trial({"lr": 3}, "c", None))
    assert chosen([TuningSearch(setting, "x", unknown, 3)]) is None


def test_optuna_proposes_the_same_when_told_the_same(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is an extra: pip install expunge[tune]")
    tuning = {
        "seed": 7,
        "trials": 4,
        "search": "optuna",
        "methods": {"finetune": {"lr": {"low": 1e-4, "high": 0.1, "log": True}}},
    }
    made = [
        run_study(planned(study(tuning=tuning), tmp_path / name)).searches for name in ("a", "b")
    ]
    assert made[0] == made[1]
    rates = [trial.fields["lr"] for trial in made[0][0].trials]
    assert len(set(rates)) == 4 and all(1e-4 <= rate <= 0.1 for rate in rates)


def test_optuna_proposes_whole_numbers_for_fields_of_these(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is an extra: pip install expunge[tune]")
    tuning = {
        "seed": 7,
        "trials": 3,
        "search": "optuna",
        "methods": {"finetune": {"epochs": {"low": 1, "high": 3}}},
    }
    made = planned(study(tuning=tuning, scenarios=["class"]), tmp_path / "out")
    found = run_study(made).searches[0].trials
    assert all(isinstance(t.fields["epochs"], int) and 1 <= t.fields["epochs"] <= 3 for t in found)
