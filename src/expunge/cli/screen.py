"""Where commands write: results to standard output, progress and messages to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from expunge.progress import Bars


def consoles() -> tuple[Console, Console]:
    """Screen and messages; silent in all processes but the first."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    screen = Console(highlight=False, width=None if known else 190)
    messages = Console(stderr=True, highlight=False)
    if os.environ.get("RANK", "0") != "0":
        screen.quiet = messages.quiet = True
    return screen, messages


@contextmanager
def working(command: str) -> Iterator[Bars]:
    """Progress of a command, from its first second: what loads torch or reads data belongs inside.

    Results are printed outside, for bars and they would share a terminal.
    """
    bars = Bars(consoles()[1])
    with bars.work(f"expunge {command}"):
        yield bars
