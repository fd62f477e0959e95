"""Which samples are set aside: a stratified share, drawn by a fixed seed, or as it was drawn before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from expunge.data.batch import Indices
from expunge.data.classes import rows_by_class
from expunge.data.samples import Samples
from expunge.errors import DataError
from expunge.names.seeds import numpy_generator

Home = Callable[[Samples], tuple[Indices, Indices]]
"""Of the samples of a whole file the rows that went to training, and to testing; both ascending."""
TEST_SHARE = 0.2
"""Share set aside for testing where a dataset brings no test set."""


def set_aside(
    samples: Samples, home: Home | None = None
) -> tuple[Samples, Samples, Indices | None]:
    """A stratified 20 % for testing, by a fixed seed that depends on nothing else: what is left, what
    was set aside, and its rows (None: as they were before, from which samples may be gone).

    home: where samples went when the data were first divided; the same division is made again, even
    where some samples are gone by now.
    """
    if home is not None and not samples.positional:
        kept, aside = home(samples)
        if len(aside):
            return samples.subset(kept), samples.subset(aside), None
    test = stratified(samples.labels, TEST_SHARE, numpy_generator("test set", 0))
    if not len(test):
        raise DataError(
            f"{len(samples)} samples are too few to set some aside for testing; give more, or a test "
            "set of its own"
        )
    return samples.subset(others(len(samples), test)), samples.subset(test), test


def others(count: int, rows: Indices) -> Indices:
    """Of 0 to count - 1 those that are not among `rows`, ascending."""
    left = np.ones(count, dtype=np.bool_)
    left[rows] = False
    return np.flatnonzero(left)


def stratified(
    labels: NDArray[np.int64], share: float, generator: np.random.Generator, *, leave: int = 1
) -> Indices:
    """Sorted positions of about `share` of each class; every class keeps `leave` samples out.

    The total is round(share * n), unless too few are left: classes are filled by largest remainder.
    """
    members = [generator.permutation(rows) for rows in rows_by_class(labels).values()]
    quotas = np.array([share * len(rows) for rows in members])
    counts = np.floor(quotas).astype(int)
    short = round(share * len(labels)) - int(counts.sum())
    for index in np.argsort(counts - quotas, kind="stable")[: max(0, short)]:
        counts[index] += 1
    chosen = [rows[: min(n, len(rows) - leave)] for rows, n in zip(members, counts, strict=True)]
    return (
        np.sort(np.concatenate(chosen)).astype(np.int64) if chosen else np.empty(0, dtype=np.int64)
    )


def thin(samples: Samples, count: int, spec: str, home: Home | None) -> Samples:
    """So many of the samples, drawn by a fixed seed; those that are told by `home`, as they were before.

    Raises DataError for more than there are.
    """
    if home is not None and not samples.positional:
        return samples.subset(home(samples)[0])
    if count > len(samples):
        raise DataError(f"{spec!r} asks for {count} training samples of {len(samples)}")
    if count == len(samples):
        return samples
    generator = numpy_generator("thin", 0)
    share = count / len(samples)
    return samples.subset(stratified(samples.labels, share, generator, leave=0))
