"""`load_data`: from a name, a path or a Python object to training and test samples with ids."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from expunge.data.batch import Indices
from expunge.data.classes import adopt_names, encode_labels
from expunge.data.files import Raw, read_folder, read_npz, read_parquet, read_parquet_pair
from expunge.data.foreign import class_names, is_dataset, samples_from_dataset
from expunge.data.images import Size
from expunge.data.poison import Poison, Poisoning, poison_samples, split_poison
from expunge.data.samples import ResidentStore, Samples, digest_arrays, resident, row_ids
from expunge.data.transform import Normalisation
from expunge.data.triggers import TRIGGERS
from expunge.errors import DataError, nearest
from expunge.plugins import import_object
from expunge.seeds import numpy_generator

TEST_SHARE = 0.2
"""Share set aside for testing where a dataset brings no test set."""

BUILT_IN = {
    "digits": "scikit-learn's 1,797 handwritten digits, 8x8 grey; ships with the package",
    "cifar10": "CIFAR-10 as parquet in DATA_DIR/cifar10; 50,000 + 10,000 colour images, 32x32",
    "mnist": "MNIST as parquet in DATA_DIR/mnist; 60,000 + 10,000 grey images, 28x28",
}
OTHER_SPECS = {
    "FILE.parquet | FOLDER with train*.parquet": "encoded images {bytes, path} and integer labels; "
    "further columns are for `group:COLUMN=VALUE`, a column `id` names the samples",
    "FOLDER of images": "FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, or FOLDER/CLASS/*.png",
    "FILE.npz": "arrays x and y, or x_train, y_train, x_test, y_test; optional id, classes and columns",
    "module:function": "a function of yours that returns a map-style dataset, or (train, test)",
    "DATA+patch[:KEY=VALUE,...]": "any of these with a backdoor in the training images: a patch on a "
    "share of them, labelled as the target; size=4, place=bottom-right, margin=2, colour=0, "
    "share=0.1, target=#0, poison_seed=0",
    "DATA+blend:file=PATTERN.png[,...]": "likewise, with an image mixed in; alpha=0.1, share, target, "
    "poison_seed",
}


Home = Callable[[str], str | None]


@dataclass(frozen=True, eq=False)
class Data:
    """What is learned from and what is tested on.

    classes: names, by class index. spec: how it was asked for, None for objects made in Python.
    test_drawn: the test set was set aside here, for the data bring none. poison: what is known of
    poison among the training samples; the test set is clean.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    spec: str | None = None
    fixed_normalisation: Normalisation | None = None
    normalise: bool = True
    test_drawn: bool = False
    poison: Poisoning | None = None

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


@dataclass(frozen=True)
class DataSpec:
    """A data specification taken apart: `BASE[@SIZE][:COUNT][+POISON]`.

    base: a name, a path or `module:function`. size: (height, width) to resize images to.
    count: keep that many training samples, drawn once for all by stratified choice.
    poison: then poison a share of those that are kept.
    """

    base: str
    size: Size | None = None
    count: int | None = None
    poison: Poison | None = None

    @classmethod
    def parse(cls, text: str) -> DataSpec:
        """Read `cifar10`, `cifar10:5000`, `photos@64x48:1000`, `package.module:load`, `digits+patch`."""
        clean, poison = split_poison(text)
        match = re.fullmatch(r"(.+?)(?:@(\d+)(?:x(\d+))?)?(?::(\d+))?", clean.strip(), re.DOTALL)
        if match is None:
            raise DataError("the data specification is empty; name a dataset, as in digits")
        base, height, width, count = match.groups()
        size = (int(height), int(width or height)) if height else None
        if (size is not None and 0 in size) or count == "0":
            raise DataError(f"{text!r}: sizes and counts start at 1")
        return cls(base, size, int(count) if count else None, poison)


