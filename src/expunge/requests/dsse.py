"""Signed envelopes: DSSE v1.0.2 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md).

What is signed is PAE(type, payload), which says how long each is. Signatures are ed25519 (RFC 8032), and
give the same bytes for the same payload. A keyid is the SHA-256 of the public key's SubjectPublicKeyInfo
in DER, 64 hexadecimal digits; nobody has signed it, so it is a hint for people, and every key that the
reader brings along is tried on every signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from expunge.disk.reading import MIB, UnreadableError, parse_json, reading
from expunge.errors import CertificateError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE_BYTES = 4 * MIB
MOST_SIGNATURES = 16
AGAIN = "ask for the certificate again"


class SignatureError(CertificateError):
    """An envelope whose signatures are by none of the keys that were brought along."""


@dataclass(frozen=True)
class Envelope:
    """A payload, what it is, and signatures of both. Nothing in it is to be believed before
    `signed_payload` has looked at it.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[bytes, ...]


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of a public key's SubjectPublicKeyInfo (DER): 64 hexadecimal digits."""
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def pre_auth_encoding(payload_type: str, payload: bytes) -> bytes:
    """PAE, the bytes that are signed (protocol.md, "Signature Definition")."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_payload(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """An envelope around a payload, as a JSON text in a line; the same inputs give the same bytes."""
    content = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {
                "keyid": key_id(key.public_key()),
                "sig": base64.b64encode(
                    key.sign(pre_auth_encoding(PAYLOAD_TYPE, payload))
                ).decode(),
            }
        ],
    }
    return (json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n").encode()


def read_envelope(content: bytes) -> Envelope:
    """An envelope from its JSON text. Fields that nobody knows are passed over, as envelope.md asks:
    they are not signed, and nothing reads them. Raises CertificateError for what is none.
    """
    with reading("the envelope", AGAIN, CertificateError):
        if len(content) > ENVELOPE_BYTES:
            raise UnreadableError(f"it is larger than {ENVELOPE_BYTES // MIB} MiB")
        found = parse_json(content)
        if not isinstance(found, dict):
            raise UnreadableError("it does not hold an object")
        signatures = found.get("signatures")
        if not isinstance(signatures, list) or not 0 < len(signatures) <= MOST_SIGNATURES:
            raise UnreadableError(f"it lacks a list of 1 to {MOST_SIGNATURES} signatures")
        if not all(isinstance(one, dict) for one in signatures):
            raise UnreadableError("a signature in it is no object")
        kind = found.get("payloadType")
        if not isinstance(kind, str):
            raise UnreadableError("its payloadType is no text")
        payload = _decoded(found, "payload")
        return Envelope(payload, kind, tuple(_decoded(one, "sig") for one in signatures))


def signed_payload(envelope: Envelope, keys: Collection[Ed25519PublicKey]) -> bytes:
    """The payload of an envelope that one of the keys has signed.

    keys: the reader's own, from elsewhere than the envelope. Raises SignatureError where none of them
    signed it, or what they signed is no in-toto statement.
    """
    message = pre_auth_encoding(envelope.payload_type, envelope.payload)
    if not any(_signed(message, one, key) for one in envelope.signatures for key in keys):
        names = " or ".join(key_id(key)[:16] for key in keys)
        raise SignatureError(
            f"no signature is by {f'the key {names}' if names else 'a key, for none was given'}: the "
            "certificate was changed, or another key signed it; ask its issuer which key is theirs"
        )
    if envelope.payload_type != PAYLOAD_TYPE:
        raise SignatureError(
            f"what is signed is {envelope.payload_type!r:.100}, not {PAYLOAD_TYPE}; {AGAIN}"
        )
    return envelope.payload


def _signed(message: bytes, signature: bytes, key: Ed25519PublicKey) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _decoded(fields: dict[str, object], name: str) -> bytes:
    """Bytes of a field in base64, with the signs of RFC 4648 section 4 or 5: either may come."""
    text = fields.get(name)
    if not isinstance(text, str):
        raise UnreadableError(f"its {name} is no text")
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableError(f"its {name} is no base64") from None
