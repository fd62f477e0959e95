"""The parts of a split, and those that a method may read."""

from __future__ import annotations

import enum

SPLIT_PARTS = ("retain", "forget", "validation", "excluded")
"""Every sample of the training data is in one of these; test data stand apart."""


class Part(enum.Flag):
    """What a method may read. Parts combine: `Part.RETAIN | Part.FORGET`.

    `FORGET_LABELS` is the class labels of the forget set without its inputs.
    """

    NONE = 0
    RETAIN = enum.auto()
    FORGET = enum.auto()
    FORGET_LABELS = enum.auto()
    VALIDATION = enum.auto()

    def names(self) -> list[str]:
        """The single parts in this flag, lower case, in order of declaration."""
        return [str(part.name).lower() for part in Part if part in self]
