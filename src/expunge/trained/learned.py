"""What a model has learned from, told apart from what it forgot: whether two models can be compared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from expunge.errors import SplitError


@dataclass(frozen=True)
class Learned:
    """Ids that a model retains, and those that it forgot. name: what to call it in a message."""

    name: str
    retain: Collection[str]
    forget: Collection[str]


def check_learned(model: Learned, before: Learned | None, reference: Learned | None) -> None:
    """Raise SplitError for a reference or an original that learned from other samples."""
    if reference is not None and set(reference.retain) != set(model.retain):
        raise SplitError(
            f"{reference.name} learned from other samples than {model.name} retains, so it is no "
            "reference for it; retrain with the same --forget and --forget-seed"
        )
    learned = {*model.retain, *model.forget}
    if before is not None and set(before.retain) > learned:
        raise SplitError(
            f"{before.name} also learned from samples that {model.name} struck earlier; name the folder "
            "that this one was made from"
        )
    if before is not None and set(before.retain) != learned:
        raise SplitError(
            f"{before.name} did not learn from the samples that {model.name} retains and forgot; "
            "name the folder that this one was made from"
        )
