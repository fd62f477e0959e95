"""A split as plain data: ids in the open, or salted hashes of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from expunge.data.load import Data, Home
from expunge.data.parts import SPLIT_PARTS
from expunge.data.split import Split
from expunge.errors import SplitError


def split_to_plain(split: Split, data: Data, *, redact: bool = False) -> dict[str, Any]:
    """Ids of each part; with `redact`, their salted hashes, which need the data to be read again.

    Where the test set was drawn from the data, its ids stand beside, so that the same division is
    made when samples are gone.
    """
    parts = {name: list(getattr(split, name)) for name in SPLIT_PARTS}
    if data.test_drawn:
        parts["test"] = data.test.ids.tolist()
    if not redact:
        return {"digest": split.digest, **parts}
    salt = secrets.token_hex(16)
    hashed = {name: [_hash(salt, key) for key in keys] for name, keys in parts.items()}
    return {"digest": split.digest, "salt": salt, **hashed}


def home_of(plain: Mapping[str, Any]) -> Home:
    """Id -> "train" or "test", as a stored split has it; None for an id that it does not know."""
    salt = plain.get("salt")
    places = {str(key): "train" for name in SPLIT_PARTS for key in plain.get(name, ())}
    places |= {str(key): "test" for key in plain.get("test", ())}
    return lambda name: places.get(name if salt is None else _hash(str(salt), name))


def split_from_plain(plain: Mapping[str, Any], data: Data) -> Split:
    """The split again. Hashes are matched with the ids of the data; a struck sample that is gone from
    the data keeps its hash for an id.

    Raises SplitError for content that is no split or was changed, or for hashes of learned samples
    that match nothing.
    """
    try:
        parts = {name: tuple(str(key) for key in plain[name]) for name in SPLIT_PARTS}
    except (KeyError, TypeError) as error:
        raise SplitError(f"split.json lacks a list {error}; copy the whole folder again") from error
    salt = plain.get("salt")
    if salt is not None:
        known = {_hash(salt, name): name for name in data.train.position}
        for name in ("retain", "validation"):
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
    split = Split(**parts)
    whole = not any(key.startswith("redacted:") for key in (*split.forget, *split.excluded))
    if whole and split.digest != plain.get("digest"):
        raise SplitError(
            "split.json was changed after it was written (its digest differs); copy the whole folder "
            "again"
        )
    return split


def _hash(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}\x1f{key}".encode()).hexdigest()[:32]
