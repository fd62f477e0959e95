"""The theory check of sparsity, shown: table, sentences, figure and files.

The input is the frame of `expunge.theory.sparsity.diagnose_sparsity`: a row per sparsity, and nan where
something diverged. The bound of Jia et al. (NeurIPS 2023), proposition 2, is known up to a constant,
so what is compared with the measured distance is its trend.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from expunge.disk.whole import written_whole
from expunge.errors import ConfigError
from expunge.report.cells import Digits, Several, TableCell
from expunge.report.data_files import csv_text
from expunge.report.figures import STYLE
from expunge.report.grid import Column, Grid, Line
from expunge.report.markdown import grid_markdown, items
from expunge.report.places import TABLES, check_folder
from expunge.report.plotting import (
    Axes,
    ConstrainedLayoutEngine,
    Figure,
    FigureCanvasAgg,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    mpl,
)
from expunge.report.tables import clean_frame

NEEDED = (
    "sparsity_percent",
    "learning_rate",
    "steps",
    "momentum",
    "method",
    "weight_change_l2",
    "top_eigenvalue",
    "factor_product",
    "factor_product_relative",
    "distance_l2",
    "distance_relative",
    "distance_percent_of_retrained",
    "untouched_distance_l2",
    "floor_distance_l2",
    "moved_by_method_l2",
    "error",
)
HARDLY = 0.05
"""A method that moves weights by less of the distance to the retrained model has hardly acted."""
LOGARITHMIC_FROM = 10.0
"""From such a ratio of largest to smallest value, an axis is logarithmic."""


@dataclass(frozen=True)
class Trend:
    """Spearman's rank correlation over n sparsities; nan without a trend.

    A description, and no test: both series follow sparsity, so orderings that ignore it are no null
    hypothesis, and a p value from permuting them would call any two such series related.
    """

    rho: float
    n: int


def trend(frame: pd.DataFrame) -> Trend:
    """Do the factor product and the measured distance rank the sparsities alike? 1: just so.

    Rows without both values are left out; rho is nan for fewer than three, or where one series is
    constant.
    """
    _check(frame)
    both = frame[["factor_product", "distance_l2"]].astype(float)
    both = both.replace([np.inf, -np.inf], np.nan).dropna()
    n = len(both)
    if n < 3 or (both.nunique() < 2).any():
        return Trend(math.nan, n)
    from scipy import stats

    found = stats.spearmanr(both["factor_product"], both["distance_l2"])
    return Trend(float(found.statistic), n)


def theory_grid(frame: pd.DataFrame) -> Grid:
    """A line per sparsity; one at which something diverged says so."""
    _check(frame)
    numbers = {
        "weight change": "weight_change_l2",
        "top eigenvalue": "top_eigenvalue",
        "product": "factor_product",
        "product, relative": "factor_product_relative",
        "distance": "distance_l2",
        "distance, relative": "distance_relative",
        "% of retrained": "distance_percent_of_retrained",
        "if untouched": "untouched_distance_l2",
        "floor": "floor_distance_l2",
        "moved": "moved_by_method_l2",
    }
    scores = [score for score in ("UA", "TA") if f"{score.lower()}_forgot_percent" in frame]
    lines = []
    for row, error in zip(frame.to_dict("records"), _errors(frame), strict=True):
        cells: list[TableCell] = [
            Digits(row["sparsity_percent"], digits=6, mark="diverged" if error else "")
        ]
        cells += [Digits(row[name]) for name in numbers.values()]
        cells += [_three(row, score.lower()) for score in scores]
        lines.append(Line(tuple(cells), "failed" if error else ""))
    return Grid(tuple(map(Column, ["sparsity %", *numbers, *scores])), tuple(lines))


def theory_notes(frame: pd.DataFrame) -> list[str]:
    """What the table says and what it cannot say, in sentences."""
    _check(frame)
    first, found = frame.iloc[0], trend(frame)
    if math.isnan(found.rho):
        verdict = "There is no rank correlation: fewer than three sparsities have both values."
    else:
        verdict = (
            "Spearman's rank correlation of product and measured distance over "
            f"{found.n} sparsities of one seed: {found.rho:.2f}. Both follow sparsity, so this "
            "describes them and tests nothing."
        )
    sentences = [
        "Jia et al. (2023), proposition 2, bounds the distance up to a constant, so only trends can "
        "be compared. " + verdict,
        "product: η² t ‖m⊙(θₜ−θ₀)‖ σ(m), with the largest eigenvalue of the masked Hessian for σ, "
        f"η = {first['learning_rate']:g} and t = {first['steps']} steps at each sparsity. distance: "
        f"‖θ−θᵣ‖ from the result of {first['method']} to a retrained model with the same initial "
        "weights, mask and batches, the forget set struck out of them. relative: to sparsity 0.",
        "The distance is over the kept weights, so their number alone changes it; % of retrained "
        "puts it in percent of ‖θᵣ‖. if untouched: the original's distance. floor: of the original to "
        "its own training again, nothing removed, in other batches; a distance near it says nothing of "
        "forgetting. moved: how far the method "
        "took the weights. UA, TA: original / after the method / retrained, in percent.",
    ]
    share = (frame["moved_by_method_l2"] / frame["untouched_distance_l2"]).max()
    if share < HARDLY:
        sentences.append(
            f"{first['method']} moved the weights by {100 * share:.2g} % of the distance to the "
            "retrained model at most: what is measured here is the distance if nothing is done. "
            "Larger steps would put the method itself to the test."
        )
    if first["momentum"]:
        sentences.append(
            f"The proposition assumes SGD without momentum; this recipe has {first['momentum']:g}."
        )
    for sparsity, error in zip(frame["sparsity_percent"], _errors(frame), strict=True):
        if error:
            sentences.append(f"At sparsity {sparsity:g} %: {error}.")
    return sentences


PRODUCT = ("product: η² t ‖m⊙(θₜ−θ₀)‖ σ(m)", "#1f5f99", "-", "o")
MEASURED = ("measured: ‖θ−θᵣ‖", "#d07a1f", "--", "s")
AGAIN = ("floor: trained again, nothing removed", "0.45", ":", "v")
CHANGE = ("‖m⊙(θₜ−θ₀)‖", "#3f7f5f", "-.", "^")
EIGENVALUE = ("σ(m)", "#7a3f7f", ":", "D")
"""Label, colour, line and marker: told apart without colour by the last two."""


def sparsity_theory_figure(frame: pd.DataFrame) -> Figure:
    """Bound and measured distance relative to sparsity 0, and below them the bound's factors.

    Sparsities stand at equal distances. Raises ConfigError if the frame lacks a column or has no
    rows.
    """
    _check(frame)
    relative = [
        ("factor_product_relative", PRODUCT),
        ("distance_relative", MEASURED),
    ]
    with mpl.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
        figure = Figure(figsize=(6.2, 7.2), dpi=200, layout=layout)
        FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, sharex=True)
        found = trend(frame)
        rank = "" if math.isnan(found.rho) else f"\nrank correlation {found.rho:.2f}, n = {found.n}"
        above.set_title(
            f"The bound, without its constant, and the measured distance{rank}", fontsize=11.5
        )
        for column, (label, *look) in relative:
            _line(above, frame[column], label, look)
        start = float(frame["distance_l2"].iloc[0])  # so that it stands beside the distance
        label, *look = AGAIN
        _line(above, frame["floor_distance_l2"] / (start if start > 0 else math.nan), label, look)
        below.set_title("The bound's two factors that vary", fontsize=11.5)
        for column, (label, *look) in (
            ("weight_change_l2", CHANGE),
            ("top_eigenvalue", EIGENVALUE),
        ):
            values = frame[column].astype(float).abs()
            start = float(values.iloc[0])
            unit = f"{label}; {start:.3g} at 0 %" if start > 0 else label
            _line(below, values / start if start > 0 else values * math.nan, unit, look)
        for axes in (above, below):
            _finish(axes, frame)
        above.tick_params(labelbottom=True)
        below.set_xlabel("sparsity (percent of prunable weights cut)")
    return figure


def write_theory(frame: pd.DataFrame, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write table.md, table.csv (every column, unrounded), table.json, figure.png and figure.svg.

    Returns the paths. The folder appears under its name only when all of it is there.
    Raises ConfigError for a folder that is in the way.
    """
    check_folder(out, overwrite=overwrite)
    frame = clean_frame(frame)
    with written_whole(out, overwrite=overwrite) as folder:
        table = f"{grid_markdown(theory_grid(frame))}\n{items(theory_notes(frame))}"
        (folder / "table.md").write_text(table, encoding="utf-8")
        (folder / "table.csv").write_text(csv_text(frame), encoding="utf-8")
        (folder / TABLES).write_text(_json(frame), encoding="utf-8")
        figure = sparsity_theory_figure(frame)
        with mpl.rc_context(STYLE):
            figure.savefig(folder / "figure.png")
            figure.savefig(folder / "figure.svg", metadata={"Date": None})
        names = sorted(file.name for file in folder.iterdir())
    return [out / name for name in names]


