"""Make a model folder of a checkpoint that was trained elsewhere: `expunge import`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.request import read_ids
from expunge.data.spec import BUILT_IN, NO_TEST, OWN_TEST, DataSpec
from expunge.errors import (
    ConfigError,
    DataError,
    LogitsError,
    ModelError,
    SplitError,
    UserError,
    listed,
)
from expunge.folders.make import check_source, sized
from expunge.loading import loading
from expunge.models.checkpoint import check_weights_file
from expunge.models.hub import HubModel, labels_beside
from expunge.names.code import TYPED, in_a_line
from expunge.names.libraries import library_of
from expunge.names.text import clean_name
from expunge.place import HERE, Place
from expunge.trained.card import check_target

if TYPE_CHECKING:
    from expunge.audits.outputs import PartOutputs
    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.models.checkpoint import Taken
    from expunge.trained.trained import Trained
    from expunge.training.recipe import Recipe

FIRST_LOOK = 2000
"""Learned samples that an imported model is looked at on, where there is no test set."""
LONGEST = 300
"""Letters of what somebody's own code raised."""
POINT = 1.0
"""Percentage points by which an accuracy may differ from the one that is expected."""


@dataclass(frozen=True)
class Elsewhere:
    """How a checkpoint came about, as far as somebody says.

    Attributes:
        trained_on: `ids:FILE` of the samples that it learned from, read as a request's is; None: all.
        validation: `ids:FILE` of samples kept for validation, likewise; None: none. What is in neither
            is never read.
        test: data to test on, or "none"; None: the test part that the data bring, or else none.
        classes: a file of class names in the order of the model's outputs; None: the data's order.
        key: where the weights lie in their file, if several would fit.
        mean, std: the normalisation that it was trained with, per channel in units of the full
            scale.
        expect: test accuracy in percent that it must have.
        recipe: how it was trained.
    """

    trained_on: str | None = None
    validation: str | None = None
    test: str | None = None
    classes: str | Path | None = None
    key: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    expect: float | None = None
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Imported:
    """What `import_folder` did.

    Attributes:
        trained: the model, with the folder that it lies in.
        tested: whether it was looked at on a test set, else on samples that it learned from.
        seen: what it said of them; None where its task has no class logits, and `why` says so.
        swapped: classes that look swapped, by name: each is mostly called the next, the last the first.
        taken: what of the checkpoint the model took.
        read_as: lines of lists that are no ids, and as which ids they were read, in words.
        ordered: whether the order of the classes was given.
    """

    trained: Trained
    tested: bool
    seen: PartOutputs | None
    why: str = ""
    swapped: tuple[tuple[str, ...], ...] = ()
    taken: Taken | None = None
    read_as: tuple[str, ...] = ()
    ordered: bool = False

    @property
    def accuracy(self) -> float | None:
        """In percent, on what it was looked at on; None without logits."""
        return None if self.seen is None else 100 * float(self.seen.correct.double().mean())


def import_folder(
    model: str,
    weights: str | Path | None,
    data: str,
    out: str | Path,
    *,
    how: Elsewhere = Elsewhere(),
    task: str | None = None,
    place: Place = HERE,
) -> Imported:
    """Make a model folder of a checkpoint that was trained elsewhere.

    weights: a file; None: those in the folder of `hf:FOLDER`.
    The model is looked at before its folder is written: one that fails leaves none.
    Raises as `open_checkpoint` does, and ConfigError for an accuracy that is not as expected.
    """
    check_target(Path(out), overwrite=place.overwrite)
    looked = open_checkpoint(model, weights, data, how=how, task=task, place=place)
    _check_accuracy(looked, how.expect)
    return replace(looked, trained=looked.trained.save(out, overwrite=place.overwrite))


