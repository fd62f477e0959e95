"""What begins the name of a thing of another library, and whether that library is there."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from expunge.errors import UserError

HUB = "hf:"
"""Of a dataset or a model of Hugging Face: a folder, or a name of its hub."""
LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "hf": "transformers"}
"""What begins a model's name -> the package that makes it."""
EXTRAS = {"timm": "vision", "torchvision": "vision", "transformers": "hf", "datasets": "hf"}
"""The extra of this package that brings each."""


def library_of(model: str) -> str | None:
    """The prefix of `timm:NAME`, `torchvision:NAME` or `hf:NAME`; None for other names."""
    prefix, colon, _ = model.partition(":")
    return prefix if colon and prefix in LIBRARIES else None


def names_code(model: str) -> bool:
    """Whether a model's name is `module:function`, which is run to make it."""
    return ":" in model and library_of(model) is None


def check_package(package: str, name: str, error: type[UserError]) -> None:
    """Raise where a package is missing. name: what was typed, which needs it."""
    if package not in sys.modules and find_spec(package) is None:
        raise error(
            f"{name} needs the package {package}, which is not installed; install it with "
            f"`pip install 'expunge[{EXTRAS[package]}]'`"
        )
