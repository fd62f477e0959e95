"""Figures of scores beside the retrained model's, as PNG and SVG.

Drawn with matplotlib's objects alone, so that no global figure or backend is touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from expunge.report.cells import Mean
from expunge.report.labels import lines_of
from expunge.report.plotting import (
    Artist,
    Axes,
    ConstrainedLayoutEngine,
    Figure,
    FigureCanvasAgg,
    Line2D,
    MaxNLocator,
    Patch,
    SubFigure,
    mpl,
)
from expunge.report.tables import clean_frame, papers_table
from expunge.scores.rows import CONTROLS, FLOOR, NO_METHODS, ORIGINAL, RETRAIN
from expunge.scores.table import AVERAGED, SCORES

BAND, TARGET, DOT = "0.86", "0.0", "#1f5f99"
"""Told apart by lightness too, for print without colour."""

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.parse_math": False,  # a class may be called $x$
    "svg.hashsalt": "expunge",  # names by content; with no date, two files differ by rounding
}


def gap_figure(frame: pd.DataFrame, path_stem: str | Path) -> tuple[Path, Path]:
    """Draw every method's UA, MIA, RA and TA beside the retrained model's.

    A dot is the mean over seeds with one standard deviation to either side; the line is the
    retrained model's mean, the band around it as wide as two retrainings differ on average.
    The four axes have their own scales, which need not start at 0.

    Args:
        frame: as `expunge.report.tables` takes it.
        path_stem: where to write, without a suffix; folders are made as needed.

    Returns:
        The paths of the PNG and the SVG.

    Raises:
        ConfigError: if the frame lacks a column, has no rows or holds a value twice.
    """
    frame = clean_frame(frame)
    table = papers_table(frame)
    scenarios = list(table["scenario"].unique())
    dots = table[~table["method"].isin([RETRAIN, FLOOR])]
    shown = [[str(m) for m in dots.loc[dots["scenario"] == s, "method"]] for s in scenarios]
    heights = [_height(methods) for methods in shown]
    with mpl.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06, wspace=0.03)
        figure = Figure(figsize=(6.2, sum(heights) + 0.7), dpi=200, layout=layout)
        FigureCanvasAgg(figure)
        parts = figure.subfigures(
            len(scenarios) + 1, 1, squeeze=False, height_ratios=[*heights, 0.7]
        )[:, 0]
        for part, scenario, methods in zip(parts, scenarios, shown, strict=False):
            rows, values = (t[t["scenario"] == scenario] for t in (table, frame))
            _scenario(part, str(scenario), rows, methods, values)
        present = set(table["method"])
        _legend(
            parts[-1],
            target=RETRAIN in present,
            floor={RETRAIN, FLOOR} <= present,
            hollow=[name for name in (ORIGINAL, *CONTROLS) if name in present],
        )
        stem = Path(path_stem)
        stem.parent.mkdir(parents=True, exist_ok=True)
        png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
        figure.savefig(png)
        figure.set_layout_engine(None)  # it has found its places
        figure.savefig(svg, metadata={"Date": None})
    return png, svg


def _height(methods: Sequence[str]) -> float:
    """Inches for a scenario: titles and axes, then two rows of panels, a line for each method."""
    labels = lines_of(methods, 20, 4).values()
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    return 1.9 + 2 * max(1, len(methods)) * (0.08 + 0.2 * lines)


def _scenario(
    part: SubFigure, title: str, table: pd.DataFrame, methods: Sequence[str], frame: pd.DataFrame
) -> None:
    """Four panels of one scenario; the first method stands on top.

    Two above, two below, so that the figure fits a phone held upright.
    """
    part.suptitle(fill(title, 50, max_lines=4, placeholder=" …"), fontweight="bold", fontsize=13)
    grid = part.subplots(2, 2, sharey=True, squeeze=False)
    rows = {str(row["method"]): row for row in table.to_dict("records")}
    for axes, score in zip(grid.flat, AVERAGED, strict=True):
        target: Mean | None = rows[RETRAIN][score] if RETRAIN in rows else None
        _target(axes, target, _floor_width(frame, score), limits_of(score))
        _dots(axes, [rows[method][score] for method in methods], methods, limits_of(score))
        after = "" if target is None else f"\nretrained: {target.mean:.1f} %"
        axes.set_title(title_of(score) + after, fontsize=10.5)
        axes.set_yticks(range(len(methods)), list(lines_of(methods, 20, 4).values()))
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
        axes.grid(axis="y", color="0.85", linewidth=0.8)
        axes.set_axisbelow(True)
        _widen(axes)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[1]:
        axes.set_xlabel("percent of samples")


def title_of(score: str) -> str:
    """What stands over a picture of a score."""
    return f"{score}: {SCORES[score].title}"


def limits_of(score: str) -> tuple[float, float]:
    """The ends of what a score can be."""
    return SCORES[score].limits or (-math.inf, math.inf)


def _target(
    axes: Axes, target: Mean | None, floor: float | None, limits: tuple[float, float]
) -> None:
    if target is None:
        return
    axes.axvline(target.mean, color=TARGET, linewidth=1.6, zorder=2)
    if floor is not None:
        ends = max(limits[0], target.mean - floor), min(limits[1], target.mean + floor)
        axes.axvspan(*ends, color=BAND, zorder=0.5)


def _widen(axes: Axes) -> None:
    """Show two points of percent or more, so that a hair's breadth does not look like a mile."""
    low, high = axes.get_xlim()
    lacking = max(0.0, 2.0 - (high - low)) / 2
    axes.set_xlim(low - lacking, high + lacking)


