"""Encoded images (parquet, folders) into one uint8 tensor, or streamed where that would not fit."""

from __future__ import annotations

import io
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from expunge.data.batch import Indices
from expunge.data.decoded import FINGERPRINT, Wanted, find_decoded, keep_decoded
from expunge.data.drawing import DRAWING, Drawing
from expunge.data.pixels import (
    GREY_MODES,
    MOST_16,
    STRIP_PIXELS,
    brightest,
    check_mode,
    has_pages,
    is_deep,
    is_plain,
    plain,
    tell_pages,
)
from expunge.data.room import MOST_PIXELS, ROOM
from expunge.data.samples import ResidentStore, RowsOf, Store, StreamStore
from expunge.disk.reading import MIB, UnreadableError, open_regular, read_bytes, reading
from expunge.errors import DataError

Size = tuple[int, int]
"""Height and width, in pixels."""
MEMORY_SHARE = 0.5
"""Share of the memory now free that decoded images may take before they are streamed instead."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""All that is opened, whatever a file is called: some others start programs."""
DIMMEST_16 = 4096
"""The brightest value of images of 16 bits, at the least: of less, 8 bits would keep next to nothing."""
FEW, MANY = 100, 2000
"""Images whose headers are looked at before any is decoded."""
SMALL_PIXELS, SHEET_PIXELS = 64 * 64, 2**16
"""Images of so many pixels are decoded by one thread, on sheets of so many."""
SMALL_BYTES = MIB
"""Of the file of a small image."""
LONG_SECONDS = 0.5
"""What took longer to decode is kept on the disk."""
MOST_BYTES = 256 * MIB
"""Of one encoded image."""
BOMB_TIMES, BOMB_BYTES = 100, 256 * MIB
"""What unpacks to more than so many times its size, and to more than so many bytes, is refused."""


class ImageFile(NamedTuple):
    """An image file whose bytes were read already."""

    path: Path
    content: bytes


Encoded = bytes | Path | ImageFile
"""An encoded image: its bytes, its file, or both."""


