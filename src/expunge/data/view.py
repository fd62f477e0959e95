"""The access contract: a method reads what it declared, through here, and every sample is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from expunge.data.batch import Batch, Indices, first_tensor
from expunge.data.chain import Chain, Steps
from expunge.data.classes import rows_by_class
from expunge.data.cuts import Cut, Cuts, cuts_of, struck_cuts
from expunge.data.keyed import Hashes, hashes_of, mixed
from expunge.data.labels import is_missing_text, whole_text
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.samples import Samples, resident
from expunge.data.split import Split, column_texts
from expunge.data.tokens import TokenStore
from expunge.data.transform import Draws, Transform, to_device
from expunge.errors import AccessError
from expunge.names.seeds import numpy_generator, torch_generator

T = TypeVar("T")
CHOICES = 2**16
"""Random choices of an augmentation that samples share by their ids, several to one."""


@dataclass(frozen=True)
class Stream:
    """Batches of one epoch; iterate it as often as wanted, always the same.

    `len()` is the number of steps; of struck batches it is that of the whole set, and there are fewer
    of them where some fell together.
    """

    source: Source
    order: Indices
    cuts: Cuts
    epoch: int
    augment: bool
    steps: int | None = None

    def __len__(self) -> int:
        return len(self.cuts) if self.steps is None else self.steps

    def __iter__(self) -> Iterator[Batch]:
        batches = [self.order[start:stop] for start, stop in self.cuts]
        read = self.source.read(batches, self.epoch, self.augment)
        return self.source.view.handed_out(read, len(batches))


@dataclass(frozen=True)
class Pairs:
    """Two streams side by side; the shorter cycles, shuffled anew each time round."""

    a: Source
    b: Source
    size: int
    epoch: int
    shuffle: bool
    augment: bool

    def __len__(self) -> int:
        steps = len(self._stream(self.a, 0)), len(self._stream(self.b, 0))
        return max(steps) if all(steps) else 0  # an empty side would cycle for ever

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        steps = len(self)
        sides = zip(range(steps), self._cycle(self.a), self._cycle(self.b), strict=False)
        pairs = ((one, other) for _, one, other in sides)
        return self.a.view.handed_out(pairs, steps)

    def _stream(self, source: Source, round_: int) -> Stream:
        epoch = self.epoch if round_ == 0 else self.epoch + 1_000_003 * round_
        return source.batches(self.size, epoch=epoch, shuffle=self.shuffle, augment=self.augment)

    def _cycle(self, source: Source) -> Iterator[Batch]:
        round_ = 0
        while True:
            yield from self._stream(source, round_)
            round_ += 1


class Source(Protocol):
    """Anything that hands out batches: a part, a subset of one, tensors, or a mix of these."""

    @property
    def view(self) -> DataView:
        """Through which it is read."""
        ...

    def __len__(self) -> int: ...

    def batches(
        self, size: int, *, epoch: int = 0, shuffle: bool = True, augment: bool = True
    ) -> Stream:
        """The batches of one epoch."""
        ...

    def read(self, batches: Sequence[Indices], epoch: int, augment: bool) -> Iterator[Batch]:
        """Read global batches given as positions in this source; yields this process's shares."""
        ...


