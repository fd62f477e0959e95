"""Acceptance: whether one model that a qualified method made may be released in place of retraining."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import RowMapping, insert, select

from expunge.errors import RequestError
from expunge.place import HERE, Place
from expunge.requests.events import canonical, sha256
from expunge.requests.gate_bank import bank_folder, opened_bank, same_bank
from expunge.requests.gate_file import gate_of
from expunge.requests.judging import Accepted, accept
from expunge.requests.ledger import Ledger
from expunge.requests.measuring import measured
from expunge.requests.qualifying import retrained_of
from expunge.requests.release import file_digests
from expunge.requests.tables import gate_results, models, qualifications
from expunge.requests.valid import control_of
from expunge.trained.card import WEIGHTS

if TYPE_CHECKING:
    from expunge.trained.trained import Trained


def acceptance(
    ledger: Ledger,
    number: int,
    shipped: Trained,
    original: Trained,
    *,
    batch: int | None = None,
    place: Place = HERE,
) -> Accepted:
    """Look at the model that is to be released, and at both controls, beside the bank of the model that
    was qualified on where it is valid and as it was then; what is found is written down.

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
        folder = bank_folder(connection, row["model"])
    kind = row["kind"]
    if row["verdict"] != "equivalent":
        found = Accepted("invalid", f"qualification {number} found {row['verdict']}")
    else:
        controls = _controls(ledger, row, place)
        if isinstance(controls, str):
            found = Accepted("invalid", controls)
        else:
            retrained, (control, before) = retrained_of(row), controls
            bank, why = same_bank(*opened_bank(folder, [shipped, control]), retrained)
            look = partial(measured, gate=gate, kind=kind, deep=True, bank=bank, place=place)
            one, other = look(shipped, original), look(control, before)
            found = accept(gate, kind, one, other, retrained)
            found = replace(found, shadows=one.shadows, left_out=why)
    _written(ledger, number, batch, shipped, found)
    return found


def _controls(ledger: Ledger, row: RowMapping, place: Place) -> tuple[Trained, Trained] | str:
    """The stored retrained model, which is measured again, and the model that it was made from; or why
    that cannot be.
    """
    from expunge.trained.opening import load

    folder, weights = control_of(ledger, row)
    if not folder.exists() or file_digests(folder)[WEIGHTS] != weights:
        return f"the control {folder} is not there as it was made"
    before = Path(row["folder"])
    if not before.exists() or file_digests(before)[WEIGHTS] != row["model"]:
        return f"{before}, which the qualification was made on, is not there as it was"
    return load(folder, place=place), load(before, place=place)


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
