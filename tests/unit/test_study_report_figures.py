from __future__ import annotations

import io
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from report_helpers import CLASSES, details, for_tables, results
from rich.console import Console

from expunge.cli.show import study_tables
from expunge.report.ablation_figure import ablation_figure, ablations
from expunge.report.backdoor_figures import backdoor_figure
from expunge.report.data_files import to_csv
from expunge.report.drawn import Drawn, inline_svg, save_figure
from expunge.report.further import further_grid
from expunge.report.labels import labels_of, lines_of
from expunge.report.latex import to_latex
from expunge.report.markdown import further_markdown, to_markdown
from expunge.report.model_figures import PANELS, class_figure, confidence_figure
from expunge.report.runs import runs_grid
from expunge.report.score_tables import score_tables
from expunge.report.study_figures import (
    RADARS,
    SERIES,
    cost_figure,
    nearest_methods,
    pareto,
    percent_cut,
    radar_figure,
    sparsity_figure,
)
from expunge.report.tables import papers_table

NASTY = "<script>alert('$x$')</script> & co"
METHODS = ["original", "retrain", "floor"]
MANY = METHODS + [f"method_{n}" for n in range(30)]


LONG = "a method with a name that is very long, and all that differs is the last: "
GRID = [f"{LONG}{n}" for n in range(9)]
LR = {f"finetune (lr={lr:g})": lr for lr in (0.001, 0.01, 0.1)}


@pytest.mark.parametrize(
    "names",
    [
        GRID,
        ["x" * 60 + str(n) for n in range(3)],
        [f"{LONG}{one}{other}" for one in "ab" for other in ("c" * 30 + "d", "c" * 30 + "e")],
        ["short", *GRID, "short too"],
    ],
)
@pytest.mark.parametrize("width", [16, 22, 30])
def test_no_two_names_have_one_label(names: list[str], width: int) -> None:
    labels = labels_of(names, width)
    assert len({*labels.values()}) == len(labels) == len(names)
    assert all(len(label) <= width for label in labels.values())
    for label in (lines := lines_of(names, width, 2)).values():
        assert all(len(line) <= width for line in label.split("\n")) and label.count("\n") <= 1
    assert len({*lines.values()}) == len(names)


def test_a_name_that_fits_is_left_as_it_is() -> None:
    assert labels_of(["retrain", GRID[0]], 22) == {
        "retrain": "retrain",
        GRID[0]: GRID[0][:21] + "…",
    }


def test_methods_are_told_apart_in_every_figure() -> None:
    names = [*METHODS, *GRID[:4]]
    table = rows(methods=names)
    tables = {d: rows(methods=names) for d in ("dense", "90 % omp")}
    for drawn in (radar_figure(table), cost_figure(table), sparsity_figure(tables)):
        assert drawn is not None
        told = [text for text in texts(drawn.figure) if text.startswith(GRID[0][:5])]
        assert len(told) == len(set(told)) == 4, told


def test_an_ablation_shows_a_score_over_one_setting() -> None:
    frame = results(scenarios=["class"], methods=[*METHODS, *LR, "unsir"])
    frame["set.lr"] = frame["method"].map(LR)
    frame["set.epochs"] = frame["method"].map(dict.fromkeys(LR, 5))
    (found,) = ablations(frame)
    assert (found.method, found.setting) == ("finetune", "lr")
    assert [*found.rows] == [0.001, 0.01, 0.1]
    table = papers_table(for_tables(frame))
    drawn = ablation_figure(table, found)
    axes = panel(drawn.figure, "UA, %")
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.001", "0.01", "0.1"]
    shown = axes.get_lines()[0].get_ydata()
    assert list(shown) == pytest.approx([mean(table, name, "UA") for name in LR])
    assert "finetune" in drawn.title and "lr" in drawn.title


def test_no_ablation_where_more_than_one_setting_varies_or_none() -> None:
    frame = results(scenarios=["class"], methods=[*METHODS, *LR])
    assert ablations(frame) == []  # nothing is known of settings
    frame["set.lr"] = frame["method"].map(LR)
    frame["set.epochs"] = frame["method"].map(dict(zip(LR, (1, 2, 3), strict=True)))
    assert ablations(frame) == []
    words = frame.assign(
        **{"set.epochs": 5, "set.lr": frame["method"].map(dict(zip(LR, "abc", strict=True)))}
    )
    (found,) = ablations(words)
    assert [*found.rows] == ["a", "b", "c"]
    assert ablation_figure(papers_table(for_tables(words)), found).figure


