"""The reader of texts: CSV and parquet files with a column of texts and one of labels."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from expunge.data.arrow import label_column, raw_of, text_column, texts_of
from expunge.data.columns import HEAD_BYTES, delimiter_of
from expunge.data.files import Raw
from expunge.data.fingerprint import fingerprint_files
from expunge.data.labels import counted_as
from expunge.data.parquet import bounded_batches, check_sizes, classes_of_schema, is_flat
from expunge.data.tokens import TextStore
from expunge.disk.reading import UnreadableError, open_regular, reading
from expunge.errors import DataError, listed
from expunge.names.text import as_name

REMEDY = (
    "give a CSV (UTF-8, names of columns in its first line) or parquet file of texts and labels"
)
IMAGES = ("image", "img")
WRITTEN_OUT = (".csv", ".tsv")
WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.0*)?")


def holds_texts(path: Path) -> bool:
    """Whether a file has a column of texts, and none of images; a look at its columns alone."""
    with suppress(Exception):  # who reads it next says what is wrong
        if path.suffix.lower() in WRITTEN_OUT:
            names = _header(path)
            return text_column(pa.schema([(name, pa.string()) for name in names])) is not None
        with open_regular(path) as stream:
            schema = pq.ParquetFile(stream).schema_arrow
        return text_column(schema) is not None and not any(one in schema.names for one in IMAGES)
    return False


def read_texts(paths: Sequence[Path]) -> Raw:
    """The texts of some files of one part.

    The column of texts is called `text` or `sentence`, that of labels `label` or `labels`; a column
    `id` names the samples, further ones serve groups.
    """
    tables = []
    for path in paths:
        with reading(path, REMEDY, DataError):
            tables.append(_csv(path) if path.suffix.lower() in WRITTEN_OUT else _parquet(path))
        if tables[-1].column_names != tables[0].column_names:
            raise DataError(f"{path} has other columns than {paths[0]}; give files of one kind")
        tables[-1] = _counted(tables[-1], tables[0].schema, str(path))
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    with reading(where, REMEDY, DataError):
        table = pa.concat_tables(tables, promote_options="permissive")
        digest = fingerprint_files(paths, paths[0].parent, remember="id" in table.column_names)
        column = text_column(table.schema)
        if column is None:
            raise UnreadableError("it has no column of texts")
        store = TextStore(texts_of(table, column, where), np.arange(table.num_rows))
        label = label_column(table.column_names, where)
        classes = classes_of_schema(table.schema, label)
        table = _numbered(table.drop_columns([column]), label)
        return raw_of(table, store, label, where, classes=classes, fingerprint=digest)


def _counted(table: pa.Table, first: pa.Schema, where: str) -> pa.Table:
    """The same, its labels counted in the class names of the first file."""
    label = label_column(table.column_names, where)
    own, names = (classes_of_schema(schema, label) for schema in (table.schema, first))
    if own == names:
        return table
    counted = counted_as(table[label].to_numpy(), own, names, where)
    return table.set_column(table.column_names.index(label), label, pa.array(counted))


def _numbered(table: pa.Table, label: str) -> pa.Table:
    """The same, labels that are written as whole numbers being such."""
    column = table[label]
    if not pa.types.is_large_string(column.type):
        return table
    if not all(WHOLE.fullmatch(one or "") for one in column.unique().to_pylist()):
        return table
    whole = pc.replace_substring_regex(column, r"\.0*$", "")
    return table.set_column(table.column_names.index(label), label, whole.cast(pa.int64()))


def _header(path: Path) -> list[str]:
    """The names in a CSV's first line."""
    with open_regular(path) as stream:
        sign = delimiter_of(stream.read(HEAD_BYTES))
        stream.seek(0)
        lines = io.TextIOWrapper(stream, "utf-8-sig", newline="")
        names = next(csv.reader(lines, delimiter=sign), [])
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} has two columns called {as_name(twice)!r}; rename one")
    return names


def _csv(path: Path) -> pa.Table:
    """All columns as texts, as they are written: an id 007 is no 7."""
    names = _header(path)
    with open_regular(path) as stream:
        size = stream.seek(0, 2)
        if 2 * size > psutil.virtual_memory().available:
            raise UnreadableError(f"its {size:,} bytes do not fit into memory")
        stream.seek(0)
        sign = delimiter_of(stream.read(HEAD_BYTES))
        stream.seek(0)
        return pa_csv.read_csv(
            stream,
            parse_options=pa_csv.ParseOptions(delimiter=sign, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.large_string() for name in names}, strings_can_be_null=False
            ),
        )


def _parquet(path: Path) -> pa.Table:
    """The flat columns of a file."""
    with open_regular(path) as stream:
        packed = stream.seek(0, 2)
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
        flat = [field.name for field in schema if is_flat(field.type)]
        if len(set(schema.names)) != len(schema.names):
            raise UnreadableError(f"two of its columns have one name: {listed(schema.names)}")
        check_sizes(file.metadata, packed, schema, flat)
        batches = list(bounded_batches(file, flat, packed))
    return pa.Table.from_batches(batches).replace_schema_metadata(schema.metadata)
