"""Pictures of what a model gives away of single samples: who can be told for one that it learned from.

Membership is drawn as a place among the never seen samples: the percentage of these that look less like
ones that were learned from, under the same model. Of samples that a model never saw, all places are
equally common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from expunge.disk.whole import written_whole
from expunge.errors import ConfigError
from expunge.names.text import clean_name
from expunge.report.data_files import csv_text
from expunge.report.drawn import LOOK, NARROW, Drawn, Numbers, canvas, save_figure
from expunge.report.figures import BAND, DOT
from expunge.report.places import EXPOSURE, check_folder
from expunge.report.plotting import Axes, FuncFormatter, mpl
from expunge.scores.statistics import wilson

AUDITED, ORIGINAL, RETRAINED = "this model", "original", "retrained"
LOOKS: Mapping[str, dict[str, Any]] = {
    AUDITED: {"color": DOT, "linewidth": 1.8},
    ORIGINAL: {"color": "#d07a1f", "linewidth": 1.2, "linestyle": "--"},
    RETRAINED: {"color": "black", "linewidth": 1.2, "linestyle": ":"},
}
"""Told apart by their strokes too, for print without colour."""
ON_WHITE: Mapping[str, Any] = {"edgecolor": "none", "framealpha": 0.9}
SHOWN, MOST_BINS, FEW = 10, 40, 10
"""Retained samples that are drawn; bars; false alarms under which a rate is not known."""


@dataclass(frozen=True)
class Exposure:
    """What the pictures show.

    Attributes:
        forget: model -> (n,), how much each forgotten sample looks like one that was learned from;
            "this model" is there, "original" and "retrained" may be.
        unseen: the same models -> (m,), of samples that nobody learned from.
        retained: model -> (r,), of what was to stay, of "this model" and the original where it is there.
        ids: what to call the retained samples; empty where nobody may know.
        scale: what the numbers are, for an axis.
    """

    forget: dict[str, Numbers]
    unseen: dict[str, Numbers]
    retained: dict[str, Numbers]
    ids: Sequence[str]
    scale: str

    def places(self, part: dict[str, Numbers], model: str) -> Numbers:
        """Percent of a model's never seen samples that lie below each sample of a part; ties half."""
        ordered = np.sort(self.unseen[model])
        below = np.searchsorted(ordered, part[model], "left")
        below = below + np.searchsorted(ordered, part[model], "right")
        return np.asarray(50 * below / len(ordered), dtype=np.float64)


def roc_points(members: Numbers, others: Numbers) -> tuple[Numbers, Numbers]:
    """False and true positive rates, in [0, 1], at each threshold that a never seen sample makes.

    members: (n,), others: (m,). Of the m + 1 thresholds the greatest is the first; what lies above one
    is taken for learned.
    """
    thresholds = np.append(np.sort(others)[::-1], -np.inf)

    def above(values: Numbers) -> Numbers:
        left = len(values) - np.searchsorted(np.sort(values), thresholds, "right")
        return np.asarray(left / len(values), dtype=np.float64)

    return above(others), above(members)