def test_an_ablation_is_of_rows_that_the_plan_calls_alike() -> None:
    """What a person writes in brackets is a part of the name, and tells methods apart."""
    names = [
        "mine (v2)",
        "mine (v3)",
        "mine (v2) (lr=0.1)",
        "mine (v2) (lr=0.2)",
        "mine (b=1) (lr=2)",
    ]
    frame = results(scenarios=["class"], methods=[*METHODS, *names])
    values = dict(zip(names, (0.5, 0.6, 0.1, 0.2, 2.0), strict=True))
    frame["set.lr"] = frame["method"].map(values)
    assert [one.method for one in ablations(frame[~frame["method"].isin(names[2:])])] == []
    frame = frame[~frame["method"].isin(names[:2])]
    (found,) = ablations(frame)
    assert found.method == "mine (v2)" and [*found.rows.values()] == names[2:4]


def rows(**settings) -> pd.DataFrame:
    return papers_table(for_tables(results(**{"scenarios": ["class"], **settings})))


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def mean(table: pd.DataFrame, method: str, score: str) -> float:
    return float(table.loc[table["method"] == method, score].iloc[0].mean)


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title and axes.get_visible()]
    return axes


def test_methods_come_nearest_first_without_yardsticks() -> None:
    table = rows()
    names = nearest_methods(table)
    gaps = {row["method"]: row["avg_gap"] for row in table.to_dict("records")}
    assert names == sorted(set(gaps) - set(METHODS), key=gaps.__getitem__)
    bare = rows(methods=["original", "finetune", "fisher"])  # no retrained model, no gaps
    assert nearest_methods(bare) == ["finetune", "fisher"]


def test_radar_divides_by_the_best_and_prints_it() -> None:
    table = rows()
    drawn = radar_figure(table)
    assert drawn is not None
    first, second = drawn.figure.axes[:2]
    methods = ["retrain", *nearest_methods(table)]
    best = {s: max(mean(table, m, s) for m in methods) for s in ("UA", "MIA", "RA", "TA")}
    fastest = min(mean(table, m, "RTE") for m in methods)
    rim = [label.get_text() for label in first.get_xticklabels()]
    assert rim == [*(f"{s}\n{v:.1f}" for s, v in best.items()), f"RTE\n{fastest:.3g} s"]
    target, own = (line.get_ydata() for line in second.get_lines())
    name = nearest_methods(table)[0]
    assert second.get_title() == name
    for line, method in ((target, "retrain"), (own, name)):
        shares = [mean(table, method, s) / v for s, v in best.items()]
        assert line[:5] == pytest.approx([*shares, fastest / mean(table, method, "RTE")])
        assert line[5] == line[0]  # closed


def test_radar_tells_lines_apart_without_colour() -> None:
    drawn = radar_figure(rows())
    assert drawn is not None
    target, own = drawn.figure.axes[1].get_lines()
    assert target.get_linestyle() != own.get_linestyle()
    assert own.get_marker() != target.get_marker()


def test_radar_needs_all_five_scores_and_a_retrained_model() -> None:
    assert radar_figure(rows(methods=["original", "finetune"])) is None
    frame = for_tables(results(scenarios=["class"]))
    frame = frame[~((frame["method"] == "fisher") & (frame["score"] == "RTE"))]
    drawn = radar_figure(papers_table(frame))
    assert drawn is not None
    assert "fisher" not in texts(drawn.figure)
    assert "Left out: 1 method, farthest away or without all five scores." in drawn.caption


def test_nearer_than_the_floor_is_chance_and_no_merit() -> None:
    """On a logarithmic axis 0.0001 points would look like the best of all."""
    table = rows()
    floor = float(table.loc[table["method"] == "floor", "avg_gap"].iloc[0])
    own = nearest_methods(table)
    table.loc[table["method"].isin(own[:2]), "avg_gap"] = [floor / 100, floor / 10]
    drawn = cost_figure(table)
    assert drawn is not None
    heights = [
        float(d.get_ydata()[0]) for d in drawn.figure.axes[0].get_lines() if d.get_marker() == "o"
    ]
    assert min(heights) == floor and heights.count(floor) == 2
    assert f"Nearer than the floor is chance, and drawn at it: {own[0]}, {own[1]}" in drawn.caption


