"""Files that are not what they say: a reader gives data, or one line that names the file. It starts
nothing, waits for nothing, and unpacks nothing that is far larger than its file."""

from __future__ import annotations

import builtins
import io
import json
import math
import os
import socket
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from thorough import THOROUGH
from torch import nn
from torch.utils.data import TensorDataset

from expunge.data import fingerprint as fingerprints
from expunge.data import images
from expunge.data.aside import stratified
from expunge.data.classes import adopt_names, encode_labels, resolve_class, rows_by_class
from expunge.data.foreign import samples_from_dataset
from expunge.data.load import Data, load_data
from expunge.data.request import check_names, read_ids
from expunge.data.samples import ResidentStore, Samples, StreamStore, resident, row_ids
from expunge.data.spec import DataSpec
from expunge.data.split import Split
from expunge.data.triggers import read_trigger
from expunge.errors import (
    DataError,
    DataWarning,
    ModelError,
    SplitError,
    UserError,
    listed,
    nearest,
)
from expunge.models.checkpoint import check_weights_file, load_weights
from expunge.study.scenarios.base import AsTyped
from expunge.trained.within import within
from expunge.training.session import constructor

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def picture(seed: int = 0, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """cat/ and dog/ of five pictures each."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            picture(10 * label + i).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert text and text.isprintable() and len(text) < 2000
    return text


# --- pictures start nothing


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a fake Ghostscript, first on PATH, would leave."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return tmp_path / "started"


def test_what_the_fake_is_for(mark: Path) -> None:
    with Image.open(io.BytesIO(EPS)) as image, pytest.raises(Exception):  # noqa: B017
        image.load()
    assert mark.exists()


def test_an_eps_by_the_name_of_a_picture_starts_no_program(folder: Path, mark: Path) -> None:
    (folder / "cat" / "0.png").write_bytes(EPS)
    for spec in (str(folder), f"{folder}@4"):
        with pytest.raises(
            DataError, match=r"cannot read .*0\.png as an image .*none of PNG, JPEG"
        ):
            load_data(spec)
    pattern = folder / "cat" / "0.png"
    with pytest.raises(DataError, match=r"cannot read .*0\.png as an image"):
        load_data(f"digits+blend:file={pattern}")
    table = pa.table({"image": [EPS] * 4, "label": [0, 1, 0, 1]})
    pq.write_table(table, folder / "a.parquet")
    with pytest.raises(DataError, match="as an image"):
        load_data(folder / "a.parquet")
    assert not mark.exists()


def test_the_usual_formats_are_read(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for kind, ending in [
            ("PNG", "png"), ("JPEG", "jpg"), ("BMP", "bmp"), ("GIF", "gif"),
            ("WEBP", "webp"), ("TIFF", "tif"), ("PPM", "ppm"),
        ]:  # fmt: skip
            (tmp_path / label / f"a.{ending}").write_bytes(encoded(picture(), kind))
    data = load_data(tmp_path)
    assert len(data.train) + len(data.test) == 14


def header_of_a_bomb(width: int, height: int) -> bytes:
    """A PNG that says that it is so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("side", [8193, 12_000, 60_000])
def test_bombs_are_refused_by_their_header(
    folder: Path, side: int, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(images, "_channels_first", None)  # nothing is decoded
    (folder / "cat" / "0.png").write_bytes(header_of_a_bomb(side, side))
    with pytest.raises(DataError, match=r"cannot read .*0\.png as an image .*pixels") as error:
        load_data(f"{folder}@8")
    one_line(error)
    with pytest.raises(DataError, match=r"cannot read .*0\.png as an image .*pixels"):
        load_data(f"digits+blend:file={folder}/cat/0.png")
    assert not recwarn.list


LOADS = """
import json, os, re, sys, tempfile
from pathlib import Path
from expunge.data.load import load_data
from expunge.errors import DataError

def load(spec):
    with tempfile.TemporaryFile() as errors:
        os.dup2(errors.fileno(), 2)
        try:
            data = load_data(spec)
            told, count = str(data), len(data.train)
        except DataError as error:
            told, count = str(error), 0
        status = Path("/proc/self/status").read_text()  # getrusage counts what the parent had, too
        peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024
        errors.seek(0)
        print(json.dumps([told, count, peak, errors.read().decode()]), flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            load(json.loads(line))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    print(flush=True)
"""
"""A process that has imported what loads data, and forks to load whatever it is told to."""
Loaded = tuple[str, int, int, str]


@pytest.fixture(scope="module")
def peak() -> Iterator[Callable[[Path | str], Loaded]]:
    """What loading says, of how many samples, the most MiB that it took, and its errors."""
    command = [sys.executable, "-c", LOADS]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def load(spec: Path | str) -> Loaded:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{json.dumps(str(spec))}\n")
            process.stdin.flush()
            told = process.stdout.readline()
            assert told.strip(), f"it ended while it loaded {spec}"
            assert process.stdout.readline() == "\n"
            said, count, mib, errors = json.loads(told)
            return said, count, mib, errors

        yield load


@THOROUGH
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
def test_the_largest_picture_that_is_read_takes_less_than_a_gibibyte(
    folder: Path, peak: Callable[[str], Loaded]
) -> None:
    for number, mode in enumerate(("RGB", "CMYK")):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        whole = Image.new(mode, (2**13, 2**13))
        file = folder / "cat" / f"{number}.png"
        whole.save(file, kind, compression="packbits", compress_level=1)
    with pytest.raises(DataError, match=r"differ in size"):
        load_data(folder)
    _, count, peak_mib, errors = peak(f"{folder}@8")
    assert count == 8
    assert peak_mib < 1024
    assert errors == ""


@THOROUGH
def test_pictures_that_unpack_to_far_more_than_their_files(folder: Path) -> None:
    for number in range(5):
        for name in ("cat", "dog"):
            Image.new("L", (8192, 4096)).save(folder / name / f"{number}.png")
    with pytest.raises(DataError, match=r"unpack to 320 MiB, more than 100 times .*append @SIZE"):
        load_data(folder)


def test_pixels_come_out_the_same_in_strips(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resident(load_data(folder).train)
    monkeypatch.setattr(images, "STRIP_PIXELS", 24)
    again = resident(load_data(folder).train)
    assert whole is not None and again is not None
    assert torch.equal(whole, again)


def test_whatever_is_raised_names_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (KeyError, RuntimeError, MemoryError, SyntaxError, OverflowError):

        def failing(*_: Any, kind: type[Exception] = kind) -> None:
            raise kind("within")

        monkeypatch.setattr(images, "_channels_first", failing)
        monkeypatch.setattr(images, "SMALL_PIXELS", 0)
        with pytest.raises(DataError, match=r"cannot read .*\.png as an image"):
            load_data(folder)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_that_is_streamed_is_one_line(
    folder: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "cat" / "2.png"
    broken.write_bytes(broken.read_bytes()[:100])
    monkeypatch.setattr(images, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr("psutil.cpu_count", lambda: workers + 1)
    samples = load_data(folder).train
    with pytest.raises(DataError, match=r"^cannot read .*2\.png as an image") as error:
        list(samples.store.stream([np.arange(len(samples))], torch.device("cpu")))
    one_line(error)


# --- what is no regular file


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket must be short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "fifo": fifo,
    "socket": bound,
    "folder": lambda path: path.mkdir(),
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "dangling": lambda path: path.symlink_to(path.with_name("gone")),
}


@pytest.fixture(params=NO_FILES)
def spoil(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    return NO_FILES[request.param]


@pytest.mark.timeout(20)
def test_no_reader_waits_for_what_is_no_file(folder: Path, spoil: Callable[[Path], None]) -> None:
    for name in ("a.npz", "a.parquet", "a.pt", "a.safetensors", "ids.txt", "pattern.png"):
        spoil(folder.parent / name)
    (folder / "cat" / "0.png").unlink()
    spoil(folder / "cat" / "0.png")
    (folder.parent / "more").mkdir()
    spoil(folder.parent / "more" / "train-0.parquet")
    for spec in (
        folder, folder.parent / "a.npz", folder.parent / "a.parquet", folder.parent / "more",
        f"digits+blend:file={folder.parent}/pattern.png",
    ):  # fmt: skip
        with pytest.raises(DataError) as error:
            load_data(spec)
        one_line(error)
    for ending in ("pt", "safetensors"):
        with pytest.raises(ModelError) as error:
            load_weights(nn.Linear(2, 2), folder.parent / f"a.{ending}")
        assert f"a.{ending}" in one_line(error)
        with pytest.raises(ModelError):
            check_weights_file(folder.parent / f"a.{ending}")
    listed_in = folder.parent / "ids.txt"
    for read in (
        lambda: read_ids(str(listed_in)),
        lambda: check_names(f"ids:{listed_in}"),
        lambda: AsTyped().content(f"ids:{listed_in}"),
    ):
        with pytest.raises(SplitError, match=r"ids\.txt") as failed:
            read()
        one_line(failed)
    with pytest.raises(DataError, match=r"pattern\.png"):
        read_trigger(f"blend:file={folder.parent}/pattern.png").check()


def test_links_to_pictures_elsewhere_are_read(folder: Path, tmp_path: Path) -> None:
    """Whole classes or single files often lie on another disk."""
    (tmp_path / "disk").mkdir()
    (folder / "cat").rename(tmp_path / "disk" / "cat")
    (folder / "cat").symlink_to(tmp_path / "disk" / "cat")
    (folder / "dog" / "4.png").rename(tmp_path / "disk" / "4.png")
    (folder / "dog" / "4.png").symlink_to(tmp_path / "disk" / "4.png")
    data = load_data(folder)
    assert len(data.train) + len(data.test) == 10
    assert data.classes == ("cat", "dog")


def test_a_class_that_links_back_is_refused(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    with pytest.raises(DataError, match="loop is a link to a folder that holds it"):
        load_data(folder)
    (folder / "loop").unlink()
    (folder / "loop").symlink_to("/")
    with pytest.raises(DataError, match="loop is a link to a folder that holds it"):
        load_data(folder)


@pytest.mark.timeout(20)
def test_pipes_that_were_typed_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a\nb\n")
    os.close(writer)
    assert read_ids(f"/dev/fd/{reader}") == ["a", "b"]
    with pytest.raises(SplitError, match="no regular file"):
        read_ids(f"/dev/fd/{reader}", typed=False)
    with pytest.raises(SplitError, match="cannot read ids from '-'"):
        AsTyped().content("ids:-")
    os.close(reader)
    check_names("ids:/dev/fd/63")  # read once, later


@pytest.mark.timeout(20)
def test_an_endless_pipe_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(SplitError, match="larger than 64 MiB"):
        read_ids(f"/dev/fd/{endless}")
    os.close(endless)


def test_lists_of_too_many_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.data.request.MOST_LINES", 10)
    (tmp_path / "ids").write_text("a\n" * 11)
    with pytest.raises(SplitError, match="more than 10 lines"):
        read_ids(str(tmp_path / "ids"))


# --- what unpacks to more than it is


def npz(path: Path, members: dict[str, bytes], **how: Any) -> None:
    with zipfile.ZipFile(path, "w", how.pop("compression", zipfile.ZIP_STORED)) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def array(values: Any, *, objects: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(values), allow_pickle=objects)
    return buffer.getvalue()


def header(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


LABELS = array(np.arange(20) % 2)
BAD_ARRAYS = {
    "larger than it is": {"x.npy": header("(1000000000, 1000)"), "y.npy": LABELS},
    "overflowing": {"x.npy": header("(4294967296, 4294967296, 4294967296)"), "y.npy": LABELS},
    "negative": {"x.npy": header("(-1, 4)") + bytes(80), "y.npy": LABELS},
    "of nothing": {"x.npy": array(np.zeros((20, 2))), "y.npy": header("(1000000000000,)", "<U0")},
    "objects": {"x.npy": array(np.array([[{}], [{}]]), objects=True), "y.npy": LABELS},
    "no header": {"x.npy": b"hello", "y.npy": LABELS},
    "no array": {"x.txt": b"hello", "y.npy": LABELS},
    "a strange header": {"x.npy": header("(20, 2), 'more': 1"), "y.npy": LABELS},
    "a nested header": {"x.npy": header("(" * 4000 + ")" * 4000), "y.npy": LABELS},
    "labels of times": {"x.npy": array(np.zeros((20, 2))), "y.npy": array(np.zeros(20, "M8[s]"))},
    "labels of parts": {"x.npy": array(np.zeros((20, 2))), "y.npy": array(np.zeros(20, "i4,i4"))},
    "no labels": {"x.npy": array(np.zeros((20, 2))), "y.npy": array(np.array(3))},
    "no samples": {"x.npy": array(np.zeros((0, 2))), "y.npy": array(np.zeros(0, int))},
    "classes of one name": {
        "x.npy": array(np.zeros((20, 2))),
        "y.npy": LABELS,
        "classes.npy": LABELS,
    },
    "ids of two axes": {
        "x.npy": array(np.zeros((20, 2))),
        "y.npy": LABELS,
        "id.npy": array(np.zeros((20, 2))),
    },
    "columns of one name": {
        "x.npy": array(np.zeros((20, 2))),
        "y.npy": LABELS,
        "a\x01.npy": LABELS,
        "a\\x01.npy": LABELS,
    },
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_are_refused(tmp_path: Path, name: str) -> None:
    npz(tmp_path / "a.npz", BAD_ARRAYS[name])
    with pytest.raises(DataError) as error:
        load_data(tmp_path / "a.npz")
    one_line(error)


def test_an_archive_that_numpy_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    good = {"x.npy": array(np.zeros((20, 2))), "y.npy": LABELS}
    npz(path, good, compression=zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match=r"cannot read .*a\.npz .*compressed in a way"):
        load_data(path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        for name in ("x.npy", "y.npy", "x.npy"):
            archive.writestr(name, LABELS)
    with pytest.raises(DataError, match="two arrays have one name"):
        load_data(path)
    npz(path, good)
    content = bytearray(path.read_bytes())
    for place in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[place] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npy is encrypted"):
        load_data(path)
    npz(path, {f"c{i}.npy": LABELS for i in range(1001)} | good)
    with pytest.raises(DataError, match="too many"):
        load_data(path)


def test_an_archive_that_unpacks_to_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rows = tmp_path / "a.npz", 300_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y.npy", array(np.zeros(rows, np.int8)))
        with archive.open("x.npy", "w") as stream:
            stream.write(header(f"({rows}, 1000)"))
            for _ in range(rows // 1000):
                stream.write(bytes(1_000_000))
    assert path.stat().st_size < 2_000_000
    monkeypatch.setattr(np.lib.format, "read_array", None)  # nothing is unpacked
    with pytest.raises(DataError, match=r"a\.npz .*would unpack to 300,\d+,\d+, which no data do"):
        load_data(path)


def test_arrays_that_do_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 2)), y=np.arange(20) % 2)
    load_data(tmp_path / "a.npz")

    class Free:
        available = 500

    monkeypatch.setattr("psutil.virtual_memory", Free)
    with pytest.raises(DataError, match=r"a\.npz .*do not fit into memory"):
        load_data(tmp_path / "a.npz")


FEW_ROWS = {"x": np.zeros((4, 1, 8, 8), np.uint8), "y": np.arange(4) % 2}
MANY = 4_000_000
SMALL_BOMBS = {
    "ids": (FEW_ROWS | {"id": np.full(MANY, b"1", "S1")}, "id is of shape"),
    "classes": (FEW_ROWS | {"classes": np.zeros(MANY, np.uint8)}, "4,000,000 class names for 4"),
    "what is no data": (FEW_ROWS | {"more": np.full(MANY, b"1", "S1")}, "3 to train on"),
    "labels": (
        {"x": np.zeros((MANY, 1), np.uint8), "y": np.full(MANY, b"1", "S1")},
        "would unpack to",
    ),
}


@pytest.fixture(scope="module")
def usual_mib(tmp_path_factory: pytest.TempPathFactory, peak: Callable[[Path], Loaded]) -> int:
    """What loading takes at the most without such arrays."""
    file = tmp_path_factory.mktemp("usual") / "b.npz"
    np.savez(file, **FEW_ROWS)
    return peak(file)[2]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize("name", SMALL_BOMBS)
def test_small_arrays_that_become_many_objects(
    tmp_path: Path, name: str, usual_mib: int, peak: Callable[[Path], Loaded]
) -> None:
    arrays, said = SMALL_BOMBS[name]
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    told, _, peak_mib, _ = peak(tmp_path / "a.npz")
    assert said in told
    assert peak_mib < usual_mib + 50


def test_what_is_no_data_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counting(file: Any, **more: Any) -> Any:
        read.append(file.name)
        return original(file, **more)

    original = np.lib.format.read_array
    monkeypatch.setattr(np.lib.format, "read_array", counting)
    more = {"more": np.zeros(7), "who": np.arange(4), "other": np.zeros((4, 4))}
    np.savez(tmp_path / "a.npz", **FEW_ROWS, **more)
    assert list(load_data(tmp_path / "a.npz").train.columns) == ["who"]
    assert sorted(read) == ["who.npy", "x.npy", "y.npy"]


def test_an_honest_array_of_zeros_is_read_uncompressed(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.npz", 1_400_000
    labels = np.zeros(rows, np.int8)
    labels[0] = 1
    np.savez_compressed(path, x=np.zeros((rows, 1), np.uint8), y=labels)
    with pytest.raises(DataError, match=r"if they are meant, save them uncompressed, with numpy\."):
        load_data(path)
    np.savez(path, x=np.zeros((rows, 1), np.uint8), y=labels)
    assert len(load_data(path).train) == 1_120_000


@pytest.mark.parametrize(
    ("kind", "shape", "kept"),
    [
        ("bool", (20, 2), torch.float32),
        ("float16", (20, 2), torch.float32),
        ("longdouble", (20, 2), torch.float32),
        (">f8", (20, 2), torch.float32),
        ("uint16", (20, 1, 8, 8), torch.float32),
        ("int64", (20, 1, 8, 8), torch.float32),
        ("uint16", (20, 2), torch.int64),
        ("int8", (20, 2), torch.int64),
        ("uint64", (20, 2), torch.int64),
        ("uint8", (20, 2), torch.uint8),
    ],
)
def test_numbers_of_any_type(
    tmp_path: Path, kind: str, shape: tuple[int, ...], kept: torch.dtype
) -> None:
    values = np.arange(math.prod(shape)).reshape(shape) % 100
    np.savez(tmp_path / "a.npz", x=values.astype(kind), y=np.arange(20) % 2)
    data = load_data(tmp_path / "a.npz")
    inputs = resident(data.train)
    assert inputs is not None and inputs.dtype == kept
    expected = values.astype(kind).astype(np.float64)[data.train.ids.astype(int)]
    assert np.array_equal(inputs.double().numpy(), expected)
    make = constructor("mlp", data, Split.whole(data, validation=0), allow_code=False)
    if kept != torch.int64:
        make()
        return
    with pytest.raises(DataError, match=r"inputs are int64, which mlp cannot take; .*float32") as e:
        make()
    one_line(e)


def test_integers_that_are_no_ids_of_tokens(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((20, 2), 2**63, np.uint64), y=np.arange(20) % 2)
    with pytest.raises(DataError, match="save the numbers as float32"):
        load_data(tmp_path / "a.npz")


def test_arrays_of_another_byte_order(tmp_path: Path) -> None:
    values = np.arange(40.0).reshape(20, 2)
    np.savez(tmp_path / "a.npz", x=values.astype(">f4"), y=(np.arange(20) % 2).astype(">i8"))
    data = load_data(tmp_path / "a.npz")
    tensor = resident(data.train)
    assert tensor is not None
    assert np.array_equal(tensor.numpy(), values[data.train.ids.astype(int)])


def test_parquet_of_more_rows_than_any_data_of_its_size(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.parquet", 5_000_000
    image = pa.array([b"x"])
    table = pa.table(
        {
            "image": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), image),
            "label": np.zeros(rows, np.int64),
        }
    ).replace_schema_metadata(None)
    table = table.cast(pa.schema({"image": pa.binary(), "label": pa.int64()}))
    pq.write_table(table, path, store_schema=False)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"a\.parquet as parquet .*would unpack to .*which no data"):
        load_data(path)


def test_a_picture_or_a_text_that_comes_often_is_there_once(tmp_path: Path) -> None:
    """A dictionary of one large value, and many rows of it: small as a file, large when unpacked."""
    path, rows = tmp_path / "a.parquet", 2000
    image, text = encoded(picture(size=(300, 300))), "text" * 50_000
    place = np.zeros(rows, np.int32)
    table = pa.table(
        {
            "image": pa.DictionaryArray.from_arrays(place, pa.array([image])),
            "note": pa.DictionaryArray.from_arrays(place, pa.array([text])),
            "label": np.arange(rows) % 2,
        }
    )
    pq.write_table(table, path, store_schema=False)
    assert path.stat().st_size < 1_000_000
    from expunge.data.parquet import read_parquet

    raw = read_parquet(path, (8, 8))
    store = raw.store
    assert isinstance(store, images.ImageStore)
    assert store.part is not None
    assert len({id(source) for source in store.part.images.sources}) == 1
    assert len({id(text) for text in raw.columns["note"].tolist()}) == 1
    samples = raw.samples(raw.labels)
    assert len({id(text) for text in samples.columns["note"].tolist()}) == 1
    data = Data(samples, samples, ("0", "1"))
    with pytest.raises(SplitError, match="names all"):
        Split.groups(data, "note", text, base=Split.whole(data, validation=0))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak")
@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_a_long_text_that_comes_often_and_is_missing_once(
    tmp_path: Path, kind: pa.DataType, peak: Callable[[Path], Loaded]
) -> None:
    places = pa.array([0] * 999 + [None], pa.int32())
    texts = pa.DictionaryArray.from_arrays(places, pa.array(["\x1b" + "x" * 1_000_000], kind))
    table = pa.table(
        {"image": [encoded(picture())] * 1000, "label": np.arange(1000) % 2, "note": texts}
    )
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    told, _, peak_mib, _ = peak(tmp_path / "a.parquet")
    assert "800 to train on" in told
    assert peak_mib < 600  # and not a gigabyte of copies


def many_columns(path: Path) -> None:
    """Small as a file, for all columns are constant."""
    rows = 500_000
    image = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([encoded(picture())]))
    columns = {f"c{i}": np.zeros(rows, np.int64) for i in range(70)}
    table = pa.table({"image": image, "label": np.arange(rows) * 2 // rows, **columns})
    pq.write_table(table, path, compression="zstd", store_schema=False)


def test_parquet_of_many_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_columns(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"a\.parquet as parquet .*would unpack to .*which no data"):
        load_data(tmp_path / "a.parquet")
    from expunge.data import parquet

    # the footer says little: what comes is counted too
    monkeypatch.setattr(parquet, "check_sizes", lambda *_: None)
    with pytest.raises(DataError, match=r"bytes unpack to more than .*which no data"):
        load_data(tmp_path / "a.parquet")


def test_parquet_of_more_names_than_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(names: int) -> None:
        known = {"info": {"features": {"label": {"names": [f"n{i}" for i in range(names)]}}}}
        table = pa.table({"image": [encoded(picture())] * 8, "label": [0, 1] * 4})
        table = table.replace_schema_metadata({"huggingface": json.dumps(known)})
        pq.write_table(table, tmp_path / "a.parquet")

    write(1000)
    assert len(load_data(tmp_path / "a.parquet").classes) == 1000
    write(50_001)
    with pytest.raises(DataError, match=r"50,001 class names for 8 samples; .*as many"):
        load_data(tmp_path / "a.parquet")


def test_parquet_with_other_columns(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        table = pa.table({"image": [encoded(picture())] * 4, "label": [0, 1] * 2, name: [1] * 4})
        pq.write_table(table, tmp_path / f"train-{number}.parquet")
    with pytest.raises(DataError, match="has other columns than"):
        load_data(tmp_path)
    table = pa.table({"image": [encoded(picture())] * 4, "label": ["a", None, "b", "b"]})
    pq.write_table(table, tmp_path / "n.parquet")
    with pytest.raises(DataError, match="has 1 rows without label"):
        load_data(tmp_path / "n.parquet")
    table = pa.table(
        {
            "image": [encoded(picture())] * 8,
            "label": [0, 1] * 4,
            "nested": [[1, 2]] * 8,
            "day": pa.array([0] * 8, pa.date32()),
            "kind": pa.array(["a", None] * 4).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "o.parquet")
    data = load_data(tmp_path / "o.parquet")
    assert set(data.train.columns) == {"label", "day", "kind"}
    assert set(data.train.columns["kind"].tolist()) == {"a", "None"}


# --- classes and names


@pytest.mark.parametrize("top", [20, 2**31, 2**62, 2**64 - 1])
def test_there_are_never_more_classes_than_samples(top: int) -> None:
    labels = np.array([0] * 19 + [top], dtype=np.uint64)
    with pytest.raises(DataError, match=f"label {top} of 20 samples: .*never more classes"):
        encode_labels([labels], None)
    with pytest.raises(DataError, match=f"label {top} is beyond the 2 class names"):
        encode_labels([labels], ["a", "b"])
    assert encode_labels([np.arange(20)], None)[1][-1] == "19"


def test_labels_and_names_of_odd_types() -> None:
    texts, names = encode_labels([np.array([b"\xff", b"a"])], None)
    assert names == (r"\xff", "a") and texts[0].tolist() == [0, 1]
    assert encode_labels([np.array(["\x1b[2J", "b"], dtype=object)], None)[1] == (r"\x1b[2J", "b")
    with pytest.raises(DataError, match="two classes are called"):
        encode_labels([np.array(["a"])], ["a", "a"])
    for kind in ("M8[s]", "c16", "i4,i4"):
        with pytest.raises(DataError, match="are not classes"):
            encode_labels([np.zeros(3, kind)], None)
        with pytest.raises(DataError, match="are not classes"):
            encode_labels(*adopt_names([np.zeros(3, kind)], ["a", "b"], ["b", "a"]))
    flags, _ = adopt_names([np.array([True, False])], ["a", "b"], ["b", "a"])
    assert flags[0].tolist() == [0, 1]
    with pytest.raises(DataError, match="label 7 is beyond the 2 class names"):
        encode_labels(*adopt_names([np.array([7])], ["a", "b"], ["b", "a"]))


ODD = "a\x1b[31m\r\n\u202eb\udcff"
CLEAN = r"a\x1b[31m\r\n\u202eb\xff"


def test_names_from_elsewhere_are_shown_as_they_are(tmp_path: Path) -> None:
    names = np.array([f"{ODD}{i}" for i in range(20)])
    npz(
        tmp_path / "a.npz",
        {
            "x.npy": array(np.zeros((20, 2))),
            "y.npy": LABELS,
            "id.npy": array(names),
            "classes.npy": array(np.array([ODD, "b"])),
            "who\x07.npy": array(np.array([ODD, "b"])[np.arange(20) % 2]),
        },
    )
    data = load_data(tmp_path / "a.npz")
    assert data.classes == (CLEAN, "b")
    assert set(data.train.ids.tolist()) <= {f"{CLEAN}{i}" for i in range(20)}
    assert list(data.train.columns) == [r"who\x07"]
    base = Split.whole(data, validation=0)
    wanted = str(data.train.ids[0])
    raw = wanted.replace(CLEAN, ODD)
    for text in (raw, wanted):
        assert Split.ids(data, [text], base=base).forget == (wanted,)
    (tmp_path / "ids").write_bytes(wanted.replace(CLEAN, "a\x1b[31m\\r\\n\u202eb\\xff").encode())
    assert Split.parse(data, f"ids:{tmp_path}/ids", base=base).forget == (wanted,)
    assert resolve_class(ODD, data.classes) == resolve_class(CLEAN, data.classes) == 0
    for column, value in (("who\x07", ODD), (r"who\x07", CLEAN)):
        split = Split.groups(data, column, value, base=base)
        assert split.forgotten_classes(data) == (0,)


def test_ids_that_become_the_same_are_refused() -> None:
    ids = np.array(["\x1b", r"\x1b"])
    with pytest.raises(DataError, match=r"the id '\\\\x1b' occurs 2 times"):
        Samples(ids, np.zeros(2, np.int64), ResidentStore(torch.zeros(2, 1)), "print", False)


def test_folders_and_files_whose_names_are_no_text(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"\x1b[2J"):
        place = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(place)
        for i in range(5):
            with open(os.path.join(place, b"%d\xff.png" % i), "wb") as stream:
                stream.write(encoded(picture(i)))
    data = load_data(tmp_path)
    assert data.classes == (r"\x1b[2J", r"caf\xe9")
    assert all(name.isprintable() for name in data.train.ids.tolist())
    os.mkdir(os.path.join(os.fsencode(tmp_path), rb"caf\xe9"))
    with pytest.raises(DataError, match=r"two class folders of .* read 'caf\\\\xe9'"):
        load_data(tmp_path)


def test_foreign_data_are_cleaned_too() -> None:
    dataset = TensorDataset(torch.zeros(4, 2), torch.arange(4) % 2)
    dataset.ids = ["\x1b", b"\xff", 3, "d"]  # type: ignore[attr-defined]
    dataset.columns = {"who\n": np.array(["\x07", "b"] * 2, dtype=object)}  # type: ignore[attr-defined]
    dataset.classes = ["\x1b[0m", "b"]  # type: ignore[attr-defined]
    samples, _ = samples_from_dataset(dataset)
    assert samples.ids.tolist() == [r"\x1b", r"\xff", "3", "d"]
    assert samples.columns[r"who\n"].tolist() == [r"\x07", "b"] * 2
    assert load_data((dataset, dataset)).classes == (r"\x1b[0m", "b")


def test_one_long_id_among_many_does_not_make_all_long() -> None:
    ids = np.array([*map(str, range(99_999)), "x" * 100_000], dtype=object)
    with pytest.raises(DataError, match="one of 100,000 texts is 100,000 letters long"):
        Samples(ids, np.zeros(100_000, np.int64), ResidentStore(torch.zeros(100_000)), "", False)


@given(st.lists(st.text(max_size=6), max_size=8), st.sampled_from("UOS"))
@FEW
def test_names_are_always_fit_to_be_shown(names: list[str], kind: str) -> None:
    given_names = (
        [name.encode("utf-8", "surrogatepass") for name in names] if kind == "S" else names
    )
    ids = np.array(given_names, dtype=kind if names else "U1")
    labels = np.zeros(len(names), np.int64)
    try:
        samples = Samples(ids, labels, ResidentStore(torch.zeros(len(names))), "", False)
    except DataError:
        return
    for name in samples.ids.tolist():
        assert name.encode() == name.encode("utf-8", "strict")
        assert "\n" not in name and "\x1b" not in name
    again = samples.subset(np.arange(len(names)))
    assert again.ids.tolist() == samples.ids.tolist()


# --- hints and lists


def test_a_hint_among_many_names_looks_only_near_them(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"photo-{i:06}.png" for i in range(100_000)]
    compared = []

    def close(word: str, words: list[str], n: int) -> list[str]:
        compared.append(len(words))
        return original(word, words, n)

    import difflib

    original = difflib.get_close_matches
    monkeypatch.setattr(difflib, "get_close_matches", close)
    assert nearest("photo-00123.png", names).startswith(", did you mean 'photo-001")
    assert nearest("zzz", names) == ""
    assert nearest("x" * 100_000, names) == ""
    assert max(compared) <= 100
    assert nearest("cta", ["ant", "bee", "cat"]) == ", did you mean 'cat'?"


def test_lists_in_messages_are_short() -> None:
    names = [str(i) for i in range(10_000)]
    assert listed(names[:3]) == "0, 1, 2"
    assert listed(names).endswith("18, 19 and 9,980 more")
    with pytest.raises(SplitError) as error:
        resolve_class("x", names)
    one_line(error)
    with pytest.raises(DataError) as failed:
        encode_labels([np.array(["x"])], names)
    one_line(failed)
    with pytest.raises(DataError) as failed:
        adopt_names([np.array([0])], ["x"], names)
    one_line(failed)


@pytest.mark.parametrize(
    "spec",
    [
        "digits:99999999999999999999", f"digits:{'9' * 5000}", "photos@1000000", "photos@9000x9000",
        f"photos@{'9' * 5000}", "digits:00", "a" * 300, "a" * 300 + ".npz", "~nobody-at-all/a.npz",
        f"digits+patch:poison_seed={'9' * 5000}", f"digits+patch:size={'9' * 5000}",
        f"digits+patch:place={'9' * 5000}x1", f"digits+patch:margin={'9' * 5000}",
        f"digits+patch:target={'9' * 5000}", "digits+patch:size=999999999",
    ],
)  # fmt: skip
def test_numbers_and_paths_that_are_too_large(spec: str) -> None:
    with pytest.raises(DataError) as error:
        load_data(spec)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(SplitError):
        check_names(f"indices:{'9' * 5000}")


def test_rows_of_each_class_are_found_in_one_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 700, 2000)
    expected = {int(c): np.flatnonzero(labels == c).tolist() for c in np.unique(labels)}
    assert {c: rows.tolist() for c, rows in rows_by_class(labels).items()} == expected
    assert rows_by_class(np.zeros(0, np.int64)) == {}
    generators = [np.random.default_rng(1), np.random.default_rng(1)]
    chosen = stratified(labels, 0.3, generators[0])
    draws = [generators[1].permutation(rows) for rows in expected.values()]
    assert set(chosen.tolist()) <= {int(row) for rows in draws for row in rows[:3]}
    monkeypatch.setattr(np, "flatnonzero", None)  # which looks at all samples, for each class
    stratified(labels, 0.3, np.random.default_rng(1))


class Counted(str):
    """An id that counts how often it is looked for."""

    looked = 0

    def __hash__(self) -> int:
        Counted.looked += 1
        return super().__hash__()


def test_a_split_is_held_against_that_of_its_model_in_one_pass() -> None:
    keys = tuple(Counted(i) for i in range(2000))
    base = Split(retain=keys)
    split = Split(retain=keys[:1900], forget=keys[1900:])
    Counted.looked = 0
    within(split, base)
    assert Counted.looked < 20 * len(keys)


# --- read once, and remembered with care


def count_opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    opened: list[str] = []

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(file: Any, *rest: Any, **more: Any) -> Any:
            opened.append(str(file))
            return original(file, *rest, **more)

        return counted

    monkeypatch.setattr(os, "open", counting(os.open))
    monkeypatch.setattr(io, "open", counting(io.open))
    monkeypatch.setattr(builtins, "open", counting(builtins.open))
    return opened


def test_pictures_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = count_opens(monkeypatch)
    data = load_data(folder)
    assert resident(data.train) is not None
    found = [name for name in opened if name.endswith(".png")]
    assert len(found) == len(set(found)) == 10
    store = data.train.store
    assert isinstance(store, images.ImageStore)
    assert store.part is None, "no bytes are kept"
    opened.clear()
    again = load_data(folder)
    assert again.train.fingerprint == data.train.fingerprint
    assert torch.equal(resident(again.train), resident(data.train))  # type: ignore[arg-type]


def test_what_is_decoded_is_not_decoded_again_for_some_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[int] = []
    real = images._decode_all
    monkeypatch.setattr(images, "_decode_all", lambda some: decoded.append(len(some)) or real(some))
    sources = [encoded(Image.new("L", (8, 8), value)) for value in range(6)]
    part = images.ImagePart(lambda: sources, None, "here", "none")
    store, other = (images.ImageStore(part, np.arange(6)) for _ in range(2))
    rows = np.array([4, 1])
    for one, expected in ((store, [6]), (other, [6, 2])):  # of the other nobody asked for the rest
        if one is store:
            one.whole()
        some = one.rows(rows).whole()
        assert some is not None and some[:, 0, 0, 0].tolist() == [4, 1]
        assert decoded == expected
    monkeypatch.setattr(images, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr("psutil.cpu_count", lambda: 1)  # no worker processes
    assert store.rows(rows).whole() is None, "a copy would not fit"


@pytest.mark.parametrize(("side", "threads"), [(32, []), (64, []), (100, [7])])
def test_threads_decode_large_images_alone(
    side: int, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 of them took 3 times as long as one over images of 32 x 32: most of that is Python."""
    asked: list[int] = []
    real = images.ThreadPoolExecutor
    monkeypatch.setattr(
        images, "ThreadPoolExecutor", lambda max_workers: asked.append(max_workers) or real(1)
    )
    monkeypatch.setattr("psutil.cpu_count", lambda: 7)
    picture_of = [encoded(Image.new("L", (side, side), value)) for value in (1, 2)]
    part = images.ImagePart(lambda: picture_of, None, "here", "none")
    store = images.ImageStore(part, np.arange(2))
    assert store.whole()[:, 0, 0, 0].tolist() == [1, 2]  # type: ignore[index]
    assert asked == threads


def test_pictures_too_many_for_memory_are_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_data(folder).train.fingerprint
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "other"))
    monkeypatch.setattr(images, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr("psutil.cpu_count", lambda: 1)  # no worker processes
    data = load_data(folder)
    assert resident(data.train) is None
    assert isinstance(data.train.store, images.ImageStore) and data.train.store.part is None
    streamed = data.train.store._decoded
    assert isinstance(streamed, StreamStore)
    assert isinstance(streamed.dataset, images.EncodedImages)
    assert all(isinstance(source, Path) for source in streamed.dataset.sources)
    assert data.train.fingerprint == expected


def test_data_whose_ids_are_row_numbers_are_always_hashed(tmp_path: Path) -> None:
    """A file changed in place, of the same size and time, is another one; and so is any other where
    the system says when it was changed.
    """
    labels = np.arange(20) % 2
    for name in ("a.npz", "b.npz", "a.parquet"):
        digests = []
        for value in (0, 1):
            path = tmp_path / name
            if name == "a.parquet":
                picture_of = encoded(Image.new("L", (8, 8), 100 + value))
                table = pa.table({"image": [picture_of] * 20, "label": labels})
                pq.write_table(table, path)
            else:
                own = {"id": [f"n{i}" for i in range(20)]} if name == "b.npz" else {}
                np.savez(path, x=np.full((20, 2), value), y=labels, **own)
            os.utime(path, ns=(1, 1))
            digests.append((path.stat().st_size, load_data(path).train.fingerprint))
        (size, first), (other_size, second) = digests
        assert size == other_size and first != second


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"a": 1}', "[" * 100_000, '{"%s": "\\u001b"}', '{"%s": null}', '{"%s": "AB"}'],
)
def test_odd_memories_of_fingerprints_are_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "data").write_bytes(b"one")
    expected = fingerprints.fingerprint_files([tmp_path / "data"], tmp_path)
    cache = fingerprints.fingerprints_file()
    (key,) = json.loads(cache.read_text())
    cache.write_text(content.replace("%s", key))
    assert fingerprints.fingerprint_files([tmp_path / "data"], tmp_path) == expected


@pytest.mark.timeout(20)
def test_a_memory_of_fingerprints_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"one")
    fingerprints.fingerprints_file().parent.mkdir()
    fingerprints.fingerprints_file().symlink_to("/dev/zero")
    fingerprints.fingerprint_files([tmp_path / "data"], tmp_path)


# --- checkpoints


def torch_file(content: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def compressed(path: Path) -> None:
    torch.save({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    npz(path, members, compression=zipfile.ZIP_DEFLATED)


LINEAR = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "ints as keys": torch_file({0: torch.zeros(2), 1: torch.zeros(2)}),
    "mixed keys": torch_file({0: torch.zeros(2), "weight": torch.zeros(2)}),
    "nested": torch_file({"state_dict": {"model": {"a": {"b": torch.zeros(2)}}}}),
    "no tensors": torch_file({"weight": 1, "bias": "two"}),
    "a list": torch_file([torch.zeros(2)]),
    "one tensor": torch_file(torch.zeros(2)),
    "nothing": torch_file({}),
    "complex": torch_file(LINEAR | {"weight": torch.zeros(2, 3, dtype=torch.complex64)}),
    "a strange name": torch_file(LINEAR | {"\x1b[2J\n": torch.zeros(2)}),
    "expanded": torch_file(LINEAR | {"weight": torch.zeros(1).expand(2**40)}),
    "code": torch_file(nn.Linear(2, 2)),
    "another zip": lambda path: npz(path, {"a.txt": b"hello"}),
    "compressed": compressed,
    "empty": lambda path: path.write_bytes(b""),  # type: ignore[dict-item]
    "noise": lambda path: path.write_bytes(bytes(range(256))),  # type: ignore[dict-item]
    "pickled": lambda path: path.write_bytes(b"cos\nsystem\n(S'touch gone'\ntR."),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_checkpoints_that_do_not_fit(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    CHECKPOINTS[name](path)
    with pytest.raises(ModelError, match=rf"a\.{ending}") as error:
        load_weights(nn.Linear(2, 2), path)
    assert "weights_only" not in one_line(error)


def test_tied_weights_that_were_saved_once(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
            self.other.weight = self.one.weight

    model = Tied()
    state = {f"module.{k}": v + 1 for k, v in model.state_dict().items() if k != "other.weight"}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pt")
    expected = model.one.weight.detach() + 1
    load_weights(model, tmp_path / "a.pt")
    assert torch.equal(model.other.weight, expected)


# --- anything at all: data, or one line


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes changed, cut out, or put twice."""
    place = st.integers(0, len(content) - 1)

    def change(spots: list[tuple[int, int]], cut: tuple[int, int] | None) -> bytes:
        made = bytearray(content)
        for where, value in spots:
            made[where] = value
        if cut is not None:
            del made[min(cut) : max(cut)]
        return bytes(made)

    spots = st.lists(st.tuples(place, st.integers(0, 255)), max_size=8)
    return st.builds(change, spots, st.none() | st.tuples(place, place))


def loads_or_tells(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        load_data(path)
    except (UserError, DataWarning) as error:
        assert str(error).isprintable()


def small_npz() -> bytes:
    buffer = io.BytesIO()
    labels = np.arange(12) % 3
    np.savez_compressed(buffer, x=np.ones((12, 2)), y=labels, id=[f"i{i}" for i in range(12)])
    return buffer.getvalue()


def small_parquet() -> bytes:
    buffer = io.BytesIO()
    column = [{"bytes": encoded(picture(i)), "path": None} for i in range(4)]
    table = pa.table(
        {"image": column, "label": [0, 1] * 2, "id": list("abcd"), "who": list("aabb")}
    )
    pq.write_table(table, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("fuzz")


@given(content=mutated(small_npz()) | st.binary(max_size=200))
@FEW
def test_any_npz(place: Path, content: bytes) -> None:
    loads_or_tells(place / "a.npz", content)


@given(content=mutated(small_parquet()) | st.binary(max_size=200))
@FEW
def test_any_parquet(place: Path, content: bytes) -> None:
    loads_or_tells(place / "a.parquet", content)


@given(data=st.data(), kind=st.sampled_from(images.FORMATS))
@settings(FEW, max_examples=40)
def test_any_picture(place: Path, data: st.DataObject, kind: str) -> None:
    content = data.draw(mutated(encoded(picture(), kind)) | st.binary(max_size=100))
    for name in ("cat", "dog"):
        (place / "photos" / name).mkdir(parents=True, exist_ok=True)
        (place / "photos" / name / "0.png").write_bytes(content)
        (place / "photos" / name / "1.png").write_bytes(content)
    pattern = read_trigger(f"blend:file={place}/photos/cat/0.png")
    for read in (
        lambda: load_data(place / "photos"),
        lambda: load_data(f"{place}/photos@4"),
        lambda: pattern.apply(torch.zeros(1, 3, 4, 4)),
    ):
        try:
            read()
        except (UserError, DataWarning) as error:  # a changed byte may give it a second page
            assert str(error).isprintable()


@given(content=st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
@FEW
def test_any_list_of_ids(place: Path, content: bytes) -> None:
    (place / "ids").write_bytes(content)
    try:
        names = read_ids(str(place / "ids"))
    except SplitError:
        return
    assert names and all(name == name.strip() and "\x1b" not in name for name in names)


labels_of_any_kind = st.one_of(
    st.lists(st.integers(-3, 2**65), max_size=6),
    st.lists(st.text(max_size=3), max_size=6),
    st.lists(st.floats(), max_size=6),
    st.lists(st.none() | st.booleans() | st.text(max_size=2) | st.binary(max_size=2), max_size=6),
    st.lists(st.binary(max_size=3), max_size=6),
    st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), max_size=4),
)


@given(labels_of_any_kind, st.none() | st.lists(st.text(max_size=2), max_size=4))
@FEW
def test_any_labels(labels: list[Any], names: list[str] | None) -> None:
    try:
        given_labels = np.array(labels)
    except UnicodeDecodeError:  # bytes among texts
        given_labels = np.array(labels, dtype=object)
    try:
        (found,), classes = encode_labels([given_labels], names)
    except DataError:
        return
    assert found.dtype == np.int64 and len(found) == len(labels)
    assert len(classes) <= max(len(labels), len(names or ()))
    assert all(0 <= label < len(classes) for label in found.tolist())
    assert row_ids(len(found)).tolist() == [str(i) for i in range(len(found))]


@given(st.text(max_size=30))
@example("~\x00")  # pathlib looks for a user of that name
@example("~nobody-here/photos")
@FEW
def test_any_specification(text: str) -> None:
    try:
        DataSpec.parse(text).check(allow_code=False)
    except UserError:
        return
