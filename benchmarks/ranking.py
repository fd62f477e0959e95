"""Which methods come nearest to retraining, and what is shown of it, from the records of studies.

    python benchmarks/ranking.py docs/results/methods docs/results/methods-cifar10 \
        --out docs/results/methods

Writes `ranking.md`, `ranking.png` and `pareto.png`. In each block of `ranks.py`, methods are ranked
within each seed by their average gap, and compared with `finetune` and with the controls.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

import pandas as pd
from ranks import (
    BASE,
    DRAWS,
    LEVEL,
    OUTSIDE,
    Apart,
    Block,
    blocks_of,
    critical_difference,
    mean_ranks,
    recorded,
)

from expunge.disk.whole import write_file
from expunge.report.drawn import LOOK, canvas
from expunge.report.figures import DOT
from expunge.report.plotting import Axes, Figure, FuncFormatter, MaxNLocator, mpl
from expunge.report.study_figures import name_points, pareto
from expunge.scores.rows import CONTROLS, FLOOR, ORIGINAL

WIDTH = 11.0
"""Inches, of two panels."""
COST = "seconds / seconds of retraining"
ROOM = 2.0
"""By which factor the axes go beyond the last point."""


def block_part(block: Block) -> Iterator[str]:
    """What the page says of a block."""
    means, ends, n = block.ranks.mean(), block.ends, len(block.seeds)
    best = block.controls[0] if block.controls else "none"
    left = f" ({len(block.gaps) - n} more are not whole)" if n < len(block.gaps) else ""
    yield (
        f"\n## {block.name}\n\n{len(means)} methods, {n} seeds{left}, {len(block.pairs)} comparisons. "
        f"The best control: {best}.\n"
    )
    heads = ["method", "mean rank", "95 %", "failed", "gap", "median", "s / retrain"]
    heads += [f"gap minus {BASE}'s"]
    heads += [f"than {BASE}", "than the best control", "shown nearer than"]
    heads += ["audits together"] if block.together else []
    yield f"| {' | '.join(heads)} |\n|---|{'---:|' * 7}{'---|' * (len(heads) - 8)}"
    for name in means.sort_values(kind="stable").index:
        low, high = ends[name]
        base, control = (block.pairs.get((name, other), Apart()) for other in (BASE, best))
        cells = [name, f"{means[name]:.1f}", "–" if math.isnan(low) else f"{low:.1f} to {high:.1f}"]
        cells += [f"{block.failed(name)} of {n}", *block.cells(name), str(base), base.word]
        cells += [control.word, ", ".join(block.beaten(name)) or "none"]
        cells += [block.together.get(name, "–")] if block.together else []
        yield f"| {' | '.join(cells)} |"
    shown = [name for name in means.index if block.is_shown(name)]
    yield (
        f"\n{len(means) - len(shown)} of the {len(means)} methods are not shown to be nearer to "
        f"retraining than every control here ({', '.join(block.controls) or 'there is none'}), or "
        "failed at some seeds, and none of these may be called good. Shown to be so: "
        f"{', '.join(shown) or 'none'}.\n\n"
        "| not ranked | gap | median | s / retrain | |\n|---|---:|---:|---:|---|"
    )
    for name in (ORIGINAL, FLOOR, *CONTROLS, *OUTSIDE):
        if name in block.gaps:
            yield f"| {name} | {' | '.join(block.cells(name))} | {OUTSIDE.get(name, '')} |"


def over_part(blocks: Sequence[Block]) -> Iterator[str]:
    """What the page says of all blocks."""
    from scipy.stats import friedmanchisquare

    table = mean_ranks(blocks)
    methods, wide = len(table.columns), critical_difference(len(table.columns), len(blocks))
    yield f"\n## Over blocks\n\nThe {methods} methods of all blocks, ranked among themselves.\n"
    placed = table.rank(axis="columns").mean()
    heads = ["mean of mean ranks", *([] if wide is None else ["mean place"]), *table.index]
    yield f"| method | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}"
    for name in table.mean().sort_values(kind="stable").index:
        cells = [table[name].mean(), *([] if wide is None else [placed[name]]), *table[name]]
        yield f"| {name} | {' | '.join(f'{cell:.1f}' for cell in cells)} |"
    if wide is None:
        few = f"{len(blocks)} block{'' if len(blocks) == 1 else 's'}, {methods} methods"
        yield f"\n{few}: a critical difference wants five blocks and three methods."
    else:
        p = friedmanchisquare(*(table[name] for name in table)).pvalue
        yield (
            f"\nPlace: rank of the mean rank within a block. Friedman's p over {len(blocks)} blocks: "
            f"{p:.2g}. Nemenyi's critical difference of mean places at 5 %: {wide:.2f}. Both take "
            "blocks for independent, which those of one data set are not."
        )


def page(blocks: Sequence[Block]) -> str:
    """All of it, in Markdown."""
    parts = [line for one in blocks for line in block_part(one)]
    head = f"""# Which methods come nearest to retraining

By `python benchmarks/ranking.py`.

- Gap: mean over UA, MIA, RA and TA of the distance to retraining, in points, of each seed by itself.
- Rank: within each seed, 1 is the nearest. Equal ones share their mean rank; what failed comes last
  (†: at some seeds). How far apart two methods are, no rank says. Its interval: {DRAWS:,} bootstrap
  draws of the seeds; of few seeds it is too narrow.
- Other intervals: Student's, 95 %, each by itself, those of a gap cut to 0 and 100. A spread of less
  than one sample counts as one.
