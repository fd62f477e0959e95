"""Readers of files: folders of images, npz arrays; parquet has a file of its own."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from expunge.data.batch import Ids
from expunge.data.fingerprint import fingerprint_files
from expunge.data.images import Size, image_store, images_from_array
from expunge.data.samples import ResidentStore, Samples, Store, row_ids
from expunge.errors import DataError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


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
    """FOLDER/train/CLASS/image with FOLDER/test (or val), or FOLDER/CLASS/image without a test set."""
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
    names = (
        tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
        if classes is None
        else classes
    )
    files = [
        (file, name)
        for name in names
        for file in sorted((folder / name).rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not files:
        raise DataError(
            f"{folder} holds no images in class folders; expected {folder}/CLASS/NAME.png or the like"
        )
    paths = [file for file, _ in files]
    return Raw(
        store=image_store(paths, size, str(folder)),
        labels=np.array([names.index(name) for _, name in files], dtype=np.int64),
        ids=np.array([path.relative_to(root).as_posix() for path in paths]),
        columns={},
        classes=names,
        fingerprint=fingerprint_files(paths, root),
    )


def read_npz(path: Path) -> tuple[Raw, Raw | None]:
    """Arrays x_train, y_train, x_test, y_test, or x and y; `id`, `id_test` name the samples.

    Further arrays as long as x serve groups (with `_test` appended for the test set).
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"cannot read {path} ({error}); save plain arrays with numpy.savez, object arrays would "
            "have to be unpickled"
        ) from error
    digest = fingerprint_files([path], path.parent)
    classes = tuple(str(name) for name in arrays.pop("classes")) if "classes" in arrays else None
    for x, y in (("x_train", "y_train"), ("x", "y")):
        if x in arrays and y in arrays:
            train = _npz_part(arrays, x, y, "", classes, digest)
            test = None
            if "x_test" in arrays and "y_test" in arrays:
                test = _npz_part(arrays, "x_test", "y_test", "_test", classes, f"{digest}/test")
            return train, test
    raise DataError(
        f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; expected x and y, or x_train, "
        "y_train, x_test, y_test"
    )


def _npz_part(
    arrays: dict[str, NDArray[Any]],
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
        ids=None if ids is None else ids.astype(np.str_),
        columns=columns,
        classes=classes,
        fingerprint=digest,
    )
