"""Proposed copies as pictures on one sheet: the sample that is asked for beside the one that may be its
copy.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.disk.reading import reading
from expunge.disk.whole import write_file
from expunge.errors import RequestError
from expunge.requests.copies import ProposedCopy

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from expunge.data.load import Data

MOST_PAIRS, ACROSS = 60, 3
SIDE, GAP, LINE = 128, 12, 16
"""Pixels of a picture's side, between pictures, and of a line of text."""
TEXT_LINES = 3
INK, PAPER = 40, 255


def check_sheet(file: Path) -> None:
    """Raise RequestError where a file is in the way, or its folder is not there."""
    if file.exists():
        raise RequestError(f"{file} exists; name another file")
    if not file.parent.is_dir():
        raise RequestError(f"{file.parent} is no folder; name a file in one that is there")


def write_sheet(file: Path, data: Data, proposals: Sequence[ProposedCopy]) -> int:
    """Write a sheet (PNG) of copies that nobody decided on, in their order; returns how many it shows,
    `MOST_PAIRS` at most, 0 where there is none, and then no file.

    Raises RequestError for data that are no pictures, and where the file cannot be written.
    """
    chosen = [one for one in proposals if one.decision == "open"][:MOST_PAIRS]
    if not chosen:
        return 0
    sheet = drawn_sheet(data, chosen)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    with reading(file, "make room, or name another file", RequestError):
        write_file(file, buffer.getvalue())
    return len(chosen)


def drawn_sheet(data: Data, proposals: Sequence[ProposedCopy]) -> Image.Image:
    """The sheet itself: pairs in rows of three, with their ids, layer and score below.

    Raises RequestError for data that are no pictures.
    """
    from PIL import Image, ImageDraw

    across = min(ACROSS, len(proposals))
    wide, high = 2 * SIDE + 3 * GAP, SIDE + TEXT_LINES * LINE + 2 * GAP
    down = -(-len(proposals) // across)
    sheet = Image.new("RGB", (across * wide, down * high), (PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    for turn, one in enumerate(proposals):
        left, top = turn % across * wide + GAP, turn // across * high + GAP
        for name, at in ((one.like, left), (one.copy, left + SIDE + GAP)):
            picture = _picture(data, name)
            sheet.paste(picture, (at + (SIDE - picture.width) // 2, top))
        lines = (f"asked: {one.like}", f"copy?: {one.copy}", f"{one.layer}: {one.told}")
        for place, line in enumerate(lines):
            _write(draw, left, top + SIDE + 2 + place * LINE, line, 2 * SIDE + GAP)
    return sheet


def _picture(data: Data, name: str) -> Image.Image:
    """A sample's picture, enlarged pixel by pixel where it is small."""
    from PIL import Image

    from expunge.data.thumbnails import small_picture

    parts = ((one, int(one.rows_of([name])[0])) for one in (data.train, data.test))
    found = next(((one, row) for one, row in parts if row >= 0), None)
    picture = None if found is None else small_picture(*found)
    if picture is None:
        raise RequestError(
            "the data are no pictures of one or three channels; leave out --pictures"
        )
    times = max(1, SIDE // max(picture.size))
    return picture.resize((times * picture.width, times * picture.height), Image.Resampling.NEAREST)


def _write(draw: ImageDraw.ImageDraw, left: int, top: int, text: str, width: int) -> None:
    """A line of text, of which the middle is left out where it is too long."""
    plain = text.encode("latin-1", "backslashreplace").decode("latin-1")
    keep = len(plain)
    shown = plain
    while keep > 8 and draw.textlength(shown) > width:
        keep -= 1
        half = keep // 2
        shown = f"{plain[: keep - half]}...{plain[len(plain) - half :]}"
    draw.text((left, top), shown, fill=(INK,) * 3)
