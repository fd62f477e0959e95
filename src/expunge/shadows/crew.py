"""The models of a bank made by several processes, each of which takes what no other makes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from expunge.errors import ExpungeError
from expunge.place import Place
from expunge.progress import Silent
from expunge.shadows.bank import open_bank
from expunge.shadows.making import lacking
from expunge.shadows.together import make_models
from expunge.shadows.way import BankWay, read_way
from expunge.trained.opening import load
from expunge.training.processes import Processes

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class BankOrders:
    """What every worker is told.

    model_dir: the folder of the bank's original, or of what it became. data: instead of what that folder
    names. numbers: the models to be made. keep, renew: as `lacking` takes them.
    """

    model_dir: Path
    data: str | None
    bank: Path
    numbers: tuple[int, ...]
    keep: bool
    renew: bool
    place: Place


def make_lacking(orders: BankOrders) -> None:
    """A worker's work: until nothing is left that it could do."""
    original = load(orders.model_dir, data=orders.data, place=orders.place)
    bank = open_bank(orders.bank)
    with bank.at_work():
        bank = open_bank(orders.bank)
        lacks = partial(lacking, bank, keep=orders.keep, renew=orders.renew)
        way = None if orders.renew else read_way(bank)
        try:
            make_models(
                original,
                bank,
                orders.numbers,
                lacks,
                way or BankWay(False),
                models=max(orders.numbers) + 1,
                keep=orders.keep,
                place=orders.place,
            )
        except (ExpungeError, OSError):
            return  # who started this one makes what is missing, and is told


def make_by_workers(orders: BankOrders, workers: int) -> None:
    """Start workers, and wait until they end; what they could not make is still lacking then."""
    bank = open_bank(orders.bank)
    lacks = partial(lacking, bank, keep=orders.keep, renew=orders.renew)
    left, progress = len(lacks(orders.numbers)), orders.place.progress
    done = len(orders.numbers) - left
    orders = replace(orders, place=replace(orders.place, progress=Silent(), tell=str))
    with progress.work("building the bank", len(orders.numbers), done, unit="models") as bar:
        bar.note(f"starting {workers} workers")
        crew = Processes(make_lacking, orders, workers)
        try:
            alive = True
            while alive:
                time.sleep(POLL_SECONDS)
                alive = crew.alive()
                now = len(lacks(orders.numbers))  # after the last sign of life
                for _ in range(left - now):
                    bar.advance()
                left = now
        finally:
            crew.end()
