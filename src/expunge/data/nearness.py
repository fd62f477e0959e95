"""What is nearer than chance: a cut from random pairs of the same data, and a search with it.

Samples are unit vectors (n, d) float32, of which the inner product says how near two are; a vector of
zeros is near to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.batch import Indices
from expunge.names.seeds import numpy_generator

PAIRS_A_FALSE_ALARM = 20
"""Random pairs for each one in so many, so that the cut rests on about so many of them."""
MOST_PAIRS = 2_000_000
FEWEST_PAIRS = 100
"""Of fewer nobody can say what is near by chance."""
VALUES_AT_ONCE = 2**22
"""Products that are held together."""
DIGITS = 10**6
"""A cut is rounded up to one of so many parts."""
SAME = 1 - 1e-6
"""From here on two samples are the same: nothing is nearer, so a cut here finds nothing."""


@dataclass(frozen=True)
class ChanceCut:
    """above: what is nearer than this is no chance. pairs: random ones that say so. alarms: how many of
    these are nearer all the same, at most one in as many as was asked for.
    """

    above: float
    pairs: int
    alarms: int


def chance_cut(products: NDArray[np.float32], one_in: int) -> ChanceCut | None:
    """The lowest cut that at most one in so many of random pairs' products (m,) lie above; None where
    there is none that could find anything, or too few pairs.
    """
    if len(products) < FEWEST_PAIRS:
        return None
    allowed = len(products) // one_in
    lowest = float(np.partition(products, -allowed - 1)[-allowed - 1])
    above = math.ceil(lowest * DIGITS) / DIGITS  # as any database keeps it
    if above >= SAME:
        return None
    return ChanceCut(above, len(products), int((products > np.float32(above)).sum()))


def random_pairs(count: int, wanted: int, *names: str | int) -> tuple[Indices, Indices]:
    """Rows (m,), (m,) of pairs of different samples of `count`: each pair once where there are no more
    than wanted, else so many, drawn with replacement.

    names: what they are drawn by.
    """
    if count < 2 or count * (count - 1) // 2 <= wanted:
        first, second = np.triu_indices(count, 1)
        return first.astype(np.int64), second.astype(np.int64)
    generator = numpy_generator("random pairs", *names)
    first = generator.integers(count, size=wanted)
    second = generator.integers(count - 1, size=wanted)
    return first, second + (second >= first)


def pair_products(vectors: Tensor, first: Indices, second: Indices) -> NDArray[np.float32]:
    """The products of pairs of rows of some vectors (n, d), in the order of the pairs; pairs with a
    vector of zeros are left out.
    """
    known = (vectors != 0).any(dim=1).numpy()
    both = known[first] & known[second]
    first, second = first[both], second[both]
    found = np.empty(len(first), dtype=np.float32)
    for at in _pieces(len(first), vectors.shape[1]):
        one, other = (torch.from_numpy(rows[at]) for rows in (first, second))
        found[at] = (vectors[one] * vectors[other]).sum(dim=1).numpy()
    return found


def nearest_above(
    vectors: Tensor, asked: Tensor, above: float
) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """Of some vectors (n, d) those that are nearer to one of those asked for (q, d) than a cut.

    Returns three arrays (m,): rows of `vectors`, ascending; of each the row of `asked` that it is
    nearest to, the first of several; and their product.
    """
    rows, nearest, scores = [], [], []
    for at in _pieces(len(vectors), len(asked)):
        product = vectors[at] @ asked.T
        best, which = product.max(dim=1)
        near = torch.nonzero(best > above)[:, 0]
        rows.append(near.numpy() + at.start)
        nearest.append(which[near].numpy())
        scores.append(best[near].numpy())
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.concatenate(rows), np.concatenate(nearest), np.concatenate(scores)


def unit(vectors: Tensor) -> Tensor:
    """Each of some vectors (n, d) divided by its length; zeros for one that has none, or no number."""
    long = vectors.norm(dim=1, keepdim=True)
    good = torch.isfinite(long) & (long > 0)
    return torch.where(good, vectors / torch.where(good, long, torch.ones_like(long)), 0.0)


def _pieces(count: int, width: int) -> Iterator[slice]:
    """Rows a few at a time; nothing where they are compared with nothing."""
    step = max(1, VALUES_AT_ONCE // max(1, width))
    if width:
        yield from (slice(n, min(count, n + step)) for n in range(0, count, step))
