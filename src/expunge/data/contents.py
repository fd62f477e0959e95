"""What is in each sample, as one digest: the same in another file, and under another id."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expunge.data.batch import first_tensor
from expunge.data.images import EncodedImages, ImageStore
from expunge.data.poisoned import PoisonedStore
from expunge.data.samples import RowsOf, Samples, Store, StreamStore, resident
from expunge.data.tokens import TextStore, TokenStore

AT_ONCE = 2**24
"""Bytes that are looked at together."""
ONE_BY_ONE = 256
"""Samples of somebody's own dataset that are read together."""


def content_hashes(samples: Samples) -> list[str]:
    """SHA-256 of each sample's input as it is read, before it is normalised: 64 hexadecimal digits.

    Images are their pixels at the size that was asked for; texts their letters, also where a model reads
    them as tokens; what came as tokens is these, without padding. Empty texts for samples of
    somebody's own dataset, which are read one by one and may not be the same twice.
    """
    store = samples.store
    if isinstance(store, TokenStore) and store.texts is not None:
        store = store.texts
    if isinstance(store, TextStore):
        texts = store.read(0, len(samples))
        return [_digest("text", one.encode("utf-8", "surrogatepass")) for one in texts]
    if isinstance(store, TokenStore):
        rows = next(iter(store.tokens.values())).numpy()
        each = zip(rows, store.lengths.tolist(), strict=True)
        return [_digest("tokens", row[:length].astype(np.int64).tobytes()) for row, length in each]
    if not _steady(store):
        return [""] * len(samples)
    found = []
    for piece in _pieces(samples):
        head = f"{piece.dtype} {tuple(piece.shape[1:])}"
        content = piece.detach().contiguous().reshape(len(piece), -1).view(torch.uint8).numpy()
        found += [_digest(head, np.ascontiguousarray(row).data) for row in content]
    return found


def hashes_as_read(samples: Samples) -> list[str]:
    """The same, also for samples of somebody's own dataset, as they are read this once: equal hashes
    are equal inputs, and another reading may give others.
    """
    if _steady(samples.store) or isinstance(samples.store, TextStore | TokenStore):
        return content_hashes(samples)
    rows = np.arange(len(samples))
    batches = [rows[n : n + ONE_BY_ONE] for n in range(0, len(samples), ONE_BY_ONE)]
    found = []
    for index, raw in zip(batches, samples.store.stream(batches, torch.device("cpu")), strict=True):
        found += [_digest("read", b"".join(_parts(raw, row))) for row in range(len(index))]
    return found


def _parts(raw: Any, row: int) -> Iterator[bytes]:
    """What a batch holds of one of its samples, with names and kinds."""
    if isinstance(raw, Mapping):
        for name, value in raw.items():
            yield from (f"{name!r}: ".encode(), *_parts(value, row))
    elif isinstance(raw, Tensor):
        one = raw[row].detach().contiguous()
        yield f"{one.dtype} {tuple(one.shape)} ".encode()
        yield one.reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(raw, Sequence) and raw and not isinstance(raw[0], str | bytes):
        for value in raw:
            yield from _parts(value, row)
    else:
        yield f"{raw[row]!r} ".encode()


def reading_of(samples: Samples) -> str:
    """What the hashes of samples were made of, as far as it is known, beside the samples themselves;
    ends in ";". Read in another way the same samples have other hashes. "" where they have none.
    """
    store = samples.store
    if isinstance(store, TextStore | TokenStore):
        texts = isinstance(store, TextStore) or store.texts is not None
        return "texts;" if texts else "tokens;"
    if not len(samples) or not _steady(store):
        return ""
    one = first_tensor(store.fetch(np.array([0], dtype=np.int64), torch.device("cpu")))
    said = f"{str(one.dtype).removeprefix('torch.')} {'x'.join(map(str, one.shape[1:]))};"
    return said + (store.drawn if isinstance(store, ImageStore) else "")


def _pieces(samples: Samples) -> Iterator[Tensor]:
    """All inputs, some at a time; what does not fit into memory is read for it."""
    if not len(samples):
        return
    tensor = resident(samples)
    width = 4 * math.prod(samples.shape()) if tensor is None else tensor[:1].nbytes
    step = max(1, AT_ONCE // max(1, width))
    starts = range(0, len(samples), step)
    if tensor is not None:
        yield from (tensor[start : start + step] for start in starts)
        return
    rows = np.arange(len(samples))
    yield from samples.store.stream([rows[n : n + step] for n in starts], torch.device("cpu"))


def _steady(store: Store) -> bool:
    """Whether it gives one tensor, and the same whenever it is read."""
    while isinstance(store, RowsOf | PoisonedStore):
        store = store.store if isinstance(store, RowsOf) else store.clean
    if isinstance(store, StreamStore):
        return isinstance(store.dataset, EncodedImages)
    return isinstance(store, ImageStore) or store.whole() is not None


def _digest(head: str, content: bytes | memoryview) -> str:
    digest = hashlib.sha256(head.encode())
    digest.update(content)
    return digest.hexdigest()
