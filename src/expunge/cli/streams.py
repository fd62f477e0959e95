"""Standard output and error as they may be: closed, full, read by nobody, of a narrow encoding."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from expunge.errors import ConfigError


def tolerate_signs() -> None:
    """Let the output write `?` for a sign of help that its encoding has not, as under LANG=C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def check_streams() -> None:
    """Raise ConfigError where standard output is closed, before any work is done for it; without
    standard error, messages go nowhere.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        raise ConfigError(
            "standard output is closed, so nothing could be shown; send it somewhere, as in > /dev/null"
        )


def output_lost() -> bool:
    """Whether standard output takes no more; it is let go of then."""
    try:
        sys.stdout.flush()
    except OSError:
        let_go()
        return True
    return False


def let_go() -> None:
    """Write nothing more to standard output: at its end Python would try once again, and say so."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
