"""Figures of a cleansed backdoor: how often the trigger works, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from expunge.report.drawn import LOOK, WIDE, Drawn, canvas, left_out
from expunge.report.figures import limits_of, title_of
from expunge.report.labels import labels_of
from expunge.report.plotting import Axes, mpl
from expunge.report.study_figures import LINES, MARKERS, SERIES, SHADES, percent_cut
from expunge.scores.rows import NO_METHODS, ORIGINAL, RETRAIN

DRAWN_SCORES = ("ASR", "SA")
BEFORE: dict[str, Any] = {"color": "0.45", "linestyle": ":", "marker": "x"}
RETRAINED: dict[str, Any] = {"color": "black", "linewidth": 2.4}
READING = (
    "Means over seeds, bars: one standard deviation. ASR: of test images of other classes with the "
    "trigger, the share called the attacker's class; low is good. SA: accuracy without trigger; it "
    "should stay. Where the trigger worked on under 50 % before, nothing is claimed."
)


def backdoor_figure(frames: Mapping[str, pd.DataFrame]) -> Drawn | None:
    """ASR and SA of the original, the retrained model and each method: over sparsity, or, of a single
    density, beside each other.

    frames: density (all of one pruner, and dense) -> rows with the columns method, score and value.
    None where there is no ASR.
    """
    known = {name: at for name in frames if (at := percent_cut(name)) is not None}
    order = sorted(known, key=lambda name: known[name])
    parts = [frames[name] for name in order]
    if not any((part["score"] == "ASR").any() for part in parts):
        return None
    every = pd.concat(parts)
    names = [str(n) for n in every["method"].unique() if n not in NO_METHODS]
    shown = labels_of(names, 22)
    looks = {ORIGINAL: ("before", BEFORE), RETRAIN: ("retrained", RETRAINED)}
    for place, name in enumerate(names[:SERIES]):
        look = {"color": SHADES[place], "linestyle": LINES[place], "marker": MARKERS[place]}
        looks[name] = shown[name], look
    with mpl.rc_context(LOOK):
        figure = canvas(WIDE, 3.0)
        grid = figure.subplots(1, len(DRAWN_SCORES))
        for axes, score in zip(grid, DRAWN_SCORES, strict=True):
            if len(parts) > 1:
                _over(axes, parts, looks, score)
                axes.set_xticks(range(len(order)), [f"{known[name][0]:g}" for name in order])
                axes.set_xlabel("sparsity, %")
            else:
                _beside(axes, parts[0], looks, score)
            axes.set_title(f"{title_of(score)}, %", size=9)
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", color="0.9", linewidth=0.7)
            axes.spines[["top", "right"]].set_visible(False)
        if len(parts) > 1:
            handles, labels = grid[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    caption = READING + left_out(len(names) - SERIES, "method")
    return Drawn(figure, "The backdoor before and after", caption, wide=True)


Looks = Mapping[str, tuple[str, dict[str, Any]]]
"""Method -> what it is called, and how it is drawn."""


def _over(axes: Axes, parts: Sequence[pd.DataFrame], looks: Looks, score: str) -> None:
    """A line for each model; nothing where it has no value."""
    for method, (label, look) in looks.items():
        points = [_values(part, method, score) for part in parts]
        if any(map(len, points)):
            _bars(axes, np.arange(len(parts)), points, score, label, look)


def _beside(axes: Axes, part: pd.DataFrame, looks: Looks, score: str) -> None:
    """A point for each model, under its name: there is nothing to join by a line."""
    points = {method: _values(part, method, score) for method in looks}
    there = [method for method, values in points.items() if len(values)]
    for place, method in enumerate(there):
        label, look = looks[method]
        own = {**look, "linestyle": "none", "marker": look.get("marker", "o")}
        _bars(axes, np.array([place]), [points[method]], score, label, own)
    axes.set_xticks(range(len(there)), [looks[method][0] for method in there])
    axes.tick_params(axis="x", rotation=30 if len(there) > 4 else 0)
    axes.set_xlim(-0.5, len(there) - 0.5)


def _values(part: pd.DataFrame, method: str, score: str) -> pd.Series:
    """A method's score in each seed, as far as it has one."""
    return part.loc[(part["method"] == method) & (part["score"] == score), "value"].dropna()


def _bars(
    axes: Axes,
    places: Any,
    points: Sequence[pd.Series],
    score: str,
    label: str,
    look: dict[str, Any],
) -> None:
    """Means with bars of one standard deviation; a share leaves neither end."""
    means = np.array([own.mean() for own in points], dtype=np.float64)
    spread = np.nan_to_num(np.array([own.std() for own in points], dtype=np.float64))
    least, most = limits_of(score)
    ends = [np.minimum(spread, means - least), np.minimum(spread, most - means)]
    axes.errorbar(
        places,
        means,
        yerr=np.nan_to_num(np.maximum(ends, 0.0)),
        label=label,
        elinewidth=0.7,
        capsize=2,
        **{"linewidth": 1.2, "markersize": 5, **look},
    )
