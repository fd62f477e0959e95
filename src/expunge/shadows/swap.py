"""Two worlds that differ in what was learned and then forgotten: F in one, T in the other.

T are samples that nobody learned from, as many as F and of the same classes. After an exact method
nothing tells the two worlds apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch

from expunge.api import unlearn
from expunge.audits.shadows import Swapped
from expunge.data.batch import Ids, Indices
from expunge.data.classes import rows_by_class
from expunge.data.load import Data
from expunge.data.samples import ResidentStore, Samples, resident
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.methods import Method
from expunge.names.seeds import numpy_generator
from expunge.place import HERE, Place
from expunge.shadows.audited import method_of
from expunge.shadows.training import as_original, trained_on
from expunge.trained.trained import Trained


def swapped(
    original: Trained, subject: Trained, *, seed: int = 0, place: Place = HERE
) -> Callable[[], Swapped]:
    """What makes both worlds of a model that forgot: three trainings, and the method twice.

    original: it before. seed: of all trainings, of both runs of the method, and of which samples are
    taken for T; of F as many stay as there are samples for T of each class.

    Raises ConfigError where the original cannot be trained again, the model forgot in several requests,
    or there is no sample that nobody learned from of a forgotten class.
    """
    if original.recipe is None or original.fresh is None or original.trained_by is not None:
        raise ConfigError(
            f"{original.name} cannot be trained again from scratch, and models of swapped samples are; "
            "give an original that was trained by a recipe alone"
        )
    method = method_of(subject, allow_code=place.allow_code)
    forget, others = _pairs(original.data, subject.split, seed)
    if not forget:
        raise ConfigError(
            f"nobody kept a sample unseen of the classes that {subject.name} forgot, and swapping needs "
            "some: train with a validation set, or give data with a test set"
        )
    return cache(partial(_made, original, subject.split, method, forget, others, seed, place))


def _made(
    original: Trained,
    asked: Split,
    method: Method,
    forget: Sequence[str],
    others: Sequence[str],
    seed: int,
    place: Place,
) -> Swapped:
    place = replace(place, strike=False)  # nothing is deleted here
    world = replace(original, data=_with_all(original.data, others))
    held = tuple(name for name in asked.validation if name not in {*others})
    away = tuple(sorted({*asked.excluded, *asked.forget, *others}))
    names, done = ("swap", seed), []
    with place.progress.work("swapping what is learned and forgotten", 5) as bar:

        def one(learned: Sequence[str], label: str) -> Trained:
            kept = {*learned, *asked.retain}
            rest = tuple(name for name in away if name not in kept)
            split = Split((*asked.retain, *learned), (), held, rest)
            network = trained_on(world, split, names, place, label)
            bar.advance()
            return as_original(world, network, split, names)

        for ids, label in ((forget, "what was forgotten"), (others, "others in its place")):
            before = one(ids, f"training on {label}")
            done.append(
                unlearn(
                    before,
                    list(ids),
                    method,
                    names=(*names, "forget"),
                    place=place,
                    allow_code=place.allow_code,
                )
            )
            bar.advance()
        alone = one((), "retraining without both")
    return Swapped(
        done[0],
        done[1],
        replace(alone, split=done[0].split),
        replace(alone, split=done[1].split),
        tuple(forget),
        tuple(others),
    )


def _pairs(data: Data, asked: Split, seed: int) -> tuple[list[str], list[str]]:
    """F and T, equally many, the samples at one place of one class; drawn where there are more."""
    unseen = [*asked.validation, *(_new_names(data) if _can_join(data) else [])]
    labels = np.concatenate(
        [
            data.train.labels[data.train.rows_of(asked.validation)],
            data.test.labels[: len(unseen) - len(asked.validation)],
        ]
    )
    asked_for = data.train.labels[data.train.rows_of(asked.forget)]
    known, there = rows_by_class(asked_for), rows_by_class(labels)
    generator = numpy_generator("swap", seed, "samples")
    forget: list[str] = []
    others: list[str] = []
    for label, rows in known.items():
        found = there.get(label, rows[:0])
        count = min(len(rows), len(found))
        forget += [asked.forget[row] for row in np.sort(generator.permutation(rows)[:count])]
        others += [unseen[row] for row in np.sort(generator.permutation(found)[:count])]
    return forget, others


def _can_join(data: Data) -> bool:
    """Whether samples of the test set can be learned from too: those that are held in memory."""
    return len(data.test) > 0 and all(resident(one) is not None for one in (data.train, data.test))


def _new_names(data: Data) -> list[str]:
    """What samples of the test set are called among the training samples: as none of these is."""
    known = data.train.rows_of(data.test.ids.tolist()) >= 0
    return [
        f"test/{name}" if taken else name
        for name, taken in zip(data.test.ids.tolist(), known.tolist(), strict=True)
    ]


def _with_all(data: Data, names: Sequence[str]) -> Data:
    """Data whose training set holds these samples, some of which may be of the test set so far."""
    lacking = {name for name in names if name not in data.train.position}
    if not lacking:
        return data
    new = np.array(_new_names(data), dtype=np.str_)
    rows: Indices = np.flatnonzero(np.isin(new, [*lacking]))
    train = _joined(data.train, data.test.subset(rows), new[rows])
    rest: Indices = np.setdiff1d(np.arange(len(data.test)), rows)
    normal = data.normalisation  # of the original: what it was trained with
    return replace(data, train=train, test=data.test.subset(rest)).with_normalisation(normal)


def _joined(train: Samples, moved: Samples, names: Ids) -> Samples:
    """Samples held in memory, and some more under other names; further columns are left out."""
    both = [resident(one) for one in (train, moved)]
    return Samples(
        ids=np.concatenate([train.ids, names]),
        labels=np.concatenate([train.labels, moved.labels]),
        store=ResidentStore(torch.cat([one for one in both if one is not None])),
        fingerprint=f"{train.fingerprint}+{moved.fingerprint}",
        positional=False,
    )
