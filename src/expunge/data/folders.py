"""The reader of folders of images: parts, class folders, a table beside them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.data.apart import check_test_classes
from expunge.data.columns import TABLES
from expunge.data.drawing import DRAWING, Drawing
from expunge.data.files import Raw
from expunge.data.fingerprint import fingerprint_files
from expunge.data.images import (
    MOST_BYTES,
    Encoded,
    ImageFile,
    ImagePart,
    ImageStore,
    Size,
    fits,
)
from expunge.data.metadata import FILE, ID, LABEL, ImageTable, read_image_table
from expunge.data.metadata import TABLES as BESIDE
from expunge.data.tree import PARTS, Tree, is_part, part_of, walk
from expunge.disk.reading import MIB, UnreadableError, check_regular, read_bytes, reading
from expunge.errors import DataError, DataWarning, listed
from expunge.names.text import clean_name, clean_names

TABLE = f"a table metadata.csv beside them, with columns {FILE} and {LABEL}"


@dataclass(frozen=True)
class _Part:
    """Where the images of one part of the data lie, and the table that tells of them."""

    tree: Tree
    table: ImageTable | None

    @property
    def labelled(self) -> bool:
        """Whether the table tells the labels, and no folder."""
        return self.table is not None and self.table.has_labels

    @property
    def looked_through(self) -> list[Tree]:
        """The folders in which every file should be an image."""
        return [self.tree] if self.labelled else self.tree.filled


@dataclass(frozen=True)
class _Found:
    """Images of one part by name, their labels, and the classes where folders tell them."""

    names: list[str]
    labels: NDArray[Any]
    classes: tuple[str, ...] | None = None


def read_folder(
    folder: Path,
    size: Size | None,
    drawing: Drawing = DRAWING,
    wanted: Sequence[str] | None = None,
) -> tuple[Raw, Raw | None]:
    """FOLDER/train/CLASS/image with FOLDER/test (or val), or FOLDER/CLASS/image without a test set.

    A table `metadata.csv` (.jsonl, .parquet) beside them may name samples and groups, and the classes
    too; then images need no class folders. Classes and images may be links to other places, but to
    nothing that is no file or folder there. What is there and is not read is told in a DataWarning.

    wanted: class names that are known, one of which may have no images by now.
    """
    whole = walk(folder)
    tree, tables = _unwrapped(whole, wanted)
    train, test = _parts(tree, tables, wanted)
    found = _find(train, wanted)
    _check_classes(train, found, wanted)
    beside = None if test is None else _find(test, wanted)
    if test is not None and beside is not None:
        _check_known(test, beside, train, found, wanted)
    parts = [part for part in (train, test) if part is not None]
    for part in parts:
        _tell_others(part)
    _tell_tables(whole, parts)
    first = _raw(train, found, folder, size, drawing)
    if test is None or beside is None:
        return first, None
    return first, _raw(test, beside, folder, size, drawing)


# --- which folder is what


def _unwrapped(tree: Tree, wanted: Sequence[str] | None) -> tuple[Tree, list[ImageTable]]:
    """The folder that holds parts or classes, below such as hold nothing but it; tables on the way."""
    tables = [_table_in(tree)]
    while not tree.images and len(tree.filled) == 1:
        inner = tree.filled[0]
        if inner.images or not inner.filled or part_of(inner.name) or inner.name in (wanted or ()):
            break
        if inner.name.casefold() != tree.name.casefold():
            _tell(f"{inner.path} is read, the one folder of images in {tree.path}")
        tree = inner
        tables.append(_table_in(tree))
    return tree, [table for table in tables if table is not None]


def _parts(
    tree: Tree, tables: list[ImageTable], wanted: Sequence[str] | None
) -> tuple[_Part, _Part | None]:
    """Training and test data. Raises DataError where nobody could tell which they are."""
    roles = {
        one.name: None if one.name in (wanted or ()) else part_of(one.name) for one in tree.filled
    }
    train = [one for one in tree.filled if is_part(one.name, "train") and roles[one.name]]
    divided = any(map(_divides, train))
    if {"train"} < set(filter(None, roles.values())):  # a part to train on, and one to test on
        divided |= any(_divides(one) for one in tree.filled if roles[one.name] == "train")
    if roles and all(roles.values()) and all(not one.images for one in tree.filled):
        divided = True
        if "train" not in roles.values():
            raise DataError(
                f"{tree.path} holds {listed(list(roles))} and no images to train on; call the folder "
                "of those train"
            )
    if not divided and not (train and all(roles.values())):
        return _Part(tree, _only(tables)), None
    by_part = {
        part: [one for one in tree.filled if roles[one.name] == part] for part in (*PARTS, None)
    }
    for part in PARTS:
        if len(by_part[part]) > 1:
            names = " and ".join(one.name for one in by_part[part])
            raise DataError(f"{tree.path} holds {names}, each {part} data by its name; rename one")
    test = by_part["test"] or by_part["valid"]
    unread = [*by_part[None], *(by_part["valid"] if by_part["test"] else [])]
    for one in unread:
        why = ": to validate, some to train on are drawn" if one in by_part["valid"] else ""
        _tell(f"{one.path} is not read ({_images(one.count)}){why}")
    if tree.images:
        _tell(f"not read, being of no part: {_images(len(tree.images))} of {tree.path} itself")
    return _inner(by_part["train"][0], tables), _inner(test[0], tables) if test else None


def _inner(tree: Tree, tables: list[ImageTable]) -> _Part:
    """A part, whose folder may hold another of its name, as unzipping leaves them."""
    found = [*tables, _table_in(tree)]
    while not tree.images and [one.name.casefold() for one in tree.filled] == [
        tree.name.casefold()
    ]:
        tree = tree.filled[0]
        found.append(_table_in(tree))
    return _Part(tree, _only([table for table in found if table is not None]))


def _table_in(tree: Tree) -> ImageTable | None:
    return read_image_table(tree.path, tree.others, tree.base)


def _divides(tree: Tree) -> bool:
    """Whether a folder that is called as a part holds one, and is no class."""
    return bool(tree.filled and not tree.images) or _table_in(tree) is not None


def _only(tables: list[ImageTable]) -> ImageTable | None:
    if len(tables) > 1:
        raise DataError(f"{tables[0].path} and {tables[1].path} tell of the same images; leave one")
    return tables[0] if tables else None


# --- which images are of which class


def _find(part: _Part, wanted: Sequence[str] | None) -> _Found:
    """The images of a part. Raises DataError where there are none, or their classes are not told."""
    tree = part.tree
    if not tree.count:
        raise DataError(
            f"{tree.path} holds no images in class folders; expected {tree.path}/CLASS/NAME.png or the "
            f"like{_endings(tree.every_other())}"
        )
    if part.table is not None and part.labelled:
        names = tree.every_image()
        labels = part.table.labels(part.table.at(list(map(clean_name, names))))
        _check_contradicted(part.table, tree, names, labels)
        return _Found(names, labels)
    folders = _class_folders(tree)
    if not tree.filled:
        raise DataError(
            f"{tree.path} holds {_images(tree.count)} and no class folders; move each to "
            f"{tree.path}/CLASS, or tell the classes in {TABLE}"
        )
    if tree.images:
        _tell(f"not read, being of no class: {_images(len(tree.images))} of {tree.path} itself")
    _check_nested(tree, wanted)
    images = [name for one in folders.values() for name in one.every_image()]
    classes = [name for name, one in folders.items() for _ in range(one.count)]
    return _Found(images, np.array(classes, dtype=object), tuple(folders))


def _check_contradicted(
    table: ImageTable, tree: Tree, names: Sequence[str], labels: NDArray[Any]
) -> None:
    """Raise DataError where images lie in folders of the labels' names, and some in that of another."""
    inner = (name.removeprefix(tree.base) for name in names)
    folders = np.array([clean_name(name.partition("/")[0]) for name in inner], dtype=object)
    texts = labels.astype(np.str_)
    odd = np.flatnonzero(folders != texts)
    if set(folders.tolist()) <= set(texts.tolist()) and len(odd):
        raise DataError(
            f"{table.path} says {texts[odd[0]]} of {clean_name(names[odd[0]])} ({len(odd):,} such "
            "images), which lies in the folder of another class; correct one of "
            "them, or move all into one folder"
        )


