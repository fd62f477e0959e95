"""What the pictures of one forgetting run show, computed from its models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from expunge.audits.observe import observe_test
from expunge.audits.weights import floor_in, layer_distances
from expunge.data.load import Data
from expunge.data.split import Split
from expunge.folders.make import Forgotten
from expunge.names.text import clean_name
from expunge.report.forgetting import forgetting_figures
from expunge.trained.record import pairing
from expunge.training.run import Run, accelerator_on


def told_classes(data: Data, *, redacted: bool) -> tuple[str, ...]:
    """Names of classes, or their numbers where they may name somebody."""
    return tuple(f"#{c}" for c in range(len(data.classes))) if redacted else data.classes


def draw_forgotten(
    done: Forgotten, out: Path, *, device: str | None = None, overwrite: bool = False
) -> list[Path]:
    """Draw what `unlearn_folder` changed: accuracy by class, weights by layer, noise if there is any.

    One process of several draws. Returns the paths written. The models are left as they were.
    """
    made, data = done.result, done.result.data
    run = Run(accelerator=accelerator_on(device), task=data.task)
    if run.rank != 0:
        run.accelerator.wait_for_everyone()
        return []
    models = {"before": done.original.model, "after": made.model}
    paired = floor = None
    if done.reference is not None:
        models["retrained"] = done.reference.model
        paired = pairing(done.original.history, done.reference.history)
        floor = floor_in(done.reference.record)
    classes = told_classes(data, redacted=done.redacted)
    noise, shown = made.artifacts.get("noise"), made.artifacts.get("noise_classes")
    paths = forgetting_figures(
        out,
        accuracy=accuracy_by_class(models, data, made.split, run, redacted=done.redacted),
        distance=distance_by_layer(made.model, done.original.model, models.get("retrained"), floor),
        noise=None if noise is None else noise.numpy(),
        noise_names=[] if shown is None else [classes[int(c)] for c in shown],
        paired=paired,
        overwrite=overwrite,
    )
    run.accelerator.wait_for_everyone()
    return paths


def accuracy_by_class(
    models: Mapping[str, nn.Module],
    data: Data,
    split: Split,
    run: Run,
    *,
    redacted: bool = False,
) -> pd.DataFrame:
    """One row per class: name, whether it is forgotten whole, test accuracy of each model in percent.

    nan for a class without test samples.
    """
    gone = set(split.forgotten_classes(data))
    frame = pd.DataFrame(
        {
            "class": [clean_name(name) for name in told_classes(data, redacted=redacted)],
            "forgotten": [c in gone for c in range(len(data.classes))],
        }
    )
    for name, model in models.items():
        seen = observe_test(model, data, run)
        right, labels = seen.correct.double().numpy(), seen.labels.numpy()
        counts = np.bincount(labels, minlength=len(data.classes)).astype(float)
        sums = np.bincount(labels, weights=right, minlength=len(data.classes)).astype(float)
        frame[name] = 100 * np.divide(
            sums, counts, out=np.full_like(sums, np.nan), where=counts > 0
        )
    return frame


def distance_by_layer(
    model: nn.Module,
    original: nn.Module,
    retrained: nn.Module | None,
    floor: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """One row per layer: relative distance of its parameters from the original's and retrained's.

    floor: beside a paired one, as `floor_in` has it; nan for a layer that it does not name.
    """
    columns = {"from_original": layer_distances(model, original)}
    if retrained is not None:
        columns["from_retrained"] = layer_distances(model, retrained)
    layers = [name for name in columns["from_original"] if name]
    frame = pd.DataFrame(
        {name: [found[layer].relative for layer in layers] for name, found in columns.items()}
    )
    frame.insert(0, "layer", layers)
    if floor is not None:
        known = {name: one["relative"] for name, one in floor["layers"].items()}
        frame["floor"] = [known.get(layer, np.nan) for layer in layers]
    return frame
