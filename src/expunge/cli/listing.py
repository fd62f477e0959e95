"""What `list` shows: methods, pruners, data, models, scores and recipes, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from expunge import methods, pruning
from expunge.audits import ALL_AUDITS, AUDITS, Audit, audit_of
from expunge.audits.base import Need
from expunge.audits.strength import STRENGTHS
from expunge.data.spec import BUILT_IN, DATASETS, OTHER_SPECS
from expunge.errors import ConfigError, UserError, nearest
from expunge.methods import CONTROLS, METHODS, Method, find_method
from expunge.methods.base import Scope
from expunge.models.table import ARCHITECTURES, OTHERS
from expunge.names.catalogue import Catalogue
from expunge.names.code import TYPED
from expunge.pruning import PRUNERS, Pruner
from expunge.scores.table import OF_AUDITS, SCORES
from expunge.training.recipe import Recipe, Settings

KINDS = ("methods", "pruners", "datasets", "models", "audits", "scores", "recipe")
CATALOGUES: Mapping[str, Catalogue[Any]] = {
    "methods": methods.ALL_METHODS,
    "pruners": pruning.ALL_PRUNERS,
    "datasets": DATASETS,
    "audits": ALL_AUDITS,
}
"""The kinds that other packages may add to."""
FACTS: Mapping[str, tuple[str, ...]] = {
    "methods": ("forgets", "proof"),
    "audits": ("made by", "needs"),
}
"""Further columns by kind."""
FORGETS: Mapping[Scope, str] = {
    "any": "any request",
    "class": "whole classes only",
    "random": "made for samples of classes that stay, and warns of a whole class",
    "head": "any request, from the last layer alone",
    "backdoor": "a backdoor, by clean data alone: no request is read",
}
"""What a method's scope means, whole."""
REQUESTS: Mapping[Scope, str] = {
    "any": "any",
    "class": "classes",
    "random": "samples",
    "head": "any (head)",
    "backdoor": "backdoors",
}
"""What a method's scope means, in a column."""
BESIDE: Mapping[Need, str] = {
    "original": "original",
    "retrained": "retrained",
    "shadows": "bank",
    "method": "its weights",
    "siblings": "siblings",
    "swapped": "original",
}
"""What an audit needs besides the model, in a column."""
SHORT = 64
"""Letters of a method's summary in the table to choose from; its card has all of it."""


@dataclass(frozen=True)
class Listed:
    """One line of a list.

    facts: what the further columns of its kind hold. origin: the package that brings it; empty for
    what is ours.
    """

    name: str
    text: str
    facts: tuple[str, ...] = ()
    origin: str = ""


def listing(kind: str | None, name: str | None) -> RenderableType:
    """What `expunge list [KIND] [NAME]` shows. Raises ConfigError for unknown kinds and names."""
    if kind is None:
        return Group(*(_overview(each, _unopened(each)) for each in KINDS if each != "recipe"))
    if kind not in KINDS:
        raise ConfigError(
            f"no list of {kind!r}{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}"
        )
    if kind == "recipe":
        return Group("A recipe: how a model is trained (--set, --recipe).", _fields(Recipe))
    if name is None:
        return _overview(kind, _opened(kind))
    if kind == "methods":  # NAME:PRESET is described with its method
        return _method(find_method(name, allow_code=TYPED), _origin(kind, name.partition(":")[0]))
    if kind == "pruners":
        return _method(pruning.ALL_PRUNERS.find(name, allow_code=TYPED), _origin(kind, name))
    if kind == "audits" and name not in OF_AUDITS:
        return _audit(ALL_AUDITS.find(name, allow_code=TYPED), _origin(kind, name))
    if kind == "audits":  # a score is described too
        kind = "scores"
    entries = {line.name: line.text for line in (*_ours(kind), *_opened(kind))}
    if name not in entries:
        raise ConfigError(
            f"no {kind.rstrip('s')} {name!r}{nearest(name, entries)}; there are: {', '.join(entries)}"
        )
    if kind == "scores":
        info = SCORES[name]
        by = f"; given by: {audit_of(name).name}" if name in OF_AUDITS else ""
        return Group(
            Text.assemble((name, "bold"), f": {info.measures}"),
            *([info.reads] if info.reads else []),
            f"unit: {info.unit}; target: {info.target}{by}",
            f"source: {info.paper}",
        )
    paper = f"\nsource: {ARCHITECTURES[name].paper}" if name in ARCHITECTURES else ""
    origin = f"\nfrom: {_origin(kind, name)}" if _origin(kind, name) else ""
    return Text.assemble((name, "bold"), f": {entries[name]}{paper}{origin}")


def _ours(kind: str) -> list[Listed]:
    """What the package itself has, and what can be typed in its place."""
    if kind == "methods":
        yours = Listed("module:Class", "a class of yours, derived from expunge's Method")
        listed = [_line(name, method) for name, method in METHODS.items()]
        return [*listed, yours, *(_line(name, method) for name, method in CONTROLS.items())]
    if kind == "pruners":
        yours = Listed("module:Class", "a class of yours, derived from expunge's Pruner")
        return [*(_line(name, pruner) for name, pruner in PRUNERS.items()), yours]
    if kind == "models":
        own = [Listed(name, one.summary) for name, one in ARCHITECTURES.items()]
        return [*own, *(Listed(name, text) for name, text in OTHERS.items())]
    if kind == "audits":
        yours = Listed("module:Class", "a class of yours, derived from expunge's Audit")
        return [*(_line(name, audit) for name, audit in AUDITS.items()), yours]
    if kind == "scores":
        return [Listed(name, info.measures) for name, info in SCORES.items()]
    return [Listed(name, text) for name, text in (BUILT_IN | OTHER_SPECS).items()]


