"""How often a gate lets a true retraining pass, how often a method, and how often each cheat, on digits.

    python benchmarks/gate_rates.py run --out runs/gate
    python benchmarks/gate_rates.py table --out runs/gate --json benchmarks/results/gate-rates.json

For each kind of request two pools are made: 60 retrained models and 40 unlearned ones, each of which
forgets its own draw, and of every cheat 8 more, which imitate the first of the retrained. Then the gate
is run 200 times for each: so many models as it asks for are drawn of a pool, others of the retrained
ones beside them; the first of each side is the one offered, and the control. A true retraining takes
part as if it were a method. What is found holds given these pools, so the intervals beside are those of
drawing from them alone. One file per model is written whole when it is done: a run goes on where it
stopped, and several processes share it (`--part 0/2`, `--part 1/2`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from machine import machine

from expunge.api import train, unlearn
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ExpungeError
from expunge.names.seeds import numpy_generator
from expunge.place import HERE
from expunge.requests.gate_file import DrawKind, Gate
from expunge.requests.judging import Measured, accept, judge_method
from expunge.requests.measuring import from_plain, measured, to_plain
from expunge.scores.statistics import wilson
from expunge.testing.cheats import CHEATS
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=20, lr=0.1, batch_size=64)
RETRAIN, METHOD, NOTHING = "retrain", "neggrad_plus", "original"
POOLS = {RETRAIN: 60, METHOD: 40}
OF_A_CHEAT = 8
RUNS = 200
SIZE = 150
"""Samples of a random draw: a ninth of what is learned from."""
MORE = (8, 12, 16, 24)
"""Models on each side: what more of them buy."""
KINDS: tuple[DrawKind, ...] = get_args(DrawKind)


class Pool:
    """The models of one kind of request, each with its own draw."""

    def __init__(self, kind: DrawKind, out: Path, original: Trained) -> None:
        self.kind, self.gate, self.original = kind, Gate(), original
        self.folder = out / kind
        self.folder.mkdir(parents=True, exist_ok=True)

    def wanted(self) -> list[tuple[str, int]]:
        """Names and numbers of all that is made; what cheats imitate comes first."""
        made = [(name, n) for n in range(max(POOLS.values())) for name, k in POOLS.items() if n < k]
        return made + [(name, n) for n in range(OF_A_CHEAT) for name in CHEATS]

    def draw(self, name: str, n: int) -> Split:
        """What the nth model forgets; a cheat, what the retrained model forgot that it imitates."""
        name = name if name == METHOD else RETRAIN
        generator = numpy_generator("gate rates", self.kind, name, n)
        live = self.original
        if self.kind == "class":
            return live.asked(f"class:{live.data.classes[int(generator.integers(10))]}")
        kept = live.split.retain
        rows = generator.choice(len(kept), SIZE, replace=False)
        return live.split.forgetting([kept[row] for row in rows])

    def model(self, name: str, n: int) -> Trained:
        split = self.draw(name, n)
        if name == METHOD:
            return unlearn(self.original, split, METHOD, seed=n)
        retrained = unlearn(self.original, split, RETRAIN, names=(RETRAIN, n, "gate"))
        return (
            retrained if name == RETRAIN else CHEATS[name](self.original, retrained, split, seed=n)
        )

    def make(self, name: str, n: int) -> None:
        """Write down what was measured of one model; nothing where no such cheat can be made."""
        file = self.folder / f"{name}-{n:02}.json"
        if file.exists():
            return
        began = time.perf_counter()
        said: dict[str, Any] | None = None
        try:
            model = self.model(name, n)
            said = to_plain(
                measured(model, self.original, self.gate, self.kind, deep=True, place=HERE)
            )
        except ExpungeError as error:
            print(f"{file.stem}: {error}", flush=True)
        seconds = time.perf_counter() - began
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"seconds": seconds, "measured": said}))
        os.replace(part, file)
        print(f"{self.kind} {file.stem}: {seconds:.1f} s", flush=True)


def read(out: Path, kind: DrawKind) -> tuple[dict[str, list[Measured]], float]:
    """What was measured of each pool, and seconds in all."""
    found: dict[str, list[Measured]] = {}
    seconds = 0.0
    for file in sorted((out / kind).glob("*-*.json")):
        content = json.loads(file.read_text())
        seconds += content["seconds"]
        if content["measured"] is not None:
            name = file.stem.rpartition("-")[0]
            found.setdefault(name, []).append(from_plain(content["measured"]))
    found[NOTHING] = [one.before for one in found[RETRAIN]]
    return found, seconds


def run_gate(
    gate: Gate, kind: DrawKind, name: str, pools: Mapping[str, Sequence[Measured]], number: int
) -> tuple[str, str]:
    """The verdict of one qualification, and of the acceptance of its first model; "" where none is."""
    generator = numpy_generator("gate run", kind, name, number)
    order = [pools[RETRAIN][row] for row in generator.permutation(len(pools[RETRAIN]))]
    theirs, rest = order[: gate.retrainings], order[gate.retrainings :]
    pool = rest if name == RETRAIN else pools[name]
    rows = generator.choice(len(pool), gate.unlearnings, replace=len(pool) < gate.unlearnings)
    ours = [pool[row] for row in rows]
    judged = judge_method(gate, kind, ours, theirs)
    if judged.verdict != "equivalent":
        return judged.verdict, ""
    return judged.verdict, accept(gate, kind, ours[0], theirs[0], theirs).verdict


def share(count: int, of: int) -> dict[str, Any]:
    """With Wilson's 95 % interval."""
    low, high = wilson(count, of)
    return {"passed": count, "of": of, "low": round(low, 4), "high": round(high, 4)}


