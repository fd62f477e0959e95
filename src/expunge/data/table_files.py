"""Files of tables, CSV or parquet, as one table of flat columns, whatever these mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from expunge.data.columns import MOST_COLUMNS, Columns
from expunge.data.parquet import bounded_batches, check_sizes, is_flat
from expunge.disk.reading import UnreadableError, open_regular, reading
from expunge.errors import DataError
from expunge.names.text import as_name

REMEDY = "give a table with a header: CSV in UTF-8, or parquet"
HEAD_BYTES, BLOCK_BYTES = 2**16, 2**31 - 2
"""Of a CSV file: what is looked at to see how it is written, and what is read at a time."""
DELIMITERS = ",;\t|"


class FileTable(NamedTuple):
    """A table, and what to call its files in a message."""

    name: str
    table: pa.Table


def read_files(files: Sequence[Path], columns: Columns) -> FileTable:
    """Files of one kind as one table, without the columns that are dropped.

    Raises DataError for what cannot be read, for columns of one name, and for files whose columns
    differ.
    """
    tables = []
    for path in files:
        with reading(f"{path} as a table", REMEDY, DataError):
            table = _parquet(path, columns) if path.suffix == ".parquet" else _csv(path, columns)
            if not table.num_rows:
                raise UnreadableError("it holds no rows")
            tables.append(table)
    first = tables[0]
    for path, table in zip(files, tables, strict=True):
        if set(table.column_names) != set(first.column_names):
            odd = sorted(set(table.column_names) ^ set(first.column_names))[0]
            raise DataError(
                f"{path} has other columns than {files[0]} ({odd!r}, for one); give files of one kind"
            )
    name = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
    with reading(name, "give files whose columns are of one type each", DataError):
        joined = pa.concat_tables(tables, promote_options="permissive")
    return FileTable(name, joined)


def _names(written: Sequence[str], columns: Columns) -> list[str]:
    """Names of columns, cleaned. Raises UnreadableError for too many, and for two of one name."""
    if len(written) > MOST_COLUMNS:
        raise UnreadableError(f"it has {len(written):,} columns")
    names = [as_name(name).strip() for name in written]
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None and twice not in columns.dropped:
        raise UnreadableError(f"two columns are called {twice!r}")
    return names


def _kept(table: pa.Table, columns: Columns) -> pa.Table:
    """Without what is dropped."""
    names = _names(table.column_names, columns)
    places = [place for place, name in enumerate(names) if name not in columns.dropped]
    return pa.table([table.column(place) for place in places], [names[place] for place in places])


def _parquet(path: Path, columns: Columns) -> pa.Table:
    with open_regular(path) as stream:
        packed_bytes = stream.seek(0, 2)
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
        names = dict(zip(schema.names, _names(schema.names, columns), strict=True))
        wanted = [field.name for field in schema if names[field.name] not in columns.dropped]
        nested = [name for name in wanted if not is_flat(schema.field(name).type)]
        if nested:
            kind = schema.field(nested[0]).type
            raise DataError(
                f"{path}: column {as_name(nested[0])!r} is of type {kind}, of which no row of "
                f"numbers is made; say drop={as_name(nested[0])}"
            )
        check_sizes(file.metadata, packed_bytes, schema, wanted)
        texts = [name for name in wanted if pa.types.is_string(schema.field(name).type)]
        file = pq.ParquetFile(stream, metadata=file.metadata, read_dictionary=texts)
        batches = list(bounded_batches(file, wanted, packed_bytes))
    return _kept(pa.Table.from_batches(batches), columns)


def _csv(path: Path, columns: Columns) -> pa.Table:
    with open_regular(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        delimiter = delimiter_of(stream)
        # names stay as they are written: 007 is no 7
        words = [name for name in (columns.id, *columns.groups, *columns.categories, "id") if name]
        # of one block, so that a column's type is seen from all of its values
        table = pacsv.read_csv(
            stream,
            pacsv.ReadOptions(use_threads=False, block_size=min(BLOCK_BYTES, size + 1)),
            pacsv.ParseOptions(delimiter=delimiter),
            pacsv.ConvertOptions(column_types=dict.fromkeys(words, pa.string())),
        )
    odd = next((field.name for field in table.schema if pa.types.is_binary(field.type)), None)
    if odd is not None:
        raise UnreadableError(f"column {as_name(odd)!r} is no UTF-8")
    return _kept(table, columns)


def delimiter_of(stream: BinaryIO) -> str:
    """What stands most often in the first line."""
    head = stream.read(HEAD_BYTES).split(b"\n")[0]
    stream.seek(0)
    return max(DELIMITERS, key=lambda sign: head.count(sign.encode()))
