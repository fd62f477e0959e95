"""Studies that go on until they are decided, their power, and rows that a method must beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import expunge, refused
from thorough import THOROUGH

from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.scores.looks import Plan
from expunge.study.decide import run_until_decided
from expunge.study.differences import finished_seeds
from expunge.study.file import read_study
from expunge.study.launch import Planned, planned, run_study
from expunge.study.page import study_report
from expunge.study.power import study_power
from expunge.study.results import results
from expunge.study.schema import Study, Tuning
from expunge.study.seeds import check_seeds, until_decided, with_seeds
from expunge.study.verdicts import verdicts_of

CLEAR = "UA of original < UA of retrain"
NOT_CLEAR = "TA of retrain < TA of floor"


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "small",
        "data": ["digits:150"],
        "models": ["mlp"],
        "recipes": {"quick": {"epochs": 6, "lr": 0.05, "batch_size": 16}},
        "scenarios": ["class"],
        "controls": False,
        "class_also": [],
        "methods": {"finetune": {"epochs": 1}},
        "seeds": [0, 1],
        "claims": [CLEAR, NOT_CLEAR],
    }
    return Study.model_validate({**given, **changes})


def test_seeds_are_added_until_every_claim_is_decided(tmp_path: Path) -> None:
    told: list[str] = []
    asked = until_decided(study(claims=[CLEAR]), 10)
    made = run_until_decided(planned(asked, tmp_path / "out"), tell=told.append)
    assert made.study.seeds == (0, 1, 2, 3, 4), (
        "the first look decides, and no seed is made after it"
    )
    (found,) = verdicts_of(made, results(made.rows, made.store))
    assert (found.verdict, found.look, found.n, found.of) == ("holds", 5, 5, 5)
    assert "looks at 5, 7, 10 seeds" in told[0] and "10,000 simulated studies" in told[1]
    assert told[2].startswith("look at 5 seeds: 1 of 1 claims decided")
    assert len(told) == 3


@THOROUGH
def test_it_ends_with_the_last_look_and_goes_on_as_it_began(tmp_path: Path) -> None:
    """The folder keeps the seeds that were added and the plan; another plan is refused."""
    out, file = tmp_path / "out", tmp_path / "study.yaml"
    file.write_text(study().to_yaml())
    made = run_until_decided(planned(until_decided(study(), 7), out))
    assert len(made.study.seeds) == 7
    first, second = verdicts_of(made, results(made.rows, made.store))
    assert first.verdict == "holds" and second.verdict == "undecided"
    held = read_study(out / "study.yaml", recorded=out / "study.yaml")
    assert held.seeds == made.study.seeds and held.until_decided == made.study.until_decided
    # the file itself knows nothing of all that
    again = planned(study(), out, recorded=True)
    assert again.study.seeds == made.study.seeds and again.study.until_decided is not None
    with pytest.raises(ConfigError, match="fixed before its first look"):
        planned(until_decided(study(), 9), out)
    for changed, part in (
        ({"claims": [CLEAR]}, "claims"),
        ({"margins": {"TA": 40}}, "margins"),
        ({"methods": {"finetune": {"epochs": 2}}}, "methods"),
        ({"scenarios": ["random:0.2"]}, "scenarios"),
    ):
        with pytest.raises(ConfigError, match=f"its {part} were fixed before the first look"):
            planned(study(**changed), out, recorded=True)
    # without a number, the folder's own
    assert planned(until_decided(study()), out).study.until_decided == made.study.until_decided
    with pytest.raises(ConfigError, match="seed 3 is among the seeds that are reported"):
        tuning = {"seed": 3, "trials": 2, "methods": {"finetune": {"lr": [0.1, 0.2]}}}
        asked = study(seeds=[0, 3], until_decided={})
        check_seeds(asked.model_copy(update={"tuning": Tuning.model_validate(tuning)}))
    before = {cell.key: made.store.read(cell.key)["date"] for cell in made.cells}
    run_until_decided(planned(study(), out))
    assert {cell.key: made.store.read(cell.key)["date"] for cell in made.cells} == before
    report = study_report(made, "expunge study report out")
    assert report.looks is not None and [row[0] for row in report.looks.rows] == ["5", "7"]
    assert report.looks.rows[0][1] == f"{Plan(7).levels()[5]:.4f}"
    assert CLEAR in report.looks.rows[0][3]
    assert report.chance == "", "what chance does is said of the looks"


@pytest.mark.thorough
def test_a_lost_seed_ends_the_waiting_for_that_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number of further seeds brings it back, so none is made for it."""
    from expunge.study import work

    real = work.do_cell

    def broken(cell: Any, bench: Any) -> None:
        if cell.seed == 3 and cell.kind == "retrain":
            raise RuntimeError("diverged")
        real(cell, bench)

    monkeypatch.setattr("expunge.study.runner.do_cell", broken)
    told: list[str] = []
    made = run_until_decided(
        planned(until_decided(study(claims=[CLEAR]), 10), tmp_path / "out"), tell=told.append
    )
    assert made.study.seeds == (0, 1, 2, 3, 4)
    assert "1 cannot be decided, for they lack a seed" in told[-1]
    (found,) = verdicts_of(made, results(made.rows, made.store))
    assert found.verdict == "undecided" and (found.n, found.of) == (4, 5)


