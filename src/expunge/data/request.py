"""A forget request as it is typed, `class:cat` or `ids:FILE`; what it means, only data can tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expunge.data.classes import resolve_class
from expunge.errors import SplitError, nearest

SPECS = {
    "random": "random:FRACTION",
    "class": "class:LABEL[,LABEL...]",
    "ids": "ids:FILE",
    "group": "group:COLUMN=VALUE",
    "indices": "indices:ROW[,ROW...]",
    "poison": "poison[:SHARE]",
}


def read_ids(source: str) -> list[str]:
    """Ids from a UTF-8 file, one per line; blank lines are skipped; `-` is standard input."""
    try:
        path = Path("/dev/stdin" if source == "-" else source).expanduser()
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SplitError(
            f"cannot read ids from {source!r} ({error}); one id per line, UTF-8"
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise SplitError(f"{source!r} holds no ids; write one per line")
    return names


def check_names(spec: str, classes: Sequence[str] | None = None) -> None:
    """Raise SplitError for a request whose file is not there, or whose classes are none of these.

    classes: names of the classes there are; None where they are not known yet.
    """
    check_request(spec)
    kind, _, rest = spec.partition(":")
    if kind == "ids" and rest != "-":
        path = Path(rest).expanduser()
        if path.is_file() or not path.exists():  # what comes from a pipe can be read once only
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
        return int(text)
    except ValueError as error:
        raise SplitError(f"{spec!r}: {text!r} is not a row; write {SPECS['indices']}") from error
