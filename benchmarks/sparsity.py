"""Prune first, then unlearn: dense against sparse originals on CIFAR-10, class-wise and random.

    python benchmarks/sparsity.py tune --data-dir DATA --out runs/sparsity --kinds class random
    python benchmarks/sparsity.py run --data-dir DATA --out runs/sparsity --seeds 0 1 2 3 4
    python benchmarks/sparsity.py tables --out runs/sparsity

Several processes may share one folder: an original is trained once, by whoever comes first, and a
part (one seed, one way to forget, one level of sparsity) is written whole when it is done, so an
interrupted run goes on where it stopped. `tune` comes first: the fields that papers tune are chosen on
a seed that is not reported, dense and 95 % apart, against that seed's own retrained model, on
validation data (UA, RA and validation accuracy); the levels that are not tuned take OMP's values.
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
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from expunge.api import Result, audit_outputs, unlearn
from expunge.audits.mia import mia_efficacy
from expunge.audits.observe import accuracy, observe
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import DivergenceError
from expunge.methods import make_method
from expunge.progress import Bars
from expunge.pruning import make_pruner
from expunge.pruning.original import Pruned, prune, pruning_criteria
from expunge.pruning.search import State
from expunge.training.recipe import Recipe
from expunge.training.run import Mask, Run
from expunge.training.session import constructor

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


@dataclass
class Originals:
    """Dense and sparse originals of one seed: made once, kept as files, read by all."""

    experiment: Experiment
    data: Data
    out: Path
    seed: int
    bars: Bars

    def __post_init__(self) -> None:
        self.split = Split.whole(self.data)
        self.fresh = constructor(self.experiment.model, self.data, self.split)

    def get(self, level: str) -> tuple[torch.nn.Module, Mask | None, dict[str, Any]]:
        """Model, mask, and what is known of its making."""
        stem = self.out / "originals" / f"{level}-{self.seed}"
        once(stem.with_suffix(".json"), lambda: self._make(level))
        model = self.fresh()
        model.load_state_dict(load_file(stem.with_suffix(".safetensors")))
        about = json.loads(stem.with_suffix(".json").read_text())
        mask = None
        if level != "dense":
            mask = load_file(stem.with_suffix(".mask"))
        return model.eval(), mask, about

    def _make(self, level: str) -> dict[str, Any]:
        if level == "dense":  # one training gives the dense model and OMP's sparse one
            self._prune("omp", None, None)
            return json.loads((self.out / "originals" / f"dense-{self.seed}.about").read_text())
        if level == "omp":
            self.get("dense")
            return json.loads((self.out / "originals" / f"omp-{self.seed}.about").read_text())
        if level == "synflow":
            return self._prune("synflow", None, None)
        dense, _, _ = self.get("dense")
        early = load_file(self.out / "originals" / f"early-{self.seed}.safetensors")
        return self._prune("imp", dense, early)

    def _prune(
        self, name: str, trained: torch.nn.Module | None, early: State | None
    ) -> dict[str, Any]:
        extra = {"rate": IMP_RATE} if name == "imp" else {}
        done = prune(
            self.data,
            self.experiment.model,
            make_pruner(name, {"sparsity": SPARSITY, **extra}),
            recipe=self.experiment.recipe,
            split=self.split,
            seed=self.seed,
            trained=trained,
            rewind=early,
            progress=self.bars,
        )
        about = self._save(name, done, done.mask)
        if name == "omp" and done.dense is not None:
            fit = done.record.log
            share = self.experiment.epochs / (2 * self.experiment.epochs - fit["first_epoch"])
            seconds = done.record.cost.seconds * share  # of both trainings, by epochs
            self._save("dense", replace(done, model=done.dense), None, {"seconds": seconds})
            store(self.out / "originals" / f"early-{self.seed}.safetensors", dict(done.early or {}))
        return about

    def _save(
        self, level: str, made: Pruned, mask: Mask | None, change: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        stem = self.out / "originals" / f"{level}-{self.seed}"
        store(stem.with_suffix(".safetensors"), made.model.state_dict())
        if mask is not None:
            store(stem.with_suffix(".mask"), dict(mask))
        about = {
            "test_accuracy": accuracy(made.model, self.data, Run()),
            "seconds": made.record.cost.seconds,
            "log": made.record.log,
            **(change or {}),
        }
        stem.with_suffix(".about").write_text(json.dumps(about))
        return about


def store(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Tensors as a safetensors file, written whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    save_file({name: value.contiguous() for name, value in tensors.items()}, part)
    os.replace(part, path)


def once(path: Path, make: Callable[[], Any]) -> None:
    """Make `path` hold make()'s JSON, unless it does; of several processes one makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock")
    while not path.exists():
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            time.sleep(2)
            continue
        try:
            content = json.dumps(make(), indent=1)
            path.with_suffix(".new").write_text(content)
            os.replace(path.with_suffix(".new"), path)
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
) -> Result:
    """Unlearn from one original by one method."""
    model, mask, about = originals.get(level)
    split = split_for(originals.data, originals.split, kind, originals.seed)
    return unlearn(
        model,
        originals.data,
        split,
        make_method(name, settings),
        seed=originals.seed,
        recipe=originals.experiment.recipe,
        fresh=originals.fresh,
        mask=mask,
        names=names,
        mask_saw_forget=about["log"]["saw_data"] if mask else None,
        progress=originals.bars,
    )


