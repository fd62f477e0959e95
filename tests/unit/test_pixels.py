"""Images of every mode: scaled, laid on a ground, or refused; never black or white without a word."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from expunge.api import adopt
from expunge.data import images
from expunge.data.decoded import Wanted
from expunge.data.drawing import DRAWING, GROUNDS, RESIZE_FILTERS, Drawing
from expunge.data.load import load_data
from expunge.data.pixels import plain
from expunge.data.read_as import ReadAs
from expunge.data.samples import resident
from expunge.data.spec import DataSpec, lasting
from expunge.errors import DataError, DataWarning
from expunge.trained.card import DataCard, read_card, write_json
from expunge.trained.opening import load

SIDE = 6


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def values(
    kind: Any = np.uint8, top: int = 256, *, channels: int = 0, seed: int = 0
) -> NDArray[Any]:
    shape = (SIDE, SIDE, channels) if channels else (SIDE, SIDE)
    made = np.random.default_rng(seed).integers(0, top, shape).astype(kind)
    made[0, 0] = top - 1
    return made


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def decoded(content: bytes, drawing: Drawing = DRAWING, size: Any = None) -> NDArray[np.uint8]:
    """One image as it becomes pixels, both ways alike: on a sheet, and alone."""
    every = images.encoded_images([content] * 2, size, "these", drawing)
    out = np.empty((2, *every.shape), np.uint8)
    every.read_small(range(2), out)
    assert np.array_equal(out[1], every.read(1))
    return out[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of icons: black, seen only by what is not transparent."""
    for label, name in enumerate(("bar", "disc")):
        (tmp_path / "icons" / name).mkdir(parents=True)
        for i in range(5):
            icon = np.zeros((SIDE, SIDE, 4), np.uint8)
            icon[1 + label : 4 + label, 1 : 2 + i % 4, 3] = 255
            Image.fromarray(icon).save(tmp_path / "icons" / name / f"{i}.png")
    return tmp_path / "icons"


# --- 16 bits


SIXTEEN = {
    "png": encoded(Image.fromarray(values(np.uint16, 2**16))),
    "tiff": encoded(Image.fromarray(values(np.uint16, 2**16)), "TIFF"),
    "tiff of 32 bits": encoded(Image.fromarray(values(np.int32, 2**16)), "TIFF"),
    "pgm": encoded(Image.fromarray(values(np.uint16, 2**16)), "PPM"),
}


@pytest.mark.parametrize("kind", SIXTEEN)
def test_of_16_bits_the_upper_8_are_kept(kind: str) -> None:
    assert np.array_equal(decoded(SIXTEEN[kind])[0], values(np.int64, 2**16) >> 8)


def test_of_16_bits_in_the_other_order() -> None:
    swapped = Image.frombytes("I;16B", (SIDE, SIDE), values(">u2", 2**16).tobytes())
    assert np.array_equal(np.asarray(plain(swapped, "L", "white")), values(np.int64, 2**16) >> 8)


def test_16_bits_among_colour_are_scaled_too() -> None:
    colour = encoded(Image.fromarray(values(channels=3)))
    every = images.encoded_images([colour, SIXTEEN["png"]], None, "these")
    assert np.array_equal(every.read(1), np.stack([values(np.int64, 2**16) >> 8] * 3))


def test_a_value_of_16_bits_may_be_transparent() -> None:
    grey = values(np.uint16, 2**16)
    content = encoded(Image.fromarray(grey), transparency=int(grey[2, 3]))
    expected = np.where(grey == grey[2, 3], 255, grey >> 8)
    assert np.array_equal(decoded(content)[0], expected)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            values(np.float32, 2),
            "floating-point numbers, of which nobody knows .* save it with 8 or 16",
        ),
        (values(np.int32, 2**17), "go from .* beyond 16 bits"),
        (values(np.int32, 2**16) - 2**15, "go from -.* beyond 16 bits"),
        (values(np.int32, 256), "reach 255 of 65,535, so in 8 bits they would be nearly black"),
    ],
)
def test_what_nobody_can_scale_is_refused_by_name(
    tmp_path: Path, made: NDArray[Any], message: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(made).save(tmp_path / name / f"{i}.tif")
    with pytest.raises(DataError, match=message) as error:
        load_data(tmp_path)
    assert str(tmp_path) in str(error.value)


def deep_png(made: NDArray[Any]) -> bytes:
    """A PNG (h, w, channels) of 16 bits, which Pillow reads and does not write."""
    height, width, channels = made.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + check

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in made)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_of_16_bits_in_every_mode_dim_ones_are_refused(channels: int) -> None:
    def content(top: int, seed: int = 0, hot: int = 0) -> bytes:
        made = values(np.uint16, top, channels=channels, seed=seed)
        made[1, :hot] = 2**16 - 1
        if channels in (2, 4):
            made[..., -1] = 2**16 - 1
        return deep_png(made)

    with pytest.raises(
        DataError, match=r"reach [34],?\d+ of 65,535, so in 8 bits they would be nearly"
    ):
        images.encoded_images([content(4090)] * 3, None, "these")
    dim = [content(1000, seed) for seed in range(9)]
    with pytest.raises(DataError, match=r"the 16-bit images of these reach .*nearly black"):
        images.encoded_images([content(1000, hot=1), *dim], None, "these")
    lit = [content(2**16, seed) for seed in range(9)]
    assert len(images.encoded_images([*dim[:4], *lit], None, "these")) == 13
    black = [content(1)] * 8
    assert len(images.encoded_images([*lit, *black, *black], None, "these")) == 25


