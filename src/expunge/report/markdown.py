"""The tables of scores in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.report.grid import Grid
from expunge.report.score_tables import ScoreTables


def to_markdown(tables: ScoreTables) -> str:
    """The papers' table with its note, each scenario's best method bold; then the further scores."""
    return f"{papers_markdown(tables)}\n{further_markdown(tables)}"


def papers_markdown(tables: ScoreTables) -> str:
    """All scenarios in one table; each one's best method is bold."""
    grid = tables.papers
    rows = []
    for line in grid.lines:
        texts = [escape_markdown(text) for text in line.texts]
        if line.kind == "best":
            texts[grid.named] = f"**{texts[grid.named]}**"
        rows.append(texts)
    best = any(line.kind == "best" for line in grid.lines)
    bold = " Bold: the method with the smallest average gap." if best else ""
    return "\n".join([*_lines(grid, rows), "", tables.note + bold, ""])


def further_markdown(tables: ScoreTables) -> str:
    """A table of each scenario that has further scores; empty without any."""
    parts = []
    for part in tables.scenarios:
        if part.further is not None:
            rows = [[escape_markdown(text) for text in texts] for texts in part.further.texts]
            title = f"Further scores: {escape_markdown(part.scenario)}"
            parts.append("\n".join([title, "", *_lines(part.further, rows), ""]))
    return "\n".join(parts)


def escape_markdown(text: str) -> str:
    """Keep a name from ending its cell or becoming markup."""
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(sign, safe)
    return text


def _lines(grid: Grid, rows: Sequence[Sequence[str]]) -> list[str]:
    """Head, rule and rows; `rows` are escaped texts."""
    rule = ["---" if place <= grid.named else "---:" for place in range(len(grid.columns))]
    heads = [escape_markdown(header) for header in grid.headers]
    shown = ["| " + " | ".join(texts) + " |" for texts in (heads, *rows)]
    return [shown[0], "|" + "|".join(rule) + "|", *shown[1:]]