def _dots(
    axes: Axes,
    cells: Sequence[Mean | None],
    methods: Sequence[str],
    limits: tuple[float, float],
) -> None:
    for height, (cell, method) in enumerate(zip(cells, methods, strict=True)):
        if cell is None:
            beside = axes.get_yaxis_transform()  # across the panel: 0 to 1; down: the rows
            axes.text(0.03, height, "no value", transform=beside, va="center", fontsize=9)
            continue
        sd = 0.0 if math.isnan(cell.sd) else cell.sd
        # A share cannot leave 0 to 100, whatever its standard deviation says.
        down, up = max(cell.mean - limits[0], 0), max(limits[1] - cell.mean, 0)
        spread = [[min(sd, down)], [min(sd, up)]]
        axes.errorbar(
            cell.mean,
            height,
            xerr=spread,
            fmt="o",
            color=DOT,
            markerfacecolor="white" if method in NO_METHODS else DOT,
            markersize=7,
            capsize=3,
            zorder=3,
        )


def _floor_width(frame: pd.DataFrame, score: str) -> float | None:
    """Mean over seeds of |floor - retrain| within one scenario; None without a common seed."""
    found = frame[frame["score"] == score].set_index("seed")
    floor, retrain = (
        found.loc[found["method"] == name, "value"].astype(float) for name in (FLOOR, RETRAIN)
    )
    apart = (floor - retrain).abs().replace(np.inf, np.nan).dropna()
    return float(apart.mean()) if len(apart) else None


def _legend(part: SubFigure, *, target: bool, floor: bool, hollow: Sequence[str]) -> None:
    def dot(fill: str) -> Line2D:
        return Line2D([], [], color=DOT, marker="o", markersize=7, markerfacecolor=fill)

    line = Line2D([], [], color=TARGET, linewidth=1.6)
    entries: list[tuple[Artist, str]] = [(dot(DOT), "method: mean ± standard deviation")]
    done = "original: nothing done" if list(hollow) == [ORIGINAL] else "controls: next to nothing"
    entries += [(dot("white"), done)] if hollow else []
    entries += [(line, "retrained model")] if target else []
    entries += [(Patch(color=BAND), "as far apart as two retrainings")] if floor else []
    part.legend(*zip(*entries, strict=True), loc="center", ncols=2, frameon=False, fontsize=10)
