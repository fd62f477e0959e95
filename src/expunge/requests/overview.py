"""What a ledger holds, as a person reads it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select

from expunge.requests.intake import counts_of, request_row
from expunge.requests.ledger import Ledger, moment
from expunge.requests.receiving import told_counts
from expunge.requests.tables import batches, events, models, releases, request_items, requests

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
            _due(row["due_at"]) if row["state"] not in DONE else row["due_at"][:10],
            f"{row['n'] or 0:,}",
            row["source"],
        )
        for row in rows
    ]


def _due(stamped: str) -> str:
    days = (moment(stamped).date() - datetime.now(UTC).date()).days
    left = (
        f"in {days} days"
        if days > 1
        else {1: "tomorrow", 0: "today"}.get(days, f"{-days} days ago")
    )
    return f"{stamped[:10]} ({left})"


def request_lines(ledger: Ledger, number: int) -> list[str]:
    """One request: what it names, what was decided, and every event of it."""
    with ledger.read() as connection:
        row = request_row(connection, number)
        counts = counts_of(connection, number)
        told = connection.execute(
            select(events)
            .where(events.c.payload.contains(f'"request":{number}'))
            .order_by(events.c.seq)
        ).mappings()
        happened = [
            f"  {one['at']}  {one['kind']}  by {one['actor']}"
            for one in told
            if f'"request":{number},' in one["payload"] or f'"request":{number}}}' in one["payload"]
        ]
    lines = [
        f"request {number}: {row['state'].replace('_', ' ')}, {told_counts(counts)}",
        f"from {row['source']}, received {row['received_at']}, due {row['due_at']}"
        + (f" ({row['law']})" if row["law"] else ""),
    ]
    for name in ("extended_reason", "held", "reason"):
        if row[name]:
            lines.append(f"{name.replace('_', ' ')}: {row[name]}")
    return lines + happened


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
