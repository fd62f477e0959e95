"""The methods of a study: how a file names them, and what the cells of their rows record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

from expunge.data.parts import Part
from expunge.errors import ConfigError
from expunge.methods import ALL_METHODS, Method, find_method, make_method, method_name
from expunge.scores.rows import NO_METHODS
from expunge.training.recipe import Settings


class Entry(Settings):
    """A method and the settings that it is tried with; a list of values makes a grid.

    recorded: of a method that is not ours, label of each row -> what its cells record of it; then it
    is not made to be known.
    """

    method: str = Field(description="name of a method, NAME:PRESET, or module:Class")
    settings: dict[str, Any] = Field(default={}, description="settings; a list tries each value")
    recorded: dict[str, dict[str, Any]] | None = Field(default=None, description="written by a run")


def check_label(label: str) -> None:
    """Raise ConfigError for a label that is a row of its own."""
    if label in NO_METHODS:
        raise ConfigError(f"a method cannot be called {label!r}; every study has that row")


def entry_of(label: str, content: Any) -> Any:
    """What a file says of a method, in full: `finetune: {lr: 0.01}` and `finetune:` are short forms."""
    if content is None:
        return {"method": label}
    if isinstance(content, Mapping) and "method" in content:
        return (
            {
                "method": content["method"],
                "settings": {k: v for k, v in content.items() if k != "method"},
            }
            if "settings" not in content
            else dict(content)
        )
    if isinstance(content, Mapping):
        return {"method": label, "settings": dict(content)}
    return content


def is_ours(method: str) -> bool:
    """Whether a method, as a file names it, is one of our own tables."""
    return method.partition(":")[0] in ALL_METHODS.own


def unfit(entry: Entry, scenario: str, *, dense: bool = True) -> str:
    """Why a method of ours has no row in a scenario, or for a sparse model; empty where it has one.

    Of methods of others nobody knows it here.
    """
    if not is_ours(entry.method):
        return ""
    method = find_method(entry.method, allow_code=False)
    if method.scope == "class" and scenario.startswith("random:"):
        return "made for whole classes only"
    if Part.FORGET in method.reads and scenario.startswith("clean:"):
        return "reads the poison, of which nothing is known"
    if method.scope == "backdoor" and scenario.partition(":")[0] not in ("poison", "clean"):
        return "made for backdoors only"
    return "" if dense or not method.takes_part else "trains no sparse model"


def method_record(method: Method) -> dict[str, Any]:
    """What a cell records of a method: the name by which it can be made again, and its settings."""
    return {"method": method_name(method), "settings": method.model_dump(mode="json")}


def variants(label: str, entry: Entry, *, allow_code: bool) -> dict[str, dict[str, Any]]:
    """Label of each row -> what its cells record of the method, one value of each listed setting.

    The label names the values. allow_code: whether `module:Class` may be imported.
    Raises ConfigError for methods and settings that there are not.
    """
    if entry.recorded is not None:
        return dict(entry.recorded)
    fields = find_method(entry.method, allow_code=allow_code).model_fields
    for name, value in entry.settings.items():
        if not isinstance(value, list) and name not in fields:
            make_method(entry.method, {name: value}, allow_code=allow_code)  # says what there is
    return {
        named: method_record(make_method(entry.method, one, allow_code=allow_code))
        for named, one in combinations(label, entry.settings, takes_lists(fields)).items()
    }


LISTS = {tuple, list, set, frozenset, Sequence}
"""Types of which one value is written as a list."""


def takes_lists(fields: Mapping[str, FieldInfo]) -> set[str]:
    """Settings of which one value is a list already, such as milestones; two of them are lists of it."""
    return {
        name
        for name, field in fields.items()
        if LISTS & {get_origin(field.annotation), *map(get_origin, get_args(field.annotation))}
    }


def combinations(
    label: str, settings: Mapping[str, Any], lists: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Label of each row -> settings with one value of each that is listed.

    lists: settings of which one value is a list already.
    """

    def is_grid(name: str, value: Any) -> bool:
        each = value if isinstance(value, list) else []
        return bool(each) and isinstance(each[0], list) if name in lists else value is each

    each: list[dict[str, Any]] = [{}]
    listed = [name for name, value in settings.items() if is_grid(name, value)]
    for name, value in settings.items():
        if name in listed and not value:
            raise ConfigError(f"{label}: {name} lists no values; give one or more")
        each = [{**one, name: c} for one in each for c in (value if name in listed else [value])]
    found = {}
    for one in each:
        told = ", ".join(
            f"{name}={one[name]:g}" if isinstance(one[name], float) else f"{name}={one[name]}"
            for name in listed
        )
        named = f"{label} ({told})" if told else label
        if named in found:
            raise ConfigError(f"{label}: two of the listed values read {told}; give others")
        found[named] = one
    return found


Space = Mapping[str, list[Any] | dict[str, Any]]
"""Of a tuned method: field -> values to try, or a range."""


def tuned(entry: Entry, fields: Mapping[str, Any], *, allow_code: bool) -> dict[str, Any]:
    """What a cell records of a tuned method with one choice of its tuned fields."""
    if entry.recorded is None:
        made = make_method(entry.method, {**entry.settings, **fields}, allow_code=allow_code)
        return method_record(made)
    (one,) = entry.recorded.values()
    return {**one, "settings": {**one["settings"], **fields}}


def is_whole(entry: Entry, name: str, ends: Mapping[str, Any], *, allow_code: bool) -> bool:
    """Whether a range of a tuned field is one of whole numbers."""
    if entry.recorded is None:
        method = find_method(entry.method, allow_code=allow_code)
        return method.model_fields[name].annotation is int
    return isinstance(ends["low"], int) and isinstance(ends["high"], int)


def first_of(space: Space) -> dict[str, Any]:
    """The first value of each tuned field, or the low end of its range."""
    return {k: v[0] if isinstance(v, list) else v.get("low") for k, v in space.items()}


def make_trial(label: str, entry: Entry, fields: Mapping[str, Any], *, allow_code: bool) -> Method:
    """A tuned method with values of its tuned fields; ConfigError says that tuning has the fault."""
    try:
        return make_method(entry.method, {**entry.settings, **fields}, allow_code=allow_code)
    except ConfigError as error:
        raise ConfigError(f"tuning {label}: {error}") from error


def check_space(label: str, entry: Entry, space: Space, *, allow_code: bool) -> None:
    """Raise ConfigError for tuned fields and ranges that a method does not have."""
    made = make_trial(label, entry, first_of(space), allow_code=allow_code)
    for name, values in space.items():
        whole = type(made).model_fields[name].annotation is int
        if whole and isinstance(values, dict) and values["high"] != int(values["high"]):
            raise ConfigError(
                f"tuning {label}: {name} is a whole number; high {values['high']!r} is none"
            )