def test_thirty_methods_fit() -> None:
    table = rows(methods=MANY)
    radar, cost = radar_figure(table), cost_figure(table)
    assert radar is not None and cost is not None
    titles = [axes.get_title() for axes in radar.figure.axes if axes.get_visible()]
    assert titles == ["retrain", *nearest_methods(table)[:RADARS]]
    assert f"Left out: {30 - RADARS} methods, farthest" in radar.caption
    dots = [line for line in cost.figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert len(dots) == 30
    assert re.search(r"Left out: \d+ names?\.", cost.caption)
    cost.figure.draw_without_rendering()
    renderer = cost.figure.canvas.get_renderer()
    named = [t for t in cost.figure.axes[0].texts if t.get_text().startswith("method_")]
    boxes = [text.get_window_extent(renderer) for text in named]
    assert boxes
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
    height = max(drawn.figure.get_figheight() for drawn in (radar, cost))
    assert height < 8


def test_the_pareto_front() -> None:
    points = {"a": (1.0, 5.0), "b": (2.0, 3.0), "c": (3.0, 4.0), "d": (4.0, 1.0), "e": (4.0, 2.0)}
    assert pareto(points) == ["a", "b", "d"]
    assert pareto({"a": (1.0, 1.0)}) == ["a"]


def test_cost_shows_ratio_and_gap_of_each_method() -> None:
    table = rows()
    drawn = cost_figure(table)
    assert drawn is not None
    lines = drawn.figure.axes[0].get_lines()
    dots = {
        (float(x[0]), float(y[0]))
        for x, y in (line.get_data() for line in lines if line.get_marker() == "o")
    }
    own = table[~table["method"].isin(METHODS)]
    expected = {(float(x), float(y)) for x, y in zip(own["rte_ratio"], own["avg_gap"], strict=True)}
    assert dots == expected
    assert "neggrad_plus" in texts(drawn.figure)
    front = drawn.caption.split("Front: ")[1].rstrip(".").split(", ")
    assert set(front) >= {"gradient_ascent", "neggrad_plus"}
    assert "fisher" not in front  # dearer and farther than others


def test_cost_of_one_method_is_no_figure() -> None:
    assert cost_figure(rows(methods=["retrain", "floor", "finetune"])) is None
    assert cost_figure(rows(methods=["original", "finetune", "fisher"])) is None


def test_sparsities_are_read_from_labels() -> None:
    assert percent_cut("dense") == (0.0, "")
    assert percent_cut("95 % omp") == (95.0, "omp")
    assert percent_cut("99.5% imp") == (99.5, "imp")
    assert percent_cut("model:build") is None


def test_scores_against_sparsity() -> None:
    frame = results(scenarios=["class"], densities=["95 % omp", "dense", "50 % omp"])
    long = for_tables(frame)
    tables = {
        density: papers_table(long[long["scenario"] == f"one class, {density}"])
        for density in ("95 % omp", "dense", "50 % omp")
    }
    drawn = sparsity_figure(tables)
    assert drawn is not None
    axes = panel(drawn.figure, "UA, %")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "50", "95"]
    lines = {line.get_label(): line for line in axes.get_lines()}
    for method in ("retrain", "finetune"):
        found = [mean(tables[d], method, "UA") for d in ("dense", "50 % omp", "95 % omp")]
        assert list(lines[method].get_ydata()) == pytest.approx(found)
    gaps = {
        line.get_label(): line for line in panel(drawn.figure, "average gap, points").get_lines()
    }
    found = [
        float(t.loc[t["method"] == "fisher", "avg_gap"].iloc[0])
        for t in (tables["dense"], tables["50 % omp"], tables["95 % omp"])
    ]
    assert list(gaps["fisher"].get_ydata()) == pytest.approx(found)
    (box,) = [axes.get_legend() for axes in drawn.figure.axes if axes.get_legend()]
    named = [text.get_text() for text in box.get_texts()]
    assert named[0] == "retrain" and not any(name.startswith("_") for name in named)
    looks = {(lines[n].get_linestyle(), lines[n].get_marker()) for n in named}
    assert len(looks) == len(named)  # without colour too
    assert sparsity_figure({"dense": tables["dense"]}) is None


def test_many_methods_against_sparsity() -> None:
    long = for_tables(results(scenarios=["class"], densities=["dense", "95 % omp"], methods=MANY))
    tables = {
        d: papers_table(long[long["scenario"] == f"one class, {d}"]) for d in ("dense", "95 % omp")
    }
    drawn = sparsity_figure(tables)
    assert drawn is not None
    (box,) = [axes.get_legend() for axes in drawn.figure.axes if axes.get_legend()]
    assert len(box.get_texts()) == SERIES + 1
    assert f"Left out: {30 - SERIES} methods, the farthest." in drawn.caption


