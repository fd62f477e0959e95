"""The architectures that have a name, and how a name or `module:function` becomes a model."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.errors import ModelError
from expunge.models.hub import check_hub_model
from expunge.models.libraries import library_model
from expunge.names.code import check_name, import_object
from expunge.names.libraries import LIBRARIES, check_package, library_of
from expunge.names.tables import by_name, pick

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        name: what the user types; the function of that name builds it.
        summary: one line for lists.
        paper: where it was published.
        file: of this folder, which holds the function; by default the one of its name.
    """

    name: str
    summary: str
    paper: str
    file: str = ""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A fresh model for inputs of this shape; torch is imported only now."""
        module = importlib.import_module(f"expunge.models.{self.file or self.name}")
        model: nn.Module = getattr(module, self.name)(shape, classes)
        return model


ROWS = (
    Architecture("mlp", "two hidden layers, 256 and 128 units; any input", "LeCun et al., 1998"),
    Architecture("cnn", "three convolutions, quick on a CPU", "after LeCun et al., 1998"),
    Architecture(
        "cnn_groupnorm",
        "the same without running statistics, as proofs want it",
        "Wu and He, ECCV 2018",
        "cnn",
    ),
    Architecture("resnet20", "the CIFAR ResNet, 0.27 M weights", "He et al., CVPR 2016", "resnet"),
    Architecture(
        "resnet18",
        "ResNet-18 with a 3x3 stem, 11 M weights",
        "He et al., CVPR 2016",
        "resnet",
    ),
    Architecture(
        "resnet18_imagenet",
        "ResNet-18 with its 7x7 stem; ten times faster on small images",
        "He et al., CVPR 2016",
        "resnet",
    ),
    Architecture(
        "allcnn",
        "All-CNN-C with BatchNorm",
        "Springenberg et al., ICLR workshop 2015",
    ),
    Architecture(
        "vgg16_bn",
        "VGG-16 with BatchNorm, 15 M weights",
        "Simonyan and Zisserman, ICLR 2015",
    ),
)
OTHERS = {
    "hf:FOLDER | hf:NAME": "a model of transformers that classifies texts or images, by the extra `hf`; "
    "weights in its folder are where training begins",
    "timm:NAME | torchvision:NAME": "an architecture of these packages, untrained, by the extra "
    "`vision`",
    "module:function": "a function of yours; gets shape= and classes= if it wants them",
}
"""What can be typed in place of a name."""
ARCHITECTURES = by_name("architecture", ((row.name, row) for row in ROWS))


def check_model(name: str, *, allow_code: bool) -> None:
    """Raise ModelError for a name that is no architecture, no model of a library that is there and no
    `module:function`, or for one of code without consent. Nothing is imported; the arguments are
    those of `build_model`.
    """
    library = library_of(name)
    if library is not None:
        check_package(LIBRARIES[library], name, ModelError)
        if library == "hf":
            check_hub_model(name)
    elif ":" in name:
        check_name(name, allow_code=allow_code, what="model", error=ModelError)
    else:
        pick("architecture", ARCHITECTURES, name, also=("module:function",), error=ModelError)


def build_model(name: str, shape: tuple[int, ...], classes: int, *, allow_code: bool) -> nn.Module:
    """A fresh model, its weights drawn from torch's global generator (seed that before).

    Args:
        name: a key of `ARCHITECTURES`, `timm:NAME`, `torchvision:NAME`, or `module:function`,
            imported with the current directory on the path. The function is called with those of the
            keyword arguments `shape` and `classes` that it names; `**kwargs` alone gets neither.
        shape: shape of one input, without the batch axis: (channels, height, width) or (d,).
        classes: number of logits, at least 1.
        allow_code: whether `module:function` may be imported; False for a name that comes from a
            file rather than from the user.

    Raises:
        ModelError: an unknown name, code that is not allowed or gives no `nn.Module`, or a shape
            that the architecture cannot take.
    """
    shape = tuple(shape)
    if not shape or min(shape) < 1:
        raise ModelError(f"the shape of one input must be positive sizes, not {shape}")
    if classes < 1:
        raise ModelError(f"the number of classes must be at least 1, not {classes}")
    if library_of(name) in ("timm", "torchvision"):
        return library_model(name, shape, classes)
    if ":" in name:
        available = {"shape": shape, "classes": classes}
        return _build_from_code(name, available, allow_code=allow_code)
    found = pick("architecture", ARCHITECTURES, name, also=("module:function",), error=ModelError)
    return found.build(shape, classes)


def _build_from_code(name: str, available: dict[str, Any], *, allow_code: bool) -> nn.Module:
    from torch import nn

    function = import_object(name, allow_code=allow_code, what="model", error=ModelError)
    if not callable(function):
        raise ModelError(f"{name!r} must be a function that returns a model, not {function!r}")
    model = function(**_accepted(name, function, available))
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name!r} must return a torch.nn.Module, not {type(model).__name__}")
    return model


def _accepted(
    name: str, function: Callable[..., object], available: dict[str, Any]
) -> dict[str, Any]:
    """Those of the `available` arguments that `function` names and takes by keyword."""
    by_keyword = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    try:
        signature = inspect.signature(function)
        named = {key for key, value in signature.parameters.items() if value.kind in by_keyword}
        chosen = {key: value for key, value in available.items() if key in named}
        signature.bind(**chosen)
    except (TypeError, ValueError) as error:  # ValueError: a builtin without a signature
        raise ModelError(
            f"{name!r} is called with the keyword arguments shape and classes, those that it "
            f"names, and that does not fit: {error}"
        ) from error
    return chosen
