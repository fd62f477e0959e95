"""Figures of a cleansed backdoor: how often the trigger works, before and after, over sparsity."""

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


def backdoor_figure(frames: Mapping[str, pd.DataFrame]) -> Drawn | None:
    """ASR and SA over sparsity, of the original, the retrained model and each method.

    frames: density (all of one pruner, and dense) -> rows with the columns method, score and value.
    None where there is no ASR. One density is a single place on the axis.
    """
    known = {name: at for name in frames if (at := percent_cut(name)) is not None}
    order = sorted(known, key=lambda name: known[name])
    parts = [frames[name] for name in order]
    if not any((part["score"] == "ASR").any() for part in parts):
        return None
    every = pd.concat(parts)
    names = [str(n) for n in every["method"].unique() if n not in NO_METHODS]
    labels = labels_of(names, 22)
    with mpl.rc_context(LOOK):
        figure = canvas(WIDE, 3.0)
        grid = figure.subplots(1, 2)
        for axes, score in zip(grid, DRAWN_SCORES, strict=True):
            before: dict[str, Any] = {"color": "0.45", "linestyle": ":", "marker": "x"}
            _line(axes, parts, ORIGINAL, score, "before", before)
            _line(axes, parts, RETRAIN, score, "retrained", {"color": "black", "linewidth": 2.4})
            for place, name in enumerate(names[:SERIES]):
                look = {"color": SHADES[place], "linestyle": LINES[place], "marker": MARKERS[place]}
                _line(axes, parts, name, score, labels[name], look)
            axes.set_title(f"{title_of(score)}, %", size=9)
            axes.set_xticks(range(len(order)), [f"{known[name][0]:g}" for name in order])
            axes.set_xlabel("sparsity, %")
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", color="0.9", linewidth=0.7)
            axes.spines[["top", "right"]].set_visible(False)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    caption = (
        "Means over seeds, bars: one standard deviation. ASR: of test images of other classes with "
        "the trigger, the share called the attacker's class; low is good. SA: accuracy without "
        "trigger; it should stay. Where the trigger worked on under 50 % before, nothing is claimed."
        + left_out(len(names) - SERIES, "method")
    )
    return Drawn(figure, "The backdoor before and after", caption, wide=True)


def _line(
    axes: Axes,
    parts: Sequence[pd.DataFrame],
    method: str,
    score: str,
    label: str,
    look: dict[str, Any],
) -> None:
    """A method's score at each place, nothing where it has none."""
    values = [p.loc[(p["method"] == method) & (p["score"] == score), "value"] for p in parts]
    means = np.array([own.mean() for own in values], dtype=np.float64)
    if np.isnan(means).all():
        return
    spread = np.nan_to_num(np.array([own.std() for own in values], dtype=np.float64))
    least, most = limits_of(score)  # a share leaves neither end
    ends = [np.minimum(spread, means - least), np.minimum(spread, most - means)]
    places = np.arange(len(parts))
    axes.errorbar(
        places,
        means,
        yerr=np.nan_to_num(np.maximum(ends, 0.0)),
        label=label,
        elinewidth=0.7,
        capsize=2,
        **{"linewidth": 1.2, "markersize": 5, **look},
    )
