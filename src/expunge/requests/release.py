"""Which model serves: every one that a ledger knows, and how it came to be that.

A model that passed its gate is a candidate. Once it is promoted it is live, and the one before retired.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sqlalchemy import Connection, RowMapping, insert, select, update

from expunge.disk.reading import reading
from expunge.errors import RequestError
from expunge.requests.ledger import Ledger, Writing, new_key_of
from expunge.requests.states import check_move
from expunge.requests.tables import events, models, releases
from expunge.trained.card import CARD, MASK, WEIGHTS


def file_digests(folder: Path) -> dict[str, str]:
    """Full SHA-256 of the files that make a model, by name. Raises RequestError for what is missing."""
    found = {}
    for name in (WEIGHTS, MASK, CARD):
        file = folder / name
        if name == MASK and not file.exists():
            continue
        with reading(file, "bring the model folder back", RequestError), file.open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def enter(writing: Writing, folder: Path, parent: str | None) -> str:
    """Put a model folder into the ledger, once; returns the SHA-256 of its weights.

    The same weights made again, as after going back to an older model, lie where they were made last.
    """
    found = file_digests(folder)
    digest, lies = found[WEIGHTS], str(folder.absolute())
    one = writing.connection
    there = one.execute(select(models).where(models.c.digest == digest)).mappings().first()
    if there is not None and there["folder"] == lies:
        return digest
    row = {"folder": lies, "card_digest": found[CARD]}
    if there is None:
        values = {"digest": digest, "parent": parent, "made_at": writing.at, **row}
        one.execute(insert(models).values(**values))
    else:
        one.execute(update(models).where(models.c.digest == digest).values(**row))
    writing.event("model entered", {"model": digest, "parent": parent, "files": found})
    return digest


def entered_digests(connection: Connection, model: str) -> dict[str, str]:
    """What `file_digests` said of a model when it was entered last; nothing for one that never was."""
    told = select(events.c.payload).where(
        events.c.kind == "model entered", events.c.payload.contains(f'"model":"{model}"')
    )
    payload = connection.scalar(told.order_by(events.c.seq.desc()).limit(1))
    return {} if payload is None else dict(json.loads(payload)["files"])


def live_row(connection: Connection) -> RowMapping:
    """The model that serves. Raises RequestError where none does."""
    joined = select(models, releases.c.id.label("release")).join(
        releases, releases.c.model == models.c.digest
    )
    found = connection.execute(joined.where(releases.c.state == "live")).mappings().first()
    if found is None:
        raise RequestError("no model is live; `expunge release list` shows what there is")
    return found


def has_live(connection: Connection) -> bool:
    """Whether a model serves."""
    return connection.scalar(select(releases.c.id).where(releases.c.state == "live")) is not None


def release_row(connection: Connection, number: int) -> RowMapping:
    """A release and its model's folder. Raises RequestError for a number that there is not."""
    joined = select(releases, models.c.folder).join(models, models.c.digest == releases.c.model)
    found = connection.execute(joined.where(releases.c.id == number)).mappings().first()
    if found is None:
        raise RequestError(f"there is no release {number}; `expunge release list` shows them")
    return found


def live_folder(ledger: Ledger) -> Path:
    """The folder of the model that serves, its files checked to be those that were released.

    Raises RequestError for one that is gone or was changed.
    """
    with ledger.read() as connection:
        row = live_row(connection)
    return checked_folder(ledger, row["digest"], Path(row["folder"]))


def checked_folder(ledger: Ledger, model: str, folder: Path) -> Path:
    """The folder of a model. Raises RequestError where its files are not those that were entered."""
    with ledger.read() as connection:
        entered = entered_digests(connection, model)
    if file_digests(folder) != entered:
        raise RequestError(
            f"the model's files in {folder} are not those that were released; bring the folder back "
            "from a backup, or see who changed it"
        )
    return folder


def offer(writing: Writing, digest: str, *, batch: int | None, reason: str) -> int:
    """Note a model as one that may serve, once for a batch; returns the number of its release."""
    one = writing.connection
    known = select(releases.c.id).where(releases.c.model == digest, releases.c.batch == batch)
    there = one.scalar(known.where(releases.c.state == "candidate"))
    if there is not None:
        return int(there)
    row = {"model": digest, "state": "candidate", "since": writing.at, "actor": writing.actor}
    made = one.execute(insert(releases).values(**row, reason=reason, batch=batch))
    number = new_key_of(made)
    writing.event("model offered", {"release": number, "model": digest, "batch": batch})
    return number


def promote(writing: Writing, digest: str, *, batch: int | None, reason: str) -> None:
    """Let a model serve, in place of the one that does; again, it changes nothing."""
    one = writing.connection
    now = live_row(one) if has_live(one) else None
    if now is not None and now["digest"] == digest:
        return
    number = offer(writing, digest, batch=batch, reason=reason)
    if now is not None:
        turn(writing, now["release"], "retired")
    turn(writing, number, "live", reason=reason)
    told = {"model": digest, "in_place_of": None if now is None else now["digest"], "batch": batch}
    writing.event("model released", {"release": number, **told, "reason": reason})


def turn(writing: Writing, number: int, to: str, **values: str) -> None:
    """Take a release one step on; whoever calls it tells. Raises RequestError for no such step."""
    row = release_row(writing.connection, number)
    check_move("release", f"release {number}", row["state"], to)
    changed = {"state": to, "since": writing.at, "actor": writing.actor, **values}
    writing.connection.execute(update(releases).where(releases.c.id == number).values(**changed))


def retire_candidates(writing: Writing, batch: int) -> None:
    """A batch was given up, and what it offered will not serve."""
    waits = select(releases.c.id).where(releases.c.batch == batch, releases.c.state == "candidate")
    for number in writing.connection.scalars(waits).all():
        turn(writing, number, "retired", reason="its batch was abandoned")
        writing.event("model not released", {"release": number, "batch": batch})
