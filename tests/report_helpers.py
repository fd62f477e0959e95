"""Made-up results of a study and of a deletion, for the tests of the report and its screenshots."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from expunge.report.page import PlainTable, Report, render
from expunge.scores.rows import SETTING

CLASSES = ["airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# method -> shift of UA, MIA, RA, TA from the retrained model's, and its cost beside retraining
CHARACTERS = {
    "original": (-1.0, -1.0, 0.0, 0.4, 1.3),
    "retrain": (0.0, 0.0, 0.0, 0.0, 1.0),
    "floor": (0.01, 0.01, 0.0, -0.1, 1.02),
    "finetune": (-0.62, -0.55, 0.1, 0.2, 0.06),
    "gradient_ascent": (-0.2, -0.15, -9.0, -8.5, 0.012),
    "neggrad_plus": (-0.02, -0.01, -0.4, -0.9, 0.07),
    "l1_sparse": (-0.08, -0.03, -0.9, -0.8, 0.08),
    "fisher": (-0.3, -0.1, -14.0, -12.0, 0.4),
}
TARGETS = {"class": (100.0, 100.0, 99.6, 94.6), "random:0.1": (5.6, 13.2, 99.7, 94.0)}
PLAIN = {"class": "one class", "random:0.1": "random 10%"}


def character(name: str, number: int) -> tuple[float, ...]:
    """Of a method by that name, or of one that is made up from its number."""
    if name in CHARACTERS:
        return CHARACTERS[name]
    rng = np.random.default_rng(number)
    shift, cost = -rng.uniform(0, 0.9, 2), 10 ** rng.uniform(-2.3, 0)
    return (*shift, -rng.uniform(0, 6), -rng.uniform(0, 7), cost)


def results(
    *,
    scenarios: Sequence[str] = ("class", "random:0.1"),
    densities: Sequence[str] = ("dense",),
    methods: Sequence[str] = tuple(CHARACTERS),
    seeds: int = 3,
) -> pd.DataFrame:
    """As `expunge.study.results.results` returns it."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for scenario in scenarios:
        for density in densities:
            sparse = 0.0 if density == "dense" else float(density.split(" ")[0]) / 100
            for number, name in enumerate(methods):
                shift = character(name, number)
                for seed in range(seeds):
                    common = {
                        "data": "cifar10",
                        "model": "resnet18",
                        "recipe": "paper",
                        "density": density,
                        "scenario": scenario,
                        "method": name,
                        "seed": seed,
                    }
                    ease = 1 - 0.7 * sparse
                    for place, score in enumerate(("UA", "MIA", "RA", "TA")):
                        goal = TARGETS[scenario][place] - (2 * sparse if place == 3 else 0)
                        moved = shift[place] * (goal if place < 2 else 1) * ease
                        value = float(np.clip(goal + moved + rng.normal(0, 0.3), 0, 100))
                        ends = max(0.0, value - 1.2), min(100.0, value + 1.2)
                        counts = (4500, 4500, 40500, 9000)
                        rows.append(
                            {
                                **common,
                                "score": score,
                                "value": value,
                                "low": ends[0],
                                "high": ends[1],
                                "n": counts[place],
                            }
                        )
                    if scenario == "class":
                        gone = float(np.clip(-95 * shift[0], 0, 94))
                        rows.append({**common, "score": "TA_forget", "value": gone, "n": 1000})
                    seconds = 2480 * shift[4] * rng.uniform(0.95, 1.05)
                    rows.append({**common, "score": "RTE", "value": seconds, "n": 1})
    frame = pd.DataFrame(rows)
    return frame.assign(low=frame.get("low", np.nan), high=frame.get("high", np.nan), cell="")


def for_tables(frame: pd.DataFrame) -> pd.DataFrame:
    """As `expunge.study.results.for_tables`, which this package may not import in a test of it."""
    named = frame["scenario"].map(lambda name: PLAIN.get(name, name))
    for column in ("data", "model", "recipe", "density"):
        if frame[column].nunique() > 1:
            named = named + ", " + frame[column]
    columns = ["scenario", "method", "seed", "score", "value"]
    columns += ["bound"] if "bound" in frame else []
    long = frame.assign(scenario=named)[columns]
    failed = long["score"] == "failed"
    return pd.concat([long[~failed], long[failed].assign(score="UA")], ignore_index=True)