def _class_folders(tree: Tree) -> dict[str, Tree]:
    """Class name -> its folder, in order of the names."""
    found: dict[str, Tree] = {}
    for one in tree.folders.values():
        name = clean_name(one.name)
        if name in found:
            raise DataError(f"two class folders of {tree.path} read {name!r}; rename one")
        found[name] = one
    return found


def _check_nested(tree: Tree, wanted: Sequence[str] | None) -> None:
    """Raise DataError for class folders that hold folders alone, most of them of the same names."""
    times = Counter(name for one in tree.filled for name in one.folders)
    again = [name for name, count in times.items() if count > 1]
    alike = len(times) > 1 and 2 * len(again) >= len(times)
    known = wanted is not None and {one.name for one in tree.filled} <= set(wanted)
    if alike and not known and not any(one.images for one in tree.filled):
        raise DataError(
            f"{listed([one.name for one in tree.filled])} in {tree.path} hold nothing but the folders "
            f"{listed(sorted(times))}, so either may be the classes; call parts of the data train "
            f"and test, or tell the classes in {TABLE}"
        )


def _check_classes(train: _Part, found: _Found, wanted: Sequence[str] | None) -> None:
    """Raise DataError for a class without images, which would take an output, and for one class."""
    if wanted is not None:
        wanted = [clean_name(name) for name in wanted]
    there = set(found.labels.tolist())
    empty = [name for name in found.classes or () if name not in there | set(wanted or ())]
    if empty:
        raise DataError(
            f"{train.tree.path} holds {listed(empty)} without images, and each class takes an output of "
            f"the model; remove {'it' if len(empty) == 1 else 'them'}, or add images"
        )
    if len(there) == 1 and wanted is None:
        raise DataError(
            f"all images of {train.tree.path} are of one class, {there.pop()}, and there is nothing to "
            "tell it from; give two classes or more"
        )


