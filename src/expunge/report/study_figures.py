"""Figures of a study's scores: radar, cost and gap, sparsity.

Every function returns a `Drawn`, or None where what it needs is not there. Drawn with matplotlib's
objects alone; series are told apart by marker, line style and lightness, so that grey print will do.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from expunge.report.cells import Mean, Seconds
from expunge.report.drawn import LOOK, NARROW, WIDE, Drawn, Numbers, canvas, left_out
from expunge.report.figures import BAND, DOT, limits_of
from expunge.report.labels import labels_of, lines_of
from expunge.report.plotting import (
    Axes,
    Bbox,
    Figure,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    mpl,
)
from expunge.scores.rows import FLOOR, NO_METHODS, ORIGINAL, RETRAIN
from expunge.scores.table import AVERAGED

AXES = (*AVERAGED, "RTE")
RADARS, SERIES, NAMED = 8, 6, 30
"""At most so many are drawn: radars, lines, names of points."""
LOGARITHMIC = 20.0
"""From such a ratio of largest to smallest value, an axis is logarithmic."""
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)), "-", (0, (3, 1)))
MARKERS, SHADES = "os^Dv*", (DOT, "#a8490f", "#4a7a2c", "0.35", "#7a4fa0", "#1d8a8a")
SPARSITY = re.compile(r"^(\d+(?:\.\d+)?) ?% ?(.*)$")


def nearest_methods(table: pd.DataFrame) -> list[str]:
    """The methods, without yardsticks and controls, from the smallest average gap to the largest.

    table: one scenario's rows of `papers_table`. Those without a gap come last, as they stand.
    """
    own = table[~table["method"].isin(NO_METHODS)]
    order = own["avg_gap"].astype(float).sort_values(kind="stable", na_position="last").index
    return [str(name) for name in own.loc[order, "method"]]


def radar_figure(table: pd.DataFrame) -> Drawn | None:
    """Jia et al., NeurIPS 2023, figure 5: five scores a method, over the retrained model's.

    Each axis is divided by its best value: the largest, and of RTE the smallest (inverted: best /
    value). One panel a method, for polygons on top of each other cannot be told apart.
    """
    rows = {str(row["method"]): _five(row) for row in table.to_dict("records")}
    ranked = nearest_methods(table)
    usable = {name: found for name in (RETRAIN, *ranked) if (found := rows.get(name))}
    names = [name for name in ranked if name in usable]
    if RETRAIN not in usable or not names:
        return None
    values = np.array([*usable.values()])
    best = np.append(values[:, :4].max(axis=0), values[:, 4].min())
    shown = names[:RADARS]
    lines = math.ceil((len(shown) + 1) / 3)
    with mpl.rc_context(LOOK):
        figure = canvas(NARROW, 1.62 * lines)
        grid = figure.subplots(lines, 3, squeeze=False, subplot_kw={"projection": "polar"})
        target = _shares(usable[RETRAIN], best)
        ends = (*(f"{value:.1f}" for value in best[:4]), f"{best[4]:.3g} s")
        rim = [f"{name}\n{end}" for name, end in zip(AXES, ends, strict=True)]
        _radar(grid.flat[0], "retrain", target, None, rim)
        titles = lines_of(shown, 17, 2)
        for axes, name in zip(grid.flat[1:], shown, strict=False):
            _radar(axes, titles[name], target, _shares(usable[name], best), AXES)
        for axes in grid.flat[len(shown) + 1 :]:
            axes.set_visible(False)
    hidden, why = len(ranked) - len(shown), ", farthest away or without all five scores"
    caption = (
        "Dashed, grey: the retrained model, in every panel. Solid: the method. Each axis is divided "
        "by the best value of all, which the first panel prints at its rim (of RTE the fewest "
        "seconds). A larger polygon is no better one: what counts is to cover the grey, and on the "
        f"axis RTE to reach farther than it.{left_out(hidden, 'method', why)}"
    )
    return Drawn(figure, "Five scores beside retraining", caption)


def cost_figure(table: pd.DataFrame) -> Drawn | None:
    """Average gap over cost, both of which should be low, with the Pareto front."""
    rows = {str(row["method"]): row for row in table.to_dict("records")}
    points = {
        name: (float(rows[name]["rte_ratio"]), float(rows[name]["avg_gap"]))
        for name in nearest_methods(table)
    }
    points = {name: at for name, at in points.items() if all(map(math.isfinite, at)) and at[0] > 0}
    floor = float(rows[FLOOR]["avg_gap"]) if FLOOR in rows else math.nan
    chance = [name for name, (_, gap) in points.items() if gap < floor]
    points |= {name: (points[name][0], floor) for name in chance}
    if len(points) < 2:  # nothing to compare
        return None
    front = pareto(points)
    with mpl.rc_context(LOOK):
        figure = canvas(NARROW, 3.7)
        axes = figure.subplots()
        across = np.array([at for at, _ in points.values()] + [1.0])
        down = np.array([gap for _, gap in points.values()])
        _scales(axes, across, down)
        axes.set(xlabel="cost: seconds / seconds of retraining", ylabel="average gap, points")
        axes.grid(color="0.9", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axvline(1, color="black", linewidth=1, linestyle=(0, (1, 1.5)))
        rotated: Any = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 8}
        axes.text(1, 0.6, "retrain", transform=axes.get_xaxis_transform(), **rotated)
        _level(axes, rows.get(FLOOR), "floor: two retrainings", 0.99)
        _level(axes, rows.get(ORIGINAL), "original: do nothing", 0.01)  # they may lie together
        steps = [points[name] for name in front]
        axes.step(*zip(*steps, strict=True), where="post", color=DOT, linewidth=1.2, zorder=2)
        for name, at in points.items():
            on = name in front
            axes.plot(
                *at,
                "o",
                color=DOT if on else "0.45",
                markersize=6.5 if on else 5,
                markerfacecolor=DOT if on else "white",
                zorder=3,
            )
        left = name_points(figure, axes, points, front)
    caption = (
        "Low and to the left is good. Filled dots and the line: the Pareto front, the methods that "
        f"no other beats in both. Front: {', '.join(front)}.{left_out(left, 'name')}"
    )
    if chance:  # on a logarithmic axis they would look like merit
        caption += f" Nearer than the floor is chance, and drawn at it: {', '.join(chance)}."
    return Drawn(figure, "How near, at what cost", caption)


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names that no other point beats in one coordinate and equals or beats in the other.

    Both coordinates should be low. From the smallest first coordinate to the largest.
    """
    found: list[str] = []
    least = math.inf
    for name, (_, down) in sorted(points.items(), key=lambda item: item[1]):
        if down < least:
            found.append(name)
            least = down
    return found


