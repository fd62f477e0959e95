"""Studies under fire: killed at random moments, two at once, and as a command."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import expunge, process, refused, started, without_progress
from safetensors.numpy import load_file
from thorough import THOROUGH

STUDY = """\
name: fire
data: ["digits:150"]
models: [mlp]
recipes:
  quick: {epochs: 2, lr: 0.05, batch_size: 32}
methods:
  finetune: {epochs: 1}
  neggrad_plus: {epochs: 1}
controls: false
class_also: []
seeds: [0, 1]
claims: ["UA of finetune at scenario class < UA of neggrad_plus"]
"""
# A process that has imported everything forks workers that have used no thread yet.
DRIVER = """
import json, os, random, signal, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)
from expunge.study.launch import planned
from expunge.study.runner import Worker
from expunge.study.file import read_study

def drive(mode, folder):
    study = planned(read_study("study.yaml"), Path(folder, "out"))
    log = os.open(Path(folder, "out.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def told(cell, what):
        os.write(log, f"{what} {cell.key} {os.getpid()}\\n".encode())

    def worker():
        process = os.fork()
        if process == 0:
            code = 1
            try:
                Worker(study.cells, study.bench, told=told).work()
                code = 0
            finally:
                os._exit(code)
        return process

    kills = 0
    if mode == "kill":
        chance = random.Random(7)
        while study.counts().done < len(study.cells) and kills < 16:
            before = {c.key for c in study.cells if study.store.done(c.key)}
            process = worker()
            # at a random moment, no later than its first cell: a fast machine, too, is killed often
            until = time.monotonic() + chance.uniform(0.0, 0.35)
            while time.monotonic() < until and study.counts().done == len(before):
                time.sleep(0.002)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            kills += 1
            after = {c.key for c in study.cells if study.store.done(c.key)}
            assert before <= after, "a finished cell was lost"
    processes = [worker() for _ in range(1 if mode == "kill" else 3)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    print(json.dumps({"kills": kills, "codes": codes, "cells": len(study.cells)}))


drive("kill", "killed")
drive("together", "together")
"""


def driven(folder: Path) -> list[tuple[dict[str, Any], list[list[str]]]]:
    """Run the driver; for each of both ways what it reports, and the log as lists of words."""
    (folder / "study.yaml").write_text(STUDY)
    for name in ("killed", "together"):
        (folder / name).mkdir()
    done = subprocess.run(
        [*started(), "-c", DRIVER],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    logs = [(folder / name / "out.log").read_text() for name in ("killed", "together")]
    return [
        (one, [line.split() for line in log.splitlines()])
        for one, log in zip(told, logs, strict=True)
    ]


def cells_of(folder: Path) -> dict[str, dict[str, object]]:
    """Scores of every finished cell, which must all be whole."""
    found = {}
    for cell in (folder / "out/cells").iterdir():
        assert not cell.name.startswith("."), "a half-written cell was left"
        content = json.loads((cell / "cell.json").read_text())
        found[cell.name] = content["scores"]
    return found


def test_killed_at_random_moments_run_again_and_by_several_at_once(tmp_path: Path) -> None:
    """Nothing that was finished is lost or done twice, and the results are the same in the end."""
    (told, log), (together, shared_log) = driven(tmp_path)
    assert told["codes"] == [0]
    assert told["kills"] >= 10
    print(f"killed {told['kills']} times")
    finished = Counter(key for what, key, _ in log if what == "done")
    assert max(finished.values()) == 1
    begun = Counter(key for what, key, _ in log if what == "running")
    assert sum(begun.values()) <= told["cells"] + told["kills"], (
        "more than those in flight were lost"
    )
    # several runners on one folder never do a cell twice
    log = shared_log
    assert together["codes"] == [0, 0, 0]
    assert len({process for *_, process in log}) == 3, "one of them did everything"
    for what in ("running", "done"):
        assert set(Counter(key for w, key, _ in log if w == what).values()) == {1}
    assert len(log) == 2 * told["cells"]
    assert cells_of(tmp_path / "killed") == cells_of(tmp_path / "together")
    assert len(cells_of(tmp_path / "together")) == told["cells"]


def test_the_command_runs_shows_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("seeds: [0, 1]", "seeds: [0]"))
    where = ["study.yaml", "--out", "out"]
    before = expunge("study", "status", *where, cwd=tmp_path).stdout
    assert "0 of 11 cells done; 11 waiting" in before
    done = expunge("study", "run", *where, cwd=tmp_path)
    assert "11 of 11" in done.stdout
    for word in (
        "retrain",
        "floor",
        "neggrad_plus",
        "excess gap",
        "UA of finetune at scenario class",
    ):
        assert word in " ".join(done.stdout.split())
    names = {file.name for file in (tmp_path / "out/results").iterdir()}
    assert {"table.md", "table.csv", "scores.csv", "figure.png"} <= names
    assert "UA of finetune" in (tmp_path / "out/results/table.md").read_text()
    again = expunge("study", "results", *where, cwd=tmp_path).stdout
    assert "forget one class" in again
    (tmp_path / "study.yaml").write_text(STUDY.replace("neggrad_plus:", "neggrad_pls:"))
    message = refused("study", "run", *where, cwd=tmp_path)
    assert "line 8" in message and "'neggrad_plus'" in message


@THOROUGH
def test_a_failed_cell_shows_and_counts(tmp_path: Path) -> None:
    wild = STUDY.replace("neggrad_plus: {epochs: 1}", "gradient_ascent: {lr: 1e9}")
    wild = wild.replace("seeds: [0, 1]", "seeds: [0]").replace("claims", "# claims")
    (tmp_path / "study.yaml").write_text(wild)
    done = expunge("study", "run", "study.yaml", "--out", "out", cwd=tmp_path, ok=False)
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    assert "failed: gradient_ascent" in done.stdout and "DivergenceError" in done.stdout


DEADLY = """\
import os
import signal
from pathlib import Path

from expunge.methods.finetune import Finetune


class Deadly(Finetune):
    \"\"\"Kills its process, as one does that finds no memory, until it is cured.\"\"\"

    name = "deadly"

    def unlearn(self, model, data, run):
        if not Path("cured").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().unlearn(model, data, run)
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_cell_that_kills_its_process_costs_its_own_row_alone(
    tmp_path: Path, workers: int
) -> None:
    """With two workers in the same run; a command alone is killed, and goes on when started again."""
    deadly = STUDY.replace("neggrad_plus: {epochs: 1}", 'neggrad_plus: {method: "deadly:Deadly"}')
    deadly = deadly.replace("seeds: [0, 1]", "seeds: [0]\nscenarios: [class]")
    (tmp_path / "study.yaml").write_text(deadly)
    (tmp_path / "deadly.py").write_text(DEADLY)
    where = ["study.yaml", "--out", "out"]
    run = ["study", "run", *where, "--allow-code", "--workers"]
    codes = []
    for _ in range(1 if workers == 2 else 2):
        done = process(*run, str(workers), cwd=tmp_path, ok=None)
        codes.append(done.returncode)
    assert codes == ([1] if workers == 2 else [-9, 1]), "the process is killed once, and not again"
    assert "5 of 6 cells done; 1 failed" in done.stdout
    assert "(1 failed)" in done.stdout and "written: out/results" in done.stdout
    assert done.stdout.count("Killed: the process that worked on it ended without a word") == 1
    (tmp_path / "cured").touch()
    assert "6 of 6 cells done" in process(*run, "1", cwd=tmp_path).stdout
    assert not list((tmp_path / "out/attempts").iterdir())


# --- a study on a Ray cluster is the study on this machine, cell by cell


RAY_STUDY = """\
name: spread
data: ["digits:150"]
models: [mlp]
recipes:
  quick: {epochs: 2, lr: 0.05, batch_size: 32}
methods:
  finetune: {epochs: 1}
  gradient_ascent: {lr: 1.0e+9}
scenarios: [class]
controls: false
class_also: []
seeds: [0]
"""


@pytest.fixture
def ray_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray keeps a token in the home folder, and reports usage, unless told not to."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install expunge[ray]")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def cells(out: Path) -> dict[str, Any]:
    """Of each finished cell, all but what differs from run to run: times, dates and memory."""
    found = {}
    for file in (out / "cells").glob("*/cell.json"):
        content = json.loads(file.read_text())
        for name in ("cost", "date", "made_from", "seconds"):  # and of files that have these
            del content[name]
        content.pop("files", None)
        found[file.parent.name] = content
    return found


@pytest.mark.thorough
@pytest.mark.usefixtures("ray_home")
def test_cell_by_cell_the_same_as_on_this_machine(tmp_path: Path) -> None:
    """Data by a relative folder; a method that diverges fails there as here."""
    (tmp_path / "study.yaml").write_text(RAY_STUDY)
    os.makedirs(tmp_path / "data")
    ray = ["--ray", "local", "--workers", "2"]
    for run, out, how in ((expunge, "here", []), (process, "ray", ray)):
        done = run(
            "study",
            "run",
            "study.yaml",
            "--out",
            out,
            "--data-dir",
            "data",
            *how,
            cwd=tmp_path,
            ok=False,
        )
        assert done.returncode == 1
        assert "5 of 6 cells done; 1 failed" in done.stdout
    here, there = cells(tmp_path / "here"), cells(tmp_path / "ray")
    assert len(here) == 5
    assert here == there


@pytest.mark.thorough
@pytest.mark.usefixtures("ray_home")
def test_a_bank_is_the_same_model_by_model(tmp_path: Path) -> None:
    train = (
        "train",
        "--data",
        "digits:150",
        "--model",
        "mlp",
        "--epochs",
        "2",
        "--out",
        "original",
    )
    expunge(*train, cwd=tmp_path)
    build = ("bank", "build", "original", "--models", "4", "--out")
    expunge(*build, "here", cwd=tmp_path)
    done = process(*build, "there", "--ray", "local", "--workers", "2", cwd=tmp_path)
    told = without_progress(done.stderr)
    assert len(told) == 2 and told[0].startswith("models are trained") and "2 workers" in told[1]
    here, there = (banked(tmp_path / name) for name in ("here", "there"))
    assert here == there and len(here) == 8


def banked(bank: Path) -> dict[str, bytes]:
    """What is kept of each model: weights, and logits without what else is noted of it."""
    weights = {str(file.relative_to(bank)): file.read_bytes() for file in bank.glob("models/*")}
    logits = {str(file.relative_to(bank)): load_file(file) for file in bank.glob("logits/*")}
    return weights | {
        name: b"".join(one[key].tobytes() for key in sorted(one)) for name, one in logits.items()
    }


@pytest.mark.thorough
@pytest.mark.usefixtures("ray_home")
def test_no_cluster_says_so(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(RAY_STUDY)
    where = ["study.yaml", "--out", "out", "--ray", "127.0.0.1:1"]
    done = process("study", "run", *where, cwd=tmp_path, ok=False)
    assert done.returncode == 2
    (message,) = without_progress(done.stderr)
    assert "no Ray cluster answers at '127.0.0.1:1'" in message and "ray start --head" in message
