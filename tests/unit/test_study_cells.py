"""Cells of a study: shared, keyed by what decides them, run once, failed openly, stale when changed."""

from __future__ import annotations

import errno
import functools
import gzip
import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import expunge, refused
from helpers import cell_of_study, changed_source, same_figure_once

from expunge.data.load import load_data
from expunge.errors import ConfigError
from expunge.report.tables import papers_table
from expunge.study import source, work
from expunge.study.cells import Cell, Facts, key_of, plan_cells
from expunge.study.launch import Planned, planned, run_study
from expunge.study.packed import PACKED, read_packed, write_packed
from expunge.study.results import for_tables, results
from expunge.study.runner import Counts
from expunge.study.schema import Study
from expunge.study.store import CellStore
from expunge.study.tuning import searches
from expunge.trained.trained import Trained

__all__ = ["same_figure_once"]


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "small",
        "data": ["digits:150"],
        "models": ["mlp"],
        "recipes": {"quick": {"epochs": 2, "lr": 0.05, "batch_size": 32}},
        "scenarios": ["class", "random:0.2"],
        "controls": False,
        "class_also": [],
        "methods": {"finetune": {"epochs": 1}},
        "seeds": [0, 1],
    }
    return Study.model_validate({**given, **changes})


@functools.cache
def load(spec: str) -> Facts:
    data = load_data(spec)
    return Facts((data.train.fingerprint, data.test.fingerprint), tuple(data.classes))


def keys(cells: list[Cell]) -> list[str]:
    return [cell.key for cell in cells]


# --- the plan


def test_a_method_for_whole_classes_has_no_row_in_a_random_request_and_that_is_told() -> None:
    tuning = {"seed": 9, "trials": 2, "methods": {"unsir": {"impair_lr": [0.01, 0.02]}}}
    both = study(methods={"unsir": {}, "finetune": {"epochs": 1}}, tuning=tuning)
    _, rows = plan_cells(both, load)
    made = {(row.setting[-1].partition(":")[0], row.method) for row in rows}
    assert {method for scenario, method in made if scenario == "random"} >= {"finetune", "retrain"}
    assert ("random", "unsir") not in made and ("class", "unsir") in made
    tried, _ = searches(both, load, CellStore(Path("none")), lambda _: "")
    assert {cell.config["scenario"] for cell in tried if cell.kind == "unlearn"} == {"class:#9"}
    assert both.left_out == ("random:0.2: unsir left out, made for whole classes only",)
    assert study().left_out == ()
    sparse = [{}, {"pruner": "omp", "sparsity": 0.5}]
    taught = study(methods={"sisa": {}}, scenarios=["class"], densities=sparse)
    assert taught.left_out == ("50 % omp: sisa left out, trains no sparse model",)
    _, rows = plan_cells(taught, load)
    assert {row.setting[3] for row in rows if row.method == "sisa"} == {"dense"}


def test_originals_and_references_are_shared_and_stand_before_what_needs_them() -> None:
    cells, rows = plan_cells(study(methods={"finetune": {"lr": [0.01, 0.02]}}), load)
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
        "original",
        "retrain",
        "floor",
        "finetune (lr=0.01)",
        "finetune (lr=0.02)",
    }
    assert {row.cell for row in rows} | {row.retrain for row in rows} <= seen


def test_a_key_depends_on_what_decides_the_result_and_on_nothing_else() -> None:
    base = keys(plan_cells(study(), load)[0])
    assert (
        keys(plan_cells(study(name="other", claims=["UA of finetune < UA of floor"]), load)[0])
        == base
    )
    renamed = study(methods={"FT": {"method": "finetune", "epochs": 1}})
    assert keys(plan_cells(renamed, load)[0]) == base, "a label is for tables"
    for changes in (
        {"seeds": [5, 6]},
        {"data": ["digits:151"]},
        {"validation": 0.2},
        {"recipes": {"quick": {"epochs": 3, "lr": 0.05, "batch_size": 32}}},
    ):
        assert not set(keys(plan_cells(study(**changes), load)[0])) & set(base), changes
    other = plan_cells(study(methods={"finetune": {"epochs": 2}}), load)[0]
    assert sum(key not in base for key in keys(other)) == 4, "the method's cells alone"
    assert key_of("a", {"x": 1, "y": 2}, ()) == key_of("a", {"y": 2, "x": 1}, ())


