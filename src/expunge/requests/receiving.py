"""A request as a person gives it at the terminal: a list of ids, and by when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from expunge.place import HERE, Place
from expunge.requests.clocks import LawClocks, policies_of
from expunge.requests.deadlines import due_dates, extended_due
from expunge.requests.intake import (
    Added,
    DeletionRequest,
    add,
    approve,
    counts_of,
    data_set_of,
    extend,
    find,
    named_by,
)
from expunge.requests.ledger import Ledger, moment, stamp
from expunge.requests.moving import request_row
from expunge.requests.release import live_folder
from expunge.requests.tables import duplicates, request_items, struck

if TYPE_CHECKING:
    from expunge.trained.trained import Trained


@dataclass(frozen=True)
class Received:
    """How a request came. at: when. due: in place of the law's date. law: None for the ledger's own.
    decided: whether it counts as verified and approved.
    """

    source: str
    at: datetime
    due: datetime | None = None
    law: str | None = None
    key: str = ""
    decided: bool = True


def receive(ledger: Ledger, source: str, how: Received, *, place: Place = HERE) -> list[str]:
    """Receive a list of ids; returns what a person is told.

    source: a file, one id a line, or "-". Raises RequestError as `add` does, SplitError for a list that
    cannot be read, ConfigError for a law that is not known.
    """
    from expunge.data.lookup import look_up
    from expunge.data.request import read_ids
    from expunge.trained.opening import load

    lines = read_ids(source)
    asked = _asked(ledger, lines, how)
    model = load(live_folder(ledger), place=place)
    looked = look_up(lines, model.data, model.split.excluded)
    ids = (*looked.names, *looked.unknown)
    found = find(model, ids)
    asked = replace(asked, ids=ids)
    done = add(ledger, asked, found, data_set=data_set_of(model), decided=how.decided)
    told = [f"{line!r} is read as {', '.join(one[:3])}" for line, one in looked.read_as.items()][
        :20
    ]
    return told + _lines(ledger, done, how)


def _asked(ledger: Ledger, ids: list[str], how: Received) -> DeletionRequest:
    law = how.law or ledger.setting("law")
    dates = due_dates(how.at, law, policies_of(ledger))
    due = dates.due_at if how.due is None else how.due
    law_told = None if how.due is not None and how.law is None else law
    return DeletionRequest(tuple(ids), how.source, how.at, due, law_told, dates.confirm_by, how.key)


def _lines(ledger: Ledger, done: Added, how: Received) -> list[str]:
    with ledger.read() as connection:
        row = request_row(connection, done.number)
        each = func.count(duplicates.c.other_hmac.distinct())
        joined = select(each).select_from(duplicates.join(request_items))
        own = request_items.c.request == done.number
        asked = select(request_items.c.id_hmac).where(own)
        gone = select(struck.c.id_hmac).where(struck.c.id_hmac.is_not(None))
        others = duplicates.c.other_hmac.not_in(asked.union(gone))
        copies = connection.scalar(joined.where(own, others)) or 0
    counts = dict(done.counts)
    total = sum(counts.values())
    told = [
        f"request {done.number}{'' if done.fresh else _there(row['state'])}: {total:,} samples, "
        f"{told_counts(counts)}"
    ]
    if row["state"] == "struck":
        told.append("struck: nothing that learns reads them from now on")
    if copies:
        told.append(
            f"{copies} exact {'copies' if copies > 1 else 'copy'} of them under other ids, which stay "
            f"until a person decides: expunge request copies {done.number}"
        )
    clocks = LawClocks.of(ledger)
    law = f" ({row['law']})" if row["law"] else ""
    told.append(f"due {clocks.told(row['due_at'], row['law'])}{law}")
    if row["confirm_by"]:
        told.append(f"to be confirmed by {clocks.told(row['confirm_by'], row['law'])}")
    if row["state"] == "received":
        told.append(f"next: expunge request approve {done.number}")
    elif row["state"] == "struck":
        told.append(
            f"next: expunge batch run; before it, expunge request copies {done.number} looks for "
            "copies that differ a little"
        )
    elif row["state"] == "duplicate":
        told.append(f"a duplicate of request {row['duplicate_of']}, and answered with it")
    return told


def _there(state: str) -> str:
    return f" is there already, and {state.replace('_', ' ')}"


def told_counts(counts: Mapping[str, int]) -> str:
    """`3 learned, 1 validation`."""
    order = ("asked", "learned", "validation", "test", "struck before", "unknown")
    return ", ".join(f"{counts[one]:,} {one}" for one in order if counts.get(one))


def approved(ledger: Ledger, number: int, *, place: Place = HERE) -> str:
    """Approve a request at the terminal, where the data are at hand; returns what it is then, in words.
    Raises as `approve` does.
    """
    from expunge.trained.opening import load

    model: Trained = load(live_folder(ledger), place=place)
    with ledger.read() as connection:
        request_row(connection, number)
        wanted = select(request_items.c.id_hmac).where(request_items.c.request == number)
        hmacs = [one for (one,) in connection.execute(wanted)]
    named = named_by(model, hmacs, ledger)
    approve(ledger, number, find(model, named), data_set=data_set_of(model))
    with ledger.read() as connection:
        of = request_row(connection, number)["duplicate_of"]
        counts = told_counts(counts_of(connection, number))
    if of is not None:
        return f"a duplicate of request {of}, which strikes the same samples, and answered with it"
    return f"approved, and its samples are struck: {counts}"


def extend_by_law(ledger: Ledger, number: int, reason: str) -> str:
    """Extend a request as its law allows; returns the later date. ConfigError where it does not."""
    with ledger.read() as connection:
        row = request_row(connection, number)
    law = row["law"] or ledger.setting("law")
    now = datetime.now(UTC)
    later = extended_due(moment(row["received_at"]), law, now, reason, policies_of(ledger))
    extend(ledger, number, later, reason)
    return stamp(later)
