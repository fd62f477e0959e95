"""Samples as small pictures, for reports."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image

from expunge.data.samples import Samples

LARGEST = 128
"""Pixels of the longer side; larger images are made smaller."""


def thumbnail(samples: Samples, row: int) -> str | None:
    """A sample as a PNG in a data URI; None for what is no image of one or three channels."""
    picture = small_picture(samples, row)
    if picture is None:
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def small_picture(samples: Samples, row: int) -> Image.Image | None:
    """A sample as a picture, "L" or "RGB", of `LARGEST` pixels a side at most; None as above."""
    raw = samples.store.fetch(np.array([row]), torch.device("cpu"))
    if not isinstance(raw, torch.Tensor) or raw.ndim != 4 or raw.shape[1] not in (1, 3):
        return None
    image = raw[0]
    if image.dtype != torch.uint8:  # numbers of any range: the darkest to the brightest
        image = image.float().nan_to_num()
        spread = (image.max() - image.min()).clamp_min(1e-12)
        image = (255 * (image - image.min()) / spread).round().to(torch.uint8)
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((LARGEST, LARGEST))
    return picture
