"""Readers of files: folders of images, npz arrays; parquet has a file of its own."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
from numpy.lib import format as npy
from numpy.typing import NDArray

from expunge.data.batch import Ids
from expunge.data.fingerprint import fingerprint_files
from expunge.data.images import (
    MOST_BYTES,
    Encoded,
    ImageFile,
    Size,
    fits,
    image_store,
    images_from_array,
    is_bomb,
    quiet,
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
            ids, labels, self.store, self.fingerprint, self.ids is None, columns=self.columns
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
    sources, fingerprint = _read_once(paths, root)
    return Raw(
        store=image_store(sources, size, str(folder)),
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


def _read_once(paths: list[Path], root: Path) -> tuple[list[Encoded], str]:
    """Images, and the digest of their files.

    What must be read for the digest is kept for decoding, unless all of it is too much for memory.
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

    keep = fits(total)
    fingerprint = fingerprint_files(paths, root, read=read)
    return [ImageFile(path, held[path]) if path in held else path for path in paths], fingerprint


def read_npz(path: Path) -> tuple[Raw, Raw | None]:
    """Arrays x_train, y_train, x_test, y_test, or x and y; `id`, `id_test` name the samples.

    Further arrays as long as x serve groups (with `_test` appended for the test set).
    """
    with reading(path, ARRAYS, DataError):
        with quiet(), open_regular(path) as stream:
            arrays = _arrays(stream)
        # row numbers are no ids that would show that a file was changed under its old time
        own = "id" in arrays
        digest = fingerprint_files([path], path.parent, remember=own)
        classes = None
        if "classes" in arrays:
            classes = tuple(clean_names(arrays.pop("classes").ravel()).tolist())
        for x, y in (("x_train", "y_train"), ("x", "y")):
            if x in arrays and y in arrays:
                train = _npz_part(arrays, x, y, "", classes, digest)
                test = None
                if "x_test" in arrays and "y_test" in arrays:
                    test = _npz_part(arrays, "x_test", "y_test", "_test", classes, f"{digest}/test")
                return train, test
    raise DataError(
        f"{path} holds {listed(sorted(arrays)) or 'nothing'}; expected x and y, or x_train, "
        "y_train, x_test, y_test"
    )


def _arrays(stream: BinaryIO) -> dict[str, NDArray[Any]]:
    """Name -> array of an npz file; each header is looked at before anything is unpacked.

    Raises UnreadableError for what is no npz of plain arrays, or unpacks to too much, and whatever
    zipfile and numpy raise.
    """
    packed_bytes = stream.seek(0, 2)
    with zipfile.ZipFile(stream) as archive:
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
        unpacked_bytes = sum(member.file_size for member in members)
        if is_bomb(unpacked_bytes, packed_bytes):
            raise UnreadableError(
                f"{packed_bytes:,} bytes would unpack to {unpacked_bytes:,}, which no data do"
            )
        if unpacked_bytes > psutil.virtual_memory().available:
            raise UnreadableError(f"its {unpacked_bytes:,} bytes do not fit into memory")
        for member, name in zip(members, names, strict=True):
            with archive.open(member) as file:
                _check_header(file, name, member.file_size)
        return dict(_unpacked(archive, members, names))


def _check_header(file: Any, name: str, size: int) -> None:
    """Raise UnreadableError for a header whose array is no plain one, or larger than its bytes."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UnreadableError(f"{name} is of a version that numpy does not know")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or not dtype.itemsize:
        raise UnreadableError(f"{name} is an array of objects, or of nothing")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size - file.tell():
        raise UnreadableError(f"{name} says that it is larger than it is")


def _unpacked(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], names: list[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    for member, name in zip(members, names, strict=True):
        with archive.open(member) as file:
            yield name.removesuffix(".npy"), npy.read_array(file, allow_pickle=False)


def _npz_part(
    arrays: Mapping[str, NDArray[Any]],
    x: str,
    y: str,
    suffix: str,
    classes: tuple[str, ...] | None,
    digest: str,
) -> Raw:
    inputs, labels = arrays[x], arrays[y]
    if inputs.dtype.kind not in "uifb" or inputs.ndim < 2 or labels.ndim != 1:
        raise DataError(
            f"{x} is {inputs.dtype} of shape {inputs.shape}, {y} of shape {labels.shape}; give numbers "
            "(n, ...) and one label for each"
        )
    if len(inputs) != len(labels):
        raise DataError(f"{x} holds {len(inputs)} samples but {y} holds {len(labels)} labels")
    ids = arrays.get(f"id{suffix}")
    reserved = {"x", "y", "x_train", "y_train", "x_test", "y_test", "id", "id_test"}
    columns = {
        name.removesuffix(suffix): values
        for name, values in arrays.items()
        if name not in reserved and values.shape == labels.shape and name.endswith(suffix)
        if suffix or name.removesuffix("_test") not in arrays.keys() - {name}
    }
    return Raw(
        store=ResidentStore(images_from_array(inputs)),
        labels=labels,
        ids=None if ids is None else clean_names(ids),
        columns=columns,
        classes=classes,
        fingerprint=digest,
    )
