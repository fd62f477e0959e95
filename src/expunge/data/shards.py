"""Which files of a folder are the training and the test part of a dataset, as the hub and people lay
them out.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from expunge.data.columns import TABLES, is_parquet
from expunge.data.metadata import TABLES as BESIDE
from expunge.data.tree import IMAGE_SUFFIXES, JUNK, PARTS, part_of, parts_of
from expunge.errors import DataError, listed

SHARD = re.compile(r"(?P<part>.+)-(?P<number>\d+)-of-(?P<total>\d+)")
"""One of several files of a part, as the Hugging Face hub names them."""
WITHIN = ("", "data", "default")
"""Folders of a dataset in which its files may lie."""


class Shards(NamedTuple):
    """Files of each part, in order; `test` is empty where there is none. left: tables that are none of
    both. images: of the same folder, which are not read.
    """

    train: list[Path]
    test: list[Path]
    left: list[Path]
    images: int = 0

    def notes(self) -> tuple[str, ...]:
        """What a person should know of files that are not read, a sentence each."""
        notes = []
        if self.left:
            here = self.train[0].parent
            names = listed(
                sorted(
                    file.name if file.parent == here else f"{file.parent.name}/{file.name}"
                    for file in self.left
                )
            )
            notes.append(f"beside what is learned from and tested on, these are not read: {names}")
        if self.images:
            notes.append(f"the tables are read, and {self.images:,} images beside them are not")
        shard = SHARD.fullmatch(self.train[0].stem)
        if shard is not None and len(self.train) < int(shard["total"]):
            notes.append(
                f"{self.train[0].name} is one of {int(shard['total'])} files, and the others are not "
                "read; give their folder to read all"
            )
        return tuple(notes)


def shards_of(folder: Path) -> Shards | None:
    """The tables of a folder: files or folders that are called as `part_of` knows parts, there or in
    data/, or parquet files of any name. None where it holds none, and where images to train on lie
    beside them, for these are the data then.

    Raises DataError where some of the files of a part are missing, for parts without one to train on,
    and for tables among folders of images.
    """
    found = _tables(folder)
    if found is None:
        return None
    for files in (found.train, found.test):
        _check_whole(files)
    images = _images(folder)
    found = found._replace(images=sum(images.values()))
    if is_parquet(found.train[0]):
        from expunge.data.parquet import holds_pictures  # slow to import

        if holds_pictures(found.train[0]):
            return found
    within = {word for base in images for word in base.relative_to(folder).parts}
    if any(part_of(name) == "train" for name in within):
        return None  # and the reader of images tells of the tables
    if len(images) > 1:
        raise DataError(
            f"{folder} holds tables, such as {found.train[0].name}, and {found.images:,} images in "
            f"{len(images):,} folders, so either may be the data; name the table itself, or move it "
            f"away (what is known of each image may stand in {BESIDE[0]})"
        )
    return found


def _tables(folder: Path) -> Shards | None:
    for base in (folder / name for name in WITHIN):
        for suffix in (".parquet", ".csv", ".tsv"):
            found = _named(base, suffix) or _in_folders(base, suffix)
            if found is not None:
                return found
    for base in (folder / name for name in WITHIN):
        files = _files(base, ".parquet")
        # beside folders, a table tells of what lies in them
        if files and not any(one.is_dir() for one in base.iterdir() if one.name[0] != "."):
            _check_trained(base, files)
            return Shards(files, [], [])
    return None


def _images(folder: Path) -> Counter[Path]:
    """How many images each folder at any depth holds, of those that hold some."""
    found: Counter[Path] = Counter()
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and name.casefold() not in JUNK]
        shown = (name for name in names if name[0] != ".")
        count = sum(os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES for name in shown)
        if count:
            found[Path(base)] += count
    return found


def _named(base: Path, suffix: str) -> Shards | None:
    """Files that are called as their part."""
    files = _files(base, suffix)
    found = {part: [one for one in files if _part(one.stem) == part] for part in PARTS}
    train, test = found["train"], found["test"] or found["valid"]
    return Shards(train, test, _left(base, [*train, *test])) if train else None


def _part(stem: str) -> str | None:
    """The part that the words of a name tell, else its beginning, as in trainA."""
    if parts_of(stem):
        return part_of(stem)
    return next((part for part in PARTS if stem.casefold().startswith(part)), None)


def _in_folders(base: Path, suffix: str) -> Shards | None:
    """Files in folders that are called as the part is."""
    if not base.is_dir():
        return None
    folders = sorted(one for one in base.iterdir() if one.is_dir() and one.name[0] != ".")
    found = {part: [one for one in folders if part_of(one.name) == part] for part in PARTS}
    files = {part: [(one, _files(one, suffix)) for one in found[part]] for part in PARTS}
    train = next((of for _, of in files["train"] if of), [])
    if not train or any(one.is_dir() for one in train[0].parent.iterdir()):
        return None
    test = next((of for part in ("test", "valid") for _, of in files[part] if of), [])
    left = [one for folder in (base, *folders) for one in _left(folder, [*train, *test])]
    return Shards(train, test, left)


def _files(folder: Path, suffix: str) -> list[Path]:
    """Visible ones; a table beside pictures is none of them."""
    if not folder.is_dir():
        return []
    shown = (one for one in folder.iterdir() if one.name[0] != "." and one.suffix.lower() == suffix)
    return sorted(one for one in shown if one.name not in BESIDE and not one.is_dir())


def _check_trained(base: Path, files: Sequence[Path]) -> None:
    """Raise DataError for a file that is to test on by its name, where none is to train on."""
    odd = next((one for one in files if part_of(one.stem) in ("test", "valid")), None)
    if odd is not None:
        raise DataError(
            f"{base} holds {odd.name}, which is to test on by its name, and no file to train on by its "
            "own; call that train.parquet, or name one file to read it alone"
        )


def _left(base: Path, read: Sequence[Path]) -> list[Path]:
    return [one for suffix in TABLES for one in _files(base, suffix) if one not in read]


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
