"""The reader of tables: CSV and parquet of numbers and categories become rows of numbers."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from expunge.data.batch import Indices
from expunge.data.columns import MOST_CATEGORIES, TARGETS, Columns, Feature, TableEncoding
from expunge.data.files import Raw
from expunge.data.fingerprint import fingerprint_files
from expunge.data.labels import check_far, check_mark, is_missing_text, plain_labels
from expunge.data.parquet import plain_values
from expunge.data.samples import ResidentStore, Store
from expunge.data.table_files import FileTable, read_files
from expunge.data.transform import Normalisation
from expunge.errors import DataError, DataWarning, listed, nearest
from expunge.names.text import as_name

ID = "id"
"""The usual name of a column of names."""
UNNAMED_COLUMNS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
"""Row numbers that pandas wrote."""
NAMING = re.compile(r"(^|[ _-])(id|key|index|uuid)$|[a-z](Id|ID)$", re.IGNORECASE)
"""Columns whose numbers name something, where all are different."""
COMMA = re.compile(r"[+-]?\d*,\d+|[+-]?\d{1,3}(\.\d{3})+,\d+")
"""A number as it is written in much of the world."""
FEW_KINDS, ROWS_A_KIND = 50, 20
"""Different texts of a column that are always taken for kinds; of more, rows that each must have."""
RESOLUTION = 0.01
"""Of a column's deviation, that 32-bit numbers must tell apart."""


class TableStore(ResidentStore):
    """Rows of a table as numbers (n, width) float32. indicators: (width,) those that are categories."""

    def __init__(self, tensor: torch.Tensor, indicators: Sequence[bool]) -> None:
        super().__init__(tensor)
        self.indicators = tuple(indicators)

    def rows(self, index: Indices) -> Store:
        """A copy of some of the rows."""
        chosen = torch.from_numpy(np.ascontiguousarray(index))
        return TableStore(self.tensor[chosen], self.indicators)

    def statistics(self) -> Normalisation:
        """Mean and deviation of each number, to seven digits; 0 and 1 of categories, which stay 0 or 1,
        and for the deviation of a constant.
        """
        total = square = torch.zeros(self.tensor.shape[1], dtype=torch.float64)
        count = max(1, len(self.tensor))
        for piece in torch.split(self.tensor, 2**14):
            total = total + piece.double().sum(0)
        mean = total / count
        for piece in torch.split(self.tensor, 2**14):
            square = square + (piece.double() - mean).square().sum(0)
        std = (square / count).sqrt()
        kept = torch.tensor(self.indicators)
        std = torch.where(kept | (std == 0), torch.ones_like(std), std)
        mean = torch.where(kept, torch.zeros_like(mean), mean)
        return Normalisation(_digits(mean), _digits(std))


def _digits(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values.tolist())


class Tables(NamedTuple):
    """Training and test part of a table, and what its inputs are."""

    train: Raw
    test: Raw | None
    encoding: TableEncoding


def read_tables(
    train: Sequence[Path],
    test: Sequence[Path],
    columns: Columns,
    encoding: TableEncoding | None = None,
) -> Tables:
    """Tables of numbers and categories, from files of one kind (CSV or parquet) for each part.

    encoding: of the model that they are read for; by default made of the training files.
    Raises DataError for what cannot be read, for columns that are not there or cannot be inputs, and
    for values that are missing.
    """
    parts = [_Part(train, columns)]
    if test:
        parts.append(_Part(test, columns, beside=parts[0].label))
    encoding = encoding or parts[0].encoding()
    stores = [TableStore(part.inputs(encoding), encoding.indicators) for part in parts]
    labels, classes = _named([part.labels() for part in parts])
    raws: list[Raw] = []
    for part, store, named in zip(parts, stores, labels, strict=True):
        digest = part.fingerprint(columns)
        if raws:
            digest = f"{digest}/test"
        raws.append(Raw(store, named, part.ids(), part.groups(), classes, digest))
    return Tables(raws[0], raws[1] if test else None, encoding)


