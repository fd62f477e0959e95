"""A record as a page that a person reads: the parts, what failed, then all figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEANING = {
    0: "nothing that was run failed",
    1: "something failed, or nothing could be run",
    3: "there is no GPU here",
}


def page(content: Mapping[str, Any]) -> str:
    """Markdown of a record's plain data."""
    lines = ["# GPU check", "", verdict(content), ""]
    if content.get("device") == "cpu":
        lines += ["Run on a processor: it shows that the check works, and nothing of a GPU.", ""]
    lines += [f"- {key}: {value}" for key, value in _facts(content).items()]
    lines += ["", "## Parts", "", *_parts(content["parts"])]
    failed = [(name, part) for name, part in content["parts"].items() if part.get("error")]
    if failed:
        lines += ["", "## What failed"]
        for name, part in failed:
            lines += ["", f"**{name}**", "", "```", part["error"].rstrip(), "```"]
    for name, part in content["parts"].items():
        if part.get("figures"):
            lines += ["", f"## {name}", *_figures(part["figures"])]
    return "\n".join(lines) + "\n"


def verdict(content: Mapping[str, Any]) -> str:
    """One sentence; a part that was left out is never counted as passed."""
    statuses = [part["status"] for part in content["parts"].values()]
    counts = ", ".join(
        f"{statuses.count(status)} {status}"
        for status in ("passed", "failed", "left out", "running", "waiting")
        if status in statuses
    )
    if content.get("no_gpu"):
        return f"**{content['no_gpu']}**"
    if content["exit_code"] is None:
        return f"**Not finished**: {counts}. If nothing is running any more, it was killed."
    return f"**{counts}**: {MEANING.get(content['exit_code'], 'it was interrupted')}."


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    facts = {
        key: content[key]
        for key in ("date", "command", "version", "device", "scale", "minutes", "seconds")
        if key in content
    }
    machine = {k: v for k, v in content.get("machine", {}).items() if k != "date"}
    return facts | {key: _cell(value) for key, value in machine.items()}


def _parts(parts: Mapping[str, Any]) -> list[str]:
    rows = [
        {
            "part": name,
            "outcome": part["status"],
            "seconds": part.get("seconds", ""),
            "of at most": part.get("budget_seconds", ""),
            "why": part.get("reason") or _first(part.get("error", "")),
        }
        for name, part in parts.items()
    ]
    return table(rows)


def _figures(figures: Mapping[str, Any]) -> list[str]:
    lines = [""]
    for name, value in figures.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += ["", f"{name.replace('_', ' ')}:", "", *table(value), ""]
        else:
            lines.append(f"- {name.replace('_', ' ')}: {_cell(value)}")
    return lines


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as a Markdown table; its columns are those of all rows, in the order in which they come."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    heads = [column.replace("_", " ") for column in columns]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        lines.append(f"| {' | '.join(_cell(row.get(column, '')) for column in columns)} |")
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    text = "" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _first(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
