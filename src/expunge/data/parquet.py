"""The reader of parquet files of encoded images, in the layout of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from expunge.data.drawing import DRAWING, Drawing
from expunge.data.files import ROW_BYTES, TEXT_BYTES, VALUE_BYTES, Raw
from expunge.data.fingerprint import fingerprint_files
from expunge.data.images import (
    BOMB_BYTES,
    Encoded,
    ImagePart,
    ImageStore,
    Size,
    is_bomb,
    open_image,
)
from expunge.data.labels import counted_as
from expunge.disk.reading import UnreadableError, open_regular, parse_json, reading
from expunge.errors import DataError, listed
from expunge.names.text import as_name

IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label")
"""Usual names of columns."""
REMEDY = "give a parquet file of encoded images and labels"


def holds_pictures(file: Path) -> bool:
    """Whether a parquet file has a column of encoded images; else it is a table."""
    with reading(f"{file} as parquet", REMEDY, DataError), open_regular(file) as stream:
        packed_bytes = stream.seek(0, 2)
        parquet = pq.ParquetFile(stream)
        schema = parquet.schema_arrow
        names = [
            field.name
            for field in schema
            if _is_image(field.type) and field.name not in (*LABELS, "id")
        ]
        if any(name in IMAGES or pa.types.is_struct(schema.field(name).type) for name in names):
            return True
        if len(names) != 1:
            return False
        check_sizes(parquet.metadata, packed_bytes, schema, [])
        # whole, for a reader that is left halfway may end the interpreter with an abort
        rows = parquet.read_row_group(0, columns=names, use_threads=False)
        return rows.num_rows > 0 and _shows(rows[0][0].as_py())


def _shows(content: bytes | None) -> bool:
    """Whether bytes are a picture."""
    if content is None:
        return False
    with suppress(DataError), open_image(content):
        return True
    return False


def read_parquet(
    files: Path | Sequence[Path], size: Size | None, drawing: Drawing = DRAWING
) -> Raw:
    """Encoded images with labels, in the layout of the Hugging Face hub.

    The image column holds {bytes, path} or plain bytes; the label column is called `label`,
    `labels` or `fine_label`; a column `id` names the samples; further flat columns serve groups.
    """
    paths = [files] if isinstance(files, Path) else list(files)
    tables = []
    for path in paths:
        with reading(f"{path} as parquet", REMEDY, DataError):
            tables.append(_read(path))
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if table.values.keys() != first.values.keys():
            raise DataError(f"{path} has other columns than {paths[0]}; give files of one kind")
    with reading(f"{paths[0]} as parquet", REMEDY, DataError):
        joined = {
            name: joined_values([table.values[name] for table in tables]) for name in first.values
        }
        joined[first.label] = np.concatenate(
            [
                counted_as(table.values[table.label], table.classes, first.classes, str(path))
                for path, table in zip(paths, tables, strict=True)
            ]
        )
        # row numbers are no ids that would show that a file was changed under its old time
        digest = fingerprint_files(paths, paths[0].parent, remember="id" in joined)
    counts = [len(table.values[table.label]) for table in tables]
    part = ImagePart(
        lambda: _read_images(paths, counts), size, str(paths[0].resolve()), digest, drawing
    )
    return Raw(
        store=ImageStore(part, np.arange(sum(counts))),
        labels=joined[first.label],
        ids=joined.pop("id", None),
        columns=joined,
        classes=first.classes,
        fingerprint=digest,
    )


def read_columns(path: Path) -> dict[str, list[Any]]:
    """The flat columns of a file without images, None for what is missing.

    Raises UnreadableError, and whatever pyarrow raises.
    """
    with open_regular(path) as stream:
        packed_bytes = stream.seek(0, 2)
        file = pq.ParquetFile(stream)
        names = [field.name for field in file.schema_arrow if is_flat(field.type)]
        check_sizes(file.metadata, packed_bytes, file.schema_arrow, names)
        table = pa.Table.from_batches(bounded_batches(file, names, packed_bytes))
    return {name: table.column(name).to_pylist() for name in names}


def _read_images(paths: Sequence[Path], counts: Sequence[int]) -> list[Encoded]:
    """The encoded images of some files. counts: how many rows each was seen to have."""
    images: list[Encoded] = []
    for path, count in zip(paths, counts, strict=True):
        with reading(f"{path} as parquet", REMEDY, DataError):
            found = _read(path, images=True).images
            if len(found) != count:
                raise UnreadableError("it changed while it was read")
            images += found
    return images


class _Table:
    """What is read of one file: images as bytes, or an array for each flat column.

    An image or a text that comes often is there once.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.image = _column(path, schema, _is_image, "image", IMAGES)
        self.label = _column(path, schema, _is_label, "label", LABELS)
        self.classes = classes_of_schema(schema, self.label)
        self.flat = [
            field.name
            for field in schema
            if field.name != self.image and (is_flat(field.type) or field.name == self.label)
        ]
        nested = pa.types.is_struct(schema.field(self.image).type)
        self.bytes = f"{self.image}.bytes" if nested else self.image
        """The column of the images within the file."""
        self.texts = [name for name in self.flat if _is_text(schema.field(name).type)]
        self.images: list[bytes] = []
        self.values: dict[str, NDArray[Any]] = {}

    def take_images(self, path: Path, batches: Iterator[pa.RecordBatch]) -> None:
        """Read the images of all rows."""
        known: dict[Any, Any] = {}
        for batch in batches:
            column = batch.column(self.image)
            images = column.field("bytes") if pa.types.is_struct(column.type) else column
            missing = column.null_count or images.null_count
            if missing:
                raise DataError(f"{path} has {missing} rows without image bytes")
            self.images += _shared(images, known)

    def take_values(self, path: Path, batches: Iterator[pa.RecordBatch]) -> None:
        """Read the flat columns of all rows."""
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in self.flat}
        known: dict[Any, Any] = {}
        for batch in batches:
            for name in self.flat:
                values = batch.column(name)
                if values.null_count and name in (self.label, "id"):
                    raise DataError(
                        f"{path} has {values.null_count} rows without {name} (it is null there); fill "
                        "it in, or leave these rows out"
                    )
                found[name].append(column_values(values, known, as_text=name == "id"))
        self.values = {name: joined_values(arrays) for name, arrays in found.items()}


