"""Train the models of a bank, each on its half, and keep what they say of every sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.api import unlearn
from expunge.audits.observe import observe_rows
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.methods.retrain import Retrain
from expunge.place import HERE, Place
from expunge.shadows.bank import CARD, Bank, open_bank, write_bank
from expunge.shadows.card import card_of, learned_by
from expunge.trained.trained import Trained
from expunge.training.run import Run, accelerator_on

MODELS = 16
"""Of a bank, unless somebody says otherwise: enough for a pooled spread."""


def begun(original: Trained, folder: str | Path, *, seed: int = 0, place: Place = HERE) -> Bank:
    """The bank of a model in a folder, begun where there is none.

    Raises ConfigError for a model that no bank can be made for, and for a folder that holds something
    else, or the bank of another model.
    """
    folder = Path(folder)
    card = card_of(original, seed, accelerator_on(place.device).device)
    if os.path.lexists(folder / CARD):
        bank = open_bank(folder)
        if bank.card.digest() != card.digest():
            raise ConfigError(
                f"{folder} is the bank of another original, or of another seed or machine's precision; "
                "choose another folder"
            )
        return bank
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} exists and is no bank; choose another folder")
    data, split = original.data, original.split
    learned = learned_by(original)
    ids = (*learned, *split.validation, *data.test.ids.tolist())
    labels = np.concatenate(
        [data.train.labels[data.train.rows_of(ids[: len(ids) - len(data.test)])], data.test.labels]
    )
    bank = Bank(folder, card, ids, labels.astype(np.int64), len(learned))
    write_bank(bank)
    return bank


def make_model(
    original: Trained, bank: Bank, model: int, *, keep: bool, place: Place = HERE
) -> None:
    """Train one model of a bank and keep what it says; its weights too with `keep`."""
    chosen = bank.half(model)[: bank.learned]
    half = [name for name, learns in zip(bank.ids, chosen, strict=False) if learns]
    other = [name for name, learns in zip(bank.ids, chosen, strict=False) if not learns]
    split = Split(tuple(half), tuple(other), original.split.validation, original.split.excluded)
    names = ("bank", bank.card.seed, model)
    made = unlearn(
        original, split, Retrain(), names=names, place=place, allow_code=place.allow_code
    )
    logits = said_by(made, bank, place)
    if keep:
        made.save(bank.model_folder(model), overwrite=True)
    bank.write_logits(model, logits, {"seconds": f"{made.record.cost.seconds:.3f}"})


def said_by(made: Trained, bank: Bank, place: Place = HERE) -> NDArray[np.float32]:
    """(n, classes): a model's logits of all samples of a bank, in their order."""
    run = Run(
        names=("bank",),
        task=made.data.task,
        label="bank",
        progress=place.progress,
        accelerator=accelerator_on(place.device),
    )
    data, tested = made.data, len(made.data.test)
    rows = data.train.rows_of(bank.ids[: len(bank.ids) - tested])
    trained = observe_rows(made.model, data, data.train, rows, run, "what was learned")
    parts = [trained.logits.numpy()]
    if tested:
        unseen = observe_rows(made.model, data, data.test, np.arange(tested), run, "the test set")
        parts.append(unseen.logits.numpy())
    return np.concatenate(parts).astype(np.float32)


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
    """
    if models < 2 or models % 2:
        raise ConfigError(f"models = {models}: they come in pairs; give an even number, 2 or more")
    bank = begun(original, folder, seed=seed, place=place)
    missing = [one for one in numbers or range(models) if one not in bank.finished]
    with place.progress.work("building the bank", len(missing)) as bar:
        for model in missing:
            with bank.claim(model) as free:
                if free and model not in bank.finished:
                    make_model(original, bank, model, keep=keep, place=place)
            bar.advance()
    return bank
