"""What the certificate of a batch tells, collected from the ledger and the model that was released."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError
from sqlalchemy import Connection, RowMapping, func, select

from expunge.data.spec import DataSpec
from expunge.errors import CertificateError
from expunge.names.text import clean_name
from expunge.place import HERE, Place
from expunge.requests.batches import RETRAIN, batch_row, requests_of
from expunge.requests.clocks import LawClocks
from expunge.requests.copy_facts import copy_facts
from expunge.requests.events import canonical, head, sha256
from expunge.requests.facts import (
    COPIES,
    UNKNOWN,
    ChainHead,
    Copied,
    CopyPlace,
    Fallback,
    ForgettingFacts,
    ForgottenData,
    GateControl,
    GateOutcome,
    GateResult,
    ModelPair,
    Performer,
    Procedure,
    Timeline,
)
from expunge.requests.gate_facts import gate_facts
from expunge.requests.keeping import moved_models, note_copies, noted_copies
from expunge.requests.ledger import Ledger, stamp
from expunge.requests.nonces import ListedItem, asked_count, listed_items, tree_of
from expunge.requests.release import entered_digests, file_digests
from expunge.requests.sanity import MOST_LOST_POINTS
from expunge.requests.statement import check_no_id, first_mistake, make_statement, performer_of
from expunge.requests.tables import events, models, requests, struck

if TYPE_CHECKING:
    from expunge.trained.trained import Trained

GATE = {"check": "sanity check", "struck samples left": 0, "points lost": MOST_LOST_POINTS}
LEFT = "struck samples that the model learned or was validated on"
LEARNED = "struck samples that the model learned"
MOVED = "where it is not any more: if it was moved, it is still there"
SCORES = {"TA": "right on test samples (TA)", "RA": "right on samples that stay (RA)"}


@dataclass(frozen=True)
class Collected:
    """digests: file of the model -> SHA-256. facts: what is told of it."""

    digests: dict[str, str]
    facts: ForgettingFacts

    def text(self) -> str:
        """As a step of a batch keeps it."""
        return canonical({"digests": self.digests, "facts": self.facts.model_dump(mode="json")})

    @classmethod
    def of(cls, text: str) -> Collected:
        """What `text` wrote."""
        told = json.loads(text)
        facts = ForgettingFacts.model_validate_json(canonical(told["facts"]))
        return cls(told["digests"], facts)


def collect(ledger: Ledger, batch: int, *, place: Place = HERE) -> Collected:
    """All that the certificate of a released batch tells.

    Raises CertificateError where two facts do not agree, or one names an id or a person.
    """
    from expunge.trained.opening import load

    with ledger.read() as connection:
        row = batch_row(connection, batch)
        known = select(models.c.folder).where(models.c.digest == row["model_after"])
        folder = Path(connection.scalar(known) or "")
        entered = entered_digests(connection, row["model_after"])
        released_at = event_at(connection, "batch released", {"batch": batch})
    with ledger.write() as writing:
        note_copies(ledger, writing, batch, released_at)
    digests = file_digests(folder)
    if digests != entered:
        raise CertificateError(
            f"the model's files in {folder} are not those that were released; bring the folder back "
            "from a backup, or see who changed it"
        )
    model = load(folder, place=place)
    try:
        with ledger.read() as connection:
            facts = _facts(ledger, connection, row, model)
    except ValidationError as error:
        raise CertificateError(
            f"no certificate can tell of batch {batch}: {first_mistake(error)}; see with `expunge "
            "ledger verify` whether the ledger was changed"
        ) from None
    ids = [*model.data.train.ids.tolist(), *model.data.test.ids.tolist()]
    check_no_id(make_statement(digests, facts), ids)
    return Collected(digests, facts)


def _facts(
    ledger: Ledger, connection: Connection, row: RowMapping, model: Trained
) -> ForgettingFacts:
    listed, last = listed_items(connection, row["id"]), head(connection)
    return ForgettingFacts(
        performer=_performer(ledger, connection),
        models=ModelPair(before=row["model_before"], after=row["model_after"]),
        procedure=_procedure(row, model),
        data=_data(ledger, connection, row["id"], listed, model),
        duplicates=copy_facts(ledger, connection, row["id"], model),
        gate=_gate(connection, row),
        fallback=_fallback(row),
        samples_read=dict(model.record.cost.reads) if _changed(row) else {},
        places=_places(ledger, connection, row["id"]),
        timeline=_timeline(ledger, connection, row, model),
        chain=ChainHead(seq=last.seq, hash=last.hash),
    )


def _changed(row: RowMapping) -> bool:
    """Whether a model was made: else that which was live had learned nothing of it."""
    return bool(row["model_before"] != row["model_after"])


def _performer(ledger: Ledger, connection: Connection) -> Performer:
    organisation, role = (
        clean_name(ledger.setting_in(connection, name)) or "not named"
        for name in ("organisation", "role")
    )
    return performer_of(organisation, role)


def _procedure(row: RowMapping, model: Trained) -> Procedure:
    import torch

    record = model.record
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    if not _changed(row):
        return Procedure(
            kind="none", method="none", settings={}, version=record.version, environment=versions
        )
    recipe = {} if model.recipe is None else {"recipe": model.recipe.model_dump(mode="json")}
    return Procedure(
        kind="retraining" if record.step == RETRAIN else "approximate",
        method=record.step,
        settings={**recipe, **json.loads(json.dumps(record.settings))},
        version=record.version,
        environment={**versions, "device": record.cost.device},
    )


def _data(
    ledger: Ledger,
    connection: Connection,
    batch: int,
    listed: Sequence[ListedItem],
    model: Trained,
) -> ForgottenData:
    hmacs = {one.id_hmac for one in listed}
    there = {ledger.key.hmac(one) for one in model.data.train.ids.tolist()}
    spec = model.data.spec
    name = "of your own" if spec is None else Path(DataSpec.parse(spec).base).name
    return ForgottenData(
        name=clean_name(name),
        fingerprint=model.data.train.fingerprint,
        requests=len(requests_of(connection, batch)),
        asked=asked_count(connection, batch),
        found=len(hmacs & there),
        retained=len(model.split.retain),
        root=tree_of(listed).root.hex(),
        size=len(listed),
    )


def _gate(connection: Connection, row: RowMapping) -> GateOutcome:
    results, controls = [], []
    told: dict[str, Any] = json.loads(row["verdict"])
    if not _changed(row):
        results.append(_result(LEARNED, 0, 0, "samples"))
    else:
        results.append(_result(LEFT, told["left"], 0, "samples"))
        lowest = told["before"] - told["limit"]
        results.append(_result(SCORES[told["score"]], told["after"], lowest, "percent"))
        before = f"the model before it, of which {told['left_before']:,} samples were struck"
        controls.append(GateControl(name=before, must_pass=False, passed=told["left_before"] == 0))
    sanity = GateOutcome(
        digest=sha256(canonical(GATE)),
        fixed_at=row["frozen_at"],
        verdict="sanity check passed",
        results=tuple(results),
        controls=tuple(controls),
    )
    return gate_facts(connection, told["gate"], sanity) if "gate" in told else sanity


def _fallback(row: RowMapping) -> Fallback | None:
    if row["fallback"] is None:
        return None
    told = json.loads(row["fallback"])
    return Fallback(method=row["method"], verdict=told["verdict"], at=told["at"])


def _result(score: str, value: float, limit: float, unit: str) -> GateResult:
    check: Literal["sanity check"] = "sanity check"
    return GateResult(score=score, check=check, value=value, limit=limit, unit=unit, passed=True)


def _places(ledger: Ledger, connection: Connection, batch: int) -> tuple[CopyPlace, ...]:
    """Where what learned from the records is, by names that hold no home folder, and until when."""
    found = [
        CopyPlace(what=one.what, where=_where(ledger, one.folder), until=one.until)
        for one in noted_copies(ledger, connection, batch)
    ]
    found += [
        CopyPlace(what="old weights", where=f"{_where(ledger, one)}, {MOVED}")
        for one in moved_models(connection)
    ]
    there = {one.what for one in found}
    nowhere: dict[Copied, str] = {
        "old weights": "none",
        "backups": UNKNOWN,
        "bank": "none",
        "derived models": UNKNOWN,
    }
    found += [
        CopyPlace(what=what, where=said) for what, said in nowhere.items() if what not in there
    ]
    return tuple(sorted(found, key=lambda one: COPIES.index(one.what)))


def _where(ledger: Ledger, folder: Path) -> str:
    """A folder, as seen from that in which the ledger's lies; of one elsewhere its name alone."""
    above = ledger.folder.absolute().parent
    inside = folder.is_relative_to(above)
    return clean_name(folder.relative_to(above).as_posix() if inside else folder.name)