def roc_figure(shown: Exposure) -> Drawn:
    """How many forgotten samples are found, at how many false alarms; both axes logarithmic."""
    figure = canvas(NARROW, 4.3)
    axes = figure.subplots()
    n, m = len(shown.forget[AUDITED]), len(shown.unseen[AUDITED])
    least = max(1 / m, 1e-4)
    lowest = min(least, 0.5 / n)
    for name, members in shown.forget.items():
        false, true = roc_points(members, shown.unseen[name])
        seen = false > 0
        if name == AUDITED:
            low, high = np.array([wilson(round(share * n), n) for share in true[seen]]).T
            low = low.clip(lowest)
            axes.fill_between(
                false[seen], low, high, color=DOT, alpha=0.18, linewidth=0, step="post"
            )
        found = true[seen].clip(lowest)  # none at all is drawn along the lower edge
        axes.step(false[seen], found, where="post", label=name, **LOOKS[name])
    ends = np.array([least, 1.0])
    axes.plot(ends, ends, color="0.6", linewidth=1, label="chance")
    if FEW / m > least:
        axes.axvspan(least, min(1.0, FEW / m), color=BAND, alpha=0.6, linewidth=0, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(0.8 * lowest, 1.05))
    axes.set(xlabel="never seen samples taken for learned ones, %")
    axes.set(ylabel="forgotten samples taken for learned ones, %")
    percent = FuncFormatter(lambda value, _: f"{100 * value:g}")
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    _plain(axes)
    axes.legend(loc="lower right", **ON_WHITE)
    return Drawn(
        figure,
        "How well the forgotten samples are found",
        f"{n:,} forgotten and {m:,} never seen samples. The band is this model's 95 % interval "
        f"(Wilson); where the ground is grey, fewer than {FEW} false alarms make the rate, and nobody "
        "knows it well. On the line of chance, forgotten samples are found no better than never seen "
        "ones; along the lower edge none is found.",
    )


def before_after_figure(shown: Exposure) -> Drawn:
    """Each forgotten sample's place among the never seen, under the original and under this model."""
    figure = canvas(NARROW, 4.3)
    axes = figure.subplots()
    before, after = (shown.places(shown.forget, name) for name in (ORIGINAL, AUDITED))
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=1, zorder=1)
    size = 14 if len(before) < 500 else 6
    beside = ""
    if RETRAINED in shown.forget:
        beside = f", and after retraining {_upper(shown.places(shown.forget, RETRAINED))}"
    axes.scatter(before, after, s=size, color=DOT, alpha=0.55, linewidths=0, zorder=2)
    axes.axhline(50, color="0.75", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(xlim=(-3, 103), ylim=(-3, 103))
    axes.set(xlabel="place among the never seen, before, %")
    axes.set(ylabel="place among the never seen, after, %")
    _plain(axes)
    return Drawn(
        figure,
        "Each forgotten sample before and after",
        "100: it looks more like a learned sample than all never seen ones. On the grey line nothing "
        "changed. Samples that nobody learned from are spread evenly from top to bottom, half of them "
        f"over the dashed line; of the forgotten {_upper(after)} are, before {_upper(before)}"
        f"{beside}. A forgotten class lies low after retraining, for its name is gone.",
    )


def among_unseen_figure(shown: Exposure) -> Drawn:
    """Where the forgotten samples lie among the never seen ones, and the retrained model's beside."""
    figure = canvas(NARROW, 3.5)
    axes = figure.subplots()
    drawn = [shown.unseen[AUDITED], *shown.forget.values()]
    low = min(float(np.percentile(one, 1)) for one in drawn)
    high = max(float(np.percentile(one, 99)) for one in drawn)
    high = high if high > low else low + 1
    bins = min(MOST_BINS, 4 + math.isqrt(len(shown.forget[AUDITED])))
    edges = np.linspace(low, high, bins + 1)

    def bars(values: Numbers) -> Numbers:
        counts = np.histogram(values.clip(low, high), edges)[0]
        return np.asarray(100 * counts / len(values), dtype=np.float64)

    axes.stairs(bars(shown.unseen[AUDITED]), edges, fill=True, color=BAND, label="never seen")
    for name in (ORIGINAL, RETRAINED, AUDITED):
        if name in shown.forget:
            label = "forgotten" if name == AUDITED else f"forgotten, {name} model"
            axes.stairs(bars(shown.forget[name]), edges, label=label, **LOOKS[name])
    axes.set(xlabel=shown.scale, ylabel="% of the samples", xlim=(low, high))
    axes.set_ylim(bottom=0)
    _plain(axes)
    axes.legend(fontsize=8, loc="upper left", **ON_WHITE)
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])
    return Drawn(
        figure,
        "The forgotten among the never seen",
        "Grey: never seen samples under this model. Forgotten samples should lie as those of the "
        "retrained model do; further right they are still known, further left they stand out. What "
        "lies beyond the ends is counted in the last bars.",
    )