@dataclass(frozen=True)
class PartSource:
    """Some rows of one part of the training data. Made by `DataView` alone."""

    view: DataView
    part: Part
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Tensor:
        """Class indices (n,) on the device."""
        return torch.from_numpy(self.view.samples.labels[self.rows]).to(self.view.device)

    def of_classes(self, classes: Tensor) -> PartSource:
        """Those of its samples that are of one of these classes (n,), by index; perhaps none."""
        among = np.isin(self.view.samples.labels[self.rows], classes.cpu().numpy())
        return replace(self, rows=self.rows[among])

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Black and white as the model reads them, see `Transform.bounds`; None for all but bytes.

        Of streamed data the first sample is read, and counted.
        """
        view = self.view
        raw: Any = resident(view.samples)
        if raw is None:
            raw = view.samples.store.fetch(self.rows[:1], view.device)
            view.reads[self.part] += int(view.rank == 0)  # all processes look at the same one
        return view.transform.bounds(raw, view.device)

    def batches(
        self, size: int, *, epoch: int = 0, shuffle: bool = True, augment: bool = True
    ) -> Stream:
        """The batches of one epoch, shuffled by (the view's seed names, epoch).

        Every sample of the training data draws its own sort key, so the order of the retain set is
        the order of the whole set with the forget set left out: a paired retraining.
        """
        count = len(self.rows)
        order = self.view.shuffled(self.rows, epoch) if shuffle else np.arange(count)
        return Stream(self, order, cuts_of(count, size), epoch, augment)

    def read(self, batches: Sequence[Indices], epoch: int, augment: bool) -> Iterator[Batch]:
        """Read, count, augment and normalise.

        Every sample of the training data has its own draws in an epoch, as it has its own sort key:
        who else is read, in which batches and by how many processes, changes nothing.
        """
        view = self.view
        shares = [view.share(self.rows[batch]) for batch in batches]
        drawn = view.draws(epoch)
        inputs = view.samples.store.stream([mine for mine, _ in shares], view.device)
        for (mine, weight), raw in zip(shares, inputs, strict=True):
            if weight:
                view.reads[self.part] += len(mine)
            draws = drawn(raw, mine) if augment else None
            labels = torch.from_numpy(view.samples.labels[mine]).to(view.device, non_blocking=True)
            ids = view.samples.ids[mine]
            yield Batch(ids, view.transform(raw, draws), labels, self.part, weight)


@dataclass(frozen=True)
class TensorSource:
    """Samples that a method made itself (noise, adversarial examples), already as model inputs.

    Each counts `repeats` times; it is held once, and indexed.
    """

    inputs: Tensor
    labels: Tensor
    view: DataView
    part: Part | None = None
    repeats: int = 1

    def __len__(self) -> int:
        return len(self.inputs) * self.repeats

    def batches(
        self, size: int, *, epoch: int = 0, shuffle: bool = True, augment: bool = True
    ) -> Stream:
        """The batches of one epoch; they are never augmented."""
        order = self.view.order(len(self), epoch, shuffle)
        return Stream(self, order, cuts_of(len(self), size), epoch, augment)

    def read(self, batches: Sequence[Indices], epoch: int, augment: bool) -> Iterator[Batch]:
        """Index the tensors; nothing is copied through the host."""
        for batch in batches:
            mine, weight = self.view.share(batch)
            mine = mine % len(self.inputs)
            rows = torch.from_numpy(mine).to(self.inputs.device)
            ids = np.char.add("made:", mine.astype(np.str_))
            yield Batch(ids, self.inputs[rows], self.labels[rows], self.part, weight)


@dataclass(frozen=True)
class MixSource:
    """Several sources shuffled together; a batch holds samples of each by chance.

    `Batch.forget` says which of them are to be forgotten.
    """

    sources: tuple[Source, ...]
    view: DataView

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def batches(
        self, size: int, *, epoch: int = 0, shuffle: bool = True, augment: bool = True
    ) -> Stream:
        """The batches of one epoch."""
        order = self.view.order(len(self), epoch, shuffle)
        return Stream(self, order, cuts_of(len(self), size), epoch, augment)

    def read(self, batches: Sequence[Indices], epoch: int, augment: bool) -> Iterator[Batch]:
        """Read each source's rows of a batch and join them."""
        starts = np.cumsum([0, *(len(source) for source in self.sources)])
        feeds = []
        for source, start, stop in zip(self.sources, starts, starts[1:], strict=False):
            rows = [batch[(batch >= start) & (batch < stop)] - start for batch in batches]
            # one stream per source, so that it can read ahead
            feeds.append((rows, source.read([row for row in rows if len(row)], epoch, augment)))
        for number, batch in enumerate(batches):
            pieces = [next(feed) for rows, feed in feeds if len(rows[number])]
            yield _join(pieces, self.view, len(batch))


@dataclass
class DataView:
    """The only way a method reaches data: declared parts, every sample counted.

    declared: what may be read; anything else raises AccessError at the call.
    names: seed names; the same names give the same batches.
    reads: samples read so far per part, in this process.
    cut: how `batches` cuts the shuffled retain set; for trainings that repeat an original's.
    rehearsal: sees each pass with its number of batches, and may end it early; see `Rehearsal`.
    apart: order and augmentation are drawn by each sample's id alone, see `by_id`.
    """

    data: Data
    split: Split
    declared: Part
    names: tuple[str | int, ...] = ("view",)
    transform: Transform = field(default_factory=Transform)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world: int = 1
    reads: Counter[Part] = field(default_factory=Counter)
    cut: Cut = "filled"
    rehearsal: Callable[[Iterator[Any], int], Iterator[Any]] | None = None
    apart: bool = False
    _rows: dict[Part, Indices] = field(default_factory=dict, repr=False)
    _hashed: dict[str, Hashes] = field(default_factory=dict, repr=False)

    def _rows_of(self, part: Part) -> Indices:
        if part not in self._rows:
            self._rows[part] = self.split.rows(self.samples, part)
        return self._rows[part]

    @property
    def samples(self) -> Samples:
        """The training samples. For this package's own use: methods read through `batches`."""
        return self.data.train

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes."""
        return self.data.classes

    @property
    def forgotten_classes(self) -> tuple[int, ...]:
        """Classes of which nothing is retained, by index: forgotten whole, now or by an earlier request.
        Labels alone say so; no sample is read.
        """
        return self.split.forgotten_classes(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input; read off a retain sample, uncounted, where the data are streamed."""
        return self.samples.shape(self.samples.position[self.split.retain[0]])

    def source(self, part: Part) -> PartSource:
        """One declared part as a source of batches."""
        if len(part.names()) != 1:
            raise AccessError(f"read one part at a time, not {' and '.join(part.names())}")
        if part not in self.declared:
            allowed = ", ".join(self.declared.names()) or "nothing"
            raise AccessError(f"this method reads {part.names()[0]} but declared only {allowed}")
        if part is Part.FORGET_LABELS:
            raise AccessError("the labels of the forget set have no inputs: use forget_labels()")
        return PartSource(self, part, self._rows_of(part))

    def size(self, part: Part) -> int:
        """How many samples a part has; allowed for any part, since no sample is read."""
        return len(self._rows_of(part))

    @property
    def normalised_by_its_own(self) -> bool:
        """Whether inputs are normalised by statistics of these very samples, and not by constants."""
        data = self.data
        return data.normalise and not data.fixed_normalisation and bool(data.normalisation)

    def keys(self, part: Part, column: str | None = None) -> NDArray[Any]:
        """Texts (n,): ids of a declared part's samples, or what a column of the data reads of them, the
        id where it reads nothing. No sample is read, so they are told of the forget set, too. Whole
        numbers read alike whether they are written as 1 or as 1.0, for that depends on other rows.

        Raises SplitError for a column that is not there.
        """
        rows = self._rows_of(part) if part is Part.FORGET else self.source(part).rows
        ids = self.samples.ids[rows]
        if column is None:
            return ids
        values = [str(one) for one in column_texts(self.data, column)[rows]]
        texts = [
            own if is_missing_text(one) else whole_text(one)
            for one, own in zip(values, ids.tolist(), strict=True)
        ]
        return np.array(texts, dtype=np.str_)

    def some(self, part: Part, chosen: NDArray[np.bool_]) -> PartSource:
        """Some samples of a declared part, (n,) bool in the order of `keys`."""
        return PartSource(self, part, self.source(part).rows[chosen])

    def by_id(self) -> DataView:
        """The same view, in which a sample's place in an order and its augmentation are drawn by its id
        alone: they are the same in data of which other samples are missing.
        """
        return replace(self, apart=True)

    def batches(
        self, part: Part, size: int, *, epoch: int = 0, shuffle: bool = True, augment: bool = True
    ) -> Stream:
        """Batches of `size` samples of a declared part.

        A short last batch (under 8) joins the one before it. Augmentation is the original recipe's.
        """
        source = self.source(part)
        stream = source.batches(size, epoch=epoch, shuffle=shuffle, augment=augment)
        if self.cut == "filled" or not shuffle or part is not Part.RETAIN:
            return stream
        if self.cut == "shifted":
            return replace(stream, cuts=cuts_of(len(source), size, first=(size + 1) // 2))
        # of the forget set its place in the order alone is asked for: no sample of it is read
        whole = np.sort(np.concatenate([source.rows, self._rows_of(Part.FORGET)]))
        stays = np.isin(whole[self.shuffled(whole, epoch)], source.rows)
        return replace(stream, cuts=struck_cuts(stays, size), steps=len(cuts_of(len(whole), size)))

    def forget_labels(self) -> Tensor:
        """Class indices (n,) of the forget set, counted as FORGET_LABELS; no input is touched."""
        if not self.declared & (Part.FORGET_LABELS | Part.FORGET):
            raise AccessError("this method reads forget_labels but did not declare them")
        rows = self._rows_of(Part.FORGET_LABELS)
        if self.rank == 0:  # all processes read the same labels: they count once
            self.reads[Part.FORGET_LABELS] += len(rows)
        return torch.from_numpy(self.samples.labels[rows]).to(self.device)

    def take(self, part: Part, n: int, *, per_class: bool = False) -> PartSource:
        """A seeded subset of a declared part: `n` samples, or `n` of each class, or all there are."""
        whole = self.source(part)
        generator = numpy_generator(*self.names, "take", part.names()[0])
        shuffled = generator.permutation(whole.rows)
        if per_class:
            labels = self.samples.labels[shuffled]
            each = [rows[:n] for rows in rows_by_class(labels).values()]
            shuffled = shuffled[np.concatenate(each)] if each else shuffled
        else:
            shuffled = shuffled[:n]
        return PartSource(self, part, np.sort(shuffled))

    def tensors(self, inputs: Tensor, labels: Tensor, *, repeats: int = 1) -> TensorSource:
        """Samples of the method's own making as a source: (n, ...) model inputs, (n,) labels.

        repeats: how often each of them counts; memory does not grow with it.
        """
        return TensorSource(inputs, labels, self, repeats=repeats)

    def mix(self, *sources: Source) -> MixSource:
        """Sources shuffled together."""
        return MixSource(sources, self)

    def pairs(
        self,
        a: Source,
        b: Source,
        size: int,
        *,
        epoch: int = 0,
        shuffle: bool = True,
        augment: bool = True,
    ) -> Pairs:
        """Batches of `a` beside batches of `b`; the shorter side cycles, reshuffled."""
        return Pairs(a, b, size, epoch, shuffle, augment)

    def chain(self, *streams: Steps) -> Chain:
        """One stream after another, as one: a pass over the forget set, then one over the retain set.

        `Batch.part` tells the steps apart.
        """
        return Chain(streams)

    def named(self, name: str) -> DataView:
        """The same view for a part of a run's work, such as a further `fit`: see `Run.named`.

        Its batches come in another order, with other augmentation; what it reads counts in `reads`.
        """
        return replace(self, names=(*self.names, name))

    def handed_out(self, batches: Iterator[T], count: int) -> Iterator[T]:
        """The batches of one pass; in a rehearsal only some of the `count`."""
        return batches if self.rehearsal is None else self.rehearsal(batches, count)

    def shuffled(self, rows: Indices, epoch: int) -> Indices:
        """Positions of some rows of the training data, in this epoch's order."""
        if self.apart:
            return np.argsort(self._hashes(rows, "order", epoch), kind="stable")
        keys = numpy_generator(*self.names, "order", epoch).random(len(self.samples))[rows]
        order = np.argsort(keys)  # faster than a stable sort, and the same where all keys differ
        drawn = keys[order]
        return np.argsort(keys, kind="stable") if (drawn[1:] == drawn[:-1]).any() else order

    def draws(self, epoch: int) -> Callable[[Any, Indices], Draws | None]:
        """Of this epoch's augmentation: (raw inputs, their rows) -> their random choices.

        Choices are drawn for the whole training set at once, and anew only for inputs of another size.
        """
        made: dict[tuple[int, ...], Draws | None] = {}

        def of(raw: Any, rows: Indices) -> Draws | None:
            extent = tuple(raw.shape[2:]) if isinstance(raw, Tensor) else ()
            if extent not in made:
                generator = torch_generator(*self.names, "augment", epoch)
                count = CHOICES if self.apart else len(self.samples)
                made[extent] = self.transform.draw(raw, count, generator)
            whole = made[extent]
            if whole is not None and self.apart:
                rows = (self._hashes(rows, "augment", epoch) % CHOICES).astype(np.int64)
            return None if whole is None else whole.of(rows)

        return of

    def _hashes(self, rows: Indices, *key: str | int) -> Hashes:
        """Of the ids of some rows, for this view's seed names."""
        if "ids" not in self._hashed:
            self._hashed["ids"] = hashes_of(self.samples.ids, "ids")
        return mixed(self._hashed["ids"][rows], *self.names, *key)

    def order(self, count: int, epoch: int, shuffle: bool) -> Indices:
        """Positions 0 to count - 1, shuffled by (seed names, epoch) if asked."""
        if not shuffle:
            return np.arange(count)
        return numpy_generator(*self.names, "order", epoch).permutation(count)

    def share(self, batch: Indices) -> tuple[Indices, float]:
        """This process's share of a global batch, and its weight (see `Batch.weight`)."""
        mine = batch[self.rank :: self.world]
        if len(mine):
            return mine, len(mine) * self.world / len(batch)
        return batch[:1], 0.0  # keeps this process in step, and counts for nothing


def _join(pieces: list[Batch], view: DataView, total: int) -> Batch:
    """Batches of several sources as one; stand-ins of weight 0 drop out unless they are all."""
    real = [piece for piece in pieces if piece.weight] or pieces[:1]
    count = sum(len(first_tensor(piece.inputs)) for piece in real if piece.weight)
    device = first_tensor(real[0].inputs).device
    labels = [piece.labels for piece in real if piece.labels is not None]
    inputs = [to_device(piece.inputs, device) for piece in real]
    store = view.samples.store
    return Batch(
        ids=np.concatenate([piece.ids for piece in real]),
        inputs=store.joined(inputs)
        if isinstance(store, TokenStore)
        else tree_map(lambda *leaves: torch.cat(leaves), *inputs),
        labels=torch.cat(labels) if len(labels) == len(real) else None,
        part=real[0].part if len({piece.part for piece in real}) == 1 else None,
        weight=count * view.world / total,
        of_forget=torch.cat([piece.forget.to(device) for piece in real]),
    )
