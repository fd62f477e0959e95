"""A source made of another: its samples as a method has changed them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from expunge.data.batch import Batch, Indices
from expunge.data.view import DataView, Source, Stream


@dataclass(frozen=True)
class DerivedSource:
    """Samples under other labels, or moved a little; the same ids and part, so each use is a read.

    They are never augmented: a change holds for the sample as it is stored.

    change: makes of a batch another one of the same samples, such as `batch.relabelled(...)`.
    """

    source: Source
    change: Callable[[Batch], Batch]

    @property
    def view(self) -> DataView:
        """Of the samples."""
        return self.source.view

    def __len__(self) -> int:
        return len(self.source)

    def batches(
        self, size: int, *, epoch: int = 0, shuffle: bool = True, augment: bool = True
    ) -> Stream:
        """The batches of one epoch, in the order that the samples have of themselves."""
        stream = self.source.batches(size, epoch=epoch, shuffle=shuffle, augment=False)
        return replace(stream, source=self)

    def read(self, batches: Sequence[Indices], epoch: int, augment: bool) -> Iterator[Batch]:
        """Read, count and change."""
        yield from map(self.change, self.source.read(batches, epoch, False))
