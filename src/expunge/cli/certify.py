"""`certify`: issue the certificate of a batch, check one anywhere, prove an id, revoke one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.batch import Number
from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.place import placed
from expunge.cli.request import Reason
from expunge.cli.screen import at_once, consoles, working
from expunge.errors import CertificateError
from expunge.place import Place


@placed("data_dir", "allow_code")
def issue(number: Number, ledger: LedgerDir = None, *, place: Place) -> None:
    """Issue the certificate of a released batch; again, it gives the same bytes.

    `batch run` does it by itself: this brings back one that was lost.
    """
    from expunge.requests.running import certified

    screen, messages = consoles()
    with working("certify issue") as bars:
        lines = certified(
            opened(ledger),
            number,
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
    for line in lines:
        screen.print(line, soft_wrap=True)


def verify(
    file: Annotated[Path, typer.Argument(help="The certificate.", show_default=False)],
    key: Annotated[
        Path,
        typer.Option("--key", help="The signer's public key (PEM), had from the signer."),
    ],
    model: Annotated[
        Path | None, typer.Option("--model", help="Model folder that is to be the certified one.")
    ] = None,
    proof: Annotated[
        Path | None, typer.Option("--proof", help="One person's proof, of `certify prove`.")
    ] = None,
) -> None:
    """Check a certificate with its file and the signer's public key alone: no ledger, no network."""
    from expunge.requests.verify import check_certificate

    screen, _ = consoles()
    lines = check_certificate(file, key=key, model=model, proof=proof)
    for line in lines:
        sign = {True: "yes", False: "NO", None: "–"}[line.passed]
        screen.print(f"{sign:>3}  {line.what}: {line.result}", soft_wrap=True)
    failed = [line for line in lines if line.passed is False]
    if failed:
        raise CertificateError(f"{file} does not hold: {failed[0].what}: {failed[0].result}")


def prove(
    name: Annotated[str, typer.Option("--id", help="Id of a sample.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="File to write.", show_default=False)],
    batch: Annotated[
        int | None,
        typer.Option("--batch", help="Its number.", show_default="the last that lists the id"),
    ] = None,
    ledger: LedgerDir = None,
) -> None:
    """Write the proof that one id is among those of a certificate. It is for that person alone."""
    from expunge.requests.certifying import prove_id

    screen, _ = consoles()
    number = prove_id(opened(ledger), name, to, batch=batch)
    screen.print(f"written: {to}, for the certificate of batch {number}", soft_wrap=True)


def revoke(number: Number, reason: Reason, ledger: LedgerDir = None) -> None:
    """Say that a certificate no longer holds. Whoever has its file must be told, for it stays signed."""
    from expunge.requests import certifying

    screen, _ = consoles()
    certifying.revoke(opened(ledger), number, reason)
    screen.print(f"the certificate of batch {number} is revoked; tell whoever has it")