def _read(path: Path, *, images: bool = False) -> _Table:
    """The flat columns of one file, or its images. Raises DataError, UnreadableError, and whatever
    pyarrow raises.
    """
    with open_regular(path) as stream:
        packed_bytes = stream.seek(0, 2)
        file = pq.ParquetFile(stream)
        table = _Table(path, file.schema_arrow)
        check_sizes(file.metadata, packed_bytes, file.schema_arrow, table.flat)
        file = pq.ParquetFile(
            stream, metadata=file.metadata, read_dictionary=[table.bytes, *table.texts]
        )
        wanted = [table.bytes] if images else table.flat
        take = table.take_images if images else table.take_values
        take(path, bounded_batches(file, wanted, packed_bytes))
    return table


def _value_bytes(kind: pa.DataType) -> int:
    """What one value of a flat column takes in memory."""
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return VALUE_BYTES if plain else TEXT_BYTES


def check_sizes(
    metadata: pq.FileMetaData, packed_bytes: int, schema: pa.Schema, columns: Sequence[str]
) -> None:
    """Raise UnreadableError for rows or pages that are far more than their file, or than memory.

    columns: those that are held in memory for all rows.
    """
    row_bytes = ROW_BYTES + sum(_value_bytes(schema.field(name).type) for name in columns)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    unpacked_bytes = sum(group.total_byte_size for group in groups)
    rows = sum(group.num_rows for group in groups)
    needed_bytes = max(unpacked_bytes, row_bytes * rows)
    if is_bomb(needed_bytes, packed_bytes):
        raise UnreadableError(
            f"{packed_bytes:,} bytes would unpack to {needed_bytes:,}, which no data do"
        )
    if needed_bytes > psutil.virtual_memory().available:
        raise UnreadableError(f"its {needed_bytes:,} bytes do not fit into memory")
    if rows != metadata.num_rows or not rows:
        raise UnreadableError("it holds no rows, or another number than it says")


def _batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Rows, of which no more are unpacked at a time than a row group, or a part of a large one."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        parts = 1 + group.total_byte_size // BOMB_BYTES
        rows = max(1, group.num_rows // parts)
        yield from file.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False)


