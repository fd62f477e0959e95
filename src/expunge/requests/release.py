"""Which model serves: every one that a ledger knows, and how it came to be that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from sqlalchemy import Connection, RowMapping, insert, select, update

from expunge.disk.reading import reading
from expunge.errors import RequestError
from expunge.requests.ledger import Ledger, Writing
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
    """Put a model folder into the ledger, once; returns the SHA-256 of its weights."""
    found = file_digests(folder)
    digest = found[WEIGHTS]
    there = select(models.c.digest).where(models.c.digest == digest)
    if writing.connection.scalar(there) is None:
        row = {"digest": digest, "parent": parent, "folder": str(folder.absolute())}
        row |= {"card_digest": found[CARD], "made_at": writing.at}
        writing.connection.execute(insert(models).values(**row))
        told = {"model": digest, "parent": parent, "files": found}
        writing.event("model entered", told)
    return digest


def entered_digests(connection: Connection, model: str) -> dict[str, str]:
    """What `file_digests` said of a model when it was entered; nothing for one that never was."""
    told = select(events.c.payload).where(
        events.c.kind == "model entered", events.c.payload.contains(f'"model":"{model}"')
    )
    payload = connection.scalar(told.order_by(events.c.seq))
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


def live_folder(ledger: Ledger) -> Path:
    """The folder of the model that serves, its files checked to be those that were released.

    Raises RequestError for one that is gone or was changed.
    """
    with ledger.read() as connection:
        row = live_row(connection)
        entered = entered_digests(connection, row["digest"])
    folder = Path(row["folder"])
    if file_digests(folder) != entered:
        raise RequestError(
            f"the model's files in {folder} are not those that were released; bring the folder back "
            "from a backup, or see who changed it"
        )
    return folder


def promote(writing: Writing, digest: str, *, batch: int | None, reason: str) -> None:
    """Let a model serve, in place of the one that does; again, it changes nothing."""
    one = writing.connection
    now = one.execute(select(releases).where(releases.c.state == "live")).mappings().first()
    if now is not None:
        if now["model"] == digest:
            return
        check_move("release", "the live model", "live", "retired")
        retired = update(releases).where(releases.c.id == now["id"])
        one.execute(retired.values(state="retired"))
    row = {"model": digest, "state": "live", "since": writing.at, "actor": writing.actor}
    one.execute(insert(releases).values(**row, reason=reason, batch=batch))
    told = {"model": digest, "in_place_of": None if now is None else now["model"], "batch": batch}
    writing.event("model released", told | {"reason": reason})
