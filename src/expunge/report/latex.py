"""The papers' table in LaTeX, for booktabs."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from expunge.errors import ConfigError, nearest
from expunge.report.grid import Grid
from expunge.report.score_tables import ScenarioTables, ScoreTables
from expunge.report.tables import bold_note
from expunge.scores.columns import MEAN_GAP

SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"\,$\pm$\,",
    "–": "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}
"""What is no letter to LaTeX, and what says it. The last four are signs of our own."""


NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?:±(\d+(?:\.\d+)?))?(?: (\(\d+(?:\.\d+)?\)))?")
"""A cell that siunitx aligns: a number, its spread, and a gap in brackets."""


SETUP = r"  \sisetup{separate-uncertainty, detect-weight}"
"""Of siunitx 2 and 3; without the second, a number in bold stays as it is."""


@dataclass(frozen=True)
class LatexStyle:
    """How the tables are written.

    columns: headers to keep, beside the rows' names; of the further scores too. Empty: all.
    short: captions of a few words; what they say else stands in a comment above the table.
    siunitx: columns of numbers as `S` columns of that package, aligned at the decimal point.
    """

    columns: tuple[str, ...] = ()
    short: bool = False
    siunitx: bool = False


ALL = LatexStyle()


def escape(text: str) -> str:
    """A text that LaTeX prints as it stands, in one line; control characters are dropped."""
    plain = " ".join(text.split())
    return "".join(SIGNS.get(sign, sign) for sign in plain if sign.isprintable())


def to_latex(tables: ScoreTables, *, caption: str = "", style: LatexStyle = ALL) -> str:
    r"""One `table` of each scenario, with rules of booktabs; the best method's row is bold. Another
    where there are further scores.

    Needs `\usepackage{booktabs}` and, for quotation marks in names, `\usepackage[T1]{fontenc}`.

    Args:
        tables: of a frame of scores.
        caption: what stands first in every caption, before the scenario.
        style: what to leave out, and how numbers stand.

    Raises:
        ConfigError: for a column that no table has.
    """
    check_columns(tables, style.columns)
    first = f"{caption}. " if caption else ""
    parts = []
    for part in tables.scenarios:
        parts.append(_papers(part, first, style))
        further = part.further and _chosen(part.further, style.columns)
        if further is not None and len(further.columns) > 1:
            parts.append(_further(further, f"{first}Forget {part.scenario}", style))
    packages = r" \usepackage{siunitx}" if style.siunitx else ""
    head = f"% \\usepackage{{booktabs}} \\usepackage[T1]{{fontenc}}{packages}\n"
    return head + "\n".join(parts)


def check_columns(tables: ScoreTables, columns: Collection[str]) -> None:
    """Raise ConfigError for a column that no table has."""
    grids = [grid for part in tables.scenarios for grid in (part.papers, part.further) if grid]
    there = list(dict.fromkeys(name for grid in grids for name in grid.headers[1:]))
    for name in columns:
        if name not in there:
            raise ConfigError(
                f"no table has a column {name!r}{nearest(name, there)}; there are: {', '.join(there)}"
            )


def _chosen(grid: Grid, columns: Collection[str]) -> Grid:
    """The grid with its first column and those asked for; all of them if none is."""
    if not columns:
        return grid
    kept = [n for n, name in enumerate(grid.headers) if n <= grid.named or name in columns]
    lines = (replace(line, cells=tuple(line.cells[n] for n in kept)) for line in grid.lines)
    return replace(grid, columns=tuple(grid.columns[n] for n in kept), lines=tuple(lines))


def _papers(part: ScenarioTables, first: str, style: LatexStyle) -> str:
    grid = _chosen(part.papers, style.columns)
    texts = [line.texts for line in grid.lines]
    formats = _formats(texts, style)
    lines = []
    for line in grid.lines:
        escaped = _cells(line.texts, formats)
        if line.kind == "best":
            for place, header in enumerate(grid.headers):
                if place == 0 or (header == MEAN_GAP and formats[place] == "r"):
                    escaped[place] = f"\\textbf{{{escaped[place]}}}"
                elif header == MEAN_GAP:
                    escaped[place] = f"\\bfseries {escaped[place]}"
        lines.append(_row(escaped))
    kinds = [line.kind for line in grid.lines]
    yardsticks = kinds.count("yardstick")
    if 0 < yardsticks < len(lines):
        lines.insert(yardsticks, r"    \midrule")
    bold = bold_note(part.rows["method"]) if "best" in kinds else ""
    told = f"{first}Forget {part.scenario}"
    return _floating(grid.headers, formats, lines, told, f"{part.note}{bold}", style)


def _further(grid: Grid, told: str, style: LatexStyle) -> str:
    """Scores outside the papers' table."""
    formats = _formats(grid.texts, style)
    lines = [_row(_cells(texts, formats)) for texts in grid.texts]
    said = "mean ± standard deviation over seeds, and of how many where it is not all"
    said = f"{said[0].upper()}{said[1:]}."
    return _floating(grid.headers, formats, lines, f"{told}, further scores", said, style)


