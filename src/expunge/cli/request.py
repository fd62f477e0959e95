"""`request`: receive one, decide it, and see what became of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.place import placed
from expunge.cli.screen import consoles, working
from expunge.errors import RequestError
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.requests.ledger import Ledger

Number = Annotated[int, typer.Argument(metavar="REQUEST", help="Its number.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why.", show_default=False)]


@placed("data_dir", "allow_code")
def add(
    ids: Annotated[
        str,
        typer.Option(
            "--ids",
            metavar="FILE",
            help="Ids, one a line, UTF-8; - for standard input.",
            show_default=False,
        ),
    ],
    source: Annotated[str, typer.Option("--source", help="Where it came from.")] = "terminal",
    received: Annotated[
        str | None,
        typer.Option(
            "--received", help="When it came, ISO 8601: a day, or with a zone.", show_default="now"
        ),
    ] = None,
    due: Annotated[
        str | None,
        typer.Option(
            "--due", help="Until when, ISO 8601, in place of the law's.", show_default=False
        ),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option("--law", help="By which deadlines.", show_default="the ledger's"),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="Tells that it is the same request again.", show_default="its content"
        ),
    ] = None,
    undecided: Annotated[
        bool, typer.Option("--undecided", help="Receive it alone; `request approve` decides.")
    ] = False,
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """Receive a request to forget samples: decided and struck at once, for you answer for the ledger.

    From then on nothing that learns reads them, whatever becomes of the models.
    """
    from expunge.requests.clocks import policies_of
    from expunge.requests.policy import policy_of
    from expunge.requests.receiving import Received, receive

    screen, _ = consoles()
    with working("request add"):
        found = opened(ledger)
        clock = policy_of(law or found.setting("law"), policies_of(found)).clock
        done = receive(
            found,
            ids,
            Received(
                source=source,
                at=datetime.now(UTC) if received is None else read_received(received, clock),
                due=None if due is None else read_moment(due, "--due", clock),
                law=law,
                key=key or "",
                decided=not undecided,
            ),
            place=place,
        )
    for line in done:
        screen.print(line, soft_wrap=True)


def read_received(text: str, clock: tzinfo) -> datetime:
    """When a request came, as typed; a day alone is its beginning. Raises RequestError."""
    found = read_moment(text, "--received", clock, time())
    if found > datetime.now(UTC):
        raise RequestError(f"--received {text!r} is still to come; give the time at which it came")
    return found


def read_moment(
    text: str, name: str, clock: tzinfo, of_day: time = time(23, 59, 59, fold=1)
) -> datetime:
    """A moment as typed; of a day alone, that time by the law's clock. Raises RequestError."""
    from expunge.requests.deadlines import YEARS

    try:
        found = datetime.fromisoformat(text)
        with suppress(ValueError):
            found = datetime.combine(date.fromisoformat(text), of_day, clock)
    except ValueError as error:
        raise RequestError(
            f"{name} {text!r} is no time; write it as 2026-11-27T09:30+01:00"
        ) from error
    if found.year not in YEARS:
        raise RequestError(f"{name} {text!r} lies outside the years 2000 to 2099; look at the year")
    if found.tzinfo is None:
        raise RequestError(f"{name} {text!r} has no time zone; write it as {text}+01:00")
    return found


@placed("data_dir", "allow_code")
def approve(number: Number, ledger: LedgerDir = None, *, place: Place) -> None:
    """Decide that a request will be done; its samples are struck at once."""
    from expunge.requests.receiving import approved

    screen, _ = consoles()
    with working("request approve"):
        counts = approved(opened(ledger), number, place=place)
    screen.print(f"request {number} is {counts}", soft_wrap=True)


def refuse(number: Number, reason: Reason, ledger: LedgerDir = None) -> None:
    """Refuse a request that nothing was struck for."""
    from expunge.requests import intake

    _told(intake.refuse, number, reason, ledger, "is refused")


def withdraw(number: Number, reason: Reason, ledger: LedgerDir = None) -> None:
    """Note that whoever asked takes a request back; once struck it stays so."""
    from expunge.requests import intake

    _told(intake.withdraw, number, reason, ledger, "is withdrawn")


def hold(
    number: Number,
    ground: Annotated[str, typer.Option("--ground", help="Why it waits; empty: no longer.")],
    ledger: LedgerDir = None,
) -> None:
    """Note why a request waits. The legal clock goes on."""
    from expunge.requests import intake

    _told(intake.hold, number, ground, ledger, "is held" if ground else "goes on")


def duplicate(
    number: Number,
    of: Annotated[int, typer.Option("--of", help="The earlier request, which asks for all of it.")],
    reason: Reason,
    ledger: LedgerDir = None,
) -> None:
    """Say that a request asks for what an earlier one does: it is answered with that one."""
    from expunge.requests import duplicates

    screen, _ = consoles()
    duplicates.duplicate(opened(ledger), number, of, reason)
    screen.print(f"request {number} is a duplicate of request {of}, and answered with it")


def extend(number: Number, reason: Reason, ledger: LedgerDir = None) -> None:
    """Note that the person was told of a later date, and why, as the request's law allows."""
    from expunge.requests.receiving import extend_by_law

    screen, _ = consoles()
    due = extend_by_law(opened(ledger), number, reason)
    screen.print(f"request {number} is due {due}")


def _told(
    change: Callable[[Ledger, int, str], None],
    number: int,
    why: str,
    ledger: Path | None,
    what: str,
) -> None:

    screen, _ = consoles()
    change(opened(ledger), number, why)
    screen.print(f"request {number} {what}")


def list_(ledger: LedgerDir = None) -> None:
    """All requests, the one that is due first at the top."""
    from expunge.requests.overview import all_requests

    screen, _ = consoles()
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("request", "state", "received", "due", "samples", "source"):
        table.add_column(heading)
    for row in all_requests(opened(ledger)):
        table.add_row(*row)
    screen.print(table)


def show(number: Number, ledger: LedgerDir = None) -> None:
    """One request: what it names, what was decided, and every event of it."""
    from expunge.requests.overview import request_lines

    screen, _ = consoles()
    for line in request_lines(opened(ledger), number):
        screen.print(line, soft_wrap=True)
