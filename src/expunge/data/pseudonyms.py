"""Pseudonyms: what a redacted folder keeps in place of ids.

They are keyed (HMAC-SHA256), so whoever has the folder alone can test no guess against them. The key
lies outside of all folders, in a file that its owner alone may read; it is needed to read the folder
again. That file also remembers where the data lie, of which the folder says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from expunge.disk.reading import read_bytes, reading
from expunge.disk.whole import sweep, unwritable, write_file
from expunge.errors import SplitError
from expunge.names.digests import earlier_digest, same_digest

KEY_BYTES = 32
NAME = re.compile(r"[0-9a-f]{16}")
KEYED = "keyed:"
"""Begins a digest that nobody can test without the key."""
HIDDEN = "redacted-data:"
"""Begins what stands for a specification of data."""
KEY_FILE_BYTES = 2**20


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
        return f"{KEYED}{self._keyed('digest', digest)}"

    def hidden(self, spec: str) -> str:
        """What stands for a specification of data that holds a path."""
        return f"{HIDDEN}{self._keyed('data', spec)[:32]}"

    def keep(self, spec: str | None = None, data_dir: str | None = None) -> None:
        """Write its file, for its owner alone, and in it where data lie. Raises OSError."""
        known = self._remembered() if self.file.exists() else {}
        there = {} if spec is None else {self.hidden(spec): [spec, data_dir]}
        if self.file.exists() and known == known | there:
            return
        keys_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(keys_folder())
        places = [json.dumps({name: place}) for name, place in (known | there).items()]
        write_file(self.file, "\n".join([self.secret.hex(), *places, ""]), mode=0o600)

    def place_of(self, spec: str) -> tuple[str, str | None] | None:
        """Specification and folder of the data that a text stands for, or names; None: unknown."""
        name = spec if spec.startswith(HIDDEN) else self.hidden(spec)
        found = self._remembered().get(name)
        return None if found is None else (found[0], found[1])

    def _remembered(self) -> dict[str, list[Any]]:
        """What stands for data -> what it stands for, and where they lie."""
        with reading(self.file, "bring the key back from where it was kept", SplitError):
            lines = read_bytes(self.file, most=KEY_FILE_BYTES).decode().splitlines()[1:]
            return {name: place for line in lines for name, place in json.loads(line).items()}

    def _keyed(self, what: str, text: str) -> str:
        message = f"{what}\x1f{text}".encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, message, hashlib.sha256).hex()


def is_kept(digest: str, kept: str, key: Key | None = None) -> bool:
    """Whether a digest is the one that a folder keeps, keyed or not, perhaps as earlier versions did."""
    if key is None:
        return same_digest(digest, kept)
    return any(same_digest(key.digest(one), kept) for one in (digest, earlier_digest(digest)))


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
        content = read_bytes(file, most=KEY_FILE_BYTES).decode()
        key = Key(bytes.fromhex(content.partition("\n")[0]))
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
