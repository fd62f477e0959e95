"""From an image of whatever mode to plain grey or colour of 8 bits a channel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from PIL import Image

from expunge.data.drawing import GROUNDS
from expunge.disk.reading import UnreadableError
from expunge.errors import DataWarning

SIXTEEN_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
GREY_MODES = ("1", "L", "LA", *SIXTEEN_MODES)
MOST_16 = 2**16 - 1
STRIP_PIXELS = 2**20
"""Looked at or copied at a time."""


def check_mode(image: Image.Image) -> None:
    """Raise UnreadableError for an image of which nobody knows what is black and what is white."""
    if image.mode == "F":
        raise UnreadableError(
            "its values are floating-point numbers, of which nobody knows what is black and what is "
            "white: save it with 8 or 16 bits"
        )


def is_plain(image: Image.Image, mode: str) -> bool:
    """Whether its pixels are those of the mode already, and none is transparent."""
    return image.mode == mode and "transparency" not in image.info


def plain(image: Image.Image, mode: str, ground: str | None) -> Image.Image:
    """The image in mode "L" or "RGB": of 16 bits the upper 8, what is transparent laid on a ground.

    ground: a name of `GROUNDS`; None: as earlier versions did, which cut 16 bits off at 255 and showed
    what lay under transparent pixels.

    Raises UnreadableError for grey values beyond 16 bits, and for a drawing of its ground's colour.
    """
    if is_plain(image, mode):
        return image
    if ground is None:
        return image if image.mode == mode else image.convert(mode)
    if image.mode in SIXTEEN_MODES:
        image = _upper_bits(image)
    if image.has_transparency_data:
        return _on_ground(image, mode, ground)
    return image if image.mode == mode else image.convert(mode)


def is_deep(image: Image.Image) -> bool:
    """Whether its file holds 16 bits a channel, of which Pillow gives the upper 8 where it is no grey
    alone; not known any more once its pixels are read.
    """
    return image.mode in SIXTEEN_MODES or any(
        ";16" in str(tile) for tile in getattr(image, "tile", ())
    )


def has_pages(image: Image.Image) -> bool:
    """Whether its file holds further pages or frames, but for what a camera adds to a photo."""
    with suppress(Exception):  # of a broken second one nothing is read
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    return False


def tell_pages(paged: int, where: str) -> None:
    """Tell of pages and frames that are not read."""
    if paged:
        warnings.warn(
            f"{paged:,} or more images of {where} hold several pages or frames, and of each the first "
            "is read; save the others as images of their own",
            DataWarning,
            stacklevel=2,
        )


def brightest(image: Image.Image) -> int:
    """The largest value (0 to 65,535) of an image of 16 bits, but for one pixel in a thousand, which may
    be hot.
    """
    counts = np.zeros(MOST_16 + 1, dtype=np.int64)
    for _, strip in strips(image):
        if image.mode in SIXTEEN_MODES:
            values = np.asarray(strip).clip(0, MOST_16).astype(np.int64)
        else:
            values = np.asarray(strip.convert("RGB")).max(axis=-1) * np.int64(MOST_16 // 255)
        counts += np.bincount(values.ravel(), minlength=len(counts))
    above = counts[::-1].cumsum()[::-1]
    return int(np.flatnonzero(above > above[0] // 1000)[-1])


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image from top to bottom, each strip with its first row; a small one is one strip."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(height, top + rows)))


def _upper_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as "L", or as "LA" where one value is said to be transparent."""
    clear = image.info.get("transparency")
    out = Image.new("L" if clear is None else "LA", image.size)
    for top, strip in strips(image):
        values = np.asarray(strip)
        if values.min() < 0 or values.max() > MOST_16:
            raise UnreadableError(
                f"its grey values go from {values.min()} to {values.max()}, beyond 16 bits: save it "
                "with 8 or 16"
            )
        grey = (values >> 8).astype(np.uint8)
        if clear is not None:
            grey = np.stack([grey, np.where(values == clear, 0, 255).astype(np.uint8)], axis=-1)
        out.paste(Image.fromarray(grey), (0, top))
    return out


def _on_ground(image: Image.Image, mode: str, ground: str) -> Image.Image:
    level = GROUNDS[ground]
    out = Image.new(mode, image.size, level if mode == "L" else (level,) * 3)
    seen: list[int] = []
    for top, strip in strips(image):
        layers = strip.convert("RGBA")
        alpha = layers.getchannel("A")
        values = np.asarray(alpha)
        seen += int(values.min()), int(values.max())
        out.paste(layers.convert(mode), (0, top), mask=alpha)
    if not max(seen) and not _is_flat(image.convert(mode)):
        raise UnreadableError(
            "all of it is transparent, so nothing is seen of what it holds: save it without transparency"
        )
    if min(seen) < max(seen) and _is_flat(out):
        raise UnreadableError(
            f"it is drawn in {ground} on nothing, so on a ground of {ground} nothing is seen: choose "
            "another for all images, as in photos,ground=" + _other(ground)
        )
    return out


def _is_flat(image: Image.Image) -> bool:
    """Whether all pixels are of one colour."""
    found = image.getextrema()
    pairs = found if isinstance(found[0], tuple) else (found,)
    return all(low == high for low, high in pairs)


def _other(ground: str) -> str:
    return next(name for name in GROUNDS if name != ground)
