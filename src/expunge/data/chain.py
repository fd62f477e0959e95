"""One stream of batches after another, as one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


class Steps(Protocol):
    """Batches, or tuples of them, and how many: a `Stream`, `Pairs`, a `Chain`, or a list."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class Chain:
    """One stream after another; `len()` is the number of steps of all."""

    streams: tuple[Steps, ...]

    def __len__(self) -> int:
        return sum(len(stream) for stream in self.streams)

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.streams)
