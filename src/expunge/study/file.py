"""A study file, read: its scale chosen, its mistakes told by line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from expunge.disk.reading import read_yaml, reading
from expunge.errors import ConfigError, UserError, nearest, told
from expunge.names.text import clean_name
from expunge.names.values import numbers
from expunge.pruning import PRUNERS
from expunge.study.changes import typed_at, with_changes
from expunge.study.check import ClaimError, check_keys
from expunge.study.claims import parse_claim
from expunge.study.entries import Entry, Space, check_label, entry_of, is_ours, variants
from expunge.study.foreign import Answers, FromCode, FromRecord
from expunge.study.scenarios import scenario_of
from expunge.study.schema import Density, Published, Study
from expunge.training.recipe import Recipe, explain

FACTS = "data.json"
"""What a run writes beside the study file that it keeps."""
SCALES = "scales"
"""The part of a file that says what differs between a small run and a large one."""


def read_study(
    path: str | Path,
    *,
    scale: str | None = None,
    allow_code: bool = False,
    recorded: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Study:
    """Read a study file.

    Args:
        path: of the file.
        scale: which of `scales` to take, whose parts replace those of the same name; None: the first.
        allow_code: consent to import the methods and pruners that the file names as `module:Class`.
        recorded: for looking at a study without running it: the study file that an earlier run wrote.
            Then no code but our own is imported, and what is not ours is as that run recorded it.
        changes: of what the file says at this scale: dotted path, such as `methods.finetune.lr` ->
            value.

    Raises:
        ConfigError: names the line, or the change, and the nearest valid key.
    """
    file = Path(path)
    with reading(f"the study {file}", "write YAML", ConfigError):
        return _read(file, scale, allow_code, recorded, changes or {})


def _read(
    file: Path,
    scale: str | None,
    allow_code: bool,
    recorded: Path | None,
    typed: Mapping[str, Any],
) -> Study:
    try:
        # what a run wrote lies in its folder; whoever names a file may name a link
        content, node = read_yaml(file, within=file.parent if file == recorded else None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise ConfigError(f"{file}{where}: {clean_name(problem)}; mend the line") from error
    check_keys(file, node)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file} is no study; write lines like `data: [digits]`")
    # what a paper printed stays as it printed it
    written = {
        clean_name(str(key)): value if key == "published" else _in_lines(numbers(value))
        for key, value in content.items()
    }
    if file == recorded or (file.parent / FACTS).is_file():
        written = _of_its_time(written)
    chosen, changes = _scale(file, node, written, scale)
    plain = {**{k: v for k, v in written.items() if k != SCALES}, **changes}
    if chosen:
        plain["scale"] = chosen
    plain, places = with_changes(plain, {path: _in_lines(one) for path, one in typed.items()})

    def at(place: tuple[Any, ...], message: str = "") -> str:
        path = typed_at(places, place, message)
        return f"--set {path}" if path else f"{file}, line {line(place, message)}"

    def line(place: tuple[Any, ...], message: str = "") -> int:
        inside = (SCALES, chosen, *place)
        if place:
            return line_of(node, inside if place[0] in changes else place, message)
        keys = _named(_at(node, inside)[1], message) + _named(node, message)
        return min(keys)[1] if keys else 1

    place: tuple[Any, ...] = ()
    try:
        answers = FromCode(allow_code) if recorded is None else FromRecord.read(recorded)
        names = _Foreign(plain, answers)
        for part, check in _parts(plain, names):  # one by one, so that a mistake's place is known
            place = part
            check()
        place = ()
        return Study.model_validate(names.filled())
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{at(problem['loc'])}: {told(explain(error, Study))}") from None
    except UserError as error:
        if isinstance(error, ClaimError):
            place = ("claims", error.row)
        raise ConfigError(f"{at(place, str(error))}: {told(error)}") from None


def _of_its_time(written: dict[str, Any]) -> dict[str, Any]:
    """What a run wrote, with every default filled in: what it lacks was not there when it ran."""
    found = {"controls": False, "class_also": [], "pair": False, **written}
    tuning = found.get("tuning")
    if isinstance(tuning, Mapping):
        found["tuning"] = {"criterion": "oracle", **tuning}
    return found


def _in_lines(value: Any) -> Any:
    """The same with every key in one line: methods and recipes are called so in tables."""
    if isinstance(value, Mapping):
        return {clean_name(key): _in_lines(one) for key, one in value.items()}
    return [_in_lines(one) for one in value] if isinstance(value, list) else value


def _scale(
    file: Path, node: Any, content: Mapping[str, Any], scale: str | None
) -> tuple[str, Mapping[str, Any]]:
    """Name and parts of the scale that is asked for; none of a file without scales."""
    scales = content.get(SCALES, {})
    where = f"{file}, line {line_of(node, (SCALES,))}"
    if not isinstance(scales, Mapping):
        raise ConfigError(f"{where}: scales are names with what each changes under it")
    if not scales and scale:
        raise ConfigError(f"{file} has no scales; leave --scale {scale} out")
    if not scales:
        return "", {}
    chosen = scale or next(iter(scales))
    if chosen not in scales:
        raise ConfigError(
            f"{file} has no scale {chosen!r}{nearest(chosen, scales)}; there are: {', '.join(scales)}"
        )
    changes = scales[chosen]
    if changes is None:
        return chosen, {}
    if not isinstance(changes, Mapping):
        raise ConfigError(f"{where}: scale {chosen} is no list of keys, such as `data: [digits]`")
    return chosen, changes


class _Foreign:
    """The methods and densities of a file, checked one by one; those not ours with their records."""

    def __init__(self, content: Mapping[str, Any], answers: Answers) -> None:
        self._content, self._answers = content, answers
        self._methods: dict[str, Any] = {}
        self._spaces: dict[str, Space] = {}
        self._densities: dict[int, Any] = {}

    def method(self, label: str, value: Any) -> None:
        """Raise ConfigError for a method or settings that there are not."""
        made = entry_of(label, value)
        check_label(label)
        if not isinstance(made, Mapping):
            return
        entry = Entry(**made)
        if is_ours(entry.method):
            entry = entry.model_copy(update={"recorded": None})
        else:
            entry, space = self._answers.entry(label, entry, self._space(label))
            if space is not None:
                self._spaces[label] = space
        self._methods[label] = entry.model_dump()
        variants(label, entry, allow_code=False)  # what is not ours is recorded by now

    def density(self, row: int, value: Mapping[str, Any]) -> None:
        """Raise ConfigError for a pruner or settings that there are not."""
        given = {name: one for name, one in value.items() if name != "recorded"}
        pruner = value.get("pruner")
        if not isinstance(pruner, str) or pruner in PRUNERS:
            Density(**given)
        else:
            # checked for its shape first: something recorded stands for the pruner itself
            shape = Density(**{**given, "recorded": value.get("recorded") or {}})
            given = self._answers.density(shape).model_dump()
        self._densities[row] = given

    def filled(self) -> dict[str, Any]:
        """The file's content with the records of what is not ours."""
        content = dict(self._content)
        if self._methods:
            content["methods"] = {**content["methods"], **self._methods}
        if self._densities:
            content["densities"] = [
                self._densities.get(row, value) for row, value in enumerate(content["densities"])
            ]
        if self._spaces:
            tuning = content["tuning"]
            spaces = {**tuning["methods"], **self._spaces}
            content["tuning"] = {**tuning, "methods": spaces}
        return content

    def _space(self, label: str) -> Space | None:
        """Tuned fields of a method; None where there are none, or `Tuning` will find a fault."""
        tuning = self._content.get("tuning")
        spaces = tuning.get("methods") if isinstance(tuning, Mapping) else None
        space = spaces.get(label) if isinstance(spaces, Mapping) else None
        good = isinstance(space, Mapping) and all(
            bool(one) if isinstance(one, list) else isinstance(one, Mapping) and set(one) >= _ENDS
            for one in space.values()
        )
        return space if good else None


