"""Processes of this machine that work side by side, of one thread each; they end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from expunge.errors import ExpungeError

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
def one_thread() -> Iterator[None]:
    """One thread for as long as this lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _live(work: Callable[[Any], None], orders: Any, card: int | None, parent: int) -> None:
    """A worker's life; it ends with the process that started it, however that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this one

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)  # claims are let go by the system, and what is half-written is swept

    threading.Thread(target=watch, daemon=True).start()
    torch.set_num_threads(1)
    if card is not None:
        torch.cuda.set_device(card)
    try:
        work(orders)
    except (ExpungeError, OSError):  # who started it meets the same, and tells it in one line
        sys.exit(1)


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
    """Workers that do the same work, each as far as no other does it; the cards are dealt out in turn.

    work: a function of a module, called with the orders, plain data, in each process.
    """

    def __init__(self, work: Callable[[Any], None], orders: Any, workers: int) -> None:
        self.size = workers
        self._work, self._orders = work, orders
        self._cards = torch.cuda.device_count()
        self._replaced = 0
        self._started = [self._start(number) for number in range(workers)]

    def _start(self, number: int) -> SpawnProcess:
        card = number % self._cards if self._cards else None
        process = multiprocessing.get_context("spawn").Process(
            target=_live, daemon=True, args=(self._work, self._orders, card, os.getpid())
        )
        with _started_with(STARTED_WITH):
            process.start()
        return process

    def alive(self) -> bool:
        """Whether any of them is still at work."""
        return any(process.is_alive() for process in self._started)

    def replace(self, killers: int) -> bool:
        """Start a worker in place of each that its work killed; whether any was started.

        killers: how many pieces of work have killed one. Who ended otherwise would do so again.
        """
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