def percent_cut(density: str) -> tuple[float, str] | None:
    """Percent of weights cut and the pruner, of a label such as `95 % omp`; None of any other."""
    if density == "dense":
        return 0.0, ""
    found = SPARSITY.match(density)
    return (float(found[1]), found[2]) if found else None


def sparsity_figure(tables: Mapping[str, pd.DataFrame]) -> Drawn | None:
    """Scores and average gap over sparsity, a line for each of the nearest methods.

    tables: density (all of one pruner, and dense) -> the rows of `papers_table` under it.
    """
    known = {name: at for name in tables if (at := percent_cut(name)) is not None}
    order = sorted(known, key=lambda name: known[name])
    if len({known[name][0] for name in order}) < 2:
        return None
    every = pd.concat([tables[name] for name in order], ignore_index=True)
    every = every.assign(avg_gap=every["avg_gap"].astype(float))
    means = every.groupby("method", sort=False)["avg_gap"].mean()
    nearest = nearest_methods(means.reset_index())
    # in the tables' order, so that a method looks alike in the figures of all pruners
    names = [str(name) for name in means.index if name in nearest[:SERIES]]
    rows = [{str(r["method"]): r for r in tables[name].to_dict("records")} for name in order]
    labels = labels_of(names, 22)
    with mpl.rc_context(LOOK):
        figure = canvas(WIDE, 4.2)
        grid = figure.subplots(2, 3)
        for axes, score in zip(grid.flat, (*AVERAGED, "avg_gap"), strict=False):
            if score != "avg_gap":
                _line(axes, rows, RETRAIN, RETRAIN, score, {"color": "black", "linewidth": 2.4})
            for place, name in enumerate(names):
                look: dict[str, Any] = {"color": SHADES[place], "linestyle": LINES[place]}
                look |= {"linewidth": 1.2, "marker": MARKERS[place], "markersize": 5}
                _line(axes, rows, name, labels[name], score, look)
            axes.set_title("average gap, points" if score == "avg_gap" else f"{score}, %", size=9)
            axes.set_xticks(range(len(order)), [f"{known[name][0]:g}" for name in order])
            axes.margins(y=0.12)
            axes.grid(axis="y", color="0.9", linewidth=0.7)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in (grid[1, 0], grid[1, 1], grid[0, 2]):  # below the last, the legend
            axes.set_xlabel("sparsity, %")
        handles = [line for line in grid[0, 0].get_lines() if line.get_label()[:1] != "_"]
        grid[1, 2].set_axis_off()
        grid[1, 2].legend(handles=handles, loc="center", frameon=False, handlelength=3.2)
    caption = (
        "Means over seeds. The thick line is retraining at the same sparsity: a method should come "
        "near to it. Sparsities stand at equal distances."
        + left_out(len(nearest) - SERIES, "method", ", the farthest")
    )
    return Drawn(figure, "Scores against sparsity", caption, wide=True)


