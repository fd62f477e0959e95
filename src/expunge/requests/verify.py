"""Checking a certificate anywhere: with its file and the signer's public key, no network, no ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expunge.disk.reading import UnreadableError, open_regular, read_bytes, reading, reason
from expunge.errors import CertificateError
from expunge.requests.dsse import (
    AGAIN,
    ENVELOPE_BYTES,
    SignatureError,
    key_id,
    read_envelope,
    signed_payload,
)
from expunge.requests.facts import ForgottenData
from expunge.requests.proof import PersonalProof, read_proof
from expunge.requests.signing import open_public
from expunge.requests.statement import PREDICATE, read_statement
from expunge.trained.card import CARD, MASK, WEIGHTS


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at. passed: None where there was nothing to check it with."""

    what: str
    passed: bool | None
    result: str


def check_certificate(
    certificate: Path, *, key: Path, model: Path | None = None, proof: Path | None = None
) -> list[Checked]:
    """What is true of a certificate, one line each; after a line that failed nothing behind it is read.

    key: PEM file of the signer's public key, had from the signer and not with the certificate.
    model: a model folder that is to be the certified one. proof: one person's proof of inclusion.
    Raises CertificateError for what cannot be read.
    """
    public = open_public(key)
    personal = None if proof is None else read_proof(proof)
    if model is not None and not model.is_dir():
        raise CertificateError(f"{model} is no folder; name the model folder that is to be checked")
    with reading(certificate, AGAIN, CertificateError):
        envelope = read_envelope(read_bytes(certificate, most=ENVELOPE_BYTES))
    try:
        payload = signed_payload(envelope, [public])
    except SignatureError as error:
        return [Checked("signature", False, str(error))]
    lines = [Checked("signature", True, f"by the key {key_id(public)}")]
    try:
        statement = read_statement(payload)
    except CertificateError as error:
        return [*lines, Checked("statement", False, str(error))]
    told = statement.predicate
    lines.append(Checked("statement", True, f"{PREDICATE}: {' '.join(told.said)}"))
    lines += _files(model, statement.digests)
    lines.append(_person(personal, told.data))
    lines.append(
        Checked(
            "ledger",
            None,
            f"whoever has it compares its event {told.chain.seq}, of hash {told.chain.hash}",
        )
    )
    return lines


def _files(model: Path | None, digests: dict[str, str]) -> Iterator[Checked]:
    """Whether the files of a folder are those that were certified, and no other weights beside them."""
    if model is None:
        yield Checked("model", None, "no model folder was named")
        return
    for name, digest in digests.items():
        try:
            with open_regular(model / name, within=model) as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except (OSError, UnreadableError) as error:
            yield Checked(name, False, f"cannot be read ({reason(error)})")
            continue
        same = found == digest
        told = "is the file that was certified" if same else f"is another file, of sha256 {found}"
        yield Checked(name, same, told)
    for name in (WEIGHTS, MASK, CARD):
        if name not in digests and (model / name).exists():
            yield Checked(name, False, "is there, and the certificate does not speak of it")


def _person(proof: PersonalProof | None, data: ForgottenData) -> Checked:
    if proof is None:
        return Checked("proof", None, "no person's proof was named")
    if proof.holds(root=data.root, size=data.size):
        return Checked("proof", True, f"its id is one of the {data.size:,} of this certificate")
    return Checked("proof", False, "it does not show that its id is one of this certificate")