class EncodedImages(Dataset[Tensor]):
    """Encoded images; item `row` is a uint8 tensor (channels, height, width).

    size: (height, width). With `resize`, images of another size are resized; else they are refused.
    largest: pixels of the largest one, as far as that was looked at. drawing: how they become pixels.
    """

    def __init__(
        self,
        sources: Sequence[Encoded],
        size: Size,
        *,
        resize: bool,
        colour: bool,
        largest: int,
        drawing: Drawing = DRAWING,
    ) -> None:
        self.sources = sources
        self.size = size
        self.resize = resize
        self.mode = "RGB" if colour else "L"
        self.largest = largest
        self.drawing = drawing

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, row: int) -> Tensor:
        with quiet():
            return torch.from_numpy(self.read(row))

    def read(self, row: int) -> NDArray[np.uint8]:
        """The pixels (channels, height, width), for threads: whoever starts them keeps PIL `quiet`.

        Raises DataError that names the file, whatever goes wrong.
        """
        source = self.sources[row]
        with open_image(source) as image, ROOM.taken(image.width * image.height):
            drawn = self._drawn(image, source)
            if drawn is not image and image.width * image.height > STRIP_PIXELS:
                image.close()  # its pixels are not needed twice
            return _channels_first(self._sized(drawn))

    def read_small(self, rows: range, out: NDArray[np.uint8]) -> None:
        """The pixels of some images into `out` (len(rows), channels, height, width).

        Small images are pasted on one sheet: what each costs beside its decoding counts here.
        """
        height, width = self.size
        sources = self.sources[rows.start : rows.stop]
        mode, size = self.mode, (width, height)
        try:
            sheet = Image.new(mode, (width, height * len(rows)))
            for top, source in zip(range(0, height * len(rows), height), sources, strict=True):
                image = _opened(io.BytesIO(_small_content(source)))
                if image.size != size or not is_plain(image, mode):
                    image = self._alike(image, source)
                sheet.paste(image, (0, top))
            pixels = np.asarray(sheet).reshape(len(rows), height, width, -1)
            out[:] = pixels.transpose(0, 3, 1, 2)
        except Exception:  # one after another: which it is, and why; or it was large, and is read
            for place, row in enumerate(rows):
                out[place] = self.read(row)

    def _drawn(self, image: Image.Image, source: Encoded) -> Image.Image:
        """In the mode of all. Raises DataError for an image that does not belong to the others."""
        if self.mode == "L" and image.mode not in GREY_MODES:
            raise DataError(
                f"{_name(source)} is in colour among grey images; convert it, or all of them"
            )
        if image.size != self.size[::-1] and not self.resize:
            raise _sizes_differ(self.size, image.size[::-1])
        return plain(image, self.mode, self.drawing.ground)

    def _alike(self, image: Image.Image, source: Encoded) -> Image.Image:
        """A small image in the mode and the size of all. Raises UnreadableError for a large one."""
        if image.width * image.height > STRIP_PIXELS:
            raise UnreadableError("it is large")
        return self._sized(self._drawn(image, source))

    def _sized(self, image: Image.Image) -> Image.Image:
        if image.size == self.size[::-1]:
            return image
        return image.resize(self.size[::-1], Image.Resampling[self.drawing.resize.upper()])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of each."""
        return (3 if self.mode == "RGB" else 1, *self.size)

    @property
    def decoded_bytes(self) -> int:
        """What all of them take in memory."""
        return len(self) * math.prod(self.shape)

    def rows(self, index: Indices) -> EncodedImages:
        """Some of the images."""
        return self._of([self.sources[row] for row in index.tolist()])

    def released(self) -> EncodedImages:
        """The same, what lies in files read when it is needed."""
        return self._of([one.path if isinstance(one, ImageFile) else one for one in self.sources])

    def _of(self, sources: Sequence[Encoded]) -> EncodedImages:
        return EncodedImages(
            sources,
            self.size,
            resize=self.resize,
            colour=self.mode == "RGB",
            largest=self.largest,
            drawing=self.drawing,
        )


@dataclass(frozen=True)
class ImagePart:
    """The encoded images of one part of the data, which are read when they are needed first.

    read: gives them, once or again. size: (height, width) that was asked for; None: their own.
    where: which data these are, in words. fingerprint: of their files. drawing: how they become pixels.
    """

    read: Callable[[], Sequence[Encoded]]
    size: Size | None
    where: str
    fingerprint: str
    drawing: Drawing = DRAWING

    @cached_property
    def images(self) -> EncodedImages:
        """All of them; their headers have been looked at."""
        return encoded_images(self.read(), self.size, self.where, self.drawing)


class ImageStore:
    """Some of the encoded images of a part: decoded into memory at the first use if they fit, else on
    the way. What took long to decode is kept on the disk, and read from there the next time.

    chosen: rows of the part. Those that are left out before the first use are never decoded. drawn: how
    they become pixels, in words that end in ";".
    """

    def __init__(self, part: ImagePart, chosen: Indices) -> None:
        self.part: ImagePart | None = part
        self.chosen = chosen
        ground, resize = part.drawing.ground, part.drawing.resize
        self.drawn = f"ground={ground};" if ground else ""
        self.drawn += f"resize={resize};" if part.size else ""

    @cached_property
    def _decoded(self) -> Store:
        part = self.part
        if part is None:
            raise DataError("these images were let go of before they were decoded; load them anew")
        files = part.fingerprint[:FINGERPRINT]
        wanted = Wanted(files, part.size, self.chosen, part.where, part.drawing)
        kept = find_decoded(wanted, fits)
        if kept is not None:
            pixels, absent = kept
            if len(absent):
                pixels[absent] = _decode_all(part.images.rows(self.chosen[absent]))
        else:
            images = part.images.rows(self.chosen)
            if not fits(images.decoded_bytes):
                self.part = None
                workers = min(4, (psutil.cpu_count() or 2) - 1)
                # of what was read already, only the names are kept
                return StreamStore(images.released(), workers=workers)
            began = time.perf_counter()
            pixels = _decode_all(images)
            if time.perf_counter() - began > LONG_SECONDS:
                keep_decoded(wanted, pixels)
        self.part = None
        return ResidentStore(torch.from_numpy(pixels))

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(channels, height, width) of each; None where they are rows of others."""
        decoded = self._decoded
        if isinstance(decoded, ResidentStore):
            return tuple(decoded.tensor.shape[1:])
        return getattr(getattr(decoded, "dataset", None), "shape", None)

    def fetch(self, index: Indices, device: torch.device) -> Any:
        """Rows on the device."""
        return self._decoded.fetch(index, device)

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Any]:
        """Rows of many batches."""
        return self._decoded.stream(batches, device)

    def rows(self, index: Indices) -> Store:
        """Some of the rows; the others need not be decoded, and none is decoded twice."""
        if self.part is not None:
            return ImageStore(self.part, self.chosen[index])
        tensor = self._decoded.whole()
        if tensor is not None and not fits(len(index) * math.prod(tensor.shape[1:])):
            return RowsOf(self._decoded, index)  # a copy would be too much
        return self._decoded.rows(index)

    def whole(self) -> Tensor | None:
        """All images (n, channels, height, width) uint8, if they fit into memory."""
        return self._decoded.whole()


