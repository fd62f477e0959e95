"""The table of scores, and that what it says is said nowhere else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from expunge.errors import ConfigError
from expunge.scores.columns import MEANINGS
from expunge.scores.rows import SAID, ordered_methods
from expunge.scores.table import (
    AVERAGED,
    CRITERIA,
    GOALS,
    OF_AUDITS,
    SCORES,
    TRANSFERRED,
    USUAL,
    own_words,
    score_info,
    score_infos,
)

SRC = Path(__file__).resolve().parents[2] / "src"
ROOM = SRC / "expunge" / "scores"


def test_every_score_says_all_of_itself() -> None:
    for name, info in SCORES.items():
        assert name == info.name
        assert info.measures and info.paper and info.unit
        assert info.target in GOALS
        assert info.reads.endswith(".") and MEANINGS[name] == info.reads
        assert (info.unit == "percent") == (info.limits == (0, 100))
    assert all(SCORES[name].title for name in (*AVERAGED, "ASR", "SA")), "they are drawn"
    assert all(SCORES[name].decimals == 1 for name in USUAL if name != "RTE")


def test_each_kind_of_score_has_its_names() -> None:
    assert AVERAGED == ("UA", "MIA", "RA", "TA"), "the order in which tables print them"
    assert TRANSFERRED == ("linear_probe", "linear_probe_s", "full_finetune", "full_finetune_s")
    assert CRITERIA == ("mask_overlap", "mask_s")
    assert set(SCORES) == {*OF_AUDITS, *TRANSFERRED, *CRITERIA}
    assert not set(OF_AUDITS) & {*TRANSFERRED, *CRITERIA}, "not every study has these"


def test_a_score_of_somebody_elses_is_what_it_says() -> None:
    info = score_info("speed", "images/s", "high")
    assert (info.name, info.unit, info.target, info.limits) == ("speed", "images/s", "high", None)
    assert info.reads == "A score of another package, in images/s. High is good."
    assert info.measures == "in images/s; high is good"
    assert score_info("share", "percent").limits == (0, 100)
    assert score_info("share", "percent").reads == "A score of another package, in percent."
    silent = score_info("speed")
    assert (silent.reads, silent.measures, silent.target) == ("", "", "retrained")
    assert score_info("UA", "bits", "low") is SCORES["UA"], "the table knows better"
    with pytest.raises(ConfigError, match="'speed' has the target 'fast'; there are: retrained"):
        score_info("speed", "images/s", "fast")


def test_frames_say_what_their_scores_are() -> None:
    frame = pd.DataFrame({"score": ["speed", "UA", "failed", "speed", "odd"]})
    assert list(score_infos(frame)) == ["speed", "UA", "odd"]
    assert score_infos(frame)["speed"].unit == ""
    frame["unit"] = [np.nan, None, None, "images/s", None]
    frame["target"] = [None, None, None, "high", np.nan]
    infos = score_infos(frame)
    assert (infos["speed"].unit, infos["speed"].target) == ("images/s", "high")
    assert infos["UA"] is SCORES["UA"] and infos["odd"].unit == ""
    assert score_infos(frame.iloc[:0]) == {}
    assert own_words("UA", "percent", "retrained") == {}
    assert list(own_words("speed", "images/s", "high")) == list(SAID)


def test_yardsticks_come_first() -> None:
    assert ordered_methods(["b", "floor", "a", "b", "original"]) == ["original", "floor", "b", "a"]


def test_the_room_loads_nothing_heavy() -> None:
    """`expunge list` and every mistake read it."""
    modules = ", ".join(f"expunge.scores.{file.stem}" for file in ROOM.glob("[a-z]*.py"))
    heavy = "{'torch', 'numpy', 'pandas', 'scipy', 'sklearn', 'matplotlib'}"
    code = f"import {modules}, sys; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


HOME = {
    "AVERAGED",
    "USUAL",
    "YARDSTICKS",
    "SETTING",
    "TRANSFERRED",
    "CRITERIA",
    "average_gap",
    "excess_gap",
    "own_gaps",
    "student_interval",
}


def made_in(source: str) -> set[str]:
    """The names that a module gives a value to, or that are functions of it."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in [*targets, *([node.target] if isinstance(node, ast.AnnAssign) else [])]:
            found |= {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}
    return found


def test_what_a_score_is_stands_in_one_place() -> None:
    """The average gap stood four times, Student's interval twice, the names of settings twice."""
    homes: dict[str, list[str]] = {}
    for file in SRC.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for name in made_in(text) & HOME:
            homes.setdefault(name, []).append(file.name)
        if "stdtrit" in text:
            homes.setdefault("Student's quantile", []).append(file.name)
    assert {name: len(files) for name, files in homes.items()} == dict.fromkeys(homes, 1)
    assert set(homes) == {*HOME, "Student's quantile"}
    inside = {file.name for file in ROOM.glob("*.py")}
    assert {file for files in homes.values() for file in files} <= inside
