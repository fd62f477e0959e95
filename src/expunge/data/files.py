"""What a reader gives, and the reader of npz arrays."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import psutil
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.batch import Ids
from expunge.data.classes import check_named
from expunge.data.fingerprint import fingerprint_files
from expunge.data.images import ImageStore, is_bomb, quiet
from expunge.data.samples import ResidentStore, Samples, Store, row_ids
from expunge.disk.reading import UnreadableError, open_regular, reading
from expunge.errors import DataError, listed
from expunge.names.text import clean_name, clean_names

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


def images_from_array(array: NDArray[Any]) -> Tensor:
    """An array of samples as a tensor; images come out channels first.

    uint8 arrays (n, height, width) and (n, height, width, 1|3|4) are images. Everything else keeps
    its shape: (n, channels, height, width), (n, features), ... Numbers become float32, but for uint8,
    and for integers that are no images: they may be token ids, (n, length), and become int64.
    Raises DataError for integers that do not fit into 64 bits with a sign.
    """
    if array.ndim == 3 and array.dtype == np.uint8:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        array = array.transpose(0, 3, 1, 2)
    kind = stored_type(array.dtype, array.ndim)
    if array.dtype == np.uint64 and kind == np.int64 and (array >= 2**63).any():
        raise DataError("integers of 2**63 and more are no token ids; save the numbers as float32")
    return torch.from_numpy(np.ascontiguousarray(array.astype(kind, copy=False)))


def stored_type(kind: np.dtype[Any], axes: int) -> np.dtype[Any]:
    """In what an array of so many axes is kept as a tensor: uint8, int64 or float32."""
    if kind == np.uint8:
        return kind
    return np.dtype(np.int64 if kind.kind in "iu" and axes != 4 else np.float32)
