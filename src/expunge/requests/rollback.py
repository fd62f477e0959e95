"""Going back to an earlier model, which learned what was struck since: a named person decides that.

The decision is an event, and a batch that retrains without those samples is open from that moment on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, select

from expunge.errors import RequestError
from expunge.requests.batches import batch_row, freeze, give_up, open_batch
from expunge.requests.ledger import Ledger
from expunge.requests.lineage import StruckWithin, struck_within, undone_by
from expunge.requests.moving import move
from expunge.requests.release import checked_folder, live_row, release_row, turn
from expunge.requests.states import check_move
from expunge.requests.tables import copies


@dataclass(frozen=True)
class RolledBack:
    """What came of going back. within: struck samples that the model which serves now contains.
    requests: that are to be forgotten again. batch: that does it; None where nothing was undone.
    """

    folder: Path
    within: StruckWithin
    requests: tuple[int, ...]
    batch: int | None

    def lines(self) -> list[str]:
        """What a person is told."""
        told = [f"live: {self.folder}: {self.within}"]
        if self.requests:
            numbers = ", ".join(map(str, self.requests))
            told.append(f"to be forgotten again: request{'s' * (len(self.requests) > 1)} {numbers}")
        if self.batch is not None:
            told.append(f"batch {self.batch} is open, and retrains; next: expunge batch run")
        return told


def roll_back(
    ledger: Ledger, number: int, reason: str, *, by: str = "", confirmed: bool = False
) -> RolledBack:
    """Let an earlier model serve again, by the number of its release.

    What was forgotten since and is not in that model waits again, and a batch of it is opened at once;
    one that was not done is abandoned, for it began from the model that no longer serves. by: the person
    who decides it, needed where anything is undone.

    Raises RequestError where it is not confirmed, nobody is named who decides, or the model's files are
    gone or changed; for one that serves, never served, or is a candidate.
    """
    with ledger.read() as connection:
        row = release_row(connection, number)
        _check_served(connection, row)
    folder = checked_folder(ledger, row["model"], Path(row["folder"]))
    with ledger.write(by or None) as writing:
        one = writing.connection
        row = release_row(one, number)
        _check_served(one, row)
        within, undone = struck_within(one, row["model"]), undone_by(one, row["model"])
        _check_decided(row, within, undone, by=by, confirmed=confirmed)
        live = live_row(one)
        going_on = open_batch(one)
        if going_on is not None:
            give_up(writing, going_on["id"], f"rolled back to release {number}")
        turn(writing, live["release"], "rolled_back")
        turn(writing, number, "live", reason=reason)
        told: dict[str, Any] = {"release": number, "model": row["model"], "from": live["release"]}
        told |= {
            "contains": within.count,
            "requests": undone,
            "by": writing.actor,
            "reason": reason,
        }
        writing.event("model rolled back", told)
        for one_request in undone:
            move(writing, one_request, "struck", reason=f"rolled back to release {number}")
        batch = freeze(writing) if undone else None
    return RolledBack(folder, within, tuple(undone), batch)


def _check_served(connection: Any, row: RowMapping) -> None:
    """Raise RequestError for a release that cannot serve again."""
    number, state = row["id"], row["state"]
    if state == "candidate":
        raise RequestError(
            f"release {number} is a candidate; `expunge release promote {number}` lets it serve"
        )
    if state == "live":
        raise RequestError(f"release {number} serves already; see `expunge release list`")
    check_move("release", f"release {number}", state, "live")
    if row["batch"] is not None and batch_row(connection, row["batch"])["state"] != "released":
        raise RequestError(
            f"release {number} never served, for batch {row['batch']} was abandoned; choose another of "
            "`expunge release list`"
        )
    gone = select(copies.c.begun_at).where(
        copies.c.folder == row["folder"], copies.c.what != "bank", copies.c.begun_at.is_not(None)
    )
    if (at := connection.scalar(gone)) is not None:
        raise RequestError(f"the model of release {number} was deleted at {at}; choose another")


def _check_decided(
    row: RowMapping, within: StruckWithin, undone: list[int], *, by: str, confirmed: bool
) -> None:
    number = row["id"]
    if undone and not (by.strip() and confirmed):
        raise RequestError(
            f"release {number} {within}: {len(undone)} request{'s' * (len(undone) > 1)} that were "
            "forgotten since would be undone until a batch has retrained; if a person decides that, do "
            f"`expunge release rollback {number} --by NAME --reason TEXT --yes`"
        )
    if not confirmed:
        raise RequestError(
            f"release {number} would serve in place of the live one; confirm with --yes"
        )