def _formats(rows: Sequence[Sequence[str]], style: LatexStyle) -> list[str]:
    """Of each column: `l`, `r`, or an `S` column that fits its numbers."""
    formats = ["l"]
    for texts in list(zip(*rows, strict=True))[1:]:
        found = [match for text in texts if (match := NUMBER.fullmatch(text))]
        if not style.siunitx or not found:
            formats.append("r")
            continue
        whole = max(len(m[1].partition(".")[0]) for m in found)
        decimals = max(len(m[1].partition(".")[2]) for m in found)
        spreads = [len(m[2].replace(".", "").lstrip("0")) for m in found if m[2]]
        spread = f"({max(1, *spreads)})" if spreads else ""
        point = f".{decimals}" if decimals else ""
        gap = max((match[3] for match in found if match[3]), key=len, default="")
        room = (
            f", table-space-text-post={{~{gap}}}" if gap else ""
        )  # else it runs into what follows
        formats.append(f"S[table-format={whole}{point}{spread}{room}]")
    return formats


def _cells(texts: Sequence[str], formats: Sequence[str]) -> list[str]:
    """The texts of a row, escaped; in an `S` column what is no number stands in braces."""
    found = []
    for text, form in zip(texts, formats, strict=True):
        match = NUMBER.fullmatch(text) if form.startswith("S") else None
        if match is not None:
            spread = f" +- {match[2]}" if match[2] else ""
            found.append(f"{match[1]}{spread}{f' {{~{match[3]}}}' if match[3] else ''}")
        else:
            found.append(f"{{{escape(text)}}}" if form.startswith("S") else _kept(escape(text)))
    return found


def _row(escaped: Sequence[str]) -> str:
    return "    " + " & ".join(escaped) + r" \\"


def _floating(
    headers: Sequence[str],
    formats: Sequence[str],
    lines: Sequence[str],
    told: str,
    note: str,
    style: LatexStyle,
) -> str:
    """told: the caption in a few words. note: what it says else."""
    names = [f"{{{escape(name)}}}" if style.siunitx else escape(name) for name in headers]
    head = " & ".join(names)
    caption = f"{told}." if style.short else f"{told}. {note}"
    comment = [f"% {' '.join(note.split())}"] if style.short else []
    return "\n".join(
        [
            *comment,
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{escape(caption)}}}",
            r"  \scriptsize",
            r"  \setlength{\tabcolsep}{3pt}",
            *([SETUP] if style.siunitx else []),
            f"  \\begin{{tabular}}{{{''.join(formats)}}}",
            r"    \toprule",
            f"    {head} \\\\",
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _kept(text: str) -> str:
    """A cell that starts with a bracket would be read as an option of the line break before it."""
    return f"{{{text}}}" if text.startswith(("[", "*")) else text
