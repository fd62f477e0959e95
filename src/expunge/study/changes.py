"""Changes of a study file that are typed: a dotted path into what it says, and a value."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from typing import Any

from expunge.errors import ConfigError, listed, nearest
from expunge.study.entries import Entry
from expunge.study.schema import Study

NAMED = ("methods", "recipes")
"""Parts whose names stand in the file; below them are settings, which need not."""
_Place = tuple[str | int, ...]


def with_changes(
    content: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[_Place, str]]:
    """A study's plain data with some values changed, and the path of each as it was typed, by its place.

    changes: dotted path, such as `methods.finetune.lr` or `densities.1.sparsity` -> value. A key that
    has dots itself is known by the file.
    Raises ConfigError for a path to nothing.
    """
    changed = copy.deepcopy(dict(content))
    places: dict[_Place, str] = {}
    for path, value in changes.items():
        place = _place(changed, path)
        if not place:
            raise ConfigError(
                f"--set {path}={value!r:.60} does not say what to change; write it out, as in "
                "methods.finetune.lr=0.1"
            )
        _put(changed, place, value)
        places[place] = path
    return changed, places


def typed_at(places: Mapping[_Place, str], place: tuple[Any, ...], message: str = "") -> str | None:
    """The path as typed of a change that a mistake may be about; None without one.

    place: of the mistake; where nobody knows it, the first part that its message names counts.
    """
    for changed, path in places.items():
        shared = min(len(changed), len(place))
        if shared and changed[:shared] == tuple(place[:shared]):
            return path
        if not place and re.search(rf"\b{re.escape(str(changed[0]))}\b", message):
            return path
    return None


def _place(content: Any, path: str) -> _Place:
    """Keys and rows that a dotted path leads to; the last may be new."""
    place: list[str | int] = []
    here, rest = content, path
    while rest:
        if len(place) == 2 and place[0] == "methods" and _is_entry(here, rest):
            place.append("settings")
            here = here["settings"]
        step, rest = _step(here, rest, place, path)
        place.append(step)
        here = _within(here, step)
    return tuple(place)


def _is_entry(content: Any, rest: str) -> bool:
    """Whether a method is written in full, and the rest of a path is one of its settings."""
    return (
        isinstance(content, Mapping)
        and {"method", "settings"} <= set(content)
        and rest.partition(".")[0] not in Entry.model_fields
    )


def _step(here: Any, rest: str, place: list[str | int], path: str) -> tuple[str | int, str]:
    """The next key or row, and what is left of the path."""
    word, _, after = rest.partition(".")
    if isinstance(here, list):
        if word.isdigit() and int(word) < len(here):
            return int(word), after
        raise _nothing(path, word, place, [str(row) for row in range(len(here))])
    if here is not None and not isinstance(here, Mapping):
        raise ConfigError(
            f"--set {path}: {_told(place)} is a value, {here!r:.100}, with nothing below"
        )
    known = list(here or ())
    if not place:
        known = [*dict.fromkeys((*known, *Study.model_fields))]
        known.remove("scale")  # what that means stands under `scales`
    for key in sorted(known, key=lambda one: -len(str(one))):
        if rest == str(key) or rest.startswith(f"{key}."):
            return key, rest[len(str(key)) + 1 :]
    if not place or (len(place) == 1 and place[0] in NAMED):
        raise _nothing(path, word, place, [str(key) for key in known])
    return (word, after) if after and word in ("settings", "methods") else (rest, "")


def _within(here: Any, step: str | int) -> Any:
    if isinstance(here, list):
        return here[int(step)]
    return here.get(step) if isinstance(here, Mapping) else None


def _put(content: dict[str, Any], place: _Place, value: Any) -> None:
    """Set a value, and make what is above it where it is not there."""
    here: Any = content
    for step in place[:-1]:
        if _within(here, step) is None:
            here[step] = {}
        here = here[step]
    here[place[-1]] = value


def _nothing(path: str, word: str, place: list[str | int], known: Collection[str]) -> ConfigError:
    where = f" in {_told(place)}" if place else ""
    return ConfigError(
        f"--set {path}: the study has no {word!r}{where}{nearest(word, known)}; there are: "
        f"{listed(known)}"
    )


def _told(place: list[str | int]) -> str:
    return ".".join(map(str, place))
