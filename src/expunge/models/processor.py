"""How a model of transformers wants its images: what `preprocessor_config.json` says, in our terms.

There an image is resized, cut, multiplied (rescale_factor), shifted (rescale_offset) and normalised;
here it is resized as a whole, divided by 255 and normalised: the rest goes into mean and deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.disk.reading import UnreadableError, read_json, reading
from expunge.errors import ModelError

PerChannel = tuple[float, ...]
PROCESSOR = "preprocessor_config.json"
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By the numbers that Pillow gives them."""
UNSAID = ("do_flip_channel_order", "do_grayscale", "do_pad", "include_top")
"""Steps that nothing here does."""
MOST_SIDE = 2**13
"""Pixels of a side."""


@dataclass(frozen=True)
class Processor:
    """How a model's images are made ready, each None where nobody says.

    size: (height, width). mean, std: of inputs from 0 to 1, one or one for each channel. resize: one of
    `FILTERS`. cut: images are cut, or keep their proportions, so they are not simply resized to `size`.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    cut: bool = False


def processor_of(folder: Path) -> Processor:
    """What `preprocessor_config.json` says, as far as there is one.

    Raises ModelError for values that cannot be meant, and for steps that nothing here does.
    """
    file = folder / PROCESSOR
    if not file.exists():
        return Processor()
    with reading(
        file, "mend the file, or leave it out and say --mean, --std and DATA@SIZE", ModelError
    ):
        told = read_json(file)
        if not isinstance(told, dict):
            raise UnreadableError("it holds no settings")
        odd = next((name for name in UNSAID if told.get(name)), None)
        if odd is not None:
            raise UnreadableError(f"it asks for {odd}, which is not done here")
        size, cut = _size_of(told)
        mean, std = _normalisation(told)
        return Processor(size, mean, std, _filter(told), cut)


def _normalisation(told: Mapping[str, Any]) -> tuple[PerChannel | None, PerChannel | None]:
    """Mean and deviation of inputs from 0 to 1."""
    plain = told.get("do_normalize") is False
    mean = (0.0,) if plain else _numbers(told, "image_mean")
    std = (1.0,) if plain else _numbers(told, "image_std")
    if mean is None or std is None:
        return None, None
    if len(mean) != len(std) and 1 not in (len(mean), len(std)):
        raise UnreadableError(f"it has {len(mean)} in image_mean and {len(std)} in image_std")
    factor = told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise UnreadableError(f"rescale_factor is {factor!r:.40}, which is no number above 0")
    if min(std) <= 0:
        raise UnreadableError(f"image_std holds {min(std):g}, and deviations are above 0")
    full, shift = 255 * factor, float(bool(told.get("rescale_offset")))
    if abs(full - 1) < 1e-6:
        full = 1.0
    mean, std = tuple((one + shift) / full for one in mean), tuple(one / full for one in std)
    if max(*mean, *std) > 1:
        raise UnreadableError(
            "image_mean and image_std are those of inputs from 0 to 1, and these look like 0 to 255: "
            "divide them by 255"
        )
    return mean, std


def _numbers(told: Mapping[str, Any], name: str) -> PerChannel | None:
    """One number for each channel; None where there are none."""
    value = told.get(name)
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    plain = [one for one in values if isinstance(one, int | float) and math.isfinite(one)]
    if len(plain) != len(values) or len(values) not in (1, 2, 3, 4):
        raise UnreadableError(f"{name} is {value!r:.60}, which is not one number per channel")
    return tuple(map(float, plain))


def _filter(told: Mapping[str, Any]) -> str | None:
    value = told.get("resample")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(FILTERS):
        raise UnreadableError(f"resample is {value!r:.40}, which is no filter of Pillow (0 to 5)")
    return FILTERS[value]


def _size_of(told: Mapping[str, Any]) -> tuple[tuple[int, int] | None, bool]:
    """The size that images have in the end, and whether they come to it by more than resizing."""
    if told.get("do_center_crop") and told.get("crop_size") is not None:
        return _size(told["crop_size"], "crop_size"), True
    if told.get("do_resize") is False or told.get("size") is None:
        return None, False
    edges = isinstance(told["size"], dict) and not {"height", "width"} <= told["size"].keys()
    return _size(told["size"], "size"), edges or told.get("crop_pct") is not None


def _size(value: Any, name: str) -> tuple[int, int]:
    pair = value if isinstance(value, list) else [value, value]
    if isinstance(value, Mapping):
        edge = value.get("shortest_edge", value.get("longest_edge"))
        pair = [value.get("height", edge), value.get("width", edge)]
    sides = [one for one in pair if isinstance(one, int) and not isinstance(one, bool)]
    if len(pair) != 2 or len(sides) != 2 or not 0 < min(sides) <= max(sides) <= MOST_SIDE:
        raise UnreadableError(f"{name} is {value!r:.60}, which is no size of an image")
    return sides[0], sides[1]
