"""Datasets of the Hugging Face library as they are: columns of arrow, and never a row in Python."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.arrow import digest_table, label_column, raw_of, text_column, texts_of
from expunge.data.drawing import DRAWING, Drawing
from expunge.data.files import Raw, images_from_array
from expunge.data.images import Encoded, ImagePart, ImageStore, Size
from expunge.data.parquet import is_flat
from expunge.data.samples import ResidentStore, Store
from expunge.data.tokens import TextStore, TokenStore, padded
from expunge.errors import DataError, listed
from expunge.names.code import in_a_line
from expunge.names.libraries import HUB
from expunge.names.text import as_name

IMAGES = ("image", "img")
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""Columns of what a tokenizer gave, by the names of the model's arguments."""
TESTS = ("test", "validation", "valid", "val", "dev")
"""What a split to test on is called; the first that is there is it."""


@dataclass(frozen=True)
class Parts:
    """What a dataset, or a dictionary of its splits, holds. notes: what of it is not read, in words."""

    train: Raw
    test: Raw | None = None
    notes: tuple[str, ...] = ()


def is_hub_dataset(value: Any) -> bool:
    """Whether this is a dataset of the library, or a dictionary of splits; it is not imported for it."""
    library = sys.modules.get("datasets")
    kinds = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return library is not None and any(
        isinstance(value, getattr(library, kind, ())) for kind in kinds
    )


def load_hub(base: str) -> Any:
    """The dataset of `hf:NAME`, `hf:NAME:CONFIGURATION` or `hf:FOLDER`; the hub is asked for names.

    Raises DataError where it cannot be had.
    """
    import datasets

    name = base.removeprefix(HUB)
    folder = Path(name).expanduser()
    bars = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if folder.is_dir():
            if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
                return datasets.load_from_disk(str(folder))
            # the library keeps a copy of what it reads; of a folder here none is to be left
            with tempfile.TemporaryDirectory(prefix="expunge-") as aside:
                return datasets.load_dataset(str(folder), cache_dir=aside, keep_in_memory=True)
        path, _, configuration = name.partition(":")
        return datasets.load_dataset(path, configuration or None)
    except Exception as cause:  # whatever the library, the hub or the network say
        raise DataError(
            f"{base} cannot be loaded ({in_a_line(cause)[:300]}); name a dataset of the hub while it "
            "can be reached, or a folder written by save_to_disk"
        ) from cause
    finally:
        if bars:
            datasets.enable_progress_bars()


def read_hub(made: Any, size: Size | None, where: str, drawing: Drawing = DRAWING) -> Parts:
    """Training and test samples of a dataset, or of a dictionary of splits.

    size: that images are resized to. drawing: how they become pixels.

    Raises DataError for streams, and for data without labels.
    """
    if "Iterable" in type(made).__name__:
        raise DataError(
            f"{where} is a stream: single samples cannot be named or left out of it, so forgetting "
            "needs the dataset itself; load it without streaming=True"
        )
    if not isinstance(made, Mapping):
        return Parts(_read(made, size, where, drawing), notes=_notes(made, where))
    train = "train" if "train" in made else next(iter(made), None)
    if train is None or (train != "train" and len(made) > 1):
        raise DataError(
            f"{where} has the splits {listed([as_name(one) for one in made]) or 'none'}, and none is "
            "called train; give (train, test)"
        )
    test = next((one for one in TESTS if one in made and one != train), None)
    unread = [as_name(one) for one in made if one not in (train, test)]
    notes = [f"not read: the splits {', '.join(unread)}"] if unread else []
    tested = None if test is None else _read(made[test], size, f"{where}, {test}", drawing)
    notes += _notes(made[train], where)
    return Parts(_read(made[train], size, f"{where}, {train}", drawing), tested, tuple(notes))


def _read(dataset: Any, size: Size | None, where: str, drawing: Drawing) -> Raw:
    table: pa.Table = dataset.with_format("arrow")[:]
    if not table.num_rows:
        raise DataError(f"{where} holds no rows; give data with samples in them")
    names = table.column_names
    label = label_column(names, where)
    feature = dataset.features[label]
    classes = tuple(feature.names) if getattr(feature, "names", None) else None
    inputs = _inputs(table, label, where)
    if classes is not None and pc.any(pc.less(table[label], 0)).as_py():
        raise DataError(
            f"{where} has rows without a label (it is -1 there); leave them out: "
            "dataset.filter(lambda row: row['label'] >= 0)"
        )
    digest = digest_table(table.select([*inputs, *(n for n in (label, "id") if n in names)]))
    store = _store(table, inputs, size, where, digest, drawing)
    rest = table.drop_columns(inputs)
    return raw_of(rest, store, label, where, classes=classes, fingerprint=digest)


def _notes(dataset: Any, where: str) -> tuple[str, ...]:
    """What a person should know of columns that are not read, a sentence each."""
    table: pa.Table = dataset.with_format("arrow")[:1]
    label = label_column(table.column_names, where)
    inputs = _inputs(table, label, where)
    rest = [field for field in table.schema if field.name not in (*inputs, label, "id")]
    unread = [as_name(field.name) for field in rest if not is_flat(field.type)]
    flat = [as_name(field.name) for field in rest if is_flat(field.type)]
    notes = []
    if dataset.format["type"] == "custom":
        notes.append(
            "the transform of the dataset is not applied; use dataset.map to keep its result"
        )
    if unread:
        notes.append(f"not read: the columns {listed(unread)}")
    if flat and pa.types.is_floating(table.schema.field(inputs[0]).type):
        notes.append(
            f"the inputs are {listed([as_name(one) for one in inputs])}; for requests alone, as no "
            f"decimal numbers: {listed(flat)}"
        )
    return tuple(notes)


