"""Pictures of one unlearning run: accuracy by class, how far each layer moved, and learned noise.

A figure function writes to `path_stem` plus a suffix, makes the folders that this needs, returns
the paths of the PNG and the SVG, and raises ConfigError for what cannot be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from expunge.disk.whole import written_whole
from expunge.errors import ConfigError
from expunge.names.text import clean_name
from expunge.report.data_files import csv_text
from expunge.report.drawn import Numbers
from expunge.report.figures import BAND, DOT, STYLE
from expunge.report.places import FIGURES, check_folder
from expunge.report.plotting import (
    Axes,
    ConstrainedLayoutEngine,
    Figure,
    FigureCanvasAgg,
    FuncFormatter,
    MaxNLocator,
    SubFigure,
    mpl,
)

NOISE_CLASSES, NOISE_IMAGES, NOISE_LINES, CLASSES, LAYERS = 20, 8, 3, 30, 60
"""At most so many are drawn: rows of noise, images or line plots in each; rows of the others."""
FAR_APART = 100.0  # beyond such a ratio of largest to smallest distance, the axis is logarithmic
WIDTH = 6.2  # inches
ACCURACIES = ["before", "after", "retrained"]
DISTANCES = ["from_original", "from_retrained", "floor"]
OPTIONAL = {"retrained", "from_retrained", "floor"}
"""Columns of what is not always there."""
LOOKS: dict[str, dict[str, Any]] = {
    # the hollow dot is the larger, so that it stays a ring where nothing changed
    "before": {"marker": "o", "color": DOT, "markerfacecolor": "white", "markersize": 8},
    "after": {"marker": "o", "color": DOT, "markersize": 5},
    "retrained": {"marker": "|", "color": "black", "markersize": 15, "markeredgewidth": 2},
    "from_original": {"marker": "o", "color": DOT, "markersize": 6},
    "from_retrained": {"marker": "s", "color": "#d07a1f", "markerfacecolor": "none"},
    "floor": {"marker": "|", "color": "0.35", "markersize": 12, "markeredgewidth": 1.6},
}
PAIRED = {
    None: "",
    "batches": " (paired)",
    "order": " (paired, but in other batches)",
    "none": " (other initial weights: mostly measures those)",
}


def noise_figure(noise: Numbers, names: Sequence[str], path_stem: str | Path) -> tuple[Path, Path]:
    """Draw what was learned for each forgotten class, a row per class.

    `noise` is (classes, shown, *shape). A shape of (channels, height, width) is drawn as images,
    each scaled by itself: 1 channel in grey, 3 in colour, any other number as the grey of their
    mean. Any other shape is drawn flat, as values over the feature's number.
    """
    values = np.asarray(noise, dtype=np.float64)
    if values.ndim < 3 or not values.size or len(values) != len(names):
        raise ConfigError(
            f"noise of shape {values.shape} cannot be drawn with {len(names)} names; "
            "pass an array (classes, shown, *shape) and one name per class"
        )
    if not np.isfinite(values).all():
        raise ConfigError("the noise holds nan or infinite values; learn it with a lower noise_lr")
    images = values.ndim == 5
    values = values if images else values.reshape(*values.shape[:2], -1)
    note, most = _noise_note(values.shape), NOISE_IMAGES if images else NOISE_LINES
    values = values[:NOISE_CLASSES, :most]
    rows, columns = values.shape[:2]
    # images keep their proportions, within reason: a strip one pixel high would not be seen
    ratio = min(max(values.shape[-2] / values.shape[-1], 0.25), 2.0) if images else 0.5
    side = min((WIDTH - 1.3) / columns, 1.6 if images else 3.2)
    height = rows * (max(side * ratio, 0.5) + 0.08) + (0.4 if images else 0.8)
    with mpl.rc_context(STYLE):
        body, _ = _canvas("Noise learned for each forgotten class", height, note, legend=0)
        grid = body.subplots(rows, columns, squeeze=False, sharex=not images, sharey=not images)
        for axes, name in zip(grid[:, 0], names, strict=False):
            axes.set_ylabel(_label(name, 14, 3), rotation=0, ha="right", va="center", fontsize=10)
        for axes, one in zip(grid.flat, values.reshape(-1, *values.shape[2:]), strict=True):
            (_image if images else _curve)(axes, one)
        if not images:
            body.supxlabel("feature number", fontsize=9)
        return _save(grid[0, 0], path_stem)


def class_accuracy_figure(frame: pd.DataFrame, path_stem: str | Path) -> tuple[Path, Path]:
    """Draw each class's test accuracy before and after, the forgotten classes above the others.

    `frame` has a row per class and the columns class (name), forgotten (bool), and in percent, nan
    where there is no value: before, after and, if known, retrained.
    """
    frame = _checked(frame, ("class", "forgotten"), ACCURACIES, most=100.0)
    if not frame["forgotten"].isin([True, False]).all():
        raise ConfigError("column forgotten holds more than true and false; make it a bool column")
    frame["forgotten"] = frame["forgotten"].astype(bool)
    change = (frame["after"] - frame["before"]).abs()
    saying = "classes left out: none changed by more than {:.1f} points"
    shown, note = _largest(frame, change, CLASSES, saying, first=frame["forgotten"])
    shown = shown.sort_values("forgotten", ascending=False, kind="stable")
    names = [_label(name, 26) for name in shown["class"]]
    words = {name: name for name in ACCURACIES}
    with mpl.rc_context(STYLE):
        title, first = "Test accuracy of each class", int(shown["forgotten"].sum())
        axes, places = _chart(title, shown, names, words, note, first)
        axes.hlines(places, shown["before"], shown["after"], color=DOT, linewidth=1.3, zorder=2)
        axes.set(xlim=(0, 100), xlabel="percent of its test samples")
        return _save(axes, path_stem)


def weight_distance_figure(
    frame: pd.DataFrame, path_stem: str | Path, *, paired: str | None = None
) -> tuple[Path, Path]:
    """Draw how far each layer's weights u are from the original's o and the retrained model's r.

    `frame` has a row per layer, in the model's order, and the columns layer (name), and as fractions
    of the reference's norm, nan where there is no value: from_original = |u - o| / |o| and, if
    known, from_retrained = |u - r| / |r|, and floor = |a - o| / |o| of the original's own training a
    again, in other batches. `paired`: what the retraining shares with the original's training, a key
    of `PAIRED`; None: not known.
    """
    frame = _checked(frame, ("layer",), DISTANCES)
    saying = "layers left out: none has a distance above {:.2g}"
    shown, note = _largest(frame, frame[DISTANCES].max(axis=1), LAYERS, saying)
    # lines are broken after a dot
    names = [_label(f"{n}".replace(".", ". "), 36).replace(". ", ".") for n in shown["layer"]]
    words = {"from_original": "from the original"}
    words["from_retrained"] = f"from the retrained{PAIRED[paired]}"
    words["floor"] = "with nothing forgotten: the original, trained again in other batches"
    with mpl.rc_context(STYLE):
        axes, _ = _chart("Distance of each layer's weights", shown, names, words, note, size=9)
        _from_zero(axes, shown[DISTANCES].to_numpy(dtype=float))
        axes.set_xlabel("distance / norm of the reference")
        return _save(axes, path_stem)


def forgetting_figures(
    out: Path,
    *,
    accuracy: pd.DataFrame,
    distance: pd.DataFrame,
    noise: Numbers | None = None,
    noise_names: Sequence[str] = (),
    paired: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write accuracy_by_class and weight_distance as .png, .svg and .csv; noise as .png and .svg.

    The CSV files hold every row, also those that a figure leaves out; without a test set there is no
    figure of accuracy. Returns the paths. The folder
    appears under its name only when all of it is there. Raises ConfigError if one is in the way.
    """
    check_folder(out, overwrite=overwrite, mark=FIGURES)
    with written_whole(out, overwrite=overwrite) as folder:
        if accuracy["before"].notna().any():
            class_accuracy_figure(accuracy, folder / "accuracy_by_class")
        weight_distance_figure(distance, folder / "weight_distance", paired=paired)
        if noise is not None:
            noise_figure(noise, noise_names, folder / "noise")
        (folder / FIGURES).write_text(csv_text(accuracy), encoding="utf-8")
        (folder / "weight_distance.csv").write_text(csv_text(distance), encoding="utf-8")
        names = sorted(file.name for file in folder.iterdir())
    return [out / name for name in names]


