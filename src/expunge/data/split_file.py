"""A split as plain data: ids in the open, or pseudonyms of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from expunge.data.aside import Home
from expunge.data.batch import Indices
from expunge.data.id_rows import IdRows
from expunge.data.load import Data
from expunge.data.parts import SPLIT_PARTS
from expunge.data.pseudonyms import Key, is_kept
from expunge.data.samples import Samples
from expunge.data.split import Split
from expunge.data.struck import Struck, struck_from_plain, struck_to_plain
from expunge.errors import SplitError

GONE = "redacted:"
"""Begins the id of a struck sample that is not in the data any more, of which a pseudonym is left."""


def split_to_plain(
    split: Split, data: Data, *, key: Key | None = None, struck: Sequence[Struck] = ()
) -> dict[str, Any]:
    """Ids of each part; with a key, their pseudonyms, which need it and the data to be read again.

    struck: what each request of the chain struck.

    Where the test set was drawn from the data, its ids stand beside, so that the same division is
    made when samples are gone.
    """
    parts = {name: list(getattr(split, name)) for name in SPLIT_PARTS}
    if data.test_drawn:
        parts["test"] = data.test.ids.tolist()
    told = {"struck": struck_to_plain(struck, split.forget)} if struck else {}
    if key is None:
        return {"digest": split.digest, **parts, **told}
    left = gone_name(key)

    def hide(one: str) -> str:
        return one.removeprefix(left) if one.startswith(left) else key.pseudonym(one)

    hidden = {name: list(map(hide, ids)) for name, ids in parts.items()}
    if struck:
        told["struck"] = struck_to_plain([one.named(hide) for one in struck], hidden["forget"])
    return {"digest": key.digest(_split(hidden).digest), "pseudonyms": key.name, **hidden, **told}


def gone_name(key: Key | None) -> str:
    """Begins the id of a struck sample that is gone from the data; its pseudonym follows."""
    return GONE if key is None else f"{GONE}{key.name}:"


def home_of(plain: Mapping[str, Any], key: Key | None = None) -> Home:
    """Which samples a stored split learns from and tests on; those that it does not know are neither."""
    stored = _stored(plain, key)

    def home(samples: Samples) -> tuple[Indices, Indices]:
        known = samples.position
        if stored is not None:
            known = IdRows(np.array([stored(name) for name in samples.ids.tolist()], dtype=np.str_))
        places = np.full(len(samples) + 1, -1)  # the last is the row of those that are not there
        for place, parts in enumerate((SPLIT_PARTS, ("test",))):
            for part in parts:
                places[known.rows_of(list(map(str, plain.get(part, ()))))] = place
        return np.flatnonzero(places[:-1] == 0), np.flatnonzero(places[:-1] == 1)

    return home


def split_from_plain(
    plain: Mapping[str, Any], data: Data, key: Key | None = None, *, all_there: bool = True
) -> tuple[Split, tuple[Struck, ...]]:
    """The split again, and what each request struck. Pseudonyms are matched with the ids of the data; a
    struck sample that is gone from the data keeps its pseudonym for an id. Folders of earlier versions
    have salted hashes. all_there: whether learned samples must be in the data; if not, they do too.

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
        _check_digest(split, told)
        return split, struck_from_plain(plain, str)
    known = {stored(name): name for name in data.train.position}
    for name in ("retain", "validation") if all_there else ():
        gone = [one for one in parts[name] if one not in known]
        if gone:
            raise SplitError(
                f"{len(gone)} redacted {name} ids match no sample of the data; give the data that "
                "the model was trained on"
            )
    left = gone_name(key)

    def opened(one: str) -> str:
        return known.get(one, f"{left}{one}")

    split = _split({name: tuple(map(opened, parts[name])) for name in SPLIT_PARTS})
    if key is not None:
        _check_digest(_split(parts), told, key)
    elif not any(one.startswith(GONE) for one in (*split.forget, *split.excluded)):
        _check_digest(split, told)
    return split, struck_from_plain(plain, opened)


def _split(parts: Mapping[str, Iterable[str]]) -> Split:
    """Of ids by part; what comes from a file is checked."""
    retain, forget, validation, excluded = (tuple(parts[name]) for name in SPLIT_PARTS)
    return Split(retain, forget, validation, excluded)


def _check_digest(split: Split, told: object, key: Key | None = None) -> None:
    """With a key, of pseudonyms, so that it can be checked though samples are gone."""
    if not is_kept(split.digest, str(told), key):
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
