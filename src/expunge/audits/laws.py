"""The law of phi of each sample over models that are trained alike, and which of two laws a value fits.

Few models leave the spread of a single sample uncertain. It is then drawn towards that of the others by
as much as they agree (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3, section 6), and what a further model
would say has Student's t for its law instead of the normal one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

SpreadOf = Literal["auto", "own", "shrunk", "pooled"]
"""Of a sample: its own, drawn towards that of all, or that of all; "auto": by how many there are."""
ENOUGH = 64
"""Models from which on a sample's own spread is good enough (Carlini et al. 2022)."""
LEAST = 1e-6
"""A standard deviation of phi below which models say the same."""


@dataclass(frozen=True, eq=False)
class Laws:
    """Student's t of n samples: mean, scale and degrees of freedom, each (n,); infinite: the normal.

    Nan where no model tells.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    freedom: NDArray[np.float64]

    def log_density(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of values (..., n), in nats."""
        z = (values - self.mean) / self.scale
        normal = np.isinf(self.freedom)
        v = np.where(normal, 1.0, self.freedom)
        constant = special.gammaln((v + 1) / 2) - special.gammaln(v / 2) - np.log(v * np.pi) / 2
        student = constant - (v + 1) / 2 * np.log1p(z * z / v)
        gauss = -z * z / 2 - np.log(2 * np.pi) / 2
        found = np.where(normal, gauss, student) - np.log(self.scale)
        return np.asarray(found, dtype=np.float64)

    def standard(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far values (..., n) lie above the mean, as a normal deviate of the same probability."""
        z = (values - self.mean) / self.scale
        normal = np.isinf(self.freedom)
        below = special.stdtr(np.where(normal, 1.0, self.freedom), -np.abs(z))
        with np.errstate(divide="ignore"):
            deviate = -np.sign(z) * special.ndtri(np.maximum(below, np.finfo(np.float64).tiny))
        return np.asarray(np.where(normal, z, deviate), dtype=np.float64)


def laws(
    values: NDArray[np.float64], told: NDArray[np.bool_], spread: Literal["own", "shrunk", "pooled"]
) -> Laws:
    """The law of each sample over the models that tell of it.

    values: (K, n). told: (K, n), which of them count; nan never does.

    Returns:
        Laws of a further model: with a spread of its own a sample's is normal, as it is published.
    """
    told = told & ~np.isnan(values)
    n = told.sum(axis=0).astype(np.float64)
    kept = np.where(told, values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = kept.sum(axis=0) / n
        squares = (np.where(told, values - mean, 0.0) ** 2).sum(axis=0)
        own = squares / np.maximum(n - 1, 0)
    if spread == "own":
        scale = np.maximum(np.sqrt(own), LEAST)
        return Laws(mean, scale, np.full(len(n), np.inf))
    known = n >= 2
    if not known.any():
        return Laws(mean, np.full(len(n), np.nan), np.full(len(n), np.inf))
    if spread == "shrunk":
        prior, weight = _prior(np.maximum(own[known], LEAST**2), n[known] - 1)
    else:
        prior, weight = float(squares[known].sum() / (n[known] - 1).sum()), np.inf
    freedom = np.maximum(n - 1, 0) + weight
    variance = np.full(len(n), prior) if np.isinf(weight) else (weight * prior + squares) / freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.maximum(np.sqrt(variance), LEAST) * np.sqrt(1 + 1 / n)
    return Laws(mean, np.where(n > 0, scale, np.nan), freedom)


def spread_used(spread: SpreadOf, models: int) -> Literal["own", "shrunk", "pooled"]:
    """The spread that is meant, with so many models."""
    if spread == "auto":
        return "own" if models >= ENOUGH else "shrunk"
    return spread


def pair_left_out(
    values: NDArray[np.float64],
    one: NDArray[np.bool_],
    two: NDArray[np.bool_],
    spread: Literal["own", "shrunk", "pooled"],
) -> NDArray[np.float64]:
    """Log of the ratio of two laws at what each model says, fitted without it and its other half.

    values: (K, n); models 2 p and 2 p + 1 learned from complementary halves. Leaving out the one that is
    judged alone would tell of it: of each sample its other half has the opposite law. one, two: (K, n),
    models that tell of the first law and of the second.

    Returns:
        (K, n), above 0 where the first fits better; nan where a law is unknown.
    """
    found = np.full(values.shape, np.nan)
    pair = np.arange(len(values)) // 2
    for own in np.unique(pair):
        mine, others = pair == own, pair != own
        if others.any():
            first = laws(values[others], one[others], spread)
            second = laws(values[others], two[others], spread)
            found[mine] = first.log_density(values[mine]) - second.log_density(values[mine])
    return found


def _prior(variances: NDArray[np.float64], freedom: NDArray[np.float64]) -> tuple[float, float]:
    """What variances of samples are drawn towards, and as how many degrees of freedom that counts.

    Their logarithms spread by more than chance makes them; the more, the less one tells of another.
    """
    log = np.log(variances) - special.digamma(freedom / 2) + np.log(freedom / 2)
    beyond = 0.0
    if len(log) > 1:
        beyond = float(log.var(ddof=1) - special.polygamma(1, freedom / 2).mean())
    if beyond <= 0:
        return float(np.exp(log.mean())), np.inf
    half = _inverse_trigamma(beyond)
    return float(np.exp(log.mean() + special.digamma(half) - np.log(half))), 2 * half


def _inverse_trigamma(value: float) -> float:
    """The x > 0 with trigamma(x) = value > 0, by Newton's steps on its reciprocal, nearly a line."""
    x = 0.5 + 1 / value
    for _ in range(20):
        there = float(special.polygamma(1, x))
        x += there * (1 - there / value) / float(special.polygamma(2, x))
    return x
