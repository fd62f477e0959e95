"""What the next batch would cost by each way, and until when it must start, from recorded times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, or_, select

from expunge.advice.duration import in_seconds
from expunge.requests.batches import RETRAIN
from expunge.requests.copies import copies_in_words
from expunge.requests.freezing import LeadSeconds, WaitingRequest, freeze_at
from expunge.requests.ledger import Ledger, moment
from expunge.requests.planner import BatchCosts, batch_lines, plan_batch
from expunge.requests.release import live_row
from expunge.requests.tables import qualifications, request_items, requests, steps, struck

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPECTED_BATCHES = 12
"""That one qualification is expected to serve, unless somebody says otherwise: one a month."""
TIMED = {
    RETRAIN: (RETRAIN, "retrained %"),
    "unlearn": ("unlearn", "unlearned %"),
    "gate": ("gate", "sanity check"),
}
"""What is planned -> names of the steps that tell what it takes, of a qualification audits and all."""


def next_batch_lines(
    ledger: Ledger, *, batches: int = EXPECTED_BATCHES, review_seconds: float = 0.0
) -> list[str]:
    """What a person is told of the batch of all that waits.

    batches: that one qualification is expected to serve. review_seconds: that people take before a
    release. Raises ConfigError for numbers that cannot be.
    """
    with ledger.read() as connection:
        waiting = _waiting(connection)
        folder = Path(live_row(connection)["folder"])
        timed = {name: _seconds(connection, *of) for name, of in TIMED.items()}
        qualified = connection.scalar(
            select(func.count())
            .select_from(qualifications)
            .where(qualifications.c.verdict == "equivalent")
        )
        copies = copies_in_words(connection, [int(one.id) for one in waiting])
    if not waiting:
        return ["no request waits; `expunge request add --ids FILE` receives one"]
    size = sum(one.samples for one in waiting)
    many = f"{len(waiting):,} request{'s wait' if len(waiting) > 1 else ' waits'}"
    told = [
        f"{many}, of {size:,} sample{'s' * (size != 1)}; due first: {waiting[0].due_at:%Y-%m-%d}"
    ]
    told += [copies] if copies else []
    retrain = timed[RETRAIN] or _trained_in(folder)
    if not retrain:
        return [
            *told,
            "what a retraining takes is not known: neither a batch nor a training was timed",
        ]
    gate, slowest = max(timed["gate"], default=0.0), max(retrain)
    unlearn = timed["unlearn"]
    costs = BatchCosts(
        retrain=slowest,
        unlearn=max(unlearn, default=0.0),
        audits=gate,
        batches=batches,
        forget_size=max(1, size),
        qualified=bool(qualified),
    )
    lead = LeadSeconds(
        unlearn=unlearn or [0.0],
        gate=gate,
        retrain=slowest,
        qualification=costs.qualification if unlearn else 0.0,
        review=review_seconds,
    )
    freeze = freeze_at(waiting, lead)
    told.append(f"start by {freeze.at:%Y-%m-%d %H:%M %Z}: {freeze.reason}")
    if not unlearn:
        how = f"{in_seconds(slowest)}, as {'recorded' if timed[RETRAIN] else 'the live model took'}"
        return [
            *told,
            f"retraining takes {how}; no unlearning was timed here, so retraining is what is planned "
            "(`expunge gate run --method NAME` qualifies a method, and times it)",
        ]
    return [*told, *batch_lines(plan_batch(costs))]


def _waiting(connection: Connection) -> list[WaitingRequest]:
    """The requests that wait, the one that is due first before others."""
    many = select(request_items.c.request, func.count().label("n"))
    counted = many.group_by(request_items.c.request).subquery()
    first = select(struck.c.request, func.min(struck.c.since).label("since"))
    since = first.group_by(struck.c.request).subquery()
    found = (
        select(requests, counted.c.n, since.c.since)
        .outerjoin(counted, counted.c.request == requests.c.id)
        .outerjoin(since, since.c.request == requests.c.id)
        .where(requests.c.state == "struck", requests.c.held.is_(None))
        .order_by(requests.c.due_at, requests.c.id)
    )
    return [
        WaitingRequest(
            str(row["id"]),
            moment(row["since"] or row["received_at"]),
            moment(row["due_at"]),
            row["n"] or 0,
        )
        for row in connection.execute(found).mappings()
    ]


def _seconds(connection: Connection, *names: str) -> Sequence[float]:
    """What the steps of some names took, of which `%` stands for any end."""
    named = or_(*(steps.c.name.like(name) for name in names))
    found = select(steps.c.seconds_ms).where(named, steps.c.seconds_ms.is_not(None))
    return [one / 1000 for (one,) in connection.execute(found)]


def _trained_in(folder: Path) -> list[float]:
    """What the training of a model took, by its card; nothing for one that was trained elsewhere."""
    from expunge.trained.card import read_card

    for one in reversed(read_card(folder).lineage):
        if one.step in ("train", RETRAIN) and one.cost.seconds:
            return [one.cost.seconds]
    return []
