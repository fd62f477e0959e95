"""What the page of one deletion shows, gathered from its models."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
import yaml

from expunge.audits.details import details
from expunge.audits.panel import Panel
from expunge.audits.scores import NO_TEST_SET, Scores, scores_of_outputs
from expunge.data.load import Data
from expunge.data.thumbnails import thumbnail
from expunge.folders.make import Forgotten
from expunge.hardware import machine_name
from expunge.names.text import clean_all, clean_name
from expunge.report.page import Report, printed_time
from expunge.scores.rows import SAID, SETTING
from expunge.scores.score import Score
from expunge.scores.shown import taught_by
from expunge.scores.table import own_words
from expunge.training.cost import Cost
from expunge.version import VERSION

TABLE = ("scenario", "method", "seed", "score", "value")
OF_MANY = ("class:", "poison")
"""Requests that name no single sample."""


@dataclass(frozen=True)
class _Row:
    """A model of the page: its label, its scores, what was seen of it, what it cost."""

    label: str
    scores: Sequence[Score]
    panel: Panel
    cost: Cost | None = None


def deletion_report(done: Forgotten, audited: Scores, request: str, command: str) -> Report:
    """One request to one model: the model after, the original before, and the retrained one.

    Where ids are redacted, no sample is shown, and of the request only how many it asked for, or which
    classes.
    """
    made, data, split = done.result, done.result.data, audited.panel.split
    if done.redacted and not request.startswith(OF_MANY):
        request = f"{len(split.forget):,} samples"
    request = clean_name(request)
    texts = (
        data.spec or "data",
        made.architecture or "model",
        "as trained",
        "dense" if made.mask is None else "sparse",
        request,
    )
    setting = dict(zip(SETTING, map(clean_name, texts), strict=True))
    taught = next(filter(None, map(taught_by, audited)), None)
    rows = _rows(done, audited)
    frame = _frame(rows, setting).assign(scenario=request)
    return Report(
        title=f"Deletion: {request}",
        kind="deletion",
        generated=printed_time(),
        version=VERSION,
        frame=frame,
        table=frame[[name for name in (*TABLE, "bound", *SAID) if name in frame.columns]],
        details=[_detail(row, setting, data, pictures=not done.redacted) for row in rows],
        configuration=yaml.safe_dump(
            {
                "method": made.record.step,
                "settings": made.record.settings,
                "forgotten": len(split.forget),
                "retained": len(split.retain),
                **({"m of MIA": taught} if taught else {}),
            },
            sort_keys=False,
        ),
        environment={
            "expunge": VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": machine_name(made.record.cost.device),
        },
        command=command,
        warnings=[
            *made.record.warnings,
            *(note for note in audited.notes if note == NO_TEST_SET),
        ],
    )


def _rows(done: Forgotten, audited: Scores) -> list[_Row]:
    """The original, the retrained model if there is one, and what the method made."""
    panel, name, reference = audited.panel, done.result.record.step, done.reference
    rows = []
    before, beside = panel.beside(panel.original), panel.beside(panel.retrained)
    if before is not None:
        known = scores_of_outputs(before)
        rows.append(_Row("original", [*known, *_beside(audited, known, "original")], before))
    if reference is not None and beside is not None:
        cost = reference.record.cost
        own = scores_of_outputs(beside)
        own = audited.scores if name == "retrain" else [*own, *_beside(audited, own, "retrained")]
        rows.append(_Row("retrain", own, beside, cost))
    if name != "retrain" or reference is None:
        rows.append(_Row(name, audited.scores, panel, done.result.record.cost))
    return rows


def _beside(audited: Scores, known: Sequence[Score], who: str) -> list[Score]:
    """What further audits found of another model; a ratio to the retrained model is 1 for that one."""
    names = {score.name for score in known}
    found = []
    for score in audited.scores:
        of_original = who == "original"
        value = score.detail.get("original") if of_original else score.reference
        bound = None if of_original else score.reference_bound
        if score.name not in names and value is not None and score.unit != "ratio":
            found.append(replace(score, value=float(value), low=None, high=None, bound=bound))
    return found


def _frame(rows: Sequence[_Row], setting: Mapping[str, str]) -> pd.DataFrame:
    """A row for each model and score, as a study's frame has them."""
    found: list[dict[str, Any]] = []
    for row in rows:
        common = {**setting, "method": row.label, "seed": 0}
        found += [
            {
                **common,
                "score": s.name,
                "value": s.value,
                "low": s.low,
                "high": s.high,
                "n": s.n,
                "bound": s.bound,
                **own_words(s.name, s.unit, s.target),
            }
            for s in row.scores
            if s.name != "RTE"
        ]
        if row.cost is not None:
            found.append({**common, "score": "RTE", "value": row.cost.seconds, "n": 1})
    frame = pd.DataFrame(clean_all(found))
    numbers = ["value", "low", "high"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _detail(row: _Row, setting: Mapping[str, str], data: Data, *, pictures: bool) -> dict[str, Any]:
    """What a model says of classes and of single forget samples."""
    seen = details(row.panel.outputs, data.classes)
    gone = row.panel.split.forgotten_classes(data)
    pictured = [
        {**one, "image": thumbnail(data.train, data.train.position[one["id"]])}
        for one in (seen["gallery"] if pictures else [])
    ]
    return {
        **setting,
        "method": row.label,
        "seed": 0,
        **seen,
        "classes": list(data.classes),
        "forgotten_classes": [data.classes[label] for label in gone],
        "gallery": pictured,
    }
