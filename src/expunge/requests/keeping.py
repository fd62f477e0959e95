"""Where copies are of what learned from struck samples, and until when: what certificates name, and
what `release purge` deletes on that day.

A copy has a day where this ledger made it and nothing needs it. The day is that of its batch, which does
not move any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from expunge.disk.ours import check_ours
from expunge.errors import ExpungeError, RequestError
from expunge.requests.clocks import LawClocks
from expunge.requests.deadlines import last_day
from expunge.requests.facts import Copied
from expunge.requests.ledger import Ledger, Writing, moment
from expunge.requests.lineage import uncertified_in
from expunge.requests.release import live_row
from expunge.requests.tables import batches, copies, models, releases
from expunge.requests.valid import compared_folders
from expunge.shadows.places import bank_beside, is_bank
from expunge.trained.card import FOLDER, read_card

SERVED = ("retired", "rolled_back")


@dataclass(frozen=True)
class OldCopy:
    """Something on the disk that learned from struck samples. until: ISO day; None: none is set.
    stopped: when a model served last; empty for what never did.
    """

    what: Copied
    folder: Path
    until: str | None = None
    stopped: str = ""


def note_copies(ledger: Ledger, writing: Writing, batch: int, released_at: str) -> None:
    """Note, once for a batch, where copies are, and until when they are kept.

    What was noted before keeps its day; that of this batch has one that had none, for it was needed, or
    that served again after its day.
    """
    one, zone = writing.connection, LawClocks.of(ledger).own.clock
    until = kept_until(ledger, moment(released_at))
    for found in found_copies(ledger, one):
        kept = found.what != "bank" and kept_because(ledger, one, found.folder)
        own = copies.c.folder == str(found.folder)
        known = copies.c.batch == batch
        if found.what != "bank":  # of which each batch has something of its own
            known = known | copies.c.purged_at.is_(None)
        there = (
            one.execute(select(copies).where(own, known).order_by(copies.c.id)).mappings().first()
        )
        named = None if kept else until
        if there is None:
            row = {"batch": batch, "what": found.what, "folder": str(found.folder), "until": named}
            one.execute(insert(copies).values(**row))
        elif named is not None and (
            there["until"] is None
            or (found.stopped and there["until"] < day_in(zone, moment(found.stopped)))
        ):
            one.execute(update(copies).where(copies.c.id == there["id"]).values(until=named))


def kept_until(ledger: Ledger, since: datetime) -> str:
    """The ISO day until which what is not needed since a moment is kept, by the policy of the ledger."""
    policy = LawClocks.of(ledger).own
    return last_day(since.astimezone(policy.clock).date(), policy.keep, policy).isoformat()


def found_copies(ledger: Ledger, connection: Connection) -> Iterator[OldCopy]:
    """Models that served, their banks, and models that the ledger made and that never served: controls,
    and those of batches that did not pass or were abandoned.
    """
    serving, served = _served(connection)
    known = {os.path.realpath(folder) for folder in (*serving, *served)}
    serves = {os.path.realpath(folder) for folder in serving}
    for folder, stopped in served.items():
        if folder.is_dir() and os.path.realpath(folder) not in serves:
            yield OldCopy("old weights", folder, stopped=stopped)
    for bank in dict.fromkeys(bank_beside(folder) for folder in (*served, *serving)):
        if is_bank(bank):
            yield OldCopy("bank", bank)
    above = ledger.folder.absolute() / "models"
    for folder in sorted(above.iterdir()) if above.is_dir() else ():
        ours = folder.is_dir() and not folder.name.startswith(".") and not is_bank(folder)
        if ours and os.path.realpath(folder) not in known:
            yield OldCopy("derived models", folder)


def moved_models(connection: Connection) -> list[Path]:
    """Where models lay that served, are not there any more, and were not deleted by this ledger."""
    gone = deleted_at(connection)
    served = (folder for folder in _served(connection)[1] if str(folder) not in gone)
    return [folder for folder in served if not os.path.lexists(folder)]


def _served(connection: Connection) -> tuple[list[Path], dict[Path, str]]:
    """Folders of models that serve or may, and of those that did, with the moment when they stopped."""
    joined = select(models.c.folder, releases.c.state, releases.c.since).join(
        releases, releases.c.model == models.c.digest
    )
    rows = connection.execute(joined.order_by(releases.c.id)).all()
    serving = [Path(folder) for folder, state, _ in rows if state not in SERVED]
    served: dict[Path, str] = {}
    for folder, state, since in rows:
        if state in SERVED:
            served[Path(folder)] = max(since, served.get(Path(folder), ""))
    return serving, served


def noted_copies(ledger: Ledger, connection: Connection, batch: int) -> list[OldCopy]:
    """What is on the disk of all that was noted and not deleted, one a folder, with its first day; of a
    bank the day for what this batch struck.
    """
    there = {one.folder for one in found_copies(ledger, connection)}
    own = (copies.c.what != "bank") | (copies.c.batch == batch)
    found = select(copies).where(copies.c.purged_at.is_(None), own).order_by(copies.c.id)
    noted: dict[Path, OldCopy] = {}
    for row in connection.execute(found).mappings():
        folder = Path(row["folder"])
        if folder in there:
            noted.setdefault(folder, OldCopy(row["what"], folder, row["until"]))
    return list(noted.values())


def kept_because(ledger: Ledger, connection: Connection, folder: Path) -> str:
    """Why a folder is never deleted now; empty where it may be."""
    own = Path(os.path.realpath(ledger.folder)) / "models"
    real = Path(os.path.realpath(folder))
    if folder.is_symlink() or real.parent != own:
        return "this ledger did not make it; delete it yourself if nobody needs it"
    states = ("live", "candidate")
    joined = select(models.c.folder, releases.c.state).join(
        releases, releases.c.model == models.c.digest
    )
    for lies, state in connection.execute(joined.where(releases.c.state.in_(states))):
        if Path(os.path.realpath(lies)) == real:
            return "it serves" if state == "live" else "it may be promoted"
    over = ("released", "abandoned")
    for number in connection.scalars(select(batches.c.id).where(batches.c.state.not_in(over))):
        if folder.name.startswith(f"batch-{number:04d}-"):
            return f"batch {number} is at work on it"
    made = select(batches.c.id, models.c.folder).join(
        models, models.c.digest == batches.c.model_after
    )
    for number, lies in connection.execute(
        made.where(batches.c.id.in_(uncertified_in(connection)))
    ):
        if Path(os.path.realpath(lies)) == real:
            return f"batch {number} has no certificate yet; expunge certify issue {number}"
    for number, compared in compared_folders(ledger, connection):
        if Path(os.path.realpath(compared)) == real:
            return f"qualification {number} compares with it for as long as it is valid"
    return "the live model is made from it" if _live_needs(connection, real) else ""


def _live_needs(connection: Connection, folder: Path) -> bool:
    """Whether the live model's card names something in a folder."""
    try:
        hub = read_card(Path(live_row(connection)["folder"])).hub
    except ExpungeError:
        return False
    base = "" if hub is None else hub.base
    return bool(base) and Path(os.path.realpath(base)).is_relative_to(folder)


