"""How encoded images become pixels, as it is chosen and recorded; no image is touched here."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Filter = Literal["bilinear", "nearest", "box", "hamming", "bicubic", "lanczos"]
RESIZE_FILTERS: tuple[str, ...] = get_args(Filter)
"""Filters of Pillow; when an image is made smaller, each but `nearest` weighs all of its pixels."""
Ground = Literal["white", "black", "grey"]
GROUNDS = {"white": 255, "black": 0, "grey": 128}
"""What transparent images are laid on, with its value of 0 to 255 in each channel."""


class Drawing(NamedTuple):
    """What decides about pixels beside the files and the size.

    resize: one of `RESIZE_FILTERS`. ground: one of `GROUNDS`; None: as versions did that recorded none,
    which cut 16 bits off at 255 and dropped transparency.
    """

    resize: str = "bilinear"
    ground: str | None = "white"

    def __str__(self) -> str:
        return f"resize={self.resize},ground={self.ground or 'none'}"


DRAWING = Drawing()
"""Where nobody says otherwise."""