def test_accuracy_of_each_class_before_and_after() -> None:
    found = details(results(scenarios=["class"]))
    drawn = class_figure(found, ["neggrad_plus", "fisher"])
    assert drawn is not None
    axes = panel(drawn.figure, "fisher")
    first = drawn.figure.axes[0]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == ["cat (forgotten)", *(name for name in CLASSES if name != "cat")]
    order = [CLASSES.index(label.removesuffix(" (forgotten)")) for label in labels]
    for line, method in zip(axes.get_lines(), ("original", "retrain", "fisher"), strict=True):
        seeds = [d["class_accuracy"] for d in found if d["method"] == method]
        assert list(line.get_xdata()) == pytest.approx(np.mean(seeds, axis=0)[order])
    markers = {(line.get_marker(), line.get_markerfacecolor()) for line in axes.get_lines()}
    assert len(markers) == 3
    assert "Mean over seeds" in drawn.caption


def test_seeds_that_forget_other_classes_are_not_averaged() -> None:
    found = details(results(scenarios=["class"]))
    for one in found:
        one["forgotten_classes"] = [CLASSES[one["seed"]]]
    drawn = class_figure(found, ["finetune"])
    assert drawn is not None
    assert "Seed 0 alone" in drawn.caption
    assert drawn.figure.axes[0].get_yticklabels()[0].get_text() == "airplane (forgotten)"
    (own,) = [d for d in found if d["method"] == "finetune" and d["seed"] == 0]
    after = drawn.figure.axes[0].get_lines()[-1].get_xdata()
    assert list(after) == pytest.approx(own["class_accuracy"])


def test_many_classes_and_methods_are_cut_and_counted() -> None:
    names = [f"class {n}" for n in range(100)]
    found = details(results(scenarios=["class"], methods=MANY, seeds=1), names)
    methods = MANY[3:]
    drawn = class_figure(found, methods)
    assert drawn is not None
    assert len([axes for axes in drawn.figure.axes if axes.get_title()]) == PANELS
    assert len(drawn.figure.axes[0].get_yticklabels()) == 30
    assert drawn.figure.axes[0].get_yticklabels()[0].get_text() == "class 3 (forgotten)"
    assert "Left out: 70 classes" in drawn.caption
    assert "Not shown: method_5, method_6" in drawn.caption and "and others" in drawn.caption


def test_classes_without_samples_have_a_gap() -> None:
    found = details(results(scenarios=["class"], methods=["original", "finetune"], seeds=1))
    for one in found:
        one["class_accuracy"][3] = None
    drawn = class_figure(found, ["finetune"])
    assert drawn is not None
    assert math.isnan(drawn.figure.axes[0].get_lines()[-1].get_xdata()[0])


def test_confidence_in_percent_of_samples() -> None:
    found = details(results(scenarios=["class"]))
    drawn = confidence_figure(found, ["finetune"])
    assert drawn is not None
    assert [axes.get_title() for axes in drawn.figure.axes] == [
        "forget set",
        "retain set",
        "test set",
    ]
    filled, method, before, target = drawn.figure.axes[0].patches
    for outline, name in ((method, "finetune"), (before, "original"), (target, "retrain")):
        counts = np.sum([d["confidence"]["forget"] for d in found if d["method"] == name], axis=0)
        assert outline.get_data().values == pytest.approx(100 * counts / counts.sum())
    assert filled.get_fill() and not target.get_fill()
    assert len({str(p.get_linestyle()) for p in (method, before, target)}) == 3
    assert "original" in texts(drawn.figure) and "retrained" in texts(drawn.figure)


def test_what_details_lack_is_left_out() -> None:
    assert class_figure([], ["finetune"]) is None
    assert confidence_figure([], ["finetune"]) is None
    some = [{"method": "finetune", "seed": 0, "confidence": {"forget": [1, 2, 3]}}]
    assert class_figure(some, ["finetune"]) is None
    drawn = confidence_figure(some, ["finetune"])
    assert drawn is not None
    assert "original" not in texts(drawn.figure)
    assert (
        confidence_figure([{"method": "finetune", "seed": 0, "confidence": {}}], ["finetune"])
        is None
    )