def picture(seed: int) -> str:
    """A small PNG as a data URI: a blurred blot on a blurred ground."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 220, (5, 5, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def details(
    frame: pd.DataFrame, classes: Sequence[str] = CLASSES, shown: int = 6
) -> list[dict[str, Any]]:
    """One of every run in the frame, with all its keys."""
    keys = ["data", "model", "recipe", "density", "scenario", "method", "seed"]
    found = []
    for number, key in enumerate(frame[keys].drop_duplicates().to_dict("records")):
        rng = np.random.default_rng(number)
        shift = character(key["method"], number)
        one_class = key["scenario"] == "class"
        gone = [classes[3]] if one_class else []
        accuracy = [float(np.clip(rng.normal(93 + shift[3], 2), 0, 100)) for _ in classes]
        if one_class:
            accuracy[3] = float(np.clip(-95 * shift[0], 0, 94))
        sure = np.linspace(0, 1, 20)
        memory = -shift[0] if one_class else 0.9
        bins = {
            "forget": 4000 * (memory * sure**14 + (1 - memory) * (1 - sure) ** 14 + 0.004),
            "retain": 9000 * (sure**16 + 0.001),
            "test": 9000 * (sure**9 + 0.01),
        }
        guesses = rng.random(shown)
        gallery = [
            {
                "id": f"train-{900 + 7 * row}",
                "label": classes[3],
                "predicted": classes[3]
                if guess < memory
                else classes[(row * 3 + 1) % len(classes)],
                "probability": 0.55 + 0.45 * float(guess),
                "true_probability": 0.97 * float(guess < memory),
                "image": picture(row),
            }
            for row, guess in enumerate(guesses)
        ]
        found.append(
            {
                **key,
                "class_accuracy": accuracy,
                "classes": list(classes),
                "forgotten_classes": gone,
                "confidence": {part: [int(c) for c in counts] for part, counts in bins.items()},
                "gallery": gallery,
            }
        )
    return found


def findings(frame: pd.DataFrame, score: str = "rmia") -> pd.DataFrame:
    """Of every run but retrain's: a score that is outside in all seeds but the first, and two that are
    not; what is outside is not forgotten.
    """
    keys = frame[[*SETTING, "method", "seed"]].drop_duplicates()
    named = for_tables(frame)[["scenario"]].drop_duplicates()["scenario"].to_list()
    label = dict(zip(frame["scenario"].drop_duplicates(), named, strict=True))
    found = []
    for key in keys[keys["method"] != "retrain"].to_dict("records"):
        out = key["seed"] > 0
        words = {score: "outside" if out else "undecided", "UA": "undecided", "cka": "undecided"}
        for name, word in words.items():
            said = {"score": name, "finding": word, "why": f"{name} is {word}", "p": 0.5}
            joint = {"together": "not forgotten" if out else "cannot tell", "references": 1}
            told = {**key, **said, "among_all": word, **joint, "cell": ""}
            found.append({**told, "named": label[key["scenario"]]})
    return pd.DataFrame(found)


def study(**changes: Any) -> Report:
    """A whole study; keyword arguments replace fields."""
    frame = changes.pop("frame", None)
    frame = results() if frame is None else frame
    claim = {
        "text": "average gap of neggrad_plus < average gap of finetune",
        "verdict": "holds",
        "difference": -31.2,
        "low": -33.0,
        "high": -29.4,
        "n": 3,
        "why": "",
    }
    undecided = {
        "text": "TA of l1_sparse < TA of neggrad_plus",
        "verdict": "undecided",
        "difference": 0.08,
        "low": -0.6,
        "high": 0.76,
        "n": 3,
        "why": "",
    }
    missing = {
        "text": "UA of scrub < UA of finetune",
        "verdict": "undecided",
        "difference": np.nan,
        "low": np.nan,
        "high": np.nan,
        "n": 0,
        "why": "no UA of scrub",
    }
    fields: dict[str, Any] = {
        "title": "Forgetting on CIFAR-10",
        "kind": "study",
        "generated": "21 November 2026",
        "version": "0.9.0",
        "frame": frame,
        "table": for_tables(frame),
        "claims": (claim, undecided, missing),
        "published": (
            PlainTable(
                "Jia et al. (2023), table 1: class-wise forgetting, ResNet-18 on CIFAR-10, dense",
                ["method", "UA", "MIA", "RA", "TA", "RTE min"],
                [
                    ["Retrain", "100.00±0.00", "100.00±0.00", "100.00±0.00", "94.83±0.11", "43.23"],
                    ["FT", "22.53±8.16", "75.00±14.68", "99.87±0.04", "94.31±0.19", "2.52"],
                ],
            ),
        ),
        "tuned": ("gradient_ascent: lr 2e-4 by 8 trials on seed 100, which is not reported.",),
        "details": details(frame),
        "configuration": "name: made-up\ndata: [cifar10]\nmodels: [resnet18]\nseeds: [0, 1, 2]\n",
        "environment": {"python": "3.11.7", "torch": "2.13.0", "device": "cuda (NVIDIA H200)"},
        "command": "expunge study results made-up.yaml --out runs/made-up",
        "warnings": ("2 samples of the retain set are exact copies of forgotten ones.",),
    }
    return Report(**{**fields, **changes})


def deletion(**changes: Any) -> Report:
    """One request, one method, one seed."""
    frame = results(
        scenarios=["random:0.1"], methods=["original", "retrain", "neggrad_plus"], seeds=1
    )
    frame["scenario"] = "ids:withdrawn.txt"
    fields: dict[str, Any] = {
        "title": "Deletion of withdrawn.txt",
        "kind": "deletion",
        "frame": frame,
        "claims": (),
        "published": (),
        "tuned": (),
    }
    return study(**{**fields, **changes})


def large(runs: int = 500) -> Report:
    """Many methods, on one setting with that many runs and a second one."""
    names = ["original", "retrain", "floor", *(f"method_{n:02d}" for n in range(runs // 5 - 3))]
    one = results(scenarios=["class"], methods=names, seeds=5)
    two = results(scenarios=["random:0.1"], methods=names[:30], seeds=3)
    frame = pd.concat([one, two], ignore_index=True)
    return study(title="A large study", frame=frame, table=for_tables(frame), details=[])


def sparse() -> Report:
    """Several densities of one model."""
    densities = ["dense", "50 % omp", "80 % omp", "95 % omp"]
    frame = results(densities=densities, scenarios=["class"])
    # a specification as long as they come must not widen a phone's page
    long = "cifar10:5556+patch:size=4,place=bottom-right,margin=2,colour=0,share=0.1,target=#0"
    return study(title="Sparsity", frame=frame.assign(data=long))


def write_page(folder: Path) -> None:
    """`report.html` of a whole study; it takes long to draw."""
    (folder / "report.html").write_text(render(study()), encoding="utf-8")
