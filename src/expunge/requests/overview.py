"""What a ledger holds, as a person reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, or_, select

from expunge.requests.clocks import LawClocks
from expunge.requests.copies import copies_in_words
from expunge.requests.duplicates import WAITS, duplicates_of
from expunge.requests.intake import counts_of
from expunge.requests.keeping import deleted_at, due_copies, today_of
from expunge.requests.ledger import Ledger
from expunge.requests.lineage import live_within
from expunge.requests.moving import request_row
from expunge.requests.receiving import told_counts
from expunge.requests.release import has_live, live_row
from expunge.requests.tables import (
    batch_requests,
    batches,
    events,
    models,
    releases,
    request_items,
    requests,
)

_Row = tuple[str, ...]


@dataclass(frozen=True)
class Overview:
    """lines: what is live, and how much waits. waiting: a row for each request that is not answered."""

    lines: list[str]
    waiting: list[_Row]


def overview(ledger: Ledger) -> Overview:
    """What waits, what is due first, and which model is live."""
    rows, today = all_requests(ledger, waiting=True), today_of(ledger, datetime.now(UTC))
    with ledger.read() as connection:
        live = live_row(connection)["folder"] if has_live(connection) else None
        within = live_within(connection)
        total = connection.scalar(select(func.count()).select_from(requests)) or 0
        due = due_copies(ledger, connection, today)
        shared = select(requests).where(requests.c.state == "duplicate", WAITS)
        with_others = connection.execute(shared.order_by(requests.c.id)).mappings().all()
    many = f"{total} request{'s' * (total != 1)}"
    lines = [f"ledger {ledger.folder}: {many}, {len(rows)} not answered yet"]
    lines.append(f"live: {live}" + (f": {within}" if within else ""))
    lines += [
        f"request {row['id']} is answered with request {row['duplicate_of']}, once that is certified"
        for row in with_others
    ]
    if due:
        what = "an old copy is" if due == 1 else f"{due} old copies are"
        lines.append(f"{what} due to be deleted: expunge release purge")
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
    found = found.add_columns(WAITS.label("waits"))
    if waiting:
        found = found.where(WAITS)
    clocks, now = LawClocks.of(ledger), datetime.now(UTC)
    with ledger.read() as connection:
        rows = connection.execute(found.order_by(requests.c.due_at, requests.c.id)).mappings().all()
    return [
        (
            str(row["id"]),
            state_told(row) + (f" (held: {row['held']})" if row["held"] else ""),
            clocks.day(row["received_at"], row["law"]),
            _due(row, clocks, now),
            f"{row['n'] or 0:,}",
            row["source"],
        )
        for row in rows
    ]


def state_told(row: Mapping[Any, Any]) -> str:
    """`in batch`, `duplicate of 3`."""
    other = (
        row.get("duplicate_of") if row["state"] == "duplicate" else None
    )  # a sender sees no other
    of = "" if other is None else f" of {other}"
    return f"{row['state'].replace('_', ' ')}{of}"


def _due(row: RowMapping, clocks: LawClocks, now: datetime) -> str:
    """The day by the law's clock, and how far it is while the request waits."""
    day = clocks.day(row["due_at"], row["law"])
    if not row["waits"]:
        return day
    return f"{day} ({due_in_words(clocks.days_left(row['due_at'], row['law'], now))})"


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
        others = duplicates_of(connection, number)
        copies = copies_in_words(connection, [number])
        happened = [
            f"  {one['at']}  {one['kind']}  by {one['actor']}"
            for one in events_about(connection, number)
        ]
    clocks = LawClocks.of(ledger)
    received, due = (clocks.told(row[one], row["law"]) for one in ("received_at", "due_at"))
    lines = [
        f"request {number}: {state_told(row)}, {told_counts(counts)}",
        f"from {row['source']}, received {received}, due {due}"
        + (f" ({row['law']})" if row["law"] else ""),
    ]
    if others:
        lines.append(f"answered with it: request {', '.join(map(str, others))}")
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
    """Every model that may serve, does or did: the live one first, then the newest, by its number."""
    joined = select(releases, models.c.folder).join(models, models.c.digest == releases.c.model)
    first = (releases.c.state != "live", releases.c.id.desc())
    with ledger.read() as connection:
        rows = connection.execute(joined.order_by(*first)).mappings().all()
        within = live_within(connection)
        gone = deleted_at(connection)
    told = []
    for row in rows:
        what = f"{row['state'].replace('_', ' ')}: "
        if row["state"] == "live":
            what += f"{within}: " if within else ""
        elif row["folder"] in gone:
            what += f"deleted {gone[row['folder']]}: "
        since = f"since {row['since']} by {row['actor']} ({row['reason']})"
        told.append(f"{row['id']}  {what}{row['folder']} {since}")
    return told
