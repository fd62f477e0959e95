"""What `benchmarks/detection.py` measured, to read: a table and the ROC.

python benchmarks/detection_page.py benchmarks/results/detection.json docs/results/detection
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from expunge.backdoor.detection import SUSPECT
from expunge.backdoor.inspecting import DETECTORS
from expunge.backdoor.thresholds import share_told
from expunge.disk.whole import write_file


def counted(one: Mapping[str, Any]) -> str:
    """`3 of 20 (3 to 38 %)`; of no models nothing."""
    return share_told((one["count"], one["of"])) if one["of"] else "–"


GROUPS = {
    "measured": "20 clean and 20 poisoned models of `mnist:5000`; thresholds were fixed on others",
    "blind": "what the detectors are known not to see: all-to-all, and clean-label poison",
    "cifar": "three models of `cifar10:5000`, as a check",
}


def page(numbers: Path, out: Path) -> None:
    """What the numbers say, as a table and a figure."""
    found = json.loads(numbers.read_text(encoding="utf-8"))
    cpu = found["machine"]["cpu"]
    lines = [
        "# How well `inspect` tells poisoned models from clean ones",
        "",
        f"By `python benchmarks/detection.py` ({cpu}): networks `cnn`, ten epochs; intervals are those "
        "of Clopper and Pearson, 95 %. A detector may say `suspect`, `nothing found` or `cannot tell`. "
        "AUC and ROC are of its statistic alone; a word rests on more. STRIP judges 400 images, half of "
        "which carry the trigger, those of clean models too: there the images are suspect. "
        "Attack: triggered test images of other classes that are called the target, mean and range.",
    ]
    for group, says in GROUPS.items():
        if group in found["groups"]:
            own = [one for one in found["models"] if one["group"] == group]
            lines += ["", f"## {group}", "", f"{says[0].upper()}{says[1:]}.", ""]
            lines += _table_of(found["groups"][group], own)
    lines += ["", "![ROC of the statistics](roc.png)", ""]
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "table.md", "\n".join(lines))
    _draw(found["groups"]["measured"], out / "roc.png")


def _table_of(group: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    kinds = list(group["any"]["by_kind"])
    heads = [
        "detector",
        "AUC",
        "clean ones suspected",
        "poisoned ones suspected",
        "the right class",
    ]
    yield f"| {' | '.join([*heads, *kinds])} |"
    yield f"|---|---:|---|---|---|{'---:|' * len(kinds)}"
    for name, one in group.items():
        auc = one.get("roc_of_statistic", {}).get("auc")
        cells = [name, "–" if auc is None else f"{auc:.2f}", counted(one["clean"][SUSPECT])]
        cells += [counted(one["poisoned"][SUSPECT])]
        cells += [counted(one["right_class"]) if "right_class" in one else "–"]
        cells += [
            f"{of[SUSPECT]['count']} of {of[SUSPECT]['of']}" for of in one["by_kind"].values()
        ]
        yield f"| {' | '.join(cells)} |"
    attacks = []
    for kind in kinds:
        values = [m["attack"] for m in models if m["kind"] == kind and m["attack"] is not None]
        values = [100 * value for value in values if value == value]
        mean = sum(values) / max(1, len(values))
        told = f"{mean:.0f} % ({min(values):.0f} to {max(values):.0f})" if values else "–"
        attacks.append(told)
    yield f"| *attack* | | | | | {' | '.join(attacks)} |"


def _draw(group: Mapping[str, Any], file: Path) -> None:
    """The ROC of each statistic, and where its word lies."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(6, 4.6), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    for number, name in enumerate(DETECTORS):
        one = group[name]
        if "roc_of_statistic" not in one:
            continue
        points = np.array(one["roc_of_statistic"]["points"])
        label = f"{DETECTORS[name].title}, AUC {one['roc_of_statistic']['auc']:.2f}"
        axes.step(*points.T, where="post", color=f"C{number}", label=label)
        x, y = (one[which][SUSPECT] for which in ("clean", "poisoned"))
        at = [x["count"] / x["of"]], [y["count"] / y["of"]]
        bars = {
            "xerr": [[at[0][0] - x["low"]], [x["high"] - at[0][0]]],
            "yerr": [[at[1][0] - y["low"]], [y["high"] - at[1][0]]],
        }
        axes.errorbar(*at, **bars, fmt="o", color=f"C{number}", elinewidth=0.8, capsize=2)
    axes.set_xlabel("share of clean models suspected")
    axes.set_ylabel("share of poisoned models suspected")
    axes.set_title("line: the statistic alone; point: the word, with 95 % intervals", fontsize=10)
    axes.legend(loc="lower right")
    drawn.savefig(file, dpi=110)


if __name__ == "__main__":
    page(Path(sys.argv[1]), Path(sys.argv[2]))