_ENDS = {"low", "high"}


def _parts(
    content: Mapping[str, Any], names: _Foreign
) -> Iterator[tuple[tuple[Any, ...], Callable[[], object]]]:
    """The parts of a study that can be checked alone, with their places."""

    def entries(name: str) -> Iterable[tuple[Any, Any]]:
        part = content.get(name)
        return part.items() if isinstance(part, Mapping) else ()

    def listed(name: str) -> Iterable[tuple[int, Any]]:
        part = content.get(name)
        return enumerate(part) if isinstance(part, list) else ()

    for name, value in entries("recipes"):
        if isinstance(value, Mapping):
            yield ("recipes", name), functools.partial(Recipe, **value)
    for name, value in entries("methods"):
        yield ("methods", name), functools.partial(names.method, name, value)
    for row, value in listed("densities"):
        if isinstance(value, Mapping):
            yield ("densities", row), functools.partial(names.density, row, value)
    for row, value in listed("published"):
        if isinstance(value, Mapping):
            yield ("published", row), functools.partial(Published, **value)
    for row, value in listed("scenarios"):
        yield ("scenarios", row), functools.partial(scenario_of(str(value)).check, str(value))
    for row, value in listed("claims"):
        yield ("claims", row), functools.partial(parse_claim, str(value))


def line_of(node: Any, place: tuple[Any, ...], message: str = "") -> int:
    """Line of the part of a YAML document that a place leads to, from 1.

    message: of a mistake; the key under that part which it names first is more exact.
    """
    line, part = _at(node, place)
    keys = _named(part, message)
    return min(keys)[1] if keys else line


def _at(node: Any, place: tuple[Any, ...]) -> tuple[int, Any]:
    """Line and node that a place leads to; of its last part that is there, without a node."""
    line = node.start_mark.line + 1 if node is not None else 1
    for step in place:
        found = _child(node, step)
        if found is None:
            return line, None
        line, node = found
    return line, node


def _named(node: Any, message: str) -> list[tuple[int, int]]:
    """Of the keys of a mapping that a message names: where in the message, and their lines."""
    return [
        (match.start(), key.start_mark.line + 1)
        for key, _ in (node.value if isinstance(node, yaml.MappingNode) else ())
        if (match := re.search(rf"\b{re.escape(str(key.value))}\b", message))
    ]


def _child(node: Any, step: Any) -> tuple[int, Any] | None:
    """Line and node of a mapping's key or a list's item; None where there is none."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None
