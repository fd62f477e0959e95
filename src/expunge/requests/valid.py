"""Which qualification covers a batch, and of one that does not, what it lacks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, RowMapping, or_, select

from expunge.names.digests import same_digest
from expunge.requests.gate_file import CURRENT, Gate, current_gate
from expunge.requests.ledger import Ledger
from expunge.requests.qualifying import (
    CONTROL,
    QualificationSubject,
    control_folder,
    struck_count,
)
from expunge.requests.tables import models, qualifications, steps

MAKE = "make another with `expunge gate run`"
SAME = {
    "method": "another method",
    "settings": "other settings",
    "recipe": "another recipe or architecture",
    "data_version": "another version of the data",
}
"""What a batch must have in common with its qualification -> what is said where it has not."""
LAST = len(SAME) + 5
"""Conditions that come before the size."""


@dataclass(frozen=True)
class Covered:
    """number: of the qualification that covers a batch; None with the reason why none does. largest:
    samples of a batch that one would cover which lacks nothing else; 0 where there is none.
    """

    number: int | None
    why: str = ""
    largest: int = 0


def covering(ledger: Ledger, subject: QualificationSubject) -> Covered:
    """The newest valid qualification for a batch; else why the one that comes nearest is not valid."""
    with ledger.read() as connection:
        gate = current_gate(ledger, connection)
        now = struck_count(ledger, connection)
        rows = _with_verdict(connection)
    lacks = [(row, _lacks(ledger, row, gate, subject, now)) for row in rows]
    most = max((met for _, (met, _) in lacks), default=0)
    largest = max((row["size"] for row, (met, _) in lacks if met >= LAST), default=0)
    for row, (_, why) in lacks:
        if not why:
            return Covered(row["id"], largest=largest)
    if not any(row["method"] == subject.method for row in rows):
        return Covered(
            None,
            f"{subject.method}: no qualification was made of it; make one with `expunge gate run`",
        )
    why = next(why for _, (met, why) in lacks if met == most)
    return Covered(None, f"{subject.method}: {why}", largest)


def _with_verdict(connection: Connection) -> list[RowMapping]:
    """Every qualification that was decided, with the folder of its model, the newest first."""
    joined = select(qualifications, models.c.folder).join(
        models, models.c.digest == qualifications.c.model
    )
    chosen = joined.where(qualifications.c.verdict.is_not(None))
    return list(connection.execute(chosen.order_by(qualifications.c.id.desc())).mappings())


def _lacks(
    ledger: Ledger, row: RowMapping, gate: Gate, subject: QualificationSubject, now: int
) -> tuple[int, str]:
    """How many conditions a qualification meets before the first that it does not, and that one; ""
    where it meets all. now: samples that are struck, those of the batch too.
    """
    told, given = f"qualification {row['id']}", vars(subject)
    unlike = [
        (not same_digest(given[name], row[name]), f"{told} is of {what}")
        if name == "data_version"
        else (row[name] != given[name], f"{told} is of {what}")
        for name, what in SAME.items()
    ]
    kinds = {"class": "whole classes", "random": "samples here and there"}
    since = now - row["struck_before"] - subject.size
    conditions = [
        *((wrong, f"{why}; {MAKE}") for wrong, why in unlike),
        (
            row["kind"] != subject.kind,
            f"{told} is for {kinds[row['kind']]}, and this is for {kinds[subject.kind]}; {MAKE}",
        ),
        (row["gate"] != gate.digest, f"{told} is by another gate than the one that holds; {MAKE}"),
        (row["verdict"] != "equivalent", f"{told} found {row['verdict']}"),
        (
            _expired(row, gate, since),
            f"{told} has expired: {since:,} other samples of {row['learned']:,} were struck since, "
            f"{100 * gate.expires_after:g} % or more; {MAKE}",
        ),
        (_gone(ledger, row), f"what {told} compares with was deleted; {MAKE}"),
        (  # the last one
            subject.size > row["size"],
            f"{told} is for {row['size']:,} samples at most, and these are {subject.size:,}",
        ),
    ]
    return next(
        ((met, why) for met, (wrong, why) in enumerate(conditions) if wrong), (len(conditions), "")
    )


def _expired(row: RowMapping, gate: Gate, since: int) -> bool:
    return bool(since >= gate.expires_after * row["learned"])


def _gone(ledger: Ledger, row: RowMapping) -> bool:
    """Whether the control, or the model that was qualified, is no longer there."""
    return not (control_of(ledger, row)[0].is_dir() and Path(row["folder"]).is_dir())


def control_of(ledger: Ledger, row: RowMapping) -> tuple[Path, str]:
    """Where the stored retrained model of a qualification lies, and the digest of its weights."""
    stored = json.loads(row["results"])["retrained"][0]
    return ledger.folder / "models" / stored["folder"], stored["weights"]


def compared_folders(ledger: Ledger, connection: Connection) -> list[tuple[int, Path]]:
    """Folders that qualifications compare with which are valid, or are being made, and the number of
    such a qualification.
    """
    if not ledger.setting_in(connection, CURRENT):
        return []
    gate, now = current_gate(ledger, connection), struck_count(ledger, connection)
    joined = select(qualifications, models.c.folder, steps.c.input_digest).join(
        models, models.c.digest == qualifications.c.model
    )
    control = (steps.c.qualification == qualifications.c.id) & (steps.c.name == CONTROL)
    chosen = joined.outerjoin(steps, control).where(qualifications.c.gate == gate.digest)
    useful = or_(qualifications.c.verdict.is_(None), qualifications.c.verdict == "equivalent")
    found = []
    for row in connection.execute(chosen.where(useful)).mappings():
        if not _expired(row, gate, now - row["struck_before"]):
            found.append((row["id"], Path(row["folder"])))
            if row["input_digest"] is not None:
                found.append((row["id"], control_folder(ledger, row["input_digest"])))
    return found


def qualified_methods(connection: Connection) -> list[tuple[str, str]]:
    """Methods with their settings of which a qualification was decided, the newest first."""
    rows = _with_verdict(connection)
    return list(dict.fromkeys((row["method"], row["settings"]) for row in rows))
