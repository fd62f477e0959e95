"""`release`: which model serves, and which did before."""

from __future__ import annotations

from expunge.cli.ledgers import LedgerDir
from expunge.cli.screen import consoles


def list_(ledger: LedgerDir = None) -> None:
    """Every model that served, the live one first."""
    from expunge.requests.finding import found_ledger
    from expunge.requests.ledger import Ledger
    from expunge.requests.overview import release_lines

    screen, _ = consoles()
    for line in release_lines(Ledger.open(found_ledger(ledger))):
        screen.print(line, soft_wrap=True)
