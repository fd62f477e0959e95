"""The models of a bank made by several workers, each of which takes what no other makes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from expunge.errors import DivergenceError
from expunge.place import Place
from expunge.progress import Reporter, Silent
from expunge.shadows.bank import open_bank
from expunge.shadows.fits import check_precision
from expunge.shadows.making import lacking
from expunge.shadows.together import make_models
from expunge.shadows.way import BankWay, read_way
from expunge.trained.opening import load
from expunge.training.crew import start_crew

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
    """A worker's work: until nothing is left that it could do.

    Raises ConfigError on a machine whose models would be others than those of the bank.
    """
    original = load(orders.model_dir, data=orders.data, place=orders.place)
    bank = open_bank(orders.bank)
    check_precision(bank, original, orders.place)
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
        except DivergenceError:
            return  # who started this one makes what is missing, and is told


def make_by_workers(
    orders: BankOrders,
    workers: int,
    *,
    ray: str | None = None,
    tell: Callable[[str], object] = str,
    progress: Reporter | None = None,
) -> None:
    """Start workers, and wait until they end; what they could not make is still lacking then.

    ray: address of the cluster to start them on. tell: is called with what some ended with early.
    """
    bank = open_bank(orders.bank)
    lacks = partial(lacking, bank, keep=orders.keep, renew=orders.renew)
    left, device = len(lacks(orders.numbers)), orders.place.device
    done = len(orders.numbers) - left
    reporter = progress or Silent()
    what = "renewing the bank" if orders.renew else "building the bank"
    with reporter.work(what, len(orders.numbers), done, unit="models") as bar:
        bar.note(f"starting {workers} worker{'' if workers == 1 else 's'}")
        crew = start_crew(make_lacking, orders, workers, ray=ray, again=0, device=device)
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
            reasons = crew.end()
    if reasons:
        why = "; ".join(dict.fromkeys(reasons))
        rest = "; what is missing is made here" if left else ""
        tell(f"{len(reasons)} of {crew.size} workers ended early ({why}){rest}")
