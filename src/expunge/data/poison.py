"""Poisoned training data: some samples carry a trigger and a wrong label, as an attacker leaves them.

The poison of a data specification is its suffix: `cifar10:5000+patch:size=4,share=0.1,target=cat`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.batch import Indices
from expunge.data.classes import resolve_class
from expunge.data.samples import ResidentStore, Samples, Store
from expunge.data.triggers import (
    TRIGGERS,
    Patch,
    Trigger,
    kind_of,
    number,
    read_options,
    read_trigger,
)
from expunge.errors import DataError, SplitError
from expunge.seeds import numpy_generator

KEYS = ("share", "target", "poison_seed")
_DEFAULT = Patch()
_SUFFIX = re.compile(rf"(?P<clean>.+?)\+(?P<kind>{'|'.join(TRIGGERS)})(?P<rest>:.*)?", re.DOTALL)


@dataclass(frozen=True)
class Poison:
    """Which training samples are poisoned, and how.

    Attributes:
        trigger: laid on them as they are stored, before any augmentation.
        share: of all training samples, of every class, in (0, 1); round(share * n) of them.
        target: the class that they are labelled as: a name, or an index as in "#3".
        poison_seed: of the draw; no other seed has a part in it.

    Raises:
        DataError: for a share out of range.
    """

    trigger: Trigger = _DEFAULT
    share: float = 0.1
    target: str = "#0"
    poison_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise DataError(
                f"the share of poisoned samples lies between 0 and 1, not {self.share:g}"
            )

    def __str__(self) -> str:
        rest = f"share={self.share!r},target={self.target},poison_seed={self.poison_seed}"
        return f"{self.trigger},{rest}"

    @classmethod
    def parse(cls, text: str) -> Poison:
        """Read `patch`, `patch:size=4x6,place=centre,share=0.05,target=cat`, `blend:file=hello.png`.

        A leading + is allowed. Raises DataError for unknown keys and values out of range.
        """
        kind, _, rest = text.strip().removeprefix("+").partition(":")
        trigger = kind_of(kind)
        options = read_options(rest, (*trigger.keys, *KEYS), kind)
        seed = options.get("poison_seed", "0")
        if not seed.isdecimal():
            raise DataError(f"poison_seed={seed}: write a whole number from 0")
        return cls(
            trigger.parse({key: value for key, value in options.items() if key in trigger.keys}),
            number("share", options.get("share", str(cls.share))),
            options.get("target", cls.target),
            int(seed),
        )

    def index(self, classes: Sequence[str]) -> int:
        """The target's class index. Raises DataError if there is no such class."""
        try:
            return resolve_class(self.target, classes)
        except SplitError as error:
            raise DataError(f"target of the poison: {error}") from error

    def settled(self, classes: Sequence[str]) -> Poison:
        """The same poison in one way of writing it, to be compared."""
        found = replace(
            self, trigger=self.trigger.absolute(), target=f"#{self.index(classes)}"
        )  # fmt: skip
        if "," in getattr(found.trigger, "file", ""):
            raise DataError(
                f"the pattern's path {getattr(found.trigger, 'file', '')} holds a comma, which cannot "
                "be written into a data specification; move the file"
            )
        return found


@dataclass(frozen=True)
class Poisoning:
    """What is known of the poison in some training data.

    Attributes:
        ids: of poisoned training samples.
        trigger: None where nobody knows it, as in a file that was poisoned elsewhere.
        target: class index; None where nobody knows it.
        own: those of `ids` that were of the target class before, as far as that is known.
        poison: how it was made, where it was made here.
    """

    ids: frozenset[str]
    trigger: Trigger | None = None
    target: int | None = None
    own: frozenset[str] = frozenset()
    poison: Poison | None = None


def split_poison(text: str) -> tuple[str, Poison | None]:
    """A data specification without its poison, and the poison; None where there is none.

    Only `+patch` or `+blend` at the end, alone or before a colon, is one: other plus signs belong to
    paths. For a path that ends so, add a slash.
    """
    match = _SUFFIX.fullmatch(text.strip())
    if match is None:
        return text, None
    if _SUFFIX.fullmatch(match["clean"]):
        raise DataError(f"{text!r}: one poison at a time; leave one of the two out")
    return match["clean"], Poison.parse(f"{match['kind']}{match['rest'] or ''}")