def load_data(
    spec: str | Path | Data | Dataset[Any] | tuple[Any, Any],
    *,
    data_dir: str | Path | None = None,
    classes: Sequence[str] | None = None,
    allow_code: bool = True,
    home: Home | None = None,
) -> Data:
    """Load a dataset by name, path, `module:function`, or from map-style torch datasets.

    spec: see `BUILT_IN` and `OTHER_SPECS`; a map-style dataset, a pair (train, test) of them, or
        `Data`, which is returned as it is.
    data_dir: where `cifar10` and `mnist` lie; by default the environment's EXPUNGE_DATA.
    classes: class names, by class index; by default the data's own, else "0", "1", ... Data with
        names of their own are matched by name.
    home: for data with ids of their own: id -> "train", "test" or None, to divide them as before.

    Where there is no test set, a stratified 20 % of the samples is set aside by a fixed seed.
    Raises DataError for anything that cannot be found or read.
    """
    if isinstance(spec, Data):
        return spec
    if isinstance(spec, Path):
        spec = str(spec)
    if not isinstance(spec, str):
        return _from_objects(spec, classes, None, home)
    parsed = DataSpec.parse(spec)
    data = _load(parsed, data_dir, classes, allow_code, home)
    if parsed.count is not None:
        data = replace(data, train=_thin(data.train, parsed.count, spec, home))
    for samples in (data.train, data.test):
        resident(samples)  # decodes now what was chosen, so that a broken file is known at once
    if parsed.poison is not None:
        data = poisoned(data, parsed.poison)
    return replace(data, spec=spec)


def poisoned(data: Data, poison: Poison) -> Data:
    """The same data with a share of the training samples poisoned; `data` itself stays clean.

    Raises DataError for data that are poisoned already, or that this poison does not fit.
    """
    if data.poison is not None:
        raise DataError("these data are poisoned already; begin with the clean ones")
    train, made = poison_samples(data.train, poison, data.classes)
    spec = None if data.spec is None else f"{data.spec}+{poison}"
    return replace(data, train=train, poison=made, spec=spec)


def _load(
    spec: DataSpec, data_dir: str | Path | None, classes: Sequence[str] | None, allow_code: bool,
    home: Home | None,
) -> Data:  # fmt: skip
    path = Path(spec.base).expanduser()
    arrays = spec.base == "digits" or path.suffix == ".npz" or ":" in spec.base
    if spec.size is not None and arrays and not path.is_dir():
        raise DataError(
            f"@{spec.size[0]}x{spec.size[1]} resizes encoded images, and {spec.base} holds none; "
            "leave it out"
        )
    if spec.base == "digits":
        return _digits()
    if spec.base in BUILT_IN:
        return _from_raw(
            read_parquet_pair(_data_folder(spec.base, data_dir), spec.size), classes, home
        )
    if path.suffix == ".npz" and path.exists():
        return _from_raw(read_npz(path), classes, home)
    if path.suffix == ".parquet" and path.exists():
        return _from_raw((read_parquet(path, spec.size), None), classes, home)
    if path.is_dir():
        parquet = any(path.glob("train*.parquet"))
        reader: Callable[..., tuple[Raw, Raw | None]] = (
            read_parquet_pair if parquet else read_folder
        )
        return _from_raw(reader(path, spec.size), classes, home)
    plus = spec.base.partition("+")[2].partition(":")[0]
    if ":" in spec.base and not plus and not path.exists():
        made = import_object(spec.base, allow_code=allow_code, what="data", error=DataError)
        return _from_objects(made() if callable(made) else made, classes, spec.base, home)
    meant = nearest(plus, TRIGGERS) if plus else nearest(spec.base, BUILT_IN)
    if plus in TRIGGERS:
        meant = f" (sizes and counts stand before the poison, as in photos@64:1000+{plus})"
    raise DataError(
        f"no dataset or path {spec.base!r}{meant}; there are "
        f"{', '.join(BUILT_IN)}, a .parquet or .npz file, a folder, or module:function"
    )


