"""`batch`: forget what was asked, check it, release the model, and certify it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from expunge.advice.duration import read_seconds
from expunge.cli.arguments import read_pairs
from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.options import SetFields
from expunge.cli.place import placed
from expunge.cli.request import Reason
from expunge.cli.screen import at_once, consoles, working
from expunge.names.code import TYPED
from expunge.place import Place

Number = Annotated[int, typer.Argument(metavar="BATCH", help="Its number.", show_default=False)]


def plan(
    batches: Annotated[
        int, typer.Option("--batches", min=1, help="That one qualification is expected to serve.")
    ] = 12,
    review: Annotated[
        str, typer.Option("--review", metavar="TIME", help="That people take before a release.")
    ] = "1h",
    ledger: LedgerDir = None,
) -> None:
    """What forgetting all that waits would cost by each way, and until when it must start."""
    from expunge.requests.planning import next_batch_lines

    screen, _ = consoles()
    seconds = read_seconds(review, "--review")
    found = opened(ledger)
    for line in next_batch_lines(found, batches=batches, review_seconds=seconds):
        screen.print(line, soft_wrap=True)


@placed("data_dir", "device", "allow_code")
def run(
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="A method that `expunge gate run` found equivalent; if its model does not pass, "
            "retraining follows.",
            show_default="retraining",
        ),
    ] = None,
    settings: SetFields = None,
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """Forget all requests that wait: retrain without them, check the model, release and certify it.

    Killed anywhere, the same command goes on where it was.
    """
    from expunge.methods import make_method
    from expunge.requests.running import run_waiting

    screen, messages = consoles()
    made = None if method is None else make_method(method, read_pairs(settings), allow_code=TYPED)
    with working("batch run") as bars:
        lines = run_waiting(
            opened(ledger),
            made,
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
    for line in lines:
        screen.print(line, soft_wrap=True)


def abandon(number: Number, reason: Reason, ledger: LedgerDir = None) -> None:
    """Give a batch up: its requests wait for the next one."""
    from expunge.requests import batches

    screen, _ = consoles()
    batches.abandon(opened(ledger), number, reason)
    screen.print(f"batch {number} is abandoned; its requests wait for the next one")


def status(ledger: LedgerDir = None) -> None:
    """All batches, and how far each is."""
    from expunge.requests.overview import batches_told

    screen, _ = consoles()
    for line in batches_told(opened(ledger)):
        screen.print(line, soft_wrap=True)