def test_inline_svg_is_bare_and_escaped(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    table = rows()
    table["method"] = table["method"].replace("neggrad_plus", NASTY)
    drawn = cost_figure(table)
    assert drawn is not None
    svg = inline_svg(drawn.figure, "one", 'what "it" shows')
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg" and root.get("role") == "img"
    assert root.get("aria-label") == 'what "it" shows'
    assert {element.tag for element in root.iter()} <= {
        "svg",
        "g",
        "path",
        "defs",
        "use",
        "text",
        "clipPath",
        "rect",
        "tspan",
    }
    assert "<script" not in svg and "http" not in svg and "xmlns" not in svg
    assert any((text.text or "").startswith("<script>alert") for text in root.iter("text"))
    known = {element.get("id") for element in root.iter() if element.get("id")}
    links = [use.get("href", "") for use in root.iter("use")]
    assert links and {link.removeprefix("#") for link in links} <= known
    other = ElementTree.fromstring(inline_svg(drawn.figure, "two", ""))
    assert known.isdisjoint(element.get("id") for element in other.iter() if element.get("id"))
    save_figure(drawn.figure, tmp_path / "a.b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.pdf", "a.b.svg"]
    assert (tmp_path / "a.b.pdf").read_bytes().startswith(b"%PDF")
    text = (tmp_path / "a.b.svg").read_text(encoding="utf-8")
    assert "dc:date" not in text and "l1_sparse" in text and "<script" not in text
    assert dict(mpl.rcParams) == settings


# --- the figure of a backdoor before and after, and the table of further scores


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


def test_one_density_has_points_beside_each_other_and_no_line() -> None:
    part = frame(0)
    drawn = backdoor_figure({"dense": part[part["method"] != "retrain"]})
    assert drawn is not None
    axes = drawn.figure.axes[0]
    assert [one.get_text() for one in axes.get_yticklabels()] == ["before", "finetune"]
    bars = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    assert {one.lines[0].get_linestyle() for one in bars} == {"None"}
    placed = [[float(v) for v in np.ravel(one.lines[0].get_xydata())] for one in bars]
    assert placed == [[98.0, 0.0], [60.0, 1.0]]
    assert not drawn.figure.legends, "the names stand beside them"


def test_a_backdoor_in_the_retrained_model_is_said_wherever_it_is_the_yardstick() -> None:
    part = frame(0)
    retrained = (part["method"] == "retrain") & (part["score"] == "ASR")
    assert not score_tables(part).scenarios[0].left
    part.loc[retrained, "value"] = [97.0, 99.0]
    said = "the retrained model has ASR 98.0 too (2 of 2 models): poison is left in the data"
    tables = score_tables(part)
    assert tables.scenarios[0].left == said
    for text in (to_markdown(tables), to_latex(tables)):
        assert said.removeprefix("the") in text
    screen = Console(width=200, file=io.StringIO())
    screen.print(study_tables(part, 200))
    assert said in screen.file.getvalue()  # type: ignore[attr-defined]


def test_values_at_a_cap_are_counted_and_marked_in_every_file() -> None:
    part = frame(0).assign(bound=None)
    asr = (part["score"] == "ASR") & (part["method"] == "finetune")
    part.loc[asr & (part["seed"] == 0), "bound"] = "at least"
    assert asr.sum() == 2
    found = further_grid(part)
    assert found is not None
    told = "≥ 60±1.4 (1 of 2 at the cap)"
    assert found.texts[-1] == ["finetune", told, "84±1.4"]
    assert found.lines[-1].cells[1].value == 60, "a table is sorted by the number"
    usual = part.query("score == 'SA'").assign(score="UA")
    tables = score_tables(pd.concat([part, usual]).assign(scenario="x"))
    assert told in further_markdown(tables)
    assert r"$\geq$ 60\,$\pm$\,1.4 (1 of 2 at the cap)" in to_latex(tables)
    lines = pd.read_csv(io.StringIO(to_csv(tables))).set_index("method")
    assert lines.loc["finetune", ["ASR_bound", "ASR_at_cap"]].tolist() == ["at least", 1]
    assert "SA_bound" not in lines and pd.isna(lines.loc["retrain", "ASR_bound"])
    runs = {tuple(line[:2]): line for line in runs_grid(part).texts}
    assert any("≥ " in text for text in runs["finetune", "0"])
    assert not any("≥ " in text for text in runs["finetune", "1"])


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
