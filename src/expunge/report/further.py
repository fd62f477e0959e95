"""Scores outside the papers' table, such as a backdoor's or a transfer's: a table of their own."""

from __future__ import annotations

import math

import pandas as pd

from expunge.report.tables import AVERAGED, NOTHING, escape_cell, ordered_methods

USUAL = (*AVERAGED, "TA_forget", "RTE", "failed")
"""What the papers' table shows, or counts."""


def further_values(
    frame: pd.DataFrame,
) -> tuple[list[str], list[tuple[str, list[pd.Series[float]]]]]:
    """Names of the further scores of one scenario; and of each method, its values of each of them.

    frame: the columns method, seed, score and value. Values that are missing are left out.
    """
    rest = frame[~frame["score"].isin(USUAL)]
    scores = [str(name) for name in rest["score"].unique()]
    rows = []
    for method in ordered_methods(rest["method"].tolist()):
        own = rest[rest["method"] == method]
        rows.append((method, [own[own["score"] == s]["value"].dropna() for s in scores]))
    return scores, rows


def further_cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]] | None:
    """Headers and rows of one scenario, mean ± standard deviation over seeds; None without any."""
    scores, rows = further_values(frame)
    if not scores:
        return None
    texts = [[method, *(spread(values) for values in found)] for method, found in rows]
    return ["method", *scores], texts


def further_markdown(frame: pd.DataFrame) -> str:
    """Tables of all scenarios that have further scores; empty without any."""
    parts = []
    for scenario, part in frame.groupby("scenario", sort=False):
        found = further_cells(part)
        if found is None:
            continue
        headers, rows = found
        lines = [f"Further scores: {escape_cell(str(scenario))}", "", _line(headers)]
        lines.append("|---|" + "---:|" * (len(headers) - 1))
        parts.append("\n".join([*lines, *map(_line, rows), ""]))
    return "\n".join(parts)


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(escape_cell(text) for text in texts) + " |"


def spread(values: pd.Series[float]) -> str:
    """`60±1.4`; a dash without values."""
    if not len(values):
        return NOTHING
    sd = float(values.std())
    return f"{values.mean():.4g}" + ("" if math.isnan(sd) else f"±{sd:.2g}")
