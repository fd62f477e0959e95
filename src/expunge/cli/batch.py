"""`batch`: forget what was asked, check it, release the model, and certify it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from expunge.cli.ledgers import LedgerDir
from expunge.cli.place import placed
from expunge.cli.request import Reason
from expunge.cli.screen import at_once, consoles, working
from expunge.place import Place

Number = Annotated[int, typer.Argument(metavar="BATCH", help="Its number.", show_default=False)]


@placed("data_dir", "device", "allow_code")
def run(ledger: LedgerDir = None, *, place: Place) -> None:
    """Forget all requests that wait: retrain without them, check the model, release and certify it.

    Killed anywhere, the same command goes on where it was.
    """
    from expunge.requests.finding import found_ledger
    from expunge.requests.ledger import Ledger
    from expunge.requests.running import run_waiting

    screen, messages = consoles()
    with working("batch run") as bars:
        lines = run_waiting(
            Ledger.open(found_ledger(ledger)),
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
    for line in lines:
        screen.print(line, soft_wrap=True)


def abandon(number: Number, reason: Reason, ledger: LedgerDir = None) -> None:
    """Give a batch up: its requests wait for the next one."""
    from expunge.requests import batches
    from expunge.requests.finding import found_ledger
    from expunge.requests.ledger import Ledger

    screen, _ = consoles()
    batches.abandon(Ledger.open(found_ledger(ledger)), number, reason)
    screen.print(f"batch {number} is abandoned; its requests wait for the next one")


def status(ledger: LedgerDir = None) -> None:
    """All batches, and how far each is."""
    from expunge.requests.finding import found_ledger
    from expunge.requests.ledger import Ledger
    from expunge.requests.overview import batch_lines

    screen, _ = consoles()
    for line in batch_lines(Ledger.open(found_ledger(ledger))):
        screen.print(line, soft_wrap=True)
