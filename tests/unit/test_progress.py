"""Progress as lines: how far, and how long still."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from expunge import progress
from expunge.progress import Bars


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A log whose clock goes on two seconds with each look at it."""
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    return io.StringIO()


def test_the_time_left_is_what_the_rest_takes_at_the_pace_so_far(lines: io.StringIO) -> None:
    bars = Bars(Console(file=lines, width=200), every_seconds=0)
    with bars.work("cells", 4) as bar:
        for number in range(4):
            bar.advance(f"cell {number}")
    assert lines.getvalue().splitlines() == [
        "cells: 1 of 4, cell 0, 6 s left", "cells: 2 of 4, cell 1, 4 s left",
        "cells: 3 of 4, cell 2, 2 s left", "cells: 4 of 4, cell 3, 0 s left",
    ]  # fmt: skip


def test_what_was_done_before_took_no_time(lines: io.StringIO) -> None:
    """A study that goes on: 90 of 100 cells of an earlier run say nothing about the other ten."""
    bars = Bars(Console(file=lines, width=200), every_seconds=0)
    with bars.work("cells", 100, 90) as bar:
        bar.advance()
    assert lines.getvalue() == "cells: 91 of 100, 18 s left\n"


def test_lines_come_every_few_seconds_only(lines: io.StringIO) -> None:
    with Bars(Console(file=lines, width=200), every_seconds=7).work("cells", 50) as bar:
        for _ in range(12):
            bar.advance()
    assert re.findall(r"(\d+) of 50", lines.getvalue()) == ["4", "8", "12"]
