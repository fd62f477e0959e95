"""Runners that meet, are killed or interrupted, and files that changed between two runs."""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import started
from helpers import CPU, cell_of_study, changed_source
from thorough import THOROUGH

from expunge.audits.unseen import held_apart
from expunge.audits.unseen import tested_on as on_these
from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.errors import ConfigError, SplitError
from expunge.methods import METHODS
from expunge.methods.shared import noise
from expunge.place import Place
from expunge.progress import Silent, Step
from expunge.pruning import PRUNERS, omp
from expunge.study import source, work
from expunge.study.cells import Cell, make_cell
from expunge.study.launch import Planned, _at, planned, run_study
from expunge.study.publish import write_records
from expunge.study.runner import Watch, Worker, count, made_again
from expunge.study.schema import Study
from expunge.study.store import CellStore
from expunge.training.processes import one_thread


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "small",
        "data": ["digits:150"],
        "models": ["mlp"],
        "recipes": {"quick": {"epochs": 2, "lr": 0.05, "batch_size": 32}},
        "scenarios": ["class"],
        "controls": False,
        "class_also": [],
        "methods": {"finetune": {"epochs": 1}},
        "seeds": [0],
    }
    return Study.model_validate({**given, **changes})


def keys(made: Planned, kind: str = "") -> set[str]:
    return {cell.key for cell in made.cells if kind in ("", cell.kind)}


# --- what a key must hold


def test_other_content_of_a_file_of_ids_makes_other_cells(tmp_path: Path) -> None:
    names = load_data("digits:150").train.ids[:9].tolist()
    file = tmp_path / "gone.txt"
    asked = study(scenarios=[f"ids:{file}"])
    file.write_text("\n".join(names))
    first = keys(planned(asked, tmp_path / "out"))
    file.write_text("\n".join([*reversed(names), names[0]]))
    assert keys(planned(asked, tmp_path / "out")) == first, "the same ids in another order"
    file.write_text("\n".join(names[1:]))
    assert len(keys(planned(asked, tmp_path / "out")) & first) == 1, "the original alone"
    file.unlink()
    with pytest.raises(SplitError, match="cannot read ids"):
        planned(asked, tmp_path / "out")


def test_other_content_of_the_target_makes_other_cells(tmp_path: Path) -> None:
    target = tmp_path / "target.npz"

    def write(value: int) -> None:
        images = np.full((40, 8, 8), value, dtype=np.uint8)
        np.savez(target, x=images, y=np.arange(40) % 2)

    write(3)
    asked = study(transfer={"data": str(target)})
    first = planned(asked, tmp_path / "out")
    write(4)
    second = planned(asked, tmp_path / "out")
    assert keys(first, "original") == keys(second, "original")
    assert not (keys(first) - keys(first, "original")) & keys(second)


# --- runners


def test_another_runners_failure_does_not_make_this_one_wait(tmp_path: Path) -> None:
    """A made X fail; B tried X again and wrote its own record; what needs X is hopeless for A still."""
    made = planned(study(), tmp_path / "out")
    worker = Worker(made.cells, made.bench, run="A")
    made.store.prepare()
    base = made.cells[0]

    def broken(cell: Cell, bench: Any) -> None:
        raise RuntimeError("broke")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.study.runner.do_cell", broken)
        assert worker._over(base)
    made.store.fail(base.key, RuntimeError("again"), "B")
    assert all(worker._over(cell) for cell in made.cells), "nothing is left to wait for"


def test_failures_of_earlier_runs_are_no_progress_of_this_one(tmp_path: Path) -> None:
    made = planned(study(), tmp_path / "out")
    made.store.prepare().fail(made.cells[0].key, RuntimeError("old"), "earlier")
    assert count(made.cells, made.store).failed == 1
    assert count(made.cells, made.store, run="now").failed == 0


