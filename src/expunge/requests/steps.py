"""Steps of a batch or a qualification: each is done once for the same input, by one worker at a time.

A worker holds a lease with a number that grows with every holder (a fencing token): one that was away
too long finds that its number is no longer the last, and what it made is not taken. Where a worker is
gone another goes on.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, RowMapping, and_, insert, select, update

from expunge.errors import RequestError
from expunge.requests.ledger import Ledger, moment, new_key_of, stamp
from expunge.requests.tables import steps

LEASE_SECONDS = 120
"""How long a worker that says nothing keeps its step; one that lives says something in time."""


class QualificationNumber(int):
    """Of a qualification, as the owner of steps; a batch's number is an int like others."""


@dataclass(frozen=True)
class Lease:
    """A step that is ours to do. number: of its row. fencing: grows with every holder."""

    number: int
    fencing: int
    attempt: int


def worker_name() -> str:
    """This process, by its machine, number and start, so that a later one of that number is another."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def is_gone(worker: str) -> bool:
    """Whether a worker is known to have ended: one of this machine whose process is not there."""
    host, pid, started = worker.rsplit(":", 2)
    return host == socket.gethostname() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process began; "gone" for one that is not there, or has ended and was not yet asked after.

    In Linux in ticks since the machine began, which nobody who sets a clock can change.
    """
    import psutil

    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "gone" if words[0] in "ZX" else words[19]
    except (OSError, IndexError):
        pass
    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return "gone"


def output_of(ledger: Ledger, batch: int | None, name: str, digest: str) -> str | None:
    """What a step with this input gave; None where it is not done. batch: None: whosever it is."""
    known = select(steps.c.output).where(steps.c.output.is_not(None))
    with ledger.read() as connection:
        return connection.scalar(known.where(_same(batch, name, digest)).limit(1))


def claim(ledger: Ledger, batch: int, name: str, digest: str) -> Lease | None:
    """Take a step that nobody does; None where a living worker has it, or it is done."""
    until = stamp(datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS))
    with ledger.write() as writing:
        one = writing.connection
        found = select(steps).where(_same(batch, name, digest)).with_for_update()
        row = one.execute(found).mappings().first()
        me = worker_name()
        if row is None:
            values = {**_owner(batch), "name": name, "input_digest": digest, "attempt": 1}
            made = one.execute(
                insert(steps).values(**values, lease_until=until, fencing=1, worker=me)
            )
            lease = Lease(new_key_of(made), 1, 1)
        else:
            alive = moment(row["lease_until"]) > datetime.now(UTC) and not is_gone(row["worker"])
            if alive or row["output"] is not None:
                return None
            lease = Lease(row["id"], row["fencing"] + 1, row["attempt"] + 1)
            taken = {"attempt": lease.attempt, "fencing": lease.fencing, "worker": me}
            one.execute(
                update(steps).where(steps.c.id == lease.number).values(**taken, lease_until=until)
            )
        told = {**_owner(batch), "step": name, "attempt": lease.attempt}
        writing.event("step begun", told)
    return lease


def done(ledger: Ledger, lease: Lease, output: str, seconds: float) -> None:
    """Write down what a step gave. Raises RequestError where another worker has it by now."""
    with ledger.write() as writing:
        values = {"output": output, "seconds_ms": round(1000 * seconds), "error": None}
        held = (steps.c.id == lease.number, steps.c.fencing == lease.fencing)
        if not writing.connection.execute(update(steps).where(*held).values(**values)).rowcount:
            raise RequestError(
                "another worker took this step over while this one was away; what this one made is not "
                "used: give the same command again"
            )
        row = writing.connection.execute(select(steps).where(held[0])).mappings().one()
        told = {**_owner_of(row), "step": row["name"], "output": output}
        writing.event("step done", told)


def failed(ledger: Ledger, lease: Lease, why: str) -> None:
    """Note why a step failed, in a word that names no sample, and let go of it."""
    with ledger.write() as writing:
        held = (steps.c.id == lease.number, steps.c.fencing == lease.fencing)
        gone = {"error": why, "lease_until": writing.at}
        if writing.connection.execute(update(steps).where(*held).values(**gone)).rowcount:
            row = writing.connection.execute(select(steps).where(held[0])).mappings().one()
            told = {
                **_owner_of(row),
                "step": row["name"],
                "attempt": lease.attempt,
                "why": why,
            }
            writing.event("step failed", told)


@contextmanager
def kept_alive(ledger: Ledger, lease: Lease) -> Iterator[None]:
    """Renew a lease while the work inside goes on."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_SECONDS / 4):
            until = stamp(datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS))
            held = (steps.c.id == lease.number, steps.c.fencing == lease.fencing)
            with suppress(RequestError), ledger.write() as writing:  # the next time it may be there
                writing.connection.execute(update(steps).where(*held).values(lease_until=until))

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def once(ledger: Ledger, batch: int, name: str, digest: str, work: Callable[[], str]) -> str | None:
    """What a step gives: as it was given before, or by doing it now; None where another worker does it.

    work: does it and returns what it gave, as text; it may have been killed in the midst of it before.
    """
    known = output_of(ledger, batch, name, digest)
    if known is not None:
        return known
    lease = claim(ledger, batch, name, digest)
    if lease is None:  # it may have been done between our two looks
        return output_of(ledger, batch, name, digest)
    began = time.perf_counter()
    try:
        with kept_alive(ledger, lease):
            output = work()
    except BaseException as error:  # an interruption, too: whoever comes next need not wait
        with suppress(RequestError):  # what went wrong first is told
            failed(ledger, lease, type(error).__name__)  # its text may name an id, and events stay
        raise
    done(ledger, lease, output, time.perf_counter() - began)
    return output


def _same(batch: int | None, name: str, digest: str) -> ColumnElement[bool]:
    owner = {} if batch is None else _owner(batch)
    of = [steps.c[column] == number for column, number in owner.items()]
    return and_(*of, steps.c.name == name, steps.c.input_digest == digest)


def _owner(number: int) -> dict[str, int]:
    """Whose steps they are, as a column and its value."""
    column = "qualification" if isinstance(number, QualificationNumber) else "batch"
    return {column: int(number)}


def _owner_of(row: RowMapping) -> dict[str, int]:
    return {one: row[one] for one in ("batch", "qualification") if row[one] is not None}
