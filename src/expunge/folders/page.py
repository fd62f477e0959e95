"""What the page of one deletion shows, gathered from its models."""

from __future__ import annotations

import platform

import pandas as pd
import torch
import yaml

from expunge.api import audit_outputs
from expunge.audits.details import details
from expunge.audits.outputs import Outputs
from expunge.data.thumbnails import thumbnail
from expunge.folders.audit import AuditReport
from expunge.folders.make import Forgotten
from expunge.hardware import machine_name
from expunge.report.page import Report, now
from expunge.scores.rows import SETTING
from expunge.scores.score import Score
from expunge.training.cost import Cost
from expunge.version import VERSION


def deletion_report(
    done: Forgotten, audited: AuditReport, request: str, command: str, *, pictures: bool = True
) -> Report:
    """One request to one model: the model after, the original before, and the retrained one.

    pictures: show some of the forgotten samples.
    """
    panel, name, data = audited.panel, done.result.record.step, done.data
    reference = done.reference
    models: list[tuple[str, Outputs, Cost | None]] = [
        ("original", panel.original_outputs, None),  # type: ignore[list-item]
    ]
    if reference is not None and panel.retrained_outputs is not None:
        models.append(("retrain", panel.retrained_outputs, reference.record.cost))
    if name != "retrain" or reference is None:
        models.append((name, panel.outputs, done.result.record.cost))
    rows, shown = [], []
    forgotten = [data.classes[c] for c in panel.split.forgotten_classes(data)]
    card = done.loaded.card
    setting = dict(
        zip(
            SETTING,
            (
                card.data.spec or "data",
                card.architecture or "model",
                "as trained",
                "dense" if done.loaded.mask is None else "sparse",
                request,
            ),
            strict=True,
        )
    )
    for label, outputs, cost in models:
        common = {**setting, "method": label, "seed": 0}
        scores: list[Score] = list(audited.scores) if label == name else audit_outputs(outputs)
        rows += [
            {**common, "score": s.name, "value": s.value, "low": s.low, "high": s.high, "n": s.n}
            for s in scores
            if s.name != "RTE"
        ]
        if cost is not None:
            rows.append({**common, "score": "RTE", "value": cost.seconds, "n": 1})
        seen = details(outputs, data.classes)
        pictured = [
            {**one, "image": thumbnail(data.train, data.train.position[one["id"]])}
            for one in (seen["gallery"] if pictures else [])
        ]
        shown.append(
            {
                **common,
                **seen,
                "classes": list(data.classes),
                "forgotten_classes": forgotten,
                "gallery": pictured,
            }
        )
    frame = pd.DataFrame(rows).assign(scenario=request)
    numbers = ["value", "low", "high"]
    frame[numbers] = frame[numbers].astype(float)
    return Report(
        title=f"Deletion: {request}",
        kind="deletion",
        generated=now(),
        version=VERSION,
        frame=frame,
        table=frame[["scenario", "method", "seed", "score", "value"]],
        details=shown,
        configuration=yaml.safe_dump(
            {
                "method": name,
                "settings": done.result.record.settings,
                "forgotten": len(panel.split.forget),
                "retained": len(panel.split.retain),
            },
            sort_keys=False,
        ),
        environment={
            "expunge": VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": machine_name(done.result.record.cost.device),
        },
        command=command,
        warnings=list(done.result.record.warnings),
    )