def rates(gate: Gate, kind: DrawKind, name: str, pools: Mapping[str, Sequence[Measured]]) -> Any:
    """Of all runs of one name: verdicts of the qualification, and how many passed both."""
    said = [run_gate(gate, kind, name, pools, number) for number in range(RUNS)]
    both = sum(accepted == "equivalent" for _, accepted in said)
    return {"qualification": dict(Counter(one for one, _ in said)), "both": share(both, RUNS)}


def alone(gate: Gate, kind: DrawKind, name: str, pools: Mapping[str, Sequence[Measured]]) -> Any:
    """How often acceptance lets one model of a pool pass, whatever its method was found to be."""
    passed = of = 0
    for number in range(RUNS):
        generator = numpy_generator("acceptance", kind, name, number)
        order = [pools[RETRAIN][row] for row in generator.permutation(len(pools[RETRAIN]))]
        theirs, rest = order[: gate.retrainings], order[gate.retrainings :]
        pool = rest if name == RETRAIN else pools[name]
        one = pool[int(generator.integers(len(pool)))]
        found = accept(gate, kind, one, theirs[0], theirs)
        if found.verdict != "invalid":
            of, passed = of + 1, passed + (found.verdict == "equivalent")
    return share(passed, of)


def table(out: Path) -> dict[str, Any]:
    """Kind -> name -> rates; and of a true retraining, by models on each side."""
    found: dict[str, Any] = {
        "command": "python benchmarks/gate_rates.py run",
        "pools": POOLS,
        "size_of_a_random_draw": SIZE,
        "runs": RUNS,
        "gate": json.loads(Gate().spec),
    }
    for kind in KINDS:
        pools, seconds = read(out, kind)
        names = [name for name in (*POOLS, NOTHING, *CHEATS) if name in pools]
        gates = {n: Gate(unlearnings=n, retrainings=n) for n in MORE}
        found[kind] = {
            "seconds": round(seconds),
            "models": {name: len(pools[name]) for name in names},
            "gate": {name: rates(Gate(), kind, name, pools) for name in names},
            "acceptance": {name: alone(Gate(), kind, name, pools) for name in names},
            "by_models": {
                n: {name: rates(gate, kind, name, pools) for name in POOLS}
                for n, gate in gates.items()
            },
        }
    return found


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/gate"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args(arguments)
    if options.what == "run":
        torch.set_num_threads(1)
        original = train(load_data("digits"), "mlp", recipe=RECIPE)
        part, parts = map(int, options.part.split("/"))
        for kind in KINDS:
            pool = Pool(kind, options.out, original)
            for name, n in pool.wanted()[part::parts]:
                pool.make(name, n)
        return
    text = json.dumps({"machine": machine("cpu"), **table(options.out)}, indent=1) + "\n"
    if options.json is None:
        print(text)
    else:
        options.json.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