def _inputs(table: pa.Table, label: str, where: str) -> list[str]:
    """The columns that samples are made of: of images, tokens, texts, lists of numbers, or numbers."""
    schema, names = table.schema, table.column_names
    images = [one for one in IMAGES if one in names] or [
        field.name for field in schema if pa.types.is_struct(field.type) and _has_bytes(field.type)
    ]
    if images:
        return images[:1]
    if TOKENS[0] in names:
        return [one for one in TOKENS if one in names]
    text = text_column(schema)
    if text is not None:
        return [text]
    arrays = [field.name for field in schema if _is_array(field.type) and field.name != label]
    if len(arrays) == 1:
        return arrays
    numbers = [field.name for field in schema if pa.types.is_floating(field.type)]
    if numbers and not arrays:
        return numbers
    raise DataError(
        f"{where} has no inputs that can be told: it has {listed([as_name(one) for one in names])}; "
        "give one column of images (image), texts (text), tokens (input_ids), lists of numbers, or "
        "columns of decimal numbers"
    )


def _store(
    table: pa.Table,
    inputs: Sequence[str],
    size: Size | None,
    where: str,
    digest: str,
    drawing: Drawing,
) -> Store:
    first = inputs[0]
    kind = table.schema.field(first).type
    if pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        part = ImagePart(lambda: _images(table[first], where), size, where, digest, drawing)
        return ImageStore(part, np.arange(table.num_rows))
    if size is not None:
        raise DataError(
            f"@{size[0]}x{size[1]} resizes images, and {where} holds none; leave it out"
        )
    if first in TOKENS:
        return _tokens({name: table[name] for name in inputs}, where)
    if _is_array(kind):
        return ResidentStore(images_from_array(_array(table[first], where)))
    if pa.types.is_floating(kind):
        columns = [table[name].to_numpy() for name in inputs]
        return ResidentStore(torch.from_numpy(np.stack(columns, 1).astype(np.float32)))
    return TextStore(texts_of(table, first, where), np.arange(table.num_rows))


def _has_bytes(kind: pa.DataType) -> bool:
    return bool(kind.get_field_index("bytes") >= 0)


def _is_array(kind: pa.DataType) -> bool:
    """Whether each value of a column is a list of numbers, or of such lists."""
    if isinstance(kind, pa.BaseExtensionType):
        return _is_array(kind.storage_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        return pa.types.is_integer(inner) or pa.types.is_floating(inner) or _is_array(inner)
    return False


def _images(column: pa.ChunkedArray, where: str) -> list[Encoded]:
    """Encoded images, as bytes or as the files that a column names."""
    if not pa.types.is_struct(column.type):
        found: list[Any] = column.to_pylist()
    else:
        content, path = (pc.struct_field(column, name) for name in ("bytes", "path"))
        found = [
            one if one is not None else None if file is None else Path(file)
            for one, file in zip(content.to_pylist(), path.to_pylist(), strict=True)
        ]
    if None in found:
        raise DataError(f"{where}: row {found.index(None) + 1:,} has no image; leave such rows out")
    return found


def _array(column: pa.ChunkedArray, where: str) -> NDArray[Any]:
    """Lists of numbers as one array (n, ...). Raises DataError for lists of several lengths."""
    shape = [len(column)]
    values: Any = column
    while _is_array(values.type):
        if isinstance(values.type, pa.BaseExtensionType):
            values = pa.chunked_array([one.storage for one in values.chunks])
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            raise DataError(
                f"{where} has inputs of several sizes, or without numbers; bring them to one size"
            )
        shape.append(lengths[0])
        values = pc.list_flatten(values)
    if values.null_count:
        raise DataError(f"{where} has {values.null_count:,} missing numbers; fill them in")
    numbers: NDArray[Any] = values.to_numpy().reshape(shape)
    return numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers


def _check_tokens(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Raise DataError for what no tokenizer gives: missing, negative or decimal numbers, or none."""
    flat, lengths = pc.list_flatten(column), pc.list_value_length(column)
    odd = None
    if column.null_count or flat.null_count:
        odd = f"{column.null_count + flat.null_count:,} missing values"
    elif not pa.types.is_integer(flat.type):
        odd = f"values of type {flat.type}, which are no whole numbers"
    elif pc.min(lengths).as_py() == 0:
        odd = f"no token in row {pc.index(lengths, pa.scalar(0, lengths.type)).as_py() + 1:,}"
    elif pc.min(flat).as_py() < 0:
        odd = f"{pc.min(flat).as_py()}, and tokens count from 0"
    if odd is not None:
        raise DataError(f"{where}: {name} holds {odd}; tokenise again, or leave such rows out")


def _tokens(columns: Mapping[str, pa.ChunkedArray], where: str) -> TokenStore:
    """What a tokenizer gave, padded with 0 where texts are of several lengths."""
    tokens: dict[str, Tensor] = {}
    lengths = np.empty(0, np.int64)
    for name, column in columns.items():
        _check_tokens(column, name, where)
        own = np.asarray(pc.list_value_length(column).to_numpy())
        if len(lengths) and not np.array_equal(own, lengths):
            raise DataError(f"{where}: {name} is of other lengths than {TOKENS[0]}; tokenise again")
        lengths = own.astype(np.int64)
        flat = pc.list_flatten(column).to_numpy()
        rows = np.split(flat, np.cumsum(lengths)[:-1])
        tokens[name] = padded(rows, int(lengths.max()), 0)
    mask = tokens.get("attention_mask")
    if mask is not None:  # what was padded already, at the end, need not be looked at
        seen = mask.long().sum(1)
        if bool((mask.long() == (torch.arange(mask.shape[1]) < seen[:, None])).all()):
            lengths = seen.numpy()
    return TokenStore(tokens, lengths, dict.fromkeys(tokens, 0))
