"""A method under test, and the models that it is tested on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from expunge.api import adopt, train, unlearn
from expunge.data.split import Split
from expunge.methods.base import Method
from expunge.models.copying import copied
from expunge.testing.ground import (
    CPU,
    DIGITS,
    RECIPE,
    digits,
    global_randomness_stays,
    original,
    untrained,
)
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe


@dataclass(frozen=True)
class MethodCase:
    """A method under test.

    settings: quick ones, with which it really moves. architecture: as `expunge list models` names
    it. count: how many digits there are.
    """

    kind: type[Method]
    settings: Mapping[str, object] = field(default_factory=dict)
    architecture: str = "mlp"
    count: int = DIGITS

    def method(self, **changes: object) -> Method:
        """The method with its quick settings, some of them changed."""
        return self.kind(**{**self.settings, **changes})

    def model(self) -> nn.Module:
        """The model that is to forget."""
        if self.kind.takes_part:
            return copied(self.trained().model)
        return original(self.architecture, self.count)

    def split(self, data: Any = None, base: Split | None = None, share: float = 0.1) -> Split:
        """A share of the data, or one class for a method that forgets nothing else."""
        data = data or digits(self.count)
        if self.kind.scope == "class":
            return Split.classes(data, [3], base=base)
        return Split.random(data, share, base=base)

    def adopted(self, model: nn.Module, split: Split | None = None, **changes: Any) -> Trained:
        """The model as everybody would bring it; no copy of it, for it must stay as it is."""
        if self.kind.takes_part:
            return replace(self.trained(split, **changes), model=model)
        data = changes.get("data") or digits(self.count)
        original = adopt(
            model,
            data,
            recipe=changes.get("recipe", RECIPE),
            fresh=changes.get("fresh", lambda: untrained(self.architecture)),
            split=(split or self.split(data)).whole_again(),
            mask=changes.get("mask"),
            allow_code=False,
        )
        return replace(original, model=model)

    def trained(self, split: Split | None = None, **changes: Any) -> Trained:
        """An original that the method trained itself, always the same of the same data."""
        whole = (split or self.split(changes.get("data"))).whole_again()
        given = changes.get("data")
        if "fresh" not in changes and (given is None or given is digits(self.count)):
            recipe = changes.get("recipe", RECIPE)
            return _trained(self.method(), self.architecture, self.count, whole, recipe)
        return _train(self.method(), self.architecture, self.count, whole, **changes)

    def forget(self, model: nn.Module, given: Trained | None = None, **changes: Any) -> Trained:
        """`unlearn` on a tenth of the digits, as everybody calls it."""
        data = changes.pop("data", None) or digits(self.count)
        split = changes.pop("split", None) or self.split(data)
        method = changes.pop("method", None) or self.method()
        own = {key: changes.pop(key) for key in ("recipe", "fresh", "mask") if key in changes}
        original = given or self.adopted(model, split, data=data, **own)
        with global_randomness_stays():
            return unlearn(original, split, method, place=CPU, allow_code=False, **changes)

    @property
    def refused(self) -> bool:
        """Whether the method is none for such a model: it has running statistics."""
        if self.kind.takes_statistics:
            return False
        modules = untrained(self.architecture).modules()
        return any(getattr(module, "running_mean", None) is not None for module in modules)


def _train(method: Method, architecture: str, count: int, split: Split, **changes: Any) -> Trained:
    with global_randomness_stays():
        return train(
            changes.get("data") or digits(count),
            changes.get("fresh", functools.partial(untrained, architecture)),
            recipe=changes.get("recipe", RECIPE),
            split=split,
            method=method,
            place=CPU,
            allow_code=False,
        )


@functools.lru_cache(maxsize=8)
def _trained(
    method: Method, architecture: str, count: int, split: Split, recipe: Recipe
) -> Trained:
    """One that several checks begin with."""
    return _train(method, architecture, count, split, recipe=recipe)
