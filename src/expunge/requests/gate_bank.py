"""The bank beside which a gate measures models: that of the model which a method is qualified on.

Whether it fits a model, and which of its models learned from what was struck since, `expunge.shadows`
says. A bank that was built, renewed or made larger after a qualification is not the one that its
retrained models were measured beside, and acceptance then leaves it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from expunge.errors import ConfigError
from expunge.requests.events import sha256
from expunge.requests.judging import Measured
from expunge.requests.tables import models
from expunge.shadows.places import bank_beside, is_bank, read_asked

if TYPE_CHECKING:
    from expunge.audits.shadows import Shadows
    from expunge.trained.trained import Trained


@dataclass(frozen=True, eq=False)
class GateBank:
    """A valid bank. digest: SHA-256 of what decides its models, and of what each of them learned."""

    shadows: Shadows
    digest: str


def bank_folder(connection: Connection, model: str) -> Path | None:
    """Where the bank of a model lies, or of the nearest one that it was made from; None where none of
    them has one. model: digest of its weights.
    """
    known = {row.digest: row for row in connection.execute(select(models))}
    step: str | None = model
    while step in known:
        row = known.pop(step)
        folder = bank_beside(row.folder)
        if is_bank(folder):
            return folder
        step = row.parent
    return None


def opened_bank(folder: Path | None, judged: Sequence[Trained]) -> tuple[GateBank | None, str]:
    """A bank that is valid for some models; else why it is not, empty where there is none."""
    from expunge.shadows.bank import open_bank
    from expunge.shadows.fits import check_bank

    if folder is None:
        return None, ""
    try:
        bank = open_bank(folder)
        if marked := sum(map(bank.marked, bank.finished)):
            return None, (
                f"{marked} of its models learned from samples that were struck since; "
                "`expunge bank purge MODEL_DIR --renew` trains them again without"
            )
        for one in judged:
            check_bank(bank, one)
        shadows = bank.shadows
    except ConfigError as error:
        return None, str(error)
    learned = shadows.learned.tobytes().hex()
    return GateBank(shadows, sha256(f"{bank.card.digest()} {shadows.learned.shape} {learned}")), ""


def same_bank(
    bank: GateBank | None, why: str, retrained: Sequence[Measured]
) -> tuple[GateBank | None, str]:
    """The bank, where all retrained models of a qualification were measured beside it; else why it is
    left out. why: there is none now, as `opened_bank` says it.
    """
    beside = {one.bank for one in retrained}
    if bank is None:
        return None, why or ("" if beside == {""} else "that of the qualification is not there")
    if beside == {bank.digest}:
        return bank, ""
    if beside == {""}:
        return None, "there was none at the qualification"
    return None, "it is not as it was at the qualification"


def shadows_of_all(retrained: Sequence[Measured]) -> int:
    """How many models the bank has that all retrained models were measured beside; 0: no bank."""
    return retrained[0].shadows if len({one.bank for one in retrained}) == 1 else 0


def bank_in_words(shadows: int, left_out: str = "") -> str:
    """`with the bank of 16 models`, or `without a bank`. left_out: why it is, where one was there."""
    if shadows:
        return f"with the bank of {shadows} models"
    return "without a bank" + (f" ({left_out})" if left_out else "")


def planned_bank(connection: Connection, model: str) -> tuple[int, bool]:
    """How many models the bank of a live model is to have, 0 where there is none, and whether all of
    them are there and none learned from what was struck since.
    """
    from expunge.shadows.bank import open_bank

    folder = bank_folder(connection, model)
    if folder is None:
        return 0, False
    bank, asked = open_bank(folder), read_asked(folder)
    finished = bank.finished
    wanted = max(len(finished), asked.models if asked else 0)
    return wanted, len(finished) == wanted and not any(map(bank.marked, finished))
