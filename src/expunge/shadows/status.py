"""How far a bank is, and what its models are worth."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expunge.shadows.bank import Bank
from expunge.shadows.places import read_asked
from expunge.shadows.plan import BLOCK, STACK


@dataclass(frozen=True)
class BankStatus:
    """What `expunge bank status` shows.

    finished, asked, making, weights, marked: numbers of models: those that are there, that are to be,
    that some process makes now, whose weights are kept, that learned from what was struck since.
    samples, struck: of the original's learned samples. unseen: samples that no model learned from.
    bytes: of the whole folder. seconds: that a model took, the median. accuracy: of each model on the
    unseen samples, in percent.
    """

    finished: int
    asked: int
    making: int
    weights: int
    marked: int
    samples: int
    struck: int
    unseen: int
    bytes: int
    seconds: float | None
    accuracy: tuple[float, ...]


def status_of(bank: Bank) -> BankStatus:
    """Read a bank. Raises ConfigError for a damaged file."""
    finished, asked = bank.finished, read_asked(bank.folder)
    models = max(asked.models if asked else 0, len(finished), 1 + max(finished, default=-1))
    there = {*finished}
    making = sum(
        bank.claimed(one) or bank.claimed(one // STACK * STACK, BLOCK)
        for one in range(models)
        if one not in there
    )
    unseen = ~bank.struck
    unseen[: bank.learned] = False
    seconds = [bank.seconds(one) for one in finished]
    accuracy = []
    for model in finished if unseen.any() else ():
        logits, _ = bank.read_logits(model)
        accuracy.append(100 * float((logits[unseen].argmax(axis=1) == bank.labels[unseen]).mean()))
    return BankStatus(
        len(finished),
        models,
        making,
        len(bank.weighed),
        sum(map(bank.marked, finished)),
        bank.learned,
        int(bank.struck[: bank.learned].sum()),
        int(np.count_nonzero(unseen)),
        _bytes(bank.folder),
        statistics.median(seconds) if seconds else None,
        tuple(accuracy),
    )


def _bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