def _timeline(ledger: Ledger, connection: Connection, row: RowMapping, model: Trained) -> Timeline:
    numbers = requests_of(connection, row["id"])
    asked = connection.execute(select(requests).where(requests.c.id.in_(numbers))).mappings().all()
    received = sorted(one["received_at"] for one in asked)
    done = event_at(connection, "batch released", {"batch": row["id"]})
    made = stamp(datetime.fromisoformat(model.record.date).astimezone(UTC))
    last = select(func.max(struck.c.since)).where(struck.c.request.in_(numbers))
    first = min(asked, key=lambda one: one["due_at"])
    return Timeline(
        laws=tuple(sorted({one["law"] or "a date that was given" for one in asked})),
        received_first=received[0],
        received_last=received[-1],
        due=LawClocks.of(ledger).day(first["due_at"], first["law"]),
        extended=any(one["extended_reason"] for one in asked),
        struck_at=connection.scalar(last) or row["created_at"],
        forgotten_at=made if _changed(row) else done,
        released_at=done,
    )


def event_at(connection: Connection, kind: str, payload: dict[str, Any]) -> str:
    """When something was told for the first time."""
    told = select(func.min(events.c.at)).where(
        events.c.kind == kind, events.c.payload == canonical(payload)
    )
    return connection.scalar(told) or ""
