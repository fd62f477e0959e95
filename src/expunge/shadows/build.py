"""Train the models of a bank, each on its half, and keep what they say of every sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from expunge.audits.observe import observe_rows
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.disk.reading import read_bytes, reading
from expunge.disk.whole import short_of, write_file
from expunge.errors import ConfigError, DivergenceError
from expunge.models.state import load_packed, packed_state
from expunge.place import HERE, Place
from expunge.shadows.bank import DAMAGED, OVERHEAD, Bank, open_bank, write_bank
from expunge.shadows.card import card_of
from expunge.shadows.halves import by_id
from expunge.shadows.places import MODELS as MODELS_FOLDER
from expunge.shadows.places import Asked, is_bank, read_asked, write_asked
from expunge.trained.trained import Trained, record_of
from expunge.training.fit import train_from
from expunge.training.processes import one_thread
from expunge.training.run import Run, accelerator_on
from expunge.training.session import finished, open_session

MODELS = 16
"""Of a bank, unless somebody says otherwise: enough for a pooled spread."""
WAIT_SECONDS = 0.2
CPU = torch.device("cpu")


def begun(original: Trained, folder: str | Path, *, seed: int = 0, place: Place = HERE) -> Bank:
    """The bank of a model in a folder, begun where there is none.

    Raises ConfigError for a model that no bank can be made for, and for a folder that holds something
    else, or the bank of another model.
    """
    folder = Path(folder)
    card = card_of(original, seed, accelerator_on(place.device).device)
    data, split = original.data, original.split
    if not is_bank(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} exists and is no bank; choose another folder")
        learned = [split.retain[row] for row in by_id(split.retain)]
        inside = (*learned, *split.validation)
        labels = [data.train.labels[data.train.rows_of(inside)], data.test.labels]
        ids = (*inside, *data.test.ids.tolist())
        bank = Bank(folder, card, ids, np.concatenate(labels).astype(np.int64), len(learned))
        with reading(folder, "choose another folder", ConfigError):
            if folder.is_dir():
                folder.rmdir()
            with suppress(FileExistsError):  # another process was quicker
                write_bank(bank)
    bank = open_bank(folder)
    if bank.card.digest() != card.digest():
        raise ConfigError(
            f"{folder} is the bank of another original, or of another seed or machine's precision; "
            "choose another folder"
        )
    return bank


def check_room(original: Trained, bank: Bank, models: int, *, keep: bool) -> None:
    """Raise ConfigError where so many models would not fit on the disk."""
    missing = max(0, models - len(bank.finished))
    each = len(bank.ids) * (len(original.data.classes) * 4 + 1)
    if keep:
        each += sum(one.nbytes for one in packed_state(original.model).values())
    if (why := short_of(bank.folder, missing * each + OVERHEAD // 16)) is not None:
        raise ConfigError(
            f"{bank.folder} has no room for {missing} models ({why}); make some, choose another folder, "
            f"ask for fewer models{', or keep no weights' if keep else ''}"
        )


def make_model(
    original: Trained, bank: Bank, model: int, *, keep: bool, place: Place = HERE
) -> None:
    """Train one model of a bank and keep what it says; its weights too with `keep`.

    Raises DivergenceError if the training diverges.
    """
    start = time.perf_counter()
    with one_thread():  # sums of several are rounded otherwise, and a bank is the same everywhere
        network = trained_half(original, bank, model, place)
        logits = said_by(replace(original, model=network), bank, place)
    keep_model(bank, model, network, logits, keep=keep, seconds=time.perf_counter() - start)


def keep_model(
    bank: Bank,
    model: int,
    network: nn.Module,
    logits: NDArray[np.float32],
    *,
    keep: bool,
    seconds: float,
    **facts: str,
) -> None:
    """Write a model that was trained: its weights first, for with its logits it is finished.

    logits: (n, classes), as `said_by` gives them. seconds: that it took. facts: what else to note.
    """
    if keep:
        (bank.folder / MODELS_FOLDER).mkdir(exist_ok=True)
        write_file(bank.weights_file(model), save_tensors(packed_state(network)))
    bank.write_logits(model, logits, {"seconds": f"{seconds:.3f}", **facts})


def half_split(original: Trained, bank: Bank, model: int) -> Split:
    """What a model learns from, and what it is validated on: nothing that was struck."""
    known = {*bank.ids}
    half = [name for name, one in zip(bank.ids, bank.half(model), strict=True) if one and name]
    held = tuple(name for name in original.split.validation if name in known)
    return Split(tuple(half), (), held, original.split.excluded)


def names_of(bank: Bank, model: int) -> tuple[str | int, ...]:
    """The seed names of a model."""
    return ("bank", bank.card.seed, model)


def trained_half(original: Trained, bank: Bank, model: int, place: Place) -> nn.Module:
    """A model trained as the original was, from weights and in an order of its own, on its half."""
    session = open_session(
        names_of(bank, model),
        f"model {model}",
        original.data,
        half_split(original, bank, model),
        Part.RETAIN | Part.VALIDATION,
        recipe=original.recipe,
        fresh=original.fresh,
        mask=original.mask,
        place=place,
    )
    network = session.run.fresh()
    train_from(network, session.view, session.run, session.run.original_recipe())
    return finished(network, CPU, original.mask)


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
    split = half_split(original, bank, model)
    recipe = None if original.recipe is None else original.recipe.model_dump(mode="json")
    record = record_of("train", split, settings=recipe or {}, names=names_of(bank, model))
    return replace(
        original,
        model=network.eval(),
        split=split,
        history=(record,),
        artifacts={},
        seed=None,
        path=None,
        weights="",
        struck=(),
    )


def said_by(made: Trained, bank: Bank, place: Place = HERE) -> NDArray[np.float32]:
    """(n, classes): a model's logits of all samples of a bank, in their order; nan of struck ones."""
    run = Run(
        names=("bank",),
        task=made.data.task,
        label="bank",
        progress=place.progress,
        accelerator=accelerator_on(place.device),
    )
    data, tested = made.data, len(made.data.test)
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
    bank: Bank,
    make: Callable[[int], None],
    told: Callable[[], object] = str,
) -> None:
    """Make models until none of these is lacking: each that nobody else makes, while others make theirs.

    lacks: as `lacking`. make: makes one. told: called after each, whoever made it. A model that
    diverges does not keep the others from being made; at the end its DivergenceError is raised.
    """
    left = lacks(numbers)
    failed: DivergenceError | None = None
    while left:
        before = list(left)
        for model in before:
            with bank.claim(model) as free:
                if not free:
                    continue
                try:
                    if lacks([model]):
                        make(model)
                except DivergenceError as error:
                    failed = failed or error
            left.remove(model)
            told()
        if left == before:
            time.sleep(WAIT_SECONDS)  # others are at all that is left
    if failed is not None:
        raise failed