def test_a_watch_tells_what_runners_are_at_and_reads_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(study(), tmp_path / "out")
    original, retrain = made.cells[:2]
    store = made.store.prepare()
    store.fail(retrain.key, RuntimeError("old"), "earlier")
    watch = Watch(made.cells, store, run="now")
    with store.claim(original.key):
        watch.look()
        assert watch.running == [original] and not watch.over
        assert _at(watch) == "1 running: original, seed 0"
    with store.writing(original.key, {}):
        pass
    monkeypatch.setattr(store, "read", None)
    watch.look()
    assert watch.over == {original.key} and not watch.running
    looked: list[str] = []
    monkeypatch.setattr(store, "done", lambda key: looked.append(key) or False)
    with store.claim(made.cells[-1].key), store.claim(made.cells[-2].key):
        store.fail(retrain.key, RuntimeError("new"), "now")
        watch.look()
        assert watch.failed == {retrain.key}
        labels = " | ".join(cell.label for cell in made.cells[-2:])
        assert _at(watch) == f"1 failed, 2 running: {labels}"
    watch.look()
    assert not {original.key, retrain.key} & set(looked), "they are over"


def test_a_study_tells_the_cell_that_it_is_at_and_what_that_does(tmp_path: Path) -> None:
    told: list[tuple[str, ...]] = []

    class Nested(Silent):
        """Notes the labels of all works that go on whenever one begins."""

        going: tuple[str, ...] = ()

        @contextmanager
        def work(
            self, label: str, steps: int = 1, done: int = 0, unit: str = "steps"
        ) -> Iterator[Step]:
            before = self.going
            self.going = (*before, label)
            told.append(self.going)
            try:
                yield self
            finally:
                self.going = before

    reporter = Nested()
    run_study(planned(study(), tmp_path / "out", place=Place(progress=reporter)), progress=reporter)
    assert ("reading digits:150",) in told
    assert ("study small", "original, seed 0", "training") in told
    assert ("study small", "finetune, class:#0, seed 0", "finetune") in told
    assert ("study small", "finetune, class:#0, seed 0", "observing outputs") in told
    assert reporter.going == ()


def test_a_stale_cell_that_cannot_be_renewed_keeps_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(study(), tmp_path / "out")
    run_study(made)
    do = work.do_cell
    monkeypatch.setattr(source, "source_digest", changed_source("finetune"))

    def broken(cell: Cell, bench: Any) -> None:
        if cell.config.get("method") == "finetune":
            raise RuntimeError("the new source does not run")
        do(cell, bench)

    monkeypatch.setattr("expunge.study.runner.do_cell", broken)
    run_study(made, renew=True)
    stale = next(c for c in made.cells if c.config.get("method") == "finetune")
    assert made.store.done(stale.key) and made.store.failure(stale.key) is not None


def test_what_was_made_from_a_renewed_cell_is_stale_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a new source of retraining, what is compared with the retrained models is made anew."""
    asked = study(also=["prediction_distribution"])
    made = run_study(planned(asked, tmp_path / "out", place=CPU))
    assert made.counts(stale=True).stale == 0
    before = {cell.key: made.store.read(cell.key)["date"] for cell in made.cells}
    monkeypatch.setattr(source, "source_digest", changed_source("retrain"))
    references = [cell for cell in made.cells if cell.kind == "retrain"]
    assert made.counts(stale=True).stale == len(references)
    monkeypatch.setattr(work, "datetime", Later)
    made = run_study(made, renew=True)
    renewed = {key for key, date in before.items() if made.store.read(key)["date"] != date}
    assert renewed == {cell.key for cell in made.cells if cell.kind != "original"}
    assert made.counts(stale=True).stale == 0


class Later(datetime):
    """A clock on which a day has gone by."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(days=1)


def test_a_pruners_source_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(study(densities=[{}, {"pruner": "omp", "sparsity": 0.5}]), tmp_path / "out")
    dense, sparse = (
        [c for c in made.cells if c.kind == "original" and bool(c.config["density"]) is cut]
        for cut in (False, True)
    )
    assert {source.source_of(cell) for cell in dense} == {""}
    assert {source.source_of(cell) for cell in sparse} == {source.source_digest(omp.__name__)}


def test_a_run_killed_in_its_first_instant_locks_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".study.yaml.4711").touch()
    made = run_study(planned(study(), out))
    assert made.counts().done == len(made.cells)


