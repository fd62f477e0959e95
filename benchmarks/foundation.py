"""The four first methods on CIFAR-10, class-wise and random, beside retraining and its noise floor.

    python benchmarks/foundation.py --data-dir DATA --out runs/foundation

A study per way to forget, so an interrupted run goes on where it stopped. Gradient ascent's learning
rate is chosen first, on a seed that is not reported, by the gap to that seed's own retrained model on
validation data; other fields keep their defaults.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from expunge.api import train, unlearn
from expunge.audits.observe import observe
from expunge.cli.show import study_tables
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import DivergenceError
from expunge.methods import make_method
from expunge.place import Place
from expunge.progress import Bars
from expunge.report.figures import gap_figure
from expunge.report.files import write_tables
from expunge.study.demo import meaning
from expunge.study.launch import planned, run_study
from expunge.study.results import for_tables, results
from expunge.study.schema import Study
from expunge.training.recipe import Recipe
from expunge.training.run import Run

TUNING_SEED = 100
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


SCENARIOS = {"class": "class", "random": "random:0.1"}


def tuned_rates(model: str, recipe: Recipe, data: Data, place: Place) -> dict[str, float]:
    """Gradient ascent's best rate for each way to forget: smallest mean gap of UA and validation
    accuracy to a retrained model, all on the tuning seed."""
    original = train(data, model, recipe=recipe, seed=TUNING_SEED, place=place)
    base = original.split
    # scored on validation samples, never on the test set
    held = data.train.subset(base.rows(data.train, Part.VALIDATION))
    scored = replace(data, test=held)
    run = Run(progress=place.progress)
    chosen = {}
    for kind in ("class", "random"):
        split = (
            Split.classes(data, [TUNING_SEED % len(data.classes)], base=base)
            if kind == "class"
            else Split.random(data, 0.1, seed=TUNING_SEED, base=base)
        )
        reference = unlearn(original, split, "retrain", seed=TUNING_SEED, place=place)
        target = _accuracies(reference.model, scored, split, run)
        gaps = {}
        for rate in RATES:
            method = make_method("gradient_ascent", {"lr": rate})
            try:
                made = unlearn(original, split, method, seed=TUNING_SEED, place=place)
            except DivergenceError:
                gaps[rate] = float("inf")
                continue
            seen = _accuracies(made.model, scored, split, run)
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
    place = Place(data_dir=options.data_dir, progress=bars)
    data = load_data(options.data, data_dir=options.data_dir)
    recipe = Recipe(epochs=options.epochs, batch_size=options.batch_size, lr=0.1)
    options.out.mkdir(parents=True, exist_ok=True)

    tuned = options.out / "tuned.json"
    if not tuned.exists():
        tuned.write_text(json.dumps(tuned_rates(options.model, recipe, data, place)))
    rates = json.loads(tuned.read_text())

    frames = []
    for kind in options.kinds:
        study = Study.model_validate(
            {
                "name": f"foundation-{kind}",
                "data": [options.data],
                "models": [options.model],
                "recipes": {"recipe": recipe.model_dump()},
                "scenarios": [SCENARIOS[kind]],
                "methods": {
                    "finetune": {},
                    "gradient_ascent": {"lr": rates[kind]},
                    "neggrad_plus": {},
                },
                "seeds": options.seeds,
            }
        )
        made = planned(study, options.out / kind, place=place)
        made = run_study(made, progress=bars)
        frames.append(for_tables(results(made.rows, made.store)))
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
