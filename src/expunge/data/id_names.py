"""Ids by their names: whole, by base name, by how they begin, and by patterns."""

from __future__ import annotations

import fnmatch
import glob
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from expunge.errors import NEAR, SplitError, nearest
from expunge.names.text import composed

CANDIDATES = 5
"""Ids that a message shows where a line fits several."""
_SPECIAL = re.compile(r"\[!?\]?[^\]]*\]|[*?\[]")
"""What of a pattern is no literal text."""
_LAST = "\U0010ffff"


class IdNames:
    """Ids that texts may mean; whatever is looked up in is made once, and only where it is needed.

    ids: each may come several times. What is compared is `composed`.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._given = ids

    @cached_property
    def _ids(self) -> list[str]:
        return list(dict.fromkeys(self._given))

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        """Composed id -> the ids that it stands for; of those that are composed alone, nothing."""
        found: dict[str, list[str]] = {}
        if "".join(self._ids).isascii():
            return found
        for one in self._ids:
            found.setdefault(composed(one), []).append(one)
        return {key: ids for key, ids in found.items() if ids != [key]}

    @cached_property
    def _keys(self) -> list[str]:
        """Composed ids, sorted."""
        return sorted({composed(one) for one in self._ids} if self._by_key else self._ids)

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        """Base name -> composed ids that have it."""
        found: dict[str, list[str]] = {}
        for key in self._keys:
            found.setdefault(key.rpartition("/")[2], []).append(key)
        return found

    @cached_property
    def _bases(self) -> list[str]:
        return sorted(self._by_base)

    @cached_property
    def _text(self) -> tuple[str, list[int]]:
        """All composed ids, a line each, and where each line begins."""
        starts, place = [], 0
        for key in self._keys:
            starts.append(place)
            place += len(key) + 1
        return "\n".join(self._keys), starts

    def __contains__(self, key: str) -> bool:
        """Whether it is a composed id."""
        place = bisect_left(self._keys, key)
        return self._keys[place : place + 1] == [key]

    def like(self, text: str) -> list[str]:
        """Ids that a text means: those of that name or base name, those that it fits as a pattern, or
        the one that begins so. SplitError where no pattern fits several.
        """
        text = composed(text)
        keys = [text] if text in self else self._by_base.get(text, [])
        if not keys and _SPECIAL.search(text) and (fitting := self._matching(text)):
            return self._meant(fitting)
        found = self._meant(keys or self._beginning(text))
        if len(found) > 1:
            shown = ", ".join(map(repr, found[:CANDIDATES]))
            more = ", ..." if len(found) > CANDIDATES else ""
            pattern = self._pattern(text, found)
            rest = "" if pattern is None else f", or {pattern!r} for all of them"
            raise SplitError(
                f"{text!r} fits several samples: {shown}{more}; write the whole id{rest}"
            )
        return found

    def near(self, text: str) -> str:
        """`", did you mean 'x'?"` for an id of the same base name, or the closest name, or nothing."""
        text = composed(text)
        base = text.replace("\\", "/").rpartition("/")[2]
        if base != text and (same := self._by_base.get(base)):
            return nearest(text, same) or f", did you mean {same[0]!r}?"
        words: set[str] = set()
        for names in (self._keys, self._bases):
            for one in (text, text.lower(), text.upper(), base):
                place = bisect_left(names, one)
                words.update(names[max(0, place - NEAR) : place + NEAR])
        return nearest(text, sorted(words))

    def _meant(self, keys: Iterable[str]) -> list[str]:
        return [one for key in dict.fromkeys(keys) for one in self._by_key.get(key, [key])]

    def _beginning(self, text: str) -> list[str]:
        """What begins with a text, or has a base name that does, where a word ends with it: `p12` is no
        beginning of `p123.png`, which is of somebody else. Names that lack an ending alone go first.
        """
        if not any(map(str.isalnum, text)):
            return []
        found: dict[str, None] = {}
        for names in (self._keys, self._bases):
            for next_letter, start, end in _following(names, text):
                if not (text[-1].isalnum() and next_letter.isalnum()):
                    found |= dict.fromkeys(self._of(names, names[start:end]))
        whole = [one for one in found if text in _stems(one)]
        return whole or list(found)

    def _of(self, names: Sequence[str], some: Sequence[str]) -> Iterable[str]:
        """Composed ids of some of the names."""
        if names is self._keys:
            return some
        return (key for base in some for key in self._by_base[base])

    def _pattern(self, text: str, named: Sequence[str]) -> str | None:
        """A pattern that fits these ids and no others; None where none is short."""
        plain = glob.escape(text)
        found = {one for keys in (self._keys, self._bases) for one, *_ in _following(keys, text)}
        letters = sorted(one for one in found if not one.isalnum())
        tried = [f"*/{plain}", *(f"{plain}{glob.escape(one)}*" for one in letters)]
        tried += [f"{plain}[{''.join(letters)}]*", f"{plain}*"]
        wanted = set(named)
        return next((one for one in tried if set(self._meant(self._matching(one))) == wanted), None)

    def _matching(self, pattern: str) -> list[str]:
        """Composed ids that a pattern fits; one without a slash may fit base names alone. Of a million
        those alone are matched that begin as it does, or hold a text that it has.
        """
        fits = re.compile(fnmatch.translate(pattern)).match
        base = "/" not in pattern
        head, *rest = _SPECIAL.split(pattern)
        if head:
            found = [key for key in _heads(self._keys, head) if fits(key)]
            if base:
                found += self._of(
                    self._bases, [one for one in _heads(self._bases, head) if fits(one)]
                )
            return found
        return [
            key
            for key in self._holding(max(rest, key=len))
            if fits(key) or (base and fits(key.rpartition("/")[2]))
        ]

    def _holding(self, literal: str) -> Iterator[str]:
        """Composed ids that hold a text, in order."""
        if not literal:
            yield from self._keys
            return
        text, starts = self._text
        place = text.find(literal)
        while place >= 0:
            row = bisect_left(starts, place + 1) - 1
            yield self._keys[row]
            if row + 1 == len(starts):
                return
            place = text.find(literal, starts[row + 1])


def _heads(names: Sequence[str], head: str) -> Sequence[str]:
    """Of sorted names those that begin so."""
    return names[bisect_left(names, head) : bisect_left(names, head + _LAST)]


def _following(names: Sequence[str], text: str) -> Iterator[tuple[str, int, int]]:
    """Of sorted names that begin with a text the letter after it, and from where to where it is that."""
    at = bisect_left(names, text)
    while at < len(names) and names[at].startswith(text):
        letter = names[at][len(text) : len(text) + 1]
        end = bisect_left(names, text + letter + _LAST, at) if letter else at + 1
        yield letter, at, end
        at = end


def _stems(key: str) -> tuple[str, str]:
    """A name without its ending, and its base name without it."""
    stem = key.rpartition(".")[0] if "." in key.rpartition("/")[2] else key
    return stem, stem.rpartition("/")[2]
