"""Whether request and task are such as a method is made for: refused, or warned of, where not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.data.parts import Part
from expunge.errors import ConfigError, LogitsError, SplitError
from expunge.methods import METHODS, Method

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.data.view import DataView
    from expunge.training.run import Run


def check_scope(method: Method, forget: str) -> None:
    """Raise ConfigError for a request, as typed, that a method of whole classes can never meet."""
    if method.scope == "class" and forget.startswith("random:"):
        raise whole_classes_only(method, f"{forget} draws from all of them")


def check_split(method: Method, data: Data, split: Split) -> list[str]:
    """Warnings for a request outside a method's scope.

    Raises ConfigError for a method that forgets whole classes only, asked for anything else; SplitError
    for a model that learned what was struck since, and would go on knowing it.
    """
    if method.name != "retrain":
        data.struck.check_forgotten(split.retain)
    if method.scope == "backdoor":
        return _outside_backdoors(method, data, split)
    if method.scope not in ("class", "random"):
        return []
    asked = set(data.train.labels[split.rows(data.train, Part.FORGET_LABELS)].tolist())
    whole = asked & set(split.forgotten_classes(data))
    if method.scope == "class" and asked - whole:
        left = data.classes[min(asked - whole)]
        raise whole_classes_only(
            method, f"this request leaves samples of class {left!r} in the retain set"
        )
    if method.scope == "class" or not whole:
        return []
    names = ", ".join(repr(data.classes[one]) for one in sorted(whole))
    return [
        f"{method.name} is made for samples of classes that stay, and this request takes all of "
        f"{names}: its paper says nothing of that; compare it with a method for whole classes"
    ]


def _outside_backdoors(method: Method, data: Data, split: Split) -> list[str]:
    """A warning where something else than poison is asked for."""
    poison = data.poison.ids if data.poison is not None else frozenset()
    if not split.forget or not poison.isdisjoint(split.forget):
        return []
    return [
        f"{method.name} is made for backdoors and reads clean samples alone: what this request names "
        "is only left out of them; compare it with a method that is made to forget"
    ]


def check_names_something(method: Method, split: Split, *, unnamed: bool) -> None:
    """Raise SplitError for a split that has nothing to forget, unless nothing was to be named: then
    ConfigError for a method that cannot work so.
    """
    if unnamed:
        check_unnamed(method)
    elif not split.forget:
        raise SplitError(
            "the split has nothing to forget; make one with Split.parse or Split.random"
        )


def check_unnamed(method: Method) -> None:
    """Raise ConfigError for a method that cannot work where nothing is named to be forgotten."""
    named = Part.FORGET | Part.FORGET_LABELS
    if not method.reads & named and not method.takes_part:
        return
    able = ", ".join(
        name
        for name, other in METHODS.items()
        if other.scope in ("any", "backdoor") and not other.reads & named and not other.takes_part
    )
    raise ConfigError(
        f"{method.name} forgets samples that are named, and none are; name some, or choose a method "
        f"that reads what is kept alone: {able}"
    )


def whole_classes_only(method: Method, why: str) -> ConfigError:
    """The error for a request that is not of whole classes; names the methods that could meet it."""
    able = ", ".join(name for name, other in METHODS.items() if other.scope in ("any", "random"))
    return ConfigError(
        f"{method.name} forgets whole classes only, and {why}; ask for class:LABEL, or choose a "
        f"method that can: {able}"
    )


def check_task(method: Method, model: nn.Module, data: DataView, run: Run) -> None:
    """Raise ConfigError for a method that needs classes, and a task that observes no class logits.

    model: of the kind that it is to be used on. A task of one's own is asked what it observes of blank
    inputs; where nobody knows their shape, of one sample that the method may read, which counts.
    """
    import torch

    from expunge.data.task import Classification, logits_of_task
    from expunge.training.loop import evaluating
    from expunge.training.session import blank_batch

    if not method.needs_classes or isinstance(run.task, Classification):
        return
    batch = blank_batch(data, 1, noise=True)
    if batch is None:
        mine = (part for part in (Part.FORGET, Part.RETAIN) if part in data.declared)
        batch = next(iter(data.take(next(mine), 1).batches(1, shuffle=False, augment=False)))
    try:
        with evaluating(model), torch.no_grad():
            logits_of_task(run.task.observe(model.to(run.device), batch))
    except LogitsError as error:
        able = ", ".join(name for name, other in METHODS.items() if not other.needs_classes)
        raise ConfigError(
            f"{method.name} needs classes, and {error}; choose a method that needs none: {able}"
        ) from error
