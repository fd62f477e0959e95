"""What a trigger of a backdoor is, and what all kinds of them share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

from expunge.errors import DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor


class Trigger(Protocol):
    """Something laid on images. `str()` of it is how it is typed; it never changes its input.

    Attributes:
        kind: its name.
        clean_label: whether its authors poison with right labels, so that a poison does by default.
    """

    kind: ClassVar[str]
    clean_label: ClassVar[bool]

    def apply(self, images: Tensor) -> Tensor:
        """A new tensor of the same images with the trigger on each.

        Args:
            images: (n, channels, height, width), uint8, or float in [0, 1]; they stay as they are.

        Raises:
            DataError: for anything else, or where the trigger does not fit.
        """
        ...

    def content(self) -> str:
        """All that decides what it does, for fingerprints; where a file lies is no part of it."""
        ...

    def check(self) -> None:
        """Raise DataError for a file that is not there."""
        ...

    def absolute(self) -> Trigger:
        """The same trigger, meaning the same from another folder."""
        ...


class TypedTrigger(Trigger, Protocol):
    """One that can be typed. keys: what may stand behind its name."""

    keys: ClassVar[tuple[str, ...]]

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> TypedTrigger:
        """From what was typed, by key; what was not typed has its default.

        Raises:
            DataError: for values that cannot be meant.
        """
        ...


def check_images(images: Tensor) -> None:
    """Raise DataError for what is no batch of uint8 images or of float images in [0, 1]."""
    import torch

    kind = images.dtype == torch.uint8 or images.is_floating_point()
    if images.ndim != 4 or not kind:
        raise DataError(
            "a trigger is laid on images (channels, height, width) of uint8 or float; these inputs "
            f"are {images.dtype} of shape {tuple(images.shape[1:])}"
        )
    if images.is_floating_point() and images.numel():
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"a trigger's colours mean something from 0 to 1, and these images go from {low:g} "
                f"to {high:g}; give them unnormalised, from 0 to 1 or as uint8"
            )


def read_options(text: str, keys: tuple[str, ...], kind: str) -> dict[str, str]:
    """`key=value,key=value` as a dictionary; DataError for keys that are unknown or come twice."""
    options: dict[str, str] = {}
    for pair in text.split(",") if text else []:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not value:
            raise DataError(
                f"{kind}: {pair.strip()!r} is no key=value, as in {kind}:{keys[0]}=...; a count or a "
                f"size of the data stands before the +, as in cifar10:5000+{kind}"
            )
        if key not in keys:
            raise DataError(
                f"{kind} has no {key!r}{nearest(key, keys)}; there are: {', '.join(keys)}"
            )
        if key in options:
            raise DataError(f"{kind}: {key} is given twice")
        options[key] = value
    return options


def option_number(key: str, text: str) -> float:
    """A number as typed."""
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"{key}={text}: write a number, as in {key}=0.1") from error


def whole_number(key: str, text: str) -> int:
    """A whole number from 0 as typed."""
    if not re.fullmatch(r"\s*\d{1,9}\s*", text):
        raise DataError(f"{key}={text}: write a whole number from 0")
    return int(text)
