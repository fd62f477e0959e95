"""UNSIR beside its published figures: MNIST, CIFAR-10 by the authors' recipe, and more classes at once.

    python benchmarks/unsir_runs.py mnist   --data-dir DATA --out runs/unsir --seeds 0 1 2 3 4
    python benchmarks/unsir_runs.py cifar   --data-dir DATA --out runs/unsir --seeds 0
    python benchmarks/unsir_runs.py choose  --data-dir DATA --out runs/unsir --seeds 100 101
    python benchmarks/unsir_runs.py classes --data-dir DATA --out runs/unsir --seeds 0 1 2
    python benchmarks/unsir_runs.py tables  --out runs/unsir

mnist    a perceptron 784-256-128-10, batch 256, class 0
cifar    resnet18_imagenet, the authors' recipe for 12 epochs instead of 40, classes 0 and 2
choose   the two amounts of noise, judged on validation samples, on seeds that are not reported
classes  one, two, four and seven classes of 10,000 images

One CSV per run and seed is written whole when it is done, so an interrupted run goes on where it
stopped. The retrained model is paired: it begins with the original's initial weights and order.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from torch import nn

from expunge.api import train, unlearn
from expunge.audits import chosen_audits
from expunge.audits.observe import observe_test
from expunge.audits.panel import Panel
from expunge.audits.scores import score_panel
from expunge.cli.show import study_tables
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import DivergenceError
from expunge.methods import make_method
from expunge.names.seeds import numpy_generator
from expunge.place import Place
from expunge.progress import Bars
from expunge.report.cells import Mean
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.run import Run, accelerator_on

AMOUNTS = ("unsir:text", "unsir:notebook")
AUTHORS = Recipe(
    epochs=12,
    batch_size=256,
    optimizer="adam",
    lr=0.01,
    schedule="plateau",
    clip_value=0.1,
    weight_decay=1e-4,
    augmentation="none",
)
"""The notebook's, for 12 epochs instead of 40."""
MNIST = Recipe(
    epochs=5,
    batch_size=256,
    optimizer="adam",
    lr=1e-3,
    schedule="constant",
    weight_decay=0.0,
    augmentation="none",
)
"""The program's model and batch; it does not say more, so Adam's usual rate and 5 epochs."""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the numbers. counts: how many classes go; None: `classes`, by index.

    validation: score on validation samples instead of the test set. floor: retrain a second time.
    """

    data: str
    model: str
    recipe: Recipe
    methods: Sequence[str]
    classes: Sequence[int] = ()
    counts: Sequence[int | None] = (None,)
    validation: bool = False
    floor: bool = True
    also: Sequence[str] = field(
        default=("relearn_time", "weight_distance", "prediction_distribution")
    )


EXPERIMENTS = {
    "mnist": Experiment("mnist", "mlp", MNIST, (*AMOUNTS, "unsir:mnist_mlp"), classes=(0,)),
    "cifar": Experiment("cifar10", "resnet18_imagenet", AUTHORS, AMOUNTS, classes=(0, 2)),
    "classes": Experiment(
        "cifar10:10000",
        "resnet18_imagenet",
        AUTHORS,
        AMOUNTS,
        counts=(1, 2, 4, 7),
        also=("weight_distance", "prediction_distribution"),
    ),
}
EXPERIMENTS["choose"] = replace(
    EXPERIMENTS["classes"], validation=True, floor=False, also=("prediction_distribution",)
)


def struck(experiment: Experiment, count: int | None, seed: int, classes: int) -> list[int]:
    """Indices of the classes to forget: those named, or so many drawn by the seed."""
    if count is None:
        return list(experiment.classes)
    order = numpy_generator("unsir", "classes", seed).permutation(classes)
    return sorted(int(c) for c in order[:count])


def kept_and_forgotten(
    model: nn.Module, data: Data, classes: Sequence[int], run: Run, ratio: float = 1.0
) -> tuple[float, float]:
    """Test accuracy in percent on the classes that stay, and on a share of the forgotten ones.

    ratio: of the forgotten classes' test samples, the first so many of a seeded order. It decides
    what is measured and nothing else: no weight depends on it.
    """
    seen = observe_test(model, data, run)
    gone = np.isin(seen.labels.numpy(), classes)
    right = seen.correct.numpy()
    order = numpy_generator("unsir", "ratio").permutation(np.flatnonzero(gone))
    some = order[: max(1, round(ratio * len(order)))]
    return 100 * float(right[~gone].mean()), 100 * float(right[some].mean())


class Case:
    """One original and one set of classes: everything that is done to it, and its scores."""

    def __init__(
        self,
        experiment: Experiment,
        data: Data,
        original: Trained,
        classes: Sequence[int],
        seed: int,
        place: Place,
    ) -> None:
        self.experiment, self.original, self.seed = experiment, original, seed
        self.classes, self.place = list(classes), place
        self.split = Split.classes(data, self.classes, base=original.split)
        self.scenario = f"{len(self.classes)} of {len(data.classes)} classes"
        self.run = Run(
            names=("audit", seed),
            accelerator=accelerator_on(place.device),
            progress=place.progress,
        )
        scored = data
        if experiment.validation:
            held = data.train.subset(original.split.rows(data.train, Part.VALIDATION))
            scored = replace(data, test=held)
        self.scored = scored
        self.kept: dict[str, Any] = {}  # what audits found of the retrained model
        self.rows: list[dict[str, Any]] = []

    def all(self) -> list[dict[str, Any]]:
        """Rows of scenario, method, seed, score, value."""
        retrain = self._unlearn("retrain", ("original", self.seed))
        self._score("original", self.original, retrain)
        self._score("retrain", retrain, retrain)
        if self.experiment.floor:
            floor = self._unlearn("retrain", ("retrain", self.seed, "floor"))
            self._score("floor", floor, retrain)
        for name in self.experiment.methods:
            try:
                self._score(name, self._unlearn(name, None), retrain)
            except DivergenceError as error:
                print(f"{name}, seed {self.seed}: {error}", flush=True)
        return self.rows

    def _unlearn(self, name: str, names: tuple[str | int, ...] | None) -> Trained:
        method = make_method(name, allow_code=True)
        return unlearn(
            self.original, self.split, method, seed=self.seed, names=names, place=self.place
        )

    def _score(self, name: str, made: Trained, retrain: Trained) -> None:
        subject, original, retrained = (
            replace(one, data=self.scored) for one in (made, self.original, retrain)
        )
        panel = Panel(
            subject,
            self.split,
            self.run,
            original=original,
            retrained=retrained,
            seed=self.seed,
            kept=self.kept,
        )
        also = () if name in ("original", "retrain") else self.experiment.also
        for score in score_panel(
            panel, chosen_audits(also, beside=("original", "retrained"), allow_code=True)
        ):
            self._row(name, score.name, score.value)
            if score.name == "relearn_time" and name == "floor" and score.reference is not None:
                self._row("retrain", score.name, score.reference)
        for phase, seconds in made.record.log.get("seconds", {}).items():
            self._row(name, f"{phase} s", seconds)
        for ratio in (1.0, 0.5, 0.1):
            kept, gone = kept_and_forgotten(made.model, self.scored, self.classes, self.run, ratio)
            self._row(name, f"forgotten, ratio {ratio:g}", gone)
        self._row(name, "kept", kept)

    def _row(self, method: str, score: str, value: float) -> None:
        self.rows.append(
            {
                "scenario": self.scenario,
                "method": method,
                "seed": self.seed,
                "score": score,
                "value": value,
            }
        )


def run_seed(experiment: Experiment, seed: int, data: Data, place: Place) -> pd.DataFrame:
    """All sets of classes on one original."""
    original = train(data, experiment.model, recipe=experiment.recipe, seed=seed, place=place)
    rows: list[dict[str, Any]] = []
    for count in experiment.counts:
        classes = struck(experiment, count, seed, len(data.classes))
        rows += Case(experiment, data, original, classes, seed, place).all()
    return pd.DataFrame(rows)


def print_tables(out: Path) -> None:
    """The papers' table, and beside it what this paper adds, for each run that is there."""
    for name in EXPERIMENTS:
        files = sorted(out.glob(f"{name}-*.csv"))
        if not files:
            continue
        frame = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
        seeds = sorted(frame["seed"].unique().tolist())
        print(f"== {name}: {EXPERIMENTS[name]}\nseeds {seeds}")
        Console(width=190).print(study_tables(frame, 190))
        known = {"UA", "RA", "TA", "TA_forget", "MIA", "RTE"}
        more = frame[~frame["score"].isin(known)]
        found = more.groupby(["scenario", "method", "score"], sort=False)["value"]
        cells = found.apply(_text).unstack("score").fillna("–")
        print(cells.to_string(), "\n")


def _text(values: pd.Series) -> str:
    mean, sd = float(values.mean()), float(values.std()) if len(values) > 1 else float("nan")
    return (
        Mean(mean, sd, float("nan"), float("nan"), len(values)).main
        if abs(mean) >= 10
        else (f"{mean:.3g}" + ("" if np.isnan(sd) else f"±{sd:.2g}"))
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", choices=[*EXPERIMENTS, "tables"])
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/unsir"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    if options.run == "tables":
        print_tables(options.out)
        return
    experiment = EXPERIMENTS[options.run]
    print(
        f"{experiment}\n{platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        flush=True,
    )
    place = Place(progress=Bars(Console(stderr=True), every_seconds=60))
    data = load_data(experiment.data, data_dir=options.data_dir)
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        file = options.out / f"{options.run}-{seed}.csv"
        if not file.exists():
            part = file.with_suffix(".part")
            run_seed(experiment, seed, data, place).to_csv(part, index=False)
            os.replace(part, file)
        print(f"{file.name} done", flush=True)


if __name__ == "__main__":
    main()
