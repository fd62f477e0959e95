"""The processes that work on a study: on this machine here, on a cluster in `cluster`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from expunge.place import Place
from expunge.study.cells import Cell
from expunge.study.runner import Worker
from expunge.study.store import CellStore
from expunge.study.work import Bench
from expunge.training.processes import Processes


@dataclass(frozen=True)
class Orders:
    """What every worker of a crew is told; plain data, so that it reaches another machine."""

    cells: Sequence[Cell]
    folder: str
    place: Place
    keep_all: bool
    run: str
    renew: bool


class Crew(Protocol):
    """Workers that have been started."""

    size: int

    def alive(self) -> bool:
        """Whether any of them is still at work."""
        ...

    def replace(self, killers: int) -> bool:
        """Start a worker in place of each that a cell killed; whether any was started.

        killers: how many cells have killed one. Who ended otherwise would do so again.
        """
        ...

    def end(self) -> list[str]:
        """Stop those that are left; why others ended before their time, one line each."""
        ...


def follow(orders: Orders) -> None:
    """A worker's work, in one thread: until nothing is left that it could do."""
    torch.set_num_threads(1)
    bench = Bench(CellStore(orders.folder), orders.place, orders.keep_all)
    Worker(orders.cells, bench, run=orders.run, renew=orders.renew).work()


def processes(orders: Orders, workers: int) -> Processes:
    """Workers as processes of this machine."""
    return Processes(follow, orders, workers)
