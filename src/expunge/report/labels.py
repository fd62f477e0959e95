"""Names made short for a figure, and told apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from textwrap import wrap


def short(name: str, width: int) -> str:
    """At most so many letters."""
    return name if len(name) <= width else name[: width - 1] + "…"


def labels_of(names: Sequence[str], width: int) -> dict[str, str]:
    """Each name in at most `width` letters, no two alike: of long ones with the same beginning, what
    differs is kept, and where that is not enough they are numbered.
    """
    found = {name: short(name, width) for name in names}
    for alike in _alike(found):
        both = itertools.zip_longest(min(alike), max(alike))  # the two that differ soonest
        first = next(place for place, (one, other) in enumerate(both) if one != other)
        start = max(alike[0].rfind(" ", 0, first) + 1, first - 4)
        for name in alike:
            rest = short(name[start:], width // 2)
            found[name] = f"{name[: width - len(rest) - 1]}…{rest}"
    places = {name: place for place, name in enumerate(found, 1)}
    for alike in _alike(found):
        found |= {name: short(f"{places[name]}: {name}", width) for name in alike}
    return found


def lines_of(names: Sequence[str], width: int, lines: int) -> dict[str, str]:
    """The same in so many lines of `width` letters; words are broken only where they must be."""
    found = {n: "\n".join(wrap(n, width, max_lines=lines, placeholder="…")) for n in names}
    labels = labels_of(names, width * lines)
    for alike in _alike(found):
        for name in alike:
            parts = [labels[name][at : at + width] for at in range(0, len(labels[name]), width)]
            found[name] = "\n".join(parts)
    return found


def _alike(labels: dict[str, str]) -> list[list[str]]:
    """Names that have one label, wherever several do."""
    groups: dict[str, list[str]] = {}
    for name, label in labels.items():
        groups.setdefault(label, []).append(name)
    return [group for group in groups.values() if len(group) > 1]
