"""The papers' claims in one figure: each with its difference, its 95 % interval and its verdict.

`claims.py` draws it, with `--write` or `--figure`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from claims_lines import Line, by_reference, stays

from expunge.report.drawn import LOOK, canvas
from expunge.report.figures import DOT
from expunge.report.plotting import Axes, Figure, Line2D, mpl

WIDTH, ROW, HEAD = 10.0, 0.185, 0.57
"""Inches: the figure's width, the height of a claim, and what a panel takes besides."""
LOOKS: Mapping[str, tuple[str, str]] = {
    "holds": (DOT, DOT),
    "fails": ("#d55e00", "#d55e00"),
    "equivalent": ("0.5", "0.5"),
    "undecided": ("0.6", "white"),
}
"""Verdict -> colour of the line and fill of the dot. No eye takes such a blue for such an orange."""
TICKS = (0, 1, 3, 10, 30, 100)


def absent(line: Line) -> str:
    """Why a claim cannot be drawn; empty where it can."""
    if line.unit != "percent":
        return f"in {line.unit}" if line.unit else "without a unit"
    return "of which no seed has both sides" if math.isnan(line.found.difference) else ""


def label_of(line: Line) -> str:
    """The claim, on which data, and how many of its seeds it has if it lacks some."""
    found = line.found
    score = found.claim.less.score
    marks = {" *": stays(line), " †": line.both is None, " ‡": by_reference(line)}
    marked = "".join(mark for mark, is_so in marks.items() if is_so)
    seeds = "" if found.n == found.of else f", {found.n} of {found.of} seeds"
    claim = found.claim.text.replace(f"< {score} of ", "< of ")
    return f"{claim} · {line.data}{line.at_scale}{seeds}{marked}"


def draw_panel(axes: Axes, lines: Sequence[Line], labels: Sequence[str], most: float) -> None:
    """A claim a line, the first on top."""
    for place, line in enumerate(lines):
        colour, fill = LOOKS[line.verdict]
        ends = [line.found.low, line.found.high]
        axes.plot(ends, [place, place], color=colour, linewidth=1.6, zorder=2)
        axes.plot(line.found.difference, place, "o", color=colour, mfc=fill, ms=5.5, zorder=3)
    axes.set_yticks(range(len(lines)), labels)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xscale("symlog", linthresh=1, linscale=0.6)
    axes.set_xlim(-most, most)
    ticks = sorted({sign * one for one in TICKS for sign in (-1, 1) if one < most})
    axes.set_xticks(ticks, [f"{one:+g}".replace("-", "−") if one else "0" for one in ticks])
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.tick_params("x", labelcolor="0.35", labelsize=8)
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axvline(0, color="0.2", linewidth=0.9, linestyle=(0, (5, 2)), zorder=1)
    axes.spines[:].set_visible(False)


def above(
    axes: Axes, text: str, at: float, points: float, across: str = "axes fraction", **look: Any
) -> None:
    """Words so many points above a panel, for which the layout leaves no room of its own."""
    look = {"xycoords": (across, "axes fraction"), "textcoords": "offset points", **look}
    axes.annotate(text, (at, 1), xytext=(0, points), annotation_clip=False, in_layout=False, **look)


def notes(lines: Sequence[Line], drawn: Sequence[Line]) -> str:
    """What is said below the figure."""
    told = [
        "Left side minus right side, in points; beyond ±1 the axis is logarithmic. Verdicts: after Holm "
        "over the claims of the study, so that an interval may leave out 0 and yet decide nothing."
    ]
    if any(stays(line) for line in drawn):
        told.append("* The paper says that this score stays.")
    if any(line.both is None for line in drawn):
        told.append("† Decided by looks.")
    if any(by_reference(line) for line in drawn):
        told.append("‡ Not shown of the models alone, read against one and the same reference.")
    why = Counter(absent(line) for line in lines if absent(line))
    told += [f"Not drawn: {n} {'claim' if n == 1 else 'claims'} {says}." for says, n in why.items()]
    return "\n".join(wrap(" ".join(told), 150))


def figure_of(lines: Sequence[Line], heads: Mapping[str, str]) -> Figure:
    """All claims that are in points, a panel for each number of heads."""
    drawn = [line for line in lines if not absent(line)]
    own = {number: [line for line in drawn if line.number == number] for number in heads}
    own = {number: some for number, some in own.items() if some}
    ends = [
        end for line in drawn for end in (line.found.difference, line.found.low, line.found.high)
    ]
    most = 1.15 * max([10.0, *(abs(end) for end in ends if not math.isnan(end))])
    rows = [len(some) + 0.2 for some in own.values()] or [1.0]
    with mpl.rc_context(LOOK):
        figure = canvas(WIDTH, 1.3 + sum(HEAD + ROW * one for one in rows))
        grid = [*figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows).flat]
        for axes, (number, some) in zip(grid, own.items(), strict=False):
            draw_panel(axes, some, [label_of(one) for one in some], most)
            axes.set_title("\n " if axes is grid[0] else " ")  # room for what begins further left
            head = f"{number}{'.' if number.isdigit() else ':'} {heads[number]}"
            above(axes, head, 0.008, 6, "figure fraction", weight="bold", size=10)
        above(grid[0], "← holds: left is smaller", 0.25, 21, ha="center", color=LOOKS["holds"][0])
        above(grid[0], "fails: left is larger →", 0.75, 21, ha="center", color=LOOKS["fails"][0])
        dots = [
            Line2D([], [], color=colour, mfc=fill, marker="o", ms=5.5, label=verdict)
            for verdict, (colour, fill) in LOOKS.items()
        ]
        figure.legend(handles=dots, loc="outside upper left", ncols=len(dots), frameon=False)
        figure.supxlabel(notes(lines, drawn), x=0.008, ha="left", size=8.5, color="0.3")
    return figure
