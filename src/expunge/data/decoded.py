"""Decoded images that are kept on the disk: whole and checked, or not used; without what was struck.

An entry holds the images of some rows of the data, named by all that decides about their pixels. A
deletion first writes down the struck rows of the data, then which images of an entry are absent, with
the digest that the entry has without them, and then overwrites their pixels with zeros. So a kill on
the way leaves entries that are still read as if they were gone, and a mark by which the next reader of
these data ends the work in all of them.
Where nobody can tell any more what was struck, nothing is kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import PIL
from numpy.lib import format as npy
from numpy.typing import NDArray

from expunge.data.batch import Indices
from expunge.data.drawing import DRAWING, Drawing
from expunge.data.samples import Samples
from expunge.disk.cache import (
    CARD,
    PIXELS,
    ROWS,
    entries,
    holds_images,
    images_folder,
    kept_bytes,
    limit_bytes,
    locked,
    make_room,
    remove_entry,
    struck_folder,
    tidy,
)
from expunge.disk.reading import (
    UnreadableError,
    check_regular,
    open_regular,
    read_bytes,
    read_json,
    reason,
)
from expunge.disk.whole import flush, write_file, written_whole
from expunge.errors import ConfigError, UserError

Pixels = NDArray[np.uint8]
FORMAT = 2
BLOCK_BYTES = 2**20
"""Read, checked or written at a time."""
MOST_ROWS_BYTES = 2**30
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, RecursionError, MemoryError)
FINGERPRINT = 32
"""Hexadecimal digits of the digest of the files that samples come from, by which data are known here."""


class Wanted(NamedTuple):
    """Decoded images as they are asked for.

    fingerprint: of the files. size: (height, width) that was asked for, None for the images' own.
    rows: (n,) row numbers in the files. of: which data, in words. drawing: how they became pixels.
    """

    fingerprint: str
    size: tuple[int, int] | None
    rows: Indices
    of: str
    drawing: Drawing = DRAWING

    @property
    def folder(self) -> Path:
        """Where they are kept: its name tells all that decides about pixels."""
        of = FORMAT, PIL.__version__, self.fingerprint, self.size, self.drawing
        told = [*of, _digest_of(self.rows)]
        return images_folder() / hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Card:
    """What an entry says of itself. rows: sha256 of the row numbers; absent: positions of images that
    were struck, ascending; digest: sha256 of all pixels, those of absent images taken as zeros.
    """

    of: str
    fingerprint: str
    rows: str
    count: int
    shape: list[int]
    absent: list[int]
    digest: str

    @property
    def whole_shape(self) -> tuple[int, ...]:
        return (self.count, *self.shape)

    def write(self, folder: Path) -> None:
        write_file(folder / CARD, json.dumps(asdict(self)))


def find_decoded(wanted: Wanted, fits: Callable[[int], bool]) -> tuple[Pixels, Indices] | None:
    """Images (n, channels, height, width), and positions of those that are absent; None where they are
    not kept, or not as they were written. fits: whether so many bytes may be held in memory.
    """
    folder = wanted.folder
    if not _within_limit() or not folder.is_dir():
        return None
    try:
        if _mark(wanted.fingerprint).exists():  # a deletion was killed
            with locked():
                _strike_all(wanted.fingerprint, _struck(wanted.fingerprint))
        card = _read_card(folder)
        of = card.fingerprint, card.rows, card.count
        if of != (wanted.fingerprint, _digest_of(wanted.rows), len(wanted.rows)):
            raise UnreadableError("it is of other data")
        if not fits(math.prod(card.whole_shape)):
            return None
        struck = _struck(wanted.fingerprint)
        if not set(_among(wanted.rows, struck).tolist()) <= set(card.absent):
            with locked():  # it was put back from elsewhere
                _strike_entry(folder, wanted.fingerprint, struck)
            card = _read_card(folder)
        pixels = np.empty(card.whole_shape, dtype=np.uint8)
        with open_regular(folder / PIXELS, within=folder) as stream:
            dirty = _check(stream, card, pixels)
        if dirty:  # or before its end
            with locked():
                _blank(folder, card)
        with suppress(OSError):  # a cache that may only be read
            os.utime(folder)
    except _UNREADABLE:
        _drop(folder)
        return None
    return pixels, np.array(card.absent, dtype=np.int64)


def keep_decoded(wanted: Wanted, pixels: Pixels) -> None:
    """Keep images (n, channels, height, width) but for those that were struck, if the limit allows.

    Best effort: what cannot be written costs only the time to decode again.
    """
    if not 0 < pixels.nbytes <= limit_bytes():
        return
    folder = wanted.folder
    try:
        with locked():
            if not _is_free(folder):
                return
            images_folder().mkdir(mode=0o700, exist_ok=True)
            absent = _among(wanted.rows, _struck(wanted.fingerprint))
            make_room(pixels.nbytes)
            try:
                with written_whole(folder, overwrite=False) as new:
                    digest = _write(new / PIXELS, pixels, absent)
                    np.save(new / ROWS, wanted.rows, allow_pickle=False)
                    count, *shape = pixels.shape
                    rows = _digest_of(wanted.rows)
                    of = wanted.of, wanted.fingerprint, rows, count, shape
                    _Card(*of, absent.tolist(), digest).write(new)
            except UserError:  # it stayed under another name, where no reader looks
                tidy()
    except (OSError, UnreadableError):
        return


def _is_free(folder: Path) -> bool:
    """Whether an entry may be written here; what is no whole one goes. Raises OSError."""
    if not folder.is_dir():
        return True
    try:
        _read_card(folder)
    except _UNREADABLE:
        remove_entry(folder)
        return not folder.is_dir()  # or something of somebody else's lies there
    return False  # another process was quicker


def _within_limit() -> bool:
    """Whether images may be kept at all, in no more room than the limit leaves, which may have been
    lowered. Raises ConfigError for a limit that is none.
    """
    limit = limit_bytes()
    if kept_bytes() > limit:
        with suppress(OSError), locked():  # one that may only be read is not for us to make smaller
            make_room(0)
    return limit > 0


def strike(samples: Samples, ids: Iterable[str]) -> str | None:
    """Take some samples' pixels out of all that is kept of their data, now and later.

    Returns what to warn of where that could not be done.
    """
    if samples.rows is None:
        return None
    found = samples.rows_of(list(ids))
    rows = samples.rows[found[found >= 0]]
    fingerprint = samples.fingerprint[:FINGERPRINT]
    try:
        with locked():
            struck_folder().mkdir(mode=0o700, exist_ok=True)
            write_file(_mark(fingerprint), "")
            try:
                every = _written_down(fingerprint, rows)
            except UnreadableError as error:
                _strike_all(fingerprint, None)
                return (
                    f"the record of what was struck from these data cannot be read ({error}), so none "
                    "of their images are kept any more; `expunge cache purge struck` removes it, and "
                    "lets all be kept again, forgotten ones too"
                )
            _strike_all(fingerprint, every)
            with suppress(ConfigError):  # which is told where images are looked up
                make_room(0)
            return None
    except OSError as error:
        if not holds_images():  # so nothing is kept that could stay
            return None
        return (
            f"the forgotten images may still be kept in {images_folder()} "
            f"({error.strerror or error}); remove them with `expunge cache purge`"
        )


def kept_pixels(samples: Samples, ids: Iterable[str]) -> int:
    """Bytes of some samples' pixels in all that is kept of their data; of what cannot be read none."""
    if samples.rows is None:
        return 0
    found = samples.rows_of(list(ids))
    wanted, total = samples.rows[found[found >= 0]], 0
    for folder in entries():
        with suppress(*_UNREADABLE):
            card = _read_card(folder)
            if card.fingerprint == samples.fingerprint[:FINGERPRINT]:
                rows, _ = _read_rows(folder / ROWS)
                there = set(_among(rows, wanted).tolist()).difference(card.absent)
                total += len(there) * math.prod(card.shape)
    return total