def _five(row: dict[Any, Any]) -> list[float] | None:
    """Means of the five scores, None where one is missing or a time is 0."""
    cells: list[Mean | Seconds | None] = [row[name] for name in AXES]
    if any(cell is None for cell in cells):
        return None
    means = [cell.mean for cell in cells if cell is not None]
    return means if means[4] > 0 else None


def _shares(values: Sequence[float], best: Numbers) -> Numbers:
    """(5,) in [0, 1]: of the largest, and of RTE the smallest over the value."""
    found = np.array(values, dtype=np.float64)
    shares = np.divide(found, best, out=np.ones(5), where=best > 0)
    shares[4] = best[4] / found[4]
    return shares


def _radar(
    axes: Axes, title: str, target: Numbers, own: Numbers | None, labels: Sequence[str]
) -> None:
    angles = np.linspace(0, 2 * np.pi, len(AXES), endpoint=False)
    around = np.append(angles, angles[0])
    polar: Any = axes
    polar.set_theta_zero_location("N")
    polar.set_theta_direction(-1)
    polar.set_ylim(0, 1.02)
    polar.set_yticks([0.5, 1], ["", ""])
    polar.set_xticks(angles, labels, size=7.5)
    polar.tick_params(axis="x", pad=2 if own is None else -1)  # numbers need more room
    polar.grid(color="0.85", linewidth=0.6)
    polar.spines["polar"].set_color("0.75")
    closed = np.append(target, target[0])
    polar.fill(around, closed, color=BAND)
    polar.plot(around, closed, color="black", linewidth=1.1, linestyle=(0, (4, 2)), clip_on=False)
    if own is not None:
        closed = np.append(own, own[0])
        polar.plot(
            around, closed, color=DOT, linewidth=1.5, marker="o", markersize=3, clip_on=False
        )
    polar.set_title(title, size=9, fontweight="bold" if own is None else "normal", pad=5)


