"""Acceptance: whether one model that a qualified method made may be released in place of retraining."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import RowMapping, insert, select

from expunge.errors import RequestError
from expunge.names.digests import same_digest
from expunge.place import HERE, Place
from expunge.requests.events import canonical, sha256
from expunge.requests.gate_file import Gate, current_gate, gate_of
from expunge.requests.judging import Accepted, Measured, accept
from expunge.requests.ledger import Ledger
from expunge.requests.measuring import measured
from expunge.requests.qualifying import QualificationSubject, retrained_of, struck_count
from expunge.requests.release import file_digests
from expunge.requests.tables import gate_results, models, qualifications
from expunge.trained.card import WEIGHTS

if TYPE_CHECKING:
    from expunge.trained.trained import Trained

SAME = ("method", "settings", "recipe", "kind")
"""What a batch must have in common with its qualification, besides its data."""


@dataclass(frozen=True)
class Covered:
    """number: of the qualification that covers a batch; None with the reason why none does."""

    number: int | None
    why: str = ""


def covering(ledger: Ledger, subject: QualificationSubject) -> Covered:
    """The newest valid qualification for a batch: of the gate that holds, `equivalent`, for no fewer
    samples, and with no more struck since than the gate lets pass, those of the batch left out.
    """
    with ledger.read() as connection:
        gate = current_gate(ledger, connection)
        wanted = [qualifications.c[name] == getattr(subject, name) for name in SAME]
        wanted.append(qualifications.c.gate == gate.digest)
        chosen = select(qualifications).where(*wanted, qualifications.c.verdict.is_not(None))
        rows = connection.execute(chosen.order_by(qualifications.c.id.desc())).mappings().all()
        now = struck_count(ledger, connection)
    why = "no qualification was made for it; make one with `expunge gate run`"
    for row in rows:
        if not same_digest(subject.data_version, row["data_version"]):
            continue
        why = _unfit(row, gate, subject.size, now)
        if not why:
            return Covered(row["id"])
    return Covered(None, f"{subject.method}: {why}")


def _unfit(row: RowMapping, gate: Gate, size: int, struck_now: int) -> str:
    """Why a qualification does not cover a batch of a size, itself struck; empty where it does."""
    told = f"qualification {row['id']}"
    if row["verdict"] != "equivalent":
        return f"{told} found {row['verdict']}"
    if size > row["size"]:
        return f"{told} is for {row['size']:,} samples at most, and these are {size:,}"
    since = struck_now - row["struck_before"] - size
    if since >= gate.expires_after * row["learned"]:
        return (
            f"{told} has expired: {since:,} other samples of {row['learned']:,} were struck since, "
            f"{100 * gate.expires_after:g} % or more; make another with `expunge gate run`"
        )
    return ""


def acceptance(
    ledger: Ledger,
    number: int,
    shipped: Trained,
    original: Trained,
    *,
    batch: int | None = None,
    place: Place = HERE,
) -> Accepted:
    """Look at the model that is to be released, and at both controls; what is found is written down.

    number: of the qualification. shipped: made by its method, from the seed that was named beforehand.
    original: the model before. batch: that it was made for.
    Raises RequestError for a number that is no qualification with a verdict.
    """
    with ledger.read() as connection:
        chosen = select(qualifications, models.c.folder).join(
            models, models.c.digest == qualifications.c.model
        )
        row = connection.execute(chosen.where(qualifications.c.id == number)).mappings().first()
        if row is None or row["verdict"] is None:
            raise RequestError(f"there is no qualification {number} with a verdict")
        gate = gate_of(connection, row["gate"])
    kind = row["kind"]
    if row["verdict"] != "equivalent":
        found = Accepted("invalid", f"qualification {number} found {row['verdict']}")
    else:
        control = _control(ledger, row, gate, place)
        if isinstance(control, str):
            found = Accepted("invalid", control)
        else:
            one = measured(shipped, original, gate, kind, deep=True, place=place)
            found = accept(gate, kind, one, control, retrained_of(row))
    _written(ledger, number, batch, shipped, found)
    return found


def _control(ledger: Ledger, row: RowMapping, gate: Gate, place: Place) -> Measured | str:
    """The stored retrained model, measured again; or why that cannot be."""
    from expunge.trained.opening import load

    stored = json.loads(row["results"])["retrained"][0]
    folder = ledger.folder / "models" / stored["folder"]
    if not folder.exists() or file_digests(folder)[WEIGHTS] != stored["weights"]:
        return f"the control {folder} is not there as it was made"
    before = Path(row["folder"])
    if not before.exists() or file_digests(before)[WEIGHTS] != row["model"]:
        return f"{before}, which the qualification was made on, is not there as it was"
    control, original = load(folder, place=place), load(before, place=place)
    return measured(control, original, gate, row["kind"], deep=True, place=place)


def _written(
    ledger: Ledger, number: int, batch: int | None, shipped: Trained, found: Accepted
) -> None:
    results = canonical(found.plain())
    row = {"qualification": number, "batch": batch, "model": shipped.weights, "results": results}
    with ledger.write() as writing:
        values = {**row, "verdict": found.verdict, "at": writing.at}
        writing.connection.execute(insert(gate_results).values(**values))
        told = {**row, "verdict": found.verdict, "results": sha256(results)}
        writing.event("gate passed" if found.verdict == "equivalent" else "gate not passed", told)
