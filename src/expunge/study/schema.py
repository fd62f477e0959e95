"""What a study file says, validated, every default filled in."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from expunge.audits import EXTRA
from expunge.errors import ConfigError, nearest
from expunge.methods import METHODS, Method, make_method
from expunge.pruning import make_pruner
from expunge.recipe import Recipe, Settings, explain
from expunge.study.claims import parse_claim
from expunge.values import numbers

FRESH = "class"
"""The scenario that forgets class s mod C for seed s."""
YARDSTICKS = ("original", "retrain", "floor")
"""Rows that every study has, and that no method may be called."""


class Density(Settings):
    """Dense, or sparse by a pruner: `{pruner: omp, sparsity: 0.95, settings: {...}}`."""

    pruner: str | None = Field(default=None, description="name of a pruner; null: dense")
    sparsity: float = Field(default=0.0, ge=0, lt=1, description="share of weights to cut")
    settings: dict[str, Any] = Field(default={}, description="further settings of the pruner")

    @model_validator(mode="after")
    def _consistent(self) -> Density:
        if self.pruner is None and (self.sparsity or self.settings):
            raise ValueError("a sparsity needs a pruner, such as pruner: omp")
        if self.pruner is not None:
            self.resolved()
        return self

    @property
    def label(self) -> str:
        """As tables show it."""
        return "dense" if self.pruner is None else f"{100 * self.sparsity:g} % {self.pruner}"

    def resolved(self) -> dict[str, Any]:
        """The pruner's name and all of its settings; empty for a dense model."""
        if self.pruner is None:
            return {}
        pruner = make_pruner(self.pruner, {**self.settings, "sparsity": self.sparsity})
        return {"pruner": pruner.name, **pruner.model_dump(mode="json")}


class Entry(Settings):
    """A method and the settings that it is tried with; a list of values makes a grid."""

    method: str = Field(description="name of a method, or NAME:PRESET")
    settings: dict[str, Any] = Field(default={}, description="settings; a list tries each value")


class Tuning(Settings):
    """A search over fields of methods, with the same number of trials for each.

    methods: label -> field -> values to try; with Optuna also a range, as in
    {low: 1e-5, high: 0.1, log: true}.
    """

    seed: int = Field(default=100, description="tuned on; it must not be among the study's seeds")
    trials: int = Field(ge=2, description="for every method")
    search: Literal["grid", "optuna"] = Field(default="grid", description="grid: all combinations")
    methods: dict[str, dict[str, list[Any] | dict[str, Any]]] = Field(
        description="label -> field -> values"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Tuning:
        for label, space in self.methods.items():
            ranges = [name for name, values in space.items() if not isinstance(values, list)]
            for name in ranges:
                if self.search == "grid":
                    raise ConfigError(f"tuning {label}: a grid needs a list of values of {name}")
                if not {"low", "high"} <= set(space[name]) <= {"low", "high", "log"}:
                    raise ConfigError(
                        f"tuning {label}: write {name} as a list, or {{low: 1e-5, high: 0.1, log: true}}"
                    )
            count = math.prod(len(values) for values in space.values())
            if self.search == "grid" and count != self.trials:
                raise ConfigError(
                    f"tuning {label}: its grid has {count} points, and every method gets "
                    f"{self.trials} trials; give as many"
                )
        return self


class Study(Settings):
    """Everything that decides a study's numbers: data x models x recipes x densities x scenarios x
    methods x seeds.

    methods: label -> settings of the method of that name (`finetune: {lr: 0.01}`), or an `Entry`.
    scenarios: forget requests as `--forget` takes them; `class` forgets class s mod C for seed s, and
    random requests draw with seed s.
    """

    name: str = Field(description="of the study")
    data: tuple[str, ...] = Field(min_length=1, description="data specifications")
    models: tuple[str, ...] = Field(min_length=1, description="architectures")
    recipes: dict[str, Recipe] = Field(min_length=1, description="name -> how to train")
    densities: tuple[Density, ...] = Field(default=(Density(),), description="dense and sparse")
    scenarios: tuple[str, ...] = Field(default=(FRESH, "random:0.1"), description="what to forget")
    methods: dict[str, Entry] = Field(description="label -> method")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="paired runs")
    floor: bool = Field(default=True, description="retrain a second time, for the noise floor")
    also: tuple[str, ...] = Field(default=(), description="further scores")
    tuning: Tuning | None = Field(default=None, description="of fields that papers tune")
    claims: tuple[str, ...] = Field(default=(), description="statements that the seeds decide")
    validation: float = Field(default=0.1, ge=0, lt=1, description="share kept for validation")
    split_seed: int = Field(default=0, description="seed of that share")
    keep_weights: Literal["needed", "all"] = Field(
        default="needed", description="needed: of originals and references, for their cells; or all"
    )

    @field_validator("methods", mode="before")
    @classmethod
    def _entries(cls, value: Any) -> Any:
        """`finetune: {lr: 0.01}` is short for an entry of that method."""
        if not isinstance(value, Mapping):
            return value
        return {str(label): _entry(str(label), content) for label, content in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        for label, entry in self.methods.items():
            _check_label(label)
            variants(label, entry)
        self._check_tuning()
        unknown = [name for name in self.also if name not in EXTRA]
        if unknown:
            raise ValueError(
                f"also: no further score {unknown[0]!r}{nearest(unknown[0], EXTRA)}; there are: "
                f"{', '.join(EXTRA)}"
            )
        for claim in self.claims:
            parse_claim(claim)
        for name in ("data", "models", "scenarios", "seeds", "also"):
            values = getattr(self, name)
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"{name} lists {twice[0]!r} twice")
        return self

    def _check_tuning(self) -> None:
        if self.tuning is None:
            return
        if self.tuning.seed in self.seeds:
            raise ValueError(
                f"tuning: seed {self.tuning.seed} is among the seeds that are reported; choose another"
            )
        if not self.validation:
            raise ValueError("tuning needs validation samples; set validation above 0")
        for label, space in self.tuning.methods.items():
            if label not in self.methods:
                raise ValueError(
                    f"tuning: no method {label!r}{nearest(label, self.methods)}; there are: "
                    f"{', '.join(self.methods)}"
                )
            entry = self.methods[label]
            if len(variants(label, entry)) > 1:
                raise ValueError(f"tuning: {label} lists values of its own; tune it, or list them")
            first = {k: v[0] if isinstance(v, list) else v.get("low") for k, v in space.items()}
            make_method(entry.method, {**entry.settings, **first})

    def to_yaml(self) -> str:
        """The study with every default filled in, those of methods too; `read_study` reads it."""
        plain = self.model_dump(mode="json")
        for entry in plain["methods"].values():
            method = make_method(entry["method"])
            entry["settings"] = {**method.model_dump(mode="json"), **entry["settings"]}
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _check_label(label: str) -> None:
    if label in YARDSTICKS:
        raise ConfigError(f"a method cannot be called {label!r}; every study has that row")


