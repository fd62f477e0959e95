from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_helpers import for_tables, results, study
from rich.console import Console
from scipy import stats

from expunge.cli.show import study_tables
from expunge.errors import ConfigError
from expunge.report import data_files, latex, markdown
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
from expunge.report.figures import gap_figure
from expunge.report.foreign_figure import foreign_figure
from expunge.report.grid import Column, Grid, Line
from expunge.report.latex import LatexStyle, escape, to_latex
from expunge.report.markdown import to_markdown
from expunge.report.page import render
from expunge.report.runs import runs_grid
from expunge.report.score_tables import score_tables
from expunge.report.tables import note, papers_table
from expunge.scores.gaps import average_gap, excess_gap
from expunge.scores.score import Score
from expunge.scores.shown import scores_table

SCORES = ("UA", "MIA", "RA", "TA")
# method -> (UA, MIA, RA, TA, RTE) for seeds 0, 1, 2
VALUES = {
    "near": [
        (5.5, 13.5, 99.0, 94.0, 1.2),
        (6.5, 13.0, 99.2, 93.0, 1.4),
        (6.0, 14.0, 99.1, 93.5, 1),
    ],
    "retrain": [
        (5.0, 13.0, 100.0, 94.5, 20),
        (6.0, 13.4, 99.8, 94.0, 22),
        (5.5, 13.2, 99.9, 94.1, 21),
    ],
    "far": [
        (22.0, 75.0, 99.9, 94.0, 0.05),
        (24.0, 76.0, 99.8, 94.2, 0.04),
        (23.0, 74.0, 99.7, 94.1, 0.06),
    ],
    "floor": [
        (5.2, 13.1, 99.9, 94.3, 20),
        (5.9, 13.5, 99.9, 94.1, 20),
        (5.1, 13.0, 99.8, 94.4, 20),
    ],
    "original": [(0.1, 1.0, 100.0, 94.6, 0), (0.2, 1.1, 99.9, 94.5, 0), (0.0, 1.2, 100.0, 94.7, 0)],
}


