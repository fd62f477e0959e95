"""What `list` shows: methods, pruners, data, models, scores and recipes, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticUndefined
from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from expunge.audits import audit_of
from expunge.data.spec import BUILT_IN, OTHER_SPECS
from expunge.errors import ConfigError, nearest
from expunge.methods import METHODS, Method, make_method
from expunge.models.table import ARCHITECTURES
from expunge.pruning import PRUNERS, Pruner
from expunge.scores.table import OF_AUDITS
from expunge.training.recipe import Recipe, Settings

KINDS = ("methods", "pruners", "datasets", "models", "audits", "recipe")


def listing(kind: str | None, name: str | None) -> RenderableType:
    """What `expunge list [KIND] [NAME]` shows. Raises ConfigError for unknown kinds and names."""
    if kind is None:
        return Group(*(_overview(each) for each in KINDS if each != "recipe"))
    if kind not in KINDS:
        raise ConfigError(
            f"no list of {kind!r}{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}"
        )
    if kind == "recipe":
        return Group("A recipe: how a model is trained (--set, --recipe).", _fields(Recipe))
    if name is None:
        return _overview(kind)
    if kind == "methods" and ":" in name:  # NAME:PRESET is described with its method
        name = make_method(name).name
    entries = _entries(kind)
    if name not in entries:
        raise ConfigError(
            f"no {kind.rstrip('s')} {name!r}{nearest(name, entries)}; there are: {', '.join(entries)}"
        )
    if kind == "methods":
        return _method(METHODS[name])
    if kind == "pruners":
        return _method(PRUNERS[name])
    if kind == "audits":
        info = OF_AUDITS[name]
        return Group(
            f"[bold]{name}[/bold]: {escape(info.measures)}",
            f"unit: {info.unit}; target: {info.target}",
            f"needs: {', '.join(sorted(audit_of(name).needs))}",
            f"source: {escape(info.paper)}",
        )
    paper = f"\nsource: {ARCHITECTURES[name].paper}" if kind == "models" else ""
    return f"[bold]{escape(name)}[/bold]: {escape(entries[name])}{escape(paper)}"


def _entries(kind: str) -> Mapping[str, str]:
    if kind == "methods":
        return {name: _summary(method) for name, method in METHODS.items()}
    if kind == "pruners":
        return {name: _summary(pruner) for name, pruner in PRUNERS.items()}
    if kind == "models":
        own = {"module:function": "a function of yours; gets shape= and classes= if it wants them"}
        return {name: one.summary for name, one in ARCHITECTURES.items()} | own
    if kind == "audits":
        return {name: info.measures for name, info in OF_AUDITS.items()}
    return {**BUILT_IN, **OTHER_SPECS}


def _overview(kind: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=kind, title_justify="left", title_style="bold")
    table.add_column("name", no_wrap=kind != "datasets")
    table.add_column("what it is")
    if kind == "methods":
        table.add_column("reads")
    for name, text in _entries(kind).items():
        reads = [", ".join(METHODS[name].reads.names())] if kind == "methods" else []
        table.add_row(escape(name), escape(text), *reads)
    return table


def _summary(method: type[Method | Pruner]) -> str:
    return " ".join((method.__doc__ or "").split("\n\n")[0].split())


def _method(method: type[Method | Pruner]) -> RenderableType:
    paragraphs = [" ".join(part.split()) for part in (method.__doc__ or "").split("\n\n")]
    reads = (
        "reads: "
        + ", ".join(method.reads.names())
        + ("; forgets whole classes only" if method.scope == "classes" else "")
        + f"; guarantee: {method.guarantee}"
        if issubclass(method, Method)
        else ("cuts trained weights" if method.trained else "cuts untrained weights, without data")
    )
    return Group(
        f"[bold]{method.name}[/bold]",
        *(escape(text) + "\n" for text in paragraphs),
        reads,
        *_presets(method),
        f"paper: {escape(method.paper)}",
        _fields(method),
    )


def _presets(method: type[Method | Pruner]) -> list[str]:
    """Published settings other than the defaults, as they are typed."""
    found = method.presets if issubclass(method, Method) else {}
    return [
        f"{method.name}:{preset}  {', '.join(f'{k}={v}' for k, v in values.items())}"
        for preset, values in found.items()
    ]


def _fields(settings: type[Settings]) -> RenderableType:
    """Parameters with type, default, range and meaning."""
    if not settings.model_fields:
        return "parameters: none"
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("parameter", "default", "range", "meaning"):
        table.add_column(name)
    properties = settings.model_json_schema()["properties"]
    for name, field in settings.model_fields.items():
        default = "required" if field.default is PydanticUndefined else json.dumps(field.default)
        table.add_row(
            name, default, escape(range_of(properties[name])), escape(field.description or "")
        )
    return table


def range_of(schema: Mapping[str, Any]) -> str:
    """A JSON schema's bounds as a person writes them."""
    if "anyOf" in schema:
        return " or ".join(range_of(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    kind = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true | false",
        "null": "null",
        "array": "list",
    }.get(schema.get("type", ""), "text")
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return f"{kind} {', '.join(bounds)}".strip()
