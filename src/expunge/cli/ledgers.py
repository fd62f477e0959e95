"""`ledger`: begin one, see what it holds, check that nobody changed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.options import MODEL_DIR
from expunge.cli.place import placed
from expunge.cli.screen import at_once, consoles, working
from expunge.errors import RequestError
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.requests.ledger import Ledger

LedgerDir = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        help="Folder of the ledger, or of a model that points to it.",
        show_default="EXPUNGE_LEDGER, or what the working folder points to",
    ),
]


def opened(ledger: Path | None) -> Ledger:
    """The ledger that a command means, open."""
    from expunge.requests.finding import found_ledger
    from expunge.requests.ledger import Ledger

    return Ledger.open(found_ledger(ledger))


@placed("data_dir", "allow_code")
def init(
    model_dir: Annotated[Path, MODEL_DIR],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the ledger.", show_default="MODEL_DIR-ledger"),
    ] = None,
    organisation: Annotated[
        str, typer.Option("--organisation", help="Who answers for it, as certificates name it.")
    ] = "not named",
    role: Annotated[str, typer.Option("--role", help="What it is in this.")] = "controller",
    law: Annotated[
        str, typer.Option("--law", help="By which deadlines requests are due: see `policies`.")
    ] = "gdpr",
    database: Annotated[
        str, typer.Option("--database", help="`sqlite`, or the URL of a PostgreSQL database.")
    ] = "sqlite",
    *,
    place: Place,
) -> None:
    """Begin a ledger of deletion requests for a model, which is live from then on.

    On a ledger that is there it brings the tables up to date, and changes nothing else.
    """
    from expunge.requests.beginning import begin

    screen, messages = consoles()
    with working("ledger init"):
        begun = begin(
            model_dir,
            out,
            told={"organisation": organisation, "role": role, "law": law},
            database=database,
            place=place,
            tell=at_once(messages),
        )
    for line in begun.lines():
        screen.print(line, soft_wrap=True)


def status(ledger: LedgerDir = None) -> None:
    """What waits, what is due when, and which model is live."""
    from expunge.requests.overview import overview

    screen, _ = consoles()
    found = overview(opened(ledger))
    for line in found.lines:
        screen.print(line, soft_wrap=True)
    if found.waiting:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("request", "state", "received", "due", "samples", "source"):
            table.add_column(heading)
        for row in found.waiting:
            table.add_row(*row)
        screen.print(table)


def verify(
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="SEQ:HASH",
            help="A head of the chain that was noted elsewhere, as in a certificate.",
            show_default=False,
        ),
    ] = None,
    ledger: LedgerDir = None,
) -> None:
    """Check the chain of events, the files of every model, and every certificate.

    That the end was cut off, or that all of it is a backup of before, shows only beside a --head.
    """
    from expunge.requests.checking import check_ledger, read_head

    screen, _ = consoles()
    noted = None if head is None else read_head(head)
    found = check_ledger(opened(ledger), noted)
    for line in found.lines:
        screen.print(line, soft_wrap=True)
    if found.faults:
        raise RequestError(f"{found.faults[0]}" + _more(len(found.faults) - 1))


def _more(count: int) -> str:
    return f" (and {count} more)" if count else ""


def rotate_key(
    reason: Annotated[str, typer.Option("--reason", help="Why.", show_default=False)],
    ledger: LedgerDir = None,
) -> None:
    """Make a new key that signs certificates from now on; earlier ones are checked with the old key."""
    from expunge.requests import signers

    screen, _ = consoles()
    file = signers.rotate_key(opened(ledger), reason)
    screen.print(f"certificates are signed by a new key from now on: {file}", soft_wrap=True)
    screen.print("hand it to whoever checks them; keep the old public key for earlier ones")


def export(
    to: Annotated[Path, typer.Option("--to", help="File to write: JSON lines.")],
    ledger: LedgerDir = None,
) -> None:
    """Write all events, one a line, as they are chained."""
    from expunge.disk.whole import write_file
    from expunge.requests.checking import event_lines

    screen, _ = consoles()
    if to.exists():
        raise RequestError(f"{to} exists; name another file")
    lines = event_lines(opened(ledger))
    write_file(to, "".join(f"{line}\n" for line in lines))
    screen.print(f"written: {to} ({len(lines):,} events)")
