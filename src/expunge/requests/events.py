"""The chain of events of a ledger: each holds the hash of the one before, so that none can be changed,
left out or put in between unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select

from expunge.requests.tables import events

FIRST = 64 * "0"
"""The hash before the first event."""


class Head(NamedTuple):
    """The last event: its number, from 1, and its hash."""

    seq: int
    hash: str


def canonical(content: Any) -> str:
    """The one text that stands for some plain data: keys sorted, no spaces."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256(text: str | bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def append(
    connection: Connection, at: str, actor: str, kind: str, payload: Mapping[str, Any]
) -> Head:
    """Add an event in the transaction of what it tells of, by a writer alone (`Ledger.write`)."""
    before = head(connection)
    row = {
        "seq": before.seq + 1,
        "at": at,
        "actor": actor,
        "kind": kind,
        "payload": canonical(payload),
        "previous_hash": before.hash,
    }
    made = sha256(canonical(row))
    connection.execute(insert(events).values(**row, hash=made))
    return Head(before.seq + 1, made)


def head(connection: Connection) -> Head:
    """The last event."""
    found = connection.execute(
        select(events.c.seq, events.c.hash).order_by(events.c.seq.desc()).limit(1)
    ).first()
    return Head(0, FIRST) if found is None else Head(found.seq, found.hash)


def faults(connection: Connection) -> list[str]:
    """What is wrong with the chain, a line each; empty where it is whole.

    That the end was cut off shows only beside a head that was noted elsewhere, as certificates do.
    """
    wrong, before = [], Head(0, FIRST)
    for row in connection.execute(select(events).order_by(events.c.seq)).mappings():
        content = {name: value for name, value in row.items() if name != "hash"}
        if row["seq"] != before.seq + 1:
            wrong.append(f"event {before.seq + 1} is missing")
        elif row["previous_hash"] != before.hash:
            wrong.append(f"event {row['seq']} does not follow the one before it")
        if sha256(canonical(content)) != row["hash"]:
            wrong.append(f"event {row['seq']} was changed")
        before = Head(row["seq"], row["hash"])
    return wrong


def faults_beside(connection: Connection, noted: Head) -> list[str]:
    """What is wrong beside a head that was noted elsewhere: empty where the chain leads through it."""
    found = connection.scalar(select(events.c.hash).where(events.c.seq == noted.seq))
    if found == noted.hash:
        return []
    if found is not None:
        return [f"event {noted.seq} is another than the one that was noted"]
    return [
        f"event {noted.seq}, which was noted, is not there: the end was cut off, or this is a backup of "
        f"before; whatever was struck after event {head(connection).seq} must be asked for again"
    ]
