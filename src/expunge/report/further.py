"""Scores outside the papers' table, such as a backdoor's or a transfer's: a table of their own."""

from __future__ import annotations

import math

import pandas as pd

from expunge.report.tables import (
    AVERAGED,
    NOTHING,
    escape_cell,
    flat,
    ordered_methods,
    papers_table,
)

USUAL = (*AVERAGED, "TA_forget", "RTE", "failed")
"""What the papers' table shows, or counts."""


def further_values(
    frame: pd.DataFrame,
) -> tuple[list[str], list[tuple[str, list[pd.Series[float]], int]]]:
    """Names of the further scores of one scenario; and of each method, its values of each of them and
    how many seeds it has.

    frame: the columns method, seed, score and value. Values that are missing are left out.
    """
    rest = frame[~frame["score"].isin(USUAL)]
    scores = [str(name) for name in rest["score"].unique()]
    rows = []
    for method in ordered_methods(rest["method"].tolist()):
        own = rest[rest["method"] == method]
        values = [own[own["score"] == s]["value"].dropna() for s in scores]
        rows.append((method, values, int(frame.loc[frame["method"] == method, "seed"].nunique())))
    return scores, rows


def further_cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]] | None:
    """Headers and rows of one scenario, mean ± standard deviation over seeds; None without any."""
    scores, rows = further_values(frame)
    if not scores:
        return None
    texts = [[method, *(spread(values, of) for values in found)] for method, found, of in rows]
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


def csv_with_further(frame: pd.DataFrame) -> str:
    """The papers' table as CSV, and of each further score its mean, standard deviation and n."""
    table = pd.DataFrame(flat(papers_table(frame)))
    rest = frame[~frame["score"].isin(USUAL)]
    for score in rest["score"].unique():
        own = rest[rest["score"] == score].groupby(["scenario", "method"])["value"]
        numbers = own.agg(["mean", "std", "count"])
        numbers.columns = pd.Index([f"{score}_mean", f"{score}_sd", f"{score}_n"])
        table = table.merge(numbers, how="left", left_on=["scenario", "method"], right_index=True)
    return table.to_csv(index=False)


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(escape_cell(text) for text in texts) + " |"


def spread(values: pd.Series[float], of: int) -> str:
    """`60±1.4`, and `60 (1 of 3)` where it is not known of all seeds; a dash without values."""
    if not len(values):
        return NOTHING
    sd = float(values.std())
    known = f" ({len(values)} of {of})" if len(values) < of else ""
    return f"{values.mean():.4g}" + ("" if math.isnan(sd) else f"±{sd:.2g}") + known