def test_hot_pixels_in_every_image_light_nothing() -> None:
    made = np.random.default_rng(0).integers(0, 1000, (64, 64), dtype=np.uint16)
    made[0, :4] = 2**16 - 1
    with pytest.raises(DataError, match="reach 999 of 65,535"):
        images.encoded_images([encoded(Image.fromarray(made))] * 2, None, "these")
    made[1, :8] = 2**16 - 1  # a small bright thing
    assert images.encoded_images([encoded(Image.fromarray(made))] * 2, None, "these")


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_further_pages_are_told_of(kind: str) -> None:
    pages = [Image.fromarray(values(seed=seed)) for seed in range(3)]
    content = encoded(pages[0], kind, save_all=True, append_images=pages[1:])
    with pytest.warns(DataWarning, match="2 or more images of these hold several pages or frames"):
        images.encoded_images([encoded(pages[0]), content, content], None, "these")


def test_large_images_of_16_bits_come_out_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {kind: decoded(content) for kind, content in SIXTEEN.items()}
    monkeypatch.setattr("expunge.data.pixels.STRIP_PIXELS", 2 * SIDE)
    for kind, content in SIXTEEN.items():
        assert np.array_equal(decoded(content), expected[kind])


# --- transparency


def over(colour: NDArray[Any], alpha: NDArray[Any], ground: int) -> NDArray[Any]:
    """The textbook formula, in float64."""
    share = alpha[..., None] / 255
    return np.asarray(np.rint(share * colour + (1 - share) * ground))


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("strip", [2**20, 2 * SIDE])
def test_transparent_images_are_laid_on_the_ground(
    ground: str, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge.data.pixels.STRIP_PIXELS", strip)
    for channels in (4, 2):
        made = values(channels=channels, seed=3)
        found = decoded(encoded(Image.fromarray(made)), Drawing(ground=ground))
        expected = over(made[..., :-1], made[..., -1], GROUNDS[ground]).transpose(2, 0, 1)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1


def test_a_colour_may_be_transparent_in_every_mode() -> None:
    grey = Image.fromarray(values())
    cases = [
        (grey, int(values()[1, 1])),
        (grey.convert("RGB"), (int(values()[1, 1]),) * 3),
        (grey.convert("P"), int(np.asarray(grey.convert("P"))[1, 1])),
        (grey.convert("1"), 0),
    ]
    for image, clear in cases:
        marked = np.all(np.atleast_3d(np.asarray(image)) == clear, axis=-1)
        found = decoded(encoded(image, transparency=clear), Drawing(ground="grey"))
        shown = np.asarray(image.convert("RGB" if len(found) == 3 else "L"))
        shown = np.atleast_3d(shown).transpose(2, 0, 1)
        assert np.array_equal(found, np.where(marked, 128, shown)), image.mode


def test_other_modes_are_as_they_were() -> None:
    colour = Image.fromarray(values(channels=3))
    assert np.array_equal(decoded(encoded(colour)), np.asarray(colour).transpose(2, 0, 1))
    for mode, kind in (("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("CMYK", "TIFF")):
        image = colour.convert(mode)
        shown = np.asarray(image.convert("L" if mode in "1L" else "RGB"))
        expected = np.atleast_3d(shown).transpose(2, 0, 1)
        assert np.array_equal(decoded(encoded(image, kind)), expected), mode
    opaque = colour.convert("RGBA")
    assert np.array_equal(decoded(encoded(opaque)), np.asarray(colour).transpose(2, 0, 1))


def test_what_is_drawn_in_the_colour_of_the_ground_is_refused(folder: Path) -> None:
    whole = resident(load_data(folder).train)
    assert whole is not None and len({one.numpy().tobytes() for one in whole}) > 2
    with pytest.raises(DataError, match=r"0\.png .*drawn in black on nothing.*photos,ground=white"):
        load_data(f"{folder},ground=black")
    clear = encoded(Image.fromarray(np.zeros((SIDE, SIDE, 4), np.uint8)))
    assert (decoded(clear) == 255).all(), "nothing at all hides nothing"


@pytest.mark.parametrize("channels", [2, 4])
def test_what_is_transparent_everywhere_is_refused(channels: int) -> None:
    made = values(channels=channels)
    made[..., -1] = 0
    with pytest.raises(DataError, match="all of it is transparent, so nothing is seen"):
        decoded(encoded(Image.fromarray(made)))
    made[2, 2:4, -1] = 255
    assert decoded(encoded(Image.fromarray(made))).size


def test_images_in_parquet_are_read_alike(folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.png"))
    labels = [0] * 5 + [1] * 5
    table = pa.table({"image": [file.read_bytes() for file in files], "label": labels})
    pq.write_table(table, tmp_path / "icons.parquet")
    for options in ("", ",ground=grey", "@3,resize=box"):
        ones = [load_data(f"{path}{options}") for path in (folder, tmp_path / "icons.parquet")]
        assert ones[0].drawing == ones[1].drawing
        first, second = (torch.cat([resident(d.train), resident(d.test)]) for d in ones)  # type: ignore[list-item]
        assert sorted(one.numpy().tobytes() for one in first) == sorted(
            one.numpy().tobytes() for one in second
        )


# --- chosen, recorded, kept apart


def test_each_filter_of_pillow_may_be_chosen() -> None:
    image = Image.fromarray(values(channels=3))
    found = set()
    for name in RESIZE_FILTERS:
        expected = np.asarray(image.resize((2, 4), Image.Resampling[name.upper()]))
        pixels = decoded(encoded(image), Drawing(resize=name), (4, 2))
        assert np.array_equal(pixels, expected.transpose(2, 0, 1))
        found.add(pixels.tobytes())
    assert len(found) == len(RESIZE_FILTERS)


def test_options_of_a_specification(folder: Path) -> None:
    spec = DataSpec.parse("a,b/photos@64x48,resize=bicubic,ground=black:100+patch:size=2")
    assert (spec.base, spec.size, spec.count) == ("a,b/photos", (64, 48), 100)
    assert spec.drawing(Drawing()) == Drawing("bicubic", "black")
    assert DataSpec.parse("photos").drawing(Drawing("box", None)) == Drawing("box", None)
    assert lasting(f"{folder}@4,resize=box:5") == f"{folder}@4,resize=box:5"
    for wrong, message in [
        ("photos@8,resize=cubic", "give resize= once, one of bilinear, nearest"),
        ("photos,ground=pink", "give ground= once, one of white, black, grey"),
        ("photos@8,resize=box,resize=box", "give resize= once"),
        ("photos,resize=box", "resizes nothing without a size"),
        ("photos,ground=black@8", r"stand between size and count, as in photos@64,ground"),
        ("digits,ground=black", "ground=black is for encoded images, and digits holds none"),
    ]:
        with pytest.raises(DataError, match=message):
            load_data(wrong)


def test_the_cache_keeps_ways_of_drawing_apart() -> None:
    ways = [Drawing(), Drawing("box"), Drawing(ground="black"), Drawing(ground=None)]
    names = {Wanted("f" * 32, (4, 4), np.arange(3), "these", way).folder for way in ways}
    assert len(names) == len(ways)


def test_a_folder_draws_as_it_did_when_it_learned(folder: Path, tmp_path: Path) -> None:
    spec = f"{folder}@4,resize=box,ground=grey"
    data = load_data(spec)
    adopted = adopt(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), data)
    adopted.save(tmp_path / "model")
    pixels = resident(adopted.data.train)
    assert pixels is not None

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))

    assert read_card(tmp_path / "model").data.drawing == Drawing("box", "grey")
    plainly = load(tmp_path / "model", data=f"{folder}@4", fresh=make)
    assert torch.equal(resident(plainly.data.train), pixels)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"drawn with resize=hamming,ground=grey, and .*=box"):
        load(tmp_path / "model", data=f"{folder}@4,resize=hamming", fresh=make)


def test_a_folder_that_does_not_say_draws_as_it_was_done_then(folder: Path, tmp_path: Path) -> None:
    data = load_data(f"{folder}@4", read_as=ReadAs(drawing=Drawing("bilinear", None)))
    assert not resident(data.train).any(), "transparency was dropped"  # type: ignore[union-attr]
    assert DataCard(spec=None, fingerprint="", positional=False, test_fingerprint="").drawing == (
        "bilinear",
        None,
    )

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(48, 2))

    adopted = adopt(make(), data)
    adopted.save(tmp_path / "model")
    card = read_card(tmp_path / "model").model_dump(mode="json")
    for name in ("resize", "ground"):
        del card["data"][name]
    write_json(tmp_path / "model" / "model.json", card)
    again = load(tmp_path / "model", fresh=make)
    pixels = [resident(one.data.train) for one in (again, adopted)]
    assert torch.equal(*pixels)  # type: ignore[call-arg, arg-type]
    again.save(tmp_path / "next")
    assert read_card(tmp_path / "next").data.drawing == Drawing("bilinear", None)