def _scales(axes: Axes, across: Numbers, down: Numbers) -> None:
    """Room for names on every side; logarithmic where values differ much."""
    for axis, values, scale, limit in (
        (axes.xaxis, across, axes.set_xscale, axes.set_xlim),
        (axes.yaxis, down, axes.set_yscale, axes.set_ylim),
    ):
        low, high = float(values.min()), float(values.max())
        if low > 0 and high > LOGARITHMIC * low:
            scale("log")
            room = (high / low) ** 0.12
            limit(low / room, high * room)
            few = high < 10**2.5 * low
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
            limit(0, 1.12 * high if high > 0 else 1.0)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _level(axes: Axes, row: dict[Any, Any] | None, label: str, side: float) -> None:
    """A horizontal line at a yardstick's average gap, if it lies within the axes. side: of its label."""
    height = math.nan if row is None else float(row["avg_gap"])
    low, high = axes.get_ylim()
    if low < height < high:
        axes.axhline(height, color="0.45", linewidth=0.9, linestyle=(0, (5, 2)), zorder=1)
        beside: Any = axes.get_yaxis_transform()
        look: Any = {"ha": "right" if side > 0.5 else "left", "va": "bottom", "size": 8}
        axes.text(side, height, label, transform=beside, color="0.3", **look)


def name_points(
    figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]], front: Sequence[str]
) -> int:
    """Write names beside points where there is room, the front's first; returns how many are not."""
    figure.draw_without_rendering()
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken = [text.get_window_extent(renderer) for text in axes.texts]
    at = {name: axes.transData.transform(point) for name, point in points.items()}
    taken += [_around(place, place, 5) for place in at.values()]
    for one, other in itertools.pairwise([at[name] for name in front]):
        corner = (other[0], one[1])  # the front's line goes right, and then down
        taken += [_around(one, corner, 1), _around(corner, other, 1)]
    inside, named = axes.get_window_extent(renderer), 0
    order = [*front, *(name for name in points if name not in front)]
    labels = labels_of(order, 22)
    for name in order[:NAMED]:
        text = axes.annotate(labels[name], points[name], (0, 0), textcoords="offset points", size=8)
        text.set_in_layout(False)  # a name at the edge must not move what was just measured
        for offset, across, down in (
            ((6, 0), "left", "center"),
            ((-6, 0), "right", "center"),
            ((5, 5), "left", "bottom"),
            ((-5, -5), "right", "top"),
            ((5, -5), "left", "top"),
            ((-5, 5), "right", "bottom"),
            ((0, 6), "center", "bottom"),
            ((0, -6), "center", "top"),
        ):
            text.set(position=offset, ha=across, va=down)
            box = text.get_window_extent(renderer)
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 + 8
            if within and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                named += 1
                break
        else:
            text.remove()
    return len(order) - named


def _around(
    one: Sequence[float] | Numbers, other: Sequence[float] | Numbers, margin: float
) -> Bbox:
    """The box of two places (2,), in pixels, and as much around it."""
    (left, right), (low, high) = (sorted(pair) for pair in zip(one, other, strict=True))
    return Bbox.from_extents(left - margin, low - margin, right + margin, high + margin)


def _line(
    axes: Axes,
    rows: Sequence[dict[str, dict[Any, Any]]],
    method: str,
    label: str,
    score: str,
    look: dict[str, Any],
) -> None:
    """A method's score at each place, a gap where it has none; spread as thin bars."""
    values, spread = [], []
    for here in rows:
        found = here.get(method, {}).get(score)
        if isinstance(found, Mean):
            values.append(found.mean)
            spread.append(0.0 if math.isnan(found.sd) else found.sd)
        else:
            values.append(math.nan if found is None else float(found))
            spread.append(0.0)
    places = np.arange(len(rows))
    axes.plot(places, values, label=label, zorder=3, **look)
    if any(spread):
        plain: Any = {"fmt": "none", "ecolor": look["color"], "elinewidth": 0.7, "capsize": 2}
        least, most = limits_of(score) if score in AVERAGED else (0.0, math.inf)
        room = [[value - least for value in values], [most - value for value in values]]
        ends = np.nan_to_num(np.clip(np.minimum(spread, room), 0, None))
        axes.errorbar(places, values, yerr=ends, **plain)