def tune(experiment: Experiment, data: Data, out: Path, kind: str, bars: Bars) -> None:
    """Write tuned-KIND.json: for dense and omp, each method's best fields on the tuning seed."""
    file = out / f"tuned-{kind}.json"
    chosen = json.loads(file.read_text()) if file.exists() else {}
    originals = Originals(experiment, data, out, TUNING_SEED, bars)
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
    experiment: Experiment,
    data: Data,
    out: Path,
    kind: str,
    level: str,
    seed: int,
    bars: Bars,
    floor: bool,
    chosen: Collection[str],
) -> pd.DataFrame:
    """One seed, one way to forget, one level: everything scored, in long form."""
    tuned = json.loads((out / f"tuned-{kind}.json").read_text())
    fields = tuned["dense" if level == "dense" else "omp"]
    originals = Originals(experiment, data, out, seed, bars)
    model, _, about = originals.get(level)
    split = split_for(data, originals.split, kind, seed)
    rows: list[dict[str, Any]] = []

    def score(row: str, network: torch.nn.Module, seconds: float, log: dict[str, Any]) -> None:
        outputs = observe(network, data, split, Run())
        values = {s.name: s.value for s in audit_outputs(outputs, seed=seed, features=())}
        values["MIA"] = mia_efficacy(outputs, "confidence", seed, max_samples=ATTACK_SAMPLES).value
        values["RTE"] = seconds
        for key in ("zero_fraction", "near_zero_fraction", "top_eigenvalue"):
            if key in log:
                values[key] = log[key]
        for key, value in values.items():
            rows.append(
                {
                    "kind": kind,
                    "level": level,
                    "method": row,
                    "seed": seed,
                    "score": key,
                    "value": value,
                }
            )

    def work(row: str, method: str, settings: dict[str, Any], *names: str | int) -> None:
        try:
            done = forget(originals, level, kind, method, settings, names or None)
        except DivergenceError as error:
            print(f"{kind} {level} {seed} {row}: {error}", flush=True)
            return
        score(row, done.model, done.record.cost.seconds, done.record.log)

    score("original", model, about["seconds"], {})
    work("retrain", "retrain", {}, "retrain", seed)
    if floor:
        work("floor", "retrain", {}, "retrain", seed, "floor")
    for row in chosen:
        work(row, *experiment.settings(row, fields[row]["fields"]))
    return pd.DataFrame(rows)


def criteria(experiment: Experiment, data: Data, out: Path, seed: int, bars: Bars) -> None:
    """J's three criteria of the pruners, for class-wise forgetting of this seed."""
    originals = Originals(experiment, data, out, seed, bars)
    split = split_for(data, originals.split, "class", seed)
    for name in LEVELS[1:]:

        def make(name: str = name) -> dict[str, Any]:
            model, mask, about = originals.get(name)
            dense, _, before = originals.get("dense")
            extra = {"rate": IMP_RATE} if name == "imp" else {}
            pruner = make_pruner(name, {"sparsity": SPARSITY, **extra})
            found = pruning_criteria(
                data,
                experiment.model,
                pruner,
                split,
                recipe=experiment.recipe,
                seed=seed,
                sparse=_known(model, mask, about, originals),
                dense=_known(dense, None, before, originals),
                progress=bars,
            )
            # iterative pruning went on from the dense model that was trained for the others
            first = before["seconds"] if name == "imp" else 0.0
            return {
                "pruner": name,
                "seed": seed,
                "overlap": found.overlap,
                "difference": found.difference,
                "seconds": found.seconds + first,
                "dense_seconds": before["seconds"],
            }

        once(out / "criteria" / f"{name}-{seed}.json", make)


def _known(
    model: torch.nn.Module, mask: Mask | None, about: dict[str, Any], originals: Originals
) -> Any:
    """An original that was made before, as `pruning_criteria` takes it."""
    from expunge.api import Record
    from expunge.training.cost import Cost

    record = Record("prune", {}, (), Cost(about["seconds"]), log=about["log"])
    return Pruned(model, record, originals.split, mask=mask)


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
    bars = Bars(Console(stderr=True), every_seconds=60)
    data = load_data(options.data, data_dir=options.data_dir)
    print(
        f"{options.data}, {experiment}, {platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        file=sys.stderr,
    )
    for kind in options.kinds if options.what == "tune" else ():
        tune(experiment, data, options.out, kind, bars)
    for seed in options.seeds if options.what == "criteria" else ():
        criteria(experiment, data, options.out, seed, bars)
    for seed in options.seeds if options.what == "run" else ():
        for level in options.levels:
            for kind in options.kinds:
                file = options.out / f"part-{kind}-{level}-{seed}.csv"
                if file.exists():
                    continue
                start = time.time()
                frame = run_part(
                    experiment,
                    data,
                    options.out,
                    kind,
                    level,
                    seed,
                    bars,
                    level in options.floors,
                    options.rows,
                )
                frame.to_csv(file.with_suffix(".new"), index=False)
                os.replace(file.with_suffix(".new"), file)
                print(f"{file.name}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