def holds_others(folder: Path) -> str:
    """What a folder holds that is not ours to delete, in words; empty where there is nothing."""
    try:
        check_ours(folder, FOLDER, error=RequestError)
    except RequestError as error:
        return str(error)
    return ""


def due_copies(ledger: Ledger, connection: Connection, today: str) -> int:
    """How many folders are due to be deleted and not needed, or were begun."""
    due = (copies.c.until <= today) | copies.c.begun_at.is_not(None)
    found = select(copies.c.what, copies.c.folder).where(copies.c.purged_at.is_(None), due)
    rows = connection.execute(found.distinct()).all()
    return sum(
        what == "bank" or not kept_because(ledger, connection, Path(lies)) for what, lies in rows
    )


def deleted_at(connection: Connection) -> dict[str, str]:
    """Folder -> when it was deleted, of models."""
    gone = select(copies.c.folder, copies.c.purged_at).where(
        copies.c.purged_at.is_not(None), copies.c.what != "bank"
    )
    return {folder: at for folder, at in connection.execute(gone.order_by(copies.c.id))}


def today_of(ledger: Ledger, now: datetime) -> str:
    """The day by the clock of the ledger's law."""
    return day_in(LawClocks.of(ledger).own.clock, now)


def day_in(zone: tzinfo, at: datetime) -> str:
    """The ISO day of a moment."""
    return at.astimezone(zone).date().isoformat()
