"""What each of the workers on a study is told, and does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from expunge.place import Place
from expunge.study.cells import Cell
from expunge.study.runner import Worker
from expunge.study.store import CellStore
from expunge.study.work import Bench


@dataclass(frozen=True)
class Orders:
    """What every worker of a crew is told; plain data, so that it reaches another machine."""

    cells: Sequence[Cell]
    folder: str
    place: Place
    keep_all: bool
    run: str
    renew: bool


def follow(orders: Orders) -> None:
    """A worker's work, in one thread: until nothing is left that it could do."""
    torch.set_num_threads(1)
    bench = Bench(CellStore(orders.folder), orders.place, orders.keep_all)
    Worker(orders.cells, bench, run=orders.run, renew=orders.renew).work()
