"""A rehearsal: how long a run would take, found by making a few steps of each kind and no more.

The run itself is made, on a private copy. Each of its passes over data ends after a while, and so does
each training, and time goes on as if what is left out had been done.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from expunge.data.chain import Chain
from expunge.data.view import MixSource, Pairs, Stream
from expunge.errors import ExpungeError
from expunge.training.pace import Pace

T = TypeVar("T")
ENOUGH_SECONDS, ENOUGH_STEPS = 0.4, 3
"""Of each kind of step so many seconds are spent, and so many steps are made at least."""
PATIENCE = 3
"""So many times as long as it may take it goes on, for what cannot be cut short; then it is given up."""
MOST_STREAMS = 64
"""Epochs whose streams are kept at hand for these steps."""


class RehearsalError(ExpungeError):
    """A rehearsal took longer than it may."""


@dataclass
class Rehearsal:
    """What is known so far of how long a run would take.

    seconds: that a kind of step is measured for. most: that all of it may take: after that a single
        step of a kind must do.
    whole_passes: passes over data outside of a training are made in full, for methods that keep what
        they find of each sample. clock: in seconds. skipped: seconds of what was left out.
    """

    seconds: float = ENOUGH_SECONDS
    most: float = math.inf
    whole_passes: bool = False
    clock: Callable[[], float] = time.perf_counter
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    skipped: float = 0.0
    _busy: bool = False
    _begin: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._begin = self.clock()

    def now(self) -> float:
        """Seconds on the clock, as if all that was left out had been done.

        Raises RehearsalError where it has taken far too long.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        real = self.clock()
        if real - self._begin > PATIENCE * self.most:
            raise RehearsalError("the rehearsal took longer than it may")
        return real + self.skipped

    def a_pass(self, batches: Iterator[T], count: int) -> Iterator[T]:
        """Some of the `count` batches of a pass; within another pass or a training, all."""
        if self._busy or self.whole_passes:
            for batch in batches:
                self.now()
                yield batch
        else:
            yield from self._alone(self.some(batches, count))

    def training(self, batches: Callable[[int], Iterable[Any]], pace: Pace) -> ShortTraining:
        """What `fit` trains on in place of all its epochs."""
        return ShortTraining(self, batches, pace)

    def some(self, batches: Iterator[T], count: int) -> Iterator[T]:
        """Batches until enough is known of them; the rest of the `count` takes as long as these did.

        The first one warms up, and says nothing where others follow.
        """
        begin, start, made, first = self.clock(), self.now(), 0, 0.0
        for made, batch in enumerate(batches, 1):
            yield batch
            first = self.now() if made == 1 else first
            clock = self.clock()
            enough = made >= ENOUGH_STEPS and clock - begin >= self.seconds
            if enough or clock - self._begin > self.most:
                break
        if made:
            now = self.now()
            each = (now - first) / (made - 1) if made > 1 else now - start
            self.skipped += max(0, count - made) * each

    def _alone(self, batches: Iterator[T]) -> Iterator[T]:
        """The same, while passes within it are left as they are."""
        self._busy = True
        try:
            yield from batches
        finally:
            self._busy = False


class ShortTraining:
    """Some batches of each kind of all epochs of a training."""

    def __init__(
        self, rehearsal: Rehearsal, batches: Callable[[int], Iterable[Any]], pace: Pace
    ) -> None:
        self.rehearsal = rehearsal
        self.epochs = 0
        self.streams: dict[Hashable, list[Any]] = {}
        self.counts: Counter[Hashable] = Counter()
        self._stepped: float | None = None
        self._plan(batches, pace)

    def _plan(self, batches: Callable[[int], Iterable[Any]], pace: Pace) -> None:
        """Count the steps of each kind; where epochs take long to plan, the rest are as the last is."""
        begin = self.rehearsal.clock()
        for epoch in pace.rounds():
            self.epochs += 1
            last: Counter[Hashable] = Counter()
            for stream in _parts(batches(epoch)):
                left = math.inf if pace.steps is None else pace.steps - self.counts.total()
                length = _length(stream)
                if length is None and pace.steps is not None:
                    length = pace.steps  # it is asked for no more
                kind = _kind(stream) if length is not None else None
                self.streams.setdefault(kind, [])
                if len(self.streams[kind]) < MOST_STREAMS:
                    self.streams[kind].append(stream)
                last[kind] += int(min(left, length or 0))
                self.counts[kind] += int(min(left, length or 0))
            if None in self.streams or not self.counts:  # nobody knows how many steps it has
                self.epochs = max(1, pace.epochs - pace.first_epoch)
                break
            if pace.steps is not None:
                if self.counts.total() >= pace.steps or not last.total():
                    break
            elif epoch > pace.first_epoch and self.rehearsal.clock() - begin > ENOUGH_SECONDS:
                rest = pace.epochs - epoch - 1
                self.epochs += rest
                self.counts.update({kind: rest * steps for kind, steps in last.items()})
                break

    def __iter__(self) -> Iterator[Any]:
        return self.rehearsal._alone(self._steps())

    def _steps(self) -> Iterator[Any]:
        whole = self.rehearsal.now()
        for kind, streams in self.streams.items():
            if kind is None:
                yield from streams[0]
            else:
                steps = itertools.chain.from_iterable(streams)
                count = self.counts[kind]
                yield from self.rehearsal.some(itertools.islice(steps, count), count)
        self._stepped = self.rehearsal.now()
        if None in self.streams:
            self.rehearsal.skipped += (self._stepped - whole) * (self.epochs - 1)
            self._stepped = self.rehearsal.now()

    def end(self) -> None:
        """What came after the steps comes after those of each epoch."""
        if self._stepped is not None:
            self.rehearsal.skipped += (self.rehearsal.now() - self._stepped) * (self.epochs - 1)


def _parts(stream: Any) -> Iterator[Any]:
    """The streams that a stream is made of, one after another."""
    if isinstance(stream, Chain):
        for one in stream.streams:
            yield from _parts(one)
    else:
        yield stream


def _kind(stream: Any) -> Hashable:
    """What its steps have in common: where their batches come from."""
    if isinstance(stream, Pairs):
        return _from(stream.a), _from(stream.b)
    return _from(stream.source) if isinstance(stream, Stream) else type(stream).__name__


def _from(source: Any) -> Hashable:
    if isinstance(source, MixSource):
        return tuple(_from(one) for one in source.sources)
    return getattr(source, "part", None) or type(source).__name__


def _length(stream: Any) -> int | None:
    try:
        return len(stream)
    except TypeError:
        return None


_going_on: ContextVar[Rehearsal | None] = ContextVar("rehearsal", default=None)


@contextmanager
def rehearsing(rehearsal: Rehearsal) -> Iterator[None]:
    """Make all runs that are opened inside a rehearsal."""
    token = _going_on.set(rehearsal)
    try:
        yield
    finally:
        _going_on.reset(token)


def going_on() -> Rehearsal | None:
    """The rehearsal that a run which is opened now belongs to; None: it is meant."""
    return _going_on.get()
