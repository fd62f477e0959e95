"""A split as plain data: ids in the open, or pseudonyms of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any

from expunge.data.load import Data, Home
from expunge.data.parts import SPLIT_PARTS
from expunge.data.pseudonyms import Key
from expunge.data.split import Split
from expunge.errors import SplitError

GONE = "redacted:"
"""Begins the id of a struck sample that is not in the data any more, of which a pseudonym is left."""


def split_to_plain(split: Split, data: Data, *, key: Key | None = None) -> dict[str, Any]:
    """Ids of each part; with a key, their pseudonyms, which need it and the data to be read again.

    Where the test set was drawn from the data, its ids stand beside, so that the same division is
    made when samples are gone.
    """
    parts = {name: list(getattr(split, name)) for name in SPLIT_PARTS}
    if data.test_drawn:
        parts["test"] = data.test.ids.tolist()
    if key is None:
        return {"digest": split.digest, **parts}
    left = f"{GONE}{key.name}:"
    hidden = {
        name: [
            one.removeprefix(left) if one.startswith(left) else key.pseudonym(one) for one in ids
        ]
        for name, ids in parts.items()
    }
    return {"digest": _digest(hidden, key), "pseudonyms": key.name, **hidden}


def home_of(plain: Mapping[str, Any], key: Key | None = None) -> Home:
    """Id -> "train" or "test", as a stored split has it; None for an id that it does not know."""
    stored = _stored(plain, key)

    @cache
    def places() -> dict[
        str, str
    ]:  # only where somebody asks: data whose ids are row numbers do not
        learned = chain.from_iterable(plain.get(name, ()) for name in SPLIT_PARTS)
        found = dict.fromkeys(map(str, learned), "train")
        return found | dict.fromkeys(map(str, plain.get("test", ())), "test")

    return lambda name: places().get(name if stored is None else stored(name))


def split_from_plain(plain: Mapping[str, Any], data: Data, key: Key | None = None) -> Split:
    """The split again. Pseudonyms are matched with the ids of the data; a struck sample that is gone
    from the data keeps its pseudonym for an id. Folders of earlier versions have salted hashes.

    Raises SplitError for content that is no split or was changed, or for pseudonyms of learned samples
    that match nothing.
    """
    try:
        parts = {name: tuple(map(str, plain[name])) for name in SPLIT_PARTS}
    except (KeyError, TypeError) as error:
        raise SplitError(f"split.json lacks a list {error}; copy the whole folder again") from error
    told, stored = plain.get("digest"), _stored(plain, key)
    if stored is None:
        split = _split(parts)
        _check_digest(split.digest, told)
        return split
    known = {stored(name): name for name in data.train.position}
    for name in ("retain", "validation"):
        gone = [one for one in parts[name] if one not in known]
        if gone:
            raise SplitError(
                f"{len(gone)} redacted {name} ids match no sample of the data; give the data that "
                "the model was trained on"
            )
    left = GONE if key is None else f"{GONE}{key.name}:"
    open_again = {n: tuple(known.get(one, f"{left}{one}") for one in parts[n]) for n in SPLIT_PARTS}
    split = _split(open_again)
    if key is not None:
        _check_digest(_digest(parts, key), told)
    elif not any(one.startswith(GONE) for one in (*split.forget, *split.excluded)):
        _check_digest(split.digest, told)
    return split


def _split(parts: Mapping[str, Iterable[str]]) -> Split:
    """Of ids by part; what comes from a file is checked."""
    retain, forget, validation, excluded = (tuple(parts[name]) for name in SPLIT_PARTS)
    return Split(retain, forget, validation, excluded)


def _digest(hidden: Mapping[str, Any], key: Key) -> str:
    """Of pseudonyms, so that it can be checked though samples are gone."""
    return key.digest(_split(hidden).digest)


def _check_digest(found: str, told: object) -> None:
    if found != told:
        raise SplitError(
            "split.json was changed after it was written (its digest differs); copy the whole folder "
            "again"
        )


def _stored(plain: Mapping[str, Any], key: Key | None) -> Callable[[str], str] | None:
    """What a split has in place of an id; None: the id itself."""
    if key is not None:
        return key.pseudonym
    if "pseudonyms" in plain:
        raise SplitError("split.json keeps pseudonyms of ids; give the key to them")
    salt = plain.get("salt")
    if salt is None:
        return None
    return lambda name: hashlib.sha256(f"{salt}\x1f{name}".encode()).hexdigest()[:32]
