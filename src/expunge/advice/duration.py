"""Seconds in words, as finely as they can be foretold."""

from __future__ import annotations


def in_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `35 min`, `4.2 h`."""
    if seconds < 0.1:
        return "0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:,.1f} h"
