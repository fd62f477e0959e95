"""How well the detectors of `expunge inspect` tell poisoned models from clean ones.

    python benchmarks/detection.py run --out runs/detection --group calibration
    python benchmarks/detection.py thresholds --out runs/detection
    python benchmarks/detection.py run --out runs/detection --group measured
    python benchmarks/detection.py run --out runs/detection --group cifar
    python benchmarks/detection.py table --out runs/detection --json benchmarks/results/detection.json

`calibration`: 8 clean models and 8 poisoned ones of `mnist:5000`, on which thresholds are fixed, by
`thresholds`, which prints what belongs into `src/expunge/backdoor/thresholds.py`. `measured`: 20 clean
and 20 poisoned others, four of each kind of poison. `blind`: what the detectors are known not to see.
`cifar`: three models of `cifar10:5000`, as a check. Seeds differ in all groups, and so do targets.

Each model is trained, looked at, and written down in a file of its own, whole: a run goes on where it
stopped, and several processes share it (`--part 0/2`, `--part 1/2`). `--only NAME` makes one model.
STRIP judges 400 test images, of which every other one carries the trigger (for a clean model: that of
the poisoned one of the same number). `EXPUNGE_DATA` names the folder of MNIST and CIFAR-10.

`table` gives, for each detector, how many models it suspects, finds nothing in, and cannot tell of, with
Clopper-Pearson intervals of 95 %, and the same for each kind of poison; and AUC and ROC of its statistic
alone. A word rests on more than that (see each detector), so what it reaches is no point of the ROC.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

from expunge.api import train
from expunge.audits.counts import clopper_pearson
from expunge.audits.observe import accuracy
from expunge.backdoor.detection import CANNOT_TELL, NOTHING, SUSPECT
from expunge.backdoor.inspected import Inspected
from expunge.backdoor.inspecting import DETECTORS, inspect_subject
from expunge.data.batch import Indices
from expunge.data.load import Data, load_data, poisoned
from expunge.data.poison import Poison
from expunge.data.poisoned import with_trigger
from expunge.data.samples import ResidentStore, Samples, resident
from expunge.disk.whole import write_file
from expunge.place import Place
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

KINDS = {
    "patch-1": "patch:size=3,margin=1,colour=255,share=0.01",
    "patch-5": "patch:size=3,margin=1,colour=255,share=0.05",
    "patch-10": "patch:size=3,margin=1,colour=255,share=0.1",
    "blend-5": "blend:file=random,alpha=0.2,share=0.05",
    "warp-5": "warp:grid=8,strength=2,share=0.05",
}
BLIND = {
    "all-to-all-10": "patch:size=3,margin=1,colour=255,share=0.1,target=next",
    "sinus": "sinus:amplitude=150,frequency=3,share=0.05",
}
"""All-to-all, and clean-label."""
RECIPES = {
    "mnist:5000": Recipe(epochs=10, lr=0.05, batch_size=128),
    "cifar10:5000": Recipe(epochs=20, lr=0.05, batch_size=128),
}
INPUTS = 400
TARGETS = 10


@dataclass(frozen=True)
class Made:
    """A model of the campaign. kind: of its poison; empty of a clean one. trigger: of its inputs."""

    group: str
    number: int
    seed: int
    kind: str = ""
    data: str = "mnist:5000"
    trigger: str = KINDS["patch-5"]

    @property
    def name(self) -> str:
        return f"{self.group}-{self.kind or 'clean'}-{self.number}"

    def poison(self) -> Poison:
        text = ({**KINDS, **BLIND}[self.kind] if self.kind else self.trigger) + (
            f",poison_seed={self.seed}"
        )
        own = Poison.parse(text)
        return own if "target=" in text else replace(own, target=f"#{self.seed % TARGETS}")


def models() -> Iterator[Made]:
    """All of them, those that are needed first at the front."""
    kinds = list(KINDS)
    for group, first, count in (("calibration", 100, 8), ("measured", 300, 20)):
        for n in range(count):
            kind = kinds[n % len(kinds)]
            yield Made(group, n, first + n, trigger=KINDS[kind])
            yield Made(group, n, first + 50 + n, kind)
    for n, kind in enumerate([*BLIND, *BLIND]):
        yield Made("blind", n, 500 + n, kind)
    for n, kind in enumerate(("", "patch-5", "patch-10")):
        yield Made("cifar", n, 600 + n, kind, "cifar10:5000")


def input_rows(test: Samples, poison: Poison, classes: Sequence[str]) -> Indices:
    """Rows of the first test images of other classes than the target."""
    target = poison.aim(classes)
    others = np.ones(len(test), dtype=bool) if target == "next" else test.labels != target
    return np.flatnonzero(others)[:INPUTS]


def judged_inputs(test: Samples, poison: Poison, classes: Sequence[str]) -> Samples:
    """Test images of other classes than the target, if it is one; every other one with the trigger."""
    rows = input_rows(test, poison, classes)
    plain, laid = (
        resident(one)
        for one in (test.subset(rows), with_trigger(test.subset(rows), poison.trigger))
    )
    if plain is None or laid is None:
        raise SystemExit("the test images do not fit into memory")
    mixed = plain.clone()
    mixed[::2] = laid[::2]
    return test.subset(rows).with_store(ResidentStore(mixed))


def attack_rate(model: Trained, poison: Poison) -> float:
    """Share of triggered test images of other classes that are called the target; nan of several."""
    data, target = model.data, poison.aim(model.data.classes)
    if target == "next":
        return float("nan")
    rows = np.flatnonzero(data.test.labels != target)[:1000]
    seen = Inspected.of(model, place=Place(device="cpu"))
    called = seen.seen(with_trigger(data.test, poison.trigger), rows).argmax(1)
    return float((called == target).double().mean())


def looked_at(made: Made, clean: Data) -> dict[str, Any]:
    """Train a model, look at it, and say what was seen."""
    poison = made.poison()
    data = poisoned(clean, poison) if made.kind else clean
    start = time.perf_counter()
    place = Place(device="cpu")
    model = train(data, "cnn", recipe=RECIPES[made.data], seed=made.seed, place=place)
    trained = time.perf_counter() - start
    asked = input_rows(clean.test, poison, clean.classes)
    subject = Inspected.of(
        model,
        clean=clean.test.subset(np.setdiff1d(np.arange(len(clean.test)), asked)),
        inputs=judged_inputs(clean.test, poison, clean.classes),
        place=place,
    )
    found = inspect_subject(subject)
    told = {}
    target = poison.aim(data.classes)
    for one in found.detections:
        told[one.detector] = {
            "statistic": one.statistic,
            "word": one.word,
            "suspects": list(one.suspects),
            "right": target in one.suspects,
            "seconds": found.seconds[one.detector],
            "by_class": {name: list(values) for name, values in one.by_class.items()},
        }
        if one.detector == "strip":
            assert subject.inputs is not None
            rows = subject.inputs.rows_of(list(one.samples)).tolist()
            told["strip"]["triggered"] = sum(row % 2 == 0 for row in rows) / (INPUTS / 2)
            told["strip"]["plain"] = sum(row % 2 == 1 for row in rows) / (INPUTS / 2)
        elif made.kind and data.poison is not None and one.samples:
            hits = len(data.poison.ids.intersection(one.samples))
            told[one.detector] |= {"named": len(one.samples), "poisoned": hits}
    run = subject.run
    return {
        "group": made.group,
        "kind": made.kind,
        "data": made.data,
        "seed": made.seed,
        "poison": str(poison) if made.kind else "",
        "accuracy": accuracy(model.model, data, run),
        "attack": attack_rate(model, poison) if made.kind else None,
        "train_seconds": round(trained, 1),
        "detectors": told,
    }


def run(options: argparse.Namespace) -> None:
    """Make what is missing of a group."""
    options.out.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, options.part.split("/"))
    asked = [m for m in models() if options.group in ("all", m.group)]
    asked = [m for m in asked if options.only in (None, m.name)][: options.most]
    loaded: dict[str, Data] = {}
    for made in asked[part::parts]:
        file = options.out / f"{made.name}.json"
        if file.exists():
            continue
        clean = loaded.setdefault(made.data, load_data(made.data))
        found = looked_at(made, clean)
        write_file(file, json.dumps(found, indent=1) + "\n")
        words = {name: one["word"] for name, one in found["detectors"].items()}
        print(made.name, f"attack {found['attack']}", words, flush=True)


def read(out: Path, group: str) -> list[dict[str, Any]]:
    files = sorted(out.glob(f"{group}-*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def statistics_of(models: Sequence[Mapping[str, Any]], detector: str) -> list[float]:
    """Of the models on which anything was measured."""
    found = (one["detectors"].get(detector, {}).get("statistic") for one in models)
    return [value for value in found if value is not None]


def thresholds(options: argparse.Namespace) -> None:
    """Half as much again as the highest of the clean calibration models; what the poisoned ones have."""
    found = read(options.out, "calibration")
    clean = [one for one in found if not one["kind"]]
    for name in DETECTORS:
        values = statistics_of(clean, name)
        if not values:
            continue
        print(f'    "{name}": Threshold({1.5 * max(values):.2g}, {len(values)}),')
        for kind in KINDS:
            own = statistics_of([one for one in found if one["kind"] == kind], name)
            print(f"        # {kind}: {', '.join(f'{value:.3g}' for value in own)}")


def shares(flags: Sequence[bool]) -> dict[str, Any]:
    low, high = clopper_pearson(sum(flags), len(flags)) if flags else (0.0, 1.0)
    return {"count": sum(flags), "of": len(flags), "low": round(low, 4), "high": round(high, 4)}


def roc(clean: Sequence[float], bad: Sequence[float]) -> dict[str, Any]:
    """AUC (ties count half), and (false alarms, found) from the highest threshold to the lowest."""
    pairs = [(b > c) + 0.5 * (b == c) for b in bad for c in clean]
    levels = sorted({*clean, *bad}, reverse=True)
    points = [
        [sum(c >= level for c in clean) / len(clean), sum(b >= level for b in bad) / len(bad)]
        for level in levels
    ]
    return {"auc": round(sum(pairs) / len(pairs), 4), "points": [[0.0, 0.0], *points]}


def words_of(models: Sequence[Mapping[str, Any]], detector: str) -> dict[str, Any]:
    """How many models of these it suspects, finds nothing in, and cannot tell of."""
    said = [one["detectors"].get(detector, {}).get("word", CANNOT_TELL) for one in models]
    return {word: shares([one == word for one in said]) for word in (SUSPECT, NOTHING, CANNOT_TELL)}


def any_of(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same of all detectors together: one that suspects suffices."""
    said = [[one["word"] for one in model["detectors"].values()] for model in models]
    told = [next((w for w in (SUSPECT, NOTHING) if w in words), CANNOT_TELL) for words in said]
    return {word: shares([one == word for one in told]) for word in (SUSPECT, NOTHING, CANNOT_TELL)}


