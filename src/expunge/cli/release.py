"""`release`: which model serves, which did before, and what is kept of those."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.place import placed
from expunge.cli.request import Reason
from expunge.cli.screen import at_once, consoles, working
from expunge.place import Place

Number = Annotated[
    int,
    typer.Argument(
        metavar="RELEASE", help="Its number, as `release list` says it.", show_default=False
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Confirm it.")]


@placed("data_dir", "device", "allow_code")
def promote(number: Number, ledger: LedgerDir = None, *, place: Place) -> None:
    """Let a candidate serve, which `batch run --no-promote` left, and certify its batch."""
    from expunge.requests.running import promoted

    screen, messages = consoles()
    with working("release promote"):
        lines = promoted(opened(ledger), number, place=replace(place, tell=at_once(messages)))
    for line in lines:
        screen.print(line, soft_wrap=True)


def rollback(
    number: Number,
    reason: Reason,
    by: Annotated[
        str,
        typer.Option("--by", help="Who decides it, where the model knows what was struck since."),
    ] = "",
    yes: Yes = False,
    ledger: LedgerDir = None,
) -> None:
    """Let an earlier model serve again.

    If it learned what was struck since, a named person must decide that, and a batch which retrains
    without those samples is opened at once.
    """
    from expunge.requests.certifying import refresh_pages
    from expunge.requests.rollback import roll_back

    screen, _ = consoles()
    found = opened(ledger)
    done = roll_back(found, number, reason, by=by, confirmed=yes)
    refresh_pages(found)
    for line in done.lines():
        screen.print(line, soft_wrap=True)


@placed("data_dir", "allow_code")
def purge(
    now: Annotated[
        bool, typer.Option("--now", help="Also what certificates name a later day for.")
    ] = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why it is deleted before its day.", show_default=False)
    ] = "",
    yes: Yes = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would go, and how large it is; delete nothing."),
    ] = False,
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """Delete what still knows struck samples, on the day that certificates name.

    Models that served or never did, with their stages and statistics; logits of the struck in banks;
    decoded images. Killed anywhere, the same command goes on where it was.
    """
    from expunge.requests.purging import purge_lines

    screen, messages = consoles()
    with working("release purge"):
        lines = purge_lines(
            opened(ledger),
            now=now,
            reason=reason,
            confirmed=yes,
            dry_run=dry_run,
            place=replace(place, tell=at_once(messages)),
        )
    for line in lines:
        screen.print(line, soft_wrap=True)


def list_(ledger: LedgerDir = None) -> None:
    """Every model that serves, did or may, the live one first, and what it knows of the struck."""
    from expunge.requests.overview import release_lines

    screen, _ = consoles()
    for line in release_lines(opened(ledger)):
        screen.print(line, soft_wrap=True)
