"""The processes that work on a study: on this machine here, on a cluster in `cluster`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from expunge.study.cells import Cell
from expunge.study.runner import Worker
from expunge.study.store import Store
from expunge.study.work import Bench


@dataclass(frozen=True)
class Orders:
    """What every worker of a crew is told; plain data, so that it reaches another machine."""

    cells: Sequence[Cell]
    folder: str
    data_dir: str | None
    device: str | None
    keep_all: bool
    run: str
    renew: bool


class Crew(Protocol):
    """Workers that have been started."""

    size: int

    def alive(self) -> bool:
        """Whether any of them is still at work."""
        ...

    def end(self) -> list[str]:
        """Stop those that are left; why others ended before their time, one line each."""
        ...


def follow(orders: Orders, card: int | None = None) -> None:
    """A worker's life: one thread, one card, until nothing is left that it could do."""
    torch.set_num_threads(1)
    if card is not None:
        torch.cuda.set_device(card)
    bench = Bench(Store(orders.folder), orders.data_dir, orders.device, orders.keep_all)
    Worker(orders.cells, bench, run=orders.run, renew=orders.renew).work()


class Processes:
    """Workers as processes of this machine; its cards are dealt out in turn."""

    def __init__(self, orders: Orders, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        cards = torch.cuda.device_count()
        self.size = workers
        self._started = [
            context.Process(
                target=follow, args=(orders, number % cards if cards else None), daemon=True
            )
            for number in range(workers)
        ]
        for process in self._started:
            process.start()

    def alive(self) -> bool:
        """Whether any of them is still at work."""
        return any(process.is_alive() for process in self._started)

    def end(self) -> list[str]:
        """Stop those that are left; why others ended before their time, one line each."""
        ended = [process for process in self._started if not process.is_alive()]
        for process in self._started:
            process.terminate()
            process.join()
        return [f"exit code {process.exitcode}" for process in ended if process.exitcode]
