"""The model folder: weights, card and split of one model, written whole or not at all.

model.safetensors   weights (tied ones once)
mask.safetensors    the pruning mask, if the model is sparse
model.json          the card: how it was made, on what, from which parent
split.json          ids of each part of the training data
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from expunge.atomic import written_whole
from expunge.errors import ModelError
from expunge.models.card import (
    ModelCard,
    check_code,
    check_files,
    check_target,
    check_weights_file,
    digest_file,
    read_card,
    write_json,
)
from expunge.models.table import build_model


@dataclass(frozen=True)
class Folder:
    """A model folder, loaded but for its split (see `read_split`)."""

    path: Path
    model: nn.Module
    card: ModelCard
    mask: dict[str, Tensor] | None = None


def save_folder(
    path: str | Path,
    model: nn.Module,
    card: ModelCard,
    split: Mapping[str, Any],
    *,
    mask: Mapping[str, Tensor] | None = None,
    overwrite: bool = False,
) -> ModelCard:
    """Write a model folder; it appears under its name only when it is complete.

    Raises ModelError if the folder exists and `overwrite` is not set; overwriting swaps the old
    folder for the new one by renaming. Returns the card as written.
    """
    target = Path(path)
    check_target(target, overwrite=overwrite)
    with written_whole(target, overwrite=overwrite) as folder:
        weights = folder / "model.safetensors"
        save_model(model, str(weights))
        if mask is not None:
            packed = {name: keep.to("cpu", torch.bool).contiguous() for name, keep in mask.items()}
            save_file(packed, folder / "mask.safetensors")
        masked = digest_file(folder / "mask.safetensors") if mask is not None else ""
        card = card.model_copy(update={"weights": digest_file(weights), "mask": masked})
        write_json(folder / "model.json", card.model_dump(mode="json"))
        write_json(folder / "split.json", dict(split))
    return card


def load_folder(
    path: str | Path,
    *,
    allow_code: bool = False,
    build: Callable[[], nn.Module] | None = None,
) -> Folder:
    """Read a model folder. Nothing in it is executed or unpickled.

    allow_code: consent to import an architecture `module:function` that the card names.
    build: makes the untrained model where the card does not say how, or instead of what it says.
    Raises ModelError for a folder that is missing, damaged or of another version.
    """
    folder = Path(path)
    card = read_card(folder)
    check_files(folder, card)
    weights = folder / "model.safetensors"
    if card.weights and digest_file(weights) != card.weights:
        raise ModelError(
            f"{weights} is not the file that model.json describes (its digest differs); it is "
            "damaged or was replaced: copy the whole folder again, or `expunge import` new weights"
        )
    model = build() if build is not None else builder(card, allow_code=allow_code)()
    try:
        load_model(model, str(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the weights in {folder} do not fit architecture {card.architecture!r}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    mask = _read_mask(folder / "mask.safetensors", card)
    return Folder(folder, model.eval(), card, mask)


def _read_mask(file: Path, card: ModelCard) -> dict[str, Tensor] | None:
    """The mask that the card describes; None for a dense model."""
    if not card.mask:
        return None
    if not file.is_file() or digest_file(file) != card.mask:
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


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint trained elsewhere: safetensors, or a state dict saved by torch.

    A state dict may lie under a key `state_dict` or `model`, and its names may start with
    "module.", as DataParallel leaves them. Files that would have to be unpickled are refused.
    """
    file = Path(path)
    check_weights_file(file)
    try:
        if file.suffix == ".safetensors":
            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a file that it will not read
        raise ModelError(
            f"cannot read {file} without unpickling it ({_first_line(error)}); save the "
            "weights alone, with safetensors or torch.save(model.state_dict(), ...)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{file} holds no state dict; save model.state_dict()")
    expected = model.state_dict()
    if not set(state) & set(expected):  # as DataParallel leaves them
        state = {name.removeprefix("module."): value for name, value in state.items()}
    for name, value in expected.items():  # tied weights are saved once
        twins = [other for other, one in expected.items() if one.data_ptr() == value.data_ptr()]
        saved = [other for other in twins if other in state]
        if name not in state and saved and value.numel():
            state[name] = state[saved[0]]
    missing = sorted(set(expected) - set(state))
    surplus = sorted(set(state) - set(expected))
    wrong = [n for n in expected if n in state and state[n].shape != expected[n].shape]
    if missing or surplus or wrong:
        problems = [f"lacks {missing[0]} ({len(missing)} in all)"] if missing else []
        problems += [f"has {surplus[0]} too many ({len(surplus)} in all)"] if surplus else []
        problems += [
            f"{n} is {tuple(state[n].shape)}, not {tuple(expected[n].shape)}" for n in wrong[:1]
        ]
        raise ModelError(f"{file} does not fit the model: it {'; '.join(problems)}")
    model.load_state_dict(state)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