def long_frame(
    methods: dict[str, list[tuple[float, ...]]] = VALUES, scenario: str = "random 10 %"
) -> pd.DataFrame:
    rows = [
        (scenario, method, seed, score, value)
        for method, seeds in methods.items()
        for seed, values in enumerate(seeds)
        for score, value in zip((*SCORES, "RTE"), values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["scenario", "method", "seed", "score", "value"])


def cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headers and rows as text."""
    grid = score_tables(frame).papers
    return grid.headers, grid.texts


def markdown_text(frame: pd.DataFrame) -> str:
    return markdown.papers_markdown(score_tables(frame))


def to_json(frame: pd.DataFrame) -> str:
    return data_files.to_json(score_tables(frame))


def csv_text(frame: pd.DataFrame) -> str:
    return data_files.to_csv(score_tables(frame))


def by_method(frame: pd.DataFrame) -> dict[str, dict[str, object]]:
    return {row["method"]: row for row in papers_table(frame).to_dict("records")}


def of(method: str, score: str) -> list[float]:
    return [values[SCORES.index(score)] for values in VALUES[method]]


def test_rows_start_with_the_yardsticks_and_keep_their_order() -> None:
    table = papers_table(long_frame())
    assert list(table["method"]) == ["original", "retrain", "floor", "near", "far"]
    assert set(table["scenario"]) == {"random 10 %"}
    assert list(table["seeds"]) == [3] * 5


def test_a_cell_is_mean_sd_gap_and_interval() -> None:
    cell = by_method(long_frame())["far"]["UA"]
    assert cell.mean == pytest.approx(23)
    assert cell.sd == pytest.approx(1)
    assert cell.gap == pytest.approx(17.5)
    low, high = stats.t.interval(0.95, 2, loc=23, scale=stats.sem(of("far", "UA")))
    assert (cell.low, cell.high, cell.n) == (pytest.approx(low), pytest.approx(high), 3)
    assert text_of(cell) == "23.0±1.0 (17.5)"


def test_an_interval_of_a_percentage_lies_in_what_there_can_be() -> None:
    """Student's interval of 97, 99 and 100 ends above 102; one of seconds may be as it is."""
    values = {"UA": [0.0, 1.0, 4.0], "RA": [97.0, 99.0, 100.0], "RTE": [1.0, 30.0, 2.0]}
    frame = pd.DataFrame(
        [("one class", "x", n, s, v) for s, own in values.items() for n, v in enumerate(own)],
        columns=["scenario", "method", "seed", "score", "value"],
    )
    (row,) = papers_table(frame).to_dict("records")
    assert row["UA"].low == 0.0 < row["UA"].high and row["RA"].high == 100.0 > row["RA"].low
    assert row["RTE"].low < 0


def test_every_row_but_retrain_has_brackets() -> None:
    rows = by_method(long_frame())
    assert text_of(rows["retrain"]["UA"]) == "5.5±0.5"
    for method in ("original", "floor", "near", "far"):
        assert all("(" in text_of(rows[method][score]) for score in SCORES)


def test_one_seed_shows_no_spread() -> None:
    frame = long_frame({method: seeds[:1] for method, seeds in VALUES.items()})
    rows = by_method(frame)
    assert text_of(rows["far"]["UA"]) == "22.0 (17.0)"
    assert math.isnan(rows["far"]["UA"].sd)
    headers, texts = cells(frame)
    far = dict(zip(headers, texts[-1], strict=True))
    assert far["95 % interval"] == "–"
    assert far["excess gap"] != "–"
    assert note(frame).startswith("n = 1 seed.")
    assert "±" not in note(frame)


def test_gaps_agree_with_the_audits() -> None:
    rows = by_method(long_frame())
    for method in ("original", "near", "far"):
        whole = {score: of(method, score) for score in SCORES}
        target = {score: of("retrain", score) for score in SCORES}
        assert rows[method]["avg_gap"] == pytest.approx(average_gap(whole, target).value)
        one_score = long_frame()
        # With all four scores equal, the excess of the average is the excess of the one score.
        ua = one_score[one_score["score"] == "UA"]
        same = pd.concat([ua.assign(score=score) for score in SCORES])
        found = by_method(same)[method]["excess_gap"]
        expected = excess_gap(of(method, "UA"), of("retrain", "UA"), of("floor", "UA"))
        assert (found.value, found.low, found.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_excess_gap_averages_scores_within_a_seed_and_pairs_seeds() -> None:
    frame = long_frame()
    frame = frame[~((frame["method"] == "far") & (frame["seed"] == 1))]
    found = by_method(frame)["far"]["excess_gap"]
    differences = []
    for seed in (0, 2):
        far, retrain, floor = (VALUES[name][seed][:4] for name in ("far", "retrain", "floor"))
        of_method = np.mean([abs(a - b) for a, b in zip(far, retrain, strict=True)])
        of_floor = np.mean([abs(a - b) for a, b in zip(floor, retrain, strict=True)])
        differences.append(of_method - of_floor)
    assert found.n == 2
    assert found.value == pytest.approx(np.mean(differences))


def test_floor_and_retrain_have_no_excess() -> None:
    rows = by_method(long_frame())
    assert rows["floor"]["excess_gap"] is None
    assert rows["retrain"]["excess_gap"] is None
    assert math.isnan(rows["retrain"]["avg_gap"])


def test_cost_in_seconds_and_against_retraining() -> None:
    frame = long_frame()
    assert by_method(frame)["near"]["rte_ratio"] == pytest.approx(1.2 / 21)
    headers, texts = cells(frame)
    near = dict(zip(headers, texts[3], strict=True))
    assert near["RTE s"] == "1.20±0.20"
    assert near["RTE / retrain"] == "0.057"
    assert dict(zip(headers, texts[1], strict=True))["RTE s"] == "21.0±1.0"


def test_the_best_is_a_real_method_of_each_scenario() -> None:
    both = pd.concat([long_frame(), long_frame({"far": VALUES["far"], **VALUES}, "again")])
    table = papers_table(both)
    assert list(table.loc[table["best"].astype(bool), "method"]) == ["near", "near"]
    text = markdown_text(both)
    assert text.count("**near**") == 2
    assert text.count("**") == 4
    assert "| scenario |" in text


def test_markdown_of_one_scenario() -> None:
    lines = markdown_text(long_frame()).splitlines()
    assert lines[0].startswith("| method | seeds | UA | MIA | RA | TA | avg gap | excess gap |")
    assert lines[1] == "|---" + "|---:" * 10 + "|"
    assert lines[3].startswith("| retrain | 3 | 5.5±0.5 | 13.2±0.2 | 99.9±0.1 | 94.2±0.3 | – |")
    assert lines[5].startswith("| **near** | 3 | 6.0±0.5 (0.5) |")
    assert lines[8].startswith("n = 3 seeds. Scores are percent: mean ± standard deviation")
    assert "bracket" in lines[8]
    assert lines[8].endswith("no controls stand beside it.")


def test_names_cannot_break_the_markdown() -> None:
    frame = long_frame({"<script>|x": VALUES["far"]})
    assert "| &lt;script&gt;\\|x |" in markdown_text(frame)


def test_without_retrain_there_are_no_gaps() -> None:
    frame = long_frame({"original": VALUES["original"], "near": VALUES["near"]})
    rows = by_method(frame)
    assert rows["near"]["UA"].gap is None
    assert math.isnan(rows["near"]["avg_gap"])
    assert rows["near"]["excess_gap"] is None
    assert "**" not in markdown_text(frame)
    assert "retrained model" in note(frame)


def test_forgotten_classes_get_their_column_when_present() -> None:
    frame = long_frame()
    extra = frame[frame["score"] == "TA"].assign(score="TA_forget", value=0.0)
    headers, texts = cells(pd.concat([frame, extra]))
    assert headers[2:7] == ["UA", "MIA", "RA", "TA", "TA_forget"]
    assert texts[-1][6] == "0.0±0.0 (0.0)"
    assert "TA_forget" not in cells(frame)[0]


def test_failed_seeds_are_counted_and_never_best() -> None:
    frame = long_frame()
    frame.loc[(frame["method"] == "near") & (frame["seed"] == 1), "value"] = math.nan
    row = by_method(frame)["near"]
    assert (row["seeds"], row["failed"], row["UA"].n) == (2, 1, 2)
    assert "| near | 2 (1 failed) |" in markdown_text(frame)
    assert by_method(frame)["far"]["nearest"], "of those that have all seeds"
    assert "**" not in markdown_text(frame), "but the original is nearer"
    frame.loc[frame["method"] == "near", "value"] = math.inf
    assert by_method(frame)["near"]["UA"] is None
    assert "| near | 0 (3 failed) | – | – |" in markdown_text(frame)


def test_csv_has_a_number_per_column() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(long_frame()))))
    far = rows[-1]
    assert float(far["UA_mean"]) == pytest.approx(23)
    assert float(far["UA_gap"]) == pytest.approx(17.5)
    assert float(far["excess_gap_low"]) < float(far["excess_gap_mean"])
    assert float(far["RTE_mean"]) == pytest.approx(0.05)
    assert "RTE_gap" not in far
    assert rows[1]["UA_gap"] == ""


