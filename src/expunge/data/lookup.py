"""Which samples the lines of a list mean: ids, base names, beginnings of names, and patterns."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from unicodedata import normalize

from expunge.data.id_names import IdNames
from expunge.data.load import Data
from expunge.data.spec import DataSpec, path_of
from expunge.errors import SHOWN, SplitError

MOST_HASHES = 8
"""In a line, of those that may begin a comment: the last ones, and the first."""
_COMMENT = re.compile(r"(?:^|\s+)#")


@dataclass(frozen=True)
class LookedUp:
    """What the lines of a list mean.

    names: ids, each once. read_as: a line that is no id -> the ids that it was read as.
    unknown: lines that fit nothing. again: lines that name what others had named before them.
    comments: lines that are nothing else. near: some unknown lines -> what may be meant, as the end of a
    sentence. within: all names are of the training data.
    """

    names: list[str]
    read_as: dict[str, list[str]]
    unknown: list[str]
    again: int = 0
    comments: int = 0
    near: dict[str, str] = field(default_factory=dict)
    within: bool = False


def look_up(
    lines: Sequence[str],
    data: Data,
    struck: Collection[str] = (),
    hidden: Callable[[str], str] = str,
    *,
    redacted: bool = False,
) -> LookedUp:
    """What each line means, among the ids of data and of what was struck from them.

    A line that is an id means it. Another one may be a base name, a pattern (`*`, `?`, `[...]`, over the
    whole id, or over its base name), or the beginning of an id or a base name up to the end of a word in
    it, if it fits one id alone: so that a name without its ending does. It may be a path into the folder
    of the data, have backslashes, or stand in quotation marks; letters are the same however they are
    composed. What fits nothing so is read again without the comment that follows ` #`, and is a comment
    where it begins with `#`. Row numbers are ids, and nothing else.

    hidden: what an id is called where it is struck and gone from the data of a redacted folder.
    redacted: whether an error may name no id.

    Raises SplitError for a line that fits several ids.
    """
    train = data.train
    missing = [
        (number, line)
        for number, (line, row) in enumerate(zip(lines, train.rows_of(lines).tolist(), strict=True))
        if row < 0
    ]
    if not missing:
        names = list(dict.fromkeys(lines))
        return LookedUp(names, {}, [], len(lines) - len(names), within=True)
    tested = () if train.positional and not data.test_drawn else data.test.ids.tolist()
    known = {*struck, *tested}
    index = IdNames(() if train.positional else chain(train.ids.tolist(), known))
    reader = _Reader(data, known, index, hidden)
    meant: dict[str, list[str]] = {}
    for number, line in missing:
        if line not in known and line not in meant:
            try:
                meant[line] = reader.read(line)
            except SplitError as error:
                raise _silent(number) if redacted else error from None
    told = [meant.get(line, [line]) for line in lines]
    names = list(dict.fromkeys(chain.from_iterable(told)))
    nothing = [line for line, ids in meant.items() if not ids]
    unknown = [line for line in nothing if not line.startswith("#")]
    return LookedUp(
        names,
        {line: ids for line, ids in meant.items() if ids and not _with_comment(line, ids)},
        unknown,
        sum(map(len, told)) - len(names),
        sum(line.startswith("#") and not meant.get(line, True) for line in lines),
        {line: found for line in islice(unknown, SHOWN) if (found := index.near(line))},
    )


def _with_comment(line: str, ids: Sequence[str]) -> bool:
    """Whether a line is an id and a comment after `# `, of which there is nothing to tell."""
    return len(ids) == 1 and bool(re.match(rf"{re.escape(ids[0])}\s+#\s", line))


def _silent(number: int) -> SplitError:
    return SplitError(
        f"line {number + 1:,} of the list, empty ones not counted, fits several samples; write the "
        "whole id"
    )


class _Reader:
    """What a line means that is no id as it stands."""

    def __init__(
        self, data: Data, known: Collection[str], index: IdNames, hidden: Callable[[str], str]
    ) -> None:
        self._train, self._known, self._index, self._hidden = data.train, known, index, hidden
        self._before = _prefixes(data)

    def read(self, line: str) -> list[str]:
        """Ids; none of a comment, and of what fits nothing. SplitError for what fits several."""
        hashes = [one.start() for one in _COMMENT.finditer(line)]
        ends = [len(line), *reversed(hashes[-MOST_HASHES:]), *hashes[:1]]
        texts = (line[:end] for end in dict.fromkeys(ends))
        for text in filter(None, texts):
            for one in dict.fromkeys(self._spellings(text)):
                if found := self._exact(one) or self._index.like(one):
                    return found
        return []

    def _exact(self, text: str) -> list[str]:
        """A row number, or what an id is called that is gone."""
        if self._train.positional:
            return [text] if self._train.rows_of([text])[0] >= 0 or text in self._known else []
        if self._hidden is str:
            return []
        forms = [text] if text.isascii() else [text, normalize("NFC", text), normalize("NFD", text)]
        return [one for one in map(self._hidden, forms) if one in self._index][:1]

    def _spellings(self, text: str) -> Iterator[str]:
        """A text, and it as an id: without quotation marks, with slashes, from the data's folder on."""
        yield text
        if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"":
            text = text[1:-1]
            yield text
        for path in (text, text.replace("\\", "/")):
            short = posixpath.normpath(path) + "/" * path.endswith("/") if "/" in path else path
            yield short
            if short.startswith("~"):
                short = os.path.expanduser(short)
            if short.startswith("../"):
                short = os.path.abspath(short)
            for before in self._before:
                if short.startswith(before):
                    yield short.removeprefix(before)


def _prefixes(data: Data) -> list[str]:
    """What may stand before an id that is a path: the data's folder, or the last parts of its path."""
    found: dict[str, None] = {}
    for spec in (data.spec, data.test_spec):
        path = None if spec is None else path_of(DataSpec.parse(spec).base)
        if path is not None and os.path.isdir(path):
            for folder in (Path(os.path.abspath(path)), path.resolve()):
                parts = folder.parts
                found |= dict.fromkeys("/".join(parts[n:]) + "/" for n in range(1, len(parts)))
                found[f"{folder.as_posix()}/"] = None
    return sorted(found, key=len, reverse=True)
