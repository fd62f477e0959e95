"""`load_data`: from a name, a path or a Python object to training and test samples with ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from expunge.data.apart import check_apart, check_test_classes, check_test_spec, check_whole_test
from expunge.data.aside import Home, set_aside, thin
from expunge.data.batch import Indices
from expunge.data.columns import Columns, TableEncoding, is_parquet
from expunge.data.drawing import DRAWING, Drawing
from expunge.data.files import Raw, read_npz
from expunge.data.folders import read_folder
from expunge.data.foreign import dataset_classes, is_dataset, samples_from_dataset
from expunge.data.images import ImageStore
from expunge.data.inputs import check_finite
from expunge.data.labels import class_indices, counted_as
from expunge.data.poison import Poison, Poisoning
from expunge.data.poisoned import poison_samples
from expunge.data.read_as import AS_BY_DEFAULT, ReadAs
from expunge.data.samples import ResidentStore, Samples, resident
from expunge.data.shards import Shards, shards_of
from expunge.data.spec import (
    BUILT_IN,
    DATASETS,
    NO_TEST,
    OF_ITS_DATA,
    OWN_TEST,
    DataSpec,
    data_folder,
    is_code,
    is_hub,
    is_offered,
    path_of,
)
from expunge.data.suppressed import NOTHING_STRUCK, StruckData, struck_of
from expunge.data.task import Classification, Task, named_task
from expunge.data.tokens import TextStore, Tokenizer, TokenStore, tokenised
from expunge.data.transform import Normalisation
from expunge.errors import ConfigError, DataError, listed
from expunge.names.code import import_object, in_a_line

Divide = Callable[[Samples, tuple[str, ...]], "Data"]
"""Of all samples, and the names of their classes, those to learn from and those to test on."""


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """What is learned from and what is tested on.

    classes: names, by class index. spec: how it was asked for, None for objects made in Python.
    data_dir: where the folder of a named dataset was looked for. test_drawn: the test set was set
    aside here, for the data bring none; drawn: at these rows of all samples, in their order, where
    that can be undone (see `undivided`). test_spec: how the test set was asked for, "none" for an empty
    one; None: the data's own, or drawn. poison: what is known of poison among the training samples; the
    test set is clean. task: what a sample's loss and a model's output mean; task_name: the
    `module:Class` that says it, for folders, None for classification or an object made in Python.
    drawing: how encoded images became pixels; None where there are none. table: which inputs the columns
    of a table are; None for other data. notes: what a person should know of how the data were read, a
    sentence each. struck: what ledgers of deletion requests say of them: nothing that learns reads it.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    spec: str | None = None
    fixed_normalisation: Normalisation | None = None
    normalise: bool = True
    test_drawn: bool = False
    drawn: Indices | None = None
    test_spec: str | None = None
    poison: Poisoning | None = None
    data_dir: str | None = None
    task: Task = field(default_factory=Classification)
    task_name: str | None = None
    drawing: Drawing | None = None
    table: TableEncoding | None = None
    notes: tuple[str, ...] = ()
    struck: StruckData = NOTHING_STRUCK

    def __repr__(self) -> str:
        tested = f"{len(self.test):,}" if len(self.test) else "none"
        return (
            f"<Data {self.spec or 'of your own'}: {len(self.train):,} to train on, "
            f"{tested} to test on, {len(self.classes)} classes"
            f"{''.join(f'; {note}' for note in self.notes)}>"
        )

    @cached_property
    def normalisation(self) -> Normalisation | None:
        """Mean and deviation that inputs are normalised with; None leaves them as they are.

        Computed from the training samples at the first use, unless it was fixed before, as it is
        for every model that comes from a model folder.
        """
        if self.fixed_normalisation is not None or not self.normalise:
            return self.fixed_normalisation
        return self.struck.left_of(self.train).statistics()

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
        return replace(
            self,
            train=self.train.with_store(train),
            test=self.test.with_store(test),
            notes=(*self.notes, *train.notes()),
        )


