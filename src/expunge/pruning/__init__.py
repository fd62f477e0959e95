"""The table of pruners. A pruner is one file; adding one takes a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from expunge.errors import ConfigError, nearest
from expunge.pruning.base import Pruner
from expunge.pruning.imp import Iterative
from expunge.pruning.omp import OneShot
from expunge.pruning.random import Random
from expunge.pruning.synflow import SynFlow


def table(pruners: Iterable[type[Pruner]]) -> Mapping[str, type[Pruner]]:
    """Name -> class. Raises ValueError for a name that occurs twice."""
    named: dict[str, type[Pruner]] = {}
    for pruner in pruners:
        if pruner.name in named:
            raise ValueError(f"two pruners are called {pruner.name!r}")
        named[pruner.name] = pruner
    return named


PRUNERS = table([OneShot, Iterative, SynFlow, Random])


def make_pruner(name: str, settings: Mapping[str, Any] | None = None) -> Pruner:
    """A pruner by name with some settings; ConfigError names what is wrong and what there is."""
    if name not in PRUNERS:
        raise ConfigError(
            f"no pruner {name!r}{nearest(name, PRUNERS)}; there are: {', '.join(PRUNERS)}"
        )
    return PRUNERS[name](**dict(settings or {}))


__all__ = ["PRUNERS", "Pruner", "make_pruner"]
