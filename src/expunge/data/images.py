"""Encoded images (parquet, folders) into one uint8 tensor, or streamed where that would not fit."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from expunge.data.batch import Indices
from expunge.data.samples import ResidentStore, Store, StreamStore
from expunge.errors import DataError

Size = tuple[int, int]
"""Height and width, in pixels."""
GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")
MEMORY_SHARE = 0.5
"""Share of the memory now free that decoded images may take before they are streamed instead."""


class EncodedImages(Dataset[Tensor]):
    """Images as encoded bytes or file paths; item `row` is a uint8 tensor (channels, height, width).

    size: (height, width). With `resize`, images of another size are resized; else they are refused.
    """

    def __init__(
        self, sources: Sequence[bytes | Path], size: Size, *, resize: bool, colour: bool
    ) -> None:
        self.sources = sources
        self.size = size
        self.resize = resize
        self.mode = "RGB" if colour else "L"

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, row: int) -> Tensor:
        with open_image(self.sources[row]) as image:
            try:
                if self.mode == "L" and image.mode not in GREY_MODES:
                    raise DataError(
                        f"{_name(self.sources[row])} is in colour among grey images; convert it, or "
                        "all of them"
                    )
                image = image.convert(self.mode)
            except (OSError, SyntaxError, ValueError) as error:  # cut short, or bad pixels
                raise _unreadable(self.sources[row], error) from error
            if image.size != self.size[::-1]:
                if not self.resize:
                    raise _sizes_differ(self.size, image.size[::-1])
                image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
            array = np.array(image)
        array = array[:, :, None] if array.ndim == 2 else array
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))

    def rows(self, index: Indices) -> EncodedImages:
        """Some of the images."""
        sources = [self.sources[row] for row in index.tolist()]
        return EncodedImages(sources, self.size, resize=self.resize, colour=self.mode == "RGB")


class ImageStore:
    """Encoded images: decoded into memory at the first use if they fit, else on the way.

    Rows that are left out before that are never decoded.
    """

    def __init__(self, images: EncodedImages) -> None:
        self.images = images

    @cached_property
    def _decoded(self) -> Store:
        height, width = self.images.size
        needed_bytes = len(self.images) * height * width * (3 if self.images.mode == "RGB" else 1)
        if needed_bytes > MEMORY_SHARE * psutil.virtual_memory().available:
            return StreamStore(self.images, workers=min(4, (psutil.cpu_count() or 2) - 1))
        return ResidentStore(_decode_all(self.images))

    def fetch(self, index: Indices, device: torch.device) -> Any:
        """Rows on the device."""
        return self._decoded.fetch(index, device)

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Any]:
        """Rows of many batches."""
        return self._decoded.stream(batches, device)

    def rows(self, index: Indices) -> Store:
        """Some of the rows; the others need not be decoded."""
        return ImageStore(self.images.rows(index))

    def whole(self) -> Tensor | None:
        """All images (n, channels, height, width) uint8, if they fit into memory."""
        return self._decoded.whole()


def open_image(source: bytes | Path) -> Image.Image:
    """Open encoded bytes or a file; the pixels are read later."""
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (UnidentifiedImageError, OSError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: bytes | Path, error: Exception) -> DataError:
    return DataError(f"cannot read {_name(source)} as an image ({error}); remove or repair it")


def _name(source: bytes | Path) -> str:
    return str(source) if isinstance(source, Path) else f"a record of {len(source)} bytes"


def image_store(sources: Sequence[bytes | Path], size: Size | None, where: str) -> Store:
    """A store of encoded images; only headers are read here, to learn size and colour.

    Raises DataError if the images differ in size and no `size` was asked for.
    """
    if not len(sources):
        raise DataError(f"{where} holds no images")
    modes, sizes = set(), set()
    for source in _spread(sources):
        with open_image(source) as image:
            modes.add(image.mode)
            sizes.add(image.size[::-1])
    colour = not modes <= set(GREY_MODES)
    if size is None and len(sizes) > 1:
        raise _sizes_differ(min(sizes), max(sizes))
    resize = size is not None
    size = size or sizes.pop()
    return ImageStore(EncodedImages(sources, size, resize=resize, colour=colour))


def _sizes_differ(one: Size, other: Size) -> DataError:
    return DataError(
        f"the images differ in size ({one[0]}x{one[1]} and {other[0]}x{other[1]} pixels, for "
        "example); append @SIZE to the data specification to resize them, as in photos@64"
    )


def _spread(sources: Sequence[bytes | Path], count: int = 2000) -> list[bytes | Path]:
    """Up to `count` sources from all over, to learn size and mode from their headers."""
    step = max(1, len(sources) // count)
    return list(sources[::step])


def _decode_all(images: EncodedImages) -> Tensor:
    """All images as one tensor (n, channels, height, width) uint8; decoding runs in threads."""
    first = images[0]
    out = torch.empty((len(images), *first.shape), dtype=torch.uint8)

    def decode(rows: range) -> None:
        for row in rows:
            out[row] = images[row]

    chunk = 512
    with ThreadPoolExecutor(max_workers=psutil.cpu_count() or 2) as pool:
        starts = range(0, len(images), chunk)
        for _ in pool.map(lambda s: decode(range(s, min(s + chunk, len(images)))), starts):
            pass
    return out


def images_from_array(array: NDArray[Any]) -> Tensor:
    """An array of samples as a tensor; images come out channels first.

    uint8 arrays (n, height, width) and (n, height, width, 1|3|4) are images. Everything else keeps
    its shape: (n, channels, height, width), (n, features), ...
    """
    if array.ndim == 3 and array.dtype == np.uint8:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(array))
