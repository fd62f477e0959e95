"""A trigger that is a wave of light and dark over the whole image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from expunge.data.triggers.base import check_images, option_number
from expunge.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sinus:
    """A horizontal wave is added: v(i, j) = amplitude * sin(2 pi j frequency / width), j from 1.

    Barni, Kallas & Tondi, "A New Backdoor Attack in CNNs by Training Set Corruption without Label
    Poisoning", ICIP 2019, section 3: only images of the target class carry it, under their right label.

    Attributes:
        amplitude: grey levels, above 0, up to 255; what leaves 0 to 255 is cut off.
        frequency: waves over the width of the image, above 0.

    Raises:
        DataError: for values out of range.
    """

    kind: ClassVar[str] = "sinus"
    keys: ClassVar[tuple[str, ...]] = ("amplitude", "frequency")
    clean_label: ClassVar[bool] = True

    amplitude: float = 20.0
    frequency: float = 6.0

    def __post_init__(self) -> None:
        if not 0 < self.amplitude <= 255:
            raise DataError(
                f"amplitude={self.amplitude:g}: a wave has more than 0 grey levels, up to 255"
            )
        if not 0 < self.frequency < math.inf:
            raise DataError(
                f"frequency={self.frequency:g}: a wave has more than 0 periods over the image"
            )

    def __str__(self) -> str:
        return f"sinus:amplitude={self.amplitude!r},frequency={self.frequency!r}"

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Sinus:
        """See `TypedTrigger.parse`."""
        sinus = cls()
        for key in cls.keys:
            if key in options:
                sinus = replace(sinus, **{key: option_number(key, options[key])})
        return sinus

    def apply(self, images: Tensor) -> Tensor:
        """See `Trigger.apply`."""
        import torch

        check_images(images)
        width = images.shape[3]
        columns = torch.arange(1, width + 1, dtype=torch.float64, device=images.device)
        wave = self.amplitude * torch.sin(2 * math.pi * columns * self.frequency / width)
        if images.is_floating_point():
            return (images + wave.to(images.dtype) / 255).clamp(0, 1)
        return (images + wave).round().clamp(0, 255).to(images.dtype)

    def content(self) -> str:
        """See `Trigger.content`."""
        return str(self)

    def check(self) -> None:
        """It names no file."""

    def absolute(self) -> Sinus:
        """Itself: it names no file."""
        return self
