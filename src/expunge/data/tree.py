"""A folder of images as it lies on the disk: one walk, hidden things left out, links followed once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from expunge.disk.reading import reading
from expunge.errors import DataError

IMAGE_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jfif",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
}
JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}
"""What systems leave in folders, beside what begins with a dot."""
PARTS = {
    "train": ("train", "training"),
    "valid": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Names of the folders of each part of the data, in any case."""
_WORDS = re.compile(r"[a-z]+")


@dataclass
class Tree:
    """A folder. images, others: names of its own files. folders: by name, in order.

    base: from the folder of the data to this one, with a slash at its end, or empty.
    """

    path: Path
    base: str
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: dict[str, Tree] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.name

    @cached_property
    def filled(self) -> list[Tree]:
        """Its folders that hold images, at any depth."""
        return [one for one in self.folders.values() if one.count]

    @cached_property
    def count(self) -> int:
        """Images at any depth."""
        return len(self.images) + sum(one.count for one in self.folders.values())

    def every_image(self) -> list[str]:
        """Names from the folder of the data on, by the parts of their paths."""
        found = [f"{one.base}{name}" for one in self.every() for name in one.images]
        return sorted(found, key=lambda name: name.split("/"))

    def every_other(self) -> list[str]:
        """Likewise, of files that are no images by their names."""
        return [f"{one.base}{name}" for one in self.every() for name in one.others]

    def every(self) -> Iterator[Tree]:
        """It, and all folders in it."""
        yield self
        for one in self.folders.values():
            yield from one.every()


def walk(folder: Path) -> Tree:
    """All that lies in a folder. Raises DataError for links back, and for what would be read twice."""
    return _walk(folder, "", {})


def _walk(folder: Path, base: str, seen: dict[tuple[int, int], Path]) -> Tree:
    tree = Tree(folder, base)
    with reading(folder, "name a folder of images in class folders", DataError):
        status = folder.stat()
        known = seen.setdefault((status.st_dev, status.st_ino), folder)
        if known is not folder:
            raise DataError(
                f"{known} and {folder} are one folder, whose images would count twice; remove the link"
            )
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = entry.name
        if name.startswith(".") or name.casefold() in JUNK:
            continue
        image = os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        if _is_folder(entry):
            if image:
                raise DataError(f"{entry.path} is a folder by the name of an image; rename it")
            if entry.is_symlink() and folder.resolve().is_relative_to(os.path.realpath(entry.path)):
                raise DataError(
                    f"{entry.path} is a link to a folder that holds it; remove the link"
                )
            tree.folders[name] = _walk(folder / name, f"{base}{name}/", seen)
        else:
            (tree.images if image else tree.others).append(name)
    return tree


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere: told where it is read
        return False


def part_of(name: str) -> str | None:
    """Which part of the data a folder of this name holds, if its words say so: "train", "seg_test"."""
    parts = parts_of(name)
    return parts.pop() if len(parts) == 1 else None


def parts_of(name: str) -> set[str]:
    """All parts that words of a name tell."""
    words = _WORDS.findall(name.casefold())
    return {part for part, names in PARTS.items() if not set(names).isdisjoint(words)}


def is_part(name: str, part: str) -> bool:
    """Whether a folder is called so, and no more."""
    return name.casefold() in PARTS[part]
