"""A sample of the campaign of `scripts/kills`: some thirty kills, and none loses anything."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHEAP, STUDY = "train over,prune over,cleanse over", "study run,bank build,bank purge"
DEAR = "unlearn over,study results over,study report over"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("cases", "every", "at_random", "least"),
    [(CHEAP, 5, 0, 10), (STUDY, 48, 1, 4), (DEAR, 120, 1, 3)],
)
def test_kills_lose_nothing_and_leave_nothing(
    tmp_path: Path, cases: str, every: int, at_random: int, least: int
) -> None:
    out = tmp_path / "kills.json"
    arguments = ["--only", cases, "--every", str(every), "--random", str(at_random)]
    done = subprocess.run(
        [ROOT / "scripts/kills", *arguments, "--out", out],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    print(done.stdout)
    assert found["faults"] == 0 and found["kills"] >= least
    assert {case["case"] for case in found["runs"][0]["cases"]} == set(cases.split(","))
