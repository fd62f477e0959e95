"""The table of pruners. A pruner is one file; adding one takes a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expunge.names.tables import by_name, pick
from expunge.pruning.base import Pruner
from expunge.pruning.imp import Iterative
from expunge.pruning.omp import OneShot
from expunge.pruning.random import Random
from expunge.pruning.synflow import SynFlow

CLASSES: tuple[type[Pruner], ...] = (OneShot, Iterative, SynFlow, Random)
PRUNERS: Mapping[str, type[Pruner]] = by_name("pruner", ((p.name, p) for p in CLASSES))


def make_pruner(name: str, settings: Mapping[str, Any] | None = None) -> Pruner:
    """A pruner by name with some settings; ConfigError names what is wrong and what there is."""
    return pick("pruner", PRUNERS, name)(**(settings or {}))


__all__ = ["PRUNERS", "Pruner", "make_pruner"]
