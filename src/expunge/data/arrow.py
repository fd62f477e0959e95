"""Arrow columns as samples: labels, ids and groups read without inputs; a digest of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from expunge.data.files import Raw
from expunge.data.parquet import column_values, is_flat, joined_values
from expunge.data.samples import Store
from expunge.errors import DataError, listed
from expunge.names.text import as_name

TEXTS = ("text", "sentence")
"""What a column of texts may be called."""
LABELS = ("label", "labels")
"""What a column of labels may be called."""


def is_string(kind: pa.DataType) -> bool:
    """Whether a column holds texts, and not bytes."""
    if pa.types.is_dictionary(kind):
        return is_string(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def text_column(schema: pa.Schema) -> str | None:
    """The column of texts that are to be classified, if there is one."""
    return next((n for n in TEXTS if n in schema.names and is_string(schema.field(n).type)), None)


def label_column(names: Sequence[str], where: str) -> str:
    """The column of labels. Raises DataError where there is none."""
    found = next((name for name in LABELS if name in names), None)
    if found is None:
        raise DataError(
            f"{where} has no label column: it has {listed([as_name(n) for n in names])}; name one of "
            f"them {' or '.join(LABELS)}"
        )
    return found


def raw_of(
    table: pa.Table,
    store: Store,
    label: str,
    where: str,
    *,
    classes: tuple[str, ...] | None,
    fingerprint: str,
) -> Raw:
    """A part of the data: inputs of a store, the rest of a table's flat columns.

    where: what the table is, in words. Raises DataError for samples without a label or an id.
    """
    if not table.num_rows:
        raise DataError(f"{where} holds no rows; give data with samples in them")
    for name in (label, "id"):
        if name in table.column_names:
            _check_there(table[name], name, where)
    known: dict[Any, Any] = {}
    values = {
        name: joined_values(
            [column_values(one, known, as_text=name == "id") for one in table[name].chunks]
        )
        for name in table.column_names
        if is_flat(table.schema.field(name).type)
    }
    if label not in values:
        raise DataError(
            f"{where}: {label!r} holds {table.schema.field(label).type}, which is no class; give one "
            "whole number or one name per sample"
        )
    labels = values[label]
    ids = values.pop("id", None)
    return Raw(store, labels, ids, values, classes, fingerprint)


def _check_there(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Raise DataError for a missing value, which an empty text is too."""
    missing = column.is_null()
    if is_string(column.type):
        missing = pc.or_kleene(missing, pc.equal(pc.cast(column, pa.large_string()), ""))
        missing = missing.fill_null(True)
    count = int(pc.sum(missing).as_py() or 0)
    if count:
        first = pc.index(missing, True).as_py() + 1
        raise DataError(
            f"{where} has {count:,} rows without {name}, the first of them row {first:,}; give each "
            "one, or leave these rows out"
        )


def texts_of(table: pa.Table, column: str, where: str) -> pa.ChunkedArray:
    """The texts of a column. Raises DataError for missing ones; an empty text is one."""
    texts = table[column].cast(pa.large_string())
    if texts.null_count:
        first = pc.index(texts.is_null(), True).as_py() + 1
        raise DataError(
            f"{where} has {texts.null_count:,} rows without {column}, the first of them row "
            f"{first:,}; give each a text, or leave these rows out"
        )
    return texts


def digest_table(table: pa.Table) -> str:
    """Digest of what columns hold, however they are cut into chunks: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(f"{name}\x1f{table.num_rows}\x1f".encode())
        _digest(table[name], digest)
    return digest.hexdigest()


def _digest(column: pa.ChunkedArray, digest: Any) -> None:
    """Add where values are missing, how long they are, and what they hold."""
    kind = column.type
    digest.update(f"{kind}\x1f".encode())
    digest.update(_numbers(column.is_null()).tobytes())
    if pa.types.is_struct(kind):
        for part in column.flatten():
            _digest(part, digest)
    elif pa.types.is_dictionary(kind):
        _digest(column.cast(kind.value_type), digest)
    elif (
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    ):
        digest.update(_numbers(pc.list_value_length(column).fill_null(-1)).tobytes())
        _digest(pc.list_flatten(column), digest)
    elif pa.types.is_boolean(kind) or pa.types.is_primitive(kind):
        whole = column.cast(pa.int64()) if pa.types.is_temporal(kind) else column
        for chunk in whole.fill_null(0 if not pa.types.is_boolean(kind) else False).chunks:
            digest.update(np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False)).data)
    elif is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        digest.update(_numbers(pc.binary_length(column).fill_null(-1)).tobytes())
        for chunk in column.drop_null().cast(pa.large_binary()).chunks:
            _, offsets, values = chunk.buffers()
            if len(chunk) and values is not None:
                ends = np.frombuffer(offsets, np.int64)[chunk.offset :]
                digest.update(memoryview(values)[ends[0] : ends[len(chunk)]])
    else:
        digest.update(repr(column.to_pylist()).encode())


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.to_numpy())
