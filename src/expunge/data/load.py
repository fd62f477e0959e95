"""`load_data`: from a name, a path or a Python object to training and test samples with ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from expunge.data.batch import Indices
from expunge.data.classes import adopt_names, encode_labels, rows_by_class
from expunge.data.files import Raw, read_folder, read_npz
from expunge.data.foreign import dataset_classes, is_dataset, samples_from_dataset
from expunge.data.images import ImageStore
from expunge.data.poison import Poison, Poisoning
from expunge.data.poisoned import poison_samples
from expunge.data.samples import ResidentStore, Samples, digest_arrays, resident, row_ids
from expunge.data.spec import (
    BUILT_IN,
    DATASETS,
    OF_ITS_DATA,
    DataSpec,
    data_folder,
    is_code,
    is_hub,
    is_offered,
    path_of,
)
from expunge.data.task import Classification, Task, named_task
from expunge.data.tokens import TextStore, Tokenizer, TokenStore, tokenised
from expunge.data.transform import Normalisation
from expunge.errors import ConfigError, DataError
from expunge.loading import loading
from expunge.names.code import import_object, in_a_line
from expunge.names.seeds import numpy_generator

TEST_SHARE = 0.2
"""Share set aside for testing where a dataset brings no test set."""

Home = Callable[[Samples], tuple[Indices, Indices]]
"""Of the samples of a whole file the rows that went to training, and to testing; both ascending."""


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """What is learned from and what is tested on.

    classes: names, by class index. spec: how it was asked for, None for objects made in Python.
    data_dir: where the folder of a named dataset was looked for. test_drawn: the test set was set
    aside here, for the data bring none. poison: what is known of poison among the training samples;
    the test set is clean. task: what a sample's loss and a model's output mean; task_name: the
    `module:Class` that says it, for folders, None for classification or an object made in Python.
    unread: names of further splits that the data have, of which nothing was read.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    spec: str | None = None
    fixed_normalisation: Normalisation | None = None
    normalise: bool = True
    test_drawn: bool = False
    poison: Poisoning | None = None
    data_dir: str | None = None
    task: Task = field(default_factory=Classification)
    task_name: str | None = None
    unread: tuple[str, ...] = ()

    def __repr__(self) -> str:
        unread = f"; not read: {', '.join(self.unread)}" if self.unread else ""
        return (
            f"<Data {self.spec or 'of your own'}: {len(self.train):,} to train on, "
            f"{len(self.test):,} to test on, {len(self.classes)} classes{unread}>"
        )

    @cached_property
    def normalisation(self) -> Normalisation | None:
        """Mean and deviation that inputs are normalised with; None leaves them as they are.

        Computed from the training samples at the first use, unless it was fixed before, as it is
        for every model that comes from a model folder.
        """
        if self.fixed_normalisation is not None or not self.normalise:
            return self.fixed_normalisation
        return self.train.statistics()

    def with_normalisation(self, normalisation: Normalisation | None) -> Data:
        """The same data with a given normalisation, None meaning none at all."""
        return replace(self, fixed_normalisation=normalisation, normalise=False)

    def tokenised(self, tokenizer: Tokenizer, *, max_length: int | None = None) -> Data:
        """The same data, texts as the tokens that a tokenizer of transformers makes of them.

        max_length: the most tokens of a text; by default what the tokenizer says that its model reads,
        512 at most. Raises DataError for data that are no texts.
        """
        parts = [part.store for part in (self.train, self.test)]
        texts = [store for store in parts if isinstance(store, TextStore)]
        if len(texts) < len(parts):
            raise DataError(
                "these data are no texts, so there is nothing to tokenise; leave it out"
            )
        train, test = tokenised(texts, tokenizer, max_length)
        return replace(self, train=self.train.with_store(train), test=self.test.with_store(test))