def bounded_batches(
    file: pq.ParquetFile, columns: list[str], packed_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Rows; ends with UnreadableError where they come to more than the file may unpack to."""
    total = 0
    for batch in _batches(file, columns):
        total += batch.nbytes
        if is_bomb(total, packed_bytes):
            raise UnreadableError(
                f"{packed_bytes:,} bytes unpack to more than {total:,}, which no data do"
            )
        yield batch


def _shared(
    values: pa.Array, known: dict[Any, Any], made: Callable[[Any], Any] = lambda value: value
) -> list[Any]:
    """Values as Python objects, each of which is there once. made: what becomes of each."""
    if pa.types.is_string_view(values.type) or pa.types.is_binary_view(values.type):
        values = values.cast(pa.large_binary())
    if not isinstance(values, pa.DictionaryArray):
        values = values.dictionary_encode()
    rows = values.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    used, place = np.unique(rows, return_inverse=True)
    each = values.dictionary.take(pa.array(used, mask=used < 0)).to_pylist()
    each = [known.setdefault(value, value) for value in map(made, each)]
    return [each[row] for row in place.tolist()]


def column_values(values: pa.Array, known: dict[Any, Any], *, as_text: bool) -> NDArray[Any]:
    """A column as an array; texts stay objects, for an array of texts gives each the longest's room."""
    kind = values.type.value_type if isinstance(values, pa.DictionaryArray) else values.type
    if _is_list(kind):
        return _objects(values.to_pylist())
    if not _is_text(kind):
        if isinstance(values, pa.DictionaryArray):
            values = values.dictionary_decode()
        array = plain_values(values)
        return array.astype(np.str_) if as_text else array
    return np.array(_shared(values, known, as_name), dtype=object)


def plain_values(values: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Numbers or times as an array. Those with gaps become texts, "" where there is none: as doubles,
    whole numbers would not stay what they are, and two persons of long ones would be one.
    """
    if not values.null_count or pa.types.is_floating(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    there = values.drop_null().to_numpy(zero_copy_only=False)
    found, place = np.unique(there, return_inverse=True)
    texts = np.full(len(values), "", dtype=object)
    texts[np.asarray(values.is_valid())] = _as_texts(found)[place]
    return texts


def _as_texts(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.str_).astype(object)


def joined_values(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One array of several: all texts where one of them has gaps, so that no value reads otherwise."""
    if any(one.dtype.kind == "O" for one in arrays):
        arrays = [one if one.dtype.kind == "O" else _as_texts(one) for one in arrays]
    return np.concatenate(arrays)


def _objects(values: list[Any]) -> NDArray[Any]:
    """Values (n,) that are lists themselves."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return bool(place >= 0 and _is_image(kind.field(place).type))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: pa.DataType) -> bool:
    """Whether these may be labels; whether they are is seen when they are read."""
    if pa.types.is_dictionary(kind):
        return _is_label(kind.value_type)
    return _is_list(kind) or (is_flat(kind) and not pa.types.is_temporal(kind))


def _is_list(kind: pa.DataType) -> bool:
    """Whether each value holds several numbers, as one-hot labels do."""
    several = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    return bool(several and _is_label(kind.value_type))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def is_flat(kind: pa.DataType) -> bool:
    """Whether each value of a column is one number, one text or one time."""
    if pa.types.is_dictionary(kind):
        return is_flat(kind.value_type)
    return bool(
        _is_text(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_temporal(kind)
        or pa.types.is_decimal(kind)
    )


def _column(path: Path, schema: pa.Schema, fits: Any, what: str, names: Sequence[str]) -> str:
    """The column for `what`: a usual name first, else the only one of a fitting type."""
    fitting: list[str] = [field.name for field in schema if fits(field.type)]
    for name in names:
        if name in fitting:
            return name
    if what == "image" and len(fitting) == 1:
        return fitting[0]
    raise DataError(
        f"{path} has no {what} column: it has {listed([as_name(n) for n in schema.names])}; name one "
        f"of them {' or '.join(names)}"
    )


def classes_of_schema(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Class names from the metadata that the Hugging Face `datasets` library writes, if there."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    try:
        names = parse_json(metadata)["info"]["features"][label]["names"]
        # cleaned when it is known that they are not too many
        return tuple(names) if isinstance(names, list) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
