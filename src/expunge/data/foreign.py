"""Map-style datasets that people bring: found labels, ids and columns, no wrapper asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, Subset, TensorDataset

from expunge.data.inputs import check_kind, detached
from expunge.data.labels import is_missing
from expunge.data.samples import ResidentStore, Samples, StreamStore, digest_arrays, row_ids
from expunge.errors import DataError
from expunge.names.text import clean_names, shared_names


def is_dataset(value: Any) -> bool:
    """Whether this looks like a dataset: anything with __getitem__ and __len__, or an iterable one
    (which is refused later, with its reason).
    """
    if isinstance(value, IterableDataset):
        return True
    plain = isinstance(value, str | bytes | list | tuple | Mapping)
    return not plain and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def samples_from_dataset(dataset: Any) -> tuple[Samples, NDArray[Any]]:
    """Samples of a map-style dataset, and its labels as they are.

    Labels come from an attribute `labels` or `targets` (a TensorDataset's second tensor), ids from
    `ids` (else the row number), group columns from `columns`, the fingerprint from `fingerprint`
    (else a digest of ids and labels). Items are never read for any of this.

    Raises DataError for iterable datasets, for datasets without such labels or with ids that are
    missing, and for a TensorDataset of more than two tensors.
    """
    if isinstance(dataset, IterableDataset):
        raise DataError(
            f"{type(dataset).__name__} is an iterable dataset: single samples cannot be named or left "
            "out of a stream, so forgetting needs a map-style dataset (__len__ and __getitem__)"
        )
    if isinstance(dataset, Subset):
        whole, labels = samples_from_dataset(dataset.dataset)
        rows = np.asarray(dataset.indices, dtype=np.int64)
        return whole.subset(rows), labels[rows]
    tensors = isinstance(dataset, TensorDataset) and len(dataset.tensors) >= 2
    if tensors and len(dataset.tensors) > 2:
        raise DataError(
            f"a TensorDataset of {len(dataset.tensors)} tensors: nobody can tell which are the labels; "
            "give TensorDataset(inputs, labels), or a dataset of your own with attributes `labels` and "
            "`columns`"
        )
    if tensors:
        check_kind(dataset.tensors[0])
    labels = _array(dataset.tensors[1]) if tensors else _labels(dataset)
    if len(labels) != len(dataset):
        raise DataError(
            f"{type(dataset).__name__} has {len(dataset)} samples but {len(labels)} labels"
        )
    own = getattr(dataset, "ids", None)
    ids = row_ids(len(labels)) if own is None else clean_names(_ids(own))
    digest = getattr(dataset, "fingerprint", None)
    if digest is None and tensors:
        digest = digest_arrays(_plain(dataset.tensors[0]).numpy(), labels)
    elif digest is None:  # row numbers as wide as folders of earlier versions had them
        digest = digest_arrays(ids if own is not None else ids.astype("U21"), labels)
    columns = (
        {name: _array(values) for name, values in getattr(dataset, "columns", {}).items()}
        if isinstance(getattr(dataset, "columns", None), Mapping)
        else {}
    )
    samples = Samples(
        ids=ids,
        labels=np.zeros(len(labels), dtype=np.int64),  # encoded by the caller, over train and test
        store=ResidentStore(_in_single(detached(dataset.tensors[0])))
        if tensors
        else StreamStore(dataset, ids=ids),
        fingerprint=str(digest),
        positional=own is None,
        columns=columns,
    )
    return samples, labels


def dataset_classes(dataset: Any) -> Sequence[str] | None:
    """The dataset's own attribute `classes`, of a Subset that of the whole; else None."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names: Sequence[str] | None = getattr(dataset, "classes", None)
    return names


def _ids(values: Any) -> NDArray[Any]:
    """Ids one by one, so that none is made longer or cut to fit the others."""
    values = list(values)
    missing = [row for row, value in enumerate(values) if is_missing(value)]
    if missing:
        raise DataError(
            f"{len(missing):,} ids are missing (None or nan), the first in row {missing[0]:,}; an id "
            "names a sample, so give each one"
        )
    return np.array(shared_names(values), dtype=object)


def _labels(dataset: Any) -> NDArray[Any]:
    for name in ("labels", "targets"):
        values = getattr(dataset, name, None)
        if values is not None:
            return _array(values)
    raise DataError(
        f"{type(dataset).__name__} has no attribute `labels` or `targets`: classes must be known "
        "without reading inputs, so give the dataset one (a list or an array of class indices)"
    )


def _in_single(tensor: Tensor) -> Tensor:
    """The same; of half precision that numpy does not know, in single."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _plain(tensor: Tensor) -> Tensor:
    """A tensor as numpy can read it."""
    return _in_single(detached(tensor).cpu())


def _array(values: Any) -> NDArray[Any]:
    """Values as an array, in which None and nan among texts stay what they are."""
    if isinstance(values, Tensor):
        check_kind(values)
        return _plain(values).numpy()
    if isinstance(values, np.ndarray):
        return values
    try:
        array = np.asarray(values)
        if array.dtype.kind in "US" and not all(isinstance(one, str | bytes) for one in values):
            return np.array(values, dtype=object)
        return array
    except ValueError as cause:
        raise DataError(
            "some samples have more labels, or values of a column, than others; give one per sample"
        ) from cause
