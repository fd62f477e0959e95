"""Which files of a folder are the training and the test part of a dataset, as the hub and people lay
them out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from expunge.data.columns import TABLES
from expunge.data.metadata import TABLES as BESIDE
from expunge.errors import DataError, listed

SHARD = re.compile(r"(?P<part>.+)-(?P<number>\d+)-of-(?P<total>\d+)")
"""One of several files of a part, as the Hugging Face hub names them."""
WITHIN = ("", "data", "default")
"""Folders of a dataset in which its files may lie."""
TESTS = ("test", "valid", "val", "dev")


class Shards(NamedTuple):
    """Files of each part, in order; `test` is empty where there is none. left: tables that are none of
    both.
    """

    train: list[Path]
    test: list[Path]
    left: list[Path]

    def notes(self) -> tuple[str, ...]:
        """What a person should know of files that are not read, a sentence each."""
        notes = []
        if self.left:
            names = listed(sorted(file.name for file in self.left))
            notes.append(f"beside what is learned from and tested on, these are not read: {names}")
        shard = SHARD.fullmatch(self.train[0].stem)
        if shard is not None and len(self.train) < int(shard["total"]):
            notes.append(
                f"{self.train[0].name} is one of {int(shard['total'])} files, and the others are not "
                "read; give their folder to read all"
            )
        return tuple(notes)


def shards_of(folder: Path) -> Shards | None:
    """The tables of a folder: train*.parquet and test*.parquet (or valid*, val*, dev*), or in data/,
    folders train/ and test/ of such files, or files of any name; the first two for CSV too. None where
    it holds none.

    Raises DataError where some of the files of a part are missing.
    """
    for base in (folder / name for name in WITHIN):
        for suffix in (".parquet", ".csv", ".tsv"):
            found = _named(base, suffix) or _in_folders(base, suffix)
            if found is not None:
                for files in (found.train, found.test):
                    _check_whole(files)
                return found
    for base in (folder / name for name in WITHIN):
        files = _files(base, "*.parquet")
        # beside folders, a table tells of what lies in them
        if files and not any(one.is_dir() for one in base.iterdir() if one.name[0] != "."):
            _check_whole(files)
            return Shards(files, [], [])
    return None


def _named(base: Path, suffix: str) -> Shards | None:
    """Files whose names begin with the part's."""
    train = _files(base, f"train*{suffix}")
    if not train:
        return None
    test = next((found for name in TESTS if (found := _files(base, f"{name}*{suffix}"))), [])
    return Shards(train, test, _left(base, [*train, *test]))


def _in_folders(base: Path, suffix: str) -> Shards | None:
    """Files in folders that are called as the part is."""
    train = _files(base / "train", f"*{suffix}")
    if not train or any(one.is_dir() for one in (base / "train").iterdir()):
        return None
    test = next((found for name in TESTS if (found := _files_of(base, name, suffix))), [])
    return Shards(train, test, [])


def _files_of(base: Path, part: str, suffix: str) -> list[Path]:
    folders = sorted(one for one in base.glob(f"{part}*") if one.is_dir())
    return _files(folders[0], f"*{suffix}") if folders else []


def _files(folder: Path, pattern: str) -> list[Path]:
    """Visible ones; a table beside pictures is none of them."""
    found = (one for one in folder.glob(pattern) if one.name[0] != "." and not one.is_dir())
    return sorted(one for one in found if one.name not in BESIDE)


def _left(base: Path, read: Sequence[Path]) -> list[Path]:
    return [one for suffix in TABLES for one in _files(base, f"*{suffix}") if one not in read]


def _check_whole(files: Sequence[Path]) -> None:
    """Raise DataError where files that count themselves are not all there."""
    found: dict[str, dict[int, list[int]]] = {}
    for file in files:
        shard = SHARD.fullmatch(file.stem)
        if shard is not None:
            totals = found.setdefault(shard["part"], {})
            totals.setdefault(int(shard["total"]), []).append(int(shard["number"]))
    for part, totals in found.items():
        if len(totals) > 1:
            raise DataError(
                f"{files[0].parent} holds files of {part} that count to {min(totals)} and such that "
                f"count to {max(totals)}; remove those of the older download"
            )
        ((total, numbers),) = totals.items()
        if len(numbers) < total:
            lost = next(number for number in range(total) if number not in numbers)
            raise DataError(
                f"{files[0].parent} holds {len(numbers)} of {total:,} files of {part}: number {lost} "
                "is missing, for one; fetch them all"
            )
