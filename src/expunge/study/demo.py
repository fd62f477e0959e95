"""The demonstration: a study on digits, forgetting one class and then a random tenth.

Returns numbers; nothing is printed or kept here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from expunge.place import Place
from expunge.progress import Reporter, Silent
from expunge.report.tables import papers_table
from expunge.scores.rows import NO_METHODS, ORIGINAL, RETRAIN
from expunge.scores.table import AVERAGED
from expunge.study.cells import Cell
from expunge.study.launch import planned, run_study
from expunge.study.results import results, with_settings
from expunge.study.schema import Study

DEMO_METHODS: Mapping[str, Mapping[str, Any]] = {
    "finetune": {},
    "gradient_ascent": {"lr": 0.002},
    "neggrad_plus": {"epochs": 5, "lr": 0.02},
}
"""Fields that differ from the methods' defaults, chosen on seeds 100 and 101, which are not reported:
gradient_ascent's rate is the largest of 0.002, 0.005, 0.01, 0.015, 0.02 that kept RA above 99,
neggrad_plus's, for half of its usual epochs, the smallest of 0.01, 0.02, 0.03, 0.05 that took UA of a
class above 95."""
PASTE = (
    "expunge train --data digits --model cnn --epochs 20 --lr 0.05 --batch-size 128 --out runs/digits"
    " && expunge unlearn runs/digits --forget class:3 --method neggrad_plus --with-reference"
    " --out runs/digits-without-3"
)
MOST_WORKERS = 4
"""More would wait for the originals, and take memory."""


def demo_study() -> Study:
    """What the demonstration runs: as a file, it would be one for `expunge study run`."""
    return Study.model_validate(
        {
            "name": "demo",
            "data": ["digits"],
            "models": ["cnn"],
            "recipes": {
                "demo": {"epochs": 12, "lr": 0.05, "batch_size": 128, "augmentation": "none"}
            },
            "scenarios": ["class", "random:0.1"],
            "methods": DEMO_METHODS,
            "seeds": [0, 1, 2],
        }
    )


def meaning(frame: pd.DataFrame) -> list[str]:
    """Sentences: how to read the table, who came closest at what cost, what does next to nothing and is
    as close, who did not forget.

    A method did not forget a class if its accuracy on the forget set is nearer to the original's
    than to the retrained model's.
    """
    one_class = frame[frame["scenario"] == "one class"]
    table = one_class.groupby(["method", "score"], sort=False)["value"].mean().unstack("score")
    part = {str(name): {str(s): float(v) for s, v in own.items()} for name, own in table.iterrows()}
    retrain, original = part[RETRAIN], part[ORIGINAL]
    rows = papers_table(one_class).to_dict("records")
    nearest = next(row for row in rows if row["nearest"])
    best = str(nearest["method"])
    failed = [
        name
        for name, own in part.items()
        if name not in NO_METHODS
        and abs(own["UA"] - original["UA"]) < abs(own["UA"] - retrain["UA"])
    ]
    share = part[best]["RTE"] / retrain["RTE"]
    shown = ", ".join(f"{name} (UA {part[name]['UA']:.1f})" for name in failed)
    return [
        "The retrain row is a model that never saw the forgotten samples: a method has forgotten as "
        "far as its numbers, all of them, come as near to that row as the floor row (a second "
        "retraining) does.",
        f"Forgetting one class, {best} came nearest, {nearest['avg_gap']:.1f} points away on "
        f"average, in {share:.0%} of the time of retraining.",
        *_equalled(best, nearest["equalled_by"], part),
        (
            f"Did not forget the class: {shown}, where the original has UA {original['UA']:.1f} and "
            f"retraining {retrain['UA']:.1f}."
            if failed
            else "Every method here moved nearer to retraining than to the original on the class."
        ),
    ]


def _equalled(
    best: str, controls: Sequence[str], part: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """What the distance alone does not tell; nothing where the method beats every control."""
    if not controls:
        return []
    told = (
        f"But {' and '.join(controls)} {'is' if len(controls) == 1 else 'are'} not shown to be farther "
        "away, and next to nothing was done there: this distance is no merit."
    )
    rows = (*controls, best, RETRAIN)
    if all("relearn_time" in part[name] for name in rows):
        steps = ", ".join(f"{name} {part[name]['relearn_time']:.0f}" for name in rows)
        told += f" Steps of training until the class is known again: {steps}."
    return [told]


def run_demo(
    progress: Reporter | None = None,
    told: Callable[[str], None] = lambda line: None,
    *,
    workers: int = 1,
) -> tuple[pd.DataFrame, float]:
    """The study's frame of results, and its wall seconds; its cells are thrown away.

    told: called with a line for each result, as soon as it is there. workers: processes, this one among
    them, `MOST_WORKERS` at most, each on one thread: images of 8x8 pixels gain little from more.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="expunge-demo-") as folder:
        study = planned(
            demo_study(), folder, place=Place(device="cpu", progress=progress or Silent())
        )
        store = study.store

        def tell(cell: Cell) -> None:
            scores = {one["name"]: one["value"] for one in store.read(cell.key).get("scores", ())}
            if scores:
                found = "  ".join(f"{name} {scores[name]:5.1f}" for name in AVERAGED)
                told(f"{cell.label:36s} {found}")  # within 80 columns

        study = run_study(
            study, progress=progress, beside=min(MOST_WORKERS, workers) - 1, finished=tell
        )
        frame = with_settings(results(study.rows, study.store), study.cells)
    return frame, time.perf_counter() - start
