"""Inverted triggers as a picture: for each class an image, the mask, and the image with the trigger."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from expunge.backdoor.inspected import Inspected
from expunge.backdoor.inversion import Inverted
from expunge.disk.reading import reading
from expunge.disk.whole import write_file
from expunge.errors import ConfigError, DataError

SIDE, GAP, LINE = 84, 8, 14
"""Pixels of a picture's side at least, between pictures, and of a line of text."""
MOST = 20
"""Triggers on a sheet, the smallest first."""
INK, PAPER = (40, 40, 40), (255, 255, 255)


def check_new_file(file: Path) -> None:
    """Raise ConfigError where a file is in the way, or its folder is not there."""
    if file.exists():
        raise ConfigError(f"{file} exists; name another file")
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent} is no folder; name a file in one that is there")


def write_triggers(file: Path, subject: Inspected, triggers: Sequence[Inverted]) -> int:
    """Write a sheet (PNG) of the smallest triggers; returns how many it shows.

    Raises:
        ConfigError: where the file cannot be written.
        DataError: for images that are neither grey nor of three colours.
    """
    buffer = io.BytesIO()
    shown = sorted(triggers, key=lambda one: one.norm)[:MOST]
    drawn_triggers(subject, shown).save(buffer, "PNG")
    with reading(file, "make room, or name another file", ConfigError):
        write_file(file, buffer.getvalue())
    return len(shown)


def drawn_triggers(subject: Inspected, triggers: Sequence[Inverted]) -> Image.Image:
    """A row for each trigger: a clean image of another class, mask times pattern, the mask, and both."""
    height, width = triggers[0].mask.shape
    times = max(1, SIDE // max(height, width))
    wide, high = times * width + GAP, times * height + LINE + GAP
    sheet = Image.new("RGB", (4 * wide + GAP, len(triggers) * high + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for turn, one in enumerate(triggers):
        rows = np.flatnonzero(subject.clean.labels != one.target)[:1]
        image = subject.pictures(subject.clean, rows if len(rows) else np.arange(1)).cpu()
        parts = (image[0], one.mask * one.pattern, one.mask[None], one.apply(image)[0])
        top = GAP + turn * high
        name = subject.classes[one.target].encode("latin-1", "backslashreplace").decode("latin-1")
        told = f"{name[:24]}: {one.norm:.1f} pixels, works on {100 * one.success:.0f} %"
        draw.text((GAP, top), told, fill=INK)
        for column, part in enumerate(parts):
            picture = _picture(part).resize(
                (times * width, times * height), Image.Resampling.NEAREST
            )
            sheet.paste(picture, (GAP + column * wide, top + LINE))
    return sheet


def _picture(values: Tensor) -> Image.Image:
    """An image (1 or 3, height, width) from 0 to 1."""
    if values.shape[0] not in (1, 3):
        raise DataError(
            "a trigger is drawn on images of one or three channels, and these have others"
        )
    pixels = (255 * values.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
