"""A request whose samples an earlier one has: it waits for that one, and is answered with it.

One that is approved becomes a duplicate by itself where the other was verified before; else a person
says so. An unverified request never stands in the way of a verified one.
"""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, and_, exists, not_, select

from expunge.errors import RequestError
from expunge.requests.ledger import Ledger, Writing
from expunge.requests.moving import move, request_row
from expunge.requests.states import ANSWERED, ENDED, TO_BE_DONE, UNDECIDED
from expunge.requests.tables import request_items, requests

_OTHER = requests.alias("other")
ANSWERED_WITH_ANOTHER = exists().where(
    _OTHER.c.id == requests.c.duplicate_of, _OTHER.c.state.in_(ANSWERED)
)
"""Of a row of `requests`: it is a duplicate of one that is certified."""
WAITS = and_(requests.c.state.not_in((*ANSWERED, *ENDED)), not_(ANSWERED_WITH_ANOTHER))
"""Of a row of `requests`: its person is still to be answered."""
Contents = dict[str, str | None]


def duplicate(
    ledger: Ledger, number: int, of: int, reason: str, *, actor: str | None = None
) -> None:
    """A person says that a request asks for what an earlier one does. Again, it changes nothing.

    Raises RequestError where the other is not earlier and open, has not all of the samples, or was not
    verified while this one was.
    """
    with ledger.write(actor) as writing:
        one = writing.connection
        row, other = request_row(one, number), request_row(one, of)
        if row["state"] == "duplicate" and row["duplicate_of"] == of:
            return
        if of >= number or other["state"] not in (*UNDECIDED, *TO_BE_DONE):
            raise RequestError(
                f"request {of} is {other['state'].replace('_', ' ')}, and a duplicate is of an earlier "
                "request that is still to be answered; see `expunge request list`"
            )
        if row["state"] == "verified" and other["state"] == "received":
            raise RequestError(
                f"request {number} is verified and request {of} is not, which must not stand in "
                f"its way; verify that one first: expunge request approve {of}"
            )
        if not _holds_all(contents_of(one, of), contents_of(one, number)):
            raise RequestError(
                f"request {of} does not ask for all that request {number} does; decide it by itself: "
                f"expunge request approve {number}"
            )
        make_duplicate(writing, number, of, reason)


def make_duplicate(writing: Writing, number: int, of: int, reason: str) -> None:
    """Note of which request another is a duplicate; what were duplicates of it follow."""
    move(writing, number, "duplicate", reason=reason, of=of)
    for follower in duplicates_of(writing.connection, number):
        move(writing, follower, "received", reason=f"request {number} is a duplicate itself")
        move(writing, follower, "duplicate", reason=reason, of=of)


def covered_by(connection: Connection, number: int) -> int | None:
    """The first earlier request that is to be done, and strikes all that this one would."""
    own = contents_of(connection, number)
    open_ = select(requests.c.id).where(
        requests.c.id < number, requests.c.state.in_(TO_BE_DONE), requests.c.held.is_(None)
    )
    sharing = select(request_items.c.request).where(
        request_items.c.request.in_(open_), request_items.c.id_hmac == next(iter(own))
    )
    for other in connection.scalars(sharing.order_by(request_items.c.request)).all():
        if _holds_all(contents_of(connection, other), own):
            return int(other)
    return None


def is_undecided(connection: Connection, row: RowMapping) -> bool:
    """Whether a request may still be approved: it waits for nobody, or for one that is not verified."""
    if row["state"] == "duplicate":
        return request_row(connection, row["duplicate_of"])["state"] in UNDECIDED
    return row["state"] in UNDECIDED


def contents_of(connection: Connection, number: int) -> Contents:
    """What a request names: HMAC of an id -> content hash, where it is known."""
    named = select(request_items.c.id_hmac, request_items.c.content_hash)
    own = named.where(request_items.c.request == number)
    return {name: content for name, content in connection.execute(own)}


def _holds_all(other: Contents, own: Contents) -> bool:
    """Whether striking the own would add nothing to striking the other."""
    return all(name in other and content in (None, other[name]) for name, content in own.items())


def duplicates_of(connection: Connection, number: int) -> list[int]:
    """Requests that are answered with another, the first one first."""
    found = select(requests.c.id).where(
        requests.c.state == "duplicate", requests.c.duplicate_of == number
    )
    return list(connection.scalars(found.order_by(requests.c.id)))


def receive_anew(writing: Writing, number: int, why: str = "came to nothing") -> None:
    """A request comes to nothing, or waits: those that waited for it are received once more."""
    for follower in duplicates_of(writing.connection, number):
        move(writing, follower, "received", reason=f"request {number} {why}")


def answer_duplicates(writing: Writing, number: int, batch: int) -> None:
    """Tell that the duplicates of a request are answered by the certificate of its batch."""
    for follower in duplicates_of(writing.connection, number):
        writing.event("duplicate answered", {"request": follower, "of": number, "batch": batch})
