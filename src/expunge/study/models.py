"""A model of a study: a cell that kept its weights is a model folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from safetensors.torch import load_file

from expunge.data.load import Data
from expunge.data.split import Split
from expunge.disk.reading import reading
from expunge.errors import ConfigError
from expunge.models.state import load_packed
from expunge.place import Place
from expunge.study.cells import Cell
from expunge.study.store import CellStore
from expunge.trained.card import CARD, MASK, WEIGHTS
from expunge.trained.opening import open_papers
from expunge.trained.papers import read_papers
from expunge.trained.record import Record
from expunge.trained.trained import Trained
from expunge.training.cost import Cost
from expunge.training.recipe import Recipe
from expunge.training.session import constructor
from expunge.training.trial import try_out


def read_model(store: CellStore, cell: Cell, data: Data, place: Place) -> Trained:
    """The model of a finished cell, on these data.

    Which architecture it has is what the study says, as planned: a name in the cell's folder is never
    looked up. place: with consent to run what the study names.

    Raises ConfigError for a cell without weights, or one that is damaged; ModelError for code without
    consent.
    """
    folder = store.path(cell.key)
    if not (folder / WEIGHTS).exists():
        raise ConfigError(
            f"{folder} is a record without weights, and something new starts from them; delete that "
            "folder, and run the study again"
        )
    store.check_files(cell.key)
    with reading(folder, f"delete {folder}, and run the study again", ConfigError):
        return _read(store, cell, data, place)


def _read(store: CellStore, cell: Cell, data: Data, place: Place) -> Trained:
    folder = store.path(cell.key)
    config = (cell.starts[0] if cell.starts else cell).config
    split = Split.whole(data, validation=config["validation"], split_seed=config["split_seed"])
    fresh = constructor(config["model"], data, split, allow_code=place.allow_code)
    if (folder / CARD).exists():
        papers = read_papers(folder, data=data, place=replace(place, data_dir=None), own_model=True)
        return replace(open_papers(papers, fresh=fresh), architecture=config["model"])
    content = store.read(cell.key)
    model = fresh()
    load_packed(model, load_file(folder / WEIGHTS))
    try_out(model.eval(), data, split)
    if cell.starts:
        record = _record(content, "retrain", ("retrain", cell.seed))
        original = read_model(store, cell.starts[0], data, place)
        return original.then(record, model=model)
    step = "prune" if config["density"] else "train"
    return Trained(
        model,
        data,
        split,
        (_record(content, step, ("original", cell.seed)),),
        Recipe(**content["recipe"]),
        fresh,
        architecture=config["model"],
        mask=load_file(folder / MASK) if (folder / MASK).exists() else None,
        seed=cell.seed,
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
