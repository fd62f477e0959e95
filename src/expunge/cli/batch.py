"""`batch`: forget what was asked, check it, release the model, and certify it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from expunge.methods import Method

Number = Annotated[int, typer.Argument(metavar="BATCH", help="Its number.", show_default=False)]


Review = Annotated[
    str, typer.Option("--review", metavar="TIME", help="That people take before a release.")
]


@placed("data_dir", "allow_code")
def plan(
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="The way that is planned; beside it all that was qualified is looked at.",
            show_default="retraining",
        ),
    ] = None,
    settings: SetFields = None,
    batches: Annotated[
        int, typer.Option("--batches", min=1, help="That one qualification is expected to serve.")
    ] = 12,
    review: Review = "1h",
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """What forgetting all that waits would cost by each way, when the batch starts, and why then.

    Where a qualification does not cover it, what it lacks is said.
    """
    from expunge.requests.planning import next_batch_lines

    screen, _ = consoles()
    seconds = read_seconds(review, "--review")
    found = opened(ledger)
    made = _made(method, settings)
    lines = next_batch_lines(found, made, batches=batches, review_seconds=seconds, place=place)
    for line in lines:
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
    promote: Annotated[
        bool,
        typer.Option(
            "--promote/--no-promote",
            help="Whether the model serves at once, or waits for `expunge release promote`.",
        ),
    ] = True,
    due: Annotated[
        bool,
        typer.Option(
            "--due",
            help="Begin a batch only if its time has come, as `batch plan` says it; for cron.",
        ),
    ] = False,
    review: Review = "1h",
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """Forget all requests that wait: retrain without them, check the model, release and certify it.

    Killed anywhere, the same command goes on where it was.
    """
    from expunge.requests.running import run_waiting

    screen, messages = consoles()
    made, seconds = _made(method, settings), read_seconds(review, "--review")
    with working("batch run") as bars:
        lines = run_waiting(
            opened(ledger),
            made,
            release=promote,
            due=due,
            review_seconds=seconds,
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
    for line in lines:
        screen.print(line, soft_wrap=True)


def _made(method: str | None, settings: list[str] | None) -> Method | None:
    """The method that was typed; None for retraining."""
    from expunge.methods import make_method

    return None if method is None else make_method(method, read_pairs(settings), allow_code=TYPED)


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
