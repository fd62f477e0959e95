"""The keys that sign the certificates of a ledger, one after another, and which of them signed which.

The first is made at its first use, a new one by `rotate_key`, told in the chain of events: what
an old key signs after that is found. Old public halves stay in the ledger's folder, old private halves
in the folder of keys, with which a lost certificate is written as it was.
"""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, select

from expunge.data.pseudonyms import keys_folder
from expunge.disk.reading import read_bytes, reading
from expunge.disk.whole import sweep, write_file
from expunge.errors import CertificateError
from expunge.requests.dsse import ENVELOPE_BYTES, key_id
from expunge.requests.events import canonical
from expunge.requests.ledger import Ledger
from expunge.requests.signing import PUBLIC_KEY, make_signing_key, open_private, open_public
from expunge.requests.tables import certificates, events

SIGNER = "signing_key"
"""The setting that says which key signs."""
BACK = "bring the key back from where it was kept"


def signers(connection: Connection) -> list[tuple[int, str]]:
    """Of each key the event since which it signs, and its full digest; the first one first."""
    found = select(events.c.seq, events.c.payload).where(events.c.kind == "setting changed")
    told = [
        (row.seq, json.loads(row.payload))
        for row in connection.execute(found.order_by(events.c.seq))
    ]
    return [(seq, one["value"]) for seq, one in told if one["name"] == SIGNER]


def signer_of(ledger: Ledger, batch: int | None = None) -> int:
    """Number, from 1, of the key that signed the certificate of a batch; the newest where none did."""
    with ledger.read() as connection:
        known = signers(connection)
        chosen = select(certificates.c.payload_digest).where(certificates.c.batch == batch)
        told = canonical({"batch": batch, "payload": connection.scalar(chosen)})
        issued = select(events.c.seq).where(events.c.kind == "certificate issued")
        at = connection.scalar(issued.where(events.c.payload == told))
    return max(1, len([seq for seq, _ in known if at is None or seq < at]))


def public_file(ledger: Ledger, number: int) -> Path:
    """Where the public half of a key lies, for whoever answers for a ledger to hand on."""
    return ledger.folder / f"signing-key{_nth(number)}.pub.pem"


def _private_folder(ledger: Ledger, number: int) -> Path:
    return keys_folder() / f"signing-{ledger.key.name}{_nth(number)}"


def _nth(number: int) -> str:
    return "" if number == 1 else f"-{number}"


def public_key(ledger: Ledger, number: int) -> Ed25519PublicKey:
    """The public half of a key. Raises CertificateError where it is not the one that the events name."""
    file = public_file(ledger, number)
    key = open_public(file)
    with ledger.read() as connection:
        known = signers(connection)
    if key_id(key) not in [one for _, one in known[number - 1 : number]]:
        raise CertificateError(f"{file} is another key than the one that signed; {BACK}")
    return key


def signing_key(ledger: Ledger, batch: int | None = None) -> Ed25519PrivateKey:
    """The private key that signed the certificate of a batch, else the newest, made at its first use;
    its public half lies in the ledger's folder.

    Raises CertificateError where it is no longer that which signed before.
    """
    number = signer_of(ledger, batch)
    with ledger.read() as connection:
        known = signers(connection)
    folder = _private_folder(ledger, number)
    if not known:
        _make(ledger, folder)
    key = open_private(folder)
    if known and key_id(key.public_key()) != known[number - 1][1]:
        raise CertificateError(
            f"{folder} holds another key than the one that signed before; bring that back"
        )
    _publish(ledger, number)
    if not known:
        with ledger.write() as writing:
            if not signers(writing.connection):  # else another worker has noted it: it counts once
                ledger.set(writing, SIGNER, key_id(key.public_key()))
    return key


def rotate_key(ledger: Ledger, reason: str) -> Path:
    """Make a new key, which signs from now on; returns its public half's file. The old one stays.

    Raises CertificateError where nothing was signed yet, or no key can be kept.
    """
    with ledger.read() as connection:
        known = signers(connection)
    if not known:
        raise CertificateError(
            "this ledger has signed nothing yet; its first key is made with its first certificate"
        )
    number = len(known) + 1
    folder = _private_folder(ledger, number)
    _make(ledger, folder)
    new = key_id(open_private(folder).public_key())
    _publish(ledger, number)
    with ledger.write() as writing:
        if signers(writing.connection) != known:
            raise CertificateError("another process made a new key meanwhile; see `ledger verify`")
        ledger.set(writing, SIGNER, new)
        told = {"before": known[-1][1], "after": new, "reason": reason}
        writing.event("signing key changed", told)
    return public_file(ledger, number)


def _make(ledger: Ledger, folder: Path) -> None:
    """Make a pair of keys, unless a run that was killed has made it, or another worker."""
    if not folder.exists():
        with ledger.write():  # one at a time: a second key would lie about, and might sign
            if not folder.exists():
                make_signing_key(folder)


def _publish(ledger: Ledger, number: int) -> None:
    """Lay the public half of a key into the ledger's folder, unless one is there."""
    file, folder = public_file(ledger, number), _private_folder(ledger, number)
    if not file.exists():
        with reading(folder, BACK, CertificateError):
            sweep(file.parent)
            write_file(file, read_bytes(folder / PUBLIC_KEY, most=ENVELOPE_BYTES))
