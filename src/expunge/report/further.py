"""Scores outside the papers' table, such as a backdoor's or a transfer's: a table of their own."""

from __future__ import annotations

import math

import pandas as pd

from expunge.report.tables import AVERAGED, NOTHING, escape_cell, ordered_methods

USUAL = (*AVERAGED, "TA_forget", "RTE", "failed")
"""What the papers' table shows, or counts."""


def further_cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]] | None:
    """Headers and rows of one scenario, mean ± standard deviation over seeds; None without any.

    frame: the columns method, seed, score and value.
    """
    rest = frame[~frame["score"].isin(USUAL)]
    scores = [str(name) for name in rest["score"].unique()]
    if not scores:
        return None
    rows = []
    for method in ordered_methods(rest["method"].tolist()):
        own = rest[rest["method"] == method]
        rows.append([method, *(_text(own[own["score"] == score]["value"]) for score in scores)])
    return ["method", *scores], rows


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


def _text(values: pd.Series[float]) -> str:
    known = values.dropna()
    if not len(known):
        return NOTHING
    sd = float(known.std())
    return f"{known.mean():.4g}" + ("" if math.isnan(sd) else f"±{sd:.2g}")
