"""Deleting what still knows struck samples: on the day that certificates name, or before by a decision.

What is to be deleted is an event before it is, and what was is one after; a purge that was killed goes
on with what it had begun. A folder is deleted as a whole: it has its name, or is gone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select, update

from expunge.disk.cache import holds_images
from expunge.disk.reading import reading
from expunge.disk.whole import scratch_beside, sweep
from expunge.errors import RequestError, UserError
from expunge.place import HERE, Place
from expunge.requests.batches import requests_of
from expunge.requests.facts import Copied
from expunge.requests.keeping import holds_others, kept_because, kept_until, today_of
from expunge.requests.ledger import Ledger, Writing, moment
from expunge.requests.release import live_folder
from expunge.requests.tables import copies, request_items
from expunge.shadows.places import is_bank

if TYPE_CHECKING:
    from expunge.shadows.bank import Bank
    from expunge.trained.trained import Trained


NO_DAY = "no day is set; a purge sets one"


@dataclass(frozen=True)
class DueCopy:
    """Something that learned from struck samples. numbers: of its rows. until: ISO day. batches: whose
    struck samples are taken out of it, of a bank. bytes: that go, or are overwritten. kept: why it stays
    now; empty where it goes. begun: whether a purge that was killed was at it. damaged: why it cannot be
    read.
    """

    numbers: tuple[int, ...]
    what: Copied
    folder: Path
    until: str | None
    batches: tuple[int, ...]
    bytes: int = 0
    kept: str = ""
    begun: bool = False
    damaged: str = ""

    def line(self, word: str) -> str:
        """What a person is told of it."""
        why = self.kept or self.damaged
        more = f": {why}" if why else f", {self.bytes / 10**6:,.1f} MB"
        return f"{word}: {self.what} {self.folder}{more}"


def purge_lines(
    ledger: Ledger,
    *,
    now: bool = False,
    reason: str = "",
    confirmed: bool = False,
    dry_run: bool = False,
    place: Place = HERE,
) -> list[str]:
    """Delete what is due: retired models with all that lies in their folders, models that never served,
    and what banks and the cache of decoded images keep of the struck; returns what a person is told.

    now: what is not due yet, too, which needs a reason, and to be confirmed. dry_run: nothing is
    deleted, and what would be is told.

    Raises RequestError where that is missing, or something cannot be deleted.
    """
    if now and not dry_run and not (confirmed and reason.strip()):
        raise RequestError(
            "--now deletes before the days that certificates name, and what is deleted does not come "
            "back; look at it with --dry-run, and then say so with --yes, and why with --reason"
        )
    with ledger.read() as connection:
        found = [_sized(ledger, connection, one) for one in _due(ledger, connection, now=now)]
    if dry_run:
        told = [one.line("kept" if one.kept or one.damaged else "would go") for one in found]
        return [*told, *_images(ledger, place, dry_run=True)] or [
            "nothing is kept of what was struck"
        ]
    sweep(ledger.folder / "models")  # what was killed in the midst of it
    looked = {one.folder: one for one in found}
    with ledger.write() as writing:  # what is kept may have changed since
        due = [_dated(ledger, writing, one) for one in _due(ledger, writing.connection, now=now)]
        due = [_as_looked_at(one, looked.get(one.folder)) for one in due]
        going = [one for one in due if not one.kept and not one.damaged]
        _begin(writing, going, reason=reason if now else "")
    told = [one.line("kept") for one in due if one.kept or one.damaged]
    for one in going:
        word = "taken out of" if one.what == "bank" else "deleted"
        _delete(ledger, one)
        with ledger.write() as writing:
            _ended(writing, one)
        told.append(one.line(word))
    damaged = [one.damaged for one in due if one.damaged]
    try:
        told += _images(ledger, place)
        if damaged:
            raise RequestError(f"{damaged[0]}; mend or delete it, and purge again")
    except UserError:  # what is done is told all the same
        for line in told:
            place.tell(line)
        raise
    return told or ["nothing is due to be deleted"]


def _as_looked_at(one: DueCopy, looked: DueCopy | None) -> DueCopy:
    """A copy that goes, with what was read of it outside of the transaction."""
    if one.kept or looked is None:
        return one
    return replace(one, bytes=looked.bytes, damaged=looked.damaged)


def _dated(ledger: Ledger, writing: Writing, one: DueCopy) -> DueCopy:
    """A copy with a day: one that was needed when certificates were issued, and is not now, has none."""
    if one.kept != NO_DAY:
        return one
    until = kept_until(ledger, moment(writing.at))
    named = update(copies).where(copies.c.id.in_(one.numbers)).values(until=until)
    writing.connection.execute(named)
    writing.event("copy dated", {"copy": list(one.numbers), "what": one.what, "until": until})
    return replace(one, until=until, kept=f"it is kept until {until}")


def _due(ledger: Ledger, connection: Connection, *, now: bool) -> Iterator[DueCopy]:
    """Every copy that was noted and not deleted, one a folder, with the reason why one stays."""
    rows = connection.execute(
        select(copies).where(copies.c.purged_at.is_(None)).order_by(copies.c.id)
    ).mappings()
    today, by_folder = today_of(ledger, datetime.now(UTC)), dict[str, list[DueCopy]]()
    for row in rows.all():
        one = DueCopy(
            (row["id"],),
            row["what"],
            Path(row["folder"]),
            row["until"],
            (row["batch"],),
            begun=row["begun_at"] is not None,
        )
        one = replace(one, kept=_kept(ledger, connection, one, today, now=now))
        by_folder.setdefault(row["folder"], []).append(one)
    for own in by_folder.values():
        going = [one for one in own if not one.kept]
        if not going:
            yield own[0]
            continue
        numbers, batches = ([getattr(one, of) for one in going] for of in ("numbers", "batches"))
        yield replace(
            going[0],
            numbers=tuple(sum(numbers, ())),
            batches=tuple(sum(batches, ())),
            begun=all(one.begun for one in going),
        )


def _kept(ledger: Ledger, connection: Connection, one: DueCopy, today: str, *, now: bool) -> str:
    """Why a copy stays; empty for one that goes, or that a purge that was killed took away."""
    if not os.path.lexists(one.folder):
        return "" if one.begun else "it is not there; if it was moved, that is for you to delete"
    if one.what != "bank":
        why = kept_because(ledger, connection, one.folder) or holds_others(one.folder)
        if why:
            return why
    elif not is_bank(one.folder):
        return "it is no bank any more"
    if now or one.begun:
        return ""
    if one.until is None:
        return NO_DAY
    return f"it is kept until {one.until}" if one.until > today else ""


def _sized(ledger: Ledger, connection: Connection, one: DueCopy) -> DueCopy:
    """The same, with the bytes that go."""
    if one.kept or not os.path.lexists(one.folder):
        return one
    if one.what == "bank":
        try:
            bank, ids = _of_bank(ledger, connection, one)
            return replace(one, bytes=_bank_bytes(bank, ids))
        except UserError as error:
            return replace(one, damaged=str(error))
    files = (file for file in one.folder.rglob("*") if file.is_file())
    return replace(one, bytes=sum(file.stat().st_size for file in files))


def _of_bank(ledger: Ledger, connection: Connection, one: DueCopy) -> tuple[Bank, list[str]]:
    """A bank, and its ids of samples that the batches of a copy have forgotten."""
    from expunge.shadows.bank import open_bank

    numbers = {number for batch in one.batches for number in requests_of(connection, batch)}
    named = select(request_items.c.id_hmac).where(request_items.c.request.in_(numbers))
    gone = {*connection.scalars(named)}
    bank = open_bank(one.folder)
    return bank, [name for name in bank.ids if name and ledger.key.hmac(name) in gone]


def _bank_bytes(bank: Bank, ids: Collection[str]) -> int:
    """Of weights that learned from samples, and of the logits of these."""
    rows = bank.among(ids)
    if not rows.any():
        return 0
    weights = [bank.weights_file(one) for one in bank.weighed if (bank.half(one) & rows).any()]
    logits = sum(bank.logits_file(one).stat().st_size for one in bank.finished)
    return sum(file.stat().st_size for file in weights) + round(logits * float(rows.mean()))


def _begin(writing: Writing, going: Collection[DueCopy], *, reason: str) -> None:
    """Say what will be deleted, before it is."""
    fresh = [one for one in going if not one.begun]
    if not fresh:
        return
    numbers = [number for one in fresh for number in one.numbers]
    begun = update(copies).where(copies.c.id.in_(numbers))
    writing.connection.execute(begun.values(begun_at=writing.at))
    told = [{"copy": list(one.numbers), "what": one.what, "bytes": one.bytes} for one in fresh]
    writing.event("purge begun", {"copies": told, **({"reason": reason} if reason else {})})


def _delete(ledger: Ledger, one: DueCopy) -> None:
    if not os.path.lexists(one.folder):  # moved aside before a kill, and swept; or not yet
        left = [*one.folder.parent.glob(f".{one.folder.name}.expunge-*")]
        if left:
            raise RequestError(f"{left[0]} could not be deleted; see to it, and purge again")
        return
    if one.what == "bank":
        from expunge.shadows.purge import purge_bank

        with ledger.read() as connection:
            bank, ids = _of_bank(ledger, connection, one)
        purge_bank(bank, ids)
        return
    why = holds_others(one.folder)
    if why:
        raise RequestError(f"{why}; then purge again")
    remedy = "see that it can be deleted, and purge again"
    with reading(one.folder, remedy, RequestError), scratch_beside(one.folder) as room:
        os.rename(one.folder, room / one.folder.name)
    if os.path.lexists(room):
        raise RequestError(f"{room} could not be deleted; see to it, and purge again")


def _ended(writing: Writing, one: DueCopy) -> None:
    """Say what was deleted, once it is."""
    left = (copies.c.id.in_(one.numbers), copies.c.purged_at.is_(None))
    done = update(copies).where(*left).values(purged_at=writing.at)
    if writing.connection.execute(done).rowcount:
        told = {"copy": list(one.numbers), "what": one.what, "bytes": one.bytes}
        writing.event("copy deleted", told)


def _images(ledger: Ledger, place: Place, *, dry_run: bool = False) -> list[str]:
    """Overwrite the struck in the cache of decoded images, if it has any."""
    if not holds_images():
        return []
    from expunge.data.decoded import kept_pixels, strike
    from expunge.trained.opening import load

    model: Trained = load(live_folder(ledger), place=place)
    samples, ids = model.data.train, sorted(model.data.struck.ids)
    size = kept_pixels(samples, ids)
    told = f"decoded images of {len(ids):,} struck samples, {size / 10**6:,.1f} MB"
    if not size or dry_run:
        return [f"would go: {told}"] if size else []
    with ledger.write() as writing:
        writing.event("purge begun", {"images": len(ids), "bytes": size})
    warning = strike(samples, ids)
    if warning is not None:
        raise RequestError(warning)
    with ledger.write() as writing:
        writing.event("images deleted", {"images": len(ids), "bytes": size})
    return [f"deleted: {told}"]
