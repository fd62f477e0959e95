"""One study, dense against sparse: the shipped sparsity-class at its scale `one-cycle`, cut down.

It runs by the command line, as everybody's studies do, and is ended when its time is over: what it had
finished by then is on the disk, and counted here.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.place import Place
from expunge.study.catalogue import study_file
from expunge.study.entries import Entry
from expunge.study.file import read_study
from expunge.study.launch import Planned, planned
from expunge.study.schema import Study
from expunge.study.store import KILLED
from gpu.child import Asked, Tell, cut
from gpu.parts import FailedError, LeftOutError

FILE = study_file("sparsity-class")
SCALE = "one-cycle"
EPOCHS = 3
SCORES = ("UA", "RA", "TA", "MIA")
MOST_WORKERS = 6
LAST = 3.0
"""Seconds kept back for counting what is there."""


def run(asked: Asked, tell: Tell) -> None:
    """Run the study within the time, and tell how far it came."""
    folder = asked.cifar10()
    if folder is None and not asked.tiny:
        raise LeftOutError(
            "there are no data: name the folder that holds cifar10/ by --data-dir or EXPUNGE_DATA"
        )
    study, changes = cut_down(read_study(FILE, scale=SCALE), tiny=asked.tiny)
    # attacks are computed on the processor, and take most of the time of a short study
    workers = 1 if asked.tiny else max(2, min(MOST_WORKERS, (os.cpu_count() or 2) // 2))
    tell({"study": f"{FILE.name}, scale {SCALE}", "cut": changes, "workers": workers})
    with tempfile.TemporaryDirectory(prefix="gpu-check-study-") as temporary:
        file, out, output = (Path(temporary) / name for name in ("study.yaml", "out", "output"))
        file.write_text(study.to_yaml(), encoding="utf-8")
        line = command(file, out, asked, workers)
        tell({"command": " ".join(line[1:])})
        with output.open("wb") as stream:
            code = cut(
                line,
                asked.left() - LAST,
                stream,
                alone=False,
                env={**os.environ, "COLUMNS": "120"},
            )
        text = output.read_text(encoding="utf-8", errors="replace")
        figures = {"cells_finished": 0}
        if (out / "data.json").exists():
            place = Place(data_dir=asked.data_dir)
            seen = planned(study, out, place=place, recorded=True)
            figures = told(seen, cut_short=code is None)
        tell(figures)
    judge(figures, code, text)


def cut_down(study: Study, *, tiny: bool) -> tuple[Study, dict[str, str]]:
    """The study in a size that fits, and what was cut of it, in words.

    tiny: on digits with a small network, to try the machinery alone.
    """
    (name, recipe), *_ = study.recipes.items()
    methods = {
        "finetune": Entry(method="finetune", settings={"epochs": 1}),
        # after so few epochs its own settings blow the sparse model up
        "gradient_ascent": Entry(method="gradient_ascent", settings={"epochs": 1, "lr": 1e-5}),
    }
    changes: dict[str, Any] = {
        "recipes": {name: recipe.but(epochs=EPOCHS)},
        "methods": methods,
        "seeds": study.seeds[:1],
        "floor": False,
        "class_also": (),
        "tuning": None,
        "claims": (),
        "published": (),
    }
    words = {
        "epochs": f"{EPOCHS} of {recipe.epochs}",
        "methods": f"{', '.join(methods)} of {', '.join(study.methods)}; for 1 epoch",
        "seeds": f"1 of {len(study.seeds)}",
        "rest": "no second retraining, no relearning, no linear probe, no tuning, no claims",
    }
    if tiny:
        small = recipe.but(epochs=2, batch_size=64)
        changes |= {"data": ("digits:300",), "models": ("cnn",), "recipes": {name: small}}
        words |= {"epochs": f"2 of {recipe.epochs}", "data": "digits:300", "models": "cnn"}
    kept = {field: getattr(study, field) for field in type(study).model_fields}
    return Study(**{**kept, **changes}), words


def command(file: Path, out: Path, asked: Asked, workers: int) -> list[str]:
    """The study's command line."""
    where = ["--data-dir", asked.data_dir] if asked.data_dir else []
    return [
        sys.executable,
        "-m",
        "expunge",
        "study",
        "run",
        str(file),
        "--out",
        str(out),
        "--workers",
        str(workers),
        "--device",
        asked.device,
        *where,
    ]


def told(study: Planned, *, cut_short: bool = False) -> dict[str, Any]:
    """How many cells are finished, what each took and scored, and why others failed.

    cut_short: the study was ended from outside. Cells that somebody was at then look as if they had
    killed their process, and are no failures.
    """
    counts = study.counts()
    density = {cell.key: cell.config["density"] for cell in study.cells if cell.kind == "original"}
    failures = {
        f"{cell.label} at {density[(*cell.needs, cell.key)[0]] or 'full density'}": failure.message
        for cell in study.cells
        if (failure := study.store.failure(cell.key)) is not None
        and not (cut_short and failure.error == KILLED)
    }
    rows = [
        cell_row(cell.label, density[(*cell.needs, cell.key)[0]], study.store.read(cell.key))
        for cell in study.cells
        if study.store.done(cell.key)
    ]
    return {
        "cells_finished": counts.done,
        "cells_in_all": counts.total,
        "cells_failed": len(failures),
        **({"failures": failures} if failures else {}),
        **({"cells": rows} if rows else {}),
    }


def cell_row(label: str, density: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """One finished cell. density: of its original. inside: seconds of the training or method alone."""
    scores = {score["name"]: score["value"] for score in content["scores"]}
    return {
        "cell": label,
        "sparsity": density.get("sparsity", 0.0),
        "seconds": content["seconds"],
        "inside": content["cost"]["seconds"],
        "peak_memory_mib": content["cost"]["peak_memory_bytes"] / 2**20,
        "device": content["cost"]["device"],
        "precision": content["log"].get("precision", ""),
        **{name: scores[name] for name in SCORES if name in scores},
    }


def judge(figures: Mapping[str, Any], code: int | None, text: str) -> None:
    """Raise unless all cells were finished."""
    if figures.get("cells_failed"):
        lines = [f"{label}: {why}" for label, why in figures["failures"].items()]
        raise FailedError("\n".join(["cells failed", *lines]))
    if code is None:
        raise LeftOutError(
            f"time: {figures['cells_finished']} of {figures.get('cells_in_all', '?')} cells were "
            "finished when it was over; they are among the figures"
        )
    if code != 0:
        end = "\n".join(text.strip().splitlines()[-15:])
        raise FailedError(f"the study ended with exit code {code}\n\n{end}")