@contextmanager
def open_image(source: Encoded) -> Iterator[Image.Image]:
    """Open encoded bytes or a file; the pixels are read later.

    Whatever goes wrong, now or while they are read, is a DataError that names the file.
    """
    with (
        reading(f"{_name(source)} as an image", "remove or repair it", DataError),
        _stream(source) as stream,
        _opened(stream) as image,
    ):
        yield image


def _opened(stream: BinaryIO) -> Image.Image:
    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnreadableError(f"it is none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"it has more than {MOST_PIXELS:,} pixels") from error
    if image.width * image.height > MOST_PIXELS:
        raise UnreadableError(f"it has more than {MOST_PIXELS:,} pixels")
    check_mode(image)
    return image


def _stream(source: Encoded) -> AbstractContextManager[BinaryIO]:
    if not isinstance(source, Path):
        return io.BytesIO(source.content if isinstance(source, ImageFile) else source)
    if source.stat().st_size > MOST_BYTES:
        raise UnreadableError(f"it is larger than {MOST_BYTES // MIB} MiB")
    return open_regular(source)


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings off, which readers give of odd files beside their errors, or of nothing that matters.

    They are switched for all threads, so this is for the one that starts the others.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _channels_first(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels (channels, height, width), copied in strips: a large image is there once."""
    width, height = image.size
    out = np.empty((len(image.getbands()), height, width), dtype=np.uint8)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        end = min(height, top + rows)
        strip = image if rows >= height else image.crop((0, top, width, end))
        out[:, top:end] = np.asarray(strip).reshape(end - top, width, -1).transpose(2, 0, 1)
    return out


def _small_content(source: Encoded) -> bytes:
    """The bytes of an image that is small. Raises UnreadableError for a large file."""
    if isinstance(source, Path):
        return read_bytes(source, most=SMALL_BYTES)
    return source.content if isinstance(source, ImageFile) else source


def _name(source: Encoded) -> str:
    if isinstance(source, bytes):
        return f"a record of {len(source)} bytes"
    return str(source.path if isinstance(source, ImageFile) else source)


def fits(needed_bytes: int) -> bool:
    """Whether so much may be held in memory, of what is free now."""
    return bool(needed_bytes <= MEMORY_SHARE * psutil.virtual_memory().available)


def encoded_images(
    sources: Sequence[Encoded], size: Size | None, where: str, drawing: Drawing = DRAWING
) -> EncodedImages:
    """Encoded images; only headers are read here, to learn size and colour, and some of 16 bits whole.

    Raises DataError if the images differ in size and no `size` was asked for, if they unpack to far
    more than their files hold, or if of 16 bits they hardly use the upper 8.
    """
    if not len(sources):
        raise DataError(f"{where} holds no images")
    seen = _headers(_spread(sources, FEW))
    needed_bytes = 3 * len(sources) * max(map(math.prod, seen.sizes))
    # where some are in colour all are, and whether sizes differ shows when all are decoded
    if seen.modes <= set(GREY_MODES) or not fits(needed_bytes):
        seen = _headers(_spread(sources, MANY))
    sizes, colour = seen.sizes, not seen.modes <= set(GREY_MODES)
    tell_pages(seen.paged, where)
    if drawing.ground is not None and seen.deep:
        _check_bright(_spread(sources, FEW), where)
    if size is None and len(sizes) > 1:
        raise _sizes_differ(min(sizes), max(sizes))
    largest = max(math.prod(one) for one in sizes)
    images = EncodedImages(
        sources,
        size or sizes.pop(),
        resize=size is not None,
        colour=colour,
        largest=largest,
        drawing=drawing,
    )
    # nothing is a bomb that is small, however small its files are
    if size is None and is_bomb(images.decoded_bytes, 0):
        _check_bomb(images, where)
    return images


def _check_bright(sources: Sequence[Encoded], where: str) -> None:
    """Raise DataError where most images of 16 bits would be nearly black in 8; one that is black is no
    matter.
    """
    found = []
    with quiet():
        for source in sources:
            with open_image(source) as image:
                if is_deep(image):
                    found.append(brightest(image))
    dim = [value for value in found if 0 < value < DIMMEST_16]
    if len(dim) > sum(value >= DIMMEST_16 for value in found):
        raise DataError(
            f"the 16-bit images of {where} reach {max(dim):,} of {MOST_16:,}, so in 8 bits they would "
            "be nearly black; save them with 8 bits, or brightened to all 16"
        )


def _check_bomb(images: EncodedImages, where: str) -> None:
    """Raise DataError for images that unpack to far more than their files hold."""
    if is_bomb(images.decoded_bytes, _encoded_bytes(images.sources)):
        raise DataError(
            f"the images of {where} unpack to {images.decoded_bytes // MIB:,} MiB, more than "
            f"{BOMB_TIMES} times what their files hold; append @SIZE to the data specification to make "
            "them smaller"
        )


def is_bomb(unpacked_bytes: int, packed_bytes: int) -> bool:
    """Whether something unpacks to far more than anybody's data do."""
    return unpacked_bytes > max(BOMB_BYTES, BOMB_TIMES * packed_bytes)


def _encoded_bytes(sources: Sequence[Encoded]) -> int:
    """Bytes of all images; of those that share theirs, once."""
    sizes: dict[int | Path, int] = {}
    for source in sources:
        if isinstance(source, Path):
            with reading(_name(source), "remove or repair it", DataError):
                sizes[source] = source.stat().st_size
        else:
            content = source.content if isinstance(source, ImageFile) else source
            sizes[id(content)] = len(content)
    return sum(sizes.values())


def _sizes_differ(one: Size, other: Size) -> DataError:
    return DataError(
        f"the images differ in size ({one[0]}x{one[1]} and {other[0]}x{other[1]} pixels, for "
        "example); append @SIZE to the data specification to resize them, as in photos@64"
    )


def _spread(sources: Sequence[Encoded], count: int) -> Sequence[Encoded]:
    """Up to about `count` sources from all over."""
    return sources[:: max(1, len(sources) // count)]


class _Seen(NamedTuple):
    """What headers tell. deep: whether some are of 16 bits. paged: how many hold several pages."""

    modes: set[str]
    sizes: set[Size]
    deep: bool
    paged: int


def _headers(sources: Sequence[Encoded]) -> _Seen:
    modes, sizes, deep, paged = set(), set(), False, 0
    with quiet():
        for source in sources:
            with open_image(source) as image:
                modes.add(image.mode)
                sizes.add(image.size[::-1])
                deep = deep or is_deep(image)
                paged += has_pages(image)
    return _Seen(modes, sizes, deep, paged)


def _decode_all(images: EncodedImages) -> NDArray[np.uint8]:
    """All images (n, channels, height, width).

    Large ones are decoded in threads; with small ones these would only wait for each other.
    """
    out = np.empty((len(images), *images.shape), dtype=np.uint8)
    pixels = max(images.largest, math.prod(images.size))
    each = max(1, (SHEET_PIXELS if pixels <= SMALL_PIXELS else STRIP_PIXELS) // pixels)
    starts = range(0, len(images), each)

    def small(start: int) -> None:
        rows = range(start, min(start + each, len(images)))
        images.read_small(rows, out[rows.start : rows.stop])

    def large(start: int) -> None:
        for row in range(start, min(start + each, len(images))):
            out[row] = images.read(row)

    with quiet():
        if pixels <= SMALL_PIXELS:
            for start in starts:
                small(start)
            return out
        with ThreadPoolExecutor(max_workers=psutil.cpu_count() or 2) as pool:
            for _ in pool.map(large, starts):
                pass
    return out
