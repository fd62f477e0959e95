"""A pruner that is another in all but its name."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from expunge.pruning.random import Random


class Dice(Random):
    """Cut weights by the fall of dice."""

    name: ClassVar[str] = "dice"
    paper: ClassVar[str] = "none; for tests"

    sides: int = Field(default=6, ge=2, description="of each die")
