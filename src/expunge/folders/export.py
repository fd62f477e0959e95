"""The weights of a model folder as a plain checkpoint, for code that knows nothing of Expunge."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.disk.whole import unwritable, write_file
from expunge.errors import ConfigError, nearest
from expunge.loading import loading
from expunge.models.no_checkpoint import SAFETENSORS
from expunge.place import HERE, Place
from expunge.trained.card import check_code, check_files, read_card

if TYPE_CHECKING:
    from expunge.trained.card import ModelCard

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar", SAFETENSORS)


def export_folder(
    path: str | Path, to: str | Path, *, key: str | None = None, place: Place = HERE
) -> ModelCard:
    """Write the weights of a model folder as a state dict, whole or not at all; no data are read.

    `torch.load(to)` loads it without unpickling anything. Weights that a mask cuts are 0, and tied ones
    stand under each of their names.

    Args:
        path: the model folder.
        to: a file that is not there yet; .safetensors, or .pt and the like for torch.save.
        key: put the state dict under this key of a dictionary, as some code wants it.
        place: allow_code is consent to run the code that the folder names for its model.

    Returns:
        What the folder says of its model: normalisation, classes in the order of its outputs.

    Raises:
        ConfigError: for a file that exists or cannot be written, or a key where there can be none.
        ModelError: for a folder that is none, is damaged, or names code without consent.
    """
    file, folder = Path(to), Path(path)
    _check_target(file, key)
    card = read_card(folder)
    check_files(folder, card)
    check_code(card, allow_code=place.allow_code)
    with loading():
        import torch
        from safetensors.torch import save

        from expunge.trained.files import builder, read_weights

    model = read_weights(folder, card, builder(card, allow_code=place.allow_code))
    state = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    if file.suffix == SAFETENSORS:
        content = save(state, metadata={"format": "pt"})
    else:
        stream = io.BytesIO()
        torch.save(state if key is None else {key: state}, stream)
        content = stream.getvalue()
    write_file(file, content)
    return card


def _check_target(file: Path, key: str | None) -> None:
    """Raise ConfigError for what could not be written, or must not be."""
    if file.suffix not in SUFFIXES:
        raise ConfigError(
            f"{file} does not say its format{nearest(file.suffix, SUFFIXES)}; let it end in one of "
            f"{', '.join(SUFFIXES)}"
        )
    if key is not None and file.suffix == SAFETENSORS:
        raise ConfigError(
            "safetensors hold names and tensors alone; leave --key out, or write a .pt"
        )
    if os.path.lexists(file):
        raise ConfigError(f"{file} exists, and nothing is overwritten; choose another name")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {file.absolute().parent}; make it first")
    if (why := unwritable(file)) is not None:
        raise ConfigError(f"{file} cannot be written ({why}); choose another place")
