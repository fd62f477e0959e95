"""Folders that may be replaced: those all of whose entries we write, and nobody else's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from expunge.disk.whole import recover, unwritable
from expunge.errors import UserError


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that we write.

    Attributes:
        called: in words, such as "model folder".
        mark: the file that every one of them has.
        entries: of all that may lie in one: its path within the folder, folders ending in "/".
    """

    called: str
    mark: str
    entries: re.Pattern[str]


def check_replaceable(
    target: Path,
    kind: FolderKind,
    *,
    overwrite: bool,
    error: type[UserError],
    apart: Mapping[str, Path] | None = None,
) -> None:
    """Raise early for a folder that could not be written later, or that must not be replaced.

    What a kill left of the folder is put right first. A folder is replaced where each of its entries is
    one that we write.

    Args:
        target: the folder.
        kind: what it will be.
        overwrite: whether one of that kind may be replaced.
        error: the type that is raised.
        apart: other folders, by what they are; none of them may be the target, lie in it, or hold it.
    """
    recover(target)
    for what, other in (apart or {}).items():
        if _meet(target, other):
            raise error(f"{target} and {what}, {other}, lie in each other; choose folders apart")
    if (why := unwritable(target)) is not None:
        raise error(f"{target} cannot be made ({why}); choose another folder")
    if not os.path.lexists(target):
        return
    if target.is_symlink():
        raise error(f"{target} is a link, and links are not replaced; name the folder itself")
    if not overwrite:
        raise error(f"{target} exists; choose another folder, or pass --overwrite")
    check_ours(target, kind, error=error)


def check_ours(folder: Path, kind: FolderKind, *, error: type[UserError]) -> None:
    """Raise for a folder that holds anything else than what we write into one of its kind."""
    if not folder.is_dir():
        raise error(f"{folder} exists and is no {kind.called}; choose another name")
    if not any(folder.iterdir()):
        return
    if not (folder / kind.mark).is_file():
        raise error(f"{folder} exists and is no {kind.called}; choose another name")
    for name in _entries(folder):
        if not kind.entries.fullmatch(name):
            raise error(
                f"{folder} also holds {name}, which is nothing of ours and would be lost; move it, or "
                "choose another folder"
            )


def _entries(folder: Path) -> Iterator[str]:
    """Paths within a folder, those of folders with a slash at their end; links are not followed."""
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            ending = "/" if path.is_dir() and not path.is_symlink() else ""
            linked = " (a link)" if path.is_symlink() else ""
            yield f"{path.relative_to(folder).as_posix()}{ending}{linked}"


def _meet(one: Path, other: Path) -> bool:
    """Whether two folders are the same, or one lies in the other."""
    a, b = (Path(os.path.realpath(path)) for path in (one, other))
    return a == b or a in b.parents or b in a.parents