def test_class_scenarios_follow_the_seed() -> None:
    cells, _ = plan_cells(study(seeds=[0, 13]), load)
    asked = {cell.config["scenario"] for cell in cells if "scenario" in cell.config}
    assert asked == {"class:#0", "class:#3", "random:0.2"}


def test_several_classes_follow_the_seed_and_some_must_stay() -> None:
    cells, _ = plan_cells(study(scenarios=["classes:3"], seeds=[8, 19]), load)
    asked = {cell.seed: cell.config["scenario"] for cell in cells if cell.kind != "original"}
    assert asked == {8: "class:#8,#9,#0", 19: "class:#9,#0,#1"}
    with pytest.raises(ConfigError, match="there are 10 classes, and some must stay"):
        plan_cells(study(scenarios=["classes:10"]), load)


# --- running


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    made = planned(study(), tmp_path_factory.mktemp("study") / "out")
    told: list[str] = []
    counts = run_study(made, finished=lambda cell: told.append(cell.key)).counts()
    assert sorted(told) == sorted(keys(made.cells)), "each once, as it is made"
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


def test_results_do_not_depend_on_the_number_of_workers(
    finished: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forks = multiprocessing.get_context("fork")  # how they start is e2e/test_processes.py's
    monkeypatch.setattr("expunge.training.processes.multiprocessing.get_context", lambda _: forks)
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

    def full(_: Trained, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Trained, "write", full)
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
    assert run_study(made).counts(stale=True).stale == 0
    mine = [c.key for c in made.cells if c.config.get("method") == "finetune"]
    monkeypatch.setattr(source, "source_digest", changed_source("finetune"))
    assert made.counts(stale=True).stale == len(mine) == 2
    stamps = {key: made.store.read(key)["date"] for key in keys(made.cells)}
    times = {key: made.store.path(key).stat().st_mtime_ns for key in keys(made.cells)}
    run_study(made)
    assert made.counts(stale=True).stale == 2, "not asked"
    run_study(made, renew=True)
    assert made.counts(stale=True).stale == 0
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
    store, other = CellStore(tmp_path).prepare(), CellStore(tmp_path).prepare()
    with store.claim("k") as mine, other.claim("k") as theirs:
        assert mine and not theirs
        assert other.claimed("k")
    assert not other.claimed("k")
    with other.claim("k") as again:
        assert again


def test_the_sweep_takes_what_nobody_is_at(tmp_path: Path) -> None:
    store = CellStore(tmp_path).prepare()
    dead, busy = "0" * 32, "1" * 32
    for key in (dead, busy):  # as earlier versions called them
        (tmp_path / "cells" / f".{key}.abc").mkdir()
        (tmp_path / "failed" / f".{key}.abc").touch()
    (tmp_path / "cells" / f".{dead}.expunge-new-00000000").mkdir()
    (tmp_path / "failed" / f".{dead}.json.expunge-new-00000000").touch()
    (tmp_path / ".results.expunge-new-00000000").mkdir()
    (tmp_path / "cells" / ".mine").mkdir()
    with store.claim(busy):
        assert store.sweep() == 5
    left = {file.name for name in ("cells", "failed") for file in (tmp_path / name).iterdir()}
    assert left == {f".{busy}.abc", ".mine"}


def test_a_damaged_cell_says_what_to_do(tmp_path: Path) -> None:
    store = CellStore(tmp_path).prepare()
    store.path("k").mkdir()
    (store.path("k") / "cell.json").write_text("{")
    with pytest.raises(ConfigError, match=r"delete .*cells/k, and run the study again"):
        store.read("k")


# --- records of a study: many cells in one file, read wherever cells are read


ROOT = Path(__file__).resolve().parents[2]
K, CELL = cell_of_study(
    "k",
    scores=[{"name": "UA", "value": 0.1 + 0.2, "n": 1}],
    label="é\nü",
    b={"z": 1, "a": []},
)
A, PLAIN = cell_of_study("a")
BOTH, TWICE = cell_of_study("both")
F, E = "f" * 32, "e" * 32
FAILED = {"error": "ValueError", "message": "broke", "run": "r"}
PACKED_STUDY = """\
name: small
data: ["digits:150"]
models: [mlp]
recipes: {quick: {epochs: 2, lr: 0.05, batch_size: 32}}
scenarios: [class]
controls: false
class_also: []
methods: {finetune: {epochs: 1}}
seeds: [0, 1]
"""


# --- the file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / PACKED
    write_packed(file, {K: CELL, A: PLAIN}, {F: FAILED})
    found = read_packed(file)
    assert found.cell(K) == CELL and found.cell(A) == PLAIN
    assert found.failure(F).model_dump() == FAILED
    assert set(found.cells) == {A, K} and set(found.failures) == {F}
    found.cell(K)["scores"].clear()
    assert found.cell(K) == CELL, "nobody changes it for others"


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    turned = dict(reversed(CELL.items()))
    write_packed(tmp_path / "one.gz", {K: CELL, A: PLAIN}, {F: FAILED, E: FAILED})
    write_packed(tmp_path / "two.gz", {A: PLAIN, K: turned}, {E: FAILED, F: FAILED})
    one = (tmp_path / "one.gz").read_bytes()
    assert one == (tmp_path / "two.gz").read_bytes()
    assert one[4:8] == bytes(4), "no time of writing"
    assert one[3] == 0, "no name of a file"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing packed",
        gzip.compress(b'{"key": "k", "cell": {}}\n' * 99, mtime=0)[:-12],
        gzip.compress(b"{", mtime=0),
        gzip.compress(b"[]\n", mtime=0),
        gzip.compress(b'{"key": "k"}\n', mtime=0),
        gzip.compress(b'{"cell": {}}\n', mtime=0),
        gzip.compress(b"\xff\xfe", mtime=0),
    ],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PACKED).write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*cells\.jsonl\.gz"):
        CellStore(tmp_path).done("k")


