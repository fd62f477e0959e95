"""A table of every run: its seed, and each score with its interval over samples."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from expunge.report.cells import Count, Missing, Name, Single, TableCell
from expunge.report.further import header_of
from expunge.report.grid import Column, Grid, Line
from expunge.scores.columns import MEANINGS, SECONDS
from expunge.scores.info import ScoreInfo
from expunge.scores.rows import FAILED, ordered_methods, row_kind
from expunge.scores.score import SIGNS
from expunge.scores.table import USUAL, score_infos


def runs_grid(frame: pd.DataFrame) -> Grid:
    """A row for each run of one setting; the usual scores first, then the others as they came.

    frame: the columns method, seed, score and value, and perhaps low, high, n, bound, unit and target.
    """
    broken = frame.loc[frame["score"] == FAILED, ["method", "seed"]]
    failed = set(broken.itertuples(index=False, name=None))
    infos = score_infos(frame)
    scores = [name for name in USUAL if name in infos]
    scores += [name for name in infos if name not in scores]
    found: dict[tuple[str, Any], dict[str, TableCell]] = {}
    names = ["method", "seed", "score", "value", "low", "high", "n", "bound"]
    have = frame.reindex(columns=names)
    for method, seed, score, value, low, high, n, bound in have.itertuples(index=False):
        own = found.setdefault((method, seed), {})
        if score != FAILED:
            own[str(score)] = _cell(infos[str(score)], value, low, high, n, bound)
    order = ordered_methods([method for method, _ in found])
    lines = []
    for method, seed in sorted(found, key=lambda run: (order.index(run[0]), run[1])):
        broke = (method, seed) in failed
        own = found[method, seed]
        cells: list[TableCell] = [Name(f"{method} (failed)" if broke else str(method)), Count(seed)]
        cells += [own.get(score, Missing()) for score in scores]
        kind = "failed" if broke else row_kind(str(method))
        lines.append(Line(tuple(cells), kind))
    columns = [Column("method", MEANINGS["method"]), Column("seed")]
    columns += [_column(infos[score]) for score in scores]
    return Grid(tuple(columns), tuple(lines))


def _column(info: ScoreInfo) -> Column:
    return Column(SECONDS if info.name == "RTE" else header_of(info), info.reads)


def _cell(
    info: ScoreInfo, value: float, low: float, high: float, n: float, bound: object
) -> TableCell:
    if not math.isfinite(value):
        return Missing()
    if info.name == "RTE":  # the seconds of one run: of how many samples means nothing
        return Single(value, low, high, math.nan, 1 if value >= 100 else None, digits=3)
    known = bound if isinstance(bound, str) and bound in SIGNS else None
    return Single(value, low, high, n, info.decimals, bound=known)
