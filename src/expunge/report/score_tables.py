"""The tables of a frame of scores, built once: whatever writes them formats these cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from expunge.report.cells import Count, Interval, Missing, Name, Number, Ratio, TableCell
from expunge.report.further import further_grid
from expunge.report.grid import Column, Grid, Line
from expunge.report.tables import clean_frame, note_of, papers_table, score_columns
from expunge.report.together import TogetherTable, together_table
from expunge.scores.columns import (
    EXCESS_GAP,
    INTERVAL,
    MEAN_GAP,
    MEANINGS,
    RATIO,
    SECONDS,
)
from expunge.scores.rows import NAMED, RETRAIN, row_kind
from expunge.scores.verdict import poison_left


@dataclass(frozen=True)
class ScenarioTables:
    """The tables of one scenario.

    rows: of `papers_table`. papers, further: further is None where all scores are usual ones. together:
    what the audits say together; None without findings. left: that a backdoor works on the retrained
    models too, so that nearness to them is none to a clean model; empty where it does not.
    """

    scenario: str
    rows: pd.DataFrame
    papers: Grid
    further: Grid | None
    together: TogetherTable | None
    left: str = ""

    @property
    def note(self) -> str:
        """What the signs mean, and n; and what is wrong with the yardstick."""
        return note_of(self.rows) + (
            f" {self.left[:1].upper()}{self.left[1:]}." if self.left else ""
        )


@dataclass(frozen=True)
class ScoreTables:
    """The tables of a frame.

    frame: as `papers_table` takes it. rows: of `papers_table`. papers: all scenarios in one table,
    which names them in its first column where there are several. findings: of audits, None without.
    """

    frame: pd.DataFrame
    rows: pd.DataFrame
    papers: Grid
    scenarios: tuple[ScenarioTables, ...]
    findings: pd.DataFrame | None = None

    @property
    def note(self) -> str:
        """What the signs mean, and n."""
        return note_of(self.rows)


def score_tables(frame: pd.DataFrame, findings: pd.DataFrame | None = None) -> ScoreTables:
    """Build the tables of a frame.

    frame: as `papers_table` takes it; of scores that this package does not know, perhaps with the
    columns unit and target. findings: of a study, as `expunge.study.findings` has them.

    Raises:
        ConfigError: if a column is missing, there are no rows, or a value stands twice.
    """
    frame = clean_frame(frame)
    findings = None if findings is None else clean_frame(findings)
    rows = papers_table(frame)
    parts = []
    for scenario, part in frame.groupby("scenario", sort=False):
        own = rows[rows["scenario"] == scenario]
        papers = papers_grid(own, score_columns(part))
        together = None
        if findings is not None:
            together = together_table(findings[findings[NAMED] == scenario])
        left = poison_left(
            part.loc[(part["method"] == RETRAIN) & (part["score"] == "ASR"), "value"]
        )
        further = further_grid(part)
        parts.append(ScenarioTables(str(scenario), own, papers, further, together, left))
    several = len(parts) > 1
    whole = papers_grid(rows, score_columns(frame), scenario=several)
    return ScoreTables(frame, rows, whole, tuple(parts), findings)


def papers_grid(rows: pd.DataFrame, scores: Sequence[str], *, scenario: bool = False) -> Grid:
    """Rows of `papers_table` as cells.

    scores: the percent scores to show. scenario: whether to begin with a column that names it.
    """
    headers = ["method", "seeds", *scores, MEAN_GAP, EXCESS_GAP, INTERVAL, SECONDS, RATIO]
    columns = [Column("scenario")] if scenario else []
    columns += [Column(header, MEANINGS[header]) for header in headers]
    lines = []
    for row in rows.to_dict("records"):
        cells: list[TableCell] = [Name(str(row["scenario"]))] if scenario else []
        cells += [Name(str(row["method"])), Count(row["seeds"], row["failed"])]
        cells += _known(row[score] for score in scores)
        excess = row["excess_gap"]
        cells += [
            Missing() if math.isnan(row["avg_gap"]) else Number(row["avg_gap"]),
            Missing() if excess is None else Number(excess.value, excess.n),
            Missing() if excess is None else Interval(excess.low, excess.high, excess.n),
            *_known([row["RTE"]]),
            Missing() if math.isnan(row["rte_ratio"]) else Ratio(row["rte_ratio"]),
        ]
        lines.append(Line(tuple(cells), _kind(row)))
    return Grid(tuple(columns), tuple(lines), named=int(scenario))


def _known(cells: Iterable[TableCell | None]) -> list[TableCell]:
    return [Missing() if cell is None else cell for cell in cells]


def _kind(row: dict[Any, Any]) -> str:
    if row["best"]:
        return "best"
    own = row_kind(row["method"])
    return own if own == "yardstick" or not row["failed"] else "failed"
