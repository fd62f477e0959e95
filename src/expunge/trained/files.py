"""The files of a model folder.

model.safetensors   weights (tied ones once)
mask.safetensors    the pruning mask, if the model is sparse
model.json          the card: how it was made, on what, from which parent
split.json          ids of each part of the training data
tokenizer/          of a model of texts, what its tokenizer is made of
artifacts/          tensors that the method made on its way, if it left any; what a method that took
                    part in training keeps, a file for each group; statistics of this model over its
                    samples, kept for further requests (training/statistics.py)
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from expunge.disk.reading import MIB, UnreadableError, check_regular, reading
from expunge.errors import ConfigError, ModelError
from expunge.methods import Method
from expunge.models.hub import HubModel
from expunge.models.mask import check_fits
from expunge.models.state import check_state, load_packed, packed_state
from expunge.models.table import build_model
from expunge.names.digests import same_digest
from expunge.trained.card import (
    AGAIN,
    ARTIFACTS,
    CARD,
    MASK,
    SPLIT,
    TOKENIZER,
    WEIGHTS,
    HubCard,
    KeptCard,
    ModelCard,
    check_code,
    digest_file,
    write_json,
)
from expunge.training.kept import Kept, KeptFile, file_of

BYTES_PER_NUMBER = 16
ROOM = {WEIGHTS: 16 * MIB, MASK: 16 * MIB, ARTIFACTS: 512 * MIB}
"""Bytes that a file may have beside those of the model's numbers: names, and what a method left."""


def write_files(
    folder: Path,
    model: nn.Module,
    card: ModelCard,
    split: Mapping[str, Any],
    *,
    mask: Mapping[str, Tensor] | None = None,
    artifacts: Mapping[str, Tensor] | None = None,
    kept: Kept | None = None,
    tokenizer: Any = None,
) -> ModelCard:
    """Write a model's files into a folder that is there. Returns the card as written.

    Raises OSError where they cannot be written.
    """
    if card.hub is not None and tokenizer is not None:
        card = card.model_copy(update={"hub": _write_tokenizer(folder, card.hub, tokenizer)})
    try:
        digests = _write_tensors(folder, model, mask, artifacts)
        groups = _write_kept(folder, kept or Kept())
    except SafetensorError as error:  # so it calls a full disk, too
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number), str(folder)) from error
    card = card.model_copy(update={**digests, "kept": groups})
    write_json(folder / CARD, card.model_dump(mode="json"))
    write_json(folder / SPLIT, dict(split))
    return card


def _write_tokenizer(folder: Path, hub: HubCard, tokenizer: Any) -> HubCard:
    """Write what a tokenizer of transformers is made of; the card with the digests of its files."""
    target = folder / TOKENIZER
    tokenizer.save_pretrained(target)
    files = {one.name: digest_file(one) for one in sorted(target.iterdir()) if one.is_file()}
    return hub.model_copy(update={"files": files})


def _write_tensors(
    folder: Path,
    model: nn.Module,
    mask: Mapping[str, Tensor] | None,
    artifacts: Mapping[str, Tensor] | None,
) -> dict[str, str]:
    """The digests of the files by their fields of the card."""
    check_state(model)
    save_file(packed_state(model), folder / WEIGHTS)
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
    return digests


def _write_kept(folder: Path, kept: Kept) -> dict[str, KeptCard]:
    """Write what a method keeps, a file for each group; what the card says of it."""
    names = kept.names()
    if names:
        (folder / ARTIFACTS).parent.mkdir(exist_ok=True)
    return {
        name: KeptCard(
            digest=kept.save(name, (folder / ARTIFACTS).parent), private=kept.is_private(name)
        )
        for name in names
    }


def read_kept(folder: Path, card: ModelCard, model: nn.Module) -> Kept:
    """What a method keeps; no file is looked at before it is asked for."""
    most = ROOM[ARTIFACTS] + BYTES_PER_NUMBER * sum(map(_numbers, model.state_dict().values()))
    files = {
        name: KeptFile(
            (folder / ARTIFACTS).parent / file_of(name, one.private),
            one.digest,
            one.private,
            most,
            within=folder,
        )
        for name, one in card.kept.items()
    }
    return Kept(None, {**files})


