"""A split as plain data: ids in the open, or salted hashes of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from expunge.data.load import Data
from expunge.data.split import Split
from expunge.errors import SplitError

PARTS = ("retain", "forget", "validation", "excluded")


def split_to_plain(split: Split, *, redact: bool = False) -> dict[str, Any]:
    """Ids of each part; with `redact`, their salted hashes, which need the data to be read again."""
    if not redact:
        return {"digest": split.digest, **{name: list(getattr(split, name)) for name in PARTS}}
    salt = secrets.token_hex(16)
    hashed = {name: [_hash(salt, key) for key in getattr(split, name)] for name in PARTS}
    return {"digest": split.digest, "salt": salt, **hashed}


def split_from_plain(plain: Mapping[str, Any], data: Data) -> Split:
    """The split again. Hashes are matched with the ids of the data; an excluded sample that is gone
    from the data keeps its hash for an id.

    Raises SplitError for content that is no split, or hashes of learned samples that match nothing.
    """
    try:
        parts = {name: tuple(str(key) for key in plain[name]) for name in PARTS}
    except (KeyError, TypeError) as error:
        raise SplitError(f"split.json lacks a list {error}; copy the whole folder again") from error
    salt = plain.get("salt")
    if salt is not None:
        known = {_hash(salt, name): name for name in data.train.position}
        for name in ("retain", "forget", "validation"):
            gone = [key for key in parts[name] if key not in known]
            if gone:
                raise SplitError(
                    f"{len(gone)} redacted {name} ids match no sample of the data; give the data that "
                    "the model was trained on"
                )
        parts = {
            name: tuple(known.get(key, f"redacted:{key}") for key in keys)
            for name, keys in parts.items()
        }
    return Split(**parts)


def _hash(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}\x1f{key}".encode()).hexdigest()[:32]