def test_one_worker_has_one_thread_and_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_trial_that_failed_once_is_weighed_again(tmp_path: Path) -> None:
    """The best trial fails in the first run (a full disk, say); the second run changes its mind."""
    tuning = {"seed": 7, "trials": 2, "methods": {"finetune": {"lr": [1e-6, 0.1]}}}
    asked = study(tuning=tuning, methods={"finetune": {"epochs": 3}})
    undisturbed = run_study(planned(asked, tmp_path / "whole"))
    assert undisturbed.searches[0].best is not None
    chosen = undisturbed.searches[0].best.fields
    real = work.do_cell

    def once(cell: Cell, bench: Any) -> None:
        settings = cell.config.get("settings", {})
        if cell.config.get("on") == "validation" and settings.get("lr") == chosen["lr"]:
            raise OSError("disk full")
        real(cell, bench)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.study.runner.do_cell", once)
        first = run_study(planned(asked, tmp_path / "out"))
    assert first.searches[0].best is not None and first.searches[0].best.fields != chosen
    again = run_study(planned(asked, tmp_path / "out"))
    assert again.searches[0].best is not None and again.searches[0].best.fields == chosen
    assert all(again.store.done(row.cell) for row in again.rows), "and its row is made"
    assert {row.cell for row in again.rows} == {row.cell for row in undisturbed.rows}


def long_study() -> Study:
    """Far from done within the seconds that these tests take."""
    recipe = {"quick": {"epochs": 60, "lr": 0.05, "batch_size": 32}}
    return study(seeds=list(range(60)), recipes=recipe)