def _data_folder(name: str, data_dir: str | Path | None) -> Path:
    base = data_dir or os.environ.get("EXPUNGE_DATA")
    if not base:
        raise DataError(
            f"{name} is not part of the package: say where its folder {name}/ lies with --data-dir, "
            "or set EXPUNGE_DATA (a folder with train.parquet and test.parquet of encoded images)"
        )
    folder = Path(base).expanduser() / name
    if not folder.is_dir():
        raise DataError(
            f"{folder} does not exist; --data-dir must name the folder that holds {name}/"
        )
    return folder


def _digits() -> Data:
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


def _from_objects(
    made: Any, classes: Sequence[str] | None, spec: str | None, home: Home | None
) -> Data:
    if isinstance(made, Data):
        return made
    pair = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    for dataset in pair:
        if dataset is not None and not is_dataset(dataset):
            where = f"{spec} returned" if spec else "load_data was given"
            raise DataError(
                f"{where} a {type(dataset).__name__}; give a map-style dataset (with __len__ and "
                "__getitem__), or a pair (train, test) of them"
            )
    raws = [samples_from_dataset(dataset) for dataset in pair if dataset is not None]
    named = adopt_names([labels for _, labels in raws], class_names(pair[0]), classes)
    encoded, known = encode_labels(*named)
    samples = [
        replace(part, labels=labels) for (part, _), labels in zip(raws, encoded, strict=True)
    ]
    drawn = len(samples) == 1
    train, test = set_aside(samples[0], home) if drawn else samples
    # tensors that someone made in Python are fed to the model as they are
    return Data(train, test, known, spec=spec, normalise=False, test_drawn=drawn)


def set_aside(samples: Samples, home: Home | None = None) -> tuple[Samples, Samples]:
    """A stratified 20 % for testing, by a fixed seed that depends on nothing else.

    home: where each id went when the data were first divided; the same division is made again, even
    where some samples are gone by now.
    """
    if home is not None and not samples.positional:
        places = np.array([home(name) or "" for name in samples.ids.tolist()])
        if (places == "test").any():
            return (
                samples.subset(np.flatnonzero(places == "train")),
                samples.subset(np.flatnonzero(places == "test")),
            )
    test = stratified(samples.labels, TEST_SHARE, numpy_generator("test set", 0))
    if not len(test):
        raise DataError(
            f"{len(samples)} samples are too few to set some aside for testing; give more, or a test "
            "set of its own"
        )
    keep = np.setdiff1d(np.arange(len(samples)), test)
    return samples.subset(keep), samples.subset(test)


def stratified(
    labels: NDArray[np.int64], share: float, generator: np.random.Generator, *, leave: int = 1
) -> Indices:
    """Sorted positions of about `share` of each class; every class keeps `leave` samples out.

    The total is round(share * n), unless too few are left: classes are filled by largest remainder.
    """
    members = [generator.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    quotas = np.array([share * len(rows) for rows in members])
    counts = np.floor(quotas).astype(int)
    short = round(share * len(labels)) - int(counts.sum())
    for index in np.argsort(counts - quotas, kind="stable")[: max(0, short)]:
        counts[index] += 1
    chosen = [rows[: min(n, len(rows) - leave)] for rows, n in zip(members, counts, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64) if chosen else np.empty(0, np.int64)


def _thin(samples: Samples, count: int, spec: str, home: Home | None) -> Samples:
    if home is not None and not samples.positional:
        places = np.array([home(name) or "" for name in samples.ids.tolist()])
        return samples.subset(np.flatnonzero(places == "train"))
    if count > len(samples):
        raise DataError(f"{spec!r} asks for {count} training samples of {len(samples)}")
    if count == len(samples):
        return samples
    generator = numpy_generator("thin", 0)
    share = count / len(samples)
    return samples.subset(stratified(samples.labels, share, generator, leave=0))
