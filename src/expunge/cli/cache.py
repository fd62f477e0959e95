"""`cache`: see what is kept to save time, and remove it."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.screen import consoles
from expunge.disk.cache import DAY, Cached, cache_folder, cached, limit_bytes, purge

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="What `expunge cache list` calls it; by default all.",
        show_default=False,
    ),
]
OlderThan = Annotated[
    float,
    typer.Option("--older-than", min=0, help="Only what was not used for so many days."),
]


def list_() -> None:
    """Show what is kept to save time: of which data, how large, when it was used last.

    All of it can be made again, but for the row numbers that deletions struck.
    """
    limit, found = limit_bytes(), cached()
    screen = consoles()[0]
    if found:
        screen.print(_table(found))
    images = sum(one.bytes for one in found if one.is_images)
    screen.print(
        f"{_megabytes(sum(one.bytes for one in found))} in {cache_folder()}; decoded images "
        f"{_megabytes(images)} of at most {_megabytes(limit)} (EXPUNGE_CACHE_GB)",
        soft_wrap=True,
    )


def purge_(names: Names = None, older_than: OlderThan = 0.0) -> None:
    """Remove what is kept, all or some of it, and say what that freed.

    The row numbers that deletions struck go only by their name, `struck`: without them the images would
    be kept again.
    """
    gone = purge(names or [], older_than)
    screen = consoles()[0]
    for one in gone:
        screen.print(f"removed: {one.name}, {one.words}", soft_wrap=True)
    screen.print(f"freed: {_megabytes(sum(one.bytes for one in gone))}")


def _table(found: list[Cached]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    table.add_column("of which data", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    for one in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used))
        days = (time.time() - one.used) / DAY
        ago = f" ({days:.0f} days ago)" if days >= 2 else ""
        table.add_row(one.name, one.what, one.of_data, _megabytes(one.bytes), f"{used}{ago}")
    return table


def _megabytes(size: int) -> str:
    return f"{size / 10**6:,.1f} MB"
