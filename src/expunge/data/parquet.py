"""The reader of parquet files of encoded images, in the layout of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from expunge.data.files import Raw
from expunge.data.fingerprint import fingerprint_files
from expunge.data.images import Size, image_store
from expunge.errors import DataError


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
