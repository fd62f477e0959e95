"""A forget request as it is typed, `class:cat` or `ids:FILE`; what it means, only data can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from expunge.data.classes import MOST_DIGITS, resolve_class
from expunge.disk.reading import MIB, UnreadableError, read_bytes, read_stream, reading
from expunge.errors import SplitError, nearest
from expunge.names.text import clean_name

SPECS = {
    "random": "random:FRACTION",
    "class": "class:LABEL[,LABEL...]",
    "ids": "ids:FILE",
    "group": "group:COLUMN=VALUE",
    "indices": "indices:ROW[,ROW...]",
    "poison": "poison[:SHARE]",
}
MOST_BYTES, MOST_LINES = 64 * MIB, 5_000_000
"""Of a list of ids."""
_PIPES = re.compile(r"-|/dev/stdin|(/dev|/proc/self)/fd/\d+")
"""What a shell hands over: it is waited for."""


def read_ids(source: str, *, typed: bool = True) -> list[str]:
    """Ids from a UTF-8 file, one per line, cleaned as those of data are; blank lines are skipped.

    typed: whether the source was typed, and not named by a file: `-`, which is standard input, and what
    a shell hands over as /dev/fd/N may be pipes then. Raises SplitError.
    """
    with reading(f"ids from {source!r}", "one id per line, UTF-8", SplitError):
        if typed and _PIPES.fullmatch(source):
            with open("/dev/stdin" if source == "-" else source, "rb") as stream:
                content = read_stream(stream, most=MOST_BYTES)
        else:
            content = read_bytes(Path(source).expanduser(), most=MOST_BYTES)
        if content.count(b"\n") > MOST_LINES or content.count(b"\r") > MOST_LINES:
            raise UnreadableError(f"it has more than {MOST_LINES:,} lines")
        lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    names = [name for line in lines if (name := clean_name(line.strip()))]
    if not names:
        raise SplitError(f"{source!r} holds no ids; write one per line")
    return names


def check_names(spec: str, classes: Sequence[str] | None = None) -> None:
    """Raise SplitError for a request whose file is not there, or whose classes are none of these.

    classes: names of the classes there are; None where they are not known yet.
    """
    check_request(spec)
    kind, _, rest = spec.partition(":")
    if kind == "ids" and not _PIPES.fullmatch(rest):  # what comes from a pipe is read once only
        read_ids(rest)
    if kind == "class" and classes is not None:
        for name in class_names(rest, classes):
            resolve_class(name, classes)


def check_request(spec: str) -> None:
    """Raise SplitError for a forget request that no data could make sense of."""
    kind, colon, rest = spec.partition(":")
    if kind == "poison" and not colon:
        return
    if kind not in SPECS or not colon or not rest.strip():
        raise SplitError(
            f"{spec!r} is no forget request{nearest(kind, SPECS)}; write one of "
            + ", ".join(SPECS.values())
        )
    if kind == "random" and not 0 < request_number(spec, rest) < 1:
        raise SplitError(f"random:{rest} - the fraction must lie between 0 and 1")
    if kind == "poison" and not 0 < request_number(spec, rest) <= 1:
        raise SplitError(f"a share of {rest}: it must lie above 0, up to 1")
    if kind == "indices":
        for part in rest.split(","):
            row_number(spec, part)
    if kind == "group" and "=" not in rest:
        raise SplitError(f"{spec!r} lacks a value; write {SPECS['group']}")


def class_names(text: str, classes: Sequence[str]) -> list[str]:
    """The classes that `class:...` names: one whose name has a comma, or several."""
    return [text] if text in classes else [name.strip() for name in text.split(",")]


def check_share(validation: float) -> None:
    """Raise SplitError for a share of validation samples that leaves nothing, or is none."""
    if not 0 <= validation < 1:
        raise SplitError(f"validation is a share from 0 up to below 1, not {validation}")


def private_words(spec: str) -> tuple[str, ...]:
    """What a request says of whom it is about: a group's value, or the path of a list, its file's name,
    and that without its ending.
    """
    kind, _, rest = spec.partition(":")
    if kind == "group":
        return tuple(filter(None, (clean_name(rest.partition("=")[2]), clean_name(rest))))
    if kind == "ids" and not _PIPES.fullmatch(rest):
        file = Path(rest)
        return tuple(dict.fromkeys(map(clean_name, (rest, file.name, file.stem))))
    return ()


def request_number(spec: str, text: str) -> float:
    """The number in a request."""
    try:
        return float(text)
    except ValueError as error:
        kind = SPECS[spec.partition(":")[0]]
        raise SplitError(f"{spec!r}: {text!r} is not a number; write {kind}") from error


def row_number(spec: str, text: str) -> int:
    """A row in a request."""
    try:
        if len(text.strip()) > MOST_DIGITS:
            raise ValueError
        return int(text)
    except ValueError as error:
        raise SplitError(
            f"{spec[:60]!r}: {text[:60]!r} is not a row; write {SPECS['indices']}"
        ) from error
