"""A model of a study: a cell that kept its weights is a model folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, load_model

from expunge.data.load import Data
from expunge.data.split import Split
from expunge.errors import ConfigError, ModelError
from expunge.names.code import check_name
from expunge.place import Place
from expunge.study.store import CellStore
from expunge.trained.card import CARD, MASK, WEIGHTS
from expunge.trained.opening import open_papers
from expunge.trained.papers import read_papers
from expunge.trained.record import Record
from expunge.trained.trained import Trained
from expunge.training.cost import Cost
from expunge.training.recipe import Recipe
from expunge.training.session import constructor


def read_model(
    store: CellStore, key: str, data: Data, place: Place, original: Trained | None = None
) -> Trained:
    """The model of a finished cell, on these data.

    place: with consent to run what the study names. original: what it came from; needed for cells of
    format 1, which were no model folders.

    Raises ConfigError for a cell without weights, ModelError for code without consent.
    """
    folder = store.path(key)
    if not (folder / WEIGHTS).exists():
        raise ConfigError(
            f"{folder} is a record without weights, and something new starts from them; delete that "
            "folder, and run the study again"
        )
    if (folder / CARD).exists():
        return open_papers(read_papers(folder, data=data, place=replace(place, data_dir=None)))
    content = store.read(key)
    if original is None:
        return _original_of_format_1(folder, content, data, place)
    record = _record(content, "retrain", ("retrain", int(content["seed"])))
    model = constructor(original.architecture or "", data, original.split)()
    load_model(model, str(folder / WEIGHTS))
    return replace(original.then(record, model=model.eval()), data=data)


def _original_of_format_1(
    folder: Path, content: dict[str, Any], data: Data, place: Place
) -> Trained:
    config = content["config"]
    if ":" in config["model"]:
        check_name(config["model"], allow_code=place.allow_code, what="model", error=ModelError)
    split = Split.whole(data, validation=config["validation"], split_seed=config["split_seed"])
    fresh = constructor(config["model"], data, split)
    model = fresh()
    load_model(model, str(folder / WEIGHTS))
    step = "prune" if config["density"] else "train"
    return Trained(
        model.eval(),
        data,
        split,
        (_record(content, step, ("original", int(config["seed"]))),),
        Recipe(**content["recipe"]),
        fresh,
        architecture=config["model"],
        mask=load_file(folder / MASK) if (folder / MASK).exists() else None,
        seed=config["seed"],
        split_seed=config["split_seed"],
        path=folder,
    )


def _record(content: dict[str, Any], step: str, names: tuple[str | int, ...]) -> Record:
    """What a cell of format 1 says of its making."""
    return Record(
        step=step,
        names=names,
        settings=content.get("recipe") or {},
        date=content["date"],
        version=content["version"],
        cost=Cost(**content["cost"]),
        log=content["log"],
    )
