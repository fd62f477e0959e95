"""Which audit catches which cheat on digits, how often audits sound at true retrains, and what they
say of every method.

    python benchmarks/red_team.py run --out runs/red-team
    python benchmarks/red_team.py table --out runs/red-team --json benchmarks/results/red-team.json

Each case is a network and a request: 8 retrained models to read against, a bank of 16, further
retrained models, which are judged themselves and which cheats imitate, and every cheat from several
seeds; on the first network every method, too, with its own defaults. A retrained model that is judged
is read against 8 that are drawn anew of all the others: against the same 8 all would be called wrong
together where these are odd. The bank is one, and what is found of rates holds given this bank. One
file per model that was judged is written whole when it is done, so a run goes on where it stopped, and
several processes share it (`--part 0/2`, `--part 1/2`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from machine import machine

from expunge.api import train, unlearn
from expunge.audits.beside import FurtherModels
from expunge.audits.panel import Panel
from expunge.audits.strength import STRENGTHS
from expunge.data.load import load_data
from expunge.errors import ExpungeError
from expunge.methods import CONTROLS, METHODS
from expunge.names.seeds import numpy_generator
from expunge.scores.statistics import wilson
from expunge.scores.words import OUTSIDE
from expunge.shadows.build import build
from expunge.testing.cheats import CHEATS
from expunge.testing.red_team import (
    CAUGHT,
    ORIGINAL,
    TOGETHER,
    audits_on,
    bench,
    caught,
    judged,
    told,
)
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=20, lr=0.1, batch_size=64)
NETWORKS = ("mlp", "cnn")
CASES = [(model, request) for model in NETWORKS for request in ("class:3", "random:0.1")]
REFERENCES, RETRAINS, SHADOWS = 8, 40, 16
RETRAIN = "retrain"
"""Begins the name of a true retrain that is judged."""
METHOD = "method:"
"""Begins the name of a model that a method made; the method's own follows."""
TELLS = "standard"
"""The strength whose word is told of every method."""


class Case:
    """One original and one request, and everything that is judged there."""

    def __init__(self, network: str, request: str, out: Path) -> None:
        self.request = request
        self.folder = out / f"{network}-{request.replace(':', '-')}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.original = train(load_data("digits"), network, recipe=RECIPE)
        self.made: dict[int, Trained] = {}
        shadows = build(self.original, out / f"bank-{network}", models=SHADOWS, keep=False).shadows
        self.beside = FurtherModels(shadows=shadows)
        self.panel = self.against(range(REFERENCES))
        self.audits = audits_on(self.panel, (), STRENGTHS, allow_code=False)

    def retrain(self, seed: int) -> Trained:
        if seed not in self.made:
            self.made[seed] = unlearn(self.original, self.request, "retrain", seed=seed)
        return self.made[seed]

    def against(self, seeds: Iterable[int]) -> Panel:
        """The panel of the retrained models of these seeds."""
        references = [self.retrain(seed) for seed in seeds]
        split = self.original.asked(self.request)
        return bench(self.original, references, split, beside=self.beside)

    def panel_of(self, name: str, seed: int) -> Panel:
        """What a model is read against; see the module."""
        return self.against(drawn(seed)) if name == RETRAIN else self.panel

    def model(self, name: str, seed: int) -> Trained:
        """What is called so; a cheat imitates a retrained model that nothing is read against."""
        if name == ORIGINAL:
            return self.original
        if name.startswith(METHOD):
            return unlearn(self.original, self.request, name.removeprefix(METHOD), seed=seed)
        beyond = self.retrain(REFERENCES + seed)
        if name == RETRAIN:
            return beyond
        return CHEATS[name](self.original, beyond, self.panel.split, seed=seed)

    def judge(self, name: str, seed: int) -> None:
        """Write the rows of one model, none where there is no such cheat of this request."""
        file = self.folder / f"{name.split()[0].replace(':', '-')}-{seed}.json"
        if file.exists():
            return
        began = time.perf_counter()
        try:
            panel = self.panel_of(name, seed).judging(self.model(name, seed))
        except ExpungeError as error:
            print(f"{file.stem}: {error}", flush=True)
            rows = []
        else:
            rows = list(told(judged(panel, self.audits), panel, STRENGTHS))
        seconds = time.perf_counter() - began
        found = {"model": name, "seed": seed, "seconds": seconds, "rows": rows}
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(found))
        os.replace(part, file)
        print(f"{self.folder.name} {file.stem}: {seconds:.1f} s", flush=True)


