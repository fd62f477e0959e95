"""One model of a bank: what it learns from, how it is trained, what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from expunge.audits.observe import observe_rows
from expunge.data.split import Split
from expunge.disk.reading import read_bytes, reading
from expunge.disk.whole import write_file
from expunge.errors import ConfigError, DivergenceError
from expunge.models.state import load_packed, packed_state
from expunge.place import HERE, Place
from expunge.shadows.bank import DAMAGED, OVERHEAD, Bank
from expunge.shadows.places import MODELS
from expunge.shadows.training import as_original, trained_on
from expunge.trained.record import SeedNames
from expunge.trained.trained import Trained
from expunge.training.processes import one_thread
from expunge.training.run import Run, accelerator_on

WAIT_SECONDS = 0.2


def make_model(
    original: Trained,
    bank: Bank,
    model: int,
    *,
    keep: bool,
    place: Place = HERE,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Train one model of a bank and keep what it says; its weights too with `keep`.

    facts: what else to note of it. Raises DivergenceError if the training diverges.
    """
    with one_thread():  # sums of several are rounded otherwise, and a bank is the same everywhere
        network, seconds = trained_half(original, bank, model, place)
        start = time.perf_counter()
        logits = said_by(replace(original, model=network), bank, place)
        seconds += time.perf_counter() - start
    keep_model(bank, model, network, logits, keep=keep, seconds=seconds, facts=facts)


def keep_model(
    bank: Bank,
    model: int,
    network: nn.Module,
    logits: NDArray[np.float32],
    *,
    keep: bool,
    seconds: float,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a model that was trained: its weights first, for with its logits it is finished.

    logits: (n, classes), as `said_by` gives them. seconds: that it took. facts: what else to note.
    """
    if keep:
        (bank.folder / MODELS).mkdir(exist_ok=True)
        write_file(bank.weights_file(model), save_tensors(packed_state(network)))
    bank.write_logits(model, logits, {"seconds": f"{seconds:.3f}", **facts})


def half_split(original: Trained, bank: Bank, model: int) -> Split:
    """What a model learns from, and what it is validated on: nothing that was struck."""
    known = {*bank.ids[: len(bank.ids) - bank.tested]}
    half = [name for name, one in zip(bank.ids, bank.half(model), strict=True) if one and name]
    held = tuple(name for name in original.split.validation if name in known)
    return Split(tuple(half), (), held, original.split.excluded)


def names_of(bank: Bank, model: int) -> SeedNames:
    """The seed names of a model."""
    return ("bank", bank.card.seed, model)


def trained_half(
    original: Trained, bank: Bank, model: int, place: Place
) -> tuple[nn.Module, float]:
    """A model trained as the original was, from weights and in an order of its own, on its half; and
    the seconds that it took.
    """
    split, names = half_split(original, bank, model), names_of(bank, model)
    return trained_on(original, split, names, place, f"model {model}")


def shadow(original: Trained, bank: Bank, model: int) -> Trained:
    """A model of a bank whose weights are kept, as one that can be made to forget.

    original: that of the bank, or what it became. Raises ConfigError for weights that are not there, or
    damaged.
    """
    file = bank.weights_file(model)
    if original.fresh is None:
        raise ConfigError(f"{original.name} does not say how its model is made")
    make = getattr(original.fresh, "blank", original.fresh)  # a pretrained base is not needed
    with reading(file, DAMAGED, ConfigError):
        network = make()
        size = sum(one.nbytes for one in network.state_dict().values())
        content = read_bytes(file, most=OVERHEAD + size, within=bank.folder)
        load_packed(network, load_tensors(content))
    split, names = half_split(original, bank, model), names_of(bank, model)
    return as_original(original, network, split, names)


def said_by(made: Trained, bank: Bank, place: Place = HERE) -> NDArray[np.float32]:
    """(n, classes): a model's logits of all samples of a bank, in their order; nan of struck ones."""
    run = Run(
        names=("bank",),
        task=made.data.task,
        label="bank",
        progress=place.progress,
        accelerator=accelerator_on(place.device),
    )
    data, tested = made.data, bank.tested
    inside = len(bank.ids) - tested
    there = ~bank.struck[:inside]
    rows = data.train.rows_of([name for name in bank.ids[:inside] if name])
    trained = observe_rows(made.model, data, data.train, rows, run, "what was learned")
    known = trained.logits.numpy()
    logits = np.full((len(bank.ids), known.shape[1]), np.nan, dtype=np.float32)
    logits[:inside][there] = known
    if tested:
        unseen = observe_rows(made.model, data, data.test, np.arange(tested), run, "the test set")
        logits[inside:] = unseen.logits.numpy()
    return logits


def lacking(bank: Bank, numbers: Sequence[int], *, keep: bool, renew: bool = False) -> list[int]:
    """Of some models those that are not finished, or have no weights that are to be kept; with `renew`
    also those that learned from what was struck since. Without it these stay, and have no weights.
    """
    finished, weighed = {*bank.finished}, {*bank.weighed}
    return [
        one
        for one in numbers
        if one not in finished
        or ((renew or (keep and one not in weighed)) and bank.marked(one) == renew)
    ]


def make_all(
    numbers: Sequence[int],
    lacks: Callable[[Sequence[int]], list[int]],
    claim: Callable[[int], AbstractContextManager[bool]],
    make: Callable[[int], None],
    told: Callable[[], object] = str,
) -> None:
    """Make models until none of these is lacking: each that nobody else makes, while others make theirs.

    lacks: as `lacking`. claim: as `Bank.claim`. make: makes one. told: called after each, whoever made
    it. A model that diverges does not keep the others from being made; at the end its DivergenceError
    is raised.
    """
    left = lacks(numbers)
    failed: dict[int, DivergenceError] = {}
    while left:
        made = 0
        for model in left:
            with claim(model) as free:
                if free and lacks([model]):
                    try:
                        make(model)
                    except DivergenceError as error:
                        failed[model] = error
                        continue
                    made += 1
                    told()
        before, left = left, [one for one in lacks(left) if one not in failed]
        for _ in range(len(before) - len(left) - made - sum(one in failed for one in before)):
            told()
        if left == before:
            time.sleep(WAIT_SECONDS)  # others are at all that is left
    if failed:
        raise next(iter(failed.values()))
