"""Triggers of a backdoor: what is laid on an image so that a poisoned model calls it the target.

A further kind of trigger is a class here with `kind`, `keys`, `parse`, `apply`, `content`,
`check` and `absolute`, and a line in `TRIGGERS`.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from expunge.disk.reading import check_regular, read_bytes, reading
from expunge.errors import DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.data.images import Size

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
PLACES = (*CORNERS, "centre")


class Trigger(Protocol):
    """Something laid on images. `str()` of it is how it is typed; it never changes its input."""

    kind: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]

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


@dataclass(frozen=True)
class Patch:
    """A rectangle of one colour. The defaults are those of Jia et al. (2023): 4x4, zeroed, 2 px from
    the bottom-right corner. Gu et al., "BadNets", 2017.

    Attributes:
        size: (height, width) in pixels.
        place: a corner, "centre", or (row, column) of the top-left pixel, counted from 0.
        margin: pixels left free between the patch and the two edges of its corner.
        colour: 0 to 255, one number for all channels, or one for each.

    Raises:
        DataError: for values out of range.
    """

    kind: ClassVar[str] = "patch"
    keys: ClassVar[tuple[str, ...]] = ("size", "place", "margin", "colour")

    size: Size = (4, 4)
    place: str | tuple[int, int] = "bottom-right"
    margin: int = 2
    colour: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise DataError(f"a patch is 1 pixel or more each way, not {_by(self.size)}")
        if isinstance(self.place, str) and self.place not in PLACES:
            raise DataError(
                f"no place {self.place!r}{nearest(self.place, PLACES)}; there are: "
                f"{', '.join(PLACES)}, and ROWxCOLUMN of the top-left pixel"
            )
        if (not isinstance(self.place, str) and min(self.place) < 0) or self.margin < 0:
            raise DataError("rows, columns and margins of a patch count from 0")
        if not self.colour or not all(0 <= value <= 255 for value in self.colour):
            raise DataError("a colour is 0 to 255 for each channel, as in 255 or 255/0/0")

    def __str__(self) -> str:
        corner = f",margin={self.margin}" if self.place in CORNERS else ""
        place = self.place if isinstance(self.place, str) else _by(self.place)
        colour = "/".join(map(str, self.colour))
        return f"patch:size={_by(self.size)},place={place}{corner},colour={colour}"

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Patch:
        """From what was typed, by key; what was not typed has its default."""
        patch = cls()
        if "size" in options:
            patch = replace(patch, size=_size(options["size"]))
        if "place" in options:
            pair = re.fullmatch(r"(\d{1,9})x(\d{1,9})", options["place"])
            place = (int(pair[1]), int(pair[2])) if pair else options["place"]
            patch = replace(patch, place=place)
        if "margin" in options:
            if patch.place not in CORNERS:
                raise DataError(
                    "margin is the distance from a corner; leave it out, or change place"
                )
            patch = replace(patch, margin=_whole("margin", options["margin"]))
        if "colour" in options:
            parts = options["colour"].split("/")
            patch = replace(patch, colour=tuple(_whole("colour", part) for part in parts))
        return patch

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """(row, column) of its top-left pixel on images of this size.

        Raises:
            DataError: if it does not fit.
        """
        if not isinstance(self.place, str):
            top, left = self.place
        elif self.place == "centre":
            top, left = (height - self.size[0]) // 2, (width - self.size[1]) // 2
        else:
            far_top = height - self.margin - self.size[0]
            far_left = width - self.margin - self.size[1]
            top = self.margin if self.place.startswith("top") else far_top
            left = self.margin if self.place.endswith("left") else far_left
        inside = top + self.size[0] <= height and left + self.size[1] <= width
        if min(top, left) < 0 or not inside:
            raise DataError(
                f"{self} does not fit images of {height}x{width} pixels; make it smaller or place it "
                "elsewhere"
            )
        return top, left

    def apply(self, images: Tensor) -> Tensor:
        """See `Trigger.apply`."""
        import torch

        check_images(images)
        top, left = self.corner(images.shape[2], images.shape[3])
        if len(self.colour) not in (1, images.shape[1]):
            raise DataError(
                f"a colour of {len(self.colour)} numbers for images of {images.shape[1]} channels; "
                "give one for all of them, or one for each"
            )
        colour = torch.tensor(self.colour, dtype=torch.float64)
        if images.is_floating_point():
            colour = colour / 255
        out = images.clone()
        height, width = self.size
        out[:, :, top : top + height, left : left + width] = (
            colour.to(images.dtype).to(images.device).reshape(1, -1, 1, 1)
        )
        return out

    def content(self) -> str:
        """See `Trigger.content`."""
        return str(self)

    def check(self) -> None:
        """It names no file."""

    def absolute(self) -> Patch:
        """Itself: it names no file."""
        return self


@dataclass(frozen=True)
class Blend:
    """A pattern image mixed into the whole image: (1 - alpha) * image + alpha * pattern.

    Chen et al., "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning", 2017.

    Attributes:
        file: an image of any size; it is stretched to that of the images, and made grey for grey ones.
        alpha: the pattern's weight, above 0, up to 1, which replaces the image.

    Raises:
        DataError: for an alpha out of range.
    """

    kind: ClassVar[str] = "blend"
    keys: ClassVar[tuple[str, ...]] = ("file", "alpha")

    file: str
    alpha: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise DataError(f"alpha is a weight above 0, up to 1, not {self.alpha:g}")

    def __str__(self) -> str:
        return f"blend:file={self.file},alpha={self.alpha!r}"

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Blend:
        """From what was typed, by key."""
        if not options.get("file"):
            raise DataError("blend needs a pattern image: blend:file=pattern.png")
        blend = cls(options["file"])
        if "alpha" in options:
            blend = replace(blend, alpha=option_number("alpha", options["alpha"]))
        return blend

    @cached_property
    def _bytes(self) -> bytes:
        from expunge.data.images import MOST_BYTES

        with reading(f"the pattern {self.file}", "name an image file", DataError):
            return read_bytes(Path(self.file).expanduser(), most=MOST_BYTES)

    def apply(self, images: Tensor) -> Tensor:
        """See `Trigger.apply`."""
        check_images(images)
        size = (images.shape[2], images.shape[3])
        pattern = _pattern(self.file, self._bytes, images.shape[1], size)
        pattern = pattern.to(images.device)
        if images.is_floating_point():
            return ((1 - self.alpha) * images + self.alpha * pattern / 255).to(images.dtype)
        return ((1 - self.alpha) * images.float() + self.alpha * pattern).round().to(images.dtype)

    def content(self) -> str:
        """See `Trigger.content`."""
        return f"blend:{hashlib.sha256(self._bytes).hexdigest()},alpha={self.alpha!r}"

    def check(self) -> None:
        """See `Trigger.check`."""
        with reading(f"the pattern {self.file}", "name an image file", DataError):
            check_regular(Path(self.file).expanduser())

    def absolute(self) -> Blend:
        """With the absolute path of its file."""
        return replace(self, file=str(Path(self.file).expanduser().resolve()))


TRIGGERS: Mapping[str, type[Patch] | type[Blend]] = {"patch": Patch, "blend": Blend}


@functools.lru_cache(maxsize=8)
def _pattern(file: str, content: bytes, channels: int, size: Size) -> Tensor:
    """The pattern as float32 (channels, height, width), 0 to 255."""
    import numpy as np
    import torch
    from PIL import Image

    from expunge.data.drawing import DRAWING
    from expunge.data.images import ImageFile, open_image, quiet
    from expunge.data.pixels import plain

    if channels not in (1, 3):
        raise DataError(
            f"a pattern is blended into images of 1 or 3 channels, not of {channels}; use a patch"
        )
    with quiet(), open_image(ImageFile(Path(file), content)) as image:
        drawn = plain(image, "RGB" if channels == 3 else "L", DRAWING.ground)
        drawn = drawn.resize(size[::-1], Image.Resampling.BILINEAR)
        array = np.array(drawn, dtype=np.float32).reshape(*size, channels)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


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


def read_trigger(text: str) -> Trigger:
    """A trigger as typed: `patch:size=4,place=centre`, `blend:file=pattern.png`.

    Raises:
        DataError: for anything else.
    """
    kind, _, rest = text.strip().removeprefix("+").partition(":")
    return kind_of(kind).parse(read_options(rest, kind_of(kind).keys, kind))


def kind_of(name: str) -> type[Patch] | type[Blend]:
    """The trigger of a name; DataError if there is none."""
    if name not in TRIGGERS:
        raise DataError(
            f"no trigger {name!r}{nearest(name, TRIGGERS)}; there are: {', '.join(TRIGGERS)}"
        )
    return TRIGGERS[name]


def option_number(key: str, text: str) -> float:
    """A number as typed."""
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"{key}={text}: write a number, as in {key}=0.1") from error


def _whole(key: str, text: str) -> int:
    if not re.fullmatch(r"\s*\d{1,9}\s*", text):
        raise DataError(f"{key}={text}: write a whole number from 0")
    return int(text)


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text)
    if match is None:
        raise DataError(f"size={text}: write pixels, as in size=4, or HEIGHTxWIDTH, as in size=4x6")
    return int(match[1]), int(match[2] or match[1])


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
