"""The version of a ledger's tables, and how they are brought up to date."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from expunge.errors import RequestError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def newest() -> str:
    """The version that this version of Expunge writes."""
    return max(file.stem.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def schema_of(connection: Connection) -> str:
    """The version of the tables that are there, "" for none."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def check_not_newer(version: str, folder: Path) -> None:
    """Raise RequestError for tables that a later version of Expunge wrote."""
    if version > newest():
        raise RequestError(
            f"the tables of {folder} are of version {version}, and this program knows {newest()} at "
            "most; use the newer Expunge that wrote them"
        )


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date, in the transaction of a connection."""
    from alembic import command  # slow to import

    command.upgrade(alembic_config(connection), "head")


def alembic_config(connection: Connection) -> Config:
    """What Alembic needs to know."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
