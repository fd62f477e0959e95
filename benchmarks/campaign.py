"""The studies of forgetting of docs/results in one command, roughly the cheapest first.

    python benchmarks/campaign.py plan --data-dir DATA
    python benchmarks/campaign.py run --out runs/results --data-dir DATA --workers 2 --most-hours 6
    python benchmarks/campaign.py records --out runs/results --to docs/results --data-dir DATA

`plan` says what would run and roughly how long, by a probe of seconds. `run` says it too, then runs
study after study, each with a log; run again, it goes on where it stopped. Exit code 1: some failed;
3: --most-hours would not do for the next. `records` packs what is finished, in place of older records.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from expunge.api import audit, train
from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.errors import ExpungeError
from expunge.methods import make_method
from expunge.place import Place
from expunge.pruning import make_pruner
from expunge.scores.rows import CONTROLS
from expunge.study.catalogue import study_file
from expunge.study.cells import Cell, plan_cells
from expunge.study.file import read_study
from expunge.study.launch import FILE, planned
from expunge.study.publish import write_records
from expunge.training.processes import one_thread
from expunge.training.recipe import Recipe
from expunge.training.rehearsal import Rehearsal, rehearsing

CAMPAIGN: Sequence[tuple[str, str, str]] = (
    ("sparsity-class", "sparsity-class", ""),
    ("sparsity-random", "sparsity-random", ""),
    ("sparsity-class-own-settings", "sparsity-class", "own-settings"),
    ("sparsity-class-same-rate", "sparsity-class", "same-rate"),
    ("l1-schedulers", "l1-schedulers", ""),
    ("pruners", "pruners", ""),
    ("sparsity-sweep", "sparsity-sweep", ""),
    ("mnist-mlp", "mnist-mlp", ""),
    ("methods", "methods", ""),
    ("sparsity-class-mnist", "sparsity-class", "mnist"),
    ("sparsity-class-mnist-same-rate", "sparsity-class", "mnist-same-rate"),
    ("sparsity-random-mnist", "sparsity-random", "mnist"),
    ("sparsity-class-cifar10", "sparsity-class", "cifar10"),
    ("sparsity-random-cifar10", "sparsity-random", "cifar10"),
    ("methods-cifar10", "methods", "cifar10"),
    ("transfer", "transfer", ""),
    ("unsir", "unsir", ""),
)
"""Record, the shipped study or a file that it is of, and its scale: empty for the first."""
NO_EPOCHS, FORGET, ADAPTED, FURTHER = 0.5, 0.1, 0.4, 2.0
"""Stated, not measured: of a retraining, what a method without epochs takes; of all samples, what a
request names; of a retraining, what adapting to another task takes; passes of a further audit."""
ROUGH = (
    "rough: processor seconds of a few steps, times what is left, as if each worker had a core to "
    f"itself; a method without epochs is {NO_EPOCHS:g} of a retraining, a further audit "
    f"{FURTHER:g} passes over the data"
)
ENOUGH_SECONDS = 2.0
"""Of steps in a probe."""


@dataclass
class Work:
    """What is left to do of a study. why: it cannot be planned. hours: of one worker, roughly."""

    record: str
    study: str
    scale: str
    cells: Sequence[Cell] = ()
    why: str = ""
    hours: float = 0.0


def work_of(record: str, study: str, scale: str, out: Path, place: Place) -> Work:
    """The cells of a study that are not finished, those that come after its tuning among them."""
    work = Work(record, study, scale)
    try:
        read = read_study(study_file(study), scale=scale or None)
        plan = planned(read, out / record, place=place)
        cells = {cell.key: cell for cell in plan.cells}
        if not plan.tuned:  # tuning changes settings, not their number
            cells |= {cell.key: cell for cell in plan_cells(plan.study, plan.bench.facts)[0]}
        work.cells = [cell for cell in cells.values() if not plan.store.done(cell.key)]
    except ExpungeError as error:
        work.why = str(error)
    return work


def original_of(cell: Cell) -> Mapping[str, Any]:
    """The configuration of the original that a cell is of."""
    return (cell.starts[0] if cell.starts else cell).config


def passes_of(cell: Cell) -> float:
    """Passes over the training samples that a cell takes, roughly."""
    own, config, searched = original_of(cell), cell.config, 0
    epochs = float(own["recipe"]["epochs"])
    if own["density"]:
        settings = {key: one for key, one in own["density"].items() if key != "pruner"}
        pruner = make_pruner(own["density"]["pruner"], settings, allow_code=False)
        searched = len(pruner.cuts()) if pruner.trained else 0  # trainings before the mask is there
    adapted = ADAPTED * epochs if config.get("transfer") else 0
    if cell.kind in ("original", "shadow"):
        return epochs * (1 + searched)
    if cell.kind == "retrain":
        return adapted + epochs * (2 if config.get("paired") else 1)  # with the floor of distances
    if "method" not in config:
        return adapted + (2 * searched * epochs if config.get("criteria") else 0)
    method = make_method(config["method"], config["settings"], allow_code=False)
    counted = [one for key, one in method if key == "epochs" or key.endswith("_epochs")]
    passes = float(sum(counted)) * (1 if Part.RETAIN in method.reads else FORGET)
    if not counted:
        passes = 1 if config["method"] in CONTROLS else NO_EPOCHS * epochs
    return adapted + passes + (epochs if method.takes_part else 0)


def measure(works: Sequence[Work], place: Place) -> None:
    """Give each work its hours, by a probe of each data, model and recipe."""
    known: dict[str, tuple[float, float]] = {}
    for work in works:
        for cell in work.cells:
            own, also = original_of(cell), cell.config.get("also", ())
            recipe = own["recipe"] | {"epochs": 1, "milestones": ()}  # no matter to a step
            ground = json.dumps([own["data"], own["model"], recipe])
            a_pass, scoring = known[ground] = known.get(ground) or probe(own, place)
            # a trial is judged on a few validation samples, which takes next to nothing
            judged = cell.kind in ("unlearn", "retrain") and "on" not in cell.config
            passes = passes_of(cell) + judged * FURTHER * len(also)
            work.hours += (passes * a_pass + judged * scoring) / 3600


def probe(own: Mapping[str, Any], place: Place) -> tuple[float, float]:
    """Processor seconds of a pass over the samples, by a few steps, and of the usual audits."""
    data, recipe = load_data(own["data"], data_dir=place.data_dir), Recipe(**own["recipe"])
    rehearsal = Rehearsal(seconds=ENOUGH_SECONDS, clock=time.process_time)
    start = time.process_time()
    with rehearsing(rehearsal):
        model = train(data, own["model"], recipe=recipe, place=place)
    seconds = time.process_time() - start + rehearsal.skipped
    start = time.process_time()
    audit(model, forget="class:#0", place=place)
    return seconds / recipe.epochs, time.process_time() - start


def told(works: Sequence[Work], workers: int) -> str:
    """What is left to do, a line for each study, and in all."""
    rows = []
    for work in works:
        kinds = ["trial" if "on" in cell.config else cell.kind for cell in work.cells]
        hours = {"hours of 1 worker": work.hours, f"of {workers}": work.hours / workers}
        rows.append({**hours, "cells": len(kinds), **{kind: kinds.count(kind) for kind in kinds}})
    frame = pd.DataFrame(rows, index=[work.record for work in works]).fillna(0)
    frame.loc["in all"] = frame.sum()
    table = frame.to_string(float_format=lambda number: f"{number:.2f}".removesuffix(".00"))
    lost = [(one.record, one.why) for one in works if one.why]
    said = [f"{record} cannot be planned, and is not counted: {why}" for record, why in lost]
    return "\n".join([table, *said, ROUGH])


def run(works: Sequence[Work], asked: argparse.Namespace) -> int:
    """Run all studies: a finished one too, for its file may ask new claims of the same cells."""
    asked.out.mkdir(parents=True, exist_ok=True)
    begin, failed, stopped = time.perf_counter(), [], False
    for work in works:
        spent, hours = (time.perf_counter() - begin) / 3600, work.hours / asked.workers
        if stopped := spent + hours > asked.most_hours:
            print(f"stops before {work.record}: {spent:.2f} h are spent, it needs {hours:.2f} more")
            break
        print(
            f"{work.record}: starts {time.strftime('%H:%M')}, {len(work.cells)} cells", flush=True
        )
        command = [sys.executable, "-m", "expunge", "study", "run", work.study, "--device", "cpu"]
        command += ["--out", str(asked.out / work.record), "--workers", str(asked.workers)]
        command += ["--scale", work.scale] if work.scale else []
        command += ["--data-dir", str(asked.data_dir)] if asked.data_dir else []
        with (asked.out / f"{work.record}.log").open("ab") as log:
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
        failed += [work.record] if code else []
        how = f"failed with code {code}, see its log," if code else "ended"
        minutes = (time.perf_counter() - begin) / 60 - 60 * spent
        print(f"{work.record}: {how} after {minutes:.1f} min", flush=True)
    print(f"failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 3 * stopped


def pack(folder: Path, to: Path, place: Place) -> bool:
    """Write a record in place of the one that is there, and say so; False for what is not finished."""
    try:
        study = read_study(folder / FILE, recorded=folder / FILE)
        plan = planned(study, folder, place=place, recorded=True)
        store, left = plan.store, [row for row in plan.rows if not plan.store.done(row.cell)]
        needs = [filter(None, (row.cell, row.base, row.retrain, row.pair)) for row in left]
        if not plan.tuned or not all(any(map(store.failure, keys)) for keys in needs):
            print(f"{folder.name}: left out, for it is not finished")
            return False
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / folder.name
            number = write_records(plan, made, f"expunge study records {folder} --out {to}")
            shutil.copytree(made, to, dirs_exist_ok=True)
    except ExpungeError as error:
        print(f"{folder.name}: left out: {error}")
        return False
    print(f"{folder.name}: written to {to}, {number} cells", flush=True)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["plan", "run", "records"])
    option = parser.add_argument
    option("--out", type=Path, default=Path("runs/results"), help="folder of the runs")
    option("--to", type=Path, default=Path("docs/results"), help="folder of the records")
    option("--data-dir", type=Path, help="else EXPUNGE_DATA")
    option("--workers", type=int, default=2, choices=range(1, 257), metavar="N")
    option("--only", nargs="+", choices=[one[0] for one in CAMPAIGN], metavar="NAME")
    option("--most-hours", type=float, default=float("inf"), help="by the clock, in all")
    asked = parser.parse_args(arguments)
    place = Place(data_dir=asked.data_dir, device="cpu")
    wanted = [one for one in CAMPAIGN if not asked.only or one[0] in asked.only]
    if asked.what == "records":
        begun = [asked.out / one[0] for one in wanted if (asked.out / one[0] / FILE).is_file()]
        packed = [pack(folder, asked.to / folder.name, place) for folder in begun]
        return int(not all(packed))
    works = [work_of(*one, asked.out, place) for one in wanted]
    with one_thread():  # as a worker has
        measure(works, place)
    print(told(works, asked.workers), flush=True)
    return run(works, asked) if asked.what == "run" else 0


if __name__ == "__main__":
    sys.exit(main())
