"""Where commands write: results to standard output, progress and messages to standard error."""

from __future__ import annotations

import os
import sys

from rich.console import Console


def consoles() -> tuple[Console, Console]:
    """Screen and messages; silent in all processes but the first."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    screen = Console(highlight=False, width=None if known else 190)
    messages = Console(stderr=True, highlight=False)
    if os.environ.get("RANK", "0") != "0":
        screen.quiet = messages.quiet = True
    return screen, messages
