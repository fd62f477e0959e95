"""A ledger: one folder with its database, in which nothing is lost and nothing is done twice.

    ledger = Ledger.create("runs/original-ledger", "runs/original")
    with ledger.write("erika") as writing:
        writing.event("noted", {"what": "the policy was read"})

SQLite in the folder by default, PostgreSQL by its URL; the folder is the ledger's either way.
"""

from __future__ import annotations

import getpass
import os
import secrets
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from expunge.data.pseudonyms import KEY_BYTES
from expunge.data.suppressed import (
    LEDGER,
    LedgerFile,
    LedgerKey,
    ledger_key_file,
    open_ledger_key,
    read_ledger_file,
    write_pointer,
)
from expunge.disk.reading import reading
from expunge.errors import RequestError
from expunge.requests import events
from expunge.requests.schema import check_not_newer, newest, schema_of, upgrade
from expunge.requests.tables import settings

EXAMPLE = "postgresql://me@localhost/requests"
ONE_WRITER = 8_461_923
"""The number of PostgreSQL's advisory lock that a writer holds."""


def this_moment() -> str:
    """This moment, as a ledger writes it."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """A moment as a ledger writes it: ISO 8601 in UTC, to the second. ValueError without a zone."""
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(stamped: str) -> datetime:
    """A moment that a ledger wrote."""
    return datetime.strptime(stamped, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def to_the_minute(stamped: str) -> str:
    """The same for a reader: `2026-11-27 09:30 UTC`."""
    return f"{moment(stamped):%Y-%m-%d %H:%M} UTC"


def new_key_of(inserted: CursorResult[Any]) -> int:
    """The number that a new row got."""
    (number,) = inserted.inserted_primary_key or (0,)
    return int(number)


def whoever() -> str:
    """Who is at the terminal: EXPUNGE_ACTOR, else the user's name."""
    if named := os.environ.get("EXPUNGE_ACTOR"):
        return named
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


@dataclass(frozen=True)
class Writing:
    """A transaction that changes a ledger, and tells of it."""

    connection: Connection
    actor: str
    at: str

    def event(self, kind: str, payload: Mapping[str, Any]) -> events.Head:
        """Tell what is done, in the same transaction."""
        return events.append(self.connection, self.at, self.actor, kind, payload)


