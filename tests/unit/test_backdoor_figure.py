"""The figure of a backdoor before and after, and the table of further scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from expunge.report.backdoor_figures import backdoor_figure
from expunge.report.drawn import Drawn
from expunge.report.further import further_grid
from expunge.report.markdown import further_markdown
from expunge.report.score_tables import score_tables

ASR = {"original": (98.0, 97.0), "retrain": (2.0, 3.0), "finetune": (60.0, 20.0)}


def frame(column: int, *, scores: tuple[str, ...] = ("ASR", "SA")) -> pd.DataFrame:
    """Two seeds, one point to either side of the table's value; SA is 90 minus a tenth of it."""
    rows = [
        {
            "scenario": "poison",
            "method": method,
            "seed": seed,
            "score": score,
            "value": (values[column] if score == "ASR" else 90 - values[column] / 10)
            + (2 * seed - 1),
        }
        for method, values in ASR.items()
        for score in scores
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def lines(drawn: Drawn, panel: int) -> dict[str, list[float]]:
    """Label -> heights, as drawn."""
    axes = drawn.figure.axes[panel]
    bars = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    return {
        str(one.get_label()): [float(y) for y in np.asarray(one.lines[0].get_ydata())]
        for one in bars
    }


def test_a_line_for_each_model_over_sparsity() -> None:
    drawn = backdoor_figure({"95 % omp": frame(1), "dense": frame(0)})
    assert drawn is not None
    assert lines(drawn, 0) == {
        "before": [98.0, 97.0],
        "retrained": [2.0, 3.0],
        "finetune": [60.0, 20.0],
    }
    assert lines(drawn, 1)["finetune"] == pytest.approx([84.0, 88.0])
    ticks = [label.get_text() for label in drawn.figure.axes[0].get_xticklabels()]
    assert ticks == ["0", "95"], "dense first, whatever the order"
    assert "low is good" in drawn.caption


def test_without_a_backdoor_there_is_no_figure() -> None:
    assert backdoor_figure({"dense": frame(0, scores=("SA",))}) is None
    assert backdoor_figure({}) is None


def test_one_density_and_a_missing_method() -> None:
    part = frame(0)
    drawn = backdoor_figure({"dense": part[part["method"] != "retrain"]})
    assert drawn is not None and set(lines(drawn, 0)) == {"before", "finetune"}


def test_further_scores_have_a_table_of_their_own() -> None:
    part = pd.concat([frame(0), frame(0).query("score == 'ASR'").assign(score="UA")])
    found = further_grid(part)
    assert found is not None
    assert found.headers == ["method", "ASR", "SA"], "UA stands in the papers' table"
    assert found.texts[-1] == ["finetune", "60±1.4", "84±1.4"]
    text = further_markdown(score_tables(part.assign(scenario="a|b")))
    assert "| finetune | 60±1.4 | 84±1.4 |" in text and "a\\|b" in text
    usual = part[part["score"] == "UA"]
    assert further_grid(usual) is None and further_markdown(score_tables(usual)) == ""
    holes = part.assign(value=np.nan)
    empty = further_grid(holes)
    assert empty is not None and empty.texts[0][1] == "–"
