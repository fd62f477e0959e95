"""What all audits say together of each method of a scenario, as one table and a line below it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from expunge.report.cells import Count, Name, TableCell
from expunge.report.grid import Column, Grid, Line
from expunge.scores.columns import MEANINGS
from expunge.scores.finding import ENOUGH
from expunge.scores.joint import joint_level
from expunge.scores.rows import ordered_methods, row_kind
from expunge.scores.words import (
    CANNOT_TELL,
    DAMAGED,
    FORGOT,
    NOT_FORGOTTEN,
    OUTSIDE,
    TOLD_APART,
    means,
)

TITLE = "What the audits say together"
WORDS = (NOT_FORGOTTEN, DAMAGED, TOLD_APART, FORGOT, CANNOT_TELL)
"""A column each."""


@dataclass(frozen=True)
class TogetherTable:
    """grid: a row for each method. note: what its numbers rest on, and what they cannot find."""

    grid: Grid
    note: str


def together_table(findings: pd.DataFrame) -> TogetherTable | None:
    """In how many seeds all audits together find what of a method's models, and by which scores.

    findings: of one scenario; the columns method, seed, score, among_all, together and references as
    `expunge.study.findings` has them. None without any row.
    """
    if not len(findings):
        return None
    columns = [Column("method", MEANINGS["method"]), Column("seeds", MEANINGS["seeds"])]
    columns += [Column(word, f"In how many seeds: {means(word)}.") for word in WORDS]
    told = (
        "Scores that tell a model from retrained ones, by more than chance among all of them, and in "
        "how many seeds."
    )
    columns.append(Column(OUTSIDE, told, words=True))
    lines = []
    for method in ordered_methods([str(name) for name in findings["method"]]):
        own = findings[findings["method"] == method]
        models = own.drop_duplicates("seed")["together"]
        cells: list[TableCell] = [Name(method), Count(len(models))]
        cells += [Count(int((models == word).sum())) for word in WORDS]
        lines.append(Line((*cells, Name(_outside(own))), row_kind(method)))
    return TogetherTable(Grid(tuple(columns), tuple(lines)), _note(findings))


def _outside(own: pd.DataFrame) -> str:
    """Names of scores and in how many seeds each is outside, the most frequent first."""
    counts = own[own["among_all"] == OUTSIDE].groupby("score", sort=False).size()
    falling = counts.sort_values(ascending=False, kind="stable")
    return ", ".join(f"{score} {count}" for score, count in falling.items()) or "none"


def _note(findings: pd.DataFrame) -> str:
    counts = findings["references"].astype(int)
    least, most = int(counts.min()), int(counts.max())
    numbers = " to ".join(str(count) for count in dict.fromkeys([least, most]))
    text = (
        f"Each seed's model was read against {numbers} retrained model{'' if most == 1 else 's'}. "
        "outside: scores that tell it from retraining, and in how many seeds; a true retraining is "
        f"outside in any score of a seed {joint_level(least)}."
    )
    if least < ENOUGH:
        text += (
            f" With fewer than {ENOUGH} retrained models no score can be found within what retraining "
            f'does, and no model to have forgotten: "{CANNOT_TELL}" is the best that can be found.'
        )
    return text
