"""Requests: received once, decided by a person, and struck before any model is touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from expunge.data.suppressed import data_set_name
from expunge.errors import RequestError
from expunge.requests.clocks import LawClocks
from expunge.requests.duplicates import covered_by, is_undecided, make_duplicate, receive_anew
from expunge.requests.events import canonical, sha256
from expunge.requests.ledger import Ledger, Writing, moment, new_key_of, stamp
from expunge.requests.moving import move, request_row
from expunge.requests.nonces import draw_nonces
from expunge.requests.states import ANSWERED, ENDED, check_move
from expunge.requests.tables import duplicates, request_items, requests, struck

if TYPE_CHECKING:
    from expunge.trained.trained import Trained


@dataclass(frozen=True)
class DeletionRequest:
    """A request as it came in.

    ids: of samples. source: where it came from, such as "e-mail". received_at: when. due_at: until
    when it must be answered; confirm_by: until when it must be confirmed, if the law says so. law: by
    which rules, as a policy calls them; None for a date that was given. key: what tells that it is the
    same request once more; "" for its content.
    """

    ids: tuple[str, ...]
    source: str
    received_at: datetime
    due_at: datetime
    law: str | None = None
    confirm_by: datetime | None = None
    key: str = ""


@dataclass(frozen=True)
class NamedSample:
    """One sample of a request. what: "learned", "validation", "test", "struck before" or "unknown".
    content: how it was read, and its content hash; "" where there is none. copies: ids of others that
    hold the same.
    """

    id: str
    what: str
    content: str = ""
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Added:
    """number: of the request. fresh: whether it was not there before. counts: what -> how many."""

    number: int
    fresh: bool
    counts: Mapping[str, int]


def find(model: Trained, ids: Sequence[str]) -> list[NamedSample]:
    """What each id names in the data of a model. Copies are told where ids are no row numbers."""
    from expunge.data.contents import content_hashes, reading_of

    data, split = model.data, model.split
    learned = dict(zip(data.train.ids.tolist(), content_hashes(data.train), strict=True))
    by_id = dict(learned)
    if not {*ids} <= learned.keys():
        by_id = dict(zip(data.test.ids.tolist(), content_hashes(data.test), strict=True)) | learned
    reading = reading_of(data.train)
    alike: dict[str, list[str]] = {}
    if not data.train.positional:
        for name, content in learned.items():
            if content:
                alike.setdefault(content, []).append(name)
    parts = {
        "learned": {*split.retain, *split.forget},
        "validation": {*split.validation},
        "struck before": {*split.excluded} | data.struck.ids,
        "test": {*data.test.ids.tolist()},
    }
    found = []
    for one in dict.fromkeys(ids):
        what = next((w for w, own in reversed(parts.items()) if one in own), "unknown")
        content = by_id.get(one, "")
        if data.poison is not None and one in data.poison.ids:
            content = ""  # it is that of the poison
        copies = tuple(c for c in alike.get(content, ()) if c != one)
        found.append(NamedSample(one, what, content and reading + content, copies))
    return found


def add(
    ledger: Ledger,
    asked: DeletionRequest,
    found: Sequence[NamedSample] | None = None,
    *,
    data_set: str | None = None,
    actor: str | None = None,
    decided: bool = False,
) -> Added:
    """Receive a request; the same one again, by its key, is the one that is there.

    found: what its ids name, where the data are at hand; else nothing is known of them yet.
    decided: it counts as verified and approved, and is struck, in the same transaction.

    Raises RequestError for a key under which another request came, or that names nothing known.
    """
    body = _body(ledger, asked)
    with ledger.write(actor) as writing:
        one = writing.connection
        there, key = _known(one, asked.key or body, again=not asked.key)
        if there is None:
            number = _receive(ledger, writing, asked, key, body, found)
        else:
            number = there["id"]
            _check_same(there, body, decided=decided)
        if decided and (there is None or is_undecided(one, there)):
            news = None if there is None else found
            _decide(ledger, writing, number, news, data_set)
        return Added(number, there is None, counts_of(one, number))


def _known(connection: Connection, key: str, *, again: bool) -> tuple[RowMapping | None, str]:
    """The request of a key, and the key. again: one that came to nothing does not stand in the way of
    the same content: it goes by the next key that is free.
    """
    turn, tried = 1, key
    while True:
        asked = select(requests).where(requests.c.idempotency_key == tried)
        there = connection.execute(asked).mappings().first()
        if there is None or not again or there["state"] not in ENDED:
            return there, tried
        turn += 1
        tried = f"{key} {turn}"


def _check_same(there: RowMapping, body: str, *, decided: bool) -> None:
    own = f"request {there['id']} came under the key {there['idempotency_key']!r} and"
    if there["body_digest"] != body:
        raise RequestError(f"{own} asks for something else; give this one a key of its own")
    if decided and there["state"] in ENDED:
        raise RequestError(f"{own} is {there['state']}; give this one a key of its own")


def _receive(
    ledger: Ledger,
    writing: Writing,
    asked: DeletionRequest,
    key: str,
    body: str,
    found: Sequence[NamedSample] | None,
) -> int:
    """Write a request down; returns its number."""
    inserted = writing.connection.execute(
        insert(requests).values(
            source=asked.source,
            idempotency_key=key,
            body_digest=body,
            received_at=stamp(asked.received_at),
            law=asked.law,
            due_at=stamp(asked.due_at),
            confirm_by=None if asked.confirm_by is None else stamp(asked.confirm_by),
            state="received",
        )
    )
    number = new_key_of(inserted)
    hmacs = [ledger.key.hmac(one) for one in dict.fromkeys(asked.ids)]
    rows = [{"request": number, "id_hmac": one, "state": "asked"} for one in hmacs]
    writing.connection.execute(insert(request_items), rows)
    draw_nonces(writing.connection, ledger.key, number, asked.ids)
    _note(ledger, writing.connection, number, found, fresh=True)
    writing.event("request received", {"request": number, "body": body})
    return number


def _decide(
    ledger: Ledger,
    writing: Writing,
    number: int,
    found: Sequence[NamedSample] | None,
    data_set: str | None,
) -> None:
    """Verify, approve and strike a request that is not decided; one that an earlier one covers becomes
    its duplicate.
    """
    row = request_row(writing.connection, number)
    if row["held"]:
        raise RequestError(
            f"request {number} is held ({row['held']}); let it go on first: "
            f"expunge request hold {number} --ground ''"
        )
    _note(ledger, writing.connection, number, found)
    if row["state"] == "duplicate":  # of one that nobody has verified
        move(writing, number, "received", reason="approved by itself")
    if row["state"] != "verified":
        move(writing, number, "verified")
    other = covered_by(writing.connection, number)
    if other is not None:  # verified, too, and it strikes all that this one would
        make_duplicate(writing, number, other, "all its samples are struck by that one")
        return
    move(writing, number, "approved")
    _strike(ledger, writing, number, data_set)


def _body(ledger: Ledger, asked: DeletionRequest) -> str:
    """A digest of what was asked, in which no id is."""
    hmacs = sorted(ledger.key.hmac(name) for name in set(asked.ids))
    if not hmacs:
        raise RequestError("the request names no samples; name at least one")
    return sha256(canonical({"ids": hmacs, "source": asked.source, "law": asked.law}))


def _note(
    ledger: Ledger,
    connection: Connection,
    number: int,
    found: Sequence[NamedSample] | None,
    *,
    fresh: bool = False,
) -> None:
    """Write down what the samples of a request are, in the data as they are now; those of which nothing
    was known and that are not found are unknown.
    """
    if found is None:
        return
    if not any(one.what != "unknown" for one in found):
        raise RequestError(
            f"none of the ids of {'this request' if fresh else f'request {number}'} is in the data"
            f"{', so it was not received' if fresh else ''}; look at their spelling, and at which data "
            f"the live model learned from{'' if fresh else ', or refuse it'}"
        )
    own = request_items.c.request == number
    known = {ledger.key.hmac(one.id): one for one in found if one.what != "unknown"}
    item = own & (request_items.c.id_hmac == bindparam("name"))
    connection.execute(
        update(request_items)
        .where(item)
        .values(state=bindparam("what"), content_hash=bindparam("content")),
        [{"name": k, "what": one.what, "content": one.content or None} for k, one in known.items()],
    )
    connection.execute(
        update(request_items)
        .where(own & (request_items.c.state == "asked"))
        .values(state="unknown")
    )
    if any(one.copies for one in known.values()):
        propose_exact(ledger, connection, number, known)


def propose_exact(
    ledger: Ledger, connection: Connection, number: int, known: Mapping[str, NamedSample]
) -> None:
    """Note exact copies of items under other ids, once, which stay until a person decides.

    known: HMAC of an item's id -> what is known of it.
    """
    own = select(request_items.c.id_hmac, request_items.c.id).where(
        request_items.c.request == number
    )
    numbers = {name: item for name, item in connection.execute(own)}
    noted = select(duplicates.c.item, duplicates.c.other_hmac).join(request_items)
    noted = noted.where(request_items.c.request == number, duplicates.c.layer == "exact")
    copies = {(numbers[k], ledger.key.hmac(c)) for k, one in known.items() for c in one.copies}
    copies = {(item, other) for item, other in copies if other not in numbers}  # asked for, too
    copies -= {(item, other) for item, other in connection.execute(noted)}
    row = {"layer": "exact", "score": 1.0, "decision": "open"}
    if copies:
        rows = [row | {"item": item, "other_hmac": other} for item, other in sorted(copies)]
        connection.execute(insert(duplicates), rows)


def approve(
    ledger: Ledger,
    number: int,
    found: Sequence[NamedSample] | None = None,
    *,
    data_set: str | None = None,
    actor: str | None = None,
) -> None:
    """A person says that it is genuine and will be done; its samples are struck in the same transaction.

    found: of its items, where the data are at hand. Again, it changes nothing.
    Raises RequestError for one that was refused or withdrawn, that is held, or that names nothing known.
    """
    with ledger.write(actor) as writing:
        row = request_row(writing.connection, number)
        if row["state"] in ENDED:
            check_move("request", f"request {number}", row["state"], "approved")
        if is_undecided(writing.connection, row):
            _decide(ledger, writing, number, found, data_set)


def _strike(ledger: Ledger, writing: Writing, number: int, data_set: str | None) -> None:
    """Put the samples of an approved request on the suppression list."""
    chosen = select(request_items).where(request_items.c.request == number)
    strike_items(
        ledger, writing, number, writing.connection.execute(chosen).mappings().all(), data_set
    )
    move(writing, number, "struck")


def strike_items(
    ledger: Ledger,
    writing: Writing,
    number: int,
    rows: Sequence[RowMapping],
    data_set: str | None = None,
) -> None:
    """Put items of a request on the suppression list, also those that are not in the data, for they may
    come with the next export.

    data_set: as `data_set_name` says it; None: the ledger's own.
    Raises RequestError for one that is in the data, and that nobody could tell again.
    """
    one = writing.connection
    name = data_set if data_set is not None else ledger.file.data_sets[0]
    positional = ledger.setting_in(one, "positional") == "yes"
    blank = sum(row["content_hash"] is None and row["state"] != "unknown" for row in rows)
    if positional and blank:
        raise RequestError(
            f"{blank:,} samples of request {number} have row numbers for ids, and no content is known "
            "by which they could be told again; approve it where the data are (`expunge request "
            f"approve {number}`), or give the data ids of their own and begin a ledger for these"
        )
    gone = [
        {
            "data_set": name,
            "id_hmac": None if positional else row["id_hmac"],
            "content_hash": row["content_hash"],
            "since": writing.at,
            "request": number,
        }
        for row in rows
        if not positional or row["content_hash"] is not None
    ]
    if gone:
        one.execute(insert(struck), gone)


def refuse(ledger: Ledger, number: int, reason: str, *, actor: str | None = None) -> None:
    """Refuse a request that nothing was struck for. Raises RequestError for one that was."""
    with ledger.write(actor) as writing:
        move(writing, number, "refused", reason=reason)
        receive_anew(writing, number)


def withdraw(ledger: Ledger, number: int, reason: str, *, actor: str | None = None) -> None:
    """Note that whoever asked takes it back. Raises RequestError once it is struck."""
    with ledger.write(actor) as writing:
        move(writing, number, "withdrawn", reason=reason)
        receive_anew(writing, number)


def hold(ledger: Ledger, number: int, ground: str, *, actor: str | None = None) -> None:
    """Note why a request waits, or, with an empty ground, that it waits no longer; the clock goes on.

    What is held is not approved, and goes into no batch; its duplicates wait for it no longer, and are
    decided by themselves. Raises RequestError for one that is answered.
    """
    with ledger.write(actor) as writing:
        row = request_row(writing.connection, number)
        _check_open(row)
        if row["state"] == "duplicate":
            raise RequestError(
                f"request {number} is a duplicate of request {row['duplicate_of']}; hold that one"
            )
        held = update(requests).where(requests.c.id == number).values(held=ground or None)
        writing.connection.execute(held)
        writing.event(
            "request held" if ground else "request goes on", {"request": number, "ground": ground}
        )
        if ground and row["state"] not in ("in_batch", "released"):
            receive_anew(writing, number, "is held")


def extend(
    ledger: Ledger, number: int, due_at: datetime, reason: str, *, actor: str | None = None
) -> None:
    """Note a later date, of which the person was told, and why. RequestError for an earlier one."""
    with ledger.write(actor) as writing:
        row = request_row(writing.connection, number)
        _check_open(row)
        if due_at <= moment(row["due_at"]):
            due = LawClocks.of(ledger).told(row["due_at"], row["law"])
            raise RequestError(
                f"request {number} is due {due}, and an extension ends later than that"
            )
        changed = update(requests).where(requests.c.id == number)
        writing.connection.execute(changed.values(due_at=stamp(due_at), extended_reason=reason))
        told = {"request": number, "due_at": stamp(due_at), "reason": reason}
        writing.event("request extended", told)


def _check_open(row: RowMapping) -> None:
    if row["state"] in (*ENDED, *ANSWERED):
        raise RequestError(f"request {row['id']} is {row['state']}, and waits for nothing any more")


def counts_of(connection: Connection, number: int) -> dict[str, int]:
    """What the samples of a request are -> how many."""
    counted: dict[str, int] = {}
    for (state,) in connection.execute(
        select(request_items.c.state).where(request_items.c.request == number)
    ):
        counted[state] = counted.get(state, 0) + 1
    return counted


def named_by(model: Trained, hmacs: Collection[str], ledger: Ledger) -> list[str]:
    """Ids of a model's data, training and test, that some HMACs stand for."""
    wanted = set(hmacs)
    ids = (*model.data.train.ids.tolist(), *model.data.test.ids.tolist())
    return [one for one in ids if ledger.key.hmac(one) in wanted]


def data_set_of(model: Trained) -> str:
    """What a ledger calls the data of a model."""
    return data_set_name(model.data.spec)
