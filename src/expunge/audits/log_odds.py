"""phi: how sure a model is of a sample's own class, as the log of the odds that it gives to it.

Carlini et al. (2022), "Membership Inference Attacks From First Principles": over models that are trained
alike phi of a sample is nearly normal, which its loss and its confidence are far from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from expunge.audits.outputs import PartOutputs

LARGEST = 100.0
"""Odds beyond e to this are not told apart: what closes a class gives infinite ones."""


def log_odds(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """z_y - log sum_{c != y} exp(z_c), in [-LARGEST, LARGEST].

    logits: (n, classes), 2 or more classes, -inf closes one. labels: (n,), each in [0, classes).

    Returns:
        (n,), float64; nan in rows that hold nan.
    """
    z = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(z))
    own = z[rows, labels]
    others = z.copy()
    others[rows, labels] = -np.inf
    largest = others.max(axis=1, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = shift + np.log(np.exp(others - shift[:, None]).sum(axis=1))
        odds = own - rest
    odds = np.where(np.isneginf(own), -LARGEST, odds)  # also where all classes are closed
    return np.asarray(np.clip(odds, -LARGEST, LARGEST), dtype=np.float64)


def own_confidence(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of the own class that log odds stand for, in [0, 1]."""
    return np.asarray(1 / (1 + np.exp(-phi)), dtype=np.float64)


def part_log_odds(part: PartOutputs, temperature: float = 1.0) -> NDArray[np.float64]:
    """Log odds of every sample of a part, in its rows' order: (n,).

    temperature: what logits are divided by, above 0.
    """
    found = [log_odds(z.double().numpy() / temperature, y.numpy()) for z, y in part.pieces()]
    return np.concatenate(found) if found else np.empty(0)
