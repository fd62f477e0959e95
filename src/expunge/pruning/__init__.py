"""The table of pruners. A pruner is one file; adding one takes a line here."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isabstract
from typing import Any

from expunge.errors import ConfigError
from expunge.names.catalogue import Catalogue
from expunge.names.tables import by_name
from expunge.pruning.base import Pruner
from expunge.pruning.imp import Iterative
from expunge.pruning.omp import OneShot
from expunge.pruning.random import Random
from expunge.pruning.synflow import SynFlow

CLASSES: tuple[type[Pruner], ...] = (OneShot, Iterative, SynFlow, Random)
PRUNERS: Mapping[str, type[Pruner]] = by_name("pruner", ((p.name, p) for p in CLASSES))


def _admit(made: object, told: str) -> type[Pruner]:
    """A class of pruner; ConfigError says what it lacks."""
    if not (isinstance(made, type) and issubclass(made, Pruner)):
        raise ConfigError(f"{told} is no pruner: derive a class from expunge's Pruner")
    kinds = {"name": str, "paper": str, "trained": bool}
    lacking = [
        name for name, kind in kinds.items() if not isinstance(getattr(made, name, None), kind)
    ]
    lacking += [] if made.__doc__ else ["a docstring"]
    lacking += ["mask()"] if isabstract(made) else []
    if lacking:
        raise ConfigError(f"{told} lacks {', '.join(lacking)}; every pruner has these")
    if not made.name.isidentifier():
        raise ConfigError(
            f"{told} cannot be called {made.name!r}: a name is one word of letters, digits and _"
        )
    return made


ALL_PRUNERS: Catalogue[type[Pruner]] = Catalogue(
    "pruner", "expunge.pruners", PRUNERS, _admit, lambda pruner: pruner.name
)
"""All that `--pruner` takes: these, those of installed packages, and `module:Class`."""


def make_pruner(
    name: str, settings: Mapping[str, Any] | None = None, *, allow_code: bool
) -> Pruner:
    """A pruner by name or `module:Class`, with some settings.

    allow_code: whether `module:Class` may be imported; False for a name from a file.
    Raises ConfigError, which names what is wrong and what there is.
    """
    return ALL_PRUNERS.find(name, allow_code=allow_code)(**(settings or {}))


def pruner_name(pruner: Pruner) -> str:
    """The name by which `make_pruner` makes such a pruner again, as records keep it."""
    return ALL_PRUNERS.name_of(type(pruner))


__all__ = ["ALL_PRUNERS", "PRUNERS", "Pruner", "make_pruner", "pruner_name"]
