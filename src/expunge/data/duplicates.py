"""Exact copies of forget samples that stay in the retain set, where forgetting cannot reach them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.batch import Indices
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.samples import resident
from expunge.data.split import Split
from expunge.data.tokens import TokenStore

BYTES_AT_ONCE = 2**22
"""Of inputs that are looked at together."""


def duplicates_left(data: Data, split: Split) -> list[tuple[str, str]]:
    """Pairs (forget id, retain id) of equal inputs; empty for data that are not held in memory.

    Texts are equal where their tokens are: the model sees no difference.
    """
    store = data.train.store
    tensor = (
        next(iter(store.tokens.values())) if isinstance(store, TokenStore) else resident(data.train)
    )
    if tensor is None or not split.forget:
        return []
    forget, retain = (split.rows(data.train, part) for part in (Part.FORGET, Part.RETAIN))
    struck, kept = _keys(tensor, forget), _keys(tensor, retain)
    # equal keys are rare without equal inputs, so few rows are left to be looked at byte by byte
    few = np.sort(struck)  # to search them takes less than to sort the many that are kept
    equal = few[np.minimum(np.searchsorted(few, kept), len(few) - 1)] == kept
    forget, retain = forget[np.isin(struck, kept[equal])], retain[equal]
    ids = data.train.ids
    first: dict[bytes, str] = {}
    for row, content in zip(forget.tolist(), _contents(tensor, forget), strict=True):
        first.setdefault(_digest(content), str(ids[row]))
    return [
        (first[key], str(ids[row]))
        for row, content in zip(retain.tolist(), _contents(tensor, retain), strict=True)
        if (key := _digest(content)) in first
    ]


def _digest(content: NDArray[np.uint8]) -> bytes:
    """What stands for a row's bytes: rows may be many and large."""
    return hashlib.blake2b(content.data, digest_size=16).digest()


def _contents(tensor: Tensor, rows: Indices) -> Iterator[NDArray[np.uint8]]:
    """The bytes of each of some rows."""
    for piece in _pieces(tensor, rows):
        yield from piece


def _keys(tensor: Tensor, rows: Indices) -> NDArray[np.uint64]:
    """A number for each of some rows (n,), equal where their bytes are: a sum of words, each times a
    number of its own, modulo 2^64.
    """
    found = [np.zeros(0, dtype=np.uint64)]
    for piece in _pieces(tensor, rows):
        width = piece.shape[1]
        word = next(size for size in (8, 4, 2, 1) if width % size == 0)
        words = piece.view(f"u{word}").astype(np.uint64, copy=False)
        factors = np.random.default_rng(0).integers(2**64, size=width // word, dtype=np.uint64)
        found.append(np.einsum("ij,j->i", words, factors | np.uint64(1)))
    return np.concatenate(found)


def _pieces(tensor: Tensor, rows: Indices) -> Iterator[NDArray[np.uint8]]:
    """The bytes of some rows (m, bytes), a few at a time."""
    values = tensor[:1].numel()
    step = max(1, BYTES_AT_ONCE // max(1, values * tensor.element_size()))
    for start in range(0, len(rows), step):
        chosen = torch.from_numpy(rows[start : start + step])
        piece = tensor.detach().index_select(0, chosen).reshape(len(chosen), values)
        yield piece.contiguous().view(torch.uint8).numpy()
