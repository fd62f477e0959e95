from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from expunge.errors import ConfigError
from expunge.report import data_files, markdown
from expunge.report.cells import text_of
from expunge.report.figures import gap_figure
from expunge.report.score_tables import score_tables
from expunge.report.tables import note, papers_table
from expunge.scores.gaps import average_gap, excess_gap

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


def to_markdown(frame: pd.DataFrame) -> str:
    return markdown.papers_markdown(score_tables(frame))


def to_json(frame: pd.DataFrame) -> str:
    return data_files.to_json(score_tables(frame))


def to_csv(frame: pd.DataFrame) -> str:
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
    text = to_markdown(both)
    assert text.count("**near**") == 2
    assert text.count("**") == 4
    assert "| scenario |" in text


def test_markdown_of_one_scenario() -> None:
    lines = to_markdown(long_frame()).splitlines()
    assert lines[0].startswith("| method | seeds | UA | MIA | RA | TA | avg gap | excess gap |")
    assert lines[1] == "|---" + "|---:" * 10 + "|"
    assert lines[3].startswith("| retrain | 3 | 5.5±0.5 | 13.2±0.2 | 99.9±0.1 | 94.2±0.3 | – |")
    assert lines[5].startswith("| **near** | 3 | 6.0±0.5 (0.5) |")
    assert lines[8].startswith("n = 3 seeds. Scores are percent: mean ± standard deviation")
    assert "bracket" in lines[8]
    assert lines[8].endswith("Bold: the method with the smallest average gap.")


def test_names_cannot_break_the_markdown() -> None:
    frame = long_frame({"<script>|x": VALUES["far"]})
    assert "| &lt;script&gt;\\|x |" in to_markdown(frame)


def test_without_retrain_there_are_no_gaps() -> None:
    frame = long_frame({"original": VALUES["original"], "near": VALUES["near"]})
    rows = by_method(frame)
    assert rows["near"]["UA"].gap is None
    assert math.isnan(rows["near"]["avg_gap"])
    assert rows["near"]["excess_gap"] is None
    assert "**" not in to_markdown(frame)
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
    assert "| near | 2 (1 failed) |" in to_markdown(frame)
    assert "**far**" in to_markdown(frame)
    frame.loc[frame["method"] == "near", "value"] = math.inf
    assert by_method(frame)["near"]["UA"] is None
    assert "| near | 0 (3 failed) | – | – |" in to_markdown(frame)


def test_csv_has_a_number_per_column() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(long_frame()))))
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


@pytest.mark.parametrize("function", [papers_table, cells, to_markdown, to_csv, to_json])
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
    to_markdown(frame), to_json(frame), to_csv(frame)
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
