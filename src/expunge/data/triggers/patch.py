"""A trigger that covers a rectangle of the image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from expunge.data.triggers.base import check_images, whole_number
from expunge.errors import DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.data.images import Size

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
PLACES = (*CORNERS, "centre")


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
    clean_label: ClassVar[bool] = False

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
            patch = replace(patch, margin=whole_number("margin", options["margin"]))
        if "colour" in options:
            parts = options["colour"].split("/")
            patch = replace(patch, colour=tuple(whole_number("colour", part) for part in parts))
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


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text)
    if match is None:
        raise DataError(f"size={text}: write pixels, as in size=4, or HEIGHTxWIDTH, as in size=4x6")
    return int(match[1]), int(match[2] or match[1])


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
