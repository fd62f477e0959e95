"""Readers of files: folders of images, npz arrays; parquet has a file of its own."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import psutil
from numpy.lib import format as npy
from numpy.typing import NDArray

from expunge.data.batch import Ids
from expunge.data.classes import check_named
from expunge.data.fingerprint import fingerprint_files
from expunge.data.images import (
    MOST_BYTES,
    Encoded,
    ImageFile,
    ImagePart,
    ImageStore,
    Size,
    fits,
    images_from_array,
    is_bomb,
    quiet,
    stored_type,
)
from expunge.data.samples import ResidentStore, Samples, Store, row_ids
from expunge.disk.reading import (
    MIB,
    UnreadableError,
    check_regular,
    open_regular,
    read_bytes,
    reading,
)
from expunge.errors import DataError, listed
from expunge.names.text import clean_name, clean_names

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ARRAYS = "save plain arrays with numpy.savez; object arrays would have to be unpickled"
MOST_MEMBERS = 1000
"""Arrays of an npz file."""
RESERVED = {"x", "y", "x_train", "y_train", "x_test", "y_test", "id", "id_test", "classes"}
ROW_BYTES, VALUE_BYTES, TEXT_BYTES = 192, 16, 64
"""What takes memory, at the least: a sample with its id, a number of a column and its copy, a text."""
TEXT_TIMES = 6
"""How often the bytes of an array of texts are there while they are cleaned."""


@dataclass(frozen=True)
class Raw:
    """One part of a dataset as read from files, its labels not yet class indices.

    ids None: the samples have no names of their own, so row numbers serve.
    """

    store: Store
    labels: NDArray[Any]
    ids: Ids | None
    columns: dict[str, NDArray[Any]]
    classes: tuple[str, ...] | None
    fingerprint: str

    def samples(self, labels: NDArray[np.int64]) -> Samples:
        """The same part with labels as class indices."""
        ids = row_ids(len(labels)) if self.ids is None else self.ids
        return Samples(
            ids,
            labels,
            self.store,
            self.fingerprint,
            self.ids is None,
            columns=self.columns,
            rows=self.store.chosen if isinstance(self.store, ImageStore) else None,
        )


def read_folder(folder: Path, size: Size | None) -> tuple[Raw, Raw | None]:
    """FOLDER/train/CLASS/image with FOLDER/test (or val), or FOLDER/CLASS/image without a test set.

    Classes and images may be links to other places, but to nothing that is no file or folder there.
    """
    with reading(folder, "name a folder of images in class folders", DataError):
        train = folder / "train"
        if not train.is_dir():
            return _read_classes(folder, folder, None, size), None
        first = _read_classes(train, folder, None, size)
        for name in ("test", "val", "validation"):
            if (folder / name).is_dir():
                return first, _read_classes(folder / name, folder, first.classes, size)
        return first, None


def _read_classes(
    folder: Path, root: Path, classes: tuple[str, ...] | None, size: Size | None
) -> Raw:
    found = _class_folders(folder)
    names = tuple(found) if classes is None else classes
    files = [
        (file, label)
        for label, name in enumerate(names)
        if name in found
        for file in sorted(found[name].rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not files:
        raise DataError(
            f"{folder} holds no images in class folders; expected {folder}/CLASS/NAME.png or the like"
        )
    paths = [file for file, _ in files]
    read, fingerprint = _read_once(paths, root)
    part = ImagePart(read, size, str(folder.resolve()), fingerprint)
    return Raw(
        store=ImageStore(part, np.arange(len(paths))),
        labels=np.array([label for _, label in files], dtype=np.int64),
        ids=clean_names(np.array([path.relative_to(root).as_posix() for path in paths])),
        columns={},
        classes=names,
        fingerprint=fingerprint,
    )


def _class_folders(folder: Path) -> dict[str, Path]:
    """Class name -> its folder, in order of the names."""
    found: dict[str, Path] = {}
    around = folder.resolve()
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            continue
        if path.is_symlink() and around.is_relative_to(path.resolve()):
            raise DataError(f"{path} is a link to a folder that holds it; remove the link")
        name = clean_name(path.name)
        if name in found:
            raise DataError(f"two class folders of {folder} read {name!r}; rename one")
        found[name] = path
    return found


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


def read_npz(path: Path) -> tuple[Raw, Raw | None]:
    """Arrays x_train, y_train, x_test, y_test, or x and y; `id`, `id_test` name the samples.

    Further arrays as long as x serve groups (with `_test` appended for the test set). What is none of
    all these is not read.
    """
    with reading(path, ARRAYS, DataError):
        with quiet(), open_regular(path) as stream:
            arrays, parts = _arrays(path, stream)
        # row numbers are no ids that would show that a file was changed under its old time
        own = "id" in arrays
        digest = fingerprint_files([path], path.parent, remember=own)
        classes = None
        if "classes" in arrays:
            classes = tuple(clean_names(arrays.pop("classes").ravel()).tolist())
        train, test = parts
        return (
            _npz_part(arrays, train, classes, digest),
            _npz_part(arrays, test, classes, f"{digest}/test") if test else None,
        )


class _Part(NamedTuple):
    """Names of the arrays of one part of the data. columns: their names in the file -> as columns."""

    x: str
    y: str
    suffix: str
    ids: str | None
    columns: dict[str, str]

    @property
    def names(self) -> set[str]:
        """All of them."""
        return {self.x, self.y, *self.columns} | ({self.ids} if self.ids else set())


class _Header(NamedTuple):
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def needed_bytes(self) -> int:
        """What it takes in memory, at the least."""
        values = math.prod(self.shape)
        if self.dtype.kind in "US":
            return values * (TEXT_BYTES + TEXT_TIMES * self.dtype.itemsize)
        kept = stored_type(self.dtype, len(self.shape)) if len(self.shape) > 1 else self.dtype
        return values * max(self.dtype.itemsize, kept.itemsize)


def _arrays(
    path: Path, stream: BinaryIO
) -> tuple[dict[str, NDArray[Any]], tuple[_Part, _Part | None]]:
    """Name -> array of an npz file, of those that are data, and which they are; each header is looked
    at, and all are held against each other, before anything is unpacked.

    Raises DataError for arrays that are no data or unpack to too much, UnreadableError for what is no
    npz of plain arrays, and whatever zipfile and numpy raise.
    """
    packed_bytes = stream.seek(0, 2)
    with zipfile.ZipFile(stream) as archive:
        members = _members(archive)
        unpacked_bytes = sum(member.file_size for member in members.values())
        _check_room(path, unpacked_bytes, packed_bytes)
        headers = {}
        for name, member in members.items():
            with archive.open(member) as file:
                headers[name] = _header(file, f"{name}.npy", member.file_size)
        parts = _parts(path, headers)
        names = set().union(*(part.names for part in parts if part))
        rows = sum(headers[part.y].shape[0] for part in parts if part)
        if "classes" in headers:
            check_named(math.prod(headers["classes"].shape), rows)
            names.add("classes")
        needed_bytes = ROW_BYTES * rows + sum(headers[name].needed_bytes for name in names)
        _check_room(path, needed_bytes, packed_bytes)
        return {name: _unpacked(archive, members[name]) for name in members if name in names}, parts


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Name -> array, not yet read. Raises UnreadableError for what numpy does not write."""
    members = archive.infolist()
    names = [clean_name(member.filename) for member in members]
    for member, name in zip(members, names, strict=True):
        if member.flag_bits & 1:
            raise UnreadableError(f"{name} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableError(f"{name} is compressed in a way that numpy does not write")
        if not name.endswith(".npy"):
            raise UnreadableError(f"{name} is no array")
    if len(set(names)) != len(names) or len(names) > MOST_MEMBERS:
        raise UnreadableError("two arrays have one name, or there are too many")
    return {n.removesuffix(".npy"): member for n, member in zip(names, members, strict=True)}


def _check_room(path: Path, needed_bytes: int, packed_bytes: int) -> None:
    """Raise DataError for what is far more than its file, UnreadableError for more than memory."""
    if is_bomb(needed_bytes, packed_bytes):
        raise DataError(
            f"cannot read {path} ({packed_bytes:,} bytes would unpack to {needed_bytes:,}, which no "
            "data do); if they are meant, save them uncompressed, with numpy.savez"
        )
    if needed_bytes > psutil.virtual_memory().available:
        raise UnreadableError(f"its {needed_bytes:,} bytes do not fit into memory")


def _parts(path: Path, headers: Mapping[str, _Header]) -> tuple[_Part, _Part | None]:
    """Which arrays are training and test data. Raises DataError where these do not fit each other."""
    for x, y in (("x_train", "y_train"), ("x", "y")):
        if x in headers and y in headers:
            test = "x_test" in headers and "y_test" in headers
            return (
                _part(headers, x, y, ""),
                _part(headers, "x_test", "y_test", "_test") if test else None,
            )
    raise DataError(
        f"{path} holds {listed(sorted(headers)) or 'nothing'}; expected x and y, or x_train, "
        "y_train, x_test, y_test"
    )


def _part(headers: Mapping[str, _Header], x: str, y: str, suffix: str) -> _Part:
    inputs, labels = headers[x], headers[y]
    if inputs.dtype.kind not in "uifb" or len(inputs.shape) < 2 or len(labels.shape) not in (1, 2):
        raise DataError(
            f"{x} is {inputs.dtype} of shape {inputs.shape}, {y} of shape {labels.shape}; give numbers "
            "(n, ...) and one label for each"
        )
    count = labels.shape[0]
    if inputs.shape[0] != count:
        raise DataError(f"{x} holds {inputs.shape[0]} samples but {y} holds {count} labels")
    ids = f"id{suffix}" if f"id{suffix}" in headers else None
    if ids and headers[ids].shape != (count,):
        raise DataError(
            f"{ids} is of shape {headers[ids].shape} but {y} holds {count} labels: give one id per "
            "sample"
        )
    columns = {
        name: name.removesuffix(suffix)
        for name, header in headers.items()
        if name not in RESERVED and header.shape == (count,) and name.endswith(suffix)
        if suffix or name.removesuffix("_test") not in headers.keys() - {name}
    }
    return _Part(x, y, suffix, ids, columns)


def _header(file: Any, name: str, size: int) -> _Header:
    """Raises UnreadableError for a header whose array is no plain one, or larger than its bytes."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UnreadableError(f"{name} is of a version that numpy does not know")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or not dtype.itemsize:
        raise UnreadableError(f"{name} is an array of objects, or of nothing")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size - file.tell():
        raise UnreadableError(f"{name} says that it is larger than it is")
    return _Header(shape, dtype)


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array


def _npz_part(
    arrays: dict[str, NDArray[Any]], part: _Part, classes: tuple[str, ...] | None, digest: str
) -> Raw:
    return Raw(
        store=ResidentStore(images_from_array(arrays.pop(part.x))),
        labels=arrays[part.y],
        ids=clean_names(arrays.pop(part.ids)) if part.ids else None,
        columns={column: arrays[name] for name, column in part.columns.items()},
        classes=classes,
        fingerprint=digest,
    )
