"""One step of a request, told as it is taken."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, select, update

from expunge.errors import RequestError
from expunge.requests.ledger import Writing
from expunge.requests.states import check_move
from expunge.requests.tables import requests


def move(
    writing: Writing, number: int, to: str, *, reason: str | None = None, of: int | None = None
) -> None:
    """Take a request one step on, and tell. of: the one that it is a duplicate of.

    Raises RequestError for a step that there is not.
    """
    row = request_row(writing.connection, number)
    check_move("request", f"request {number}", row["state"], to)
    told = {} if reason is None else {"reason": reason}
    values: dict[str, Any] = {"state": to, "duplicate_of": of, **told}
    writing.connection.execute(update(requests).where(requests.c.id == number).values(**values))
    more = {} if of is None else {"of": of}
    writing.event(f"request {to.replace('_', ' ')}", {"request": number, **told, **more})


def request_row(connection: Connection, number: int) -> RowMapping:
    """A request's row. Raises RequestError for a number that there is not."""
    found = connection.execute(select(requests).where(requests.c.id == number)).mappings().first()
    if found is None:
        raise RequestError(f"there is no request {number}; `expunge request list` shows them")
    return found