def _command(folder: Path, *more: str, **variables: str) -> subprocess.Popen[bytes]:
    (folder / "study.yaml").write_text(long_study().to_yaml())
    return subprocess.Popen(
        [*started(), "study", "run", "study.yaml", "--out", "out", *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _wait_for_a_cell(folder: Path) -> None:
    end = time.monotonic() + 120
    while not list((folder / "out/cells").glob("*/cell.json")):
        assert time.monotonic() < end, "nothing was made"
        time.sleep(0.1)


def test_workers_end_with_the_command_that_was_killed(tmp_path: Path) -> None:
    command = _command(tmp_path, "--workers", "2")
    _wait_for_a_cell(tmp_path)
    os.kill(command.pid, signal.SIGKILL)
    command.communicate()
    made = planned(long_study(), tmp_path / "out")
    end = time.monotonic() + 20  # they look once a second
    while any(made.store.claimed(cell.key) for cell in made.cells):
        assert time.monotonic() < end, "a worker is still at work"
        time.sleep(0.1)
    before = made.counts().done
    time.sleep(1.5)
    assert made.counts().done == before < len(made.cells)


@pytest.mark.parametrize("own", [None, "12"])
def test_a_worker_starts_with_one_thread_whatever_it_loads(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch is told so; numpy and SciPy read it when they are loaded, and took all cores each."""
    from expunge.training import processes

    seen: list[dict[str, str]] = []

    class Started:
        def __init__(self, **_: object) -> None: ...

        def start(self) -> None:
            seen.append(dict(os.environ))

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
        if own is not None:
            monkeypatch.setenv(name, own)
    monkeypatch.setattr(
        processes.multiprocessing, "get_context", lambda _: type("", (), {"Process": Started})
    )
    processes.Processes(print, None, 2)
    assert len(seen) == 2
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert [one[name] for one in seen] == ["1", "1"]
        assert os.environ.get(name) == own


def test_an_interrupt_prints_one_line(tmp_path: Path) -> None:
    command = _command(tmp_path, "--workers", "2")
    _wait_for_a_cell(tmp_path)
    os.killpg(command.pid, signal.SIGINT)
    _, errors = command.communicate(timeout=60)
    assert b"Traceback" not in errors, errors.decode()


# --- data that are not what they were, or name code


def test_tuning_judges_on_clean_validation_samples(tmp_path: Path) -> None:
    made = run_study(planned(study(data=["digits:300+patch:size=3"]), tmp_path / "out"))
    base = made.bench.original(made.cells[0])
    judged = on_these(held_apart(base, base.split, Part.RETAIN)[1], base)
    assert base.data.poison is not None
    held = set(base.split.validation)
    poisoned = held & base.data.poison.ids
    assert poisoned, "some of the validation samples are poisoned"
    assert set(judged.test.ids.tolist()) == held - poisoned


def test_code_named_in_a_file_runs_only_when_allowed(tmp_path: Path) -> None:
    for changes in ({"data": ["evil:make"]}, {"models": ["evil:build"]}):
        with pytest.raises(ConfigError, match="look at that code, then pass --allow-code"):
            planned(study(**changes), tmp_path / "out")


def test_a_base_whose_weights_are_gone_is_made_again(tmp_path: Path) -> None:
    """A record has no weights; what starts from them now is made from a model trained once more."""
    made = run_study(planned(study(seeds=[0, 1]), tmp_path / "out", place=CPU))
    for weights in made.store.folder.rglob("model.safetensors"):
        weights.unlink()
    with pytest.raises(ConfigError, match="is a record without weights"):
        made.bench.original(made.cells[0])
    before = {cell.key: made.store.read(cell.key) for cell in made.cells}
    asked = study(seeds=[0, 1], methods={"finetune": {"epochs": 1}, "neggrad_plus": {"epochs": 1}})
    more = planned(asked, tmp_path / "out", place=CPU)
    new = keys(more) - keys(made)
    assert len(new) == 2
    run_study(more)
    assert all(more.store.done(key) for key in new)
    with_weights = {key for key in before if more.store.has_weights(key)}
    assert with_weights == keys(more, "original"), "no more than what the new cells start from"
    for key in with_weights:
        losses = more.store.read(key)["log"]["losses"], before[key]["log"]["losses"]
        assert losses[0] == losses[1], "the same model, on the same machine"


def test_a_watch_waits_for_what_is_made_again(tmp_path: Path) -> None:
    made = planned(study(), tmp_path / "out")
    store = made.store.prepare()
    original = made.cells[0]
    with store.writing(original.key, {}):
        pass
    watch = Watch(made.cells, store, run="now")
    watch.look()
    assert original.key not in watch.over, "others start from it, and it has no weights"
    with store.claim(original.key):
        watch.look()
        assert watch.running == [original]
    with store.writing(original.key, {}) as folder:
        (folder / "model.safetensors").touch()
    watch.look()
    assert watch.over == {original.key}


def test_nothing_is_made_again_where_nothing_is_missing(tmp_path: Path) -> None:
    made = planned(study(), tmp_path / "out")
    store = made.store.prepare()
    for cell in made.cells:
        with store.writing(cell.key, {}):
            pass
    assert made_again(made.cells, store) == set()


@THOROUGH
def test_records_keep_failures_for_they_decided_what_was_tuned(tmp_path: Path) -> None:
    tuning = {"seed": 7, "trials": 2, "methods": {"finetune": {"lr": [0.01, 1e9]}}}
    made = run_study(planned(study(tuning=tuning), tmp_path / "out"))
    assert made.tuned and made.counts().failed == 1
    write_records(made, tmp_path / "kept", "expunge study records out --out kept")
    kept = planned(made.study, tmp_path / "kept", recorded=True)
    assert kept.tuned and kept.rows == made.rows and kept.counts() == made.counts()
    with pytest.raises(ConfigError, match="exists"):
        write_records(made, tmp_path / "kept", "again")


# --- which files decide whether a cell is stale: a method's own, and all that it imports in its package


FILES = {
    "__init__.py": "",
    "method.py": "def unlearn():\n    from .helper import go\n    return go\n",
    "helper.py": "import theirs.deep.more\nimport json\n",
    "deep/__init__.py": "from theirs import other\n",
    "deep/more.py": "from .. import table\nfrom . import leaf as l\n",
    "deep/leaf.py": "from theirs.method import unlearn\n",
    "table.py": "RATE = 1\n",
    "other.py": "nobody = 'names me'\n",
}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a third party, and a module of its own, neither of them loaded."""
    for name, text in FILES.items():
        file = tmp_path / "theirs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "alone.py").write_text("import theirs.table\n")
    for name in ("theirs", "alone"):  # another test's modules of these names
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    clear()
    yield tmp_path / "theirs"
    clear()


def clear() -> None:
    source.source_digest.cache_clear()
    source.own_file_digest.cache_clear()


def test_imports_are_followed_and_nothing_is_run(theirs: Path) -> None:
    assert set(source.sources_of("theirs.method")) == {
        "theirs.method",
        "theirs.helper",  # imported in a function
        "theirs.deep.more",
        "theirs.deep.leaf",  # which leads back
        "theirs.table",
    }
    assert set(source.sources_of("alone")) == {"alone"}, "no further than its own package"
    assert not [name for name in sys.modules if name.split(".")[0] in ("theirs", "alone")]


@pytest.mark.parametrize("name", ["method.py", "helper.py", "deep/leaf.py", "table.py"])
def test_a_change_of_what_is_imported_is_seen(theirs: Path, name: str) -> None:
    before = source.source_digest("theirs.method")
    clear()
    assert source.source_digest("theirs.method") == before
    with (theirs / name).open("a") as stream:
        stream.write("\n# changed\n")
    clear()
    assert source.source_digest("theirs.method") != before


def test_a_change_of_what_is_not_imported_is_none(theirs: Path) -> None:
    before = source.source_digest("theirs.method")
    (theirs / "other.py").write_text("changed = True\n")
    (theirs / "deep/__init__.py").write_text("")
    clear()
    assert source.source_digest("theirs.method") == before


def test_a_file_that_is_half_written_counts_as_it_is(theirs: Path) -> None:
    before = source.source_digest("theirs.method")
    (theirs / "helper.py").write_text("def (\n")
    clear()
    assert source.source_digest("theirs.method") != before


def test_a_class_without_a_file_is_never_stale() -> None:
    for module in ("no.such.module", "sys", "__main__.x", "expunge.methods.nothing"):
        assert source.source_digest(module) == "" and source.sources_of(module) == {}


def test_what_ships_is_followed_within_methods_and_pruning() -> None:
    """Trap: only the method's own file was looked at, so a change of the noise was not seen."""
    assert set(source.sources_of("expunge.methods.unsir")) == {
        "expunge.methods.unsir",
        "expunge.methods.shared.noise",
        "expunge.methods.base",
    }
    assert source.sources_of("expunge.methods.unsir")["expunge.methods.shared.noise"] == Path(
        noise.__file__
    )
    assert set(source.sources_of("expunge.pruning.imp")) == {
        "expunge.pruning.imp",
        "expunge.pruning.omp",
        "expunge.pruning.base",
    }
    for one in (*METHODS.values(), *PRUNERS.values()):
        found = source.sources_of(one.__module__)
        assert one.__module__ in found
        assert "expunge.methods" not in found, "the table would make each depend on all"


def cell_of(method: str) -> Cell:
    return make_cell("unlearn", {"method": method, "settings": {}}, (), 0)


def stale(folder: Path, cell: Cell, made_by: str) -> bool:
    store = CellStore(folder).prepare()
    content = cell_of_study("")[1] | {"source": made_by, "config": dict(cell.config)}
    with store.writing(cell.key, content):
        pass
    return source.is_stale(cell, store)


def test_digests_of_earlier_versions_are_judged_by_their_own_rule(tmp_path: Path) -> None:
    """An upgrade alone makes no cell stale."""
    cell = cell_of("unsir")
    file = Path(source.sources_of("expunge.methods.unsir")["expunge.methods.unsir"])
    old = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    assert not stale(tmp_path, cell, old)
    assert stale(tmp_path, cell, old[::-1])
    new = source.source_of(cell)
    assert new.startswith("v2:") and len(new) == 67
    assert not stale(tmp_path, cell, new) and not stale(tmp_path, cell, new[:35])
    assert stale(tmp_path, cell, f"v2:{old}")
    assert not stale(tmp_path, make_cell("unlearn", {}, (), 0), "")


def test_a_cell_whose_source_is_not_here_is_not_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is looked at where a third party's method is not installed."""
    monkeypatch.setattr(source, "_file_of", lambda module: None)
    clear()
    assert not stale(tmp_path, cell_of("unsir"), "v2:" + "0" * 32)
    assert not stale(tmp_path, cell_of("unsir"), "0" * 32)
    clear()
