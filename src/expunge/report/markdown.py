"""The tables of scores in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from expunge.names.text import clean_name
from expunge.report.cells import Name
from expunge.report.grid import Grid, Line
from expunge.report.score_tables import ScoreTables
from expunge.report.tables import bold_note
from expunge.report.together import TITLE

HTML = re.compile(r"&|<(?=\S)|(?<!\s)>|>(?!\s)")
"""What begins or ends a tag, or names a sign."""
MARKUP = re.compile(
    r"[\\`*~|]|\[(?![-+.\d]+, [-+.\d]+\](?![(\[:]))|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.",
    re.IGNORECASE,
)
"""What begins code, emphasis, a link, an image or a cell; an address would become a link too. An
interval in brackets is none."""
BEGINNING = re.compile(r"^(#+|[-+=]+|\d+(?=[.)]))(?=[.)]?\s|$)")
"""What makes a line a heading or an item of a list."""


def to_markdown(tables: ScoreTables) -> str:
    """The papers' table with its note, each scenario's best method bold; then the further scores, and
    what the audits say together.
    """
    parts = (papers_markdown(tables), further_markdown(tables), together_markdown(tables))
    return "\n".join(part for place, part in enumerate(parts) if part or place < 2)


def papers_markdown(tables: ScoreTables) -> str:
    """All scenarios in one table; each one's best method is bold."""
    grid = tables.papers
    rows = []
    for line in grid.lines:
        texts = _cells(line)
        if line.kind == "best":
            texts[grid.named] = f"**{texts[grid.named]}**"
        rows.append(texts)
    best = any(line.kind == "best" for line in grid.lines)
    bold = bold_note(tables.rows["method"]) if best else ""
    left = [f"{part.scenario}: {part.left}." for part in tables.scenarios if part.left]
    said = " ".join([tables.note, *left])
    return "\n".join([*_lines(grid, rows), "", escape_markdown(said) + bold, ""])


def further_markdown(tables: ScoreTables) -> str:
    """A table of each scenario that has further scores; empty without any."""
    parts = []
    for part in tables.scenarios:
        if part.further is not None:
            rows = [_cells(line) for line in part.further.lines]
            title = f"Further scores: {escape_markdown(part.scenario)}"
            parts.append("\n".join([title, "", *_lines(part.further, rows), ""]))
    return "\n".join(parts)


def together_markdown(tables: ScoreTables) -> str:
    """A table of each scenario whose audits found something, and a line below it; empty without any."""
    parts = []
    for part in tables.scenarios:
        if part.together is not None:
            title = f"{TITLE}: {escape_markdown(part.scenario)}"
            table = grid_markdown(part.together.grid)
            parts.append(f"{title}\n\n{table}\n{escape_markdown(part.together.note)}\n")
    return "\n".join(parts)


def plain_markdown(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts under its title."""
    head, *rest = (
        f"| {' | '.join(escape_markdown(text) for text in row)} |" for row in (headers, *rows)
    )
    return "\n".join([escape_markdown(title), "", head, "|---" * len(headers) + "|", *rest, ""])


def escape_markdown(text: str) -> str:
    """A text that Markdown shows as it stands, in one line and in one cell."""
    text = clean_name(" ".join(text.split()))
    text = HTML.sub(lambda found: html.escape(found[0]), text)
    text = MARKUP.sub(lambda found: f"\\{found[0]}", text)
    return BEGINNING.sub(
        lambda found: f"{found[1]}\\" if found[1].isdigit() else f"\\{found[1]}", text
    )


def items(sentences: Iterable[str]) -> str:
    """A list of sentences."""
    return "".join(f"- {escape_markdown(sentence)}\n" for sentence in sentences)


def grid_markdown(grid: Grid) -> str:
    """A table."""
    return "\n".join([*_lines(grid, [_cells(line) for line in grid.lines]), ""])


def _cells(line: Line) -> list[str]:
    """The texts of a line; of its cells, names alone come from elsewhere."""
    return [
        escape_markdown(text) if isinstance(cell, Name) else text
        for cell, text in zip(line.cells, line.texts, strict=True)
    ]


def _lines(grid: Grid, rows: Sequence[Sequence[str]]) -> list[str]:
    """Head, rule and rows; `rows` are escaped texts."""
    rule = ["---:" if numeric else "---" for numeric in grid.numeric]
    heads = [escape_markdown(header) for header in grid.headers]
    shown = ["| " + " | ".join(texts) + " |" for texts in (heads, *rows)]
    return [shown[0], "|" + "|".join(rule) + "|", *shown[1:]]