@pytest.mark.thorough
def test_what_a_later_seed_lost_takes_no_decision_back(tmp_path: Path) -> None:
    made = run_study(planned(with_seeds(study(claims=[CLEAR]), 6), tmp_path / "out"))
    frame = results(made.rows, made.store)
    lost = (frame["seed"] == 5) & (frame["method"] == "retrain")
    broken = frame.assign(
        score=frame["score"].where(~lost, "failed"), value=frame["value"].where(~lost)
    ).drop_duplicates(["method", "seed", "score"])
    kept = planned(until_decided(made.study, 10), tmp_path / "out")
    (found,) = verdicts_of(kept, broken)
    assert (found.verdict, found.look) == ("holds", 5)


@pytest.mark.thorough
def test_the_seeds_that_there_are_are_looked_at_before_any_is_added(tmp_path: Path) -> None:
    told: list[str] = []
    asked = until_decided(study(claims=[CLEAR], seeds=list(range(6))), 10)
    made = run_until_decided(planned(asked, tmp_path / "out"), tell=told.append)
    assert len(made.study.seeds) == 6, "the look at 5 has decided"
    assert told[-1].startswith("look at 5 seeds: 1 of 1 claims decided")


def test_a_lost_pair_is_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs the paired retraining is failed with it, not for ever unfinished."""
    from expunge.study import work

    real = work.do_cell

    def broken(cell: Any, bench: Any) -> None:
        if cell.config.get("paired"):
            raise RuntimeError("diverged")
        real(cell, bench)

    monkeypatch.setattr("expunge.study.runner.do_cell", broken)
    asked = study(also=["weight_distance"], seeds=[0, 1])
    made = run_study(planned(asked, tmp_path / "out"))
    frame = results(made.rows, made.store)
    assert set(frame.loc[frame["score"] == "failed", "method"]) == {"original", "floor", "finetune"}
    assert finished_seeds(frame, made.rows) == [0, 1]
    found = verdicts_of(made, frame)[0]
    assert found.lost and "original failed at seeds 0, 1" in found.why


def test_further_seeds_are_the_next_numbers() -> None:
    tuning = {"seed": 4, "trials": 2, "methods": {"finetune": {"lr": [0.1, 0.2]}}}
    asked = with_seeds(study(seeds=[3, 1], tuning=tuning), 5)
    assert asked.seeds == (3, 1, 5, 6, 7), "the tuning seed is never reported"
    assert with_seeds(study(), 1).seeds == (0, 1)


def test_plans_that_do_not_fit(tmp_path: Path) -> None:
    for asked, words in (
        (until_decided(study(claims=[])), "nothing to decide"),
        (study(claims=[], until_decided={}), "nothing to decide"),
        (until_decided(study(seeds=list(range(8))), 7), "has 8 seeds, more than its last look"),
        (study(seeds=list(range(8)), until_decided={"max_seeds": 5}), "more than its last look"),
    ):
        with pytest.raises(ConfigError, match=words):
            planned(asked, tmp_path / "out")
    for number, words in ((4, "first look is at 5 seeds"), (10**9, "no study has so many")):
        with pytest.raises(ConfigError, match=words):
            until_decided(study(), number)
    (tmp_path / "study.yaml").write_text(study().to_yaml())
    run = ("study", "run", "study.yaml", "--out", "out")
    assert "--until-decided" in refused(*run, "--max-seeds", "9", cwd=tmp_path)
    said = refused(*run, "--until-decided", "--max-seeds", "3", cwd=tmp_path)
    assert "give 5 or more" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("margins", "words"),
    [
        ({"avg gap": 5}, "no score 'avg gap', did you mean 'average gap'"),
        ({"UA": 0.5}, "UA 0.5 is too small a difference to tell; give 1 point or more"),
        ({"relearn_time": 0}, "give a number above 0"),
        ({"average gap": float("inf")}, "should be a finite number"),
    ],
)
def test_margins_that_nobody_could_tell(margins: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        study(margins=margins)


def test_margins_are_of_points_unless_a_file_says_another() -> None:
    asked = study(margins={"relearn_time": 10, "UA": 3})
    assert [asked.margin_of(s) for s in ("UA", "TA", "average gap", "RA change")] == [3, 1, 1, 1]
    assert asked.margin_of("relearn_time") == 10 and asked.margin_of("RTE") is None


def test_the_seeds_that_a_study_needs(tmp_path: Path) -> None:
    made = run_study(planned(study(seeds=[0, 1, 2]), tmp_path / "out"))
    first, second = study_power(made, Plan(10))
    assert first.n == 3 and first.difference == 1.0
    assert first.needed is not None and first.least is not None
    assert first.least <= first.needed <= (first.most or 10_001)
    assert (second.n, second.of) == (3, 3)
    (wide, _) = study_power(made, Plan(10), 50.0)
    assert wide.needed is not None and wide.needed <= first.needed
    said = expunge(
        "study",
        "power",
        str(write(tmp_path, study(seeds=[0, 1, 2]))),
        "--out",
        "out",
        "--difference",
        "20",
        cwd=tmp_path,
    ).stdout
    assert CLEAR in said and "seeds for 80 %" in said
    with pytest.raises(ConfigError, match="give a number above 0"):
        study_power(made, Plan(10), -1.0)


def write(folder: Path, asked: Study) -> Path:
    file = folder / "study.yaml"
    file.write_text(asked.to_yaml())
    return file


def test_before_any_seed_is_finished_nothing_is_known_of_the_spread(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(study().to_yaml())
    said = expunge("study", "power", "study.yaml", "--out", "out", cwd=tmp_path).stdout
    assert CLEAR in said and "–" in said
    assert not (tmp_path / "out").exists()


# --- rows that every study has


def values(made: Planned) -> pd.Series[float]:
    """By scenario, method and score."""
    frame = results(made.rows, made.store)
    return frame.set_index(["scenario", "method", "score"])["value"].sort_index()


def test_every_study_has_its_controls(tmp_path: Path) -> None:
    """Beside original, retrain and floor; the zeroed head only where whole classes are forgotten."""
    asked = study(
        scenarios=["class", "random:0.2"],
        seeds=[0],
        controls=True,
        methods={"finetune": {"epochs": 1}},
        claims=["average gap of finetune < average gap of last_epoch"],
    )
    made = run_study(planned(asked, tmp_path / "out"))
    rows = {(row.setting[-1], row.method) for row in made.rows}
    yardsticks = {"original", "retrain", "floor", "finetune", "last_epoch"}
    assert {method for scenario, method in rows if scenario == "class"} == {
        *yardsticks,
        "head_zeroed",
    }
    assert {method for scenario, method in rows if scenario != "class"} == yardsticks
    frame = (
        results(made.rows, made.store)
        .set_index(["scenario", "method", "score"])["value"]
        .sort_index()
    )
    zeroed = frame["class", "head_zeroed"]
    assert zeroed["UA"] > 90 and zeroed["RA"] >= frame["class", "original"]["RA"]
    with pytest.raises(ConfigError, match="cannot be called 'last_epoch'"):
        study(methods={"last_epoch": {}})


def test_class_studies_relearn_and_probe_by_default(tmp_path: Path) -> None:
    """A zeroed head wins UA by itself; what the features hold, and how soon it is back, tell."""
    asked = study(
        data=["digits:300"],
        scenarios=["class", "random:0.2"],
        seeds=[1],
        controls=True,
        class_also=Study.model_fields["class_also"].default,
        methods={},
        claims=[],
        floor=False,
        recipes={"quick": {"epochs": 8, "lr": 0.05, "batch_size": 32}},
    )
    assert asked.class_also == ("relearn_time", "linear_probe")
    made = run_study(planned(asked, tmp_path / "out"))
    frame = (
        results(made.rows, made.store)
        .set_index(["scenario", "method", "score"])["value"]
        .sort_index()
    )
    one = frame["class"]
    assert one["head_zeroed", "UA"] == 100 == one["retrain", "UA"]
    assert one["head_zeroed", "probe"] == one["original", "probe"]
    assert one["head_zeroed", "relearn_time"] < one["retrain", "relearn_time"]
    assert (
        "probe" not in frame["random:0.2", "original"] and "UA" in frame["random:0.2", "original"]
    )


def test_distances_of_weights_are_paired_and_have_a_floor(tmp_path: Path) -> None:
    """From a retraining of the original's own batches; beside it, what is there without forgetting."""
    asked = study(also=["weight_distance"], seeds=[0], claims=[], densities=[{}])
    made = run_study(planned(asked, tmp_path / "out"))
    pairs = [cell for cell in made.cells if cell.config.get("paired")]
    assert len(pairs) == 1 and pairs[0].label.startswith("paired retrain")
    score = next(
        s
        for row in made.rows
        if row.method == "original"
        for s in made.store.read(row.cell)["scores"]
        if s["name"] == "weight_distance"
    )
    assert score["detail"]["paired"] == "batches"
    one = values(made)["class"]
    floor = one["floor", "weight_distance"]
    assert floor == score["detail"]["floor"]["relative"]
    assert 0 < floor < 1, "another draw of initial weights is 1.4 away"
    assert one["original", "weight_distance"] < 1
    assert "retrain" not in {m for m, s in one.index if s == "weight_distance"}