def load_data(
    spec: str | Path | Data | Dataset[Any] | tuple[Any, Any],
    *,
    data_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    task: str | Task | None = None,
    allow_code: bool = True,
    home: Home | None = None,
) -> Data:
    """Load a dataset by name, path, `module:function`, or from map-style torch datasets.

    A name is a built-in one, or NAME and NAME:REST of an entry point `expunge.data` of an installed
    package, whose function `load(REST, data_dir)` returns what `module:function` may return.

    spec: see `data.spec`; a map-style dataset, a pair (train, test) of them, a `Dataset` or
        `DatasetDict` of the Hugging Face library, or `Data`, which is returned as it is.
    data_dir: where `cifar10` and `mnist` lie; by default the environment's EXPUNGE_DATA.
    classes: class names, by class index; by default the data's own, else "0", "1", ... Data with
        names of their own are matched by name.
    task: what a sample's loss and a model's output mean, as an object or `module:Class`; by default
        classification.
    allow_code: whether `module:function` and `module:Class` may be imported; False for names from a
        file.
    home: for data with ids of their own: id -> "train", "test" or None, to divide them as before.

    Where there is no test set, a stratified 20 % of the samples is set aside by a fixed seed.
    Raises DataError for anything that cannot be found or read.
    """
    if isinstance(spec, Data):
        return spec if task is None else replace(spec, **_task(task, allow_code))
    asked = {} if task is None else _task(task, allow_code)
    if isinstance(spec, Path):
        spec = str(spec)
    if not isinstance(spec, str):
        return replace(_from_objects(spec, classes, None, home), **asked)
    parsed = DataSpec.parse(spec)
    data = _load(parsed, data_dir, classes, allow_code, home)
    if parsed.count is not None:
        data = replace(data, train=_thin(data.train, parsed.count, spec, home))
    for samples in (data.train, data.test):
        resident(samples)  # decodes now what was chosen, so that a broken file is known at once
    if parsed.poison is not None:
        data = poisoned(data, parsed.poison)
    where = data_dir or os.environ.get("EXPUNGE_DATA")
    found = str(path_of(str(where)).resolve()) if where else None
    if data.task_name is None and type(data.task) is not Classification:
        data = replace(data, task_name=OF_ITS_DATA)
    return replace(data, spec=spec, data_dir=found, **asked)


def as_data(given: object) -> Data:
    """Data that were loaded, or a dataset of the Hugging Face library, which is loaded now.

    Raises ConfigError for anything else: how it is to be read is for whoever gives it to say.
    """
    if isinstance(given, Data):
        return given
    if "datasets" in sys.modules and _are_of_hub((given,)):
        return _from_hub(given, None, None, None)
    raise ConfigError(
        f"the data are a {type(given).__name__}; give what load_data({given!r:.40}) returns"
    )


def _task(task: str | Task, allow_code: bool) -> dict[str, Any]:
    """The fields of `Data` that say what a sample's loss means."""
    if not isinstance(task, str):
        return {"task": task, "task_name": None}
    return {"task": named_task(task, allow_code=allow_code), "task_name": task}


def poisoned(data: Data, poison: Poison) -> Data:
    """The same data with a share of the training samples poisoned; `data` itself stays clean.

    Raises DataError for data that are poisoned already, or that this poison does not fit.
    """
    if data.poison is not None:
        raise DataError("these data are poisoned already; begin with the clean ones")
    if isinstance(data.train.store, TextStore | TokenStore):
        raise DataError(f"{poison} is laid on images, and these are texts; leave the poison out")
    train, made = poison_samples(data.train, poison, data.classes)
    spec = None if data.spec is None else f"{data.spec}+{poison}"
    return replace(data, train=train, poison=made, spec=spec)


