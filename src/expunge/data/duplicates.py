"""Exact copies of forget samples that stay in the retain set, where forgetting cannot reach them."""

from __future__ import annotations

import hashlib

import numpy as np

from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.samples import resident
from expunge.data.split import Split


def duplicates_left(data: Data, split: Split) -> list[tuple[str, str]]:
    """Pairs (forget id, retain id) of equal inputs; empty for data that are not held in memory."""
    tensor = resident(data.train)
    if tensor is None:
        return []
    array = tensor.numpy()

    def digest(row: int) -> bytes:
        return hashlib.blake2b(np.ascontiguousarray(array[row]).tobytes(), digest_size=16).digest()

    ids = data.train.ids
    struck: dict[bytes, str] = {}
    for row in split.rows(data.train, Part.FORGET).tolist():
        struck.setdefault(digest(row), str(ids[row]))
    return [
        (struck[key], str(ids[row]))
        for row in split.rows(data.train, Part.RETAIN).tolist()
        if (key := digest(row)) in struck
    ]
