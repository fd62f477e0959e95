"""What one person gets beside the certificate: that their id is one of those which were forgotten.

It holds their id and its nonce, so it is theirs alone, and says nothing of anybody else's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from expunge.disk.reading import read_bytes, reading
from expunge.disk.whole import write_file
from expunge.errors import CertificateError
from expunge.requests.facts import Amount, CertificatePart, Sha256, Some
from expunge.requests.merkle import InclusionPath, MerkleTree, id_leaf, is_included

PROOF_BYTES = 64 * 1024
HIGHEST = 40
"""Hashes of a path: as many as a tree is high."""


class PersonalProof(CertificatePart):
    """An id, its nonce, and the way from its leaf to the root (`requests.merkle`), in hexadecimal
    digits.
    """

    id: Annotated[str, Field(max_length=4096)]
    nonce: Sha256
    index: Amount
    size: Some
    path: Annotated[tuple[Sha256, ...], Field(max_length=HIGHEST)]
    root: Sha256

    def holds(self, *, root: str, size: int) -> bool:
        """Whether the id is in the list that a certificate states by its root and size."""
        path = InclusionPath(self.index, self.size, tuple(map(bytes.fromhex, self.path)))
        leaf = id_leaf(bytes.fromhex(self.nonce), self.id)
        return self.root == root and is_included(leaf, path, root=bytes.fromhex(root), size=size)


def prove(tree: MerkleTree, nonce: bytes, name: str) -> PersonalProof:
    """The proof for one id. tree: sorted. Raises CertificateError for an id that is not in it."""
    found = tree.path_of(id_leaf(nonce, name))
    return PersonalProof(
        id=name,
        nonce=nonce.hex(),
        index=found.index,
        size=found.size,
        path=tuple(one.hex() for one in found.path),
        root=tree.root.hex(),
    )


def write_proof(file: Path, proof: PersonalProof) -> None:
    """Write a proof, for its owner alone. Raises OSError."""
    write_file(file, json.dumps(proof.model_dump(mode="json"), indent=1) + "\n", mode=0o600)


def read_proof(file: Path) -> PersonalProof:
    """A proof from its file. Raises CertificateError for what is none."""
    with reading(file, "ask whoever issued the certificate for it again", CertificateError):
        # the id as it is: cleaned, as texts elsewhere, it could be another one
        return PersonalProof.model_validate_json(read_bytes(file, most=PROOF_BYTES))