def _check(frame: pd.DataFrame) -> None:
    missing = [name for name in NEEDED if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"the theory check's frame lacks {', '.join(missing)}; take it as diagnose_sparsity "
            "returns it"
        )
    if not len(frame):
        raise ConfigError("the theory check's frame has no rows: there is nothing to report")


def _errors(frame: pd.DataFrame) -> list[str]:
    """What went wrong at each sparsity; empty cells of a CSV file come back as nan."""
    return ["" if pd.isna(error) else str(error) for error in frame["error"]]


def _line(axes: Axes, values: pd.Series[float], label: str, look: Sequence[str]) -> None:
    """One series; its line is broken where a value is missing."""
    colour, line, marker = look
    axes.plot(
        range(len(values)),
        values.to_numpy(dtype=float),
        color=colour,
        linestyle=line,
        linewidth=1.8,
        marker=marker,
        markersize=7,
        label=label,
        markerfacecolor="white" if marker in "sD" else colour,
    )


def _finish(axes: Axes, frame: pd.DataFrame) -> None:
    """Scales, labels, the line of no change, and a word where something diverged."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    drawn = np.concatenate(lines)
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    if len(drawn) and drawn.max() > LOGARITHMIC_FROM * drawn.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axhline(1.0, color="0.6", linewidth=1.0, zorder=0.5)
    for place, error in enumerate(_errors(frame)):
        if error and any(math.isnan(values[place]) for values in lines):
            beside = axes.get_xaxis_transform()  # across: the sparsities; up the panel: 0 to 1
            axes.text(
                place, 0.04, "diverged", transform=beside, rotation=90, ha="center", fontsize=9
            )
    axes.set_xticks(range(len(frame)), [f"{value:g}" for value in frame["sparsity_percent"]])
    axes.set_ylabel("relative to sparsity 0")
    axes.grid(axis="y", color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    # a line may pass below it
    axes.legend(framealpha=0.85, edgecolor="none", fontsize=10, handlelength=3.2)


def _json(frame: pd.DataFrame) -> str:
    """The trend, the notes and every row, nan as null."""
    content: dict[str, Any] = {
        "trend": _finite(asdict(trend(frame))),
        "notes": theory_notes(frame),
        "rows": [_finite(row) for row in json.loads(frame.to_json(orient="records"))],
    }
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _three(row: dict[Any, Any], score: str) -> Several:
    """A score of the original, after the method, and of the retrained model."""
    return Several(
        tuple(row[f"{score}_{name}_percent"] for name in ("original", "forgot", "retrained"))
    )
