"""The four first methods on CIFAR-10, class-wise and random, beside retraining and its noise floor.

    python benchmarks/foundation.py --data-dir DATA --out runs/foundation

One CSV per seed and way to forget is written whole when it is done, so an interrupted run goes on
where it stopped. Gradient ascent's learning rate is chosen first, on a seed that is not reported, by
the gap to that seed's own retrained model on validation data; other fields keep their defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from expunge.api import train, unlearn
from expunge.data.batch import Part
from expunge.data.load import Data, load_data
from expunge.data.split import Split
from expunge.demo import Grid, meaning, run_grid
from expunge.errors import DivergenceError
from expunge.methods import make_method
from expunge.observe import observe
from expunge.progress import Bars
from expunge.recipe import Recipe
from expunge.report.figures import gap_figure
from expunge.report.files import write_tables
from expunge.run import Run
from expunge.show import study_tables

TUNING_SEED = 100
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def tuned_rates(grid: Grid, data: Data, bars: Bars) -> dict[str, float]:
    """Gradient ascent's best rate for each way to forget: smallest mean gap of UA and validation
    accuracy to a retrained model, all on the tuning seed."""
    original = train(data, grid.model, recipe=grid.recipe, seed=TUNING_SEED, progress=bars)
    base = original.split
    # scored on validation samples, never on the test set
    held = data.train.subset(base.rows(data.train, Part.VALIDATION))
    scored = replace(data, test=held)
    run = Run(progress=bars)
    chosen = {}
    for kind in ("class", "random"):
        split = (
            Split.classes(data, [TUNING_SEED % len(data.classes)], base=base)
            if kind == "class"
            else Split.random(data, grid.random_fraction, seed=TUNING_SEED, base=base)
        )
        common = {
            "recipe": original.recipe,
            "fresh": grid.model,
            "seed": TUNING_SEED,
            "progress": bars,
        }
        reference = unlearn(original.model, data, split, "retrain", **common).model
        target = _accuracies(reference, scored, split, run)
        gaps = {}
        for rate in RATES:
            method = make_method("gradient_ascent", {"lr": rate})
            try:
                made = unlearn(original.model, data, split, method, **common).model
            except DivergenceError:
                gaps[rate] = float("inf")
                continue
            seen = _accuracies(made, scored, split, run)
            gaps[rate] = float(np.mean(np.abs(seen - target)))
        print(kind, "gap by rate on the tuning seed:", {k: round(v, 2) for k, v in gaps.items()})
        chosen[kind] = min(gaps, key=lambda rate: gaps[rate])
    return chosen


def _accuracies(model: torch.nn.Module, data: Data, split: Split, run: Run) -> np.ndarray:
    seen = observe(model, data, split, run)
    parts = (seen.forget, seen.retain, seen.test_kept)
    return np.array([100 * float(part.correct.double().mean()) for part in parts if part])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="cifar10:5556", help="10 %% of it is for validation")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=["class", "random"])
    parser.add_argument("--out", type=Path, default=Path("runs/foundation"))
    options = parser.parse_args()

    bars = Bars(Console(stderr=True), every_seconds=60)
    data = load_data(options.data, data_dir=options.data_dir)
    recipe = Recipe(epochs=options.epochs, batch_size=options.batch_size, lr=0.1)
    grid = Grid(data=options.data, model=options.model, recipe=recipe)
    options.out.mkdir(parents=True, exist_ok=True)

    tuned = options.out / "tuned.json"
    if not tuned.exists():
        tuned.write_text(json.dumps(tuned_rates(grid, data, bars)))
    rates = json.loads(tuned.read_text())
    methods = {"finetune": {}, "gradient_ascent": {"lr": rates["random"]}, "neggrad_plus": {}}
    by_class = {**methods, "gradient_ascent": {"lr": rates["class"]}}
    grid = replace(grid, methods=methods, class_methods=by_class)

    frames = []
    for kind in options.kinds:
        for seed in options.seeds:
            file = options.out / f"{kind}-{seed}.csv"
            if not file.exists():
                part = replace(grid, seeds=(seed,), kinds=(kind,))
                frame = run_grid(part, data=data, progress=bars)
                frame.to_csv(file.with_suffix(".part"), index=False)
                os.replace(file.with_suffix(".part"), file)
            frames.append(pd.read_csv(file))
    frame = pd.concat(frames, ignore_index=True)
    Console(width=190).print(study_tables(frame, 190))
    if "class" in options.kinds:
        print("\n".join(meaning(frame)))
    print(f"gradient_ascent lr, tuned on seed {TUNING_SEED}: {rates}")
    print(f"{options.data}, {options.model}, {recipe}")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    write_tables(frame, options.out / "tables", figure=gap_figure, overwrite=True)


if __name__ == "__main__":
    main()