def open_checkpoint(
    model: str,
    weights: str | Path | None,
    data: str,
    *,
    how: Elsewhere = Elsewhere(),
    task: str | None = None,
    place: Place = HERE,
) -> Imported:
    """A checkpoint that was trained elsewhere, looked at, and in no folder.

    Raises ModelError for weights or a model that do not fit, DataError for data or classes, SplitError
    for ids that are not there, ConfigError for settings.
    """
    check_source(data, model, place)
    if how.test not in (None, NO_TEST):
        DataSpec.parse(how.test or "").check(place.data_dir, allow_code=TYPED)
    if how.test == NO_TEST and how.expect is not None:
        raise ConfigError(
            "--test none says that there is no test set, and --expect-accuracy is an accuracy on one; "
            "leave one of them out, or name test data by --test DATA"
        )
    if weights is not None:
        check_weights_file(weights)  # by its first bytes, before torch is imported
    elif library_of(model) != "hf":
        raise ConfigError(f"{model} comes without weights; name a file of them with --weights")
    held, learned = _listed(how.validation), _listed(how.trained_on)
    _check_normalisation(how.mean, how.std)
    _check_scale(how, images=DataSpec.parse(data).base in BUILT_IN)  # of others a look tells
    names = None if how.classes is None else _class_lines(how.classes)
    _check_expected(how.expect)
    with loading():
        from expunge.api import adopt
        from expunge.models.checkpoint import read_checkpoint
        from expunge.models.state import check_state
        from expunge.training.hub import as_read_by
        from expunge.training.session import constructor

    saved = None if weights is None else read_checkpoint(weights, key=how.key)
    if names is None and library_of(model) == "hf":
        names = list(labels_beside(model, weights) or ()) or None
    loaded = as_read_by(model, _loaded(sized(data, model), how, names, task, place), place.progress)
    loaded = loaded.with_normalisation(loaded.fixed_normalisation)
    split, told = _imported_split(loaded, learned, held)
    _check_inputs(loaded, split, how)
    make = constructor(model, loaded, split, allow_code=TYPED)
    fresh: str | HubModel = model
    if isinstance(make, HubModel):
        network, fresh = make.checkpoint(weights)
    else:
        network = make()
    taken = None if saved is None else saved.into(network)
    check_state(network)
    adopted = adopt(
        network,
        loaded,
        recipe=how.recipe,
        fresh=fresh,
        split=split,
        mask=None if taken is None else taken.mask,
        allow_code=TYPED,
    )
    record = adopted.record.model_copy(
        update={"settings": {"weights": clean_name(Path(weights or model).name)}}
    )
    looked = _looked_at(replace(adopted, history=(record,)), place)
    return replace(looked, taken=taken, read_as=told, ordered=names is not None)


def _loaded(
    data: str, how: Elsewhere, names: list[str] | None, task: str | None, place: Place
) -> Data:
    """The data as the model knows them: its test set, its order of classes, its normalisation."""
    from expunge.data.load import in_order, load_data
    from expunge.data.transform import Normalisation

    with place.progress.work(f"reading {data}"):
        own = names if how.classes is None else None
        try:
            loaded = load_data(
                data,
                data_dir=place.data_dir,
                classes=own,
                task=task,
                test=OWN_TEST,
                allow_code=TYPED,
            )
        except DataError as error:
            if own is None:
                raise
            raise DataError(
                f"{error}; the model's config.json (id2label) calls its classes {listed(own)}: give the "
                "data, or it, the same names"
            ) from error
        if names is not None and own is None:
            _check_classes(names, loaded.classes, how.classes)
            loaded = in_order(loaded, names)
        if how.test is not None:
            loaded = load_data(loaded, data_dir=place.data_dir, test=how.test, allow_code=TYPED)
    if how.expect is not None and not len(loaded.test):
        raise ConfigError(
            f"{data} bring no test set, and the accuracy that is expected is one on test samples; name "
            "them with --test DATA"
        )
    normal = Normalisation(tuple(how.mean), tuple(how.std)) if how.mean and how.std else None
    return loaded if normal is None else loaded.with_normalisation(normal)