def of_group(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    clean = [one for one in found if not one["kind"]]
    bad = [one for one in found if one["kind"]]
    kinds = {kind: [one for one in bad if one["kind"] == kind] for kind in (*KINDS, *BLIND)}
    told: dict[str, Any] = {}
    for name in DETECTORS:
        values = statistics_of(clean, name), statistics_of(bad, name)
        right = [one["detectors"].get(name, {}).get("right", False) for one in bad]
        told[name] = {
            "clean": words_of(clean, name),
            "poisoned": words_of(bad, name),
            "right_class": shares(right),
            "by_kind": {kind: words_of(own, name) for kind, own in kinds.items() if own},
        }
        if values[0] and values[1]:
            told[name]["roc_of_statistic"] = roc(*values)
    told["any"] = {
        "clean": any_of(clean),
        "poisoned": any_of(bad),
        "by_kind": {kind: any_of(own) for kind, own in kinds.items() if own},
    }
    return told


def table(options: argparse.Namespace) -> None:
    groups = {name: read(options.out, name) for name in ("measured", "blind", "cifar")}
    fixed_on = read(options.out, "calibration")  # by earlier thresholds, so that no word counts
    result = {
        "machine": machine("cpu"),
        "groups": {name: of_group(found) for name, found in groups.items() if found},
        "calibration": [
            {key: one[key] for key in ("kind", "seed", "attack", "accuracy")}
            | {"statistics": {n: d["statistic"] for n, d in one["detectors"].items()}}
            for one in fixed_on
        ],
        "models": [
            {key: value for key, value in one.items() if key != "detectors"}
            | {
                "statistics": {n: d["statistic"] for n, d in one["detectors"].items()},
                "words": {n: d["word"] for n, d in one["detectors"].items()},
            }
            for found in groups.values()
            for one in found
        ],
    }
    for group, found in result["groups"].items():
        for name, one in found.items():
            false, right = one["clean"][SUSPECT], one["poisoned"][SUSPECT]
            unsure = one["clean"][CANNOT_TELL]["count"], one["poisoned"][CANNOT_TELL]["count"]
            auc = one.get("roc_of_statistic", {}).get("auc", "–")
            print(
                f"{group:12s} {name:22s} AUC {auc}  found {right['count']} of {right['of']} "
                f"({right['low']:.2f} to {right['high']:.2f})  false alarms {false['count']} of "
                f"{false['of']} ({false['low']:.2f} to {false['high']:.2f})  cannot tell {unsure[1]}, "
                f"{unsure[0]}"
            )
    if options.json is not None:
        write_file(options.json, json.dumps(result, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "thresholds", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--group", default="all")
    parser.add_argument("--only")
    parser.add_argument("--most", type=int)
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"run": run, "thresholds": thresholds, "table": table}[options.command](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
