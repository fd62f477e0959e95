"""Whether anybody changed a ledger, a model that it knows, or a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from expunge.errors import RequestError
from expunge.requests import events
from expunge.requests.certifying import check_certificates
from expunge.requests.events import canonical
from expunge.requests.keeping import deleted_at
from expunge.requests.ledger import Ledger
from expunge.requests.release import entered_digests, file_digests
from expunge.requests.tables import events as event_table
from expunge.requests.tables import models, releases


@dataclass(frozen=True)
class LedgerCheck:
    """lines: what was looked at. faults: what is wrong, empty where nothing is."""

    lines: list[str]
    faults: list[str]


def read_head(text: str) -> events.Head:
    """A head of the chain as `ledger verify` and certificates write it. Raises RequestError."""
    number, _, digest = text.replace(":", " ").partition(" ")
    if not (number.isdecimal() and len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
        raise RequestError(
            f"--head {text!r} is no head of a chain; write it as `expunge ledger verify` does: its "
            "number, a colon, and 64 hexadecimal digits"
        )
    return events.Head(int(number), digest)


def check_ledger(ledger: Ledger, noted: events.Head | None = None) -> LedgerCheck:
    """Look at the chain of events, at the files of every model that is live or was, and at every
    certificate.

    noted: a head of the chain that was written down elsewhere. Only beside one can be seen that the end
    was cut off, or that the ledger was brought back from a backup of before.
    """
    with ledger.read() as connection:
        faults = events.faults(connection)
        head = events.head(connection)
        if noted is not None:
            faults += events.faults_beside(connection, noted)
        joined = select(models, releases.c.state).outerjoin(
            releases, releases.c.model == models.c.digest
        )
        rows = connection.execute(joined.order_by(models.c.made_at)).mappings().all()
        deleted = deleted_at(connection)
        entered = {row["digest"]: entered_digests(connection, row["digest"]) for row in rows}
    lines = [f"{head.seq:,} events: {'chained' if not faults else 'NOT as they were written'}"]
    for row in rows:
        what = f"{row['folder']} ({row['state'] or 'made'})"
        try:
            found = file_digests(Path(row["folder"]))
        except RequestError:
            gone = row["state"] in ("live", "candidate")
            at = deleted.get(row["folder"])
            lines.append(f"{what}: {f'deleted {at}' if at else 'gone'}")
            faults += [f"{row['folder']} is {row['state']}, and is gone"] if gone else []
            continue
        same = found == entered[row["digest"]]
        lines.append(f"{what}: {'as it was entered' if same else 'CHANGED'}")
        faults += [] if same else [f"{row['folder']} was changed since it was entered"]
    for told, wrong in check_certificates(ledger):
        lines.append(told)
        faults += wrong
    lines.append(f"head of the chain: {head.seq}:{head.hash}")
    return LedgerCheck([*lines, *faults], faults)


def event_lines(ledger: Ledger) -> list[str]:
    """Every event as JSON, as it is chained."""
    with ledger.read() as connection:
        rows = connection.execute(select(event_table).order_by(event_table.c.seq)).mappings()
        return [canonical(dict(row)) for row in rows]
