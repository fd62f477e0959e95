"""The key that signs certificates: ed25519, in a folder of two PEM files.

The private half is PKCS8, for its owner alone; the public half, SubjectPublicKeyInfo, is what a reader
of certificates gets, by another way than the certificates themselves.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from expunge.disk.reading import UnreadableError, read_bytes, reading
from expunge.disk.whole import PRIVATE, recover, unwritable, write_file, written_whole
from expunge.errors import CertificateError

PRIVATE_KEY = f"{PRIVATE}signing-key.pem"
PUBLIC_KEY = "public-signing-key.pem"
PEM_BYTES = 64 * 1024


def make_signing_key(folder: Path) -> Ed25519PublicKey:
    """Make a new key pair in a new folder, which appears with both files or not at all.

    Raises CertificateError where something has that name: a key that signed is never replaced.
    Raises OSError where the disk takes no more.
    """
    recover(folder)
    if os.path.lexists(folder):
        raise CertificateError(f"{folder} is there already; name a folder that is not")
    if (why := unwritable(folder)) is not None:
        raise CertificateError(
            f"no signing key can be kept in {folder} ({why}); name another folder"
        )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with written_whole(folder, overwrite=False) as new:
        write_file(new / PRIVATE_KEY, private, mode=0o600)
        write_file(new / PUBLIC_KEY, public)
    return key.public_key()


def open_private(folder: Path) -> Ed25519PrivateKey:
    """The private half in a folder. Raises CertificateError where it is not there, no ed25519 key in
    PEM, or not alone for its owner.
    """
    recover(folder)
    file = folder / PRIVATE_KEY
    with reading(file, "bring the key back from where it was kept", CertificateError):
        content = read_bytes(file, most=PEM_BYTES, within=folder)
        readable = file.stat().st_mode & 0o077
        key = None if readable else load_pem_private_key(content, password=None)
    if readable:
        raise CertificateError(
            f"{file} may be read by others, who could sign in your name; do: chmod 600 {file}"
        )
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"{file} is no ed25519 key; bring back the one that signed before")
    return key


def open_public(file: Path) -> Ed25519PublicKey:
    """A public key from its PEM file. Raises CertificateError for what is none, or no ed25519 key."""
    remedy = f"name the signer's {PUBLIC_KEY}"
    with reading(file, remedy, CertificateError):
        content = read_bytes(file, most=PEM_BYTES)
        if b"PRIVATE KEY-----" in content:
            raise UnreadableError("it is a private key, which is to stay where it is")
        key = load_pem_public_key(content)
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateError(f"{file} is no ed25519 key; {remedy}")
    return key
