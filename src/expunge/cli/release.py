"""`release`: which model serves, and which did before."""

from __future__ import annotations

from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.screen import consoles


def list_(ledger: LedgerDir = None) -> None:
    """Every model that served, the live one first."""
    from expunge.requests.overview import release_lines

    screen, _ = consoles()
    for line in release_lines(opened(ledger)):
        screen.print(line, soft_wrap=True)
