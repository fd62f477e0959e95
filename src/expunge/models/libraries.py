"""Architectures of timm and torchvision, by `timm:NAME` and `torchvision:NAME`: untrained."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from expunge.errors import ModelError, nearest
from expunge.names.code import in_a_line
from expunge.names.libraries import check_package

if TYPE_CHECKING:
    from torch import nn


def library_model(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """An untrained model of another library, its weights drawn from torch's global generator.

    name: `timm:NAME` or `torchvision:NAME`. shape: (channels, height, width) of one input. Raises
    ModelError where the library is missing or broken, has no such model, or cannot make it so.
    """
    prefix, _, own = name.partition(":")
    check_package(prefix, name, ModelError)
    library = _imported("timm" if prefix == "timm" else "torchvision.models", name)
    known = library.list_models()
    if own not in known:
        raise ModelError(f"{prefix} has no model {own!r}{nearest(own, known)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if prefix == "timm":
                made: Any = library.create_model(
                    own, pretrained=False, num_classes=classes, in_chans=shape[0]
                )
            else:
                made = library.get_model(own, weights=None, num_classes=classes)
    except Exception as cause:  # whatever their models make of such settings
        raise ModelError(
            f"{name} cannot be made for {classes} classes and inputs of shape {shape} "
            f"({in_a_line(cause)[:300]}); choose another model"
        ) from cause
    model: nn.Module = made
    return model


def _imported(module: str, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except Exception as cause:  # its wheel may not fit this build of torch
        raise ModelError(
            f"{name}: {module} cannot be imported ({in_a_line(cause)[:300]}); install a build that fits "
            "this torch"
        ) from cause
