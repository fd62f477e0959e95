"""How a model came about: one record for each step, oldest first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from expunge.training.cost import Cost
from expunge.version import VERSION

SeedNames = tuple[str | int, ...]


def now() -> str:
    """The time, to the second, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Record(BaseModel):
    """One step in the making of a model.

    Attributes:
        step: "train", "import", "prune" or the method's name.
        parent: digest of the weights that it began with, where these were saved.
        settings: of the recipe, the pruner or the method.
        names: the seed names.
        split: digest of the split after it.
        forgotten: how many samples it forgot.
        cost: see `Cost`.
        warnings: what a person should know, one sentence each.
        log: what else was found on the way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    parent: str | None = None
    settings: dict[str, Any] = {}
    names: Annotated[SeedNames, Field(fail_fast=True)] = ()
    date: str = Field(default_factory=now)
    version: str = VERSION
    split: str = ""
    forgotten: int = 0
    cost: Cost = Cost(0.0)
    warnings: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()
    log: dict[str, Any] = {}


History = tuple[Record, ...]


COPIES = "exact_copies"
"""In a log: pairs of ids, what was forgotten and the exact copy of it that stays."""
_NAMED_COPIES = re.compile(r"(stay in the retain set): .*\(copy of .*", re.DOTALL)


def without_names(record: Record) -> Record:
    """The same without what names samples; ids stood in a warning once, in folders written before."""
    log = {key: value for key, value in record.log.items() if key != COPIES}
    warnings = tuple(_NAMED_COPIES.sub(r"\1", one) for one in record.warnings)
    return record.model_copy(update={"log": log, "warnings": warnings})


def saw_data(history: Sequence[Record]) -> bool | None:
    """Whether the mask of a sparse model was found with sight of training data; None: unknown."""
    steps = [record.log for record in history if record.step == "prune"]
    if not steps:
        return None
    return any(bool(log.get("saw_data", True)) for log in steps)


def initial_names(history: Sequence[Record]) -> SeedNames | None:
    """Seed names of the training that a model began with; None for one imported or pruned."""
    names: SeedNames | None = None
    for record in history:
        if record.step in ("train", "retrain"):
            names = record.names
        if record.step == "prune":  # it begins with weights that were rewound
            names = None
    return names


def is_paired(history: Sequence[Record], retrained: Sequence[Record]) -> bool | None:
    """Whether a retrained model began with the weights and order that another began with.

    None where nobody knows: the other was imported, or began with weights that were rewound.
    """
    theirs = initial_names(retrained)
    steps = [one for one in history if one.step in ("train", "retrain")] or [history[0]]
    mine = steps[-1].names if steps[-1].step in ("train", "retrain", "prune") else None
    if not theirs or not mine:
        return None
    if theirs != mine:
        return False
    return None if initial_names(history) is None else True
