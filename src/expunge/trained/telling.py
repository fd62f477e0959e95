"""Whether a text tells whom redacted samples are of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from expunge.errors import ConfigError
from expunge.names.text import composed

SHORT = 4
"""Letters under which a name counts only as a word of its own: `a` stands in most texts."""


def tells(text: str, ids: Collection[str], words: Collection[str] = ()) -> bool:
    """Whether a text holds, in letters of any case, an id, its base name or that without its ending, or
    one of the words that a request was made with. A row number names nobody.
    """
    text = _plain(text)
    return any(_holds(text, name) for one in ids if (name := _told_by(_plain(one)))) or any(
        _holds(text, _plain(word)) for word in words if word
    )


def check_silent(
    texts: Iterable[tuple[str, str]], ids: Collection[str], words: Collection[str] = ()
) -> None:
    """Raise ConfigError for a text that tells. texts: what each is, and it."""
    for what, text in texts:
        if tells(text, ids, words):
            raise ConfigError(
                f"the {what} {text!r} names what is redacted, in all that is written; choose one that "
                "names nobody"
            )


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


def _holds(text: str, name: str) -> bool:
    if name not in text:
        return False
    return not (len(name) < SHORT or name.isdigit()) or _is_word(text.replace("_", "-"), name)


def _is_word(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
