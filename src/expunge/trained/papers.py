"""What a model folder says of itself, read and checked without torch, weights or data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.data.pseudonyms import HIDDEN, Key, open_key
from expunge.data.spec import NO_TEST, OF_ITS_DATA, UNNAMED, DataSpec
from expunge.disk.reading import reading
from expunge.errors import ConfigError, DataError, ModelError
from expunge.methods import Method
from expunge.models.table import check_model
from expunge.names.code import check_name
from expunge.names.libraries import check_package
from expunge.place import HERE, Place
from expunge.trained.by_method import training_method
from expunge.trained.card import (
    AGAIN,
    ModelCard,
    check_code,
    check_files,
    read_card,
    read_split,
)
from expunge.trained.record import SeedNames, initial_names
from expunge.training.recipe import Recipe

if TYPE_CHECKING:
    from expunge.data.load import Data


@dataclass(frozen=True)
class Papers:
    """The card and the split of a model folder, read and checked.

    Attributes:
        path: the folder.
        card: everything about the model but its weights.
        split: ids of each part, as plain data.
        data: as typed, or as the card names them.
        data_dir: where they lie.
        allow_code: consent to run what the card names.
        allow_data_code: consent to run what `data` names.
        key: to the pseudonyms in the split.
        trained_by: the method that took part in training; None where none did.
    """

    path: Path
    card: ModelCard
    split: dict[str, Any]
    data: str | Data
    data_dir: str | Path | None
    allow_code: bool
    allow_data_code: bool
    key: Key | None = None
    trained_by: Method | None = None

    @property
    def redacted(self) -> bool:
        """Whether the folder keeps no ids, but pseudonyms, or salted hashes as in earlier versions."""
        return self.key is not None or "salt" in self.split

    @property
    def began(self) -> SeedNames | None:
        """Seed names of the weights and order that the model began with; None: nobody knows."""
        return initial_names(self.card.lineage)


def read_papers(
    path: str | Path,
    *,
    data: str | Data | None = None,
    place: Place = HERE,
    own_model: bool = False,
) -> Papers:
    """What a model folder says of itself: all that can be wrong before anything costly starts.

    data: instead of the data that the card names. place.data_dir: where named data lie; else
    EXPUNGE_DATA, else where they lay when the folder was written. own_model: whoever loads it says
    how to make the model.

    Raises ModelError for a folder that is missing or damaged, or names code without consent,
    SplitError for a split that is none or whose key is missing, and DataError for data that are.
    """
    card = read_card(Path(path))
    split = read_split(Path(path))
    key = open_key(split["pseudonyms"], Path(path)) if "pseudonyms" in split else None
    check_files(Path(path), card)
    if not own_model:
        check_code(card, allow_code=place.allow_code)
        if card.hub is None:
            check_model(card.architecture or "", allow_code=place.allow_code)
        else:  # what it needs lies in the folder
            check_package("transformers", str(path), ModelError)
    _check_recipe(card, path)
    method = training_method(card, path, allow_code=place.allow_code)
    spec = card.data.spec if data is None else data
    if isinstance(spec, str) and data is None and key is not None:
        card, spec = _with_place(card, spec, key, path)
    if key is not None and card.data.test is not None:
        card = _with_test(card, card.data.test, key, path)
    if key is not None and card.hub is not None and (base := key.place_of(card.hub.base)):
        hub = card.hub.model_copy(update={"base": base[0]})
        card = card.model_copy(update={"hub": hub})
    if spec is None:
        raise DataError(f"{path} does not say which data it learned from; name them with --data")
    where = place.data_dir or os.environ.get("EXPUNGE_DATA") or card.data.data_dir
    allowed = data is not None or place.allow_code
    if isinstance(spec, str):
        DataSpec.parse(spec).check(where, allow_code=allowed)
        if card.data.test is not None and card.data.test != NO_TEST:
            DataSpec.parse(card.data.test).check(where, allow_code=place.allow_code)
    _check_task(card, data, path, place)
    return Papers(Path(path), card, split, spec, where, place.allow_code, allowed, key, method)


def _with_place(card: ModelCard, spec: str, key: Key, path: str | Path) -> tuple[ModelCard, str]:
    """The card of a redacted folder with the data that it was trained on, as its key remembers them.

    Raises DataError where it does not, and the folder does not say either.
    """
    place = key.place_of(spec)
    if place is None and spec.startswith(HIDDEN):
        raise DataError(
            f"{path} is redacted and does not say where its data lie, nor does its key; name them with "
            "--data"
        )
    spec, data_dir = place or (spec, None)
    data = card.data.model_copy(update={"spec": spec, "data_dir": data_dir})
    return card.model_copy(update={"data": data}), spec


def _with_test(card: ModelCard, test: str, key: Key, path: str | Path) -> ModelCard:
    """The card of a redacted folder with the data that it is tested on; DataError if nobody knows."""
    place = key.place_of(test)
    if place is None and test.startswith(HIDDEN):
        raise DataError(
            f"{path} is redacted, and its key does not say where its test data lie; bring the key back "
            "from where it was kept"
        )
    data = card.data.model_copy(update={"test": place[0] if place else test})
    return card.model_copy(update={"data": data})


def _check_task(card: ModelCard, data: str | Data | None, path: str | Path, place: Place) -> None:
    """Raise ModelError for a task that nobody can make again, or that is code without consent.

    Data that are given as an object bring their own.
    """
    task = card.data.task
    if task is None or (data is not None and not isinstance(data, str)):
        return
    if task == OF_ITS_DATA:
        return
    if task == UNNAMED:
        raise ModelError(
            f"the task of {path} was {task}; load it there with data=load_data(..., task=...)"
        )
    check_name(task, allow_code=place.allow_code, what="task", error=ModelError)


def _check_recipe(card: ModelCard, path: str | Path) -> None:
    with reading(f"the recipe in {path}/model.json", AGAIN, ModelError):
        try:
            Recipe(**(card.recipe or {}))
        except ConfigError as error:
            raise ModelError(f"{path}/model.json: {error}") from error