def build(
    original: Trained,
    folder: str | Path,
    *,
    models: int = MODELS,
    seed: int = 0,
    keep: bool = True,
    numbers: Sequence[int] | None = None,
    place: Place = HERE,
) -> Bank:
    """Make the models of a bank that are missing.

    models: how many there are to be, an even number of 2 or more. keep: keep weights, which `u_lira`
    needs. numbers: only these.

    Raises ConfigError for a model that no bank can be made for, for another bank in the folder, and
    where there is no room; DivergenceError if a training diverges.
    """
    check_number(models)
    bank = begun(original, folder, seed=seed, place=place)
    with bank.at_work():
        bank = open_bank(folder)
        bank.sweep()
        if numbers is None:
            write_asked(bank.folder, Asked(models, keep))
            check_room(original, bank, models, keep=keep)
        wanted = range(models) if numbers is None else numbers
        lacks = partial(lacking, bank, keep=keep)
        make = partial(make_model, original, bank, keep=keep, place=place)
        done = len(wanted) - len(lacks(wanted))
        with place.progress.work("building the bank", len(wanted), done, unit="models") as bar:
            make_all(wanted, lacks, bank, make, bar.advance)
    return bank


def renew(original: Trained, folder: str | Path, *, place: Place = HERE) -> Bank:
    """Train the models again that learned from what was struck since, without that.

    original: the bank's, or what it became by forgetting. Raises as `build` does.
    """
    bank = open_bank(folder)
    asked = read_asked(bank.folder)
    keep = asked is None or asked.weights
    with bank.at_work():
        bank = open_bank(folder)
        bank.sweep()
        lacks = partial(lacking, bank, keep=keep, renew=True)
        numbers = lacks(bank.finished)
        make = partial(make_model, original, bank, keep=keep, place=place)
        with place.progress.work("renewing the bank", len(numbers), unit="models") as bar:
            make_all(numbers, lacks, bank, make, bar.advance)
    return bank


def check_number(models: int) -> None:
    """Raise ConfigError for a number of models that no bank has."""
    if models < 2 or models % 2:
        raise ConfigError(f"models = {models}: they come in pairs; give an even number, 2 or more")