class PoisonedStore:
    """A store with a trigger on some of its rows, laid on copies when they are read.

    marked: (n,) whether each row carries the trigger. The clean store is never written to.
    """

    def __init__(self, clean: Store, marked: NDArray[np.bool_], trigger: Trigger) -> None:
        self.clean = clean
        self.marked = marked
        self.trigger = trigger

    def fetch(self, index: Indices, device: torch.device) -> Tensor:
        """Rows on the device, the marked ones with the trigger."""
        return self._laid(self.clean.fetch(index, device), index)

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Tensor]:
        """Rows of many batches; the clean store reads ahead as it does."""
        for index, raw in zip(batches, self.clean.stream(batches, device), strict=True):
            yield self._laid(raw, index)

    def rows(self, index: Indices) -> Store:
        """Some of the rows, marked as before."""
        return PoisonedStore(self.clean.rows(index), self.marked[index], self.trigger)

    def whole(self) -> Tensor | None:
        """A new tensor of all rows, where the clean ones are held in memory."""
        tensor = self.clean.whole()
        return None if tensor is None else self._laid(tensor, np.arange(len(self.marked)))

    def _laid(self, raw: Any, index: Indices) -> Tensor:
        if not isinstance(raw, Tensor):
            raise DataError(
                f"a trigger is laid on images, and these inputs are a {type(raw).__name__}"
            )
        rows = torch.from_numpy(np.flatnonzero(self.marked[index])).to(raw.device)
        out = raw.clone()
        if len(rows):
            out[rows] = self.trigger.apply(raw[rows])
        return out


def poison_samples(
    samples: Samples, poison: Poison, classes: Sequence[str]
) -> tuple[Samples, Poisoning]:
    """Training samples with some of them poisoned, and which.

    round(share * n) rows, drawn from all classes by the poison's own seed, get the trigger and the
    target's label; ids, order and all other samples stay as they are. `samples` is not changed.
    Where the inputs are held in memory, so are the poisoned ones, in a tensor of their own.

    Raises:
        DataError: if that is no sample or every one, if there is no such class, or if the trigger
            cannot be laid on these inputs.
    """
    target = poison.index(classes)
    count = round(poison.share * len(samples))
    if not 0 < count < len(samples):
        raise DataError(
            f"share={poison.share:g} of {len(samples)} training samples is {count}; choose one that "
            "poisons some and leaves some"
        )
    draw = numpy_generator("poison", poison.poison_seed)
    rows = np.sort(draw.choice(len(samples), count, replace=False))
    marked = np.zeros(len(samples), dtype=np.bool_)
    marked[rows] = True
    store: Store = PoisonedStore(samples.store, marked, poison.trigger)
    whole = store.whole()
    if whole is not None:
        store = ResidentStore(whole)  # laid once, not at every epoch; the clean tensor may go
    labels = samples.labels.copy()
    labels[rows] = target
    own = samples.ids[rows[samples.labels[rows] == target]]
    text = f"{poison.trigger.content()},{poison.share!r},{target},{poison.poison_seed}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    made = Poisoning(
        frozenset(samples.ids[rows].tolist()), poison.trigger, target, frozenset(own.tolist()),
        poison,
    )  # fmt: skip
    return (
        replace(samples, labels=labels, store=store, fingerprint=f"{samples.fingerprint}+{digest}"),
        made,
    )


def typed_trigger(text: str, samples: Samples) -> Trigger:
    """A trigger as typed, tried on the first of the samples.

    Raises:
        DataError: for a text that is none, or a trigger that does not fit these samples.
    """
    trigger = read_trigger(text)
    with_trigger(samples, trigger).store.fetch(np.array([0]), torch.device("cpu"))
    return trigger


def with_trigger(samples: Samples, trigger: Trigger) -> Samples:
    """The same samples, true labels and all, with the trigger on every one."""
    digest = hashlib.sha256(trigger.content().encode()).hexdigest()[:16]
    marked = np.ones(len(samples), dtype=np.bool_)
    return replace(
        samples, store=PoisonedStore(samples.store, marked, trigger),
        fingerprint=f"{samples.fingerprint}+{digest}",
    )  # fmt: skip
