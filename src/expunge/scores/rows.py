"""What the rows of a frame of scores are called.

A frame of scores has one row per measured value: what it was measured under, the method, the seed,
the score's name and the value.
"""

from __future__ import annotations

from collections.abc import Sequence

ORIGINAL, RETRAIN, FLOOR = "original", "retrain", "floor"
YARDSTICKS = (ORIGINAL, RETRAIN, FLOOR)
"""Rows that are no methods: nothing done, the target, and a second retraining of each seed."""
HEAD_ZEROED, LAST_EPOCH = "head_zeroed", "last_epoch"
CONTROLS = (HEAD_ZEROED, LAST_EPOCH)
"""Rows that do next to nothing, which a method must beat before it is praised; with `original`."""
NO_METHODS = (*YARDSTICKS, *CONTROLS)
SETTING = ("data", "model", "recipe", "density", "scenario")
"""The columns that say under what a row stands, beside its method and seed."""
SAID = ("unit", "target")
"""The columns in which a row says what a score is that is in no table of this package."""
ATTACK_SIZE = "m"
"""The column that says how many members, and as many others, the membership attack was trained on."""
BOUND = "bound"
"""The column that says "at least" or "at most" of a value that is a cap: the score went beyond it."""
SET = "set."
"""Before the name of a column that holds a setting of the row's method, as `--set` takes it."""
FAILED = "failed"
"""Stands in place of a score's name in the row of a run that broke off."""
FINDINGS_FILE = (
    *SETTING,
    *("method", "seed", "score", "finding", "why", "p"),
    *("among_all", "together", "references", "cell"),
)
"""The columns of a frame, and of a file, of findings."""
NAMED = "named"
"""The column of a frame of findings that has the scenario as tables call it."""


def row_kind(method: str) -> str:
    """What a row is: "yardstick", "control", or "" for a method."""
    return "yardstick" if method in YARDSTICKS else "control" if method in CONTROLS else ""


def ordered_methods(names: Sequence[str]) -> list[str]:
    """Each name once: yardsticks and controls first, the rest as they came."""
    unique = list(dict.fromkeys(names))
    return [n for n in NO_METHODS if n in unique] + [n for n in unique if n not in NO_METHODS]