def _line(name: str, thing: Any, origin: str = "") -> Listed:
    facts: tuple[str, ...] = ()
    if isinstance(thing, type) and issubclass(thing, Method):
        # cost and reads are told by its card: they would leave no room on a narrow terminal
        facts = (REQUESTS[thing.scope], thing.guarantee.partition("(")[0])
        return Listed(name, first_clause(_summary(thing)), facts, origin)
    if isinstance(thing, type) and issubclass(thing, Audit):
        facts = (_made_by(name, thing), ", ".join(BESIDE[n] for n in BESIDE if n in thing.needs))
    return Listed(name, _summary(thing), facts, origin)


def _made_by(name: str, audit: type[Audit]) -> str:
    """The least strength that makes an audit; "always" of a usual one, "--also" where none does."""
    if audit.usual:
        return "always"
    return next((word for word, names in STRENGTHS.items() if name in names), "--also")


def _unopened(kind: str) -> list[Listed]:
    """What other packages offer, by name alone: nothing of theirs is imported."""
    plugins = CATALOGUES[kind].plugins() if kind in CATALOGUES else ()
    return [Listed(one.name, f"see `expunge list {kind}`", (), one.origin) for one in plugins]


def _opened(kind: str) -> list[Listed]:
    """What other packages offer, imported; and of what cannot be used, why."""
    offered = CATALOGUES[kind].offered() if kind in CATALOGUES else ()
    return [
        Listed(plugin.name, f"cannot be used: {thing}", (), plugin.origin)
        if isinstance(thing, UserError)
        else _line(plugin.name, thing, plugin.origin)
        for plugin, thing in offered
    ]


def _origin(kind: str, name: str) -> str:
    """The package that brings a name, and its version; empty for what is ours."""
    plugins = CATALOGUES[kind].plugins() if kind in CATALOGUES else ()
    return next((one.origin for one in plugins if one.name == name), "")


def _overview(kind: str, others: list[Listed]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=kind, title_justify="left", title_style="bold")
    table.add_column("name", no_wrap=kind != "datasets")
    facts = FACTS.get(kind, ())
    for name in facts:
        table.add_column(name)
    table.add_column("what it is", ratio=1)
    if others:
        table.add_column("from")
    if kind == "methods":
        table.caption = "`expunge list methods NAME`: what it costs, what it reads, when to use it"
        table.caption_justify = "left"
    if kind == "audits":
        table.caption = (
            "made by: the least --strength, or --also NAME alone; needs: besides the model"
        )
        table.caption_justify = "left"
    for line in (*_ours(kind), *others):
        cells = [line.name, *line.facts, *[""] * (len(facts) - len(line.facts)), line.text]
        cells += [line.origin] if others else []
        table.add_row(*cells)
    return table


def first_clause(text: str, most: int = SHORT) -> str:
    """A text of at most so many letters: cut at a mark where one is near the end, else at a word."""
    if len(text) <= most:
        return text
    head = text[: most - 1]  # and two letters for the end
    cut = max(head.rfind(mark) for mark in (", ", "; ", ": ", ". "))
    return f"{head[: cut if cut > most // 2 else head.rfind(' ')]} …"


def _summary(thing: Any) -> str:
    return " ".join((thing.__doc__ or "").split("\n\n")[0].split())


def _method(method: type[Method | Pruner], origin: str) -> RenderableType:
    paragraphs = [" ".join(part.split()) for part in (method.__doc__ or "").split("\n\n")]
    reads = (
        f"reads: {', '.join(method.reads.names())}; forgets: {FORGETS[method.scope]}; "
        f"guarantee: {method.guarantee}"
        if issubclass(method, Method)
        else ("cuts trained weights" if method.trained else "cuts untrained weights, without data")
    )
    return Group(
        Text(method.name, "bold"),
        *(f"{text}\n" for text in paragraphs),
        reads,
        *_presets(method),
        f"paper: {method.paper}",
        *([f"from: {origin}"] if origin else []),
        _fields(method),
    )


def _when(audit: type[Audit]) -> str:
    """When an audit is made, in a sentence."""
    by = _made_by(audit.name, audit)
    if by == "always":
        return "always, where it can be"
    strength = "" if by == "--also" else f", and from --strength {by} on"
    return f"when asked, --also {audit.name}{strength}"


def _audit(audit: type[Audit], origin: str) -> RenderableType:
    """What an audit gives, what it needs and its settings."""
    scores = [f"  {info.name}: {info.measures} ({info.unit}; {info.target})" for info in audit.info]
    return Group(
        Text(audit.name, "bold"),
        " ".join((audit.__doc__ or "").split()) + "\n",
        "scores:",
        *scores,
        f"needs: {', '.join(sorted(audit.needs))}",
        f"made: {_when(audit)}",
        *([f"from: {origin}"] if origin else []),
        _fields(audit),
    )


def _presets(method: type[Method | Pruner]) -> list[str]:
    """Published settings other than the defaults, as they are typed; by a method's name alone."""
    named = issubclass(method, Method) and ":" not in methods.ALL_METHODS.name_of(method)
    found = method.presets if issubclass(method, Method) and named else {}
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
        table.add_row(name, default, range_of(properties[name]), field.description or "")
    return table


def range_of(schema: Mapping[str, Any]) -> str:
    """A JSON schema's bounds as a person writes them."""
    if "anyOf" in schema:
        return " or ".join(range_of(option) for option in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
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
