"""The papers' table in LaTeX, for booktabs."""

from __future__ import annotations

import pandas as pd

from expunge.report.further import further_cells
from expunge.report.tables import cells, note, papers_table

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
}
"""What is no letter to LaTeX, and what says it. The last two are signs of our own."""


def escape(text: str) -> str:
    """A text that LaTeX prints as it stands, in one line; control characters are dropped."""
    plain = " ".join(text.split())
    return "".join(SIGNS.get(sign, sign) for sign in plain if sign.isprintable())


def to_latex(frame: pd.DataFrame, *, caption: str = "") -> str:
    r"""One `table` of each scenario, with rules of booktabs; the best method's row is bold. Another
    where there are further scores.

    Needs `\usepackage{booktabs}` and, for quotation marks in names, `\usepackage[T1]{fontenc}`.

    Args:
        frame: as `expunge.report.tables` takes it.
        caption: what stands first in every caption, before the scenario.
    """
    parts = []
    for scenario, part in frame.groupby("scenario", sort=False):
        parts.append(_table(part, str(scenario), caption))
        found = further_cells(part)
        if found is not None:
            parts.append(_further(*found, str(scenario), caption))
    head = "% \\usepackage{booktabs} \\usepackage[T1]{fontenc}\n"
    return head + "\n".join(parts)


def _table(frame: pd.DataFrame, scenario: str, caption: str) -> str:
    headers, rows = cells(frame)
    table = papers_table(frame)
    lines = []
    for texts, row in zip(rows, table.to_dict("records"), strict=True):
        escaped = [_kept(escape(text)) for text in texts]
        if row["best"]:
            place = headers.index("avg gap")
            for column in (0, place):
                escaped[column] = f"\\textbf{{{escaped[column]}}}"
        lines.append("    " + " & ".join(escaped) + r" \\")
    yardsticks = sum(table["method"].isin(["original", "retrain", "floor"]))
    if 0 < yardsticks < len(lines):
        lines.insert(yardsticks, r"    \midrule")
    bold = " Bold: the method with the smallest average gap." if table["best"].any() else ""
    return _floating(headers, lines, f"{_first(caption)}Forget {scenario}. {note(frame)}{bold}")


def _further(headers: list[str], rows: list[list[str]], scenario: str, caption: str) -> str:
    """Scores outside the papers' table."""
    lines = ["    " + " & ".join(_kept(escape(text)) for text in row) + r" \\" for row in rows]
    said = "mean ± standard deviation over seeds, and of how many where it is not all"
    return _floating(headers, lines, f"{_first(caption)}Forget {scenario}, further scores: {said}.")


def _first(caption: str) -> str:
    return f"{caption}. " if caption else ""


def _floating(headers: list[str], lines: list[str], said: str) -> str:
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
