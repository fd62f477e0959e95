"""Cells of a study: shared, keyed by what decides them, run once, failed openly, stale when changed."""

from __future__ import annotations

import errno
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from expunge.audits.statistics import paired_interval
from expunge.data.load import load_data
from expunge.errors import ConfigError
from expunge.report.tables import papers_table
from expunge.study import work
from expunge.study.cells import Cell, key_of, plan
from expunge.study.claims import judge, parse_claim, sentence
from expunge.study.launch import Planned, planned, run_study
from expunge.study.results import for_tables, results, with_average_gap
from expunge.study.runner import Counts
from expunge.study.schema import Study
from expunge.study.store import Store


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "small", "data": ["digits:150"], "models": ["mlp"],
        "recipes": {"quick": {"epochs": 2, "lr": 0.05, "batch_size": 32}},
        "scenarios": ["class", "random:0.2"], "methods": {"finetune": {"epochs": 1}}, "seeds": [0, 1],
    }  # fmt: skip
    return Study.model_validate({**given, **changes})


@functools.cache
def load(spec: str) -> Any:
    return load_data(spec)


def keys(cells: list[Cell]) -> list[str]:
    return [cell.key for cell in cells]


# --- the plan


def test_originals_and_references_are_shared_and_stand_before_what_needs_them() -> None:
    cells, rows = plan(study(methods={"finetune": {"lr": [0.01, 0.02]}}), load)
    kinds = [cell.kind for cell in cells]
    assert kinds.count("original") == 2, "one per seed"
    assert kinds.count("retrain") == 2 * 2 * 2, "reference and floor of each scenario and seed"
    assert kinds.count("unlearn") == 2 * 2 * 3, "the original as it is, and two rates"
    seen: set[str] = set()
    for cell in cells:
        assert set(cell.needs) <= seen
        seen.add(cell.key)
    assert len(seen) == len(cells)
    assert {row.method for row in rows} == {
        "original", "retrain", "floor", "finetune (lr=0.01)", "finetune (lr=0.02)",
    }  # fmt: skip
    assert {row.cell for row in rows} | {row.retrain for row in rows} <= seen


def test_a_key_depends_on_what_decides_the_result_and_on_nothing_else() -> None:
    base = keys(plan(study(), load)[0])
    assert keys(plan(study(name="other", claims=["UA of finetune < UA of floor"]), load)[0]) == base
    renamed = study(methods={"FT": {"method": "finetune", "epochs": 1}})
    assert keys(plan(renamed, load)[0]) == base, "a label is for tables"
    for changes in (
        {"seeds": [5, 6]},
        {"data": ["digits:151"]},
        {"validation": 0.2},
        {"recipes": {"quick": {"epochs": 3, "lr": 0.05, "batch_size": 32}}},
    ):
        assert not set(keys(plan(study(**changes), load)[0])) & set(base), changes
    other = plan(study(methods={"finetune": {"epochs": 2}}), load)[0]
    assert sum(key not in base for key in keys(other)) == 4, "the method's cells alone"
    assert key_of("a", {"x": 1, "y": 2}, ()) == key_of("a", {"y": 2, "x": 1}, ())


def test_class_scenarios_follow_the_seed() -> None:
    cells, _ = plan(study(seeds=[0, 13]), load)
    asked = {cell.config["scenario"] for cell in cells if "scenario" in cell.config}
    assert asked == {"class:#0", "class:#3", "random:0.2"}


# --- running


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    made = planned(study(), tmp_path_factory.mktemp("study") / "out")
    counts = run_study(made).counts()
    assert counts == Counts(done=len(made.cells), running=0, failed=0, blocked=0, waiting=0)
    return made


def test_a_finished_study_is_not_done_again(finished: Planned) -> None:
    before = {key: finished.store.path(key).stat().st_mtime_ns for key in keys(finished.cells)}
    run_study(planned(finished.study, finished.store.folder))
    after = {key: finished.store.path(key).stat().st_mtime_ns for key in keys(finished.cells)}
    assert before == after


def test_cells_say_what_they_are(finished: Planned) -> None:
    for cell in finished.cells:
        content = finished.store.read(cell.key)
        assert content["config"] == json.loads(json.dumps(dict(cell.config)))
        assert content["cost"]["seconds"] > 0
        assert bool(content["scores"]) == (cell.kind != "original")
        weights = (finished.store.path(cell.key) / "model.safetensors").exists()
        reference = cell.kind == "retrain" and not cell.config["floor"]
        assert weights == (cell.kind == "original" or reference)


