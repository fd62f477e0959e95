"""What a model has learned from, told apart from what it forgot: whether two models can be compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from expunge.errors import SplitError
from expunge.models.hub import without_path

FROM_NOTHING = ("train", "retrain", "import")
"""Steps whose model never knew what is in no part of its split. Whoever imports one says so."""


@dataclass(frozen=True)
class Learned:
    """What a model learned from, and how.

    Attributes:
        name: what to call it in a message.
        retain, forget: ids that it retains, and those that it forgot.
        steps: how it came about, oldest first.
        recipe: how its original was trained; None where nobody knows.
        architecture: a name or `module:function`; None where nobody said one.
    """

    name: str
    retain: Collection[str]
    forget: Collection[str]
    steps: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None
    architecture: str | None = None


def check_learned(model: Learned, before: Learned | None, reference: Learned | None) -> None:
    """Raise SplitError for an original that learned from other samples, or a reference that did, that
    is no retrained model, or that was trained otherwise.
    """
    if reference is not None and set(reference.retain) != set(model.retain):
        raise SplitError(
            f"{reference.name} learned from other samples than {model.name} retains, so it is no "
            "reference for it; retrain with the same --forget and --forget-seed"
        )
    if reference is not None:
        _check_retrained(model, reference)
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


def _check_retrained(model: Learned, reference: Learned) -> None:
    """Raise SplitError unless a reference was trained without the samples, and as the model was."""
    made = [step for step in reference.steps if step != "prune"]
    if made and made[-1] not in FROM_NOTHING:
        raise SplitError(
            f"{reference.name} was made by {made[-1]}, which is no retraining, so it is no reference "
            f"for {model.name}; name a model that was trained without the samples (--with-reference "
            "makes one)"
        )
    what = "architecture"
    # one of both may be redacted
    mine: Any = model.architecture and without_path(model.architecture)
    theirs: Any = reference.architecture and without_path(reference.architecture)
    if None in (mine, theirs) or mine == theirs:
        if model.recipe is None or reference.recipe is None:
            return
        names = sorted(model.recipe.keys() & reference.recipe.keys())  # later versions know more
        told = [n for n in names if model.recipe[n] != reference.recipe[n]]
        if not told:
            return
        what = f"recipe's {told[0]}"
        mine, theirs = model.recipe[told[0]], reference.recipe[told[0]]
    raise SplitError(
        f"{reference.name} was trained otherwise than {model.name} (the {what} is {theirs!r}, not "
        f"{mine!r}), so the gap would not be of forgetting; retrain as the original was trained"
    )