def drawn(seed: int) -> list[int]:
    """Seeds of the retrained models that the one of a seed is read against, itself never among them."""
    others = [one for one in range(REFERENCES + RETRAINS) if one != REFERENCES + seed]
    order = numpy_generator("red team", seed).permutation(len(others))
    return [others[place] for place in order[:REFERENCES]]


def models(network: str, seeds: int, retrains: int) -> Iterator[tuple[str, int]]:
    """Names and seeds of all that is judged in a case of a network."""
    yield ORIGINAL, 0
    yield from ((name, seed) for seed in range(seeds) for name in CHEATS)
    yield from ((RETRAIN, seed) for seed in range(retrains))
    others = [name for name in (*METHODS, *CONTROLS) if name != RETRAIN]
    if network == NETWORKS[0]:
        yield from ((METHOD + name, seed) for seed in range(seeds) for name in others)


def read(out: Path) -> tuple[pd.DataFrame, float]:
    """Rows of all cases: case, model, seed and what `told` says; and seconds in all."""
    frames, seconds = [], 0.0
    for file in sorted(out.glob("*/*-*.json")):
        if file.parent.name.startswith("bank"):
            continue
        found = json.loads(file.read_text())
        seconds += found["seconds"]
        own = {"case": file.parent.name, "name": found["model"], "seed": found["seed"]}
        rows = [
            row for row in found["rows"] if row["audit"] != TOGETHER
        ]  # which is `thorough` here
        frames.append(pd.DataFrame([{**own, **row} for row in rows]))
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(model=frame["case"] + "/" + frame["seed"].astype(str)), seconds


def table(out: Path) -> dict[str, Any]:
    """Kind of request -> cheat -> audit -> how many of the runs were caught; and alarms at retrains."""
    frame, seconds = read(out)
    networks = sorted({case.split("-")[0] for case in frame["case"]}, reverse=True)
    seeds = 1 + int(frame[frame["name"].isin(CHEATS)]["seed"].max())
    found: dict[str, Any] = {
        "command": f"python benchmarks/red_team.py run --networks {' '.join(networks)} --seeds {seeds}",
        "seconds": round(seconds),
        "references": REFERENCES,
        "drawn_of": REFERENCES + RETRAINS - 1,
        "bank": SHADOWS,
    }
    for kind in ("class", "random"):
        own = frame[frame["case"].str.contains(kind)]
        mine = own[own["case"].str.startswith(NETWORKS[0])]
        found[kind] = {
            "cases": sorted(own["case"].unique()),
            "models": {
                name: counts(own[own["name"] == name])
                for name in (ORIGINAL, *CHEATS)
                if (own["name"] == name).any()
            },
            "methods": {
                name.removeprefix(METHOD): words(mine[mine["name"] == name])
                for name in sorted(mine["name"].unique(), key=lambda name: name != RETRAIN)
                if name.startswith((METHOD, RETRAIN))
            },
            "alarms": {
                audit: with_interval(count)
                for audit, count in counts(own[own["name"] == RETRAIN]).items()
            },
        }
    return found


def counts(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Audit -> what was said of so many models."""
    if rows.empty:
        return {}
    cells = caught(rows)
    return {audit: dict(cells[audit].value_counts()) for audit in cells}


def words(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Of a method: word -> of how many models `TELLS` said it; audit -> how many it found outside."""
    said = rows[rows["audit"] == TELLS]["joint"].value_counts()
    outside = rows[(rows["finding"] == OUTSIDE) & rows["audit"].isin(STRENGTHS[TELLS])]
    return {
        "said": dict(said),
        "outside": dict(outside.groupby("audit", sort=False)["model"].nunique()),
    }


def with_interval(count: dict[str, int]) -> dict[str, Any]:
    """Alarms among all, and Wilson's 95 % interval of their share."""
    alarms, of = int(count.get(CAUGHT, 0)), int(sum(count.values()))
    low, high = wilson(alarms, of)
    return {"alarms": alarms, "of": of, "low": round(low, 4), "high": round(high, 4)}


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/red-team"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--seeds", type=int, default=3, help="of each cheat")
    parser.add_argument("--retrains", type=int, default=RETRAINS)
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args(arguments)
    if options.what == "run":
        torch.set_num_threads(1)
        part, parts = map(int, options.part.split("/"))
        for network, request in CASES:
            if network in options.networks:
                case = Case(network, request, options.out)
                wanted = list(models(network, options.seeds, options.retrains))
                for name, seed in wanted[part::parts]:
                    case.judge(name, seed)
        return
    found = table(options.out)
    found = {"machine": machine("cpu"), **found}
    text = json.dumps(found, indent=1, default=int) + "\n"
    if options.json is None:
        print(text)
    else:
        options.json.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
