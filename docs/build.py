"""Write docs/methods.md from the tables of methods and pruners: `python docs/build.py`.

`--check` only compares.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from expunge.cli.listing import range_of
from expunge.methods import METHODS, Method
from expunge.pruning import PRUNERS, Pruner

PAGE = Path(__file__).with_name("methods.md")


def section(method: type[Method | Pruner]) -> str:
    """One method or pruner: what it does, what it reads, its parameters, its paper."""
    paragraphs = [" ".join(part.split()) for part in (method.__doc__ or "").split("\n\n")]
    lines = [f"## `{method.name}`", "", *(line for part in paragraphs for line in (part, ""))]
    if issubclass(method, Method):
        reads = f"Reads: {', '.join(method.reads.names())}."
        if method.scope == "classes":
            reads += " Forgets whole classes only."
        reads += f" Guarantee: {method.guarantee}."
        for preset, values in method.presets.items():
            shown = ", ".join(f"`{name}={value}`" for name, value in values.items())
            reads += f"\n\nPreset `{method.name}:{preset}`: {shown}."
    else:
        reads = (
            "Cuts trained weights." if method.trained else "Cuts untrained weights, without data."
        )
    lines += [reads, "", f"Source: {method.paper}.", ""]
    if method.model_fields:
        lines += ["| parameter | default | range | meaning |", "|---|---|---|---|"]
        properties = method.model_json_schema()["properties"]
        for name, field in method.model_fields.items():
            bounds = range_of(properties[name]).replace("|", "\\|")
            lines.append(
                f"| `{name}` | {json.dumps(field.default)} | {bounds} | {field.description} |"
            )
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    head = (
        "# Methods\n\nWritten from the code by `python docs/build.py`. A method's fields are its "
        "parameters, with\nthe defaults of its paper; `expunge list methods NAME` shows the same.\n"
    )
    middle = (
        "# Pruners\n\n`expunge prune` makes a sparse original with one of these; whatever is then done "
        "to it keeps\nits mask. Cut are convolution weights, or linear weights where there are no "
        "convolutions.\n"
    )
    methods = [section(method) for method in METHODS.values()]
    return "\n".join([head, *methods, middle, *(section(pruner) for pruner in PRUNERS.values())])


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else "docs/methods.md is stale")
    PAGE.write_text(page(), encoding="utf-8")
