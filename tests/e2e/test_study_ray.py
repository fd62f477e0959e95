"""A study on a Ray cluster is the study on this machine, cell by cell."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from commands import expunge, process, without_progress

STUDY = """\
name: spread
data: ["digits:150"]
models: [mlp]
recipes:
  quick: {epochs: 2, lr: 0.05, batch_size: 32}
methods:
  finetune: {epochs: 1}
  gradient_ascent: {lr: 1.0e+9}
seeds: [0]
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        for name in ("cost", "date", "made_from", "seconds"):
            del content[name]
        found[file.parent.name] = content
    return found


def test_cell_by_cell_the_same_as_on_this_machine(tmp_path: Path) -> None:
    """Data by a relative folder; a method that diverges fails there as here."""
    (tmp_path / "study.yaml").write_text(STUDY)
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
        assert "9 of 11 cells done; 2 failed" in done.stdout
    here, there = cells(tmp_path / "here"), cells(tmp_path / "ray")
    assert len(here) == 9
    assert here == there


def test_no_cluster_says_so(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    where = ["study.yaml", "--out", "out", "--ray", "127.0.0.1:1"]
    done = process("study", "run", *where, cwd=tmp_path, ok=False)
    assert done.returncode == 2
    (message,) = without_progress(done.stderr)
    assert "no Ray cluster answers at '127.0.0.1:1'" in message and "ray start --head" in message
