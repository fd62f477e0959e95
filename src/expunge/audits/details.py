"""What a report draws of a model beside its scores: by class, by confidence, by sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from expunge.audits.outputs import Outputs, PartOutputs

BINS = 20
"""Equal bins of the true class's probability over [0, 1]."""
SHOWN = 8
"""Forget samples whose predictions are kept one by one."""


def details(outputs: Outputs, classes: Sequence[str]) -> dict[str, Any]:
    """Plain data for a report's figures; no input of any sample is among them.

    Returns:
        class_accuracy: test accuracy by class in percent, None without test samples. confidence:
        part -> BINS counts of the true class's probability. gallery: of the first SHOWN forget
        samples, id, label and predicted (names), probability (of the predicted class) and
        true_probability.
    """
    tests = [part for part in (outputs.test_kept, outputs.test_forgotten) if part is not None]
    parts = {
        "forget": [outputs.forget] if outputs.forget is not None else [],
        "retain": [outputs.retain] if outputs.retain is not None else [],
        "test": tests,
    }
    return {
        "class_accuracy": _class_accuracy(tests, len(classes)),
        "confidence": {name: _histogram(found) for name, found in parts.items() if found},
        "gallery": [] if outputs.forget is None else _gallery(outputs.forget, classes),
    }


def _class_accuracy(parts: Sequence[PartOutputs], classes: int) -> list[float | None]:
    counts, right = np.zeros(classes), np.zeros(classes)
    for part in parts:
        labels = part.labels.numpy()
        counts += np.bincount(labels, minlength=classes)
        right += np.bincount(labels, weights=part.correct.double().numpy(), minlength=classes)
    return [100 * float(r) / float(n) if n else None for r, n in zip(right, counts, strict=True)]


def _histogram(parts: Sequence[PartOutputs]) -> list[int]:
    values = np.concatenate([part.true_class_confidence.numpy() for part in parts])
    counts, _ = np.histogram(values.clip(0.0, 1.0), bins=BINS, range=(0.0, 1.0))
    return [int(count) for count in counts]


def _gallery(part: PartOutputs, classes: Sequence[str]) -> list[dict[str, Any]]:
    predicted = part.predicted[:SHOWN].tolist()
    likely = part.each(lambda probabilities, _: probabilities.max(dim=1).values, first=SHOWN)
    own = part.true_class_confidence[:SHOWN].tolist()
    return [
        {
            "id": part.ids[row],
            "label": classes[int(part.labels[row])],
            "predicted": classes[winner],
            "probability": float(likely[row]),
            "true_probability": own[row],
        }
        for row, winner in enumerate(predicted)
    ]
