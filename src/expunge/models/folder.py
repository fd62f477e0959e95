"""The model folder: weights, card and split of one model, written whole or not at all.

model.safetensors   weights (tied ones once)
mask.safetensors    the pruning mask, if the model is sparse
model.json          the card: how it was made, on what, from which parent
split.json          ids of each part of the training data
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from expunge.atomic import written_whole
from expunge.errors import ModelError
from expunge.models.table import build_model

FORMAT = 1


class DataCard(BaseModel):
    """Which data a model was trained on. data_dir is a hint: another machine has another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str | None
    data_dir: str | None = None
    fingerprint: str
    positional: bool
    test_fingerprint: str


class Ancestor(BaseModel):
    """One step in the making of a model, oldest first in `ModelCard.lineage`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    parent: str | None = None
    settings: dict[str, Any] = {}
    names: tuple[str | int, ...] = ()
    date: str
    version: str
    split: str
    forgotten: int = 0
    cost: dict[str, Any] = {}
    log: dict[str, Any] = {}


class ModelCard(BaseModel):
    """Everything about a model but its weights.

    architecture: a name or `module:function`; None for a module made in Python, which must be
    given again to load. shape: of one input. seed: of the original training. weights, mask: digests
    of these files; mask is empty for a dense model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    architecture: str | None
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    data: DataCard
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    split_seed: int | None = None
    lineage: tuple[Ancestor, ...] = Field(min_length=1)
    weights: str = ""
    mask: str = ""


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
        _write_json(folder / "model.json", card.model_dump(mode="json"))
        _write_json(folder / "split.json", dict(split))
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
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{folder} has no model.safetensors; copy the whole folder again")
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


def read_split(folder: Path) -> dict[str, Any]:
    """The split of a model folder as plain data."""
    return _read_json(folder / "split.json")


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder, checked."""
    if not (folder / "model.json").is_file():
        what = "is not a model folder (no model.json)" if folder.exists() else "does not exist"
        raise ModelError(f"{folder} {what}; make one with `expunge train` or `expunge import`")
    content = _read_json(folder / "model.json")
    version = content.get("format")
    if version != FORMAT:
        raise ModelError(
            f"{folder} has format {version}, this version reads {FORMAT}; install the version of "
            "expunge that wrote it"
        )
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise ModelError(f"{folder}/model.json: {name}: {problem['msg']}") from error


def builder(card: ModelCard, *, allow_code: bool) -> Callable[[], nn.Module]:
    """A function that makes the untrained model of a card.

    Raises ModelError at once if the card does not say how, or names code without consent.
    """
    architecture = card.architecture
    if architecture is None:
        raise ModelError(
            "the model folder does not say how to build its model, which was made in Python; load it "
            "there with build=..."
        )
    if ":" in architecture and not allow_code:
        build_model(architecture, card.shape, len(card.classes), allow_code=False)  # raises
    return lambda: build_model(architecture, card.shape, len(card.classes), allow_code=True)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint trained elsewhere: safetensors, or a state dict saved by torch.

    A state dict may lie under a key `state_dict` or `model`, and its names may start with
    "module.", as DataParallel leaves them. Files that would have to be unpickled are refused.
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"no weights file {file}; name a .safetensors or a .pt file")
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


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise ModelError early if a folder could not be written later."""
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ModelError(f"{target} cannot be made: {above} is no folder that you may write to")
    if target.exists() and not overwrite:
        raise ModelError(f"{target} exists; choose another folder, or pass --overwrite")
    if overwrite and target.exists() and not (target / "model.json").is_file():
        raise ModelError(f"{target} exists and is no model folder; choose another name")


def digest_file(path: Path) -> str:
    """Digest of a file's bytes, 32 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path} ({error}); copy the whole folder again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} does not hold an object; copy the whole folder again")
    return content