def _looked_at(model: Trained, place: Place) -> Imported:
    """Outputs of a copy of a model, for it may count or keep what it is shown, on its test set, or on
    samples that it learned from.
    """
    from expunge.audits.observe import observe_learned, observe_test
    from expunge.models.copying import copied
    from expunge.training.run import Run, accelerator_on

    data, twin = model.data, copied(model.model)
    run = Run(accelerator=accelerator_on(place.device), progress=place.progress, task=data.task)
    tested = bool(len(data.test))
    try:
        if tested:
            seen = observe_test(twin, data, run)
        else:
            seen = observe_learned(twin, data, model.split, run, most=FIRST_LOOK)
    except LogitsError as error:
        return Imported(model, tested, None, str(error))
    except UserError:
        raise
    except Exception as error:  # whatever a model of somebody's own raises
        raise ModelError(
            f"the model fails on these inputs ({in_a_line(error)[:LONGEST]}); see to its code, and to "
            "the shape of the data"
        ) from error
    if seen.classes < len(data.classes):
        raise ModelError(
            f"the model has {seen.classes} outputs, and the data have {len(data.classes)} classes; "
            "import it with the data that it was trained on"
        )
    return Imported(model, tested, seen, swapped=_swapped(seen, data.classes))


def _swapped(seen: PartOutputs, classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Circles of classes of which each is mostly called the next: so it is where their order is not the
    model's. A class of fewer than 5 samples says nothing.
    """
    import numpy as np

    labels, called = seen.labels.numpy(), seen.predicted.numpy()
    following = {}
    for one in np.unique(labels).tolist():
        said = np.bincount(called[labels == one])
        most = int(said.argmax())
        if most != one and said.sum() >= 5 and 2 * said[most] > said.sum():
            following[one] = most
    circles: list[tuple[str, ...]] = []
    done: set[int] = set()
    for first in following:
        path: list[int] = []
        one = first
        while one in following and one not in done:
            done.add(one)
            path.append(one)
            one = following[one]
        if one in path:
            circles.append(tuple(classes[index] for index in path[path.index(one) :]))
    return tuple(circles)


def _check_accuracy(looked: Imported, expected: float | None) -> None:
    """Raise ConfigError for a model that is clearly not as good, or bad, as it should be."""
    if expected is None:
        return
    if looked.seen is None or looked.accuracy is None:
        raise ConfigError(f"no accuracy can be expected: {looked.why}")
    from expunge.scores.statistics import wilson

    seen, value = looked.seen, looked.accuracy
    low, high = (100 * one for one in wilson(int(seen.correct.sum()), seen.n))
    if abs(value - expected) > POINT and not low <= expected <= high:
        told = in_words(looked)
        raise ConfigError(
            f"test accuracy {value:.2f} % ({low:.1f} to {high:.1f}) on {seen.n:,} samples, not "
            f"{expected:g} %; nothing was written: "
            + (told or "see to the normalisation (--mean, --std) and the data")
        )


def in_words(looked: Imported) -> str:
    """What to say of classes that look swapped; empty where none do."""
    swapped = looked.swapped
    if not swapped:
        return ""
    remedy = (
        "see to their order in the file of --classes, and to the labels of the data"
        if looked.ordered
        else "give --classes"
    )
    if len(swapped) == 1 and len(swapped[0]) == 2:
        one, other = swapped[0]
        return f"these two classes look swapped: {one!r} and {other!r}; {remedy}"
    names = listed([name for circle in swapped for name in circle])
    return f"these classes look to be in another order: {names}; {remedy}"


def _check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Raise ConfigError for means and deviations that fit no data."""
    if (mean is None) != (std is None):
        raise ConfigError("mean and std belong together; give both or neither")
    if mean is None or std is None:
        return
    if len(mean) != len(std):
        raise ConfigError(_uneven(len(mean), len(std)))
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise ConfigError("means must be numbers, and deviations must be above 0")


def _check_scale(how: Elsewhere, *, images: bool) -> None:
    """Raise ConfigError for the normalisation of images in units of 0 to 255."""
    if not images or how.mean is None or how.std is None or max(*how.mean, *how.std) <= 1:
        return
    divided = (",".join(f"{one / 255:.3g}" for one in values) for values in (how.mean, how.std))
    mean, std = divided
    raise ConfigError(
        "mean and std are those of inputs from 0 to 1, and these look like 0 to 255; divide them by "
        f"255: --mean {mean} --std {std}"
    )


def _check_inputs(data: Data, split: Split, how: Elsewhere) -> None:
    """Raise ConfigError for a normalisation that does not fit the inputs."""
    if how.mean is None or how.std is None:
        return
    import numpy as np
    import torch

    from expunge.data.batch import first_tensor

    row = data.train.position[split.retain[0]]
    one = data.train.store.fetch(np.array([row]), torch.device("cpu"))
    _check_scale(how, images=first_tensor(one).dtype == torch.uint8)
    channels = data.train.shape(row)[0]
    if len(how.mean) != channels:
        raise ConfigError(_uneven(len(how.mean), len(how.std), f" for {channels} channels"))


def _uneven(means: int, deviations: int, channels: str = "") -> str:
    return f"{means} means and {deviations} deviations{channels}; give one of each per channel"


def _check_expected(expected: float | None) -> None:
    """Raise ConfigError for what is no accuracy in percent."""
    if expected is not None and not 1 < expected <= 100:
        raise ConfigError(
            f"an accuracy of {expected:g} is expected; give it in percent, as in --expect-accuracy 93.5"
        )


def _class_lines(file: str | Path) -> list[str]:
    """Class names of a file, one a line. Raises ConfigError for what holds none, or one twice."""
    try:
        names = read_ids(str(file))
    except SplitError as error:
        raise ConfigError(f"--classes: {error}") from error
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ConfigError(
            f"{file} names the class {twice[0]!r} twice; give each output its own name"
        )
    return names


def _check_classes(names: list[str], own: Sequence[str], file: str | Path | None) -> None:
    """Raise DataError for class names that are not those of the data."""
    unknown, lacking = sorted(set(names) - set(own)), sorted(set(own) - set(names))
    if lacking:
        raise DataError(
            f"{file} lacks {lacking[0]!r}, a class of the data ({len(lacking)} such); name the classes "
            f"of the data, in the order of the model's outputs: {listed(own)}"
        )
    if unknown:
        raise DataError(
            f"{file} names {unknown[0]!r}, which is no class of the data ({len(unknown)} such); there "
            f"are: {listed(own)}"
        )


def _listed(source: str | None) -> list[str] | None:
    return None if source is None else read_ids(source.removeprefix("ids:"))


def _imported_split(
    data: Data, trained_on: list[str] | None, validation: list[str] | None
) -> tuple[Split, tuple[str, ...]]:
    """What a model learned from, and what of the lists was no id, in words."""
    from expunge.data.split import Split

    held, told = _looked_up(data, validation, "--validation")
    named, more = _looked_up(data, trained_on, "--trained-on")
    learned = set(data.train.ids.tolist()) - held if trained_on is None else named
    both = held & learned
    if both:
        raise SplitError(
            f"id {sorted(both)[0]!r} is in --trained-on and in --validation; take it out of one"
        )
    if not learned:
        raise SplitError("no sample is left that the model learned from; shorten --validation")
    order = data.train.ids.tolist()
    split = Split(
        retain=tuple(name for name in order if name in learned),
        validation=tuple(name for name in order if name in held),
        excluded=tuple(name for name in order if name not in learned and name not in held),
    )
    return split, (*told, *more)


def _looked_up(data: Data, lines: list[str] | None, what: str) -> tuple[set[str], tuple[str, ...]]:
    """The samples of a list, read as a request's is, and what of it was no id, in words.

    Raises SplitError for what is not in the training data.
    """
    from expunge.data.lookup import look_up
    from expunge.data.split import unknown_ids

    if lines is None:
        return set(), ()
    try:
        found = look_up(lines, data)
        rows = data.train.rows_of(found.names)
        outside = [one for one, row in zip(found.names, rows, strict=True) if row < 0]
        if found.unknown or outside:
            raise unknown_ids(data, [*found.unknown, *outside], len(lines))
    except SplitError as error:
        raise SplitError(f"{what}: {error}; mend the list, or leave {what} out") from error
    if not found.names:
        raise SplitError(f"{what}: the list holds comments alone; write one id per line")
    return set(found.names), tuple(
        f"{what}: {line!r} is read as {listed(ids)}" for line, ids in found.read_as.items()
    )