def test_json_has_no_nan() -> None:
    def refuse(text: str) -> None:
        raise ValueError(text)

    found = json.loads(to_json(long_frame()), parse_constant=refuse)
    assert found["note"] == note(long_frame())
    near = found["rows"][3]
    assert near["method"] == "near"
    assert near["UA"]["mean"] == pytest.approx(6)
    assert near["best"] is True
    assert found["rows"][1]["avg_gap"] is None


@pytest.mark.parametrize("function", [papers_table, cells, markdown_text, csv_text, to_json])
def test_bad_frames_are_refused(function) -> None:
    frame = long_frame()
    with pytest.raises(ConfigError, match="missing: seed"):
        function(frame.drop(columns="seed"))
    with pytest.raises(ConfigError, match=r"two values for .* method near, seed 0, score UA"):
        function(pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(ConfigError, match="no rows"):
        function(frame.iloc[:0])


def test_the_callers_frame_is_left_alone() -> None:
    frame = long_frame()
    before = frame.copy()
    markdown_text(frame), to_json(frame), csv_text(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_figure_is_written_twice_and_reproducibly(tmp_path: Path) -> None:
    both = pd.concat([long_frame(), long_frame(scenario="a class called $x$ & <y>")])
    settings = dict(mpl.rcParams)
    png, svg = gap_figure(both, tmp_path / "new" / "gaps.v1")
    assert (png.name, svg.name) == ("gaps.v1.png", "gaps.v1.svg")
    with Image.open(png) as image:
        assert image.width >= 1000
        assert len(set(image.convert("L").resize((60, 60)).tobytes())) > 5
    assert svg.read_text(encoding="utf-8").startswith("<?xml")
    again = gap_figure(both, tmp_path / "again")[1]
    # no date, and the same words; the layout solver's last digits, and names made of them, may differ
    first, second = (path.read_text(encoding="utf-8") for path in (svg, again))
    assert "dc:date" not in first
    assert re.findall("<!-- (.*?) -->", first) == re.findall("<!-- (.*?) -->", second) != []
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize("left_out", [["retrain"], ["floor"], ["near", "far", "original"]])
def test_figure_makes_do_with_what_there_is(tmp_path: Path, left_out: list[str]) -> None:
    some = {method: seeds[:1] for method, seeds in VALUES.items() if method not in left_out}
    frame = long_frame(some)
    frame = frame[~((frame["method"] == "floor") & (frame["score"] == "UA"))]
    frame.loc[frame["method"] == "far", "value"] = math.nan
    png, _ = gap_figure(frame, tmp_path / "gaps")
    assert png.stat().st_size > 0


# --- typed cells, and that every form of a table formats the same ones


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
        (
            *(Spread(207.0, 254.2, 3, 3, 1), "≥ 207±254 (1 of 3 at the cap)"),
            *("", 207, "n = 3"),
        ),
        (Spread(0.1, NAN, 1, 3, 0, 1), "≤ 0.1 (1 of 3, 1 of 1 at the cap)", "", 0.1, "n = 1"),
        (
            *(Spread(9.0, 1.0, 3, 3, 1, 1), "9±1 (2 of 3 at the cap, on both sides)"),
            *("", 9, "n = 3"),
        ),
        (Spread(12345.0, 0.123, 2, 2), "12345±0.12", "", 12345, "n = 2"),
        (Single(500.0, NAN, NAN, 1, bound="at least"), "≥ 500", "", 500, "n = 1"),
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


# --- latex


NASTY = r"50% & 1_a #2 ${x}$ ~^\ <b> | ±"


def latex_text(frame: pd.DataFrame, caption: str = "") -> str:
    return latex.to_latex(score_tables(frame), caption=caption)


def table(**settings) -> pd.DataFrame:
    return for_tables(results(**settings))


def test_every_sign_of_latex_is_disarmed() -> None:
    assert escape("%&_#${}") == r"\%\&\_\#\$\{\}"
    assert escape("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escape('<a> | "b"') == (
        r"\textless{}a\textgreater{} \textbar{} \textquotedbl{}b\textquotedbl{}"
    )
    assert escape("1.0±0.2 –") == r"1.0\,$\pm$\,0.2 --"
    assert escape("two\n\nlines\tand \x00\x1b control") == "two lines and  control"
    # nothing is left that would start a command or a comment of its own
    assert not re.search(r"(?<!\\)[%&#$_]", escape(NASTY).replace(r"$\pm$", ""))


def test_one_table_of_each_scenario_with_rules_of_booktabs() -> None:
    text = latex_text(table())
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    for rule, count in (("toprule", 2), ("midrule", 4), ("bottomrule", 2)):
        assert text.count(f"\\{rule}") == count
    assert r"\usepackage{booktabs}" in text.splitlines()[0]
    assert "\\hline" not in text and "|" not in text
    assert "Forget one class. n = 3 seeds." in text
    assert r"Forget random 10\%." in text


def test_columns_captions_and_numbers_as_one_asks_for_them() -> None:
    frame = table(scenarios=["class"])
    kept = LatexStyle(columns=("UA", "avg gap"), short=True, siunitx=True)
    text = to_latex(score_tables(frame), style=kept)
    assert r"\usepackage{siunitx}" in text.splitlines()[0]
    assert r"\caption{Forget one class.}" in text
    assert "% n = 3 seeds. Scores are percent" in text, "what the caption said else"
    assert r"{method} & {UA} & {avg gap} \\" in text
    assert re.search(
        r"begin\{tabular\}\{lS\[table-format=3\.1\(\d\), table-space-text-post=\{~\([\d.]+\)\}\]"
        r"S\[table-format=2\.2\]\}",
        text,
    ), "with room for the gaps"
    widest = max((m[1] for m in re.finditer(r"\{~(\(.*?\))\} &", text)), key=len)
    assert f"table-space-text-post={{~{widest}}}" in text
    assert r"\bfseries " in text and "detect-weight" in text, "which makes bold numbers bold"
    (line,) = [one for one in text.splitlines() if one.strip().startswith("retrain")]
    assert re.fullmatch(r" *retrain & [\d.]+ \+- [\d.]+ & \{--\} \\\\", line)
    (line,) = [one for one in text.splitlines() if one.strip().startswith("fisher")]
    assert re.fullmatch(r" *fisher & [\d.]+ \+- [\d.]+ \{~\([\d.]+\)\} & [\d.]+ \\\\", line)
    assert to_latex(score_tables(frame)) == to_latex(score_tables(frame), style=LatexStyle())
    with pytest.raises(ConfigError, match=r"no table has a column 'UB'.*UA"):
        to_latex(score_tables(frame), style=LatexStyle(columns=("UB",)))


def test_rows_hold_what_the_table_holds() -> None:
    frame = table(scenarios=["class"])
    grid = score_tables(frame).papers
    headers, rows = grid.headers, grid.texts
    text = latex_text(frame)
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line.strip() for line in body.splitlines() if line.strip().endswith(r"\\")]
    assert len(lines) == 1 + len(rows)
    for line, texts in zip(lines, [headers, *rows], strict=True):
        found = [one.strip() for one in line.removesuffix(r"\\").split(" & ")]
        plain = [
            re.sub(r"\\textbf\{(.*)\}$", r"\1", one)
            .replace(r"\,$\pm$\,", "±")
            .replace("--", "–")
            .replace("\\", "")
            for one in found
        ]
        assert [one.removeprefix("{").removesuffix("}") for one in plain] == texts
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns and columns[1] == "l" + "r" * (len(headers) - 1)


def test_the_best_is_bold_and_nothing_else() -> None:
    text = latex_text(table(scenarios=["class"]))
    assert text.count(r"\textbf{") == 2
    assert re.search(r"\\textbf\{neggrad\\_plus\} & .* & \\textbf\{[\d.]+\} & ", text)
    assert "no controls stand beside it" in text
    bare = latex_text(table(scenarios=["class"], methods=["original", "finetune"]))
    assert r"\textbf" not in bare and "Bold" not in bare


def test_names_stay_in_their_cell() -> None:
    frame = table(scenarios=["class"])
    frame["method"] = frame["method"].replace("finetune", NASTY)
    frame["scenario"] = "class:" + NASTY
    text = latex_text(frame, caption="A study")
    (line,) = [line for line in text.splitlines() if r"50\% \& 1" in line and line.endswith(r"\\")]
    (other,) = [line for line in text.splitlines() if line.strip().startswith("fisher")]
    ampersands = [len(re.findall(r"(?<!\\)&", one)) for one in (line, other)]
    assert ampersands[0] == ampersands[1]
    assert rf"\caption{{A study. Forget class:{escape(NASTY)}." in text


def test_a_bracket_is_no_option_of_the_line_before() -> None:
    frame = table(scenarios=["class"])
    frame["method"] = frame["method"].replace("finetune", "[x]")
    assert "\n    {[x]} & " in latex_text(frame)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX on this machine")
def test_it_compiles(tmp_path: Path) -> None:
    frame = table()
    frame["method"] = frame["method"].replace("finetune", NASTY)
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}\n"
        f"\\begin{{document}}\n{latex_text(frame)}\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
