"""Make the models of a bank, one after another or several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from expunge.errors import DivergenceError
from expunge.place import Place
from expunge.shadows.bank import Bank
from expunge.shadows.making import half_split, keep_model, make_all, make_model, names_of, said_by
from expunge.shadows.plan import BLOCK, STACK
from expunge.shadows.stacked import train_stacked
from expunge.shadows.training import PLAIN, session_on
from expunge.shadows.way import BankWay
from expunge.trained.trained import Trained
from expunge.training.processes import one_thread
from expunge.training.session import finished

Lacks = Callable[[Sequence[int]], list[int]]


def make_models(
    original: Trained,
    bank: Bank,
    numbers: Sequence[int],
    lacks: Lacks,
    way: BankWay,
    *,
    models: int,
    keep: bool,
    place: Place,
    told: Callable[[], object] = str,
) -> None:
    """Make the models among these that are lacking, as it was chosen; the rest is as `make_all` has it.

    models: how many the bank is to have. Those that are trained at once are always the same ones,
    whichever of them are lacking, so that a bank does not depend, to the last bit, on who made what
    when; all of them that were lacking are kept.
    """
    one = partial(make_model, original, bank, keep=keep, place=place, facts=way.facts())
    if not way.stacked:
        make_all(numbers, lacks, bank.claim, one, told)
        return
    firsts = sorted({number // STACK * STACK for number in numbers})
    blocks = {first: range(first, min(first + STACK, models)) for first in firsts}
    left = len(lacks(numbers))

    def advance() -> None:
        nonlocal left
        now = len(lacks(numbers))
        for _ in range(left - now):
            told()
        left = now

    def make(first: int) -> None:
        failed: list[DivergenceError] = []
        for block in _of_a_size(original, bank, blocks[first]):
            wanted = lacks(block)
            try:
                if wanted:
                    _make_block(original, bank, block, wanted, way, keep=keep, place=place)
            except DivergenceError:  # of one; alone it says so itself, and the others are made
                try:
                    make_all(wanted, lacks, bank.claim, one)
                except DivergenceError as error:
                    failed.append(error)
        if failed:
            raise failed[0]

    make_all(
        firsts,
        lambda some: [first for first in some if lacks(blocks[first])],
        partial(bank.claim, what=BLOCK),
        make,
        advance,
    )


def _of_a_size(original: Trained, bank: Bank, numbers: Sequence[int]) -> list[list[int]]:
    """Models by the size of their halves, which differs by one where samples are an odd number."""
    groups: dict[int, list[int]] = {}
    for number in numbers:
        size = len(half_split(original, bank, number).retain)
        groups.setdefault(size, []).append(number)
    return list(groups.values())


def _make_block(
    original: Trained,
    bank: Bank,
    block: Sequence[int],
    wanted: Sequence[int],
    way: BankWay,
    *,
    keep: bool,
    place: Place,
) -> None:
    """Train models at once and keep those that are wanted."""
    with one_thread():
        sessions = [
            session_on(
                original,
                half_split(original, bank, one),
                names_of(bank, one),
                place,
                f"model {one}",
            )
            for one in block
        ]
        networks = [one.run.fresh() for one in sessions]
        with sessions[0].measured(networks[0]):
            train_stacked(sessions, networks)
        networks = [finished(one, PLAIN, original.mask) for one in networks]
        each = sessions[0].cost.seconds / len(block)
        for number, network in zip(block, networks, strict=True):
            if number not in wanted:
                continue
            start = time.perf_counter()
            logits = said_by(replace(original, model=network), bank, place)
            seconds = each + time.perf_counter() - start
            keep_model(bank, number, network, logits, keep=keep, seconds=seconds, facts=way.facts())
