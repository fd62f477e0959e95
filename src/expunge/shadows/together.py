"""Make the models of a bank, one after another or several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from expunge.errors import DivergenceError
from expunge.place import Place
from expunge.shadows.bank import Bank
from expunge.shadows.choice import Choice
from expunge.shadows.making import half_split, keep_model, make_all, make_model, names_of, said_by
from expunge.shadows.stacked import STACK, train_stacked
from expunge.shadows.training import PLAIN, session_on
from expunge.trained.trained import Trained
from expunge.training.processes import one_thread
from expunge.training.session import finished

Lacks = Callable[[Sequence[int]], list[int]]


def make_models(
    original: Trained,
    bank: Bank,
    numbers: Sequence[int],
    lacks: Lacks,
    choice: Choice,
    *,
    keep: bool,
    place: Place,
    told: Callable[[], object] = str,
) -> None:
    """Make the models among these that are lacking, as it was chosen; the rest is as `make_all` has it.

    Models that are trained at once are always the same ones, whoever lacks, so that a bank that was
    broken off goes on to the last bit as one that was not.
    """
    one = partial(make_model, original, bank, keep=keep, place=place, facts=choice.facts())
    if not choice.stacked:
        make_all(numbers, lacks, bank.claim, one, told)
        return
    blocks: dict[int, list[int]] = {}
    for number in sorted(numbers):
        blocks.setdefault(number // STACK * STACK, []).append(number)
    left = len(lacks(numbers))

    def advance() -> None:
        nonlocal left
        now = len(lacks(numbers))
        for _ in range(left - now):
            told()
        left = now

    def make(first: int) -> None:
        for block in _of_a_size(original, bank, blocks[first]):
            wanted = lacks(block)
            try:
                if wanted:
                    _make_block(original, bank, block, wanted, choice, keep=keep, place=place)
            except DivergenceError:  # of one; alone it says so itself, and the others are made
                make_all(wanted, lacks, bank.claim, one)

    make_all(
        list(blocks),
        lambda firsts: [first for first in firsts if lacks(blocks[first])],
        partial(bank.claim, what="block-"),
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
    choice: Choice,
    *,
    keep: bool,
    place: Place,
) -> None:
    """Train models at once and keep those that are wanted."""
    start = time.perf_counter()
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
        train_stacked(sessions, networks)
        networks = [finished(one, PLAIN, original.mask) for one in networks]
        each = (time.perf_counter() - start) / len(block)
        for number, network in zip(block, networks, strict=True):
            if number not in wanted:
                continue
            start = time.perf_counter()
            logits = said_by(replace(original, model=network), bank, place)
            seconds = each + time.perf_counter() - start
            keep_model(
                bank, number, network, logits, keep=keep, seconds=seconds, facts=choice.facts()
            )
