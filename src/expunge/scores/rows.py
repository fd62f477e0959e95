"""What the rows of a frame of scores are called.

A frame of scores has one row per measured value: what it was measured under, the method, the seed,
the score's name and the value.
"""

from __future__ import annotations

from collections.abc import Sequence

ORIGINAL, RETRAIN, FLOOR = "original", "retrain", "floor"
YARDSTICKS = (ORIGINAL, RETRAIN, FLOOR)
"""Rows that are no methods: nothing done, the target, and a second retraining of each seed."""
CONTROLS = ("head_zeroed", "last_epoch")
"""Rows of methods that do next to nothing: a method that does no better has shown nothing."""
SETTING = ("data", "model", "recipe", "density", "scenario")
"""The columns that say under what a row stands, beside its method and seed."""
SAID = ("unit", "target")
"""The columns in which a row says what a score is that is in no table of this package."""
FAILED = "failed"
"""Stands in place of a score's name in the row of a run that broke off."""


def ordered_methods(names: Sequence[str]) -> list[str]:
    """Each name once: original, retrain and floor first, the rest as they came."""
    unique = list(dict.fromkeys(names))
    return [n for n in YARDSTICKS if n in unique] + [n for n in unique if n not in YARDSTICKS]