def _written_down(fingerprint: str, rows: Indices) -> Indices:
    """All rows that were struck, these among them. Raises UnreadableError or OSError."""
    known = _struck(fingerprint)
    every = np.union1d(known, rows)
    if len(every) > len(known):
        buffer = io.BytesIO()
        np.save(buffer, every, allow_pickle=False)
        buffer.write(_digest_of(every).encode())
        write_file(_record(fingerprint), buffer.getvalue())
    return every


def _strike_all(fingerprint: str, struck: Indices | None) -> None:
    """Take struck rows out of all that is kept of these data. Raises OSError."""
    tidy()
    for folder in entries():
        _strike_entry(folder, fingerprint, struck)
    _mark(fingerprint).unlink(missing_ok=True)


def _strike_entry(folder: Path, fingerprint: str, struck: Indices | None) -> None:
    """Take struck rows out of one entry; one that cannot be read is removed, and each of these data
    where nobody knows what was struck (None). Raises OSError.
    """
    try:
        card = _read_card(folder)
        if card.fingerprint != fingerprint:
            return
        if struck is None:
            raise UnreadableError("it may hold what was struck")
        rows, _ = _read_rows(folder / ROWS)
        if rows.shape != (card.count,) or _digest_of(rows) != card.rows:
            raise UnreadableError("its rows are of other images")
        absent = np.union1d(np.array(card.absent, np.int64), _among(rows, struck))
        if absent.tolist() != card.absent:
            # the digest without them is true before and after their pixels are zeros
            with open_regular(folder / PIXELS, within=folder) as stream:
                digest = _digest_without(stream, card, absent)
            card = replace(card, absent=absent.tolist(), digest=digest)
            card.write(folder)
        if card.absent:  # a kill may have come between the two
            _blank(folder, card)
    except _UNREADABLE:
        remove_entry(folder)


