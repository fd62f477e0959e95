"""A figure of scores that this package does not know, drawn by what their rows say of themselves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from expunge.report.drawn import LOOK, NARROW, Drawn, canvas, left_out
from expunge.report.figures import DOT
from expunge.report.further import further_rows, header_of
from expunge.report.labels import labels_of
from expunge.report.plotting import Axes, mpl
from expunge.scores.info import ScoreInfo
from expunge.scores.rows import NO_METHODS, RETRAIN, SAID, ordered_methods
from expunge.scores.table import SCORES, score_infos

MOST_SCORES, MOST_METHODS = 6, 20
"""At most so many scores and methods are drawn."""


def foreign_figure(frame: pd.DataFrame) -> Drawn | None:
    """A panel for each score that is not in the table of scores and whose rows say unit or target.

    A dot is a mean over seeds with one standard deviation to either side; the line is the retrained
    model's mean. None without such a score.

    frame: the columns method, seed, score and value of one setting, and unit, target or both.
    """
    own = further_rows(frame)
    own = own[~own["score"].isin(SCORES) & np.isfinite(own["value"].astype(float))]
    said = own.reindex(columns=[*SAID]).notna().any(axis="columns")
    own = own[own["score"].isin(own.loc[said, "score"])]
    infos = score_infos(own)
    if not infos:
        return None
    methods = [n for n in ordered_methods([str(m) for m in own["method"]]) if n != RETRAIN]
    shown = list(infos.values())[:MOST_SCORES]
    with mpl.rc_context(LOOK):
        height = 0.6 + 0.2 * min(len(methods), MOST_METHODS)
        figure = canvas(NARROW, height * len(shown))
        for axes, info in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
            _panel(axes, info, own[own["score"] == info.name], methods[:MOST_METHODS])
    caption = (
        "Dots: means over seeds, bars: one standard deviation, line: the retrained model. "
        + " ".join(f"{info.name}: {info.reads}" for info in shown)
        + left_out(len(infos) - len(shown), "score")
        + left_out(len(methods) - MOST_METHODS, "method")
    )
    return Drawn(figure, "Scores of other packages", caption)


def _panel(axes: Axes, info: ScoreInfo, rows: pd.DataFrame, methods: list[str]) -> None:
    """One score; the first method stands on top."""
    values = {str(name): part["value"].astype(float) for name, part in rows.groupby("method")}
    if RETRAIN in values:
        axes.axvline(float(values[RETRAIN].mean()), color="black", linewidth=1.6, zorder=2)
    low, high = info.limits or (-math.inf, math.inf)
    for place, method in enumerate(methods):
        if method not in values:
            continue
        mean, sd = float(values[method].mean()), float(values[method].std())
        sd = 0.0 if math.isnan(sd) else sd
        axes.errorbar(
            mean,
            place,
            xerr=[[min(sd, max(mean - low, 0))], [min(sd, max(high - mean, 0))]],
            fmt="o",
            color=DOT,
            markerfacecolor="white" if method in NO_METHODS else DOT,
            markersize=5,
            capsize=2,
            zorder=3,
        )
    axes.set_title(header_of(info), size=9)
    axes.set_yticks(range(len(methods)), list(labels_of(methods, 22).values()))
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.grid(axis="y", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