def test_what_does_not_depend_on_the_request_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floor of distances is the original's own, whatever it is to forget."""
    from expunge.audits import distance_floor

    made_again: list[int] = []
    real = distance_floor.trained_again

    def count(*given: Any, **named: Any) -> Any:
        made_again.append(1)
        return real(*given, **named)

    monkeypatch.setattr(distance_floor, "trained_again", count)
    asked = study(also=["weight_distance"], seeds=[0], claims=[], scenarios=["class", "random:0.2"])
    made = run_study(planned(asked, tmp_path / "out"))
    assert len(made_again) == 1
    floors = values(made)[:, "floor", "weight_distance"]
    assert len(floors) == 2 and floors.nunique() == 1


def test_without_a_pair_there_is_no_floor_of_distances(tmp_path: Path) -> None:
    """Another retraining's distance is that of two draws of initial weights, about 1.4."""
    asked = study(also=["weight_distance"], seeds=[0], claims=[], pair=False)
    made = run_study(planned(asked, tmp_path / "out"))
    one = values(made)["class"]
    assert pd.isna(one["floor", "weight_distance"]) and one["original", "weight_distance"] > 1


def test_a_class_that_a_list_of_ids_names_is_told(tmp_path: Path) -> None:
    data = load_data("digits:150")
    ids = data.train.ids[data.train.labels == 3].tolist()
    (tmp_path / "gone.txt").write_text("\n".join(ids))
    asked = study(scenarios=[f"ids:{tmp_path / 'gone.txt'}"], seeds=[0], claims=[])
    made = run_study(planned(asked, tmp_path / "out"))
    told = study_report(made, "expunge study report out").warnings
    assert any("whole classes are forgotten, and the study could not know" in one for one in told)


def test_a_request_is_of_whole_classes_only_if_no_class_of_it_stays_in_part() -> None:
    data = load_data("digits:150")
    assert Split.parse(data, "class:3").only_whole_classes(data)
    both = [*Split.parse(data, "class:3").forget, *Split.parse(data, "random:0.2").forget]
    mixed = Split.ids(data, sorted(set(both)))
    assert mixed.forgotten_classes(data) and not mixed.only_whole_classes(data)
    assert not Split.whole(data).only_whole_classes(data)