@dataclass(frozen=True, eq=False)
class Ledger:
    """An open ledger. file: what its folder says. key: stands for ids."""

    file: LedgerFile
    key: LedgerKey
    engine: Engine

    def __post_init__(self) -> None:
        weakref.finalize(self, self.engine.dispose)  # its connections are closed when it is gone

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.file.folder

    @classmethod
    def create(
        cls, folder: str | Path, told: Mapping[str, str], *, data_set: str, url: str = "sqlite"
    ) -> Ledger:
        """Begin a ledger in a folder, or bring the tables of one that is there up to date.

        told: settings, which stay as they are in a ledger that is there. data_set: what its model
        learned from. url: "sqlite", or of a PostgreSQL database that has no ledger yet.

        Raises RequestError where that is not possible.
        """
        folder = Path(folder)
        fresh = not (folder / LEDGER).exists() or _never_begun(folder)
        if fresh:
            check_url(url)
            key = LedgerKey(secrets.token_bytes(KEY_BYTES))
            file = LedgerFile(folder, uuid.uuid4().hex, url, key.name, (data_set,))
            with reading(folder, "choose another folder", RequestError):
                folder.mkdir(parents=True, exist_ok=True)
        else:
            file = read_ledger_file(folder)
            key = open_ledger_key(file.key, folder)
        ledger = cls(file, key, _engine(file))
        with ledger._telling(), ledger.engine.begin() as connection:
            _alone(connection)
            check_not_newer(schema_of(connection), folder)
            upgrade(connection)
            rows = connection.execute(select(settings.c.name, settings.c.value))
            known = {name: value for name, value in rows}
            if known.get("ledger", file.name) != file.name:
                raise RequestError(
                    f"{url if fresh else file.url} holds another ledger already; give it a database of "
                    "its own, or bring back the ledger.json that names it"
                )
            for name, value in {"ledger": file.name, **told}.items():
                if name not in known:
                    connection.execute(insert(settings).values(name=name, value=value))
            if not known:
                writing = Writing(connection, whoever(), this_moment())
                writing.event("ledger begun", {"ledger": file.name, "settings": dict(told)})
            if fresh:  # before the database says so: whoever comes back after a kill finds both, or
                with reading(folder, "choose another folder", RequestError):
                    file.write()  # this alone, which no key is left over from (see `_never_begun`)
                    key.keep()
        return ledger

    @classmethod
    def open(cls, folder: str | Path) -> Ledger:
        """A ledger that was begun. Raises RequestError for a folder that is none, or is out of date."""
        file = read_ledger_file(Path(folder))
        if file.url == "sqlite" and not (file.folder / "ledger.db").is_file():
            raise RequestError(f"{folder} has no ledger.db; bring it back from a backup")
        ledger = cls(file, open_ledger_key(file.key, file.folder), _engine(file))
        with ledger.read() as connection:
            found = schema_of(connection)
        check_not_newer(found, ledger.folder)
        if found != newest():
            raise RequestError(
                f"the tables of {folder} are of version {found}, and this program writes {newest()}; "
                f"bring them up to date with `expunge ledger init MODEL_DIR --out {folder}`"
            )
        return ledger

    @contextmanager
    def write(self, actor: str | None = None) -> Iterator[Writing]:
        """A transaction of one writer, all of it or nothing. actor: who does it; None: the user."""
        with self._telling(), self.engine.begin() as connection:
            _alone(connection)
            yield Writing(connection, actor or whoever(), this_moment())

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A look at the whole as it is at one moment."""
        with self._telling(), self.engine.connect() as connection:
            if connection.dialect.name != "sqlite":  # whose transactions always are so
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def setting(self, name: str) -> str:
        """Of a ledger, by its name; "" where it has none."""
        with self.read() as connection:
            return self.setting_in(connection, name)

    def setting_in(self, connection: Connection, name: str) -> str:
        """As `setting`, within a transaction."""
        found = connection.scalar(select(settings.c.value).where(settings.c.name == name))
        return found or ""

    def set(self, writing: Writing, name: str, value: str) -> None:
        """Change a setting, and tell."""
        done = writing.connection.execute(
            update(settings).where(settings.c.name == name).values(value=value)
        )
        if not done.rowcount:
            writing.connection.execute(insert(settings).values(name=name, value=value))
        writing.event("setting changed", {"name": name, "value": value})

    def point_from(self, file: Path) -> None:
        """Leave a pointer to this ledger in a file. Raises as `write_pointer` does."""
        write_pointer(file, [self.file])

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Whatever the database says becomes one line."""
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise RequestError(
                f"the database of {self.folder} does not do it ({reason}); nothing of this step is "
                "kept: see that it runs and has room, and try again"
            ) from error


def check_url(url: str) -> None:
    """Raise RequestError for a database that cannot hold a ledger, or a URL that would tell its password
    to whoever reads the ledger's folder.
    """
    if url == "sqlite":
        return
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError) as error:
        raise RequestError(f"--database is no URL; write it as {EXAMPLE}") from error
    if parsed.password or "password" in parsed.query:
        raise RequestError(
            "--database holds a password, which would lie in ledger.json; leave it out, and give it by "
            f"PGPASSWORD or in a file: {EXAMPLE}?passfile=/home/me/.pgpass"
        )
    if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        raise RequestError(f"--database takes sqlite, or PostgreSQL as in {EXAMPLE}")


def _never_begun(folder: Path) -> bool:
    """Whether a kill ended the beginning of a ledger when its folder named a key that was not written
    yet: nothing was kept under that, for its database has no tables.
    """
    file = read_ledger_file(folder)
    there = file.url != "sqlite" or (folder / "ledger.db").is_file()
    if not there or os.path.lexists(ledger_key_file(file.key)):
        return False
    engine = _engine(file)
    try:
        with engine.connect() as connection:
            return schema_of(connection) == ""
    except SQLAlchemyError:  # nobody can tell: then it is the key that is missed
        return False
    finally:
        engine.dispose()


def _engine(file: LedgerFile) -> Engine:
    try:
        engine = create_engine(file.database, connect_args=file.waits)
    except ModuleNotFoundError as error:
        raise RequestError(
            f"the ledger {file.folder} is in PostgreSQL, for which psycopg is missing; do: pip install "
            "'expunge[postgres]'"
        ) from error
    if file.url == "sqlite":
        event.listen(engine, "connect", _prepared)
        event.listen(engine, "begin", _begun)
    return engine


def _prepared(connection: Any, _record: Any) -> None:
    """Settings of SQLite that hold for a connection; transactions are begun by `_begun`."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _alone(connection: Connection) -> None:
    """Wait until no other writer is at work, so that events follow each other."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({ONE_WRITER})"))