def _check_known(
    test: _Part, beside: _Found, train: _Part, found: _Found, wanted: Sequence[str] | None
) -> None:
    """Raise DataError for classes that the test data alone have."""
    check_test_classes(
        Counter(map(str, beside.labels.tolist())),
        {*map(str, found.labels.tolist()), *(clean_name(name) for name in wanted or ())},
        test=str(test.tree.path),
        train=str(train.tree.path),
        what="image",
    )


# --- what is read of them


def _raw(part: _Part, found: _Found, root: Path, size: Size | None, drawing: Drawing) -> Raw:
    names = clean_names(np.array(found.names))
    paths = [root / name for name in found.names]
    read, digest = _read_once(paths, root)
    images = ImagePart(read, size, str(part.tree.path.resolve()), digest, drawing)
    ids, columns = names, {}
    if part.table is not None:
        rows = part.table.at(names.tolist())
        columns = part.table.groups(rows)
        if ID in part.table.columns:
            ids = clean_names(part.table.column(ID, rows))
        # what is known of the images, by the digest of their files, stays so when the table changes
        digest = f"{digest}/{part.table.digest}"
        _tell_lost(part, names)
    return Raw(
        store=ImageStore(images, np.arange(len(paths))),
        labels=found.labels,
        ids=ids,
        columns=columns,
        classes=found.classes,
        fingerprint=digest,
    )


def _read_once(paths: list[Path], root: Path) -> tuple[Callable[[], list[Encoded]], str]:
    """What gives the images, and the digest of their files.

    What must be read for the digest is kept for decoding, unless all of it is too much for memory; it
    is given once, and the names of the files from then on.
    """
    total = 0
    for path in paths:
        with reading(f"{path} as an image", "remove or repair it", DataError):
            bytes_ = check_regular(path).st_size
            if bytes_ > MOST_BYTES:
                raise UnreadableError(f"it is larger than {MOST_BYTES // MIB} MiB")
        total += bytes_
    held: dict[Path, bytes] = {}

    def read(path: Path) -> bytes:
        with reading(f"{path} as an image", "remove or repair it", DataError):
            content = read_bytes(path, most=MOST_BYTES)
        if keep:
            held[path] = content
        return content

    def images() -> list[Encoded]:
        return [ImageFile(path, held.pop(path)) if path in held else path for path in paths]

    keep = fits(total)
    return images, fingerprint_files(paths, root, read=read)


# --- what is not read


def _tell(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=2)


def _tell_lost(part: _Part, names: Collection[str]) -> None:
    """Tell of rows of a table whose images are gone, as after a deletion."""
    table = part.table
    if table is None:
        return
    here = set(names)
    lost = [name for name in table.rows if name.startswith(part.tree.base) and name not in here]
    if lost:  # none is named: they may have been deleted for good
        _tell(
            f"{len(lost):,} of {len(table.rows):,} rows of {table.path} name no image that is there"
        )


def _tell_others(part: _Part) -> None:
    """Tell of files beside the images that are none by their names."""
    own = None if part.table is None else f"{part.table.base}{part.table.path.name}"
    others = [name for one in part.looked_through for name in one.every_other() if name != own]
    if others:
        _tell(
            f"not read in {part.tree.path}, for their names are none of images: {len(others):,} "
            f"file{'' if len(others) == 1 else 's'}{_endings(others)}, such as {clean_name(others[0])}"
        )


def _tell_tables(whole: Tree, parts: Sequence[_Part]) -> None:
    """Tell of tables that lie beside the classes."""
    told = tuple(one.base for part in parts for one in part.looked_through)
    found = [
        name
        for name in whole.every_other()
        if name.lower().endswith(TABLES)
        and name.rpartition("/")[2] not in BESIDE
        and not name.startswith(told)
    ]
    if found:
        _tell(
            f"the images of {whole.path} are read, and not {listed(list(map(clean_name, found)))}: name "
            f"a table itself to read it; what is known of each image may stand in {BESIDE[0]}"
        )


def _endings(names: Sequence[str]) -> str:
    """Which endings these have, in brackets; nothing where there are none."""
    counts = Counter(os.path.splitext(name)[1].lower() or "without" for name in names)
    told = listed([f"{count:,} {clean_name(ending)}" for ending, count in counts.most_common()])
    return f" ({told})" if counts else ""


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