def _digest_without(stream: BinaryIO, card: _Card, absent: Indices) -> str:
    """The digest once more images are absent. Raises UnreadableError where it is wrong already."""
    before, after = hashlib.sha256(), hashlib.sha256()
    for start, block, _ in _blocks(stream, card):
        before.update(block.data)
        block[_within(absent, start, len(block))] = 0
        after.update(block.data)
    if before.hexdigest() != card.digest:
        raise UnreadableError("it has changed since it was written")
    return after.hexdigest()


def _read_card(folder: Path) -> _Card:
    """Raises ValueError, TypeError, KeyError, RecursionError or OSError for what is none."""
    card = _Card(**read_json(folder / CARD, within=folder))
    if len(card.shape) != 3 or not all(type(one) is int and one > 0 for one in card.whole_shape):
        raise UnreadableError("it is no card of images")
    if not all(type(one) is int and 0 <= one < card.count for one in card.absent):
        raise UnreadableError("images are absent that it never had")
    return card


def _record(fingerprint: str) -> Path:
    """Where the row numbers are that deletions struck."""
    return struck_folder() / f"{fingerprint}.npy"


def _mark(fingerprint: str) -> Path:
    """What says that a deletion has begun and not ended."""
    return struck_folder() / f"{fingerprint}.unfinished"


def _struck(fingerprint: str) -> Indices:
    """Row numbers that deletions struck, ascending. Raises UnreadableError for a record that is none."""
    try:
        rows, digest = _read_rows(_record(fingerprint))
    except (FileNotFoundError, NotADirectoryError):
        return np.empty(0, np.int64)
    except _UNREADABLE as error:
        raise UnreadableError(reason(error)) from error
    if digest.decode("latin-1") != _digest_of(rows):
        raise UnreadableError("it has changed since it was written")
    return rows


