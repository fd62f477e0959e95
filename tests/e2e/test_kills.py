"""A sample of the campaign of `scripts/kills`: some twenty kills, and none loses anything."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = {
    **dict.fromkeys(("train over", "prune over", "cleanse over"), ("cheap", 5, 0)),
    **dict.fromkeys(("study run", "bank build", "bank purge"), ("study", 48, 1)),
    **dict.fromkeys(("unlearn over", "study results over", "study report over"), ("dear", 120, 1)),
}
"""What is killed: its kind, at every how many file events, and how often at random."""
LEAST = {"cheap": 10, "study": 4, "dear": 3}
"""Kills of each kind."""


@pytest.mark.thorough
@pytest.mark.timeout(600)  # where others share the processor
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    every, at_random = (",".join(str(case[place]) for case in CASES.values()) for place in (1, 2))
    arguments = ["--only", ",".join(CASES), "--every", every, "--random", at_random]
    done = subprocess.run(
        [ROOT / "scripts/kills", *arguments, "--out", out],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    print(done.stdout)
    assert found["faults"] == 0
    cases = found["runs"][0]["cases"]
    assert {case["case"] for case in cases} == CASES.keys()
    kills = Counter[str]()
    for case in cases:
        kills[CASES[case["case"]][0]] += sum(case["kills"].values())
    assert all(kills[kind] >= least for kind, least in LEAST.items()), kills
