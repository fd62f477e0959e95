"""A list of ids that tells nobody's id, and shows each person that theirs is on it.

The tree is that of RFC 6962, section 2.1: leaf = SHA-256(0x00 || data), node = SHA-256(0x01 || left ||
right), split at the largest power of two below the size. What a leaf is made of is ours: each id has its
own random nonce, and data = HMAC-SHA256(nonce, id). So whoever has the root and a guess can test
nothing, a proof tells one nonce, and destroying the nonces cuts the link to people. Leaves stand in
the order of their bytes, so a position says nothing of the order in which people asked.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from expunge.errors import CertificateError

NONCE_BYTES = 32


def new_nonce() -> bytes:
    """32 random bytes for one id; kept in the ledger, and told in that person's proof alone."""
    return secrets.token_bytes(NONCE_BYTES)


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def id_leaf(nonce: bytes, name: str) -> bytes:
    """The leaf of an id: 32 bytes. Raises CertificateError for a nonce of another length, or an id that
    UTF-8 has no signs for.
    """
    if len(nonce) != NONCE_BYTES:
        raise CertificateError(
            f"a nonce has {NONCE_BYTES} bytes, this one {len(nonce)}; use the one of the ledger"
        )
    try:
        text = name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CertificateError(
            f"the id {name!r:.200} is no UTF-8; write it as `expunge` shows it"
        ) from error
    return leaf_hash(hmac.digest(nonce, text, hashlib.sha256))


@dataclass(frozen=True)
class InclusionPath:
    """Where a leaf is in a tree, and what else leads to the root.

    index: of the leaf, from 0. size: leaves in all. path: the neighbours' hashes, lowest first.
    """

    index: int
    size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class MerkleTree:
    """A tree over leaves in the order in which they are given. leaves: 32 bytes each."""

    leaves: Sequence[bytes]

    @classmethod
    def over(cls, leaves: Iterable[bytes]) -> MerkleTree:
        """The tree over leaves in the order of their bytes, as certificates have it."""
        return cls(sorted(leaves))

    @property
    def root(self) -> bytes:
        """The hash of all; of no leaves SHA-256 of nothing."""
        return self._rows[-1][0] if self.leaves else hashlib.sha256(b"").digest()

    def path(self, index: int) -> InclusionPath:
        """The audit path of a leaf, RFC 6962 section 2.1.1. Raises IndexError for what is no index."""
        size = len(self.leaves)
        if not 0 <= index < size:
            raise IndexError(f"{index} of {size} leaves")
        found, place = [], index
        for row in self._rows[:-1]:
            if place ^ 1 < len(row):  # the last of an odd row has no neighbour, and moves up alone
                found.append(row[place ^ 1])
            place >>= 1
        return InclusionPath(index, size, tuple(found))

    def path_of(self, leaf: bytes) -> InclusionPath:
        """The same of a leaf in a sorted tree. Raises CertificateError for one that is not there."""
        index = bisect_left(self.leaves, leaf)
        if index == len(self.leaves) or self.leaves[index] != leaf:
            raise CertificateError(
                "this id with this nonce is not among the items; take both from one row of the ledger"
            )
        return self.path(index)

    @cached_property
    def _rows(self) -> list[Sequence[bytes]]:
        """All hashes, the leaves first: pairs meet in the next row, and one left over stays as it is,
        which gives the splits at powers of two.
        """
        rows = [self.leaves]
        while len(row := rows[-1]) > 1:
            pairs = zip(row[::2], row[1::2], strict=False)
            rows.append([*(node_hash(*pair) for pair in pairs), *row[len(row) & ~1 :]])
        return rows


def is_included(leaf: bytes, proof: InclusionPath, *, root: bytes, size: int) -> bool:
    """Whether a leaf is in the tree of that root and size, RFC 9162 section 2.1.3.2.

    size: as the certificate states it. A path alone does not settle it: that of the first of 3 leaves
    has the shape of one of 4.
    """
    if proof.size != size or not 0 <= proof.index < size:
        return False
    place, last, found = proof.index, size - 1, leaf
    for other in proof.path:
        if last == 0:
            return False  # longer than the tree is high
        if place & 1 or place == last:
            found = node_hash(other, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, other)
        place, last = place >> 1, last >> 1
    return last == 0 and hmac.compare_digest(found, root)
