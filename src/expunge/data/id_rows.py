"""The row of each id of a dataset, without a dictionary that holds a million texts once more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from expunge.data.batch import Ids, Indices

BYTES_AT_ONCE = 2**20
"""Of ids that are made keys together: few enough to stay in a cache."""


class IdRows(Mapping[str, int]):
    """Row of each id. Keys of 64 bits are sorted once and searched; what is found is compared as text.

    ids: (n,) texts.
    """

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        keys = id_keys(ids)
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    @cached_property
    def all_different(self) -> bool:
        """Whether no id comes twice."""
        return self._one_key_each or len(set(self.ids.tolist())) == len(self.ids)

    @cached_property
    def _one_key_each(self) -> bool:
        return bool((self._keys[1:] > self._keys[:-1]).all())

    @cached_property
    def _dictionary(self) -> dict[str, int]:
        """For ids of which two have one key: by chance hardly ever, but it can be brought about."""
        return {name: row for row, name in enumerate(self.ids.tolist())}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids.tolist())

    def __getitem__(self, name: str) -> int:
        row = int(self.rows_of([name])[0]) if isinstance(name, str) else -1
        if row < 0:
            raise KeyError(name)
        return row

    def rows_of(self, names: Sequence[str]) -> Indices:
        """Row of each of some ids, (len(names),); -1 where there is no such id."""
        if not self._one_key_each:
            return np.array([self._dictionary.get(name, -1) for name in names], dtype=np.int64)
        if not len(self.ids) or not len(names):
            return np.full(len(names), -1, dtype=np.int64)
        # a letter more than the longest id has is enough to tell that a name is none
        asked = np.array(names, dtype=f"U{self.ids.dtype.itemsize // 4 + 1}")
        keys = id_keys(asked)
        order = np.argsort(keys)  # in order, they are found without a jump through memory for each
        place = np.empty_like(order)
        place[order] = np.searchsorted(self._keys, keys[order])
        rows = self._order[np.minimum(place, len(self._keys) - 1)]
        found = self.ids[rows] == asked
        if "\0" in "".join(names):  # which arrays of texts do not tell from an end
            found &= np.array(["\0" not in name for name in names])
        return np.where(found, rows, -1)


def id_keys(ids: Ids) -> NDArray[np.uint64]:
    """A number for each text, (n,): a sum of its letters, each times a number of its place, mod 2^64.

    It does not depend on the other texts, nor on how wide their array is.
    """
    width = ids.dtype.itemsize // 4
    factors = np.random.default_rng(0).integers(2**64, size=width, dtype=np.uint64)
    keys = np.empty(len(ids), dtype=np.uint64)
    step = max(1, BYTES_AT_ONCE // max(1, ids.dtype.itemsize))
    for start in range(0, len(ids), step):
        letters = np.ascontiguousarray(ids[start : start + step]).view(np.uint32)
        letters = letters.reshape(-1, width).astype(np.uint64)
        np.einsum("ij,j->i", letters, factors, out=keys[start : start + step])
    return keys
