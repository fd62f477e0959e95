"""Train the models of a bank, each on its half, and keep what they say of every sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from expunge.disk.reading import MIB, reading
from expunge.disk.whole import short_of, sweep
from expunge.errors import ConfigError
from expunge.models.state import packed_state
from expunge.place import HERE, Place
from expunge.shadows.bank import Bank, open_bank, read_bank_card, write_bank
from expunge.shadows.card import BankCard, card_of
from expunge.shadows.fits import check_precision
from expunge.shadows.halves import by_id
from expunge.shadows.making import lacking
from expunge.shadows.places import AGAIN, ALL, SAMPLES, BankAsked, is_bank, read_asked, write_asked
from expunge.shadows.plan import check_number
from expunge.shadows.together import make_models
from expunge.shadows.way import BankWay, How, chosen_way
from expunge.trained.trained import Trained
from expunge.training.run import accelerator_on

MODELS = 16
"""Of a bank, unless somebody says otherwise: enough for a pooled spread."""


def bank_of(original: Trained, folder: Path, card: BankCard) -> Bank:
    """The bank of a model, as its folder would say it; nothing is written."""
    data, split = original.data, original.split
    learned = [split.retain[row] for row in by_id(split.retain)]
    inside = (*learned, *split.validation)
    labels = [data.train.labels[data.train.rows_of(inside)], data.test.labels]
    ids = (*inside, *data.test.ids.tolist())
    found = np.concatenate(labels).astype(np.int64)
    return Bank(folder, card, ids, found, len(learned), len(data.test))


def begun(original: Trained, folder: str | Path, *, seed: int = 0, place: Place = HERE) -> Bank:
    """The bank of a model in a folder, begun where there is none.

    Raises ConfigError for a model that no bank can be made for, and for a folder that holds something
    else, or the bank of another model.
    """
    folder = Path(folder)
    sweep(folder.absolute().parent)
    card = card_of(original, seed, accelerator_on(place.device).device)
    fresh = bank_of(original, folder, card)
    if is_bank(folder):
        if read_bank_card(folder).digest() != card.digest():
            raise ConfigError(
                f"{folder} is the bank of another original, or of another seed or machine's precision; "
                "choose another folder"
            )
    else:
        sweep(folder)
        if folder.exists() and not _may_be_bank(folder):
            raise ConfigError(f"{folder} exists and is no bank; choose another folder")
        _check_struck(original, fresh)
    if not (is_bank(folder) and (folder / SAMPLES).is_file()):
        with reading(folder, "choose another folder", ConfigError):
            write_bank(fresh)
    bank = open_bank(folder)
    if not _same_samples(bank, fresh):
        raise ConfigError(
            f"{folder / SAMPLES} lists other samples than {original.name} has; {AGAIN}"
        )
    _check_struck(original, bank)
    return bank


def _check_struck(original: Trained, bank: Bank) -> None:
    """Raise ConfigError where the models of a bank would read what deletion requests have struck."""
    gone = original.data.struck.ids.intersection(bank.ids[: len(bank.ids) - bank.tested])
    if gone:
        raise ConfigError(
            f"{original.name} learned {len(gone):,} samples that deletion requests have struck "
            "since, and a bank of it would read them; build one of the live model, which `expunge "
            "batch run` makes, or take them out of one that is there with `expunge bank purge`"
        )


def _same_samples(bank: Bank, fresh: Bank) -> bool:
    """Whether a bank is of the samples that it would have anew, but for those that were struck."""
    if (len(bank.ids), bank.learned, bank.tested) != (len(fresh.ids), fresh.learned, fresh.tested):
        return False
    ids = np.array(bank.ids, dtype=np.str_) == np.array(fresh.ids, dtype=np.str_)
    return bool(((ids & (bank.labels == fresh.labels)) | bank.struck).all())


def _may_be_bank(folder: Path) -> bool:
    """Whether a folder without a card is empty, or a bank that lost it."""
    names = {*os.listdir(folder)} if folder.is_dir() else {""}
    return not names or (SAMPLES in names and names <= ALL)


def check_bank_room(original: Trained, bank: Bank, models: int, *, keep: bool) -> None:
    """Raise ConfigError where so many models would not fit on the disk."""
    missing = max(0, models - len(bank.finished))
    each = len(bank.ids) * (len(original.data.classes) * 4 + 1)
    if keep:
        each += sum(one.nbytes for one in packed_state(original.model).values())
    if (why := short_of(bank.folder, missing * each + MIB)) is not None:
        raise ConfigError(
            f"{bank.folder} has no room for {missing} models ({why}); make some, choose another folder, "
            f"ask for fewer models{', or keep no weights' if keep else ''}"
        )


def build(
    original: Trained,
    folder: str | Path,
    *,
    models: int = MODELS,
    seed: int = 0,
    keep: bool = True,
    numbers: Sequence[int] | None = None,
    how: How = "auto",
    place: Place = HERE,
) -> Bank:
    """Make the models of a bank that are missing.

    models: how many there are to be, an even number of 2 or more. keep: keep weights, which `u_lira`
    needs. numbers: only these. how: "loop", one after another; "stacked", several at once, which small
    networks may gain by; "auto": what a short trial finds quicker. It is kept with the bank.

    Raises ConfigError for a model that no bank can be made for, for another bank in the folder, and
    where there is no room; DivergenceError if a training diverges.
    """
    check_number(models)
    bank = begun(original, folder, seed=seed, place=place)
    with bank.at_work():
        bank = open_bank(folder)
        bank.sweep()
        for line in bank.remove_damaged():
            place.tell(line)
        if numbers is None:
            write_asked(bank.folder, BankAsked(models, keep))
            check_bank_room(original, bank, models, keep=keep)
        wanted = range(models) if numbers is None else numbers
        lacks = partial(lacking, bank, keep=keep)
        done = len(wanted) - len(lacks(wanted))
        way = chosen_way(original, bank, models, how=how, place=place)
        with place.progress.work("building the bank", len(wanted), done, unit="models") as bar:
            make_models(
                original,
                bank,
                wanted,
                lacks,
                way,
                models=models,
                keep=keep,
                place=place,
                told=bar.advance,
            )
    return bank


def renew(original: Trained, folder: str | Path, *, place: Place = HERE) -> Bank:
    """Train the models again that learned from what was struck since, without that.

    original: the bank's, or what it became by forgetting. Raises as `build` does.
    """
    bank = open_bank(folder)
    check_precision(bank, original, place)
    asked = read_asked(bank.folder)
    keep = asked is None or asked.weights
    with bank.at_work():
        bank = open_bank(folder)
        bank.sweep()
        lacks = partial(lacking, bank, keep=keep, renew=True)
        numbers = lacks(bank.finished)
        alone = BankWay(False)  # few, and each lacks samples of its own
        with place.progress.work("renewing the bank", len(numbers), unit="models") as bar:
            make_models(
                original,
                bank,
                numbers,
                lacks,
                alone,
                models=len(bank.finished),
                keep=keep,
                place=place,
                told=bar.advance,
            )
    return bank
