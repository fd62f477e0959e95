"""Samples as pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image

from expunge.data.samples import ResidentStore, Samples, row_ids
from expunge.data.thumbnails import LARGEST, thumbnail


def samples(inputs: torch.Tensor) -> Samples:
    labels = np.zeros(len(inputs), dtype=np.int64)
    return Samples(row_ids(len(inputs)), labels, ResidentStore(inputs), "print", True)


def opened(uri: str | None) -> Image.Image:
    assert uri is not None
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_pixels_are_kept() -> None:
    images = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8)
    picture = opened(thumbnail(samples(images), 2))
    assert picture.size == (7, 5)
    assert np.array_equal(np.array(picture), images[2].permute(1, 2, 0).numpy())
    grey = opened(thumbnail(samples(images[:, :1]), 1))
    assert np.array_equal(np.array(grey), images[1, 0].numpy())


def test_numbers_go_from_the_darkest_to_the_brightest() -> None:
    images = torch.linspace(-2, 3, 16).reshape(1, 1, 4, 4)
    pixels = np.array(opened(thumbnail(samples(images), 0)))
    assert pixels[0, 0] == 0 and pixels[-1, -1] == 255
    assert (np.diff(pixels.flatten().astype(int)) > 0).all()
    flat = np.array(opened(thumbnail(samples(torch.full((1, 1, 4, 4), 0.3)), 0)))
    assert (flat == flat[0, 0]).all(), "one value everywhere is no division by 0"


def test_large_ones_are_made_small_and_what_is_no_image_is_none() -> None:
    wide = torch.zeros((1, 3, 100, 1000), dtype=torch.uint8)
    assert opened(thumbnail(samples(wide), 0)).size[0] == LARGEST
    assert thumbnail(samples(torch.zeros(2, 8)), 0) is None
    assert thumbnail(samples(torch.zeros((1, 2, 8, 8), dtype=torch.uint8)), 0) is None