- *nearer*, *farther*: by paired t tests over the seeds that both have, at {100 * LEVEL:g} % for all
  comparisons of a block together (Holm).
- s / retrain: mean seconds over those of retraining.
- What begins with something of its own is not ranked: its gap holds the way to that, too.

![mean ranks](ranking.png)

Filled: shown to be nearer to retraining than every control. Lines: 95 % intervals.

![average gap against cost](pareto.png)

Low and to the left is good. Filled: the Pareto front, the methods that no other and no control beats in
both. Crosses: controls, which do next to nothing. Dashed: `original`; `floor`, a second retraining."""
    return "\n".join([head, *parts, *over_part(blocks), ""])


def rank_figure(blocks: Sequence[Block]) -> Figure:
    """Mean rank and its interval, the nearest on top; filled: nearer than every control."""
    most = max(len(one.ranks.columns) for one in blocks)
    with mpl.rc_context(LOOK):
        figure = canvas(WIDTH, (0.9 + 0.17 * most) * math.ceil(len(blocks) / 2))
        for axes, block in panels(figure, blocks):
            means, ends = block.ranks.mean().sort_values(kind="stable")[::-1], block.ends
            for place, name in enumerate(means.index):
                low, high = ends[name]
                fill = DOT if block.is_shown(name) else "white"
                axes.plot([low, high], [place, place], color="0.6", linewidth=1.4, zorder=1)
                axes.plot(means[name], place, "o", color=DOT, markersize=5, markerfacecolor=fill)
            axes.set_yticks(range(len(means)), [block.label(name) for name in means.index])
            axes.set(xlim=(0.5, len(means) + 0.5), ylim=(-0.7, len(means) - 0.3))
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            axes.set_xlabel(f"mean rank over {len(block.seeds)} seeds, 1 is nearest to retraining")
    return figure


def cost_figure(blocks: Sequence[Block]) -> Figure:
    """Average gap against seconds, with the Pareto front of the methods; controls are crosses."""
    with mpl.rc_context(LOOK):
        figure = canvas(WIDTH, 5.0 * math.ceil(len(blocks) / 2))
        drawn = [(axes, *draw_costs(axes, block)) for axes, block in panels(figure, blocks)]
        for axes, points, front in drawn:
            before = len(axes.texts)
            name_points(figure, axes, points, front)
            for text in axes.texts[before:]:
                text.set(zorder=2.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})
            left = sorted({*points} - {text.get_text() for text in axes.texts[before:]})
            told = wrap(f"no room for the names: {', '.join(left)}" if left else "", 70)
            axes.set_xlabel("\n".join([COST, *told, " ", " "][:3]))
    return figure


def panels(figure: Figure, blocks: Sequence[Block]) -> Iterator[tuple[Axes, Block]]:
    """Two in a line."""
    grid = figure.subplots(math.ceil(len(blocks) / 2), 2, squeeze=False)
    for axes in grid.flat[len(blocks) :]:
        axes.set_visible(False)
    for axes, block in zip(grid.flat, blocks, strict=False):
        axes.set_title(block.name)
        axes.grid(color="0.92", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes, block


def draw_costs(axes: Axes, block: Block) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """The points of a panel, and the names of those at the front."""
    gaps = block.gaps.mean().dropna()
    known = {name: (block.share.get(name, 0.0), float(gaps[name])) for name in gaps.index}
    timed = {name: at for name, at in known.items() if at[0] > 0}
    points = {block.label(name): timed[name] for name in block.ranks.columns if name in timed}
    controls = {name: timed[name] for name in block.controls if name in timed}
    rivals = {**points, **controls, ORIGINAL: (0.0, float(gaps.get(ORIGINAL, math.inf)))}
    front = [name for name in pareto(rivals) if name in points]
    across, down = zip(*points.values(), *controls.values(), strict=True)
    axes.set_xscale("log")
    axes.set_xlim(min(across) / ROOM, max(*across, 1.0) * ROOM)
    least = gaps.get(FLOOR, 0.0) or min((one for one in down if one > 0), default=1.0)
    axes.set_yscale("symlog", linthresh=least, linscale=0.5)
    axes.set_ylim(0, max(*down, gaps.max()) * ROOM)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel=f"{COST}\n \n ", ylabel="average gap, points")  # room for what has no name
    for name, side in ((FLOOR, "right"), (ORIGINAL, "left")):
        if name in gaps:
            axes.axhline(gaps[name], color="0.45", linewidth=0.9, linestyle=(0, (5, 2)), zorder=1)
            at = (0.99 if side == "right" else 0.01, gaps[name])
            beside = axes.get_yaxis_transform()
            axes.text(*at, name, transform=beside, ha=side, va="bottom", size=8, color="0.3")
    steps = [points[name] for name in front]
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color=DOT, linewidth=1.2, zorder=2)
    for name, at in points.items():
        own, fill = (DOT, DOT) if name in front else ("0.45", "white")
        axes.plot(*at, "o", color=own, markersize=5, markerfacecolor=fill, zorder=3)
    for at in controls.values():
        axes.plot(*at, "x", color="black", markersize=6, zorder=3)
    return points | controls, front


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    frames, findings = zip(*(recorded(one) for one in given.records), strict=True)
    blocks = [*blocks_of(pd.concat(frames), pd.concat(findings))]
    given.out.mkdir(parents=True, exist_ok=True)
    write_file(given.out / "ranking.md", page(blocks))
    rank_figure(blocks).savefig(given.out / "ranking.png", dpi=110)
    cost_figure(blocks).savefig(given.out / "pareto.png", dpi=110)
    print(page(blocks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