def _checked(
    frame: pd.DataFrame, names: Sequence[str], numbers: Sequence[str], most: float = math.inf
) -> pd.DataFrame:
    """A copy whose `numbers` are floats, nan where not finite; `OPTIONAL` ones may be missing."""
    missing = [name for name in (*names, *numbers) if name not in {*frame.columns, *OPTIONAL}]
    if missing or not len(frame):
        lacks = f"the columns {', '.join(missing)}" if missing else "rows"
        raise ConfigError(f"the frame lacks {lacks}, so nothing can be drawn; give it {lacks}")
    frame = frame.reset_index(drop=True).reindex(columns=[*names, *numbers])
    for name in numbers:
        values = pd.to_numeric(frame[name], errors="coerce").astype(float)
        frame[name] = values.replace([np.inf, -np.inf], np.nan)
        if not frame[name].dropna().between(0, most + 1e-6).all():
            raise ConfigError(f"column {name} leaves 0 to {most:g}; check its unit and its sign")
    return frame


def _largest(
    frame: pd.DataFrame, size: pd.Series, most: int, saying: str, first: pd.Series | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The rows largest by `size`, those in `first` before all, in the frame's order; a note."""
    keys = pd.DataFrame({"first": False if first is None else first, "size": size})
    order = keys.sort_values(["first", "size"], ascending=False).index
    shown, rest = frame.loc[order[:most].sort_values()], keys.loc[order[most:]]
    if not len(rest):
        return shown, []
    note = [f"{len(rest)} of {len(frame)} {saying.format(rest['size'].fillna(0).max())}."]
    return shown, note + [f"{gone} are forgotten ones." for gone in [rest["first"].sum()] if gone]


def _chart(
    title: str,
    shown: pd.DataFrame,
    names: list[str],
    words: dict[str, str],
    note: list[str],
    first: int = 0,
    size: float = 10,
) -> tuple[Axes, Numbers]:
    """A row per name, the `first` ones apart as forgotten; a series per column, `words` its legend.

    Returns the axes and the rows' places, (rows,), in inches from the top.
    """
    headings = [0, first + 1][: 1 + (first < len(names))] if first else []
    for row, text in zip(headings, ("forgotten", "\nnot forgotten"), strict=False):
        names.insert(row, text)
    edges = np.cumsum([0, *(0.05 + 0.017 * size * (name.count("\n") + 1) for name in names)])
    middles = (edges[:-1] + edges[1:]) / 2
    columns = [column for column in words if shown[column].notna().any()]
    across = 1 if max(map(len, words.values())) > 12 else 3  # short words fit beside each other
    body, foot = _canvas(title, edges[-1] + 0.9, note, legend=math.ceil(len(columns) / across))
    axes = body.subplots()
    axes.set_ylim(edges[-1], 0)
    axes.set_yticks(middles, names, fontsize=size)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.grid(color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for row in headings:
        axes.get_yticklabels()[row].set_fontweight("bold")
        axes.get_ygridlines()[row].set_visible(False)
    if first:
        axes.axhspan(0, edges[first + 1], color=BAND, alpha=0.6, linewidth=0, zorder=0)
    places = np.delete(middles, headings)
    for name in columns:
        look: dict[str, Any] = {"linestyle": "none", "clip_on": False, "zorder": 3, **LOOKS[name]}
        axes.plot(shown[name], places, label=words[name], **look)
    foot.legend(handles=axes.get_lines(), loc="upper center", ncols=across, frameon=False)
    beside = axes.get_yaxis_transform()  # across the panel: 0 to 1; down: the rows
    for place in places[shown[[*words]].isna().all(axis=1)]:
        axes.text(0.03, place, "no value", transform=beside, va="center", fontsize=9)
    return axes, places


def _from_zero(axes: Axes, values: Numbers) -> None:
    """An axis from 0; if the values differ much, logarithmic from a power of ten on."""
    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    if high > FAR_APART * low:
        decades = np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        axes.set_xscale("symlog", linthresh=10.0 ** decades[0], linscale=0.15 * len(decades))
        axes.set_xticks([0.0, *10.0 ** decades[:: math.ceil(len(decades) / 6)]])
    axes.set_xlim(0, high * 1.05)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _image(axes: Axes, image: Numbers) -> None:
    """(channels, height, width) as a picture; what has no spread is grey."""
    seen = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    low, high = np.percentile(seen, [1, 99])
    scaled = (seen - low) / (high - low) if high > low else 0.5 + np.sign(seen - low) / 2
    axes.imshow(scaled.clip(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    if not 0.25 <= image.shape[1] / image.shape[2] <= 2:
        axes.set_aspect("auto")
    axes.set(xticks=[], yticks=[])


def _curve(axes: Axes, values: Numbers) -> None:
    axes.plot(values, color=DOT, linewidth=0.6, marker="." if len(values) == 1 else "")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _noise_note(shape: tuple[int, ...]) -> list[str]:
    """How to read the pictures of (classes, shown, *shape), and what is left out of them."""
    classes, shown = shape[:2]
    note = ["Values over the feature's number, all on the same axes."]
    if len(shape) == 5:
        note = ["Each image is scaled by itself: 1st..99th percentile to 0..1."]
        note += [] if shape[2] in (1, 3) else [f"Grey is the mean over {shape[2]} channels."]
    most = NOISE_IMAGES if len(shape) == 5 else NOISE_LINES
    note += [f"Of the {shown} of each class, the first {most}."] if shown > most else []
    left = f"{classes - NOISE_CLASSES} of {classes} classes left out."
    return [*note, left] if classes > NOISE_CLASSES else note


def _label(name: object, width: int, lines: int = 2) -> str:
    return "\n".join(wrap(clean_name(str(name)), width, max_lines=lines, placeholder=" …"))


def _canvas(title: str, height: float, note: list[str], legend: int) -> tuple[SubFigure, SubFigure]:
    """A body of `height` inches, and a foot with the note and room for lines of legend."""
    below = 0.14 + 0.23 * legend + 0.17 * len(note)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0, hspace=0)
    figure = Figure(figsize=(WIDTH, height + below), dpi=200, layout=layout)
    FigureCanvasAgg(figure)
    body, foot = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, below])[:, 0]
    body.suptitle(title, fontweight="bold", fontsize=13)
    foot.text(0.5, 0.06, "\n".join(note), ha="center", va="bottom", fontsize=9)
    return body, foot


def _save(axes: Axes, path_stem: str | Path) -> tuple[Path, Path]:
    figure, stem = axes.figure.figure, Path(path_stem)  # the axes stand in a part of it
    stem.parent.mkdir(parents=True, exist_ok=True)
    png, svg = stem.with_name(stem.name + ".png"), stem.with_name(stem.name + ".svg")
    figure.savefig(png)
    figure.savefig(svg, metadata={"Date": None})
    return png, svg
