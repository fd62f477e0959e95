"""A perceptual hash of pictures: 64 bits that stay nearly the same when a picture is saved anew, made
brighter or larger, and that differ in about half of them between two pictures.

The signs of the lowest frequencies of a discrete cosine transform: Zauner 2010, Implementation and
Benchmarking of Perceptual Image Hash Functions, section 3.2.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from expunge.data.batch import Indices
from expunge.data.samples import Samples

BITS = 64
SIDE, LOW = 32, 8
"""Pixels to which a side is brought, and frequencies that are looked at, from the second on."""
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in a grey (ITU-R BT.601)."""
TIE, PLAIN = 1e-6, 1e-5
"""Beside the largest frequency: how far above the median a bit is one, for equal frequencies are equal
but for rounding. Beside the brightest pixel: what has no frequency above this is plain."""
VALUES_AT_ONCE = 2**22
"""Pixels that are looked at together."""


def picture_hashes(images: Tensor) -> Tensor:
    """The hash of each picture (n, channels, height, width), of any size, bytes or numbers.

    Returns (n, 64) float32: 1/8 for a bit that is one, else -1/8, so that the inner product of two
    hashes is 1 - 2 d / 64 where d bits differ. Zeros for a picture in which no frequency stands out, as
    one of a single colour or of straight stripes: it looks like any other such.
    """
    small = functional.interpolate(
        _grey(images), (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
    )[:, 0]
    waves = _waves()
    low = (waves @ small @ waves.T).flatten(1)
    top = low.abs().amax(dim=1, keepdim=True)
    middle = low.sort(dim=1).values[:, BITS // 2 - 1 : BITS // 2 + 1].mean(dim=1, keepdim=True)
    signs = torch.where(low > middle + TIE * top, 1.0, -1.0) / math.sqrt(BITS)
    shown = top[:, 0] > PLAIN * small.abs().amax(dim=(1, 2))
    return (signs * shown[:, None]).float()


def bits_apart(product: float) -> int:
    """How many bits differ between two hashes of that inner product."""
    return round(BITS * (1 - product) / 2)


def are_pictures(samples: Samples) -> bool:
    """Whether each input is one tensor (channels, height, width) of bytes or fractions."""
    if not len(samples):
        return False
    one = samples.store.fetch(np.array([0], dtype=np.int64), torch.device("cpu"))
    known = isinstance(one, Tensor) and one.ndim == 4 and min(one.shape[1:]) > 0
    return known and (one.dtype == torch.uint8 or one.is_floating_point())


def hashes_of_pictures(samples: Samples, rows: Indices) -> Tensor:
    """The hashes of some rows, in their order (len(rows), 64); a few pictures are held at a time."""
    return torch.cat([torch.zeros(0, BITS), *_hashed(samples, rows)])


def _hashed(samples: Samples, rows: Indices) -> Iterator[Tensor]:
    step = max(1, VALUES_AT_ONCE // math.prod(samples.shape()))
    batches = [rows[start : start + step] for start in range(0, len(rows), step)]
    for images in samples.store.stream(batches, torch.device("cpu")):
        yield picture_hashes(images)


def _grey(images: Tensor) -> Tensor:
    """(n, 1, height, width) float64."""
    found = images.detach().double().nan_to_num()
    if found.shape[1] == len(LUMA):
        return (found * found.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return found.mean(dim=1, keepdim=True)


@cache
def _waves() -> Tensor:
    """(8, 32) float64: rows 1 to 8 of the orthonormal cosine transform (DCT-II)."""
    places = (torch.arange(SIDE, dtype=torch.float64) + 0.5) * math.pi / SIDE
    return math.sqrt(2 / SIDE) * torch.cos(torch.arange(1, LOW + 1)[:, None] * places)
