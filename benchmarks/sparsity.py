"""Prune first, then unlearn: dense against sparse originals on CIFAR-10, class-wise and random.

    python benchmarks/sparsity.py tune --data-dir DATA --out runs/sparsity --kinds class random
    python benchmarks/sparsity.py run --data-dir DATA --out runs/sparsity --seeds 0 1 2 3 4
    python benchmarks/sparsity.py tables --out runs/sparsity

Several processes may share one folder: an original is trained once, by whoever comes first, and kept
as a model folder; a part (one seed, one way to forget, one level of sparsity) is written whole when it
is done, so an interrupted run goes on where it stopped. `tune` comes first: the fields that papers tune
are chosen on a seed that is not reported, dense and 95 % apart, against that seed's own retrained model,
on validation data (UA, RA and validation accuracy); the levels that are not tuned take OMP's values.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from expunge.api import train, unlearn
from expunge.audits.accuracy import Accuracy
from expunge.audits.mia import mia_efficacy
from expunge.audits.observe import observe
from expunge.audits.panel import Panel
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import DivergenceError
from expunge.methods import make_method
from expunge.place import Place
from expunge.progress import Bars
from expunge.pruning import Pruner, make_pruner
from expunge.pruning.criteria import pruning_criteria
from expunge.pruning.original import Pruned, prune
from expunge.trained.opening import load
from expunge.trained.trained import Trained, record_of
from expunge.training.recipe import Recipe
from expunge.training.run import Run

TUNING_SEED = 100
SPARSITY = 0.95
IMP_RATE = 0.4508
"""Five rounds to 95 %."""
ATTACK_SAMPLES = 3000
"""Members, and as many non-members, that the membership attack trains on at most: its time grows with
the square, and ten attacks on 16,000 points each would take as long as all unlearning."""
LEVELS = ("dense", "omp", "synflow", "imp")
SCHEDULERS = ("decreasing", "constant", "increasing")
GRID: dict[str, list[dict[str, Any]]] = {
    "finetune": [{"lr": lr} for lr in (0.01, 0.03, 0.1)],
    "gradient_ascent": [{"lr": lr} for lr in (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)],
    "influence": [
        {"alpha": alpha, "damping": damping}
        for damping in (1.0, 0.1)
        for alpha in (0.3, 1.0, 3.0, 10.0)
    ],
    "fisher": [{"alpha": alpha} for alpha in (1e-9, 1e-8, 1e-7, 1e-6)],
    **{
        f"l1_sparse {scheduler}": [{"gamma": gamma} for gamma in (5e-4, 2e-3, 8e-3)]
        for scheduler in SCHEDULERS
    },
}
"""What is tried on the tuning seed, for every level alike."""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the numbers."""

    data: str
    model: str
    epochs: int
    batch_size: int
    finetune_epochs: int

    @property
    def recipe(self) -> Recipe:
        return Recipe(epochs=self.epochs, batch_size=self.batch_size, lr=0.1)

    def settings(self, name: str, chosen: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Method and all fields that are not its defaults, for a row of the table."""
        method, _, scheduler = name.partition(" ")
        fixed: dict[str, Any] = {}
        if method in ("finetune", "l1_sparse"):
            fixed["epochs"] = self.finetune_epochs
        if scheduler:
            fixed["scheduler"] = scheduler
        if method == "fisher":
            fixed["labels"] = "sampled"
        return method, {**fixed, **chosen}


@dataclass(frozen=True)
class Originals:
    """Dense and sparse originals of one seed: made once, kept as model folders, read by all."""

    experiment: Experiment
    data: Data
    out: Path
    seed: int
    place: Place

    @cached_property
    def split(self) -> Split:
        """What they learn from; nothing is forgotten yet."""
        return Split.whole(self.data)

    def get(self, level: str) -> Trained:
        """The original of a level, made if nobody has made it yet."""
        # one training gives the dense model and OMP's sparse one, whose folder is written last
        made = "omp" if level == "dense" else level
        once(self._path(made), lambda: self._make(made))
        return load(self._path(level), data=self.data, place=self.place)

    def _path(self, level: str) -> Path:
        return self.out / "originals" / f"{level}-{self.seed}"

    def _make(self, level: str) -> None:
        early = self._path("early").with_suffix(".safetensors")
        pruner = pruner_of(level)
        if level == "imp":
            dense = self.get("dense")
            made = prune(dense, pruner, rewind=load_file(early), seed=self.seed, place=self.place)
            made.save(self._path(level))
            return
        sparse = train(
            self.data,
            self.experiment.model,
            recipe=self.experiment.recipe,
            split=self.split,
            pruner=pruner,
            seed=self.seed,
            place=self.place,
        )
        if isinstance(sparse, Pruned) and sparse.dense is not None:
            dense_of(sparse).save(self._path("dense"), overwrite=True)
            state = sparse.early or {}
            save_file({name: value.contiguous() for name, value in state.items()}, early)
        sparse.save(self._path(level))


def pruner_of(level: str) -> Pruner:
    """The pruner of a level."""
    extra = {"rate": IMP_RATE} if level == "imp" else {}
    return make_pruner(level, {"sparsity": SPARSITY, **extra})


def dense_of(sparse: Pruned) -> Trained:
    """The dense model that a mask was cut from; its seconds are its share of both, by epochs."""
    if sparse.dense is None or sparse.recipe is None:
        raise ValueError("this mask was not cut from a trained model")
    epochs, cost = sparse.recipe.epochs, sparse.record.cost
    share = epochs / (2 * epochs - sparse.record.log["first_epoch"])
    record = record_of(
        "train",
        sparse.split,
        settings=sparse.recipe.model_dump(mode="json"),
        names=sparse.record.names,
        cost=replace(cost, seconds=cost.seconds * share),
    )
    return Trained(
        sparse.dense,
        sparse.data,
        sparse.split,
        (record,),
        sparse.recipe,
        sparse.fresh,
        architecture=sparse.architecture,
        seed=sparse.seed,
    )


def once(path: Path, make: Callable[[], None]) -> None:
    """Let make() write `path`, whole, unless it is there; of several processes one makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    while not path.exists():
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            time.sleep(2)
            continue
        try:
            if not path.exists():  # another process may have ended in between
                make()
        finally:
            lock.unlink()


def split_for(data: Data, base: Split, kind: str, seed: int) -> Split:
    if kind == "class":
        return Split.classes(data, [seed % len(data.classes)], base=base)
    return Split.random(data, 0.1, seed=seed, base=base)


def forget(
    originals: Originals,
    level: str,
    kind: str,
    name: str,
    settings: dict[str, Any],
    names: tuple[str | int, ...] | None = None,
) -> Trained:
    """Unlearn from one original by one method."""
    return unlearn(
        originals.get(level),
        split_for(originals.data, originals.split, kind, originals.seed),
        make_method(name, settings),
        seed=originals.seed,
        names=names,
        place=originals.place,
    )


def tune(experiment: Experiment, data: Data, out: Path, kind: str, place: Place) -> None:
    """Write tuned-KIND.json: for dense and omp, each method's best fields on the tuning seed."""
    file = out / f"tuned-{kind}.json"
    chosen = json.loads(file.read_text()) if file.exists() else {}
    originals = Originals(experiment, data, out, TUNING_SEED, place)
    split = split_for(data, originals.split, kind, TUNING_SEED)
    # scored on validation samples, never on the test set
    held = data.train.subset(split.rows(data.train, Part.VALIDATION))
    scored = replace(data, test=held)

    def seen(model: torch.nn.Module) -> np.ndarray:
        outputs = observe(model, scored, split, Run())
        parts = (outputs.forget, outputs.retain, outputs.test_kept)
        return np.array([100 * float(p.correct.double().mean()) for p in parts if p])

    for level in ("dense", "omp"):
        target: np.ndarray | None = None
        best: dict[str, Any] = chosen.setdefault(level, {})
        for row, candidates in GRID.items():
            gaps = []
            if row.startswith("l1_sparse"):  # fine-tuning with a penalty: at fine-tuning's rate
                rate = best["finetune"]["fields"]["lr"]
                candidates = [{"lr": rate, **candidate} for candidate in candidates]
            if best.get(row, {}).get("candidates") == candidates:
                continue
            if target is None:
                target = seen(forget(originals, level, kind, "retrain", {}).model)
            for candidate in candidates:
                method, settings = experiment.settings(row, candidate)
                try:
                    made = forget(originals, level, kind, method, settings).model
                    gaps.append(float(np.abs(seen(made) - target).mean()))
                except DivergenceError:
                    gaps.append(float("inf"))
            best[row] = {
                "fields": candidates[int(np.argmin(gaps))],
                "gaps": gaps,
                "candidates": candidates,
            }
            print(kind, level, row, best[row], flush=True)
            file.write_text(json.dumps(chosen, indent=1))


def run_part(
    originals: Originals, kind: str, level: str, floor: bool, chosen: Collection[str]
) -> pd.DataFrame:
    """One seed, one way to forget, one level: everything scored, in long form."""
    tuned = json.loads((originals.out / f"tuned-{kind}.json").read_text())
    fields = tuned["dense" if level == "dense" else "omp"]
    original, seed = originals.get(level), originals.seed
    split = split_for(originals.data, originals.split, kind, seed)
    rows: list[dict[str, Any]] = []

    def score(row: str, made: Trained) -> None:
        panel = Panel(made, split, Run(), seed=seed)
        values = {s.name: s.value for s in Accuracy().scores(panel)}
        attack = mia_efficacy(panel.outputs, "confidence", seed, max_samples=ATTACK_SAMPLES)
        values["MIA"] = attack.value
        values["RTE"] = made.record.cost.seconds
        for key in ("zero_fraction", "near_zero_fraction", "top_eigenvalue"):
            if key in made.record.log:
                values[key] = made.record.log[key]
        about = {"kind": kind, "level": level, "method": row, "seed": seed}
        rows.extend({**about, "score": key, "value": value} for key, value in values.items())

    def work(row: str, method: str, settings: dict[str, Any], *names: str | int) -> None:
        try:
            score(row, forget(originals, level, kind, method, settings, names or None))
        except DivergenceError as error:
            print(f"{kind} {level} {seed} {row}: {error}", flush=True)

    score("original", original)
    work("retrain", "retrain", {}, "retrain", seed)
    if floor:
        work("floor", "retrain", {}, "retrain", seed, "floor")
    for row in chosen:
        work(row, *originals.experiment.settings(row, fields[row]["fields"]))
    return pd.DataFrame(rows)


def criteria(originals: Originals) -> None:
    """J's three criteria of the pruners, for class-wise forgetting of this seed."""
    split = split_for(originals.data, originals.split, "class", originals.seed)
    for name in LEVELS[1:]:
        file = originals.out / "criteria" / f"{name}-{originals.seed}.json"

        def make(name: str = name, file: Path = file) -> None:
            sparse, dense = originals.get(name), originals.get("dense")
            pruner, place = pruner_of(name), originals.place
            found = pruning_criteria(sparse, dense, pruner, split, place=place)
            # iterative pruning went on from the dense model that was trained for the others
            first = found.dense_seconds if name == "imp" else 0.0
            content = {
                "pruner": name,
                "seed": originals.seed,
                "overlap": found.overlap,
                "difference": found.difference,
                "seconds": found.seconds + first,
                "dense_seconds": found.dense_seconds,
            }
            file.with_suffix(".new").write_text(json.dumps(content, indent=1))
            os.replace(file.with_suffix(".new"), file)

        once(file, make)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("tune", "run", "criteria", "tables"))
    parser.add_argument("--data", default="cifar10:10000", help="10 %% of it is for validation")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--finetune-epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--kinds", nargs="+", default=["class", "random"])
    parser.add_argument("--levels", nargs="+", default=list(LEVELS))
    parser.add_argument("--floors", nargs="*", default=["dense", "omp"], help="levels with a floor")
    parser.add_argument("--rows", nargs="+", default=list(GRID), choices=list(GRID))
    parser.add_argument("--out", type=Path, default=Path("runs/sparsity"))
    options = parser.parse_args()
    experiment = Experiment(
        options.data, options.model, options.epochs, options.batch_size, options.finetune_epochs
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if options.what == "tables":
        from sparsity_tables import print_tables

        print_tables(options.out)
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    place = Place(progress=Bars(Console(stderr=True), every_seconds=60))
    data = load_data(options.data, data_dir=options.data_dir)
    print(
        f"{options.data}, {experiment}, {platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        file=sys.stderr,
    )
    for kind in options.kinds if options.what == "tune" else ():
        tune(experiment, data, options.out, kind, place)
    for seed in options.seeds if options.what == "criteria" else ():
        criteria(Originals(experiment, data, options.out, seed, place))
    for seed in options.seeds if options.what == "run" else ():
        originals = Originals(experiment, data, options.out, seed, place)
        for level in options.levels:
            for kind in options.kinds:
                file = options.out / f"part-{kind}-{level}-{seed}.csv"
                if file.exists():
                    continue
                start = time.time()
                floor = level in options.floors
                frame = run_part(originals, kind, level, floor, options.rows)
                frame.to_csv(file.with_suffix(".new"), index=False)
                os.replace(file.with_suffix(".new"), file)
                print(f"{file.name}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
