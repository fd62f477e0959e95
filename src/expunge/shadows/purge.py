"""Take what was deleted out of a bank: a kill on the way loses nothing, and the next purge goes on.

First the ids are struck from the list of samples, so that whatever is left says by itself what there is
still to do.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expunge.disk.reading import reading
from expunge.disk.whole import remove
from expunge.errors import ConfigError
from expunge.progress import Reporter, Silent
from expunge.shadows.bank import Bank, open_bank, strike_samples
from expunge.shadows.places import FORGOT


@dataclass(frozen=True)
class Purged:
    """What a purge did.

    samples: that were struck now. logits: models whose logits of struck samples were removed now.
    weights: models whose weights were removed now. marked: models that learned from what was struck.
    finished: of how many.
    """

    samples: int
    logits: int
    weights: int
    marked: int
    finished: int


def purge_bank(bank: Bank, ids: Collection[str], progress: Reporter | None = None) -> Purged:
    """Strike samples from a bank: their ids and labels, all logits of them, the weights of all models
    that learned from them, and what models of the bank say that were made to forget anything.

    ids: those that are not in the bank are none of its business. Models that learned from struck
    samples are marked from then on, until they are renewed; their logits of other samples stay.

    Raises ConfigError where others are at work on the bank, or a file is damaged.
    """
    with bank.at_work(alone=True):
        bank = open_bank(bank.folder)
        bank.sweep()
        rows = bank.among(ids)
        if rows.any():
            bank = strike_samples(bank, rows)
        _remove_forgot(bank.folder / FORGOT)
        finished, weights = bank.finished, 0
        marked = {one for one in finished if bank.marked(one)}
        for model in bank.weighed:
            if model in marked or (
                model not in finished and (bank.half(model) & bank.struck).any()
            ):
                file = bank.weights_file(model)
                with reading(file, "delete it, and purge again", ConfigError):
                    file.unlink()
                weights += 1
        with (progress or Silent()).work("purging logits", len(finished), unit="models") as bar:
            logits = 0
            for model in finished:
                logits += _without_struck(bank, model)
                bar.advance()
    return Purged(int(rows.sum()), logits, weights, len(marked), len(finished))


def _remove_forgot(folder: Path) -> None:
    """Raises ConfigError where some of it stays."""
    remove(folder)
    if os.path.lexists(folder):
        raise ConfigError(
            f"{folder} could not be removed, and holds what models said of deleted samples; delete it, "
            "and purge again"
        )


def _without_struck(bank: Bank, model: int) -> bool:
    """Make a model's logits of struck samples nan; whether any were left."""
    logits, facts = bank.read_logits(model)
    left = bank.struck & ~np.isnan(logits).all(axis=1)
    if not left.any():
        return False
    logits = logits.copy()
    logits[left] = np.nan
    bank.rewrite(model, logits, bank.read_learned(model), facts)
    return True
