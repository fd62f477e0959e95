"""Numbers of a sample's name and a key alone: whoever else is there, they stay the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.names.seeds import seed_for

Hashes = NDArray[np.uint64]


def hashes_of(names: Sequence[str] | NDArray[np.str_], *key: str | int) -> Hashes:
    """(n,) uniform 64-bit numbers, one for each name."""
    secret = seed_for(*key).to_bytes(8, "big")
    digests = (
        hashlib.blake2b(str(name).encode("utf-8", "surrogatepass"), digest_size=8, key=secret)
        for name in names
    )
    return np.frombuffer(b"".join(one.digest() for one in digests), dtype="<u8").astype(np.uint64)


def mixed(hashes: Hashes, *key: str | int) -> Hashes:
    """Other such numbers of these and a key, such as an epoch's: the finaliser of splitmix64."""
    mixed = hashes ^ np.uint64(seed_for(*key))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
