"""Map-style datasets that people bring: found labels, ids and columns, no wrapper asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, Subset, TensorDataset

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

    Raises DataError for iterable datasets and for datasets without such labels.
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
    labels = _array(dataset.tensors[1]) if tensors else _labels(dataset)
    if len(labels) != len(dataset):
        raise DataError(
            f"{type(dataset).__name__} has {len(dataset)} samples but {len(labels)} labels"
        )
    own = getattr(dataset, "ids", None)
    ids = row_ids(len(labels)) if own is None else clean_names(_objects(own))
    digest = getattr(dataset, "fingerprint", None)
    if digest is None and tensors:
        digest = digest_arrays(dataset.tensors[0].detach().cpu().numpy(), labels)
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
        store=ResidentStore(dataset.tensors[0]) if tensors else StreamStore(dataset),
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


def _objects(values: Any) -> NDArray[Any]:
    """Values one by one, so that none is made longer or cut to fit the others."""
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


def _array(values: Any) -> NDArray[Any]:
    return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
