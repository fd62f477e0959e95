"""A dataset as this package sees it: stable ids, labels that need no inputs, and a store of inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from expunge.data.batch import Ids, Indices, first_tensor
from expunge.data.id_rows import IdRows
from expunge.data.inputs import detached, stacked
from expunge.data.labels import is_missing
from expunge.data.transform import Normalisation, to_device
from expunge.errors import DataError
from expunge.names.text import clean_name, clean_names, shared_names

BYTES_COUNTED = 2**12
"""Values of a channel from which on it is quicker to count how often each byte comes."""
STATISTICS_VALUES = 2**20
"""Of inputs that are added up at a time: few enough to stay in a cache in double precision."""


class Store(Protocol):
    """Where inputs come from. Indices count rows of the store."""

    def fetch(self, index: Indices, device: torch.device) -> Any:
        """Inputs of some rows on the device: a tensor (len(index), ...) or a pytree of them."""
        ...

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Any]:
        """Inputs of many batches, one after another, read ahead where that helps."""
        ...

    def rows(self, index: Indices) -> Store:
        """A store of some of the rows."""
        ...

    def whole(self) -> Tensor | None:
        """All inputs as one CPU tensor (n, ...), if they are held in memory."""
        ...


@runtime_checkable
class Standardised(Protocol):
    """A store that says itself what its inputs are normalised with."""

    def statistics(self) -> Normalisation:
        """Mean and deviation."""
        ...


class ResidentStore:
    """Inputs held whole: in memory, and once on each device that asks for them."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._copies: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """The whole tensor on a device; copied there the first time."""
        if device.type == "cpu":
            return self.tensor
        if device not in self._copies:
            self._copies[device] = self.tensor.to(device)
        return self._copies[device]

    def fetch(self, index: Indices, device: torch.device) -> Tensor:
        """Rows of the resident tensor."""
        rows = torch.from_numpy(np.ascontiguousarray(index)).to(device, non_blocking=True)
        return self.on(device).index_select(0, rows)

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Tensor]:
        """Rows of the resident tensor, batch by batch."""
        for index in batches:
            yield self.fetch(index, device)

    def rows(self, index: Indices) -> Store:
        """A copy of some of the rows."""
        return ResidentStore(self.tensor[torch.from_numpy(np.ascontiguousarray(index))])

    def whole(self) -> Tensor:
        """The tensor itself."""
        return self.tensor


class StreamStore:
    """Inputs read from a map-style dataset when they are needed, never all at once.

    Items are (input, label, ...) tuples, dictionaries, or inputs alone; labels are dropped here,
    since they are read elsewhere. PIL images and arrays become tensors.

    ids: (n,) names of the samples, for messages; by default their row numbers.
    """

    label_keys = ("label", "labels")

    def __init__(self, dataset: Dataset[Any], workers: int = 0, ids: Ids | None = None) -> None:
        self.dataset = dataset
        self.workers = workers
        self.ids = ids

    def __getitem__(self, row: int) -> Any:
        item = self.dataset[int(row)]
        if isinstance(item, Mapping):
            return {k: as_tensor(v) for k, v in item.items() if k not in self.label_keys}
        return as_tensor(item[0] if isinstance(item, tuple | list) else item)

    def __getitems__(self, rows: list[int]) -> Any:
        """A batch; raises DataError that names a sample whose input does not fit."""
        names = rows if self.ids is None else self.ids[rows]
        return stacked([self[row] for row in rows], lambda place: str(names[place]))

    def fetch(self, index: Indices, device: torch.device) -> Any:
        """Read rows one by one and stack them."""
        return to_device(self.__getitems__(index.tolist()), device)

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Any]:
        """Read batches through a DataLoader."""
        loader: DataLoader[Any] = DataLoader(
            self,  # type: ignore[arg-type]  # anything with __getitem__ will do for a batch sampler
            batch_sampler=[index.tolist() for index in batches],
            num_workers=self.workers,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # it draws a seed, and not from the caller's stream
        )
        try:
            for inputs in loader:
                yield to_device(inputs, device)
        except DataError as error:  # of a worker: its whole traceback, what it says at the end
            told = str(error).strip().splitlines()[-1]
            raise DataError(told.removeprefix(f"{DataError.__module__}.DataError: ")) from error

    def rows(self, index: Indices) -> Store:
        """Some of the rows, still read when they are needed."""
        return RowsOf(self, index)

    def whole(self) -> None:
        """Never held in memory."""


def _as_it_is(batch: Any) -> Any:
    """Of a batch that was put together where it was read."""
    return batch


def as_tensor(value: Any) -> Any:
    """A PIL image or an array as a tensor (images: uint8, channels first); the rest as it is."""
    if isinstance(value, Tensor):
        return detached(value)
    if hasattr(value, "getbands"):  # a PIL image, without importing PIL here
        array = np.array(value)  # a copy: what PIL and memory maps hand out may not be writable
        array = array[:, :, None] if array.ndim == 2 else array
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="C"))
    return value


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples with stable ids.

    ids: (n,) strings, all different; they, and names and texts of columns, are `clean_name`d here, in
    whatever form they come. labels: (n,) int64 class indices, readable without inputs.
    positional: the ids are row numbers, so they mean something only for this very file.
    fingerprint: a digest of the content, computed without reading single samples.
    columns: further per-sample values (n,), for `group:COLUMN=VALUE`.
    rows: (n,) row numbers in the files that hold them, of images that are decoded; else None.
    checked: ids and columns are rows of other samples, each at most once, so nobody looks at them again.
    """

    ids: Ids
    labels: NDArray[np.int64]
    store: Store
    fingerprint: str
    positional: bool
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    rows: Indices | None = None
    checked: InitVar[bool] = False

    def __post_init__(self, checked: bool) -> None:
        try:
            if not checked:
                object.__setattr__(self, "ids", clean_names(np.asarray(self.ids)))
                object.__setattr__(self, "columns", _clean_columns(self.columns))
        except ValueError as error:
            raise DataError(f"ids or columns: {error}; give shorter ones") from error
        if self.ids.shape != self.labels.shape:
            raise DataError(
                f"{len(self.ids)} ids but {len(self.labels)} labels: give one of each per sample"
                if self.ids.ndim == 1
                else f"ids have shape {self.ids.shape}; give one id per sample"
            )
        odd = (
            () if checked else [n for n, v in self.columns.items() if v.shape != self.labels.shape]
        )
        if odd:
            raise DataError(
                f"column {odd[0]!r} has shape {self.columns[odd[0]].shape} for {len(self.ids):,} "
                "samples: give one value per sample"
            )
        if not checked and not self.position.all_different:
            names, counts = np.unique(self.ids, return_counts=True)
            raise DataError(
                f"the id {str(names[counts > 1][0])!r} occurs {int(counts.max())} times: "
                "ids name single samples, so each must be different"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def position(self) -> IdRows:
        """Row of each id; of many ids ask `rows_of`."""
        return IdRows(self.ids)

    def rows_of(self, names: Sequence[str]) -> Indices:
        """Row of each of some ids, (len(names),); -1 where there is no such id."""
        return self.position.rows_of(names)

    def subset(self, index: Indices) -> Samples:
        """Some rows as a dataset of their own; ids stay what they were. Raises DataError for an index
        that names a row twice.
        """
        index = np.arange(len(self))[index]  # counted from the start, whatever kind of index it was
        ids = self.ids[index]
        marks = hashlib.sha256("\n".join(ids.tolist()).encode()).hexdigest()
        return replace(
            self,
            ids=ids,
            labels=self.labels[index],
            store=self.store.rows(index),
            columns={name: values[index] for name, values in self.columns.items()},
            fingerprint=f"{self.fingerprint}/{marks}",
            rows=None if self.rows is None else self.rows[index],
            checked=_ascending(index),
        )

    def with_store(self, store: Store) -> Samples:
        """The same samples, their inputs in another store, row by row."""
        return replace(self, store=store, checked=True)

    def shape(self, row: int = 0) -> tuple[int, ...]:
        """Shape of one input, without the sample axis. A streamed store reads sample `row` for it."""
        tensor = resident(self)
        if tensor is not None:
            return tuple(tensor.shape[1:])
        known: tuple[int, ...] | None = getattr(self.store, "shape", None)
        if known is not None:  # of tokens, of which a batch may have fewer
            return known
        index = np.array([row], dtype=np.int64)
        return tuple(first_tensor(self.store.fetch(index, torch.device("cpu"))).shape[1:])

    @property
    def known_shape(self) -> tuple[int, ...] | None:
        """The same, where nothing has to be read for it; else None."""
        return self.shape() if resident(self) is not None else getattr(self.store, "shape", None)

    def statistics(self) -> Normalisation | None:
        """Mean and standard deviation per channel (images) or feature (vectors), in one pass.

        None for inputs that are neither, such as token ids. A store that knows better, as that of a
        table does, is asked. Raises DataError for inputs without values.
        """
        if isinstance(self.store, Standardised):
            return self.store.statistics()
        chunks = np.array_split(np.arange(len(self)), max(1, len(self) // 2048))
        total = square = torch.zeros(())
        count = 0
        for chunk in self.store.stream(chunks, torch.device("cpu")):
            known = isinstance(chunk, Tensor) and chunk.ndim in (2, 4) and len(chunk)
            if not known or not (chunk.dtype == torch.uint8 or chunk.is_floating_point()):
                return None
            if not chunk[0].numel():
                raise DataError(
                    f"an input has the shape {tuple(chunk.shape[1:])}, which holds no value to learn "
                    "from; give at least one number per sample"
                )
            for piece in chunk.split(max(1, STATISTICS_VALUES // max(1, chunk[0].numel()))):
                sums, squares = _sums(piece.reshape(*piece.shape[:2], -1))
                total, square = total + sums, square + squares
            count += chunk.numel() // chunk.shape[1]
        mean = total / count
        std = (square / count - mean.square()).clamp_min(0).sqrt()
        std = torch.where(std > 1e-6, std, torch.ones_like(std))  # a constant pixel stays finite
        return Normalisation(
            tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in std.tolist())
        )


def _ascending(numbers: Indices) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def _sums(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and sum of squares by channel, float64, of (n, channels, ...); bytes count as 0 to 1."""
    if values.dtype != torch.uint8 or values.shape[0] * values.shape[2] < BYTES_COUNTED:
        values = values.double() / (255.0 if values.dtype == torch.uint8 else 1.0)
        return values.sum(2).sum(0), values.square().sum(2).sum(0)
    # a byte is one of 256, and how often each comes is counted exactly, at a tenth of the cost
    counts = [torch.bincount(one.reshape(-1), minlength=256) for one in values.unbind(1)]
    times, levels = torch.stack(counts).double(), torch.arange(256, dtype=torch.float64) / 255
    return times @ levels, times @ levels.square()


def _clean_columns(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Names and texts as by `clean_name`; of objects each text is there once, however often it comes."""
    cleaned: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        if values.dtype.kind in "mM" and np.isnat(values).any():
            values = np.where(np.isnat(values), "", values.astype(np.str_)).astype(object)
        if values.dtype.kind == "O" and values.ndim == 1:
            told = ("" if is_missing(value) else value for value in values.tolist())
            values = np.array(shared_names(told), dtype=object)
        elif values.dtype.kind in "US":
            values = clean_names(values)
        cleaned[clean_name(name)] = values
    if len(cleaned) != len(columns):
        raise ValueError("two columns have one name")
    return cleaned


class RowsOf:
    """Some rows of a streamed store."""

    def __init__(self, store: Store, chosen: Indices) -> None:
        self.store = store
        self.chosen = chosen

    def fetch(self, index: Indices, device: torch.device) -> Any:
        """Rows of the chosen rows."""
        return self.store.fetch(self.chosen[index], device)

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Any]:
        """Batches of the chosen rows."""
        return self.store.stream([self.chosen[index] for index in batches], device)

    def rows(self, index: Indices) -> Store:
        """Rows of the chosen rows."""
        return RowsOf(self.store, self.chosen[index])

    def whole(self) -> None:
        """Never held in memory."""


def resident(samples: Samples) -> Tensor | None:
    """The inputs as one CPU tensor (n, ...) where they are held in memory, else None."""
    return samples.store.whole()


def row_ids(count: int) -> Ids:
    """Row numbers as ids."""
    return np.arange(count).astype(f"U{len(str(count))}")


def digest_arrays(*arrays: NDArray[Any]) -> str:
    """SHA-256 of array bytes, shapes and dtypes; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        if array.dtype.hasobject:
            array = array.astype(np.str_)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(
            np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""
        )
    return digest.hexdigest()
