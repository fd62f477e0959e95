"""What a model learned that was struck since: told by which batches lie between it and the first one.

Nothing is loaded: a sample counts as learned if it was so when its request came in, or nobody looked.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from expunge.requests.release import has_live, live_row
from expunge.requests.states import FORGOTTEN, STRUCK
from expunge.requests.tables import (
    batch_requests,
    batches,
    certificates,
    events,
    models,
    request_items,
    requests,
)


@dataclass(frozen=True)
class StruckWithin:
    """Struck samples that a model learned. unsure: nobody has looked whether all of them were."""

    count: int
    unsure: bool = False

    def __str__(self) -> str:
        return f"contains {'up to ' if self.unsure else ''}{self.count:,} struck"


def live_within(connection: Connection) -> str:
    """`contains 3 struck`, of the model that serves, and who decided that it does if somebody went back
    to it; empty where it contains none.
    """
    if not has_live(connection):
        return ""
    live = live_row(connection)["digest"]
    within = struck_within(connection, live)
    if not within.count:
        return ""
    last = select(events.c.kind, events.c.payload).where(
        events.c.kind.in_(("model released", "model rolled back"))
    )
    kind, payload = connection.execute(last.order_by(events.c.seq.desc()).limit(1)).one()
    told = json.loads(payload)
    if kind == "model rolled back" and told["requests"]:
        return f"{within} (rolled back by {told['by']}: {told['reason']})"
    return str(within)


def ancestry(connection: Connection, model: str) -> set[str]:
    """A model and all that it was made from, one after another."""
    parents = {
        one: parent for one, parent in connection.execute(select(models.c.digest, models.c.parent))
    }
    path: set[str] = set()
    step: str | None = model
    while step is not None and step not in path:
        path.add(step)
        step = parents.get(step)
    return path


def settled_by(connection: Connection, model: str) -> set[int]:
    """Requests whose samples are forgotten in a model: those of batches on its path."""
    path = ancestry(connection, model)
    joined = select(batch_requests.c.request, batches.c.model_after).join(
        batches, batches.c.id == batch_requests.c.batch
    )
    done = connection.execute(joined.where(batches.c.state == "released"))
    return {request for request, after in done if after in path}


def undone_by(connection: Connection, model: str) -> list[int]:
    """Requests that were forgotten, and not in this model: what serving it would undo."""
    forgotten = select(requests.c.id).where(requests.c.state.in_(FORGOTTEN))
    settled = settled_by(connection, model)
    return [
        one for one in connection.scalars(forgotten.order_by(requests.c.id)) if one not in settled
    ]


def struck_within(
    connection: Connection, model: str, among: Collection[int] | None = None
) -> StruckWithin:
    """How many struck samples a model learned. among: of these requests alone."""
    joined = select(request_items.c.request, request_items.c.id_hmac, request_items.c.state).join(
        requests, requests.c.id == request_items.c.request
    )
    rows = connection.execute(joined.where(requests.c.state.in_(STRUCK))).all()
    settled = settled_by(connection, model)
    gone = {name for request, name, _ in rows if request in settled}
    left = {
        name: state
        for request, name, state in rows
        if state in ("learned", "asked") and name not in gone
        if request not in settled and (among is None or request in among)
    }
    return StruckWithin(len(left), "asked" in left.values())


def undone_batches(connection: Connection) -> set[int]:
    """Batches that were released, and whose requests were to be forgotten once more, or are."""
    last = func.max(batch_requests.c.batch).over(partition_by=batch_requests.c.request)
    each = (
        select(batch_requests.c.batch, last.label("last"), requests.c.state)
        .join(requests, requests.c.id == batch_requests.c.request)
        .subquery()
    )
    again = or_(each.c.last != each.c.batch, each.c.state == "struck")
    released = select(each.c.batch).join(batches, batches.c.id == each.c.batch)
    chosen = released.where(again, batches.c.state == "released").distinct()
    return {*connection.scalars(chosen)}


def uncertified_in(connection: Connection) -> list[int]:
    """Batches that were released and wait for their certificate, the first one first."""
    known = select(certificates.c.batch)
    found = select(batches.c.id).where(batches.c.state == "released", batches.c.id.not_in(known))
    again = undone_batches(connection)
    return [one for one in connection.scalars(found.order_by(batches.c.id)) if one not in again]