def test_results_do_not_depend_on_the_number_of_workers(finished: Planned, tmp_path: Path) -> None:
    other = planned(finished.study, tmp_path / "out")
    assert run_study(other, workers=2).counts().done == len(other.cells)
    columns = ["scenario", "method", "seed", "score", "value"]
    one, two = (
        results(made.rows, made.store)[columns].query("score != 'RTE'")
        for made in (finished, other)
    )
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))


def test_a_cell_that_raises_is_recorded_tried_again_and_blocks_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = {"gradient_ascent": {"lr": 1e9}, "finetune": {"epochs": 1}}
    made = planned(study(methods=wild, seeds=[0]), tmp_path / "out")
    counts = run_study(made).counts()
    assert (counts.failed, counts.blocked, counts.waiting) == (2, 0, 0)
    assert counts.done == len(made.cells) - 2
    failed = [cell for cell in made.cells if made.store.failure(cell.key)]
    assert {cell.config["label"] for cell in failed} == {"gradient_ascent"}
    failure = made.store.failure(failed[0].key)
    assert failure is not None and failure.error == "DivergenceError" and "lr" in failure.message
    table = papers_table(for_tables(results(made.rows, made.store)))
    assert table.set_index("method").loc["gradient_ascent", "failed"].tolist() == [1, 1]
    attempts = []
    original = work.do_cell
    monkeypatch.setattr(
        "expunge.study.runner.do_cell",
        lambda cell, bench: (attempts.append(cell.key), original(cell, bench)),
    )
    assert run_study(made).counts().failed == 2
    assert sorted(attempts) == sorted(cell.key for cell in failed), "these again, and no others"


def test_what_needs_a_failed_cell_is_blocked(tmp_path: Path) -> None:
    recipe = {"quick": {"epochs": 1, "lr": 1e9, "batch_size": 32, "schedule": "constant"}}
    made = planned(study(recipes=recipe, seeds=[0]), tmp_path / "out")
    counts = run_study(made).counts()
    assert (counts.done, counts.failed, counts.blocked) == (0, 1, len(made.cells) - 1)


