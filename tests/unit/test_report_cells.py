"""Typed cells, and that every form of a table formats the same ones."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from report_helpers import for_tables, results, study
from rich.console import Console

from expunge.cli.show import scores_table, study_tables
from expunge.report.cells import (
    Count,
    Digits,
    Interval,
    Mean,
    Missing,
    Name,
    Number,
    Ratio,
    Seconds,
    Several,
    Single,
    Spread,
    TableCell,
    text_of,
)
from expunge.report.data_files import to_csv
from expunge.report.foreign_figure import foreign_figure
from expunge.report.grid import Column, Grid, Line
from expunge.report.latex import to_latex
from expunge.report.markdown import to_markdown
from expunge.report.page import render
from expunge.report.runs import runs_grid
from expunge.report.score_tables import score_tables
from expunge.scores.score import Score

NAN = math.nan


@pytest.mark.parametrize(
    ("cell", "main", "rest", "value", "hint"),
    [
        (Name("a (b)"), "a (b)", "", None, ""),
        (Missing(), "–", "", None, ""),
        (Count(2, 1), "2", "(1 failed)", 2, ""),
        (Count(np.int64(3)), "3", "", 3, ""),
        (
            Mean(93.14, 2.3, 87.4, 98.9, 3, 6.94),
            "93.1±2.3",
            "(6.9)",
            93.14,
            "95 % interval of the mean 87.40 to 98.90, n = 3",
        ),
        (Mean(93.14, NAN, NAN, NAN, 1), "93.1", "", 93.14, "n = 1"),
        (Seconds(1.204, 0.2, NAN, NAN, 2), "1.20±0.20", "", 1.204, "n = 2"),
        (Seconds(0.05, NAN, NAN, NAN, 1), "0.050", "", 0.05, "n = 1"),
        (Seconds(2480.0, 30.0, NAN, NAN, 2), "2480±30", "", 2480, "n = 2"),
        (Number(1.005), "1.00", "", 1.005, ""),
        (Number(-0.3, 2), "-0.30", "", -0.3, "n = 2"),
        (Interval(-1, 2.345, 3), "[-1.00, 2.35]", "", -1, "n = 3"),
        (Interval(NAN, NAN, 1), "–", "", None, "n = 1"),
        (Ratio(1.5), "1.50", "", 1.5, ""),
        (Ratio(0.0571), "0.057", "", 0.0571, ""),
        (Ratio(0.0004), "<0.001", "", 0.0004, ""),
        (Spread(60.0, 1.414, 3, 3), "60±1.4", "", 60, "n = 3"),
        (Spread(60.0, NAN, 1, 3), "60 (1 of 3)", "", 60, "n = 1"),
        (Spread(NAN, NAN, 0, 3), "–", "", None, "n = 0"),
        (Spread(math.inf, NAN, 1, 1), "inf", "", None, "n = 1"),
        (Single(93.14, 92.0, 94.2, 4500, 1), "93.1", "[92.0, 94.2]", 93.14, "n = 4,500"),
        (Single(0.12345, NAN, NAN, NAN), "0.1235", "", 0.12345, ""),
        (Digits(0.05712), "0.0571", "", 0.05712, ""),
        (Digits(NAN), "–", "", None, ""),
        (Digits(50.0, 6, "diverged"), "50", "(diverged)", 50, ""),
        (Several((5.0, 12.46, NAN)), "5.0 / 12.5 / –", "", None, ""),
        (Single(12.345, NAN, NAN, NAN, digits=3), "12.3", "", 12.345, ""),
    ],
)
def test_a_cell_knows_how_it_is_printed(
    cell: TableCell, main: str, rest: str, value: float | None, hint: str
) -> None:
    assert (cell.main, cell.rest, cell.hint) == (main, rest, hint)
    assert cell.value == (None if value is None else pytest.approx(value))
    assert text_of(cell) == f"{main} {rest}".strip()


def test_columns_without_anything_are_left_out() -> None:
    columns = tuple(map(Column, ("method", "a", "b")))
    lines = (
        Line((Name("–"), Missing(), Count(1))),
        Line((Name("x"), Interval(NAN, NAN, 1), Missing())),
    )
    left = Grid(columns, lines).without_empty()
    assert left.headers == ["method", "b"], "a method may be called as it likes"
    assert left.texts == [["–", "1"], ["x", "–"]]


def screen(frame: pd.DataFrame, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(study_tables(frame, width))
    return out.getvalue()


def test_every_form_holds_the_same_cells() -> None:
    frame = for_tables(results(scenarios=["class"], seeds=2))
    tables = score_tables(frame)
    lines = [[text_of(cell) for cell in line.cells] for line in tables.papers.lines]
    plain = to_markdown(tables).replace("**", "")
    wide = re.sub(" {2,}", "  ", screen(frame, 250))
    tex = to_latex(tables).replace(r"\,$\pm$\,", "±").replace("--", "–").replace("\\_", "_")
    tex = re.sub(r"\\textbf\{([^}]*)\}", r"\1", tex)
    tex = re.sub(r"\{(\[[^}]*\])\}", r"\1", tex)
    for texts in lines:
        assert "| " + " | ".join(texts) + " |" in plain
        assert "  ".join(texts) in wide
        assert "    " + " & ".join(texts) + r" \\" in tex


def test_a_bracket_in_a_name_is_no_gap() -> None:
    """The page once cut the terminal's text at its first bracket."""
    frame = results(scenarios=["class"])
    name = "l1_sparse (alpha=1) (3 failed)"
    frame["method"] = frame["method"].replace("l1_sparse", name)
    page = render(study(frame=frame, details=()))
    assert f'<th scope="row" data-value="{name}">{name}</th>' in page
    narrow = screen(for_tables(frame), 120)
    assert "(alpha=1)\n" not in narrow and "l1_sparse" in narrow and "(alpha=1)" in narrow