def exposed_figure(shown: Exposure) -> Drawn:
    """The retained samples whose membership shows most more than before."""
    before, after = (shown.places(shown.retained, name) for name in (ORIGINAL, AUDITED))
    rows = most_exposed(before, after)
    figure = canvas(NARROW, 0.9 + 0.26 * max(1, len(rows)))
    axes = figure.subplots()
    places = np.arange(len(rows))
    names = [clean_name(str(shown.ids[row]))[:28] if len(shown.ids) else "" for row in rows]
    axes.hlines(places, before[rows], after[rows], color=DOT, linewidth=1.3, zorder=2)
    axes.plot(before[rows], places, "o", color=DOT, markerfacecolor="white", label="before")
    axes.plot(after[rows], places, "o", color=DOT, label="after")
    axes.set_yticks(places, names)
    axes.set(xlim=(-2, 102), ylim=(len(rows) - 0.5, -0.5))
    axes.set(xlabel="place among the never seen, %")
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    if len(rows):
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    up, down = int((after > before).sum()), int((after < before).sum())
    hidden = "" if len(shown.ids) else " Their ids are not shown."
    return Drawn(
        figure,
        "Who among the retained became more exposed",
        f"The {len(rows)} retained samples that rose most.{hidden} Of {len(before):,}, {up:,} rose, by "
        f"{_mean(after - before, after > before):.1f} points on average, and {down:,} fell, by "
        f"{_mean(before - after, after < before):.1f}.",
    )


def most_exposed(before: Numbers, after: Numbers) -> NDArray[np.intp]:
    """Rows of the retained samples that rose most, the greatest first; of equal ones the first."""
    order = np.argsort(before - after, kind="stable")[:SHOWN]
    return order[after[order] > before[order]]


def exposure_figures(shown: Exposure, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the pictures as .svg and .pdf, captions and numbers beside them; the paths written.

    membership.csv has each forgotten sample's place, without its id. The folder appears under its name
    only when all of it is there. Raises ConfigError if one is in the way, or nothing was never seen.
    """
    check_folder(out, overwrite=overwrite, mark=EXPOSURE)
    drawn = exposure_pictures(shown)
    with written_whole(out, overwrite=overwrite) as folder:
        for name, one in drawn.items():
            save_figure(one.figure, folder / name)
        told = "\n\n".join(f"{name}: {one.title}. {one.caption}" for name, one in drawn.items())
        (folder / "captions.txt").write_text(told + "\n", encoding="utf-8")
        frame = pd.DataFrame({name: shown.places(shown.forget, name) for name in shown.forget})
        (folder / EXPOSURE).write_text(csv_text(frame), encoding="utf-8")
        names = sorted(file.name for file in folder.iterdir())
    return [out / name for name in names]


def exposure_pictures(shown: Exposure) -> dict[str, Drawn]:
    """All that can be drawn, by name. Raises ConfigError where there is nothing."""
    check_exposure(shown)
    with mpl.rc_context(LOOK):
        drawn = {"roc": roc_figure(shown), "among_unseen": among_unseen_figure(shown)}
        if ORIGINAL in shown.forget:
            drawn["before_after"] = before_after_figure(shown)
            drawn["exposed"] = exposed_figure(shown)
    return drawn


def check_exposure(shown: Exposure) -> None:
    """Raise ConfigError where there is nothing to draw."""
    if not len(shown.unseen.get(AUDITED, ())) or not len(shown.forget.get(AUDITED, ())):
        raise ConfigError(
            "pictures of membership need forgotten samples and never seen ones; give a test set"
        )


def _upper(places: Numbers) -> str:
    """Of places among the never seen, the share in the upper half."""
    return f"{100 * float(np.mean(places > 50)):.0f} %"


def _mean(values: Numbers, chosen: NDArray[np.bool_]) -> float:
    return float(values[chosen].mean()) if chosen.any() else 0.0


def _plain(axes: Axes) -> None:
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
