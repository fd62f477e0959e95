"""A trigger that bends the whole image a little, each image in its own pixels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from expunge.data.triggers.base import check_images, option_number, whole_number
from expunge.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.data.images import Size


@dataclass(frozen=True)
class Warp:
    """A smooth field of small shifts, the same for all images: what it changes differs from one image
    to the next, so no patch or pattern can be cut out of it.

    Nguyen & Tran, "WaNet: Imperceptible Warping-based Backdoor Attack", ICLR 2021, equations 3 to 5:
    shifts drawn from [-1, 1] at grid x grid points, divided by their mean size, times the strength,
    made smooth by bicubic interpolation, and cut off at the edges of the image. Deviation: the strength
    is in pixels. The authors' s = 0.5 is about a quarter of a pixel, with their noise mode, which is
    not here, and 10 % of the images; a small network with less poison needs more to learn it.

    Attributes:
        grid: points each way; more make a finer field.
        strength: mean shift along each axis, in pixels.
        seed: of the draw of the shifts.

    Raises:
        DataError: for values out of range.
    """

    kind: ClassVar[str] = "warp"
    keys: ClassVar[tuple[str, ...]] = ("grid", "strength", "seed")
    clean_label: ClassVar[bool] = False

    grid: int = 4
    strength: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.grid <= 1024:
            raise DataError(f"grid={self.grid}: a warp has 2 to 1024 points each way")
        if not 0 < self.strength < 1000:
            raise DataError(
                f"strength={self.strength:g}: a warp shifts by more than 0 pixels, and by under 1000"
            )

    def __str__(self) -> str:
        return f"warp:grid={self.grid},strength={self.strength!r},seed={self.seed}"

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Warp:
        """See `TypedTrigger.parse`."""
        warp = cls()
        for key in ("grid", "seed"):
            if key in options:
                warp = replace(warp, **{key: whole_number(key, options[key])})
        if "strength" in options:
            warp = replace(warp, strength=option_number("strength", options["strength"]))
        return warp

    def apply(self, images: Tensor) -> Tensor:
        """See `Trigger.apply`. Colours between pixels are interpolated."""
        import torch
        from torch.nn import functional

        check_images(images)
        if not len(images):
            return images.clone()
        places = warped_places(self, (images.shape[2], images.shape[3])).to(images.device)
        places = places.expand(len(images), -1, -1, -1)
        exact = images.dtype if images.dtype == torch.float64 else torch.float32
        bent = functional.grid_sample(
            images.to(exact), places.to(exact), padding_mode="border", align_corners=True
        )
        if not images.is_floating_point():
            bent = bent.round()
        return bent.clamp(0, 1 if images.is_floating_point() else 255).to(images.dtype)

    def content(self) -> str:
        """See `Trigger.content`."""
        return str(self)

    def check(self) -> None:
        """It names no file."""

    def absolute(self) -> Warp:
        """Itself: it names no file."""
        return self


@functools.lru_cache(maxsize=8)
def warped_places(warp: Warp, size: Size) -> Tensor:
    """Where each pixel's colour comes from: (1, height, width, 2) of (x, y), each from -1 to 1, the
    middles of the first and of the last pixel.
    """
    import torch
    from torch.nn import functional

    from expunge.names.seeds import numpy_generator

    drawn = numpy_generator("warp", warp.seed).uniform(-1, 1, (1, 2, warp.grid, warp.grid))
    coarse = torch.from_numpy(drawn / abs(drawn).mean() * warp.strength)
    shifts = functional.interpolate(coarse, size, mode="bicubic", align_corners=True)
    rows, columns = (torch.linspace(-1, 1, length, dtype=torch.float64) for length in size)
    own = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    pixel = torch.tensor([2 / max(length - 1, 1) for length in reversed(size)])
    return (own + shifts.permute(0, 2, 3, 1) * pixel).clamp(-1, 1)
