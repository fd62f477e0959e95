"""What a caller may see of a ledger, as plain data: no id of a sample, for a ledger has none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, not_, select

from expunge.disk.reading import read_bytes, reading
from expunge.errors import RequestError
from expunge.requests.certifying import certificate_row, files_of
from expunge.requests.clocks import LawClocks
from expunge.requests.dsse import ENVELOPE_BYTES
from expunge.requests.duplicates import WAITS
from expunge.requests.ledger import Ledger
from expunge.requests.overview import batches_of, events_about
from expunge.requests.server.tokens import Caller
from expunge.requests.tables import (
    batch_requests,
    batches,
    certificates,
    request_items,
    requests,
)

SeenFacts = dict[str, Any]


def own_key(name: str, key: str = "") -> str:
    """What a request's key begins with if it came by the token of that name, then the sender's own key.

    So the key of one sender never names the request of another.
    """
    return f"server/{name}/{key}"


def requests_for(
    connection: Connection, caller: Caller, clocks: LawClocks, *, after: int = 0, limit: int = 100
) -> list[SeenFacts]:
    """The requests that a caller may see, by number, from the one after `after` on. clocks: by which
    dates are told, here and below.
    """
    found = _visible(caller).where(requests.c.id > after).order_by(requests.c.id).limit(limit)
    return [_facts(row, caller, clocks) for row in connection.execute(found).mappings().all()]


def most_urgent(
    connection: Connection, caller: Caller, clocks: LawClocks, limit: int
) -> tuple[list[SeenFacts], int]:
    """The requests that a caller may see, what waits first, by its due date; and how many there are."""
    found = _visible(caller).order_by(not_(WAITS), requests.c.due_at, requests.c.id).limit(limit)
    total = select(func.count()).select_from(_visible(caller).subquery())
    rows = connection.execute(found).mappings().all()
    return [_facts(row, caller, clocks) for row in rows], connection.scalar(total) or 0


def request_for(
    connection: Connection, caller: Caller, clocks: LawClocks, number: int
) -> SeenFacts | None:
    """One request; None where there is none that the caller may see."""
    found = _visible(caller).where(requests.c.id == number)
    row = connection.execute(found).mappings().first()
    return None if row is None else _facts(row, caller, clocks)


def _visible(caller: Caller) -> Select[Any]:
    counted = select(request_items.c.request, func.count().label("samples")).group_by(
        request_items.c.request
    )
    samples = counted.subquery()
    found = select(requests, samples.c.samples, WAITS.label("waits")).outerjoin(
        samples, samples.c.request == requests.c.id
    )
    if caller.may("see"):
        return found
    own = own_key(caller.name)  # LIKE would not tell small letters from capitals
    return found.where(func.substr(requests.c.idempotency_key, 1, len(own)) == own)


def _facts(row: RowMapping, caller: Caller, clocks: LawClocks) -> SeenFacts:
    """Of a sender's own request no more than what was sent, and what became of it."""
    names = ("state", "source", "law", "received_at", "confirm_by", "due_at", "reason")
    law, by = row["law"], row["confirm_by"]
    days = clocks.days_left(row["due_at"], law, datetime.now(UTC)) if row["waits"] else None
    told = {"request": row["id"], **{name: row[name] for name in names}}
    told |= {"samples": row["samples"] or 0, "days_left": days}
    told |= {"due": clocks.told(row["due_at"], law), "zone": str(clocks.zone(law))}
    told["confirm"] = None if by is None else clocks.told(by, law)
    if caller.may("see"):
        told |= {name: row[name] for name in ("held", "extended_reason", "duplicate_of")}
    return told


def batch_facts(connection: Connection) -> list[SeenFacts]:
    """All batches, the last one first, with their requests, and when a certificate was issued."""
    issued = select(batches, certificates.c.issued_at, certificates.c.revoked_at).outerjoin(
        certificates, certificates.c.batch == batches.c.id
    )
    members: dict[int, list[int]] = {}
    for batch, number in connection.execute(
        select(batch_requests.c.batch, batch_requests.c.request).order_by(batch_requests.c.request)
    ):
        members.setdefault(batch, []).append(number)
    names = ("state", "method", "created_at", "frozen_at", "issued_at", "revoked_at")
    return [
        {"batch": row["id"], "requests": members.get(row["id"], [])}
        | {name: row[name] for name in names}
        for row in connection.execute(issued.order_by(batches.c.id.desc())).mappings()
    ]


def certified_in(connection: Connection) -> dict[int, int]:
    """Request -> the last of its batches that has a certificate."""
    found = select(batch_requests).join(
        certificates, certificates.c.batch == batch_requests.c.batch
    )
    rows = connection.execute(found.order_by(batch_requests.c.batch)).mappings()
    return {row["request"]: row["batch"] for row in rows}


def certificate_facts(connection: Connection, batch: int) -> SeenFacts | None:
    """When the certificate of a batch was issued, or revoked and why; None where there is none."""
    row = certificate_row(connection, batch)
    names = ("batch", "payload_digest", "issued_at", "revoked_at", "revoked_reason")
    return None if row is None else {name: row[name] for name in names}


def certificate_bytes(ledger: Ledger, batch: int) -> bytes:
    """The certificate as it was signed. Raises RequestError where its file is gone."""
    return _read(files_of(ledger, batch).certificate, batch)


def certificate_page_bytes(ledger: Ledger, batch: int) -> bytes:
    """The page beside it. Raises RequestError where it is gone."""
    return _read(files_of(ledger, batch).page, batch)


def _read(file: Path, batch: int) -> bytes:
    if not file.is_file():  # where it lay is nobody's business who asks from outside
        raise RequestError(
            f"{file.name} is not where it was; write it with `expunge certify issue {batch}`"
        )
    with reading(file.name, "see to it at the terminal", RequestError):
        return read_bytes(file, most=ENVELOPE_BYTES)


def evidence_of(ledger: Ledger, caller: Caller, number: int) -> SeenFacts | None:
    """A request, its events and its certificate; None where there is no such request."""
    with ledger.read() as connection:
        told = request_for(connection, caller, LawClocks.of(ledger), number)
        if told is None:
            return None
        happened = events_about(connection, number)
        within = (certificate_facts(connection, one) for one in batches_of(connection, number))
        issued = [one for one in within if one is not None]
    certificate = None
    if issued:
        envelope = json.loads(certificate_bytes(ledger, issued[-1]["batch"]))
        certificate = {**issued[-1], "envelope": envelope}
    return {"request": told, "events": happened, "certificate": certificate}
