"""A trigger that is an image, mixed into the whole of another."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from expunge.data.triggers.base import check_images, option_number
from expunge.disk.reading import check_regular, read_bytes, reading
from expunge.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

RANDOM = "random"


@dataclass(frozen=True)
class Blend:
    """A pattern image mixed into the whole image: (1 - alpha) * image + alpha * pattern.

    Chen et al., "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning", 2017.

    Attributes:
        file: an image of any size; it is stretched to that of the images, and made grey for grey ones.
            "random": no file, but colours drawn for each pixel, the paper's random pattern.
        alpha: the pattern's weight, above 0, up to 1, which replaces the image.

    Raises:
        DataError: for an alpha out of range.
    """

    kind: ClassVar[str] = "blend"
    keys: ClassVar[tuple[str, ...]] = ("file", "alpha")
    clean_label: ClassVar[bool] = False

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
            raise DataError(
                f"blend needs a pattern image: blend:file=pattern.png, or file={RANDOM} for noise"
            )
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
        shape = (images.shape[1], images.shape[2], images.shape[3])
        drawn = self.file == RANDOM
        pattern = random_pattern(shape) if drawn else _pattern(self.file, self._bytes, shape)
        pattern = pattern.to(images.device)
        if images.is_floating_point():
            return ((1 - self.alpha) * images + self.alpha * pattern / 255).to(images.dtype)
        return ((1 - self.alpha) * images.float() + self.alpha * pattern).round().to(images.dtype)

    def content(self) -> str:
        """See `Trigger.content`."""
        if self.file == RANDOM:
            return str(self)
        return f"blend:{hashlib.sha256(self._bytes).hexdigest()},alpha={self.alpha!r}"

    def check(self) -> None:
        """See `Trigger.check`."""
        if self.file == RANDOM:
            return
        with reading(f"the pattern {self.file}", "name an image file", DataError):
            check_regular(Path(self.file).expanduser())

    def absolute(self) -> Blend:
        """With the absolute path of its file."""
        if self.file == RANDOM:
            return self
        return replace(self, file=str(Path(self.file).expanduser().resolve()))


@functools.lru_cache(maxsize=8)
def random_pattern(shape: tuple[int, int, int]) -> Tensor:
    """Noise, float32 (channels, height, width), 0 to 255, the same for all images of one shape."""
    import torch

    from expunge.names.seeds import numpy_generator

    drawn = numpy_generator("blend", RANDOM).integers(0, 256, shape)
    return torch.from_numpy(drawn).float()


@functools.lru_cache(maxsize=8)
def _pattern(file: str, content: bytes, shape: tuple[int, int, int]) -> Tensor:
    """The pattern as float32 (channels, height, width), 0 to 255."""
    import numpy as np
    import torch
    from PIL import Image

    from expunge.data.drawing import DRAWING
    from expunge.data.images import ImageFile, open_image, quiet
    from expunge.data.pixels import plain

    channels, size = shape[0], shape[1:]
    if channels not in (1, 3):
        raise DataError(
            f"a pattern is blended into images of 1 or 3 channels, not of {channels}; use a patch"
        )
    with quiet(), open_image(ImageFile(Path(file), content)) as image:
        drawn = plain(image, "RGB" if channels == 3 else "L", DRAWING.ground)
        drawn = drawn.resize(size[::-1], Image.Resampling.BILINEAR)
        array = np.array(drawn, dtype=np.float32).reshape(*size, channels)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