def read_weights(
    folder: Path,
    card: ModelCard,
    build: Callable[[], nn.Module],
    method: Method | None = None,
) -> nn.Module:
    """The model of a folder, in evaluation mode. Nothing in the folder is executed or unpickled.

    method: that the model was trained by, if it took part.
    Raises ModelError for weights that are damaged, or do not fit the model that `build` makes.
    """
    if isinstance(build, HubModel):
        with reading(folder / WEIGHTS, AGAIN, ModelError):
            build.check_size(check_regular(folder / WEIGHTS, within=folder).st_size)
    # a base that a fresh one begins with is not needed for it, and may be gone
    plain = build.blank if isinstance(build, HubModel) else build
    if method is not None:
        with reading(folder / WEIGHTS, AGAIN, ModelError):
            check_regular(folder / WEIGHTS, within=folder)
            shapes = _shapes(folder / WEIGHTS)
        try:
            method.check_stored(shapes, plain)
        except ModelError as error:
            raise ModelError(f"{folder / CARD}: trained_by: {error}; {AGAIN}") from error
    model = plain() if method is None else method.built(plain)
    _check_digest(folder, WEIGHTS, card.weights, model)
    weights = folder / WEIGHTS
    try:
        load_packed(model, load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the weights in {folder} do not fit architecture {card.architecture!r}: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval()


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Of the tensors of a file, by its header alone."""
    with safe_open(file, "pt") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


def read_mask(folder: Path, card: ModelCard, model: nn.Module) -> dict[str, Tensor] | None:
    """The mask of a sparse model; None of a dense one. Raises ModelError for one of another model."""
    mask = _read_tensors(folder, MASK, card.mask, model)
    if mask is None:
        return None
    odd = [name for name, keep in mask.items() if keep.dtype != torch.bool]
    if odd:
        raise ModelError(f"{folder / MASK}: the mask of {odd[0]!r} holds no booleans; {AGAIN}")
    try:
        check_fits(model, mask, "mask")
    except ConfigError as error:
        raise ModelError(f"{folder / MASK}: {error}") from error
    return mask


def read_artifacts(folder: Path, card: ModelCard, model: nn.Module) -> dict[str, Tensor]:
    """What the method left; empty where it left nothing."""
    return _read_tensors(folder, ARTIFACTS, card.artifacts, model) or {}


def _read_tensors(
    folder: Path, name: str, digest: str, model: nn.Module
) -> dict[str, Tensor] | None:
    if not digest:
        return None
    _check_digest(folder, name, digest, model)
    with reading(folder / name, AGAIN, ModelError):
        return load_file(folder / name)


def _check_digest(folder: Path, name: str, digest: str, model: nn.Module) -> None:
    """Raise ModelError for a file that is not the one described, or larger than it can be.

    A format before the third knew half of a digest.
    """
    file = folder / name
    with reading(file, AGAIN, ModelError):
        status = check_regular(file, within=folder)
        most = ROOM[name] + BYTES_PER_NUMBER * sum(map(_numbers, model.state_dict().values()))
        if status.st_size > most:  # a sparse file costs nothing to make, and days to read
            raise UnreadableError(f"of {status.st_size:,} bytes, where {most:,} would be many")
        if digest and not same_digest(digest_file(file), digest):
            raise ModelError(
                f"{file} is not the file that model.json describes (its digest differs); it is "
                f"damaged or was replaced: {AGAIN}, or `expunge import` new weights"
            )


def _numbers(value: object) -> int:
    """How many numbers an entry of a state dict has; of a lazy one nobody knows."""
    return value.numel() if torch.is_tensor(value) and not is_lazy(value) else 0


def builder(card: ModelCard, *, allow_code: bool) -> Callable[[], nn.Module]:
    """A function that makes the untrained model of a card.

    Raises ModelError at once if the card does not say how, or names code without consent.
    """
    check_code(card, allow_code=allow_code)
    if card.hub is not None:
        one = card.hub
        return HubModel(one.kind, one.config, card.classes, one.base, one.digest)
    architecture = card.architecture or ""
    return lambda: build_model(architecture, card.shape, len(card.classes), allow_code=True)
