"""What the page of one deletion shows, gathered from its models."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
from expunge.errors import ConfigError
from expunge.folders.exposure import exposure_of
from expunge.folders.pictures import told_classes
from expunge.hardware import machine_name
from expunge.names.text import clean_all, clean_name
from expunge.report.exposure_figures import exposure_pictures
from expunge.report.page import PlainTable, Report, Together, printed_time
from expunge.report.sections import Picture
from expunge.scores.joint_shown import joint_grid, joint_lines
from expunge.scores.rows import ATTACK_SIZE, FLOOR, ORIGINAL, RETRAIN, SAID, SET, SETTING
from expunge.scores.score import Score
from expunge.scores.shown import taught_by
from expunge.scores.table import own_words
from expunge.trained.record import History, Record
from expunge.trained.trained import Trained
from expunge.version import VERSION

TABLE = ("scenario", "method", "seed", "score", "value")


@dataclass(frozen=True)
class _Row:
    """A model of the page: its label, its scores, what was seen of it, how it was made."""

    label: str
    scores: Sequence[Score]
    panel: Panel
    record: Record | None = None


def deletion_report(audited: Scores, request: str | None, command: str) -> Report:
    """One request to one model: the model after, the original before, and the retrained one.

    request: as typed; empty: as the model's own record has it; None: all requests that it ever met.
    Where ids are redacted, no sample is shown, the request is called by its neutral name, and classes
    by their numbers.
    """
    made, split = audited.panel.subject, audited.panel.split
    data = made.data
    request = _request(made, request)
    texts = (
        made.told_data,
        made.told_architecture or "model",
        "as trained",
        "dense" if made.mask is None else "sparse",
        request,
    )
    setting = dict(zip(SETTING, map(clean_name, texts), strict=True))
    taught = next(filter(None, map(taught_by, audited)), None)
    rows = _rows(audited)
    frame = _frame(rows, setting).assign(scenario=request)
    return Report(
        title=f"Deletion: {request}",
        kind="deletion",
        generated=printed_time(),
        version=VERSION,
        frame=frame,
        table=frame[[name for name in (*TABLE, "bound", *SAID) if name in frame.columns]],
        details=[_detail(row, setting, data, redacted=made.redacted) for row in rows],
        configuration=yaml.safe_dump(
            {
                "method": made.record.step,
                "forgets": made.record.scope,
                "guarantee": made.record.guarantee,
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
        chain=chain_table(made.history) if _forgot(made) else None,
        warnings=[
            *made.record.warnings,
            *audited.verdict.warnings,
            *(note for note in audited.notes if note == NO_TEST_SET),
        ],
        verdict=audited.verdict,
        hint=audited.exact(_folder_name(audited)),
        proof=audited.proof(),
        together=_together(audited, hidden=made.redacted),
    )


def _request(made: Trained, typed: str | None) -> str:
    """What the page calls the request."""
    if typed is None:
        return "all requests so far"
    named = made.record.request or "a request"
    return named if made.redacted else clean_name(typed or made.record.asked or named)


def _forgot(made: Trained) -> bool:
    """Whether it ever forgot; an original is only asked what it would forget."""
    return any(one.forgotten for one in made.history)


def _together(audited: Scores, *, hidden: bool) -> Together | None:
    """What the audits of a strength say; pictures of single samples where there are never seen ones."""
    found = audited.joint
    if found is None:
        return None
    title = "Each score with what was found, by where it looks"
    headers, rows = joint_grid(found)
    says, *lines = joint_lines(found)
    lines += [f"Margins: {audited.margins}."] if audited.margins else []
    pictures = []
    with suppress(ConfigError):
        drawn = exposure_pictures(exposure_of(audited.panel, hidden=hidden))
        pictures = [Picture(f"00-{n.replace('_', '-')}", one) for n, one in drawn.items()]
    return Together(f"{says}.", PlainTable(title, headers, rows), pictures, lines)


def _folder_name(audited: Scores) -> str:
    """Of the retrained model: no path, and no name that may tell of a request whose ids are redacted."""
    reference, hidden = audited.panel.retrained, audited.panel.subject.redacted
    path = None if reference is None or hidden else reference.path
    return "the folder of the retrained model" if path is None else clean_name(path.name)


def chain_table(history: History) -> PlainTable:
    """A row for each request that was met, oldest first: what, when, how, how many, at what cost."""
    rows = [
        (
            one.request or "not recorded",
            clean_name(one.asked),
            one.date[:10],
            one.step,
            one.guarantee or "not recorded",
            f"{one.forgotten:,}",
            f"{one.cost.seconds:,.1f}",
            f"{one.cost.epoch_equivalents:.2f}",
        )
        for one in history
        if one.forgotten
    ]
    headers = ["request", "asked for", "date", "method", "guarantee", "samples forgotten"]
    headers += ["seconds", "epochs"]
    told = [place for place in range(len(headers)) if place != 1 or any(row[1] for row in rows)]
    return PlainTable(
        "Each request: when it was met, by which method, what that proves, how many samples were "
        "forgotten, and the cost",
        [headers[place] for place in told],
        [[row[place] for place in told] for row in rows],
    )


def _rows(audited: Scores) -> list[_Row]:
    """The original, the retrained model if there is one, a second one, and what the method made."""
    panel, made, reference = audited.panel, audited.panel.subject, audited.panel.retrained
    name = made.record.step
    rows = []
    before, beside = panel.beside(panel.original), panel.beside(reference)
    if not _forgot(made):
        name = ORIGINAL
        rows.append(_Row(ORIGINAL, audited.scores, panel))
    elif before is not None:
        known = scores_of_outputs(before)
        rows.append(_Row(ORIGINAL, [*known, *_beside(audited, known, ORIGINAL)], before))
    if reference is not None and beside is not None:
        own = scores_of_outputs(beside)
        if name == RETRAIN and made.record.names != reference.record.names:
            name = "retrain, audited"  # another retraining than the one that it is held against
        own = audited.scores if name == RETRAIN else [*own, *_beside(audited, own, "retrained")]
        rows.append(_Row(RETRAIN, own, beside, reference.record))
    for other in panel.others[:1]:
        floor = panel.beside(other)
        if floor is not None:
            rows.append(_Row(FLOOR, scores_of_outputs(floor), floor, other.record))
    if name not in {row.label for row in rows}:
        rows.append(_Row(name, audited.scores, panel, made.record))
    return rows


def _beside(audited: Scores, known: Sequence[Score], who: str) -> list[Score]:
    """What further audits found of another model; a ratio to the retrained model is 1 for that one."""
    names = {score.name for score in known}
    found = []
    for score in audited.scores:
        of_original = who == ORIGINAL
        value = score.detail.get("original") if of_original else score.reference
        bound = None if of_original else score.reference_bound
        if score.name not in names and value is not None and score.unit != "ratio":
            found.append(replace(score, value=float(value), low=None, high=None, bound=bound))
    return found


def _frame(rows: Sequence[_Row], setting: Mapping[str, str]) -> pd.DataFrame:
    """A row for each model and score, as a study's frame has them."""
    found: list[dict[str, Any]] = []
    for row in rows:
        record = row.record
        settings = {} if record is None else {SET + k: v for k, v in record.settings.items()}
        common = {**setting, "method": row.label, "seed": 0, **settings}
        found += [
            {
                **common,
                "score": s.name,
                "value": s.value,
                "low": s.low,
                "high": s.high,
                "n": s.n,
                "bound": s.bound,
                ATTACK_SIZE: taught_by(s),
                **own_words(s.name, s.unit, s.target),
            }
            for s in row.scores
            if s.name != "RTE"
        ]
        if record is not None:
            found.append({**common, "score": "RTE", "value": record.cost.seconds, "n": 1})
    frame = pd.DataFrame(clean_all(found))
    numbers = ["value", "low", "high"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _detail(row: _Row, setting: Mapping[str, str], data: Data, *, redacted: bool) -> dict[str, Any]:
    """What a model says of classes and of single forget samples."""
    classes = told_classes(data, redacted=redacted)
    seen = details(row.panel.outputs, classes)
    gone = row.panel.split.forgotten_classes(data)
    pictured = [
        {**one, "image": thumbnail(data.train, data.train.position[one["id"]])}
        for one in (seen["gallery"] if not redacted else [])
    ]
    return {
        **setting,
        "method": row.label,
        "seed": 0,
        **seen,
        "classes": list(classes),
        "forgotten_classes": [classes[label] for label in gone],
        "gallery": pictured,
    }
