"""How cells of a bank are made, and read as the shadows that audits look at.

Each keeps its files as a bank of one model would: logits/0003.safetensors, and where its weights are
asked for models/0003.safetensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from expunge.audits.shadows import Shadows
from expunge.errors import DivergenceError
from expunge.methods import Method
from expunge.place import Place
from expunge.shadows.bank import Bank
from expunge.shadows.build import bank_of
from expunge.shadows.card import card_of
from expunge.shadows.forget import NOTHING_TO_FORGET, WHY, forget_half, whole_pairs, without_floor
from expunge.shadows.making import make_model, said_by
from expunge.study.cells import BANK_NUMBER, Cell
from expunge.study.store import CellStore
from expunge.trained.trained import Trained
from expunge.training.cost import Cost
from expunge.training.processes import one_thread
from expunge.training.run import accelerator_on


@dataclass(frozen=True)
class Made:
    """A cell of a bank that was made. why: it says nothing; empty where it does."""

    cost: Cost
    why: str = ""


def bank_in(folder: Path, original: Trained, seed: int) -> Bank:
    """The bank of an original, of whose models one lies in a folder.

    It is the same wherever it is made, whatever precision that place trains in.
    """
    return bank_of(original, folder, card_of(original, seed, torch.device("cpu")))


def make_shadow(cell: Cell, original: Trained, folder: Path, place: Place) -> Made:
    """Train a model of the bank on its half, and put what it says into a folder, its weights too if
    these are kept. Raises DivergenceError if the training diverges.
    """
    bank = bank_in(folder, original, cell.seed)
    number = cell.config[BANK_NUMBER]
    make_model(original, bank, number, keep=cell.config["weights"], place=place)
    seconds = bank.seconds(number)
    device = str(accelerator_on(place.device).device)
    return Made(Cost(seconds=seconds, device=device, threads=1, warmed_up=False))


def make_forgetting(
    cell: Cell,
    original: Trained,
    method: Method,
    forget: Sequence[str],
    folder: Path,
    store: CellStore,
    place: Place,
) -> Made:
    """Make a model of the bank forget what it learned of some samples, and put what it then says into a
    folder. One that diverges, or has nothing to forget, says why.
    """
    number = cell.config[BANK_NUMBER]
    bank = bank_in(store.path(cell.needs[1]), original, cell.seed)
    store.check_files(cell.needs[1])
    learned, rows = bank.half(number), bank.among(forget)
    after, why, start = None, "", time.perf_counter()
    if not (learned & rows).any() or not (learned & ~rows).any():
        why = NOTHING_TO_FORGET
    else:
        try:
            with one_thread():
                after = forget_half(
                    original, bank, number, without_floor(method), rows, seed=cell.seed, place=place
                )
        except DivergenceError as error:
            why = str(error)
    if after is None:
        seconds = time.perf_counter() - start
        cost = Cost(seconds, device=str(accelerator_on(place.device).device))
        logits = np.zeros((len(bank.ids), len(original.data.classes)), dtype=np.float32)
    else:
        cost, logits = after.record.cost, said_by(after, bank, place)
    replace(bank, folder=folder).write_logits(number, logits, {WHY: why})
    return Made(cost, why)


def shadows_of(cells: Sequence[Cell], original: Trained, store: CellStore) -> Shadows:
    """What the models of a bank say, from their cells. Raises ConfigError for a damaged one."""
    banks = _banks(cells, original, store)
    learned = np.stack([one.half(number) for number, one in banks.items()])
    bank = next(iter(banks.values()))
    return bank.say([*banks], lambda number: banks[number].read_logits(number)[0], learned)


def unlearned_of(
    cells: Sequence[Cell], original: Trained, forget: Sequence[str], store: CellStore
) -> Callable[[], Shadows]:
    """Gives what the models of a bank say that were made to forget some samples, from their cells.

    It raises ConfigError for a damaged one, and where fewer than 2 pairs could forget.
    """
    return cache(partial(_unlearned, cells, original, forget, store))


def untouched(shadows: Shadows, forget: Sequence[str]) -> Shadows:
    """The models of a bank as doing nothing makes them forget some samples."""
    rows = np.isin(shadows.ids, [*forget])  # nobody learned from the test set
    return replace(shadows, forgot=shadows.learned & rows)


def _unlearned(
    cells: Sequence[Cell], original: Trained, forget: Sequence[str], store: CellStore
) -> Shadows:
    banks = _banks(cells, original, store)
    bank = next(iter(banks.values()))
    return whole_pairs(
        bank,
        bank.among(forget),
        {number: one.facts(number).get(WHY, "") for number, one in banks.items()},
        lambda number: banks[number].read_logits(number)[0],
        {number: one.half(number) for number, one in banks.items()},
        cells[0].config["method"],
    )


def _banks(cells: Sequence[Cell], original: Trained, store: CellStore) -> dict[int, Bank]:
    """By the number of its model the bank of one that each finished cell is; files are as written."""
    found = {}
    for cell in cells:
        store.check_files(cell.key)
        number = cell.config[BANK_NUMBER]
        found[number] = bank_in(store.path(cell.key), original, cell.seed)
    return found
