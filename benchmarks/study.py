"""What the engine of studies costs, over the bare calls that its cells make.

    python benchmarks/study.py --rounds 3

The shipped study `smoke`, with as many seeds as make 50 cells, by one worker in this process, against
the same trainings, forgettings and scores called one after another without a store: nothing written,
nothing read, no plan. The two take turns; one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import machine

from expunge.api import audit, train, unlearn
from expunge.audits.strength import Strength
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.methods import make_method
from expunge.place import Place
from expunge.study.catalogue import study_file
from expunge.study.cells import Cell, plan_cells
from expunge.study.file import read_study
from expunge.study.launch import planned, run_study
from expunge.study.schema import Study
from expunge.study.store import CellStore
from expunge.study.work import Bench
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

CELLS = 50
AIM = 3.0
"""Percent."""
CPU = Place(device="cpu")


def bare(cells: list[Cell]) -> float:
    """Seconds of the calls that the cells come down to, on data that are loaded anew as well."""
    start = time.perf_counter()
    data = load_data(cells[0].config["data"])
    originals: dict[str, Trained] = {}
    for cell in cells:
        config = cell.config
        if cell.kind == "original":
            split = Split.whole(data, validation=config["validation"])
            originals[cell.key] = train(
                data,
                config["model"],
                recipe=Recipe(**config["recipe"]),
                split=split,
                seed=cell.seed,
                place=CPU,
            )
            continue
        first = originals[cell.needs[0]]
        split = Split.parse(data, config["scenario"], seed=config["forget_seed"], base=first.split)
        made = replace(first, split=split)
        if cell.kind == "retrain" or "method" in config:
            names: tuple[str | int, ...] | None = None
            if cell.kind == "retrain":
                names = ("retrain", cell.seed, *(["floor"] if config["floor"] else []))
            method = make_method(
                config.get("method", "retrain"), config.get("settings"), allow_code=True
            )
            made = unlearn(first, split, method, seed=cell.seed, names=names, place=CPU)
        audit(made, strength=Strength(seed=cell.seed), place=CPU)
    return time.perf_counter() - start


def engine(study: Study) -> float:
    """Seconds of the study in a fresh folder, its plan included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        made = planned(study, folder, place=CPU)
        counts = run_study(made).counts()
        seconds = time.perf_counter() - start
        assert counts.done == len(made.cells), counts
    return seconds


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = read_study(study_file("smoke"))
    facts = Bench(CellStore("unused"), CPU).facts
    per_seed = len(plan_cells(study.model_copy(update={"seeds": (0,)}), facts)[0])
    study = study.model_copy(update={"seeds": tuple(range(-(-CELLS // per_seed)))})
    cells = plan_cells(study, facts)[0]
    about = machine("cpu")
    print(f"{len(cells)} cells; {', '.join(f'{k} {v}' for k, v in about.items())}", flush=True)
    bare(cells[:per_seed])  # threads started, kernels chosen
    rows = []
    for number in range(options.rounds):
        rows.append({"bare": bare(cells), "engine": engine(study)})
        rows[-1]["overhead_percent"] = 100 * (rows[-1]["engine"] / rows[-1]["bare"] - 1)
        print(
            f"round {number + 1}: bare {rows[-1]['bare']:.1f} s, engine {rows[-1]['engine']:.1f} s, "
            f"{rows[-1]['overhead_percent']:+.1f} %",
            flush=True,
        )
    middle = statistics.median(row["overhead_percent"] for row in rows)
    print(f"overhead: {middle:+.1f} % (median), aim under {AIM:g} %")
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "rounds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
