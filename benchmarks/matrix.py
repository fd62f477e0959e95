"""What cleanses what: attack by defence by what is known, from the record of the study `backdoors`.

    python benchmarks/matrix.py docs/results/backdoors

Writes `matrix.md` and `matrix.png` beside the record: ASR, SA and seconds of each method against each
attack, where all poison is known, three tenths of it, and none but a fifth of the clean images. Means
over seeds, with the 95 % interval of Student's t over them, cut to 0 and 100: of three seeds it is wide.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path

import pandas as pd
from recorded import read_record

from expunge.data.poison import split_poison
from expunge.disk.whole import write_file
from expunge.scores.statistics import student_interval

KNOWN = {
    "poison": "all poison known",
    "poison:0.3": "three tenths of it known",
    "clean:0.2": "clean images alone",
}
FIRST = ["original", "retrain"]


def attack_of(data: str) -> str:
    """`mnist:2000+patch:colour=255,share=0.01` -> `patch, 1 %`."""
    _, poison = split_poison(data)
    if poison is None:
        raise SystemExit(f"{data} has no poison")
    into = ", all to all" if poison.target == "next" else ""
    return f"{poison.trigger.kind}, {100 * poison.share:g} %{into}"


def said(values: pd.Series, seeds: int, *, asked: bool) -> str:
    """A cell. seeds: how many there should be. asked: whether the study asks the method for this."""
    if not len(values):
        return "failed" if asked else "–"
    mean, low, high = student_interval(values.tolist())
    ends = "" if math.isnan(low) else f" [{max(0.0, low):.0f}, {min(100.0, high):.0f}]"
    told = f"{mean:.1f}{ends}"
    return told if len(values) == seeds else f"{told}, {len(values)} of {seeds}"


def table(frame: pd.DataFrame) -> str:
    """One table for each attack: a row for each method, columns for what is known."""
    seeds = frame["seed"].nunique()
    lines = [
        "# Attack by defence by what is known",
        "",
        f"Percent, mean of {seeds} seeds with its 95 % interval over them, and seconds inside the "
        "method. ASR: triggered test images of other classes that are called the attacker's class (all "
        "to all: the class after their own). SA: accuracy on clean test images. `retrain` is training "
        "without what is known to be poisoned, or on the clean images alone. Where ASR of `original` is "
        "low, the attack had hardly worked. *k of n*: in the other seeds the method diverged; *failed*: "
        "in all; –: it reads what is not known here.",
    ]
    for data, own in frame.groupby("data", sort=False):
        lines += ["", f"## {attack_of(str(data))}", "", f"`{data}`", ""]
        heads = [f"{score}, {words}" for words in KNOWN.values() for score in ("ASR", "SA", "s")]
        lines.append(f"| method | {' | '.join(heads)} |")
        lines.append(f"|---|{'---:|' * len(heads)}")
        names = [*FIRST, *(n for n in dict.fromkeys(own["method"]) if n not in (*FIRST, "floor"))]
        for name in names:
            cells = []
            for scenario in KNOWN:
                one = own[(own["method"] == name) & (own["scenario"] == scenario)]
                for score in ("ASR", "SA"):
                    values = one.loc[one["score"] == score, "value"].dropna()
                    read = name in frame.loc[frame["scenario"] == scenario, "method"].to_numpy()
                    cells.append(said(values, seeds, asked=read))
                took = one.loc[one["score"] == "RTE", "value"].dropna()
                cells.append(f"{took.mean():.1f}" if len(took) else "–")
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(frame: pd.DataFrame, file: Path) -> None:
    """ASR as colours and numbers, one panel for each thing that is known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [*FIRST, *(n for n in dict.fromkeys(frame["method"]) if n not in (*FIRST, "floor"))]
    attacks = list(dict.fromkeys(frame["data"]))
    drawn = Figure(figsize=(13, 5.2), layout="constrained")
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(1, len(KNOWN), sharey=True)
    for panel, (scenario, words) in zip(panels, KNOWN.items(), strict=True):
        own = frame[(frame["scenario"] == scenario) & (frame["score"] == "ASR")]
        grid = own.pivot_table(index="method", columns="data", values="value", aggfunc="mean")
        grid = grid.reindex(index=names, columns=attacks)
        panel.imshow(grid.to_numpy(), cmap="YlOrRd", vmin=0, vmax=100, aspect="auto")
        for row, name in enumerate(names):
            for column, attack in enumerate(attacks):
                value = grid.loc[name, attack]
                text = "–" if math.isnan(value) else f"{value:.0f}"
                colour = "white" if value > 60 else "black"
                panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
        labels = [re.sub(", all to all", ",\nall to all", attack_of(one)) for one in attacks]
        panel.set_xticks(range(len(attacks)), labels, rotation=45, ha="right")
        panel.set_yticks(range(len(names)), names)
        panel.set_title(words)
    drawn.suptitle("ASR after cleansing, percent, mean over seeds: low is good")
    drawn.savefig(file, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", type=Path)
    record = parser.parse_args().record
    _, frame = read_record(record)
    write_file(record / "matrix.md", table(frame))
    figure(frame, record / "matrix.png")
    print(table(frame))
    return 0


if __name__ == "__main__":
    sys.exit(main())
