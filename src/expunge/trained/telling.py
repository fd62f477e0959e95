"""Whether a text tells whom redacted samples are of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import chain

from expunge.errors import ConfigError
from expunge.names.text import composed

SHORT = 4
"""Letters under which a name counts only as a word of its own: `a` stands in most texts."""


def tells(text: str, ids: Collection[str], words: Collection[str] = ()) -> bool:
    """Whether a text holds, in letters of any case, an id, its base name or that without its ending, or
    one of the words that a request was made with. A row number names nobody.
    """
    return _tells(text, _names(ids), words)


def check_silent(
    texts: Iterable[tuple[str, str]], ids: Collection[str], words: Collection[str] = ()
) -> None:
    """Raise ConfigError for a text that tells. texts: what each is, and it."""
    names = _names(ids)
    for what, text in texts:
        if _tells(text, names, words):
            raise ConfigError(
                f"the {what} {text!r} names what is redacted, in all that is written; choose one that "
                "names nobody"
            )


def _names(ids: Collection[str]) -> list[str]:
    return [name for one in ids if (name := _told_by(_plain(one)))]


def _tells(text: str, names: Iterable[str], words: Iterable[str]) -> bool:
    text = _plain(text)
    told = (_plain(word) for word in words if word)
    return any(name in text and _stands(text, name) for name in chain(names, told))


def names_any(text: str, ids: Collection[str]) -> bool:
    """Whether a text holds one of these ids as a word of its own, row numbers too."""
    return any(one in text and _is_word(text, one) for one in ids if one)


def _plain(text: str) -> str:
    return composed(text).casefold()


def _told_by(one: str) -> str:
    """The shortest part of an id that tells it: its base name without the ending, unless that is a
    number, as of a row; empty where all of it is one.
    """
    base = one.rpartition("/")[2]
    stem = base.rpartition(".")[0] or base
    return next((name for name in (stem, base, one) if name and not name.isdigit()), "")


def _stands(text: str, name: str) -> bool:
    """Whether a name in a text is no part of some other word there, if it is short or a number."""
    return not (len(name) < SHORT or name.isdigit()) or _is_word(text.replace("_", "-"), name)


def _is_word(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
