"""Figures of a cleansed backdoor: how often the trigger works, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from expunge.report.drawn import LOOK, WIDE, Drawn, Numbers, canvas, left_out
from expunge.report.figures import limits_of, title_of
from expunge.report.labels import labels_of
from expunge.report.plotting import Axes, Figure, mpl
from expunge.report.study_figures import LINES, MARKERS, SERIES, SHADES, percent_cut
from expunge.scores.rows import NO_METHODS, ORIGINAL, RETRAIN

DRAWN_SCORES = ("ASR", "SA")
BEFORE: dict[str, Any] = {"color": "0.45", "linestyle": ":", "marker": "x"}
BARS: dict[str, Any] = {"elinewidth": 0.7, "capsize": 2, "markersize": 5}
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
        if len(parts) > 1:
            figure = _over(parts, looks, [f"{known[name][0]:g}" for name in order])
        else:
            figure = _beside(parts[0], looks)
    caption = READING + left_out(len(names) - SERIES, "method")
    return Drawn(figure, "The backdoor before and after", caption, wide=True)


Looks = Mapping[str, tuple[str, dict[str, Any]]]
"""Method -> what it is called, and how it is drawn."""


def _over(parts: Sequence[pd.DataFrame], looks: Looks, sparsities: Sequence[str]) -> Figure:
    """A line for each model over sparsity; nothing where it has no value."""
    figure = canvas(WIDE, 3.0)
    grid = figure.subplots(1, len(DRAWN_SCORES))
    for axes, score in zip(grid, DRAWN_SCORES, strict=True):
        for method, (label, look) in looks.items():
            points = [_values(part, method, score) for part in parts]
            if any(map(len, points)):
                means, ends = _means(points, score)
                own = {"linewidth": 1.2, **BARS, **look}
                axes.errorbar(np.arange(len(parts)), means, yerr=ends, label=label, **own)
        axes.set_xticks(range(len(parts)), sparsities)
        axes.set(xlabel="sparsity, %", ylim=(0, None))
        _plain(axes, score, "y")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _beside(part: pd.DataFrame, looks: Looks) -> Figure:
    """A point for each model, beside its name: there is nothing to join by a line."""
    there = [one for one in looks if any(len(_values(part, one, s)) for s in DRAWN_SCORES)]
    figure = canvas(WIDE, 0.9 + 0.24 * len(there))
    grid = figure.subplots(1, len(DRAWN_SCORES), sharey=True)
    for axes, score in zip(grid, DRAWN_SCORES, strict=True):
        for place, method in enumerate(there):
            label, look = looks[method]
            means, ends = _means([_values(part, method, score)], score)
            own = {**BARS, "marker": "o", **look, "linestyle": "none"}
            axes.errorbar(means, [place], xerr=ends, label=label, **own)
        axes.set(xlim=(0, 103))
        _plain(axes, score, "x")
    grid[0].set_yticks(range(len(there)), [looks[method][0] for method in there])
    grid[0].set_ylim(len(there) - 0.5, -0.5)
    return figure


def _plain(axes: Axes, score: str, along: Literal["x", "y"]) -> None:
    axes.set_title(f"{title_of(score)}, %", size=9)
    axes.grid(axis=along, color="0.9", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def _values(part: pd.DataFrame, method: str, score: str) -> pd.Series:
    """A method's score in each seed, as far as it has one."""
    return part.loc[(part["method"] == method) & (part["score"] == score), "value"].dropna()


def _means(points: Sequence[pd.Series], score: str) -> tuple[Numbers, Numbers]:
    """Means, and how far bars of one standard deviation go down and up; a share leaves neither end."""
    means = np.array([own.mean() for own in points], dtype=np.float64)
    spread = np.nan_to_num(np.array([own.std() for own in points], dtype=np.float64))
    least, most = limits_of(score)
    ends = np.array([np.minimum(spread, means - least), np.minimum(spread, most - means)])
    return means, np.nan_to_num(np.maximum(ends, 0.0))
