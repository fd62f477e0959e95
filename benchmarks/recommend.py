"""Whether `recommend` foretells seconds: each method rehearsed, then made, on three models.

    python benchmarks/recommend.py --json benchmarks/results/recommend-cpu.json

A method is rehearsed and made in turn, `--rounds` times, three times as often where that takes less
than half a second; ratios are of neighbours, for other programs may be at work, and medians are told.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine, save

from expunge.advice.expected import MOST_ALL, Stopwatch
from expunge.api import train, unlearn
from expunge.data.load import load_data
from expunge.errors import UserError
from expunge.methods import METHODS
from expunge.place import Place
from expunge.training.recipe import Recipe

MODELS = {"mlp": ("digits", 60), "cnn": ("digits", 30), "resnet20": ("digits:600", 15)}
"""Model -> its data and the epochs of its training."""
QUICK = 0.5
"""Seconds under which a single measurement says little."""


def measured(name: str, forget: str, rounds: int, device: str) -> dict[str, Any]:
    """Method -> seconds foretold, seconds taken, and what the rehearsal itself took."""
    spec, epochs = MODELS[name]
    place = Place(device=device, strike=False)
    recipe = Recipe(epochs=epochs, lr=0.05, batch_size=128)
    original = train(load_data(spec), name, recipe=recipe, place=place)
    asked = original.answered(forget)
    found = {}
    for method in METHODS.values():
        foretold, taken, rehearsal = [], [], []
        try:
            while len(taken) < rounds * (3 if taken and taken[0] < QUICK else 1):
                watch = Stopwatch(original, asked, place=place, most=MOST_ALL)
                expected = watch.expect(method())
                rehearsal.append(watch.spent)
                made = unlearn(original, asked, method(), place=place)
                taken.append(made.record.cost.seconds)
                foretold.append(expected.seconds or float("nan"))
        except UserError:  # not for such a request
            continue
        told, took = statistics.median(foretold), statistics.median(taken)
        ratios = [one / other for one, other in zip(foretold, taken, strict=True)]
        ratio = statistics.median(ratios)
        found[method.name] = {
            "foretold": round(told, 3),
            "taken": round(took, 3),
            "ratio": round(ratio, 3),
            "rehearsal": round(statistics.median(rehearsal), 3),
        }
        print(
            f"{name:9} {forget:10} {method.name:16} foretold {told:7.2f} s, taken {took:7.2f} s, "
            f"ratio {ratio:.2f}, rehearsed in {found[method.name]['rehearsal']:.2f} s",
            flush=True,
        )
    return found


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--forget", nargs="+", default=["class:3", "random:0.1"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    start = time.perf_counter()
    found = {
        f"{name}, {forget}": measured(name, forget, given.rounds, given.device)
        for name in given.models
        for forget in given.forget
    }
    ratios = [
        max(one["ratio"], 1 / one["ratio"]) for each in found.values() for one in each.values()
    ]
    print(f"largest ratio {max(ratios):.2f}, median {statistics.median(ratios):.2f}")
    if given.json:
        about = {"machine": machine(given.device), "seconds": round(time.perf_counter() - start)}
        save(given.json, given.device, {**about, "largest_ratio": max(ratios), "found": found})


if __name__ == "__main__":
    main()