def test_a_full_disk_fails_the_cell_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(study(seeds=[0]), tmp_path / "out")

    def full(folder: Path, *_: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(work, "_write_model", full)
        counts = run_study(made).counts()
    assert counts.failed == 1 and counts.done == 0
    assert not list((made.store.folder / "cells").iterdir())
    failure = made.store.failure(made.cells[0].key)
    assert failure is not None and "No space left" in failure.message
    assert run_study(made).counts().done == len(made.cells)
    assert made.store.failure(made.cells[0].key) is None


def test_a_changed_source_marks_cells_stale_and_they_rerun_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(study(seeds=[0]), tmp_path / "out")
    assert run_study(made).counts().stale == 0
    mine = [c.key for c in made.cells if c.config.get("method") == "finetune"]
    real = work.method_source
    monkeypatch.setattr(work, "method_source", lambda n: "new" if n == "finetune" else real(n))
    assert made.counts().stale == len(mine) == 2
    stamps = {key: made.store.read(key)["date"] for key in keys(made.cells)}
    times = {key: made.store.path(key).stat().st_mtime_ns for key in keys(made.cells)}
    run_study(made)
    assert made.counts().stale == 2, "not asked"
    run_study(made, renew=True)
    assert made.counts().stale == 0
    changed = {k for k in times if made.store.path(k).stat().st_mtime_ns != times[k]}
    assert changed == set(mine)
    assert set(stamps) == set(times)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        planned(study(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


# --- the store


def test_a_claim_is_held_by_one_and_let_go(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    with store.claim("k") as mine, other.claim("k") as theirs:
        assert mine and not theirs
        assert other.claimed("k")
    assert not other.claimed("k")
    with other.claim("k") as again:
        assert again


def test_the_sweep_takes_what_nobody_is_at(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in (".dead.abc", ".busy.abc"):
        (tmp_path / "cells" / name).mkdir()
    with store.claim("busy"):
        assert store.sweep() == 1
    assert [folder.name for folder in (tmp_path / "cells").iterdir()] == [".busy.abc"]


def test_a_damaged_cell_says_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path("k").mkdir()
    (store.path("k") / "cell.json").write_text("{")
    with pytest.raises(ConfigError, match="delete its folder, and run the study again"):
        store.read("k")


# --- results and claims


def long(values: dict[tuple[str, str, int], float], score: str = "UA") -> pd.DataFrame:
    """(density, method, seed) -> value of one score."""
    rows = [
        {"data": "d", "model": "m", "recipe": "r", "density": density, "scenario": "class",
         "method": method, "seed": seed, "score": score, "value": value}
        for (density, method, seed), value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_average_gap_by_hand() -> None:
    target = {"UA": 100.0, "MIA": 90.0, "RA": 99.0, "TA": 95.0}
    mine = {"UA": 80.0, "MIA": 100.0, "RA": 98.0, "TA": 96.0}
    frames = [
        long({("dense", name, 3): values[score]}, score)
        for name, values in (("retrain", target), ("finetune", mine))
        for score in values
    ]
    whole = with_average_gap(pd.concat(frames))
    found = whole[whole["score"] == "average gap"]
    assert found[["method", "seed"]].to_numpy().tolist() == [["finetune", 3]]
    assert found["value"].item() == pytest.approx((20 + 10 + 1 + 1) / 4)


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [
        ([1.0, 2.0, 3.0], [4.0, 5.5, 6.0], "holds"),
        ([4.0, 5.5, 6.0], [1.0, 2.0, 3.0], "fails"),
        ([1.0, 5.0, 3.0], [4.0, 2.0, 3.5], "undecided"),
        ([1.0], [4.0], "undecided"),
    ],
)
def test_claims_are_decided_by_paired_differences(
    left: list[float], right: list[float], verdict: str
) -> None:
    frame = long(
        {("95 % omp", "finetune", seed): value for seed, value in enumerate(left)}
        | {("dense", "finetune", 2 - seed): right[2 - seed] for seed in range(len(right))
           if len(right) == 3} | ({("dense", "finetune", 0): right[0]} if len(right) == 1 else {})
    )  # fmt: skip
    found = judge(parse_claim("UA of finetune at sparsity 0.95 < at 0"), frame)
    assert found.verdict == verdict
    assert found.n == len(left)
    if len(left) > 1:
        mean, low, high = paired_interval(left, right)
        assert (found.difference, found.low, found.high) == pytest.approx((mean, low, high))
        assert f"{found.verdict}, difference" in sentence(found)
    else:
        assert "1 seed with both sides" in sentence(found)


def test_a_claim_about_what_is_not_there_says_so() -> None:
    frame = long({("dense", "finetune", 0): 1.0, ("dense", "finetune", 1): 1.0})
    found = judge(parse_claim("UA of finetune at density dense < at density 95 % omp"), frame)
    assert found.verdict == "undecided"
    assert "no UA of finetune density 95 % omp" in sentence(found)


def test_several_settings_count_once_per_seed() -> None:
    """Ten data sets are not ten seeds: the differences of a seed are averaged first."""
    parts = []
    generator = np.random.default_rng(0)
    for data in range(10):
        values = {("dense", m, s): float(generator.normal(s)) for m in ("a", "b") for s in (0, 1)}
        parts.append(long(values).assign(data=f"d{data}"))
    found = judge(parse_claim("UA of a < UA of b"), pd.concat(parts))
    assert found.n == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("UA of a", "compares nothing"),
        ("a < b < c", "compares nothing"),
        ("x < UA of b", "names no score"),
        ("UA of a < UA of a", "with itself"),
        ("UA of a at sparsty 0.9 < at 0", "did you mean 'sparsity'"),
        ("UA of a at sparsity < at 0", "has no value"),
    ],
)
def test_claims_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_claim(text)


def test_tables_name_what_differs() -> None:
    frame = pd.concat([long({("dense", "a", 0): 1.0}), long({("95 % omp", "a", 0): 1.0})])
    assert for_tables(frame)["scenario"].tolist() == ["one class, dense", "one class, 95 % omp"]
    random = frame.assign(scenario="random:0.25")
    assert for_tables(random)["scenario"].iloc[0] == "random 25%, dense"
