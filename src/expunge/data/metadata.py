"""The table beside a folder of images, in the layout of the Hugging Face hub: metadata.csv, .jsonl or
.parquet, whose column `file_name` names each image from the table's folder on.

A column `id` names the samples, `label` their classes; all further columns serve groups.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.data.columns import HEAD_BYTES, delimiter_of
from expunge.data.labels import is_missing_text
from expunge.disk.reading import MIB, UnreadableError, parse_json, read_bytes, reading
from expunge.errors import DataError, listed
from expunge.names.text import as_name, clean_name, shared_names

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE, ID, LABEL = "file_name", "id", "label"
REMEDY = f"give it a column {FILE}, and a row for each image"
MOST_TABLE_BYTES = 256 * MIB
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d{0,9}))(?:\.0+)?")


@dataclass(frozen=True)
class ImageTable:
    """A table, read.

    base: from the folder of the data to the table's, with a slash at its end, or empty.
    columns: texts by column, `file_name` too; "" where there is none.
    """

    path: Path
    base: str
    columns: dict[str, list[str]]

    @property
    def has_labels(self) -> bool:
        """Whether it tells the classes."""
        return LABEL in self.columns

    @cached_property
    def digest(self) -> str:
        """Of the columns, whatever the file is written in: 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.columns, sort_keys=True).encode()).hexdigest()

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each image, by its name from the folder of the data on."""
        told = (name.replace("\\", "/") for name in self.columns[FILE])
        names = [self.base + posixpath.normpath(name) for name in told]
        rows = {name: row for row, name in enumerate(names)}
        if len(rows) != len(names):
            name, count = Counter(names).most_common(1)[0]
            raise DataError(
                f"{self.path} has {count} rows for {clean_name(name)}; leave one of them"
            )
        return rows

    def at(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Rows of some images. Raises DataError where one of them has none."""
        rows = np.fromiter((self.rows.get(name, -1) for name in names), np.int64, len(names))
        lost = np.flatnonzero(rows < 0)
        if len(lost):
            raise DataError(
                f"{len(lost):,} of {len(names):,} images have no row in {self.path}, such as "
                f"{clean_name(names[lost[0]])}; add their rows, or take the images away"
            )
        return rows

    def column(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A column's texts of some rows, as objects. Raises DataError for an id or a label that is
        missing.
        """
        values = np.array(self.columns[name], dtype=object)[rows]
        empty = [
            row
            for row, value in zip(rows.tolist(), values, strict=True)
            if not value or (name == LABEL and is_missing_text(value))
        ]
        if empty and name in (ID, LABEL):
            raise DataError(
                f"{self.path} tells no {name} of {len(empty):,} images, such as "
                f"{clean_name(self.columns[FILE][empty[0]])}; fill it in"
            )
        return values

    def labels(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Labels of some rows: names, or indices where the whole column holds whole numbers, which may
        be written as 1.0.
        """
        texts = self.column(LABEL, rows)
        known = {one: _WHOLE.fullmatch(one) for one in set(self.columns[LABEL])}
        if not all(known.values()):
            return texts
        index = {one: int(match[1]) for one, match in known.items() if match}
        return np.array([index[one] for one in texts.tolist()], dtype=np.int64)

    def groups(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """All columns but those that name the image, the sample and the class."""
        further = [name for name in self.columns if name not in (FILE, ID, LABEL)]
        return {name: self.column(name, rows) for name in further}


def read_image_table(folder: Path, files: Sequence[str], base: str) -> ImageTable | None:
    """The table among the files of a folder, if there is one.

    Raises DataError for one that cannot be read, and for two of them.
    """
    found = [name for name in TABLES if name in files]
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f"{folder} holds {listed(found)}; leave one of them")
    path = folder / found[0]
    with reading(path, REMEDY, DataError):
        read = {"csv": _read_csv, "jsonl": _read_lines, "parquet": _read_parquet}
        columns = read[path.name.rpartition(".")[2]](path)
        columns = {as_name(name): _texts(values) for name, values in columns.items()}
        if FILE not in columns:
            raise UnreadableError(f"it has no column {FILE}, but {listed(sorted(columns))}")
    return ImageTable(path, base, columns)


def _texts(values: Sequence[Any]) -> list[str]:
    return shared_names("" if value is None else value for value in values)


def _read_csv(path: Path) -> dict[str, list[Any]]:
    """All columns as texts: 007 stays 007."""
    import pyarrow as pa
    from pyarrow import csv

    content = read_bytes(path, most=MOST_TABLE_BYTES)
    parse = csv.ParseOptions(delimiter=delimiter_of(content[:HEAD_BYTES]), newlines_in_values=True)
    whole = csv.ReadOptions(block_size=len(content) + 1)  # a text may be longer than a usual block
    names = csv.open_csv(io.BytesIO(content), whole, parse).schema.names
    if len(set(names)) != len(names):
        raise UnreadableError("two of its columns have one name")
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    table = csv.read_csv(io.BytesIO(content), whole, parse, as_text)
    return {name: table.column(name).to_pylist() for name in names}


def _read_lines(path: Path) -> dict[str, list[Any]]:
    """One JSON object a line; its lists and objects, such as boxes, are no columns."""
    lines = read_bytes(path, most=MOST_TABLE_BYTES).decode("utf-8-sig").split("\n")
    rows = [parse_json(line) for line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise UnreadableError("one of its lines is no JSON object")
    names = dict.fromkeys(
        name for row in rows for name, value in row.items() if not isinstance(value, dict | list)
    )
    return {name: [row.get(name) for row in rows] for name in names}


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    from expunge.data.parquet import read_columns

    return read_columns(path)