def _entry(label: str, content: Any) -> Any:
    if content is None:
        return {"method": label}
    if isinstance(content, Mapping) and "method" in content:
        return {
            "method": content["method"],
            "settings": {k: v for k, v in content.items() if k != "method"},
        } if "settings" not in content else dict(content)  # fmt: skip
    if isinstance(content, Mapping):
        return {"method": label, "settings": dict(content)}
    return content


def variants(label: str, entry: Entry) -> dict[str, Method]:
    """Label -> method with one value of each listed setting; the label names the values.

    Raises ConfigError for methods and settings that there are not.
    """
    fields = METHODS[make_method(entry.method).name].model_fields
    combinations: list[dict[str, Any]] = [{}]
    listed = []
    for name, value in entry.settings.items():
        values = value if isinstance(value, list) else [value]
        if isinstance(value, list):
            listed.append(name)
            if not value:
                raise ConfigError(f"{label}: {name} lists no values; give one or more")
        elif name not in fields:
            make_method(entry.method, {name: value})  # says what there is
        combinations = [{**one, name: choice} for one in combinations for choice in values]
    found = {}
    for one in combinations:
        told = ", ".join(f"{name}={one[name]:g}" if isinstance(one[name], float)
                         else f"{name}={one[name]}" for name in listed)  # fmt: skip
        found[f"{label} ({told})" if told else label] = make_method(entry.method, one)
    return found


def read_study(path: str | Path) -> Study:
    """Read a study file. Raises ConfigError that names the line and the nearest valid key."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the study {file} ({error}); write YAML") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise ConfigError(f"{file}{where}: {problem}; mend the line") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file} is no study; write lines like `data: [digits]`")
    plain = numbers(content)
    place: tuple[Any, ...] = ()
    try:
        for part, check in _parts(plain):  # one by one, so that a mistake's place is known
            place = part
            check()
        place = ()
        return Study.model_validate(plain)
    except ValidationError as error:
        problem = error.errors()[0]
        line = line_of(node, problem["loc"])
        raise ConfigError(f"{file}, line {line}: {explain(error, Study)}") from None
    except ConfigError as error:
        line = line_of(node, place, str(error))
        raise ConfigError(f"{file}, line {line}: {error}") from None


def _parts(content: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], Callable[[], object]]]:
    """The parts of a study that can be checked alone, with their places."""

    def entries(name: str) -> Iterable[tuple[Any, Any]]:
        part = content.get(name)
        return part.items() if isinstance(part, Mapping) else ()

    def listed(name: str) -> Iterable[tuple[int, Any]]:
        part = content.get(name)
        return enumerate(part) if isinstance(part, list) else ()

    def method(label: str, value: Any) -> None:
        made = _entry(label, value)
        _check_label(label)
        if isinstance(made, Mapping):
            variants(label, Entry(**made))

    for name, value in entries("recipes"):
        if isinstance(value, Mapping):
            yield ("recipes", name), functools.partial(Recipe, **value)
    for name, value in entries("methods"):
        yield ("methods", name), functools.partial(method, name, value)
    for row, value in listed("densities"):
        if isinstance(value, Mapping):
            yield ("densities", row), functools.partial(Density, **value)
    for row, value in listed("claims"):
        yield ("claims", row), functools.partial(parse_claim, str(value))


def line_of(node: Any, place: tuple[Any, ...], message: str = "") -> int:
    """Line of the part of a YAML document that a place leads to, from 1.

    message: of a mistake; the key under that part which it names first is more exact.
    """
    line = node.start_mark.line + 1 if node is not None else 1
    for step in place:
        found = _child(node, step)
        if found is None:
            return int(line)
        line, node = found
    named = [
        (match.start(), key.start_mark.line + 1)
        for key, _ in (node.value if isinstance(node, yaml.MappingNode) else ())
        if (match := re.search(rf"\b{re.escape(str(key.value))}\b", message))
    ]
    return int(min(named)[1] if named else line)


def _child(node: Any, step: Any) -> tuple[int, Any] | None:
    """Line and node of a mapping's key or a list's item; None where there is none."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None
