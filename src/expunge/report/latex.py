"""The papers' table in LaTeX, for booktabs."""

from __future__ import annotations

from collections.abc import Sequence

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


def escape(text: str) -> str:
    """A text that LaTeX prints as it stands, in one line; control characters are dropped."""
    plain = " ".join(text.split())
    return "".join(SIGNS.get(sign, sign) for sign in plain if sign.isprintable())


def to_latex(tables: ScoreTables, *, caption: str = "") -> str:
    r"""One `table` of each scenario, with rules of booktabs; the best method's row is bold. Another
    where there are further scores.

    Needs `\usepackage{booktabs}` and, for quotation marks in names, `\usepackage[T1]{fontenc}`.

    Args:
        tables: of a frame of scores.
        caption: what stands first in every caption, before the scenario.
    """
    first = f"{caption}. " if caption else ""
    parts = []
    for part in tables.scenarios:
        parts.append(_papers(part, first))
        if part.further is not None:
            parts.append(_further(part.further, f"{first}Forget {part.scenario}"))
    head = "% \\usepackage{booktabs} \\usepackage[T1]{fontenc}\n"
    return head + "\n".join(parts)


def _papers(part: ScenarioTables, first: str) -> str:
    grid = part.papers
    lines = []
    for line in grid.lines:
        escaped = [_kept(escape(text)) for text in line.texts]
        if line.kind == "best":
            for place in (0, grid.headers.index(MEAN_GAP)):
                escaped[place] = f"\\textbf{{{escaped[place]}}}"
        lines.append(_row(escaped))
    kinds = [line.kind for line in grid.lines]
    yardsticks = kinds.count("yardstick")
    if 0 < yardsticks < len(lines):
        lines.insert(yardsticks, r"    \midrule")
    bold = bold_note(part.rows["method"]) if "best" in kinds else ""
    return _floating(grid.headers, lines, f"{first}Forget {part.scenario}. {part.note}{bold}")


def _further(grid: Grid, told: str) -> str:
    """Scores outside the papers' table."""
    lines = [_row([_kept(escape(text)) for text in texts]) for texts in grid.texts]
    said = "mean ± standard deviation over seeds, and of how many where it is not all"
    return _floating(grid.headers, lines, f"{told}, further scores: {said}.")


def _row(escaped: Sequence[str]) -> str:
    return "    " + " & ".join(escaped) + r" \\"


def _floating(headers: Sequence[str], lines: Sequence[str], said: str) -> str:
    head = " & ".join(escape(name) for name in headers)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{escape(said)}}}",
            r"  \scriptsize",
            r"  \setlength{\tabcolsep}{3pt}",
            f"  \\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
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