def _read_rows(file: Path) -> tuple[Indices, bytes]:
    """Row numbers as they were saved, and what follows them.

    Raises ValueError, OSError or MemoryError.
    """
    content = io.BytesIO(read_bytes(file, most=MOST_ROWS_BYTES))
    rows = npy.read_array(content, allow_pickle=False)
    if rows.dtype != np.int64:
        raise UnreadableError("these are no row numbers")
    return rows, content.read()


def _digest_of(rows: Indices) -> str:
    """Of row numbers, on any machine."""
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()


def _among(rows: Indices, struck: Indices) -> Indices:
    """Positions of the rows that were struck."""
    return np.flatnonzero(np.isin(rows, struck))


def _write(file: Path, pixels: Pixels, absent: Indices) -> str:
    """Write images but the absent ones, which are zeros; returns the digest."""
    digest = hashlib.sha256()
    each = max(1, BLOCK_BYTES // pixels[0].nbytes)
    with file.open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": pixels.shape}
        npy.write_array_header_1_0(stream, header)
        for start in range(0, len(pixels), each):
            block = pixels[start : start + each]
            gone = _within(absent, start, len(block))
            if len(gone):
                block = block.copy()
                block[gone] = 0
            digest.update(block.data)
            stream.write(block.data)
    return digest.hexdigest()


def _start(stream: BinaryIO, card: _Card) -> int:
    """Where the pixels begin. Raises ValueError for a file that is not of the card's size and kind."""
    if npy.read_magic(stream) != (1, 0):
        raise UnreadableError("it is no array of ours")
    shape, fortran, dtype = npy.read_array_header_1_0(stream)
    start = stream.tell()
    right = shape == card.whole_shape and dtype == np.uint8 and not fortran
    if not right or os.fstat(stream.fileno()).st_size != start + math.prod(shape):
        raise UnreadableError("it is cut short, or no array of ours")
    return start


def _blocks(
    stream: BinaryIO, card: _Card, into: Pixels | None = None
) -> Iterator[tuple[int, Pixels, bool]]:
    """The images block by block: the first one's position, the block with zeros for absent ones, and
    whether there was something else in their place.

    into: where they go; else each block takes the place of the one before it.
    """
    _start(stream, card)
    each = max(1, BLOCK_BYTES // math.prod(card.shape))
    absent = np.array(card.absent, dtype=np.int64)
    room = np.empty((each, *card.shape), np.uint8) if into is None else into
    for start in range(0, card.count, each):
        first = 0 if into is None else start
        block = room[first : first + min(each, card.count - start)]
        if stream.readinto(block.reshape(-1)) != block.nbytes:  # type: ignore[attr-defined]
            raise UnreadableError("it is cut short")
        gone = _within(absent, start, len(block))
        dirty = bool(block[gone].any())
        block[gone] = 0
        yield start, block, dirty


def _within(absent: Indices, start: int, count: int) -> Indices:
    """Positions within a block, of those that lie in it."""
    first, last = np.searchsorted(absent, (start, start + count))
    return absent[first:last] - start


def _check(stream: BinaryIO, card: _Card, pixels: Pixels) -> bool:
    """Read all pixels; whether those of absent images were still there. Raises UnreadableError."""
    digest, found = hashlib.sha256(), False
    for _, block, dirty in _blocks(stream, card, pixels):
        digest.update(block.data)
        found |= dirty
    if digest.hexdigest() != card.digest:
        raise UnreadableError("it has changed since it was written")
    return found


def _blank(folder: Path, card: _Card) -> None:
    """Overwrite the pixels of absent images with zeros, where they lie."""
    each = math.prod(card.shape)
    check_regular(folder / PIXELS, within=folder)
    with (folder / PIXELS).open("r+b") as stream:
        start = _start(stream, card)
        for place in card.absent:
            stream.seek(start + place * each)
            stream.write(bytes(each))
    flush(folder / PIXELS)


def _drop(folder: Path) -> None:
    """Remove what cannot be used, so that it is made anew."""
    try:
        with locked():
            remove_entry(folder)
    except OSError:
        return
