"""Tables of things with names: methods, pruners, architectures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from expunge.errors import ConfigError, UserError, nearest

T = TypeVar("T")


def by_name(kind: str, entries: Iterable[tuple[str, T]]) -> Mapping[str, T]:
    """Name -> entry, in the order given. Raises ValueError for a name that occurs twice."""
    table: dict[str, T] = {}
    for name, entry in entries:
        if name in table:
            raise ValueError(f"two {kind}s are called {name!r}")
        table[name] = entry
    return MappingProxyType(table)


def pick(
    kind: str,
    table: Mapping[str, T],
    name: str,
    *,
    also: tuple[str, ...] = (),
    error: type[UserError] = ConfigError,
) -> T:
    """The entry of that name; an error that names what there is, and what may have been meant.

    also: what else could have been typed in its place.
    """
    if name not in table:
        known = ", ".join((*table, *also))
        raise error(f"no {kind} {name!r}{nearest(name.lower(), table)}; there are: {known}")
    return table[name]