def _load(
    spec: DataSpec,
    data_dir: str | Path | None,
    classes: Sequence[str] | None,
    allow_code: bool,
    home: Home | None,
) -> Data:
    spec.check(data_dir, allow_code=allow_code)
    path = path_of(spec.base)
    if spec.base == "digits":
        return _digits()
    if is_hub(spec.base):
        from expunge.data.hub import load_hub  # slow to import

        return _from_hub(load_hub(spec.base), classes, spec, home)
    if is_offered(spec.base):
        return _from_objects(_offered(spec.base, data_dir), classes, spec.base, home)
    if is_code(spec.base):
        made = import_object(spec.base, allow_code=allow_code, what="data", error=DataError)
        return _from_objects(made() if callable(made) else made, classes, spec.base, home)
    if path.suffix == ".npz" and spec.base not in BUILT_IN:
        return _from_raw(read_npz(path), classes, home)
    built_in = spec.base in BUILT_IN
    folder = data_folder(spec.base, data_dir) if built_in else path
    if not built_in:
        texts = _texts(path, spec)
        if texts is not None:
            return _from_raw(texts, classes, home)
    if not built_in and path.is_dir() and not any(path.glob("train*.parquet")):
        return _from_raw(read_folder(path, spec.size), classes, home)
    from expunge.data.parquet import read_parquet, read_parquet_pair  # slow to import

    if folder.is_dir():
        return _from_raw(read_parquet_pair(folder, spec.size), classes, home)
    return _from_raw((read_parquet(path, spec.size), None), classes, home)


def _texts(path: Path, spec: DataSpec) -> tuple[Raw, Raw | None] | None:
    """Texts of a file or a folder; None where there are none, so another reader is asked."""
    if path.is_dir() and not any(any(path.glob(f"train*{one}")) for one in (".parquet", ".csv")):
        return None
    from expunge.data.texts import read_texts  # slow to import

    found = read_texts(path)
    if found is None and path.suffix == ".csv":
        raise DataError(f"{path} has no column called text or sentence; rename the column of texts")
    if found is not None and spec.size is not None:
        raise DataError(f"@SIZE resizes images, and {spec.base} holds texts; leave it out")
    return found


def _offered(base: str, data_dir: str | Path | None) -> Any:
    """What an installed package's loader returns for NAME or NAME:REST."""
    name, _, rest = base.partition(":")
    load = DATASETS.find(name, allow_code=False)
    try:
        return load(rest, data_dir)
    except OSError as cause:
        raise DataError(
            f"{base}: its package found no data ({in_a_line(cause)}); say with --data-dir where they lie"
        ) from cause


def _digits() -> Data:
    with loading():
        from sklearn.datasets import load_digits  # slow to import, needed only here

    bunch = load_digits()
    # pixel values are 0 to 16; 15 * 17 = 255
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    samples = Samples(
        ids=row_ids(len(labels)),
        labels=labels,
        store=ResidentStore(torch.from_numpy(images)),
        fingerprint=digest_arrays(images, labels),
        positional=True,
    )
    train, test = set_aside(samples)
    return Data(train, test, tuple(str(digit) for digit in range(10)))


def _from_raw(
    parts: tuple[Raw, Raw | None], classes: Sequence[str] | None, home: Home | None
) -> Data:
    train, test = parts
    labels = [part.labels for part in (train, test) if part is not None]
    encoded, names = encode_labels(*adopt_names(labels, train.classes, classes))
    first = train.samples(encoded[0])
    if test is None:
        return Data(*set_aside(first, home), classes=names, test_drawn=True)
    return Data(first, test.samples(encoded[1]), names)


def _are_of_hub(made: tuple[Any, ...]) -> bool:
    from expunge.data.hub import is_hub_dataset

    return all(is_hub_dataset(one) for one in made)


def _from_hub(
    made: Any, classes: Sequence[str] | None, spec: DataSpec | None, home: Home | None
) -> Data:
    """Data of a dataset of the Hugging Face library. spec: how it was asked for, if it was by name."""
    from expunge.data.hub import read_hub

    where = "the dataset" if spec is None else spec.base
    parts = read_hub(made, None if spec is None else spec.size, where)
    data = _from_raw((parts.train, parts.test), classes, home)
    tensor = None if isinstance(parts.train.store, ImageStore) else parts.train.store.whole()
    # numbers that someone made in Python are fed to the model as they are
    as_made = spec is None and tensor is not None and tensor.is_floating_point()
    return replace(data, normalise=not as_made, unread=parts.unread)


