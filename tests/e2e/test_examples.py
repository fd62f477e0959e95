"""The examples run as they stand, and print what lies beside them, but for numbers and verdicts.

Each `expunge` and `python` of theirs is a fork of a process that has imported everything (`forks`).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from commands import started

pytestmark = pytest.mark.thorough
EXAMPLES = Path(__file__).parents[2] / "examples"
BY_NUMBERS = re.compile(
    r"^(verdict:|an exact model|warning:|no claim:|cleansed|weakened|not cleansed:).*$"
    r"|^(chosen:|not tried|trying for|failed:).*$|^ .*(yes, the best|yes|no|failed) *$",
    re.MULTILINE,
)
"""Lines that depend on how a processor rounds, or on how much of a budget it needs."""


def words(text: str) -> Counter[str]:
    """Words of letters alone, however lines break and columns stand."""
    return Counter(re.findall(r"(?<!\S)[^\W\d_]+(?!\S)", BY_NUMBERS.sub("", text)))


@pytest.mark.parametrize("name", sorted(one.parent.name for one in EXAMPLES.glob("*/run.sh")))
def test_an_example(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "bin").mkdir()
    for word in ("expunge", "python"):
        command = tmp_path / "bin" / word
        command.write_text(f'#!/bin/sh\nexec {shlex.join(started(strict=False))} "$@"\n')
        command.chmod(0o755)
    places = (tmp_path / "bin", Path(sys.executable).parent, os.environ["PATH"])
    done = subprocess.run(
        ["bash", str(EXAMPLES / name / "run.sh"), str(out)],
        env={
            **os.environ,
            "PATH": os.pathsep.join(map(str, places)),
            "COLUMNS": "110",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = (EXAMPLES / name / "printed.txt").read_text(encoding="utf-8").replace("OUT", str(out))
    assert words(done.stdout) == words(told)
    commands = re.compile(r"^\$ .*$", re.MULTILINE)
    assert commands.findall(done.stdout) == commands.findall(told)
    assert "Traceback" not in done.stderr
