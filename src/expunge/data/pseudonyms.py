"""Pseudonyms: what a redacted folder keeps in place of ids.

They are keyed (HMAC-SHA256), so whoever has the folder alone can test no guess against them. The key
lies outside of all folders, in a file that its owner alone may read; it is needed to read the folder
again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from expunge.disk.reading import read_bytes, reading
from expunge.disk.whole import sweep, unwritable, write_file
from expunge.errors import SplitError

KEY_BYTES = 32
NAME = re.compile(r"[0-9a-f]{16}")
KEYED = "keyed:"
"""Begins a digest that nobody can test without the key."""


def keys_folder() -> Path:
    """Where keys lie: EXPUNGE_KEYS, else `expunge/keys` under XDG_DATA_HOME or `~/.local/share`."""
    if own := os.environ.get("EXPUNGE_KEYS"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local/share") / "expunge" / "keys"


@dataclass(frozen=True)
class Key:
    """A key to pseudonyms. secret: 32 random bytes."""

    secret: bytes = field(repr=False)

    @cached_property
    def name(self) -> str:
        """Says which key it is, and nothing of it: 16 hexadecimal digits."""
        return self._keyed("name", "")[:16]

    @property
    def file(self) -> Path:
        """Where it lies."""
        return keys_folder() / f"{self.name}.key"

    def pseudonym(self, name: str) -> str:
        """What stands for an id: 32 hexadecimal digits."""
        return self._keyed("id", name)[:32]

    def digest(self, digest: str) -> str:
        """A digest that only this key can test; one that is keyed already stays as it is."""
        if not digest or digest.startswith(KEYED):
            return digest
        return f"{KEYED}{self._keyed('digest', digest)[:32]}"

    def keep(self) -> None:
        """Write its file, whole or not at all, for its owner alone. Raises OSError."""
        if self.file.exists():
            return
        keys_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(keys_folder())
        write_file(self.file, f"{self.secret.hex()}\n", mode=0o600)

    def _keyed(self, what: str, text: str) -> str:
        message = f"{what}\x1f{text}".encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, message, hashlib.sha256).hex()


def new_key() -> Key:
    """A key that lies nowhere yet. Raises SplitError where it could not be kept later."""
    if (why := unwritable(keys_folder() / "new")) is not None:
        raise SplitError(
            f"the key to the pseudonyms could not be kept in {keys_folder()} ({why}); name another "
            "folder with EXPUNGE_KEYS"
        )
    return Key(secrets.token_bytes(KEY_BYTES))


def open_key(name: str, folder: Path) -> Key:
    """The key that the split of a folder names. Raises SplitError where it is not there, or not alone
    for its owner.
    """
    if not NAME.fullmatch(name):
        raise SplitError(f"{folder}/split.json names no key; copy the whole folder again")
    file = keys_folder() / f"{name}.key"
    if not os.path.lexists(file):
        raise SplitError(
            f"{folder} keeps pseudonyms of ids, and the key to them, {file}, is not there; bring it "
            "back, or name its folder with EXPUNGE_KEYS: without it nobody can tell whose they are"
        )
    with reading(file, "bring the key back from where it was kept", SplitError):
        key = Key(bytes.fromhex(read_bytes(file, most=1024).decode("ascii")))
        readable = file.stat().st_mode & 0o077
    if key.name != name or len(key.secret) != KEY_BYTES:
        raise SplitError(
            f"{file} is not the key of that name; bring it back from where it was kept"
        )
    if readable:
        raise SplitError(
            f"{file} may be read by others, who could test guesses; do: chmod 600 {file}"
        )
    return key
