"""Figures of what models say, class by class and sample by sample, beside the retrained model.

The input is a list of details, one of each method and seed of a setting, as
`expunge.report.page.Report` describes them. Each function returns None where they lack its part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from expunge.report.drawn import LOOK, NARROW, WIDE, Drawn, Numbers, canvas
from expunge.report.figures import BAND, DOT
from expunge.report.labels import labels_of, lines_of
from expunge.report.plotting import Axes, Figure, FuncFormatter, Line2D, NullLocator, mpl
from expunge.scores.rows import ORIGINAL, RETRAIN

PANELS, CLASSES = 5, 30
"""At most so many methods and classes are drawn."""
PARTS = {"forget": "forget set", "retain": "retain set", "test": "test set"}
RunDetail = Mapping[str, Any]
"""What is known of one run beside its scores, as `expunge.report.page.Report` describes it."""
BEFORE: dict[str, Any] = {
    "marker": "o",
    "color": "0.25",
    "markerfacecolor": "white",
    "markersize": 6,
}
AFTER: dict[str, Any] = {"marker": "o", "color": DOT, "markersize": 4}
TARGET: dict[str, Any] = {"marker": "|", "color": "black", "markersize": 10, "markeredgewidth": 1.6}
BEFORE_LINE: dict[str, Any] = {"color": "0.45", "linewidth": 1.2, "linestyle": (0, (1, 1.2))}
AFTER_LINE: dict[str, Any] = {"color": DOT, "linewidth": 1.5}
TARGET_LINE: dict[str, Any] = {"color": "black", "linewidth": 1.3, "linestyle": (0, (5, 2))}


def class_figure(details: Sequence[RunDetail], methods: Sequence[str]) -> Drawn | None:
    """Test accuracy of each class before and after, a panel for each method.

    details: of one setting; methods: in the order of showing. Averaged over seeds, or of the first
    seed alone where seeds forget different classes.
    """
    with_classes = [d for d in details if d.get("class_accuracy") and d.get("classes")]
    if not with_classes:
        return None
    classes = [str(name) for name in with_classes[0]["classes"]]
    asked = {tuple(map(str, d.get("forgotten_classes") or ())) for d in with_classes}
    first = with_classes[0]["seed"]
    kept = [
        d
        for d in with_classes
        if len(d["class_accuracy"]) == len(classes) and (len(asked) == 1 or d["seed"] == first)
    ]
    forgotten = {str(name) for d in kept for name in d.get("forgotten_classes") or ()}
    found = {
        name: _mean(d["class_accuracy"] for d in kept if d["method"] == name)
        for name in (ORIGINAL, RETRAIN, *methods)
    }
    shown = [name for name in methods if found[name] is not None][:PANELS]
    before, target = found[ORIGINAL], found[RETRAIN]
    if not shown:
        return None
    after = np.array([found[name] for name in shown])
    moved = np.zeros(len(classes)) if before is None else np.abs(after - before).max(axis=0)
    chosen = _chosen(classes, forgotten, np.nan_to_num(moved))
    titles = lines_of(shown, 16, 2)
    with mpl.rc_context(LOOK):
        figure = canvas(min(WIDE, max(NARROW, 2.6 + len(shown))), 1.2 + 0.19 * len(chosen))
        grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, name, values in zip(grid, shown, after, strict=True):
            _dumbbells(axes, chosen, before, values, target)
            axes.set_title(titles[name], size=9)
        marked = [
            f"{classes[row]} (forgotten)" if classes[row] in forgotten else classes[row]
            for row in chosen
        ]
        grid[0].set_yticks(range(len(chosen)), list(labels_of(marked, 30).values()))
        grid[0].set_ylim(len(chosen) - 0.4, -0.6)
        for label, row in zip(grid[0].get_yticklabels(), chosen, strict=True):
            label.set_fontweight("bold" if classes[row] in forgotten else "normal")
        figure.supxlabel("percent of the class's test samples that are right", size=9)
        _legend(
            figure,
            [
                ("original: before", BEFORE, before),
                ("the method: after", AFTER, after),
                ("retrained", TARGET, target),
            ],
        )
    seeds = len({d["seed"] for d in kept})
    caption = "Forgotten classes stand on top. " if forgotten else ""
    caption += "Mean over seeds." if seeds > 1 else f"Seed {first}."
    if len(asked) > 1:
        caption = (
            f"Seed {first} alone, for other seeds forget other classes. Forgotten ones on top."
        )
    caption += _rest(len(classes) - len(chosen))
    return Drawn(figure, "Accuracy of each class", caption + _others(methods, shown), wide=True)


def confidence_figure(details: Sequence[RunDetail], methods: Sequence[str]) -> Drawn | None:
    """How sure models are of the true class, on the forget, retain and test samples.

    A row of panels for each method, over original and retrained; percent of samples in each of the
    equal bins of [0, 1], counts added over seeds. The scale is logarithmic: most samples are in the
    last bin.
    """
    kept = [d for d in details if d.get("confidence")]
    found = {
        name: {
            part: _total(d["confidence"].get(part) for d in kept if d["method"] == name)
            for part in PARTS
        }
        for name in (ORIGINAL, RETRAIN, *methods)
    }
    shown = [n for n in methods if any(v is not None for v in found[n].values())][:PANELS]
    if not shown:
        return None
    titles = lines_of(shown, 16, 2)
    with mpl.rc_context(LOOK):
        figure = canvas(WIDE, 0.9 + 1.25 * len(shown))
        grid = figure.subplots(len(shown), len(PARTS), sharex=True, sharey=True, squeeze=False)
        for line, name in zip(grid, shown, strict=True):
            for axes, part in zip(line, PARTS, strict=True):
                _steps(axes, found[name][part], AFTER_LINE, fill=True)
                _steps(axes, found[ORIGINAL][part], BEFORE_LINE)
                _steps(axes, found[RETRAIN][part], TARGET_LINE)
                axes.set_yscale("log")
                axes.set(xlim=(0, 1), ylim=(0.05, 130))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.set_yticks([0.1, 1, 10, 100])
                axes.yaxis.set_minor_locator(NullLocator())
                axes.spines[["top", "right"]].set_visible(False)
            line[0].set_ylabel(titles[name])
        for axes, title in zip(grid[0], PARTS.values(), strict=True):
            axes.set_title(title, size=9)
        figure.supxlabel("probability of the true class", size=9)
        figure.supylabel("percent of samples", size=9)
        known = {name: any(v is not None for v in found[name].values()) for name in found}
        _legend(
            figure,
            [
                ("original", BEFORE_LINE, known[ORIGINAL] or None),
                ("the method", AFTER_LINE, True),
                ("retrained", TARGET_LINE, known[RETRAIN] or None),
            ],
        )
    caption = (
        "Left: hardly believes its label; right: sure of it. On the forget set, a method should lie "
        "on the retrained model's dashed line, neither right of it (remembers) nor left of it (which "
        "gives away what was forgotten as well). Logarithmic scale; all seeds together."
    )
    return Drawn(
        figure, "Confidence in the true class", caption + _others(methods, shown), wide=True
    )


def _mean(values: Iterable[Sequence[float | None]]) -> Numbers | None:
    """Over seeds, (classes,) in percent; nan where a class has no value in any of them."""
    rows = [[np.nan if v is None else float(v) for v in one] for one in values]
    if not rows:
        return None
    stacked = np.array(rows, dtype=np.float64)
    counts = np.isfinite(stacked).sum(axis=0)
    sums = np.nansum(stacked, axis=0)
    mean: Numbers = np.divide(sums, counts, out=np.full(stacked.shape[1], np.nan), where=counts > 0)
    return mean


def _total(counts: Iterable[Sequence[float] | None]) -> Numbers | None:
    """Percent of samples in each bin, over all seeds; None without a sample."""
    known = [np.asarray(one, dtype=np.float64) for one in counts if one is not None and len(one)]
    known = [one for one in known if len(one) == len(known[0])]
    total = np.sum(known, axis=0) if known else np.zeros(1)
    return 100 * total / total.sum() if total.sum() > 0 else None


def _chosen(classes: Sequence[str], forgotten: set[str], moved: Numbers) -> list[int]:
    """Rows to draw: the forgotten on top, then those that moved most, each in their order."""
    order = sorted(
        range(len(classes)), key=lambda row: (classes[row] not in forgotten, -moved[row])
    )
    return sorted(order[:CLASSES], key=lambda row: (classes[row] not in forgotten, row))


def _dumbbells(
    axes: Axes, chosen: list[int], before: Numbers | None, after: Numbers, target: Numbers | None
) -> None:
    places = np.arange(len(chosen))
    if before is not None:
        axes.hlines(places, before[chosen], after[chosen], color=DOT, linewidth=1.1, zorder=2)
    for values, look in ((before, BEFORE), (target, TARGET), (after, AFTER)):
        if values is not None:
            axes.plot(values[chosen], places, linestyle="none", clip_on=False, zorder=3, **look)
    axes.set(xlim=(0, 100), xticks=[0, 50, 100])
    axes.tick_params(axis="y", length=0)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _steps(axes: Axes, shares: Numbers | None, look: dict[str, Any], *, fill: bool = False) -> None:
    """An outline of bins of equal width; empty bins fall below the scale."""
    if shares is None:
        return
    edges = np.linspace(0, 1, len(shares) + 1)
    seen = np.maximum(shares, 1e-3)
    if fill:
        axes.stairs(seen, edges, baseline=1e-3, fill=True, color=BAND)
    axes.stairs(seen, edges, baseline=1e-3, **look)


def _legend(figure: Figure, entries: Sequence[tuple[str, dict[str, Any], object]]) -> None:
    """A legend, above all panels, of what was drawn; an entry whose last part is None was not."""
    marks = [
        Line2D([], [], label=label, **({"linestyle": "none", **look} if "marker" in look else look))
        for label, look, drawn in entries
        if drawn is not None
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=3, frameon=False)


def _rest(number: int) -> str:
    return f" Left out: {number} classes that moved least." if number > 0 else ""


def _others(methods: Sequence[str], shown: Sequence[str]) -> str:
    """Which methods a limit hides."""
    hidden = [name for name in methods if name not in shown]
    if not hidden:
        return ""
    named = ", ".join(hidden[:6]) + (" and others" if len(hidden) > 6 else "")
    return f" Not shown: {named}."
