"""Readers of files: parquet of encoded images, folders of images, npz arrays."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


def read_parquet_pair(folder: Path, size: Size | None) -> tuple[Raw, Raw | None]:
    """Train and test of a folder with train*.parquet and test*.parquet (or validation*.parquet)."""
    train = sorted(folder.glob("train*.parquet"))
    if not train:
        raise DataError(f"{folder} holds no train*.parquet")
    test = sorted(folder.glob("test*.parquet")) or sorted(folder.glob("valid*.parquet"))
    return read_parquet(train, size), read_parquet(test, size) if test else None


def read_parquet(files: Path | Sequence[Path], size: Size | None) -> Raw:
    """Encoded images with labels, in the layout of the Hugging Face hub.

    The image column holds {bytes, path} or plain bytes; the label column is called `label`,
    `labels` or `fine_label`; a column `id` names the samples; further flat columns serve groups.
    """
    paths = [files] if isinstance(files, Path) else list(files)
    try:
        table = pa.concat_tables([pq.read_table(path) for path in paths])
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read {paths[0]} as parquet ({error})") from error
    image = _column(paths[0], table, _is_image, "image", ("image", "img"))
    label = _column(paths[0], table, _is_label, "label", ("label", "labels", "fine_label"))
    column = table.column(image).combine_chunks()
    encoded = column.field("bytes") if pa.types.is_struct(column.type) else column
    if encoded.null_count:
        raise DataError(f"{paths[0]} has {encoded.null_count} rows without image bytes")
    columns = {
        name: np.asarray(table.column(name).to_numpy(zero_copy_only=False))
        for name in table.column_names
        if name not in (image, "id") and not pa.types.is_nested(table.schema.field(name).type)
    }
    ids = (
        np.array([str(v) for v in table.column("id").to_pylist()])
        if "id" in table.column_names
        else None
    )
    return Raw(
        store=image_store(encoded.to_pylist(), size, str(paths[0])),
        labels=np.asarray(table.column(label).to_numpy(zero_copy_only=False)),
        ids=ids,
        columns=columns,
        classes=_parquet_classes(table, label),
        fingerprint=fingerprint_files(paths, paths[0].parent),
    )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind))


def _column(path: Path, table: pa.Table, fits: Any, what: str, names: Sequence[str]) -> str:
    """The column for `what`: a usual name first, else the only one of a fitting type."""
    fitting: list[str] = [field.name for field in table.schema if fits(field.type)]
    for name in names:
        if name in fitting:
            return name
    if what == "image" and len(fitting) == 1:
        return fitting[0]
    raise DataError(
        f"{path} has no {what} column: it has {', '.join(table.column_names)}; name one of them "
        f"{' or '.join(names)}"
    )


def _parquet_classes(table: pa.Table, label: str) -> tuple[str, ...] | None:
    """Class names from the metadata that the Hugging Face `datasets` library writes, if there."""
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    try:
        names = json.loads(metadata)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(str(name) for name in names)


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
    arrays: dict[str, NDArray[Any]], x: str, y: str, suffix: str,
    classes: tuple[str, ...] | None, digest: str,
) -> Raw:  # fmt: skip
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
