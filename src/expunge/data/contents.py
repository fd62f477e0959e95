"""What is in each sample, as one digest: the same in another file, and under another id."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from expunge.data.samples import Samples, resident
from expunge.data.tokens import TextStore, TokenStore

AT_ONCE = 2**24
"""Bytes that are looked at together."""


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
    tensor = resident(samples)
    if tensor is None:
        return [""] * len(samples)
    head = f"{tensor.dtype} {tuple(tensor.shape[1:])}"
    width = tensor[:1].numel() * tensor.element_size()
    step = max(1, AT_ONCE // max(1, width))
    found = []
    for start in range(0, len(tensor), step):
        piece = tensor[start : start + step].detach().contiguous()
        content = piece.reshape(len(piece), -1).view(torch.uint8).numpy()
        found += [_digest(head, np.ascontiguousarray(row).data) for row in content]
    return found


def _digest(head: str, content: bytes | memoryview) -> str:
    digest = hashlib.sha256(head.encode())
    digest.update(content)
    return digest.hexdigest()
