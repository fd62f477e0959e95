"""The record of a step that was just made."""

from __future__ import annotations

from typing import Any

from expunge.data.split import Split
from expunge.names.text import clean_all
from expunge.trained.record import Record
from expunge.trained.trained import Trained


def record_of(step: str, split: Split, before: Trained | None = None, **fields: Any) -> Record:
    """The record of a step that was just made; `before`: what it began with."""
    return Record(
        step=step,
        parent=(before.weights or None) if before is not None else None,
        split=split.digest,
        forgotten=len(split.forget),
        **{name: value if name == "cost" else clean_all(value) for name, value in fields.items()},
    )
