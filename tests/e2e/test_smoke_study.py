"""The shipped study `smoke`, as the README has it but for its further seeds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from commands import process

from expunge.study.catalogue import study_file


def test_the_smoke_study_runs_and_tells(tmp_path: Path) -> None:
    text = study_file("smoke").read_text(encoding="utf-8")
    assert "seeds: [0, 1, 2]" in text
    (tmp_path / "smoke.yaml").write_text(text.replace("seeds: [0, 1, 2]", "seeds: [0]"))
    where = ["smoke.yaml", "--out", "smoke", "--workers", "2"]
    assert "13 of 13 cells done" in process("study", "run", *where, cwd=tmp_path).stdout
    scores = pd.read_csv(tmp_path / "smoke/results/scores.csv")
    means = scores.groupby(["scenario", "method", "score"])["value"].mean()
    # what must hold whatever the numbers: a class that was never seen is never recognised
    assert means["one class", "retrain", "UA"] == means["one class", "floor", "UA"] == 100
    assert means["one class", "original", "UA"] < 20 and means["one class", "retrain", "TA"] > 80
    assert means["one class", "neggrad_plus", "UA"] > means["one class", "finetune", "UA"]
    text = (tmp_path / "smoke/results/table.md").read_text(encoding="utf-8")
    assert "average gap of neggrad_plus at scenario class < average gap of finetune: " in text
