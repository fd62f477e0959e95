"""A figure of one method's scores over the values of one of its settings, where a study varies one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from expunge.report.cells import Mean
from expunge.report.drawn import LOOK, WIDE, Drawn, canvas
from expunge.report.figures import DOT, limits_of
from expunge.report.plotting import Axes, FuncFormatter, NullLocator, mpl
from expunge.report.study_figures import LOGARITHMIC
from expunge.scores.rows import NO_METHODS, RETRAIN, SET
from expunge.scores.table import AVERAGED

_VALUES, _NAMES = re.compile(r"(.+) \((\w+=.*)\)"), re.compile(r"(?:^|, )(\w+)=")
PANELS = (*AVERAGED, "avg_gap")


@dataclass(frozen=True)
class Ablation:
    """A method that was run with several values of one setting. rows: value -> the table's row."""

    method: str
    setting: str
    rows: Mapping[Any, str]


def ablations(frame: pd.DataFrame) -> list[Ablation]:
    """The methods of which rows differ in one setting alone, as `lr: [0.01, 0.1]` in a study makes them.

    frame: rows of one scenario with the columns method and `set.NAME`; `LABEL (NAME=VALUE)` is one of
    LABEL's, whatever else stands in brackets in LABEL.
    """
    columns = [str(name) for name in frame.columns if str(name).startswith(SET)]
    firsts = frame[~frame["method"].isin(NO_METHODS)].drop_duplicates("method")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in firsts[["method", *columns]].to_dict("records"):
        named = {str(name): value for name, value in row.items()}
        groups.setdefault(_plan_label(named), []).append(named)
    found = []
    for method, rows in groups.items():
        vary = [name for name in columns if len({_key(row[name]) for row in rows}) > 1]
        if len(rows) > 1 and len(vary) == 1 and len({_key(r[vary[0]]) for r in rows}) == len(rows):
            (name,) = vary
            values = {_key(row[name]): row["method"] for row in rows}
            found.append(Ablation(method, name.removeprefix(SET), values))
    return found


def ablation_figure(table: pd.DataFrame, found: Ablation) -> Drawn:
    """UA, MIA, RA, TA and the average gap over the setting's values, beside the retrained model.

    table: one scenario's rows of `papers_table`.
    """
    rows = {str(row["method"]): row for row in table.to_dict("records")}
    numbers = all(isinstance(value, int | float) for value in found.rows)
    values = sorted(found.rows) if numbers else list(found.rows)
    with mpl.rc_context(LOOK):
        figure = canvas(WIDE, 4.2)
        grid = figure.subplots(2, 3)
        for axes, score in zip(grid.flat, PANELS, strict=False):
            places = _across(axes, values) if numbers else np.arange(len(values), dtype=float)
            axes.set_xticks(places, [_told(value) for value in values])
            cells = [rows[found.rows[value]][score] for value in values]
            _points(axes, places, cells, limits_of(score) if score in AVERAGED else (0, math.inf))
            target = rows.get(RETRAIN, {}).get(score)
            if isinstance(target, Mean):
                axes.axhline(target.mean, color="black", linewidth=1.6, label="retrain", zorder=2)
            axes.set_title("average gap, points" if score == "avg_gap" else f"{score}, %", size=9)
            axes.margins(y=0.12)
            axes.grid(axis="y", color="0.9", linewidth=0.7)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in (grid[1, 0], grid[1, 1], grid[0, 2]):  # below the last, the legend
            axes.set_xlabel(found.setting)
        handles = [one for one in grid[0, 0].get_lines() if one.get_label()[:1] != "_"]
        grid[1, 2].set_axis_off()
        names = [found.method if one.get_label() != RETRAIN else RETRAIN for one in handles]
        grid[1, 2].legend(handles, names, loc="center", frameon=False, handlelength=3.2)
    caption = (
        f"Rows that differ in {found.setting} alone. Means over seeds, bars: one standard deviation. A "
        "score is good where it comes near to the line, the average gap where it is low. A value that "
        "is chosen here was chosen on the scores that are reported."
    )
    return Drawn(figure, f"{found.method}: scores over {found.setting}", caption, wide=True)


def _plan_label(row: Mapping[str, Any]) -> str:
    """What a study's plan calls a row's method: without `(NAME=VALUE, ...)` of its own settings."""
    label = str(row["method"])
    match = _VALUES.fullmatch(label)
    if match is None or any(_key(row.get(f"{SET}{n}")) is None for n in _NAMES.findall(match[2])):
        return label
    return match[1]


def _key(value: Any) -> Any:
    """A value that can be compared: one missing is None, and what a file can hold else is a text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _told(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)[:12]


def _across(axes: Axes, values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Places of numbers, on a logarithmic axis where they differ much."""
    if values[0] > 0 and values[-1] > LOGARITHMIC * values[0]:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return np.array(values, dtype=np.float64)


def _points(
    axes: Axes,
    places: np.ndarray[Any, np.dtype[np.float64]],
    cells: Sequence[Mean | float | None],
    limits: tuple[float, float],
) -> None:
    """Means with one standard deviation, which leaves the limits no more than a score can."""
    means = np.array([_mean(cell) for cell in cells], dtype=np.float64)
    sds = np.array([cell.sd if isinstance(cell, Mean) else 0.0 for cell in cells], dtype=np.float64)
    sds = np.nan_to_num(sds)
    spread = [np.minimum(sds, means - limits[0]), np.minimum(sds, limits[1] - means)]
    axes.errorbar(
        places,
        means,
        yerr=np.nan_to_num(np.maximum(spread, 0.0)),
        color=DOT,
        marker="o",
        markersize=5,
        linewidth=1.2,
        elinewidth=0.7,
        capsize=2,
        zorder=3,
    )
    axes.get_lines()[0].set_label("method")


def _mean(cell: Mean | float | None) -> float:
    if cell is None:
        return math.nan
    return cell.mean if isinstance(cell, Mean) else float(cell)
