"""The files of a model folder.

model.safetensors   weights (tied ones once)
mask.safetensors    the pruning mask, if the model is sparse
model.json          the card: how it was made, on what, from which parent
split.json          ids of each part of the training data
artifacts/          tensors that the method made on its way, if it left any
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from expunge.errors import ModelError
from expunge.models.table import build_model
from expunge.trained.card import (
    ARTIFACTS,
    CARD,
    MASK,
    SPLIT,
    WEIGHTS,
    ModelCard,
    check_code,
    digest_file,
    write_json,
)


def write_files(
    folder: Path,
    model: nn.Module,
    card: ModelCard,
    split: Mapping[str, Any],
    *,
    mask: Mapping[str, Tensor] | None = None,
    artifacts: Mapping[str, Tensor] | None = None,
) -> ModelCard:
    """Write a model's files into a folder that is there. Returns the card as written."""
    save_model(model, str(folder / WEIGHTS))
    digests = {"weights": digest_file(folder / WEIGHTS), "mask": "", "artifacts": ""}
    if mask is not None:
        packed = {name: keep.to("cpu", torch.bool).contiguous() for name, keep in mask.items()}
        save_file(packed, folder / MASK)
        digests["mask"] = digest_file(folder / MASK)
    if artifacts:
        (folder / ARTIFACTS).parent.mkdir()
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in artifacts.items()},
            folder / ARTIFACTS,
        )
        digests["artifacts"] = digest_file(folder / ARTIFACTS)
    card = card.model_copy(update=digests)
    write_json(folder / CARD, card.model_dump(mode="json"))
    write_json(folder / SPLIT, dict(split))
    return card


def read_weights(folder: Path, card: ModelCard, build: Callable[[], nn.Module]) -> nn.Module:
    """The model of a folder, in evaluation mode. Nothing in the folder is executed or unpickled.

    Raises ModelError for weights that are damaged, or do not fit the model that `build` makes.
    """
    weights = folder / WEIGHTS
    if card.weights and digest_file(weights) != card.weights:
        raise ModelError(
            f"{weights} is not the file that model.json describes (its digest differs); it is "
            "damaged or was replaced: copy the whole folder again, or `expunge import` new weights"
        )
    model = build()
    try:
        load_model(model, str(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the weights in {folder} do not fit architecture {card.architecture!r}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval()


def read_tensors(folder: Path, name: str, digest: str) -> dict[str, Tensor] | None:
    """The mask or the artifacts that the card describes by a digest; None without one."""
    if not digest:
        return None
    file = folder / name
    if not file.is_file() or digest_file(file) != digest:
        raise ModelError(
            f"{file} is missing or not the file that model.json describes; copy the whole folder again"
        )
    return load_file(file)


def builder(card: ModelCard, *, allow_code: bool) -> Callable[[], nn.Module]:
    """A function that makes the untrained model of a card.

    Raises ModelError at once if the card does not say how, or names code without consent.
    """
    check_code(card, allow_code=allow_code)
    architecture = card.architecture or ""
    return lambda: build_model(architecture, card.shape, len(card.classes), allow_code=True)
