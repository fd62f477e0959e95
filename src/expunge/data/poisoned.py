"""Samples that carry a trigger: how poisoned training data and triggered test data are made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.batch import Indices
from expunge.data.poison import Poison, Poisoning, Target, wanted_of
from expunge.data.samples import ResidentStore, Samples, Store
from expunge.data.triggers import Trigger, read_trigger
from expunge.errors import DataError
from expunge.names.seeds import numpy_generator


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
    target's label; where labels are kept, from the target's class alone. Ids, order and all other
    samples stay as they are. `samples` is not changed.
    Where the inputs are held in memory, so are the poisoned ones, in a tensor of their own.

    Raises:
        DataError: if that is no sample or every one, if there is no such class, or if the trigger
            cannot be laid on these inputs.
    """
    target = poison.aim(classes)
    rows = _drawn(samples, poison, target)
    marked = np.zeros(len(samples), dtype=np.bool_)
    marked[rows] = True
    store: Store = PoisonedStore(samples.store, marked, poison.trigger)
    whole = store.whole()
    if whole is not None:
        store = ResidentStore(whole)  # laid once, not at every epoch; the clean tensor may go
    labels = samples.labels.copy()
    labels[rows] = wanted_of(samples.labels[rows], target, len(classes))
    own = samples.ids[rows[samples.labels[rows] == labels[rows]]]
    text = f"{poison.trigger.content()},{poison.share!r},{target},{poison.poison_seed}"
    if poison.clean_label:
        text += f",{poison.labels}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    made = Poisoning(
        frozenset(samples.ids[rows].tolist()),
        poison.trigger,
        target,
        frozenset(own.tolist()),
        poison,
    )
    return (
        replace(
            samples,
            labels=labels,
            store=store,
            fingerprint=f"{samples.fingerprint}+{digest}",
            checked=True,
        ),
        made,
    )


def _drawn(samples: Samples, poison: Poison, target: Target) -> Indices:
    """Rows to poison, sorted."""
    count = round(poison.share * len(samples))
    if not 0 < count < len(samples):
        raise DataError(
            f"share={poison.share:g} of {len(samples)} training samples is {count}; choose one that "
            "poisons some and leaves some"
        )
    among = np.arange(len(samples))
    if poison.clean_label:
        among = np.flatnonzero(samples.labels == target)
        if count > len(among):
            raise DataError(
                f"share={poison.share:g} of {len(samples)} training samples is {count}, and only "
                f"{len(among)} are of the target, which alone carry a trigger where labels are kept; "
                f"lower share to {len(among) / len(samples):.2g} or less"
            )
    draw = numpy_generator("poison", poison.poison_seed)
    return np.sort(among[draw.choice(len(among), count, replace=False)])


def typed_trigger(text: str, samples: Samples) -> Trigger:
    """A trigger as typed, tried on the first of the samples.

    Raises:
        DataError: for a text that is none, a trigger that does not fit these samples, or no samples.
    """
    trigger = read_trigger(text)
    if not len(samples):
        raise DataError(
            "a trigger is laid on test images, and this model has no test set; import it with --test "
            "DATA, or leave --trigger out"
        )
    with_trigger(samples, trigger).store.fetch(np.array([0]), torch.device("cpu"))
    return trigger


def with_trigger(samples: Samples, trigger: Trigger) -> Samples:
    """The same samples, true labels and all, with the trigger on every one."""
    digest = hashlib.sha256(trigger.content().encode()).hexdigest()
    marked = np.ones(len(samples), dtype=np.bool_)
    return replace(
        samples,
        store=PoisonedStore(samples.store, marked, trigger),
        fingerprint=f"{samples.fingerprint}+{digest}",
        checked=True,
    )
