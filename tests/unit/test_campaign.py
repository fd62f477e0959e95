"""The campaign of docs/results: it says what would run, goes on after a failure, stops, and packs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest
from commands import expunge

from expunge.study.catalogue import cells_of, shipped_files
from expunge.study.file import read_study

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
name: small
data: ["digits:150"]
models: [mlp]
recipes:
  quick: {epochs: 1, batch_size: 32, lr: 0.05}
densities:
  - {}
  - {pruner: omp, sparsity: 0.5}
scenarios: [class]
methods:
  finetune: {epochs: 1}
  influence: {}
seeds: [0, 1]
class_also: []
tuning:
  seed: 100
  trials: 2
  methods:
    finetune: {lr: [0.01, 0.1]}
claims: ["UA of finetune at sparsity 0 < at 0.5"]
"""
FIVE = {"cells.jsonl.gz", "data.json", "report.html", "study.yaml", "table.md"}


@pytest.fixture
def campaign(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import campaign

    yield campaign
    del sys.modules["campaign"]


@pytest.fixture
def small(campaign: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A campaign of a small study, the same at a scale that it does not have, and the study's file."""
    file = tmp_path / "small.yaml"
    file.write_text(STUDY)
    one, other = ("first", str(file), ""), ("second", str(file), "papers")
    monkeypatch.setattr(campaign, "CAMPAIGN", (other, one))
    monkeypatch.setattr(campaign, "ENOUGH_SECONDS", 0.01)

    really = subprocess.run

    def here(command: list[str], *, stdout: IO[bytes], **others: Any) -> Any:
        if command[:3] != [sys.executable, "-m", "expunge"]:  # matplotlib looks for fonts
            return really(command, stdout=stdout, **others)
        done = expunge(*command[3:], cwd=tmp_path, ok=None)
        stdout.write((done.stdout + done.stderr).encode())
        return subprocess.CompletedProcess(command, done.returncode)

    monkeypatch.setattr(campaign.subprocess, "run", here)
    return file


def test_a_plan_counts_all_cells_and_runs_none(
    campaign: ModuleType, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert campaign.main(["plan", "--out", str(out), "--workers", "3"]) == 0
    assert not out.exists()
    lines = capsys.readouterr().out.splitlines()
    heads, numbers = lines[0], next(line for line in lines if line.startswith("first"))
    assert heads.startswith(
        "        hours of 1 worker  of 3  cells  original  trial  retrain  unlearn"
    )
    counts = [int(one) for one in numbers.split()[3:]]
    assert counts[0] == cells_of(read_study(small)) == sum(counts[1:])
    assert counts[2] == 2 * 2, (
        "two trials of one method, dense and sparse, before anything is tuned"
    )
    assert any(
        line.startswith("second cannot be planned, and is not counted: ") and "no scales" in line
        for line in lines
    )
    assert lines[-1].startswith("rough: ")


def test_passes_follow_what_a_cell_does(campaign: ModuleType, small: Path, tmp_path: Path) -> None:
    work = campaign.work_of("first", str(small), "", tmp_path / "out", campaign.Place(device="cpu"))
    assert not work.why
    passes = {
        (cell.label, bool(cell.config.get("density"))): campaign.passes_of(cell)
        for cell in work.cells
    }
    assert passes["original, seed 0", False] == 1 and passes["original, seed 0", True] == 2
    assert passes["retrain, class:#0, seed 0", False] == 1
    assert passes["finetune, class:#0, seed 0", False] == 1
    assert passes["influence, class:#0, seed 0", False] == campaign.NO_EPOCHS
    assert passes["original, class:#0, seed 0", False] == 0


def test_it_goes_on_after_a_failure_and_where_it_stopped(
    campaign: ModuleType, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, to = tmp_path / "out", tmp_path / "records"
    ends = ["--out", str(out), "--workers", "1"]
    assert campaign.main(["run", *ends, "--most-hours", "0", "--only", "first"]) == 3
    told = capsys.readouterr().out
    assert "in all" in told.partition("stops before first")[0], "hours stand before anything runs"
    assert not [*out.iterdir()]
    assert campaign.main(["run", *ends]) == 1
    told = capsys.readouterr().out
    assert "second: failed with code 2" in told and "first: ended after" in told
    assert told.endswith("failed: second\n")
    assert "no scales" in (out / "second.log").read_text()
    assert "finetune" in (out / "first.log").read_text()

    (to / "first").mkdir(parents=True)
    (to / "first" / "matrix.md").write_text("of another script")
    assert campaign.main(["records", "--out", str(out), "--to", str(to)]) == 0
    assert {file.name for file in (to / "first").iterdir()} == {*FIVE, "matrix.md"}
    assert not (to / "second").exists()
    assert "UA of finetune" in (to / "first" / "table.md").read_text()

    small.write_text(STUDY.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    capsys.readouterr()
    assert campaign.main(["plan", "--out", str(out), "--only", "first"]) == 0
    left = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("first"))
    assert 0 < int(left.split()[3]) < cells_of(read_study(small)) / 2, "of one seed alone"


def test_the_campaign_names_what_ships(campaign: ModuleType) -> None:
    records = [record for record, _, _ in campaign.CAMPAIGN]
    assert len({*records}) == len(records)
    for record, study, scale in campaign.CAMPAIGN:
        assert study in shipped_files() and record == "-".join(filter(None, (study, scale)))