def _named(labels: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], tuple[str, ...] | None]:
    """Labels that are numbers as texts, and their names in the order of the numbers; a number in a table
    is the name of its class, and no place in a list.
    """
    if any(one.dtype.kind not in "iub" for one in labels):
        return [_texts_of(one) for one in labels], None
    found = sorted({value for one in labels for value in np.unique(one).tolist()})
    if all(one.dtype.kind != "b" for one in labels):
        check_far(labels)
        check_mark(found, labels)
    texts = np.array([str(value) for value in found], dtype=object)
    places = [np.searchsorted(np.array(found), one) for one in labels]
    return [texts[place] for place in places], tuple(texts.tolist())


def _texts_of(labels: NDArray[Any]) -> NDArray[Any]:
    """Numbers as the texts that name the same classes in another part."""
    return labels.astype(np.str_).astype(object) if labels.dtype.kind in "iub" else labels


class _Part:
    """One part of the data, its columns found. beside: the column of labels of the other part."""

    def __init__(self, files: Sequence[Path], columns: Columns, beside: str | None = None) -> None:
        self.files, self.columns = list(files), columns
        self.read: FileTable = read_files(self.files, columns)
        self.name, self.table = self.read.name, self.read.table
        known = self.table.column_names
        if beside is not None and beside not in known:
            raise DataError(
                f"{self.name} has no column {beside!r}, the labels of the training part: it has "
                f"{listed(known)}; give it labels, or name the training file alone to draw test samples"
            )
        gone = [name for name in columns.named if name not in (*known, *columns.dropped)]
        if gone:
            raise DataError(
                f"{self.name} has no column {gone[0]!r}{nearest(gone[0], known)}; it has "
                f"{listed(known)}"
            )
        self.label = columns.label or next((name for name in TARGETS if name in known), None)
        self.id = columns.id or (ID if ID in known and ID not in columns.groups else None)
        if self.label is None or self.label in columns.groups:
            raise DataError(
                f"{self.name} has no label column: it has {listed(known)}; say which it is, as in "
                f"{self.files[0].name}:label=NAME (texts to classify stand in a column text, "
                "their labels in label)"
            )

    def sample(self, row: int) -> str:
        """What the sample of a row is called in a message."""
        if self.id is None:
            return f"row {row:,}"
        return f"sample {as_name(self.table[self.id][row].as_py())!r}"

    def fingerprint(self, columns: Columns) -> str:
        """Of the files, and of what their columns were said to be."""
        digest = fingerprint_files(self.files, self.files[0].parent, remember=self.id is not None)
        if columns == Columns():
            return digest
        return f"{digest}-{hashlib.sha256(repr(columns).encode()).hexdigest()}"

    def labels(self) -> NDArray[Any]:
        """Whole numbers, booleans or texts."""
        values = self.table[self.label]
        self.check_present(values, f"label ({self.label!r})")
        try:
            labels = plain_labels(_values(values))
            if labels.dtype.kind == "O":
                self.check_alike(labels)
            return labels
        except DataError as error:
            raise DataError(f"{self.name}, column {self.label!r}: {error}") from error

    def check_alike(self, labels: NDArray[Any]) -> None:
        """Raise DataError for texts (n,) most of which are numbers, and some of which are none."""
        found = sorted(set(labels.tolist()))
        odd = [one for one in found if not _reads_as_number(one)]
        if len(found) > 2 and odd and 2 * len(odd) < len(found):
            rows = np.flatnonzero(np.isin(labels, odd))
            raise DataError(
                f"most labels are numbers, and {len(rows):,} are not, such as {odd[0]!r} (the first in "
                f"row {rows[0]:,}); write numbers alone, or words alone"
            )

    def ids(self) -> NDArray[Any] | None:
        """As they are written, or None where there are none."""
        if self.id is None:
            return None
        self.check_present(self.table[self.id], f"id ({self.id!r})")
        return _values(self.table[self.id])

    def groups(self) -> dict[str, NDArray[Any]]:
        """All columns but labels and ids, for requests."""
        return {
            name: _values(self.table[name])
            for name in self.table.column_names
            if name not in (self.label, self.id)
        }

    def check_present(self, values: pa.ChunkedArray, what: str) -> None:
        """Raise DataError where a column that must be whole has gaps."""
        missing = _missing(values)
        if missing.any():
            raise DataError(
                f"{self.name} has {int(missing.sum()):,} rows without {what} (null or empty), the "
                f"first is row {int(missing.argmax()):,}; fill it in, or leave these rows out"
            )

    def encoding(self) -> TableEncoding:
        """What its columns are as inputs."""
        apart = {self.label, self.id, *self.columns.groups}
        features = [self.feature(name) for name in self.table.column_names if name not in apart]
        if not features:
            raise DataError(
                f"{self.name} has no column to learn from: it has {listed(self.table.column_names)}; "
                "give columns of numbers or categories, or one of encoded images (image)"
            )
        return TableEncoding(features=tuple(features))

    def feature(self, name: str) -> Feature:
        """One column as an input. Raises DataError for what is none, or may be meant otherwise."""
        values = self.table[name]
        kind, remedy = (
            values.type,
            f"say drop={name} or group={name} ({self.files[0].name}:drop={name})",
        )
        if UNNAMED_COLUMNS.fullmatch(name):
            raise DataError(
                f"{self.name}: column {name!r} seems to be row numbers that pandas wrote; save "
                f"the table with index=False, or say drop={name}"
            )
        text, forced = _is_words(kind), name in self.columns.categories
        if not text and not forced:
            if not _is_number(kind):
                held = "nothing" if pa.types.is_null(kind) else f"values of type {kind}"
                raise DataError(
                    f"{self.name}: column {name!r} holds {held}, neither numbers nor categories; "
                    f"{remedy}"
                )
            if pa.types.is_integer(kind) and NAMING.search(name) and _all_different(values):
                raise DataError(
                    f"{self.name}: all numbers of column {name!r} are different, so it seems to name "
                    f"the rows; say id={name}, drop={name} or group={name}"
                )
            self.check_resolution(name)
            return Feature(name=name)
        found = sorted({one for one in map(_word, _unique(values)) if one})
        most = MOST_CATEGORIES if forced else max(FEW_KINDS, len(values) // ROWS_A_KIND)
        commas = [one for one in found if COMMA.fullmatch(one)]
        if not forced and 2 * len(commas) > len(found):
            raise DataError(
                f"{self.name}: column {name!r} holds numbers with decimal commas, such as {commas[0]!r}"
                f"; write them with points, or say category={name} if they stand for kinds"
            )
        numeric = [one for one in found if _reads_as_number(one)]
        if not forced and len(found) > 2 and len(numeric) > len(found) / 2:
            odd = next((one for one in found if not _reads_as_number(one)), None)
            raise DataError(
                f"{self.name}: column {name!r} holds numbers as text"
                + (f" and among them {odd!r}" if odd is not None else "")
                + f"; write numbers alone, or say category={name} if they stand for kinds"
            )
        if not found or len(found) > most:
            raise DataError(
                f"{self.name}: column {name!r} holds {len(found):,} different texts in {len(values):,} "
                f"rows, so it seems to name persons or things; say group={name} to keep it for "
                f"requests, drop={name}, or category={name} to learn from it; to classify texts, call "
                "their column text and that of labels label, and say nothing of columns"
            )
        odd = next((one for one in found if is_missing_text(one)), None)
        if odd is not None:
            warnings.warn(
                f"{self.name}: {odd!r} in column {name!r} is taken as a category of its own; leave the "
                "place empty where a value is missing",
                DataWarning,
                stacklevel=2,
            )
        return Feature(name=name, categories=tuple(found))

    def inputs(self, encoding: TableEncoding) -> torch.Tensor:
        """All rows as (n, width) float32."""
        gone = [one.name for one in encoding.features if one.name not in self.table.column_names]
        if gone:
            raise DataError(f"{self.name} has no column {gone[0]!r}, which is an input")
        rows, width = self.table.num_rows, encoding.width
        if rows * width * 4 > psutil.virtual_memory().available:
            raise DataError(
                f"{self.name}: {rows:,} rows of {width:,} inputs do not fit into memory; drop "
                "columns of many categories"
            )
        out = np.zeros((rows, width), dtype=np.float32)
        place = 0
        for feature in encoding.features:
            if feature.categories is None:
                out[:, place] = self.numbers(feature.name)
            else:
                codes = self.codes(feature.name, feature.categories)
                known = np.flatnonzero(codes >= 0)
                out[known, place + codes[known]] = 1
            place += feature.width
        return torch.from_numpy(out)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, what is missing filled in where that was asked for."""
        values = self.table[name]
        if not _is_number(values.type) and not pa.types.is_null(values.type):
            raise DataError(
                f"{self.name}: column {name!r} holds {values.type}, and numbers elsewhere"
            )
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.uint8())
        array = np.array(values.cast(pa.float64(), safe=False).to_numpy())
        missing = np.isnan(array)
        if missing.any():
            self.allow_missing(name, missing)
            array[missing] = self.columns.missing
        odd = ~(np.abs(array) < np.finfo(np.float32).max)
        if odd.any():
            row = int(odd.argmax())
            raise DataError(
                f"{self.name}: {self.sample(row)} has {array[row]:g} in column {name!r}, of which "
                "nothing can be learned; correct it, or leave the row out"
            )
        return array

    def check_resolution(self, name: str) -> None:
        """Raise DataError for numbers that lie too close together for how large they are."""
        array = self.numbers(name)
        lost = np.abs(array - array.astype(np.float32)).max(initial=0)
        if array.min() < array.max() and lost > RESOLUTION * array.std():
            raise DataError(
                f"{self.name}: column {name!r} lies around {array.mean():g} and varies by only "
                f"{array.std():.3g}, which 32-bit numbers cannot tell apart; subtract a constant from it"
            )

    def codes(self, name: str, categories: Sequence[str]) -> Indices:
        """Places (n,) among the categories, -1 where none is told and that was allowed."""
        values = self.table[name].combine_chunks()
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        if isinstance(values, pa.ChunkedArray):
            values = values.unify_dictionaries().combine_chunks()
        known = {category: code for code, category in enumerate(categories)}
        words = [_word(one) for one in values.dictionary.to_pylist()]
        places = np.array([known.get(word, -2 if word else -1) for word in words] + [-1])
        rows = values.indices.cast(pa.int64()).fill_null(len(words)).to_numpy(zero_copy_only=False)
        codes: Indices = places[rows]
        if (codes == -2).any():
            row = int((codes == -2).argmax())
            raise DataError(
                f"{self.name}: {self.sample(row)} has {words[rows[row]]!r} in column {name!r}, which no "
                f"row that was learned from has{nearest(words[rows[row]], known)}; correct it, or leave "
                "the row out"
            )
        if (codes == -1).any():
            self.allow_missing(name, codes == -1)
        return codes

    def allow_missing(self, name: str, missing: NDArray[np.bool_]) -> None:
        """Raise DataError for values that are missing, unless somebody said what they count as."""
        if self.columns.missing is None:
            raise DataError(
                f"{self.name}: {self.sample(int(missing.argmax()))} has no value in column {name!r} "
                f"({int(missing.sum()):,} such rows); fill it in, or say missing=0 (numbers count as 0, "
                "and categories as none of those known)"
            )


def _word(value: Any) -> str:
    """A category as a text, "" where there is none; a whole number reads alike as a decimal one."""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else str(value)
    return "" if value is None else as_name(value).strip()


def _values(values: pa.ChunkedArray) -> NDArray[Any]:
    """A column as an array; texts as objects that are there once each."""
    kind = values.type
    if not _is_words(kind):
        if pa.types.is_dictionary(kind):
            values = values.cast(kind.value_type)
        return plain_values(values)
    if not pa.types.is_dictionary(kind):
        values = values.dictionary_encode()
    whole = values.unify_dictionaries().combine_chunks()
    words = np.array([*map(_word, whole.dictionary.to_pylist()), ""], dtype=object)
    rows = whole.indices.cast(pa.int64()).fill_null(len(words) - 1)
    return np.asarray(words[rows.to_numpy(zero_copy_only=False)])


def _missing(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    if _is_words(values.type):
        return np.asarray(_values(values) == "", dtype=bool)
    return np.asarray(pc.is_null(values, nan_is_null=True).to_numpy())


def _unique(values: pa.ChunkedArray) -> list[Any]:
    found: list[Any] = pc.unique(values).to_pylist()
    return found


def _all_different(values: pa.ChunkedArray) -> bool:
    return len(values) > 1 and pc.count_distinct(values).as_py() == len(values)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_words(kind: pa.DataType) -> bool:
    """Whether a column holds texts, each once or by its place in a dictionary."""
    if pa.types.is_dictionary(kind):
        return _is_words(kind.value_type)
    tests: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )
