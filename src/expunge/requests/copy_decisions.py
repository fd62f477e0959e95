"""What a person decides of a proposed copy: the same person's, another's, or unclear."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from expunge.errors import RequestError
from expunge.names.tables import pick
from expunge.place import HERE, Place
from expunge.requests.copies import check_goes_on, items_of
from expunge.requests.intake import (
    NamedSample,
    data_set_of,
    find,
    propose_exact,
    strike_items,
)
from expunge.requests.ledger import Ledger, Writing, new_key_of
from expunge.requests.moving import request_row
from expunge.requests.nonces import draw_nonces
from expunge.requests.release import live_folder
from expunge.requests.tables import batch_requests, batches, duplicates, request_items

ANSWERS = {"same-person": "add", "another": "keep", "unclear": "disclose"}
"""What a person says of a copy -> what a ledger keeps of it."""


def decide_copies(
    ledger: Ledger,
    number: int,
    copies: Sequence[str],
    answer: str,
    reason: str = "",
    *,
    place: Place = HERE,
    actor: str | None = None,
) -> int:
    """Note what a person says of proposed copies of a request: all of them, or none; returns how many.

    copies: their ids. answer: of `ANSWERS`. What is the same person's joins the request, and is struck
    if the request is; the others stay where they are.

    Raises RequestError for a copy that was not proposed, and for the same person's once the request is
    in a batch.
    """
    decision = pick("answer", ANSWERS, answer, error=RequestError)
    found: dict[str, NamedSample] = {}
    data_set = None
    with ledger.read() as connection:
        _check_decides(connection, number, decision)
        for copy in copies:
            _check_proposed(ledger, connection, number, copy, decision)
    if decision == "add":
        from expunge.trained.opening import load

        model = load(live_folder(ledger), place=place)
        found = {one.id: one for one in find(model, copies)}
        data_set = data_set_of(model)
    with ledger.write(actor) as writing:
        _check_decides(writing.connection, number, decision)
        for copy in dict.fromkeys(copies):
            _check_proposed(ledger, writing.connection, number, copy, decision)
            noted = update(duplicates).where(*_of(ledger, number, copy))
            writing.connection.execute(noted.values(decision=decision))
            if decision == "add":
                _join(ledger, writing, number, found[copy], data_set)
            told = {"request": number, "copy": ledger.key.hmac(copy), "as": answer}
            writing.event("copy decided", told | ({"reason": reason} if reason else {}))
    return len({*copies})


def _check_decides(connection: Connection, number: int, decision: str) -> None:
    """Raise RequestError where nothing can be decided, or nothing joins any more."""
    row = request_row(connection, number)
    check_goes_on(row)
    if decision == "add" and row["state"] not in ("received", "verified", "approved", "struck"):
        batch = connection.scalar(
            select(func.max(batch_requests.c.batch)).where(batch_requests.c.request == number)
        )
        raise RequestError(
            f"request {number} is in batch {batch}, whose list is frozen, so nothing joins it; ask for "
            "the copy by a request of its own: expunge request add --ids FILE"
        )
    told = _told_in(connection, number) if decision == "add" else None
    if told is not None:
        raise RequestError(
            f"request {number} was forgotten in batch {told} before, whose certificate tells of its "
            "samples, so nothing joins it; ask for the copy by a request of its own: expunge request "
            "add --ids FILE"
        )


def _told_in(connection: Connection, number: int) -> int | None:
    """The last batch that was released with a request, which waits again since somebody went back."""
    chosen = select(func.max(batches.c.id)).join(
        batch_requests, batch_requests.c.batch == batches.c.id
    )
    own = batch_requests.c.request == number
    found: int | None = connection.scalar(chosen.where(own, batches.c.state == "released"))
    return found


def _check_proposed(
    ledger: Ledger, connection: Connection, number: int, copy: str, decision: str
) -> None:
    """Raise RequestError for what is no copy, or is one of the request's samples and would not be."""
    known = select(duplicates.c.item).where(*_of(ledger, number, copy)).limit(1)
    if connection.scalar(known) is None:
        raise RequestError(
            f"{copy!r:.200} was not proposed as a copy for request {number}; write its id as `expunge "
            f"request copies {number}` shows it"
        )
    if decision != "add" and ledger.key.hmac(copy) in items_of(connection, number):
        raise RequestError(
            f"{copy!r:.200} is one of the samples of request {number}, and stays one: what is asked "
            "for is never unasked"
        )


def _of(ledger: Ledger, number: int, copy: str) -> tuple[ColumnElement[bool], ...]:
    """That a row is of a copy, and of a request."""
    items = select(request_items.c.id).where(request_items.c.request == number)
    return duplicates.c.other_hmac == ledger.key.hmac(copy), duplicates.c.item.in_(items)


def _join(
    ledger: Ledger, writing: Writing, number: int, found: NamedSample, data_set: str | None
) -> None:
    """Make a copy one of a request's samples, once, struck if they are."""
    one, hmac = writing.connection, ledger.key.hmac(found.id)
    if hmac in items_of(one, number):
        return
    if found.what == "unknown":
        raise RequestError(
            f"{found.id!r:.200} is no longer in the data of the live model; look for copies again: "
            f"expunge request copies {number}"
        )
    row = {"request": number, "id_hmac": hmac, "state": found.what}
    row |= {"content_hash": found.content or None}
    item = new_key_of(one.execute(insert(request_items).values(**row)))
    draw_nonces(one, ledger.key, number, [found.id])
    propose_exact(ledger, one, number, {hmac: found})
    if request_row(one, number)["state"] == "struck":
        chosen = select(request_items).where(request_items.c.id == item)
        strike_items(ledger, writing, number, one.execute(chosen).mappings().all(), data_set)
