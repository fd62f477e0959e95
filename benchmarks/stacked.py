"""Models trained at once, as `expunge bank build` may do it, against one after another.

`--models 2,4,8,16`: so many at once. A line a network and number: seconds of the process for a step of
one model at once over those of a step alone, the least of some rounds in turn, on one thread.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine, save
from torch.utils.data import TensorDataset

import expunge
from expunge.data.parts import Part
from expunge.place import Place
from expunge.shadows.stacked import train_stacked, trial_sessions, why_not
from expunge.trained.trained import Trained
from expunge.training.fit import fit
from expunge.training.recipe import Recipe

CPU = Place(device="cpu")
RESULTS = Path(__file__).parent / "results" / "stacked-cpu.json"
NETWORKS = {
    "mlp, digits": ("mlp", (1, 8, 8), 64, 60),
    "cnn, digits": ("cnn", (1, 8, 8), 64, 12),
    "cnn, 32x32 in colour": ("cnn", (3, 32, 32), 64, 3),
    "resnet20, 32x32 in colour": ("resnet20", (3, 32, 32), 64, 2),
}
"""Architecture, shape of an input, batch size, steps that are timed."""


def original(architecture: str, shape: tuple[int, ...], size: int, place: Place = CPU) -> Trained:
    """A model that has learned next to nothing, of inputs that mean nothing."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (1200, *shape), generator=draw, dtype=torch.uint8)
    labels = torch.arange(1200) % 10
    data = expunge.load_data(
        (TensorDataset(inputs, labels), TensorDataset(inputs[:50], labels[:50]))
    )
    recipe = Recipe(epochs=1, batch_size=size, lr=0.01, precision="float32", schedule="constant")
    return expunge.train(data, architecture, recipe=recipe.but(augmentation="none"), place=place)


def contest(
    made: Trained, count: int, steps: int, place: Place = CPU
) -> dict[str, Callable[[], None]]:
    """Name -> so many steps: of one model alone, and of all at once."""
    sessions = trial_sessions(made, count, place)
    networks = [one.run.fresh() for one in sessions]
    first = sessions[0]
    recipe = first.run.original_recipe()

    def alone() -> None:
        fit(
            copy.deepcopy(networks[0]),
            lambda epoch: first.view.batches(Part.RETAIN, recipe.batch_size, epoch=epoch),
            lambda model, batch, _: first.run.loss(model, batch),
            recipe=recipe,
            run=first.run,
            steps=steps,
        )

    def at_once() -> None:
        train_stacked(sessions, copy.deepcopy(networks), steps=steps)

    return {"alone": alone, "at_once": at_once}


def timed(made: Trained, count: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds a step and model, alone and at once."""
    works = contest(made, count, steps)
    found: dict[str, list[float]] = {"alone": [], "at_once": []}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if number:  # the first round prepares kernels
                found[name].append((time.process_time() - start) / steps)
    one, several = min(found["alone"]), min(found["at_once"]) / count
    return {
        "alone_ms": round(1000 * one, 3),
        "at_once_ms": round(1000 * several, 3),
        "ratio": round(several / one, 2),
    }


def main() -> None:
    """Time every network, print a line each, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="2,4,8,16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    about, lines = machine("cpu"), []
    for name, (architecture, shape, size, steps) in NETWORKS.items():
        made = original(architecture, shape, size)
        why = why_not(made, 2, CPU)
        if why is not None:
            print(f"{name}: {why}")
            continue
        for count in map(int, given.models.split(",")):
            line = {"network": name, "batch": size, "models": count}
            line |= timed(made, count, steps, given.rounds)
            lines.append(line)
            print(f"{name}, {count} at once: {line['ratio']:.2f} of the time alone", flush=True)
    command = f"python benchmarks/stacked.py {' '.join(sys.argv[1:])}".strip()
    save(given.out, "stacked", {"machine": about, "command": command, "lines": lines})


if __name__ == "__main__":
    main()
