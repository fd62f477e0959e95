"""Scores outside the papers' table, such as a backdoor's or a transfer's: a table of their own."""

from __future__ import annotations

import pandas as pd

from expunge.report.cells import Name, Spread, TableCell
from expunge.report.grid import Column, Grid, Line
from expunge.scores.columns import MEANINGS
from expunge.scores.info import ScoreInfo
from expunge.scores.rows import FAILED, ordered_methods, row_kind
from expunge.scores.table import SCORES, USUAL, score_infos


def further_grid(frame: pd.DataFrame) -> Grid | None:
    """The further scores of one scenario, mean ± standard deviation over seeds; None without any.

    frame: the columns method, seed, score and value, and perhaps unit and target, and bound: "at least"
    or "at most" of a value that is no more than that. Values that are missing are left out.
    """
    rest = further_rows(frame)
    infos = score_infos(rest)
    if not infos:
        return None
    columns = [Column("method", MEANINGS["method"])]
    columns += [Column(header_of(info), info.reads) for info in infos.values()]
    lines = []
    for method in ordered_methods([str(name) for name in rest["method"]]):
        own = rest[rest["method"] == method]
        seeds = int(frame.loc[frame["method"] == method, "seed"].nunique())
        cells: list[TableCell] = [Name(method)]
        for score in infos:
            cells.append(spread_of(own[own["score"] == score], seeds))
        lines.append(Line(tuple(cells), row_kind(method)))
    return Grid(tuple(columns), tuple(lines))


def spread_of(rows: pd.DataFrame, seeds: int) -> Spread:
    """A score over seeds. rows: of one method and score; seeds: that the method has in all."""
    known = rows[rows["value"].notna()]
    values = known["value"]
    bounds = known.reindex(columns=["bound"])["bound"].value_counts()
    caps = [int(bounds.get(kind, 0)) for kind in ("at least", "at most")]
    return Spread(float(values.mean()), float(values.std()), len(values), seeds, *caps)


def further_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a frame that stand in no papers' table."""
    return frame[~frame["score"].isin([*USUAL, FAILED])]


def header_of(info: ScoreInfo) -> str:
    """A score's name; the unit too where no list of this package says it."""
    return f"{info.name}, {info.unit}" if info.unit and info.name not in SCORES else info.name