# --- the store


def store_of(folder: Path) -> CellStore:
    write_packed(folder / PACKED, {K: CELL, BOTH: TWICE}, {F: FAILED, BOTH: FAILED})
    return CellStore(folder)


def test_a_store_reads_packed_cells(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    assert store.done(K) and not store.done(F) and not store.done("other")
    assert store.read(K) == CELL
    assert not store.has_weights(K)
    failure = store.failure(F)
    assert failure is not None and (failure.error, failure.message) == ("ValueError", "broke")
    assert store.failure(BOTH) is not None, "it could not be renewed"
    assert store.failure(K) is None


def test_a_folder_beside_goes_before_the_packed_cell(tmp_path: Path) -> None:
    store = store_of(tmp_path).prepare()
    with store.writing(K, {**CELL, "new": 1}):
        pass
    with store.writing(F, {"made": "at last"}):
        pass
    assert store.read(K) == {**CELL, "new": 1}
    assert store.done(F) and store.failure(F) is None
    store.fail(BOTH, OSError("disk full"), "later")
    failure = store.failure(BOTH)
    assert failure is not None and failure.run == "later"


# --- commands


@pytest.fixture(scope="module")
def packed_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run, as `out`; its records, as `kept`; and these the old way, as `old`."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "study.yaml").write_text(PACKED_STUDY)
    expunge("study", "run", "study.yaml", "--out", "out", "--device", "cpu", cwd=folder)
    expunge("study", "records", "out", "--out", "kept", cwd=folder)
    for name in ("study.yaml", "data.json"):
        (folder / "old").mkdir(exist_ok=True)
        shutil.copy(folder / "out" / name, folder / "old")
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(folder / "out/cells", folder / "old/cells", ignore=ignored)
    return folder


def test_records_are_five_files(packed_place: Path) -> None:
    names = {file.name for file in (packed_place / "kept").iterdir()}
    assert names == {"study.yaml", "data.json", PACKED, "table.md", "report.html"}
    packed = read_packed(packed_place / "kept" / PACKED)
    for folder in (packed_place / "out/cells").iterdir():
        assert packed.cell(folder.name) == json.loads((folder / "cell.json").read_text())
    assert len(packed.cells) == len(list((packed_place / "out/cells").iterdir()))


def test_results_status_and_report_are_those_of_the_study(
    packed_place: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    shutil.copytree(packed_place, here)
    for what in ("out", "kept", "old"):
        said = expunge("study", "status", "study.yaml", "--out", what, cwd=here)
        assert said.stdout == "study small: 10 of 10 cells done\n"
        expunge("study", "results", "study.yaml", "--out", what, cwd=here)
    for name in ("scores.csv", "table.md", "table.json"):
        told = {(here / what / "results" / name).read_bytes() for what in ("out", "kept", "old")}
        assert len(told) == 1, name
    expunge("study", "report", "kept", cwd=here)
    assert (here / "kept/table.md").read_bytes() == (here / "kept/report/table.md").read_bytes()


def test_records_of_records_are_the_same(packed_place: Path, tmp_path: Path) -> None:
    for what in ("kept", "old"):
        expunge("study", "records", what, "--out", str(tmp_path / what), cwd=packed_place)
        for name in (PACKED, "study.yaml", "data.json", "table.md"):
            assert (tmp_path / what / name).read_bytes() == (
                packed_place / "kept" / name
            ).read_bytes()


def test_a_run_goes_on_from_records(packed_place: Path, tmp_path: Path) -> None:
    shutil.copytree(packed_place / "kept", tmp_path / "kept")
    before = (tmp_path / "kept" / PACKED).read_bytes()
    more = PACKED_STUDY.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    (tmp_path / "study.yaml").write_text(more)
    where = ["study.yaml", "--out", "kept", "--device", "cpu"]
    assert "15 of 15 cells done" in expunge("study", "run", *where, cwd=tmp_path).stdout
    made = list((tmp_path / "kept/cells").iterdir())
    assert len(made) == 5, "the cells of the new seed, and no other"
    # a further method starts from originals that the record has no weights of: they are trained again
    added = more.replace("methods: {", "methods: {neggrad_plus: {epochs: 1}, ")
    (tmp_path / "study.yaml").write_text(added)
    assert "18 of 18 cells done" in expunge("study", "run", *where, cwd=tmp_path).stdout
    kinds = [
        json.loads(file.read_text())["kind"]
        for file in (tmp_path / "kept/cells").glob("*/cell.json")
    ]
    assert sorted(kinds).count("original") == 3 and len(kinds) == 5 + 3 + 2
    assert (tmp_path / "kept" / PACKED).read_bytes() == before, "it is only read"
    expunge("study", "records", "kept", "--out", "again", cwd=tmp_path)
    assert len(read_packed(tmp_path / "again" / PACKED).cells) == 18


def test_a_damaged_record_costs_one_line(packed_place: Path, tmp_path: Path) -> None:
    shutil.copytree(packed_place / "kept", tmp_path / "kept")
    (tmp_path / "kept" / PACKED).write_bytes(b"?")
    shutil.copy(packed_place / "study.yaml", tmp_path)
    message = refused("study", "status", "study.yaml", "--out", "kept", cwd=tmp_path)
    assert "cannot read kept/cells.jsonl.gz" in message


@pytest.mark.parametrize(
    "record", sorted(ROOT.glob("docs/results/*/study.yaml")), ids=lambda f: f.parent.name
)
def test_published_records_hold_five_files(record: Path) -> None:
    """A page of many settings, too large to lie here, gives way to a matrix of them. Where methods are
    ranked, that lies beside.
    """
    names = {file.name for file in record.parent.iterdir()}
    ranking = {"ranking.md", "ranking.png", "pareto.png"}
    assert names & ranking in (set(), ranking)
    names -= ranking
    pages = {"matrix.md", "matrix.png"} if "matrix.md" in names else {"report.html"}
    assert names == {"study.yaml", "data.json", PACKED, "table.md", *pages}
    assert read_packed(record.parent / PACKED).cells
