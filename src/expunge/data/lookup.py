"""Which samples the lines of a list mean: ids, base names, beginnings of names, and patterns."""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from expunge.data.load import Data
from expunge.errors import SplitError

CANDIDATES = 5
"""Ids that a message shows where a line fits several."""
_LITERAL = re.compile(r"\[[^\]]*\]|[*?\[]")
"""What of a pattern is no literal text."""


@dataclass(frozen=True)
class LookedUp:
    """What the lines of a list mean.

    names: ids, each once. read_as: a line that is no id -> the ids that it was read as.
    unknown: lines that fit nothing. again: lines that name what others had named before them. within:
    all names are of the training data.
    """

    names: list[str]
    read_as: dict[str, list[str]]
    unknown: list[str]
    again: int = 0
    within: bool = False


def look_up(
    lines: Sequence[str],
    data: Data,
    struck: Collection[str] = (),
    hidden: Callable[[str], str] = str,
) -> LookedUp:
    """What each line means, among the ids of data and of what was struck from them.

    A line that is an id means it. Another one may be a pattern (`*`, `?`, `[...]`, over the whole id, or
    over its base name), a base name, or the beginning of an id or a base name up to the end of a word
    in it, if it fits one id alone; it is a comment where it begins with `#`, and what follows ` #` is
    one too. Row numbers are ids, and nothing else.

    hidden: what an id is called where it is struck and gone from the data of a redacted folder.

    Raises SplitError for a line that fits several ids.
    """
    train = data.train
    missing = [
        line for line, row in zip(lines, train.rows_of(lines).tolist(), strict=True) if row < 0
    ]
    if not missing:
        names = list(dict.fromkeys(lines))
        return LookedUp(names, {}, [], len(lines) - len(names), within=True)
    known = set(struck) | set(
        () if train.positional and not data.test_drawn else data.test.ids.tolist()
    )
    names_of = _Names(() if train.positional else chain(train.ids.tolist(), known))
    meant: dict[str, list[str] | None] = {}
    for line in missing:
        if line in known:
            continue
        text = line.partition(" #")[0].strip() if not line.startswith("#") else ""
        exact = [one for one in (text, hidden(text)) if one in known]
        if text and not exact and train.rows_of([text])[0] >= 0:
            exact = [text]
        meant[line] = (exact[:1] or names_of.like(text)) if text else None
    found = {line: ids for line, ids in meant.items() if ids is not None}
    told = [ids for line in lines for ids in (meant.get(line, [line]),) if ids is not None]
    names = list(dict.fromkeys(chain.from_iterable(told)))
    return LookedUp(
        names,
        {
            line: ids
            for line, ids in found.items()
            if ids and ids != [line.partition(" #")[0].rstrip()]
        },
        [line for line, ids in found.items() if not ids],
        sum(map(len, told)) - len(names),
    )


class _Names:
    """Ids, by their base names and as one text: made only where some line is no id."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._given = ids

    @cached_property
    def ids(self) -> list[str]:
        """Each once, in order."""
        return list(dict.fromkeys(self._given))

    @cached_property
    def by_base(self) -> dict[str, list[str]]:
        """Base name -> the ids that have it."""
        found: dict[str, list[str]] = {}
        for one in self.ids:
            found.setdefault(one.rpartition("/")[2], []).append(one)
        return found

    @cached_property
    def _sorted(self) -> tuple[list[str], list[str]]:
        return sorted(self.ids), sorted(self.by_base)

    @cached_property
    def _text(self) -> tuple[str, list[int]]:
        """All ids, a line each, and where each line begins."""
        starts, place = [], 0
        for one in self.ids:
            starts.append(place)
            place += len(one) + 1
        return "\n".join(self.ids), starts

    def like(self, text: str) -> list[str]:
        """Ids that a text which is none of them means; SplitError where several could be meant."""
        named = self.by_base.get(text, [])
        if not named and _LITERAL.search(text):
            return self._matching(text)
        named = named or self._beginning(text)
        if len(named) > 1:
            shown = ", ".join(map(repr, named[:CANDIDATES]))
            more = ", ..." if len(named) > CANDIDATES else ""
            raise SplitError(
                f"{text!r} fits several samples: {shown}{more}; write the whole id, or "
                f"{f'{text}*'!r} for all of them"
            )
        return named

    def _beginning(self, text: str) -> list[str]:
        """Ids that begin with a text, or whose base names do, where a word ends with it: `p12` is no
        beginning of `p123.png`, which is of somebody else.
        """
        found: dict[str, None] = {}
        for keys, whole in zip(self._sorted, (True, False), strict=True):
            for row in range(bisect_left(keys, text), len(keys)):
                key = keys[row]
                if not key.startswith(text) or len(found) > CANDIDATES:
                    break
                if not (text[-1].isalnum() and key[len(text)].isalnum()):
                    found |= dict.fromkeys([key] if whole else self.by_base[key])
        return list(found)

    def _matching(self, pattern: str) -> list[str]:
        """Ids that a pattern fits; one without a slash may fit base names alone."""
        fits = re.compile(fnmatch.translate(pattern)).match
        base = "/" not in pattern
        literal = max(_LITERAL.split(pattern), key=len)
        return [
            one
            for one in self._holding(literal)
            if fits(one) or (base and fits(one.rpartition("/")[2]))
        ]

    def _holding(self, literal: str) -> Iterable[str]:
        """Ids that hold a text, in order: those alone are matched, for ids may be a million."""
        if not literal:
            yield from self.ids
            return
        text, starts = self._text
        place = text.find(literal)
        while place >= 0:
            row = bisect_left(starts, place + 1) - 1
            yield self.ids[row]
            if row + 1 == len(starts):
                return
            place = text.find(literal, starts[row + 1])
