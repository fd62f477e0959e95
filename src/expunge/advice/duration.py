"""Seconds in words, as finely as they can be foretold; and beside a limit, as finely as it takes."""

from __future__ import annotations

import re

from expunge.errors import ConfigError

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def in_seconds(seconds: float) -> str:
    """`under 0.1 s`, `0.4 s`, `12 s`, `35 min`, `4.2 h`."""
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} h"


def beyond_budget(expected: float, budget: float, *, rough: bool = False) -> str:
    """`would take 12 s, more than the 10 s of the budget`: the budget as it was typed, and never a time
    that looks no longer.
    """
    told = in_seconds(expected) if expected >= 0.1 else f"{expected:.2g} s"
    slightly = "slightly " if expected < 1.1 * budget else ""
    return (
        f"would take {'roughly ' if rough else ''}{told}, {slightly}more than the {budget:g} s of the "
        "budget"
    )


def read_seconds(text: str, option: str) -> float:
    """Seconds of `90`, `90s`, `20m` or `1.5h`, above 0. Raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([smh]?)", text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if seconds <= 0:
        raise ConfigError(f"{option} {text[:40]!r}: write seconds, or a time such as 20m or 1.5h")
    return seconds
