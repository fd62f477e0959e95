"""The processes that work on a study: on this machine here, on a cluster in `cluster`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Protocol

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


def follow(orders: Orders, card: int | None = None) -> None:
    """A worker's life: one thread, one card, until nothing is left that it could do."""
    torch.set_num_threads(1)
    if card is not None:
        torch.cuda.set_device(card)
    bench = Bench(CellStore(orders.folder), orders.place, orders.keep_all)
    Worker(orders.cells, bench, run=orders.run, renew=orders.renew).work()


def _follow_parent(orders: Orders, card: int | None, parent: int) -> None:
    """A worker that ends with the process that started it, however that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this one

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)  # claims are let go by the system, and half-written cells are swept

    threading.Thread(target=watch, daemon=True).start()
    follow(orders, card)


STARTED_WITH = {
    # Python puts the current folder first in a process that it starts so, where a stranger's files may
    # bear the names of its own modules; the paths of this process are handed on anyway
    "PYTHONSAFEPATH": "1",
    # else numpy and SciPy take a thread of every core in every worker, and all wait for each other
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""Environment of a worker, beside this process's own."""


@contextmanager
def _started_with(variables: Mapping[str, str]) -> Iterator[None]:
    """These environment variables for a while, for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


class Processes:
    """Workers as processes of this machine; its cards are dealt out in turn."""

    def __init__(self, orders: Orders, workers: int) -> None:
        self.size = workers
        self._orders = orders
        self._cards = torch.cuda.device_count()
        self._replaced = 0
        self._started = [self._start(number) for number in range(workers)]

    def _start(self, number: int) -> SpawnProcess:
        card = number % self._cards if self._cards else None
        process = multiprocessing.get_context("spawn").Process(
            target=_follow_parent, daemon=True, args=(self._orders, card, os.getpid())
        )
        with _started_with(STARTED_WITH):
            process.start()
        return process

    def alive(self) -> bool:
        """Whether any of them is still at work."""
        return any(process.is_alive() for process in self._started)

    def replace(self, killers: int) -> bool:
        """Start a worker in place of each that a cell killed; whether any was started."""
        before = self._replaced
        for number, process in enumerate(self._started):
            if process.exitcode is not None and self._replaced < killers:
                self._started[number] = self._start(number)
                self._replaced += 1
        return self._replaced > before

    def end(self) -> list[str]:
        """Stop those that are left; why others ended before their time, one line each."""
        ended = [process for process in self._started if not process.is_alive()]
        for process in self._started:
            process.terminate()
            process.join()
        return [f"exit code {process.exitcode}" for process in ended if process.exitcode]