def load_data(
    spec: str | Path | Data | Dataset[Any] | tuple[Any, Any],
    *,
    data_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    task: str | Task | None = None,
    test: str | None = None,
    allow_code: bool = True,
    read_as: ReadAs = AS_BY_DEFAULT,
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
    test: other data to test on (of data with a test part that part, else all of them); "none": no test
        set; "own": the one that the data bring, else none. By default the one that they bring, else a
        stratified 20 % of the samples, set aside by a fixed seed.
    allow_code: whether `module:function` and `module:Class` may be imported; False for names from a
        file.
    read_as: what a model knows of how they were read before.

    Raises DataError for anything that cannot be found or read; warns (DataWarning) of what lies beside
    and is not read.
    """
    divide = partial(_divided, home=read_as.home, draw=test is None)
    if isinstance(spec, Data):
        data = spec if task is None else replace(spec, **_task(task, allow_code))
        return data if test is None else _tested(data, test, data_dir, allow_code)
    asked = {} if task is None else _task(task, allow_code)
    if isinstance(spec, Path):
        spec = str(spec)
    if not isinstance(spec, str):
        data = replace(_from_objects(spec, classes, None, divide), **asked)
        data = replace(data, struck=struck_of(data.train, None, read_as.pointers))
        return data if test is None else _tested(data, test, data_dir, allow_code)
    parsed = DataSpec.parse(spec)
    read_as = read_as._replace(drawing=parsed.drawing(read_as.drawing))
    data = _load(parsed, data_dir, classes, allow_code, read_as, divide)
    if classes is not None and set(data.classes) == set(classes):
        data = in_order(data, classes)
    if parsed.count is not None:
        data = replace(data, train=thin(data.train, parsed.count, spec, read_as.home), drawn=None)
    if test is not None:
        data = _tested(data, test, data_dir, allow_code)
    for samples in (data.train, data.test):
        resident(samples)  # decodes now what was chosen, so that a broken file is known at once
    _check_alike(data)
    # before any poison: it changes what lies in a sample, and not who it is
    data = replace(data, struck=struck_of(data.train, spec, read_as.pointers, data_dir))
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
        return _from_hub(given, None, None, partial(_divided, home=None, draw=True))
    raise ConfigError(
        f"the data are a {type(given).__name__}; give what load_data({given!r:.40}) returns"
    )


def _check_alike(data: Data) -> None:
    """Raise DataError where test inputs have another shape than those to train on, as far as nothing
    has to be read to know it: items of somebody's own dataset are not, and may differ.
    """
    ours, theirs = data.train.known_shape, data.test.known_shape
    if ours is None or theirs is None or ours == theirs:
        return
    remedy = "give both the same shape"
    if len(ours) == len(theirs) == 3:
        remedy = "make all of one size (@SIZE does that to encoded ones), all grey or all in colour"
    raise DataError(
        f"the inputs to train on have the shape {ours}, and those to test on {theirs}; {remedy}"
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
    return replace(data, train=train, poison=made, spec=spec, drawn=None)


def in_order(data: Data, classes: Sequence[str]) -> Data:
    """The same data with their classes in another order, labels and all.

    Raises DataError for poisoned data, whose target is counted in their own order.
    """
    if data.classes == tuple(classes):
        return data
    if data.poison is not None:
        raise DataError("these data are poisoned; order the classes of the clean ones")
    index = np.array([list(classes).index(name) for name in data.classes], dtype=np.int64)
    train, test = (
        replace(one, labels=index[one.labels], checked=True) for one in (data.train, data.test)
    )
    return replace(data, train=train, test=test, classes=tuple(classes))


def _tested(data: Data, test: str, data_dir: str | Path | None, allow_code: bool) -> Data:
    """The same data with the test set that was asked for."""
    if test == OWN_TEST and len(data.test):
        return data
    if test in (NO_TEST, OWN_TEST):
        nothing = data.test.subset(_no_rows())
        return replace(data, test=nothing, test_spec=NO_TEST, test_drawn=False, drawn=None)
    check_test_spec(test)
    other = load_data(
        test,
        data_dir=data_dir,
        classes=data.classes,
        test=OWN_TEST,
        allow_code=allow_code,
        read_as=ReadAs(None, data.drawing or DRAWING, data.table),
    )
    part = len(other.test) > 0
    if part:
        check_whole_test(test)
    tested = other.test if part else other.train
    check_apart(data.train, tested, test, part=part)
    if other.classes != data.classes:
        raise DataError(
            f"{test} have the classes {listed(other.classes)}, and the training data "
            f"{listed(data.classes)}; give test data of the same classes"
        )
    shapes = data.train.shape(), tested.shape()
    if shapes[0] != shapes[1]:
        raise DataError(
            f"an input of {test} has the shape {shapes[1]}, one of the training data {shapes[0]}; "
            "give test data of the same shape"
        )
    return replace(data, test=tested, test_spec=test, test_drawn=False, drawn=None)


def _no_rows() -> Indices:
    return np.empty(0, dtype=np.int64)


def _load(
    spec: DataSpec,
    data_dir: str | Path | None,
    classes: Sequence[str] | None,
    allow_code: bool,
    read_as: ReadAs,
    divide: Divide,
) -> Data:
    spec.check(data_dir, allow_code=allow_code)
    path = path_of(spec.base)
    if spec.base == "digits":
        return _digits()
    if is_hub(spec.base):
        from expunge.data.hub import load_hub  # slow to import

        return _from_hub(load_hub(spec.base), classes, spec, divide, read_as.drawing)
    if is_offered(spec.base):
        return _from_objects(_offered(spec.base, data_dir), classes, spec.base, divide)
    if is_code(spec.base):
        made = import_object(spec.base, allow_code=allow_code, what="data", error=DataError)
        return _from_objects(made() if callable(made) else made, classes, spec.base, divide)
    if path.suffix.lower() == ".npz" and spec.base not in BUILT_IN:
        return _from_raw(read_npz(path), classes, divide)
    built_in = spec.base in BUILT_IN
    folder = data_folder(spec.base, data_dir) if built_in else path
    shards = shards_of(folder) if folder.is_dir() else Shards([folder], [], [])
    if shards is not None:
        data = _from_tables(shards, spec, classes, read_as, divide)
        return replace(data, notes=(*data.notes, *shards.notes()))
    if built_in:
        raise DataError(f"{folder} holds no train*.parquet")
    parts = read_folder(path, spec.size, read_as.drawing, classes)
    return replace(_from_raw(parts, classes, divide), drawing=read_as.drawing)


def _from_tables(
    shards: Shards,
    spec: DataSpec,
    classes: Sequence[str] | None,
    read_as: ReadAs,
    divide: Divide,
) -> Data:
    """Data of files of encoded images, of texts, or of numbers and categories."""
    from expunge.data.parquet import holds_pictures, read_parquet  # slow to import

    if is_parquet(shards.train[0]) and holds_pictures(shards.train[0]):
        if spec.columns is not None:
            raise DataError(
                f"{spec.base} holds images, whose columns have their usual names; leave out what is "
                "said of columns"
            )
        train = read_parquet(shards.train, spec.size, read_as.drawing)
        test = read_parquet(shards.test, spec.size, read_as.drawing) if shards.test else None
        return replace(_from_raw((train, test), classes, divide), drawing=read_as.drawing)
    if spec.size is not None:
        raise DataError(
            f"{spec.base} holds no images, so there is nothing to resize; leave out @SIZE"
        )
    from expunge.data.table import read_tables  # slow to import
    from expunge.data.texts import holds_texts, read_texts

    if spec.columns is None and holds_texts(shards.train[0]):
        both = read_texts(shards.train), read_texts(shards.test) if shards.test else None
        return _from_raw(both, classes, divide)
    read = read_tables(shards.train, shards.test, spec.columns or Columns(), read_as.table)
    data = _from_raw((read.train, read.test), classes, divide)
    return replace(data, table=read.encoding, notes=(*data.notes, read.encoding.told()))


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
    from expunge.data.digits import CLASSES, read_digits

    train, test, _ = set_aside(read_digits())
    return Data(train, test, CLASSES)


def _from_raw(parts: tuple[Raw, Raw | None], classes: Sequence[str] | None, divide: Divide) -> Data:
    train, test = parts
    labels = [train.labels]
    own = train.classes
    if test is not None:
        if (
            own is not None and classes is not None
        ):  # of what is known, the training part may lack some
            own = (*own, *(n for n in test.classes or () if n in classes and n not in own))
        labels.append(counted_as(test.labels, test.classes, own, "the test part"))
    encoded, names, notes = class_indices(labels, own, classes)
    samples = [
        _checked(part.samples(indices))
        for part, indices in zip([train] if test is None else [train, test], encoded, strict=True)
    ]
    if classes is None and len(names) == 1:
        raise DataError(
            f"all samples are of one class, {names[0]}, and there is nothing to tell it from; give two "
            "classes or more"
        )
    if test is None:
        return replace(divide(samples[0], names), notes=notes)
    if classes is None:
        learned, (there, counts) = np.unique(encoded[0]), np.unique(encoded[1], return_counts=True)
        check_test_classes(
            {names[label]: int(count) for label, count in zip(there, counts, strict=True)},
            {names[label] for label in learned},
        )
    return Data(samples[0], samples[1], names, notes=notes)


def _checked(samples: Samples) -> Samples:
    """The same; raises DataError where inputs in memory hold nan or inf."""
    if isinstance(samples.store, ResidentStore):
        check_finite(samples.store.tensor, lambda row: str(samples.ids[row]))
    return samples


def _are_of_hub(made: tuple[Any, ...]) -> bool:
    from expunge.data.hub import is_hub_dataset

    return all(is_hub_dataset(one) for one in made)


def _from_hub(
    made: Any,
    classes: Sequence[str] | None,
    spec: DataSpec | None,
    divide: Divide,
    drawing: Drawing = DRAWING,
) -> Data:
    """Data of a dataset of the Hugging Face library. spec: how it was asked for, if it was by name."""
    from expunge.data.hub import read_hub

    where = "the dataset" if spec is None else spec.base
    parts = read_hub(made, None if spec is None else spec.size, where, drawing)
    data = _from_raw((parts.train, parts.test), classes, divide)
    pictures = isinstance(parts.train.store, ImageStore)
    tensor = None if pictures else parts.train.store.whole()
    # numbers that someone made in Python are fed to the model as they are
    as_made = spec is None and tensor is not None and tensor.is_floating_point()
    return replace(
        data,
        normalise=not as_made,
        drawing=drawing if pictures else None,
        notes=(*data.notes, *parts.notes),
    )


def _from_objects(
    made: Any, classes: Sequence[str] | None, spec: str | None, divide: Divide
) -> Data:
    if isinstance(made, Data):
        return made
    pair = made if isinstance(made, tuple) and len(made) == 2 else (made,)
    if "datasets" in sys.modules and _are_of_hub(pair):
        whole = made if len(pair) == 1 else {"train": pair[0], "test": pair[1]}
        return _from_hub(whole, classes, None, divide)
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
    given, own = [labels for _, labels in raws], dataset_classes(pair[0])
    if len(given) == 2:
        given[1] = counted_as(given[1], dataset_classes(pair[1]), own, "the test part")
    encoded, known, notes = class_indices(given, own, classes)
    samples = [
        _checked(replace(part, labels=labels, checked=True))
        for (part, _), labels in zip(raws, encoded, strict=True)
    ]
    data = divide(samples[0], known) if len(samples) == 1 else Data(samples[0], samples[1], known)
    # tensors that someone made in Python are fed to the model as they are
    return replace(data, spec=spec, normalise=False, notes=notes)


def _divided(samples: Samples, classes: tuple[str, ...], home: Home | None, *, draw: bool) -> Data:
    """Data that bring no test set, with one set aside; with an empty one unless that is to be drawn."""
    if not draw:
        return Data(samples, samples.subset(_no_rows()), classes)
    train, test, rows = set_aside(samples, home)
    return Data(train, test, classes, test_drawn=True, drawn=rows)