def foreign(**said: str) -> pd.DataFrame:
    """With a score that no table knows."""
    frame = results(scenarios=["class"])
    more = frame[frame["score"] == "UA"].assign(score="speed", low=np.nan, high=np.nan, **said)
    more["value"] = 100.0 + more["seed"]
    return pd.concat([frame, more], ignore_index=True)


def tables_of(frame: pd.DataFrame) -> pd.DataFrame:
    said = [name for name in ("unit", "target") if name in frame]
    columns = ["scenario", "method", "seed", "score", "value", *said]
    return frame.assign(scenario="one class")[columns]


def test_a_score_of_somebody_elses_is_printed_by_what_its_rows_say() -> None:
    frame = foreign(unit="images/s", target="high")
    table = tables_of(frame)
    tables = score_tables(table)
    further = tables.scenarios[0].further
    assert further is not None and further.headers == ["method", "speed, images/s"]
    assert further.texts[-1] == ["fisher", "101±1"]
    assert "| method | speed, images/s |" in to_markdown(tables)
    assert "method & speed, images/s" in to_latex(tables)
    assert "speed, images/s" in screen(table, 200)
    assert "speed_mean" in to_csv(tables).splitlines()[0], "a program reads the name alone"
    assert runs_grid(frame).headers[-1] == "speed, images/s"
    page = render(study(frame=frame, table=table, details=()))
    reads = "A score of another package, in images/s. High is good."
    assert f"<dt>speed, images/s</dt><dd>{reads}</dd>" in page
    assert f'title="{reads}"' in page
    assert 'id="01-one-class-foreign"' in page


def test_a_score_of_somebody_elses_is_drawn() -> None:
    frame = foreign(unit="percent", target="high")
    frame.loc[frame["score"] == "speed", "value"] = 99.0 + frame["seed"] / 2
    drawn = foreign_figure(frame)
    assert drawn is not None
    assert drawn.caption.endswith("speed: A score of another package, in percent. High is good.")
    (axes,) = drawn.figure.axes
    assert axes.get_title() == "speed, percent"
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[:3] == ["original", "floor", "finetune"] and "retrain" not in names
    ends = [path.vertices[:, 0].max() for bar in axes.collections for path in bar.get_paths()]
    assert max(ends) <= 100, "a share cannot leave 0 to 100"


def test_only_scores_that_say_what_they_are_are_drawn() -> None:
    assert foreign_figure(foreign()) is None, "nothing is known of it"
    known = results(scenarios=["class"]).assign(unit="percent", target="low")
    assert foreign_figure(known) is None
    empty = foreign(unit="images/s")
    empty.loc[empty["score"] == "speed", "value"] = np.nan
    assert foreign_figure(empty) is None


def test_many_scores_of_somebody_elses_leave_some_out() -> None:
    frame = foreign(unit="images/s")
    own = frame[frame["score"] == "speed"]
    frame = pd.concat([own.assign(score=f"speed{n}") for n in range(8)])
    drawn = foreign_figure(frame)
    assert drawn is not None and len(drawn.figure.axes) == 6
    assert "Left out: 2 scores." in drawn.caption


def test_an_audit_shows_a_score_of_somebody_elses() -> None:
    scores = [
        Score("UA", 5.0, 9, 1.0, 9.0, "percent", "retrained"),
        Score("speed", 5.0, 9, None, None, "images/s", "high"),
    ]
    out = io.StringIO()
    Console(file=out, width=200).print(scores_table(scores))
    assert "unlearning accuracy: 100 minus" in out.getvalue()
    assert "in images/s; high is good" in out.getvalue()
