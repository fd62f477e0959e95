"""A model of transformers and its data, fitted to each other: tokens, normalisation, classes, shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from expunge.data.load import Data
from expunge.data.tokens import TextStore, TokenStore
from expunge.data.transform import Normalisation
from expunge.errors import ConfigError, listed
from expunge.models.hub import (
    HubModel,
    check_tokens,
    folder_of,
    load_tokenizer,
    read_config,
)
from expunge.models.processor import PROCESSOR, processor_of
from expunge.names.libraries import HUB, library_of
from expunge.progress import Reporter, Silent


def as_read_by(model: object, data: Data, progress: Reporter | None = None) -> Data:
    """Data as a model reads them: texts as its own tokens, images normalised as its processor does.

    model: `hf:FOLDER` or `hf:NAME`; for anything else the data stay as they are.
    """
    if not isinstance(model, str) or library_of(model) != "hf":
        return data
    if isinstance(data.train.store, TextStore):
        folder = folder_of(model)
        with (progress or Silent()).work("tokenising texts"):
            return data.tokenised(load_tokenizer(folder, read_config(folder)))
    if isinstance(data.train.store, TokenStore) or not data.normalise:
        return data
    told = processor_of(folder_of(model))
    if told.mean is None or told.std is None:
        return data
    channels = data.train.shape()[0]
    for values in (told.mean, told.std):
        if len(values) not in (1, channels):
            raise ConfigError(
                f"{PROCESSOR} normalises {len(values)} channels, and the images have {channels}; give "
                "the file that belongs to the model"
            )
    return data.with_normalisation(Normalisation(told.mean, told.std))


def with_new_head(model: object, data: Data) -> Data:
    """Data with a note, where a model is to begin with pretrained weights: its head is a new one."""
    if not isinstance(model, str) or library_of(model) != "hf":
        return data
    if not any(folder_of(model).glob("*.safetensors")):
        return data
    note = (
        f"the model begins with the pretrained weights of {Path(model.removeprefix(HUB)).name} and a "
        "new head; one that they bring is not used, for it may have learned from these data"
    )
    return replace(data, notes=(*data.notes, note))


def hub_model(model: str, data: Data) -> HubModel:
    """What makes the model `hf:FOLDER` or `hf:NAME` for the classes of some data.

    Raises ConfigError for data that it cannot take, ModelError for a folder that makes no model.
    """
    if data.table is not None:
        raise ConfigError(
            f"{model} reads texts or images, and the data are a table of "
            f"{listed([one.name for one in data.table.features])}; to classify texts, call their column "
            "text and that of labels label, and say nothing of columns"
        )
    folder = folder_of(model)
    own = model.removeprefix(HUB)
    store = data.train.store
    text = isinstance(store, TextStore | TokenStore)
    base = str(folder) if Path(own).expanduser().is_dir() else own
    made = HubModel.of_folder(folder, "text" if text else "image", data.classes, base)
    made.check_size()
    if isinstance(store, TokenStore):
        check_tokens(
            made.config, 1 + int(store.tokens["input_ids"].max()), int(store.lengths.max())
        )
    elif not text:
        made.check_pictures(data.train.shape())
    return made