def _from_objects(
    made: Any, classes: Sequence[str] | None, spec: str | None, home: Home | None
) -> Data:
    if isinstance(made, Data):
        return made
    pair = made if isinstance(made, tuple) and len(made) == 2 else (made,)
    if "datasets" in sys.modules and _are_of_hub(pair):
        whole = made if len(pair) == 1 else {"train": pair[0], "test": pair[1]}
        return _from_hub(whole, classes, None, home)
    if made is None:
        raise DataError(f"{spec or 'load_data'} gave nothing; return a dataset, or (train, test)")
    pair = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    for dataset in pair:
        if dataset is not None and not is_dataset(dataset):
            where = f"{spec} returned" if spec else "load_data was given"
            raise DataError(
                f"{where} a {type(dataset).__name__}; give a map-style dataset (with __len__ and "
                "__getitem__), or a pair (train, test) of them"
            )
    raws = [samples_from_dataset(dataset) for dataset in pair if dataset is not None]
    named = adopt_names([labels for _, labels in raws], dataset_classes(pair[0]), classes)
    encoded, known = encode_labels(*named)
    samples = [
        replace(part, labels=labels, checked=True)
        for (part, _), labels in zip(raws, encoded, strict=True)
    ]
    drawn = len(samples) == 1
    train, test = set_aside(samples[0], home) if drawn else samples
    # tensors that someone made in Python are fed to the model as they are
    return Data(train, test, known, spec=spec, normalise=False, test_drawn=drawn)


def set_aside(samples: Samples, home: Home | None = None) -> tuple[Samples, Samples]:
    """A stratified 20 % for testing, by a fixed seed that depends on nothing else.

    home: where samples went when the data were first divided; the same division is made again, even
    where some samples are gone by now.
    """
    if home is not None and not samples.positional:
        train, test = home(samples)
        if len(test):
            return samples.subset(train), samples.subset(test)
    test = stratified(samples.labels, TEST_SHARE, numpy_generator("test set", 0))
    if not len(test):
        raise DataError(
            f"{len(samples)} samples are too few to set some aside for testing; give more, or a test "
            "set of its own"
        )
    return samples.subset(others(len(samples), test)), samples.subset(test)


def others(count: int, rows: Indices) -> Indices:
    """Of 0 to count - 1 those that are not among `rows`, ascending."""
    left = np.ones(count, dtype=np.bool_)
    left[rows] = False
    return np.flatnonzero(left)


def stratified(
    labels: NDArray[np.int64], share: float, generator: np.random.Generator, *, leave: int = 1
) -> Indices:
    """Sorted positions of about `share` of each class; every class keeps `leave` samples out.

    The total is round(share * n), unless too few are left: classes are filled by largest remainder.
    """
    members = [generator.permutation(rows) for rows in rows_by_class(labels).values()]
    quotas = np.array([share * len(rows) for rows in members])
    counts = np.floor(quotas).astype(int)
    short = round(share * len(labels)) - int(counts.sum())
    for index in np.argsort(counts - quotas, kind="stable")[: max(0, short)]:
        counts[index] += 1
    chosen = [rows[: min(n, len(rows) - leave)] for rows, n in zip(members, counts, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64) if chosen else np.empty(0, np.int64)


def _thin(samples: Samples, count: int, spec: str, home: Home | None) -> Samples:
    if home is not None and not samples.positional:
        return samples.subset(home(samples)[0])
    if count > len(samples):
        raise DataError(f"{spec!r} asks for {count} training samples of {len(samples)}")
    if count == len(samples):
        return samples
    generator = numpy_generator("thin", 0)
    share = count / len(samples)
    return samples.subset(stratified(samples.labels, share, generator, leave=0))
