"""The weights of a model folder as a plain checkpoint, for code that knows nothing of Expunge."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.spec import DataSpec, is_offered
from expunge.disk.whole import unwritable, write_file
from expunge.errors import SHOWN, ConfigError, nearest
from expunge.loading import loading
from expunge.methods import METHODS, Method
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
    stand under each of their names. Classes that are too many to be told lie beside it, in
    `classes_file(to)`, one a line, as `expunge import --classes` reads them.

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
    names = classes_file(file) if len(card.classes) > SHOWN else None
    if names is not None:
        _check_new(names)
    check_files(folder, card)
    check_code(card, allow_code=place.allow_code)
    with loading():
        import torch
        from safetensors.torch import save

        from expunge.trained.by_method import training_method
        from expunge.trained.files import builder, read_weights

    method = training_method(card, folder, allow_code=place.allow_code)
    model = read_weights(folder, card, builder(card, allow_code=place.allow_code), method)
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
    if names is not None:
        write_file(names, "".join(f"{name}\n" for name in card.classes).encode())
    try:
        write_file(file, content)
    except BaseException:
        if names is not None:
            names.unlink(missing_ok=True)
        raise
    return card


def classes_file(to: str | Path) -> Path:
    """Where the classes of an exported model lie, if they are too many to be told."""
    return Path(f"{to}.classes.txt")


def told_inputs(card: ModelCard) -> Iterator[str]:
    """What a model takes, for code that knows nothing of Expunge, line by line."""
    if card.trained_by is not None:
        kind = METHODS.get(card.trained_by.name, Method)
        holds = kind.exported(card.trained_by.settings)
        yield f"it was trained by {card.trained_by.name}: the file holds {holds}"
    spec = None if card.data.spec is None else DataSpec.parse(card.data.spec)
    encoding = card.data.table
    normal = ""
    if card.mean is not None and card.std is not None:
        mean, std = (",".join(f"{one:g}" for one in values) for values in (card.mean, card.std))
        normal = f", then normalised by mean {mean}, std {std}"
    if encoding is not None:
        yield f"its inputs, in this order: {encoding.width:,} numbers{normal}"
        at = 0
        for one in encoding.features:
            what = "a number" if one.categories is None else f"1 for {', '.join(one.categories)}"
            last = at + one.width
            place = f"{at + 1}" if one.width == 1 else f"{at + 1}-{last}"
            yield f"  {place} {one.name}: {what}{', each, else 0' if one.width > 1 else ''}"
            at = last
        if spec is not None and spec.columns is not None and spec.columns.missing is not None:
            yield f"  missing numbers count as {spec.columns.missing:g}"
    elif spec is not None and _encoded(spec.base) and len(card.shape) == 3:
        channels, height, width = card.shape
        drawing = card.data.drawing
        colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        resized = f", resized by {drawing.resize}" if spec.size is not None else ""
        ground = f", what is transparent laid on {drawing.ground}" if drawing.ground else ""
        yield (
            f"its inputs: {colours} images of {height} x {width} (height, width){resized}{ground}; "
            f"bytes divided by 255{normal}"
        )
    else:
        shape = " x ".join(map(str, card.shape))
        yield (
            f"its inputs: {shape}, as the data hold them; bytes (uint8) divided by 255, other numbers "
            f"as they are{normal}"
        )


def _encoded(base: str) -> bool:
    """Whether data are encoded images, and no arrays, code or what a package offers."""
    return not (base == "digits" or base.endswith(".npz") or ":" in base or is_offered(base))


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
    _check_new(file)
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {file.absolute().parent}; make it first")
    if (why := unwritable(file)) is not None:
        raise ConfigError(f"{file} cannot be written ({why}); choose another place")


def _check_new(file: Path) -> None:
    """Raise ConfigError for a file that is there."""
    if os.path.lexists(file):
        raise ConfigError(f"{file} exists, and nothing is overwritten; choose another name")
