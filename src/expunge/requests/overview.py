"""What a ledger holds, as a person reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, or_, select

from expunge.requests.copies import copies_in_words
from expunge.requests.intake import counts_of, request_row
from expunge.requests.ledger import Ledger, moment
from expunge.requests.receiving import told_counts
from expunge.requests.tables import (
    batch_requests,
    batches,
    events,
    models,
    releases,
    request_items,
    requests,
)

DONE = ("closed", "certified", "refused", "withdrawn", "duplicate")

_Row = tuple[str, ...]


@dataclass(frozen=True)
class Overview:
    """lines: what is live, and how much waits. waiting: a row for each request that is not answered."""

    lines: list[str]
    waiting: list[_Row]


def overview(ledger: Ledger) -> Overview:
    """What waits, what is due first, and which model is live."""
    rows = all_requests(ledger, waiting=True)
    with ledger.read() as connection:
        live = connection.scalar(
            select(models.c.folder)
            .join(releases, releases.c.model == models.c.digest)
            .where(releases.c.state == "live")
        )
        total = connection.scalar(select(func.count()).select_from(requests)) or 0
        waits = requests.c.state.in_(("struck", "in_batch"))
        counted = (
            select(request_items.c.state, func.count())
            .select_from(request_items.join(requests))
            .where(waits)
            .group_by(request_items.c.state)
        )
        counts = {state: n for state, n in connection.execute(counted)}
    asked = counts.get("asked", 0)  # of these nobody looked yet what they are
    struck = counts.get("learned", 0) + asked
    told = f"{'up to ' if asked else ''}{struck:,} struck samples"
    lines = [f"ledger {ledger.folder}: {total} requests, {len(rows)} not answered yet"]
    lines.append(f"live: {live}" + (f", which learned {told}" if struck else ""))
    return Overview(lines, rows)


def all_requests(ledger: Ledger, *, waiting: bool = False) -> list[_Row]:
    """A row for each request, the one that is due first at the top: number, state, received, due with
    the days that are left, samples, source.
    """
    counted = (
        select(request_items.c.request, func.count().label("n"))
        .group_by(request_items.c.request)
        .subquery()
    )
    found = select(requests, counted.c.n).outerjoin(counted, counted.c.request == requests.c.id)
    if waiting:
        found = found.where(requests.c.state.not_in(DONE))
    with ledger.read() as connection:
        rows = connection.execute(found.order_by(requests.c.due_at, requests.c.id)).mappings().all()
    return [
        (
            str(row["id"]),
            row["state"].replace("_", " ") + (f" (held: {row['held']})" if row["held"] else ""),
            row["received_at"][:10],
            _due(row["due_at"], row["state"]),
            f"{row['n'] or 0:,}",
            row["source"],
        )
        for row in rows
    ]


def _due(stamped: str, state: str) -> str:
    """The day, and how far it is while the request waits."""
    if state in DONE:
        return stamped[:10]
    days = (moment(stamped).date() - datetime.now(UTC).date()).days
    return f"{stamped[:10]} ({due_in_words(days)})"


def due_in_words(days: int | None) -> str:
    """`in 12 days`, `tomorrow`, `overdue by 3 days`; empty where nothing is due any more."""
    if days is None:
        return ""
    if days < 0:
        return f"overdue by {-days} day{'s' if days < -1 else ''}"
    return {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")


def batches_of(connection: Connection, number: int) -> list[int]:
    """The batches that a request was in, the first one first."""
    found = select(batch_requests.c.batch).where(batch_requests.c.request == number)
    return [one for (one,) in connection.execute(found.order_by(batch_requests.c.batch))]


def events_about(connection: Connection, number: int) -> list[dict[str, Any]]:
    """Every event of a request and of its batches, as it is chained, its payload read."""
    within = batches_of(connection, number)
    marks = [f'"request":{number}', *(f'"batch":{one}' for one in within)]
    found = select(events).where(or_(*(events.c.payload.contains(mark) for mark in marks)))
    told = []
    for row in connection.execute(found.order_by(events.c.seq)).mappings():
        payload = json.loads(row["payload"])
        if payload.get("request") == number or payload.get("batch") in within:
            told.append({**row, "payload": payload})
    return told


def request_lines(ledger: Ledger, number: int) -> list[str]:
    """One request: what it names, what was decided, and every event of it and of its batches."""
    with ledger.read() as connection:
        row = request_row(connection, number)
        counts = counts_of(connection, number)
        copies = copies_in_words(connection, [number])
        happened = [
            f"  {one['at']}  {one['kind']}  by {one['actor']}"
            for one in events_about(connection, number)
        ]
    lines = [
        f"request {number}: {row['state'].replace('_', ' ')}, {told_counts(counts)}",
        f"from {row['source']}, received {row['received_at']}, due {row['due_at']}"
        + (f" ({row['law']})" if row["law"] else ""),
    ]
    for name in ("extended_reason", "held", "reason"):
        if row[name]:
            lines.append(f"{name.replace('_', ' ')}: {row[name]}")
    return [*lines, *([copies] if copies else []), *happened]


def batches_told(ledger: Ledger) -> list[str]:
    """All batches, the last one first."""
    with ledger.read() as connection:
        rows = connection.execute(select(batches).order_by(batches.c.id.desc())).mappings().all()
    return [
        f"batch {row['id']}: {row['state']}, by {row['method']}, frozen {row['frozen_at']}"
        for row in rows
    ] or ["no batch yet; `expunge batch run` begins one of all that waits"]


def release_lines(ledger: Ledger) -> list[str]:
    """Every model that served, the live one first."""
    joined = select(releases, models.c.folder).join(models, models.c.digest == releases.c.model)
    with ledger.read() as connection:
        rows = connection.execute(joined.order_by(releases.c.id.desc())).mappings().all()
    return [
        f"{row['state']}: {row['folder']} since {row['since']} by {row['actor']} ({row['reason']})"
        for row in rows
    ]
