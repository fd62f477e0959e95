"""Decoding, and what is kept of it: as true as decoding anew, limited, and without what was struck."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import expunge
from ledger_helpers import ledger_at
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from expunge.api import adopt, unlearn
from expunge.data import decoded, images, parquet
from expunge.data.load import Data, load_data
from expunge.data.samples import Samples, resident
from expunge.data.split import Split
from expunge.disk import cache
from expunge.errors import ConfigError, DataError
from expunge.methods import make_method
from expunge.place import Place
from expunge.requests.checking import event_lines
from expunge.requests.purging import purge_lines
from expunge.theory.sparsity import _Check
from expunge.trained import opening
from expunge.trained.trained import Trained

CPU = Place(device="cpu")
COUNT = 40
"""Pictures; two classes, half each, a fifth of them for testing."""


def picture(seed: int, size: tuple[int, int] = (12, 9), mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def truth(images: list[Image.Image], mode: str = "RGB") -> NDArray[np.uint8]:
    """The slow, obvious way: (n, channels, height, width)."""
    arrays = [np.asarray(image.convert(mode)) for image in images]
    return np.stack([array.reshape(*array.shape[:2], -1).transpose(2, 0, 1) for array in arrays])


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of each test's own, in which all images are kept, however soon they were decoded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EXPUNGE_CACHE_GB", raising=False)
    monkeypatch.setattr(images, "LONG_SECONDS", -1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures: their names are their ids."""
    for row in range(COUNT):
        file = tmp_path / "photos" / ("cat", "dog")[row % 2] / f"{row:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(row).save(file)
    return tmp_path / "photos"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The same as a parquet file: row numbers are their ids."""
    content = [encoded(picture(row)) for row in range(COUNT)]
    labels = np.arange(COUNT) % 2
    pq.write_table(pa.table({"image": content, "label": labels}), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def pixels(samples: Samples) -> NDArray[np.uint8]:
    tensor = resident(samples)
    assert tensor is not None
    return tensor.numpy()


def row_of(name: str) -> int:
    """The seed of a picture, from its id in either kind of data."""
    return int(Path(name).stem)


def right(data: Data) -> bool:
    """Whether every picture is what its id says."""
    return all(
        np.array_equal(pixels(part), truth([picture(row_of(one)) for one in part.ids]))
        for part in (data.train, data.test)
        if len(part)  # what is adopted has no test set
    )


@contextmanager
def no_decoding() -> Iterator[pytest.MonkeyPatch]:
    """Nothing is decoded, nor is an image column read."""

    def failing(*_: Any) -> Any:
        raise AssertionError("this was to be read from the cache")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_decode_all", failing)
        patch.setattr(parquet, "_read_images", failing)
        yield patch


def stored() -> list[Path]:
    """All files of the cache."""
    return [path for path in cache.cache_folder().rglob("*") if path.is_file()]


def is_stored(row: int) -> bool:
    """Whether the pixels of a picture lie anywhere in the cache."""
    wanted = truth([picture(row)]).tobytes()
    return any(wanted in file.read_bytes() for file in stored())


def original(data: Data) -> Trained:
    shape = data.train.shape()
    module = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), len(data.classes)))
    return adopt(module, data)


# --- decoding


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1", "I;16"])
@pytest.mark.parametrize("size", [(9, 12), (7, 20)])
def test_small_images_come_out_as_large_ones_do(mode: str, size: tuple[int, int]) -> None:
    made = [picture(seed, mode=mode if mode != "I;16" else "I").convert(mode) for seed in range(5)]
    sources = [encoded(one) for one in made]
    for colour in (True, False):
        if not colour and mode not in images.GREY_MODES:
            continue
        every = images.EncodedImages(sources, size, resize=True, colour=colour, largest=108)
        out = np.empty((5, *every.shape), np.uint8)
        with images.quiet():
            every.read_small(range(5), out)
            assert all(np.array_equal(out[row], every.read(row)) for row in range(5))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_sheet_is_decoded(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SHEET_PIXELS", 4 * 12 * 9)
    made = [picture(seed, mode=mode) for seed in range(11)]
    every = images.encoded_images([encoded(one) for one in made], None, "these")
    assert np.array_equal(images._decode_all(every), truth(made, mode))


def test_threads_are_for_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            started.append(args)
            return super().submit(*args, **kwargs)

    monkeypatch.setattr(images, "ThreadPoolExecutor", Counting)
    small = images.encoded_images([encoded(picture(0))] * 2000, None, "these")
    images._decode_all(small)
    assert not started, "small images wait for each other in threads"
    large = [encoded(picture(seed, (300, 300)), "JPEG") for seed in range(30)]
    images._decode_all(images.encoded_images(large, None, "these"))
    assert len(started) > 2, "a few large images are work for all processors"


def test_the_image_that_cannot_be_read_is_named(photos: Path) -> None:
    broken = photos / "dog" / "31.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cannot read .*31\.png as an image"):
        load_data(photos)


def test_images_of_large_files_are_read_all_the_same(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_data(photos)
    cache.purge(["fingerprints"])
    monkeypatch.setattr(images, "SMALL_BYTES", 10)
    assert right(load_data(photos))


# --- what is kept


@pytest.mark.parametrize("kind", ["photos", "table"])
def test_what_is_kept_is_what_was_decoded(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(kind)
    first = load_data(path)
    assert right(first) and len(list(cache.entries())) == 2
    with no_decoding():
        again = load_data(path)
        assert right(again)
        assert again.train.fingerprint == first.train.fingerprint
        pixels(again.train)[:] = 0  # whoever writes into it writes into a copy
        assert right(load_data(path))
    other = load_data(f"{path}@6x5")
    assert pixels(other.train).shape[2:] == (6, 5)
    assert len(list(cache.entries())) == 4, "another size is another entry"


def test_a_changed_file_is_another_one(table: Path) -> None:
    load_data(table)
    content = [encoded(picture(row + 1)) for row in range(COUNT)]
    pq.write_table(pa.table({"image": content, "label": np.arange(COUNT) % 2}), table)
    data = load_data(table)
    assert np.array_equal(pixels(data.train)[0], truth([picture(int(data.train.ids[0]) + 1)])[0])


def test_a_picture_that_was_changed_under_its_old_time_is_another_one(photos: Path) -> None:
    for file in [*photos.rglob("*.png")]:
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    name = str(load_data(photos).train.ids[0])
    file = photos / name
    before = file.stat()
    picture(99).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert np.array_equal(pixels(load_data(photos).train)[0], truth([picture(99)])[0])


def test_of_no_images_some_are_none() -> None:
    part = images.ImagePart(lambda: [encoded(picture(0))] * 3, None, "these", "0" * 32)
    store = images.ImageStore(part, np.arange(0))
    whole = store.whole()
    assert whole is not None and len(whole) == 0
    again = store.rows(np.arange(0)).whole()
    assert again is not None and again.shape == whole.shape


def test_what_was_soon_decoded_is_not_kept(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LONG_SECONDS", 100)
    load_data(table)
    assert not list(cache.entries())


def test_what_does_not_fit_is_not_read_from_the_cache(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_data(table)
    monkeypatch.setattr(images, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr("psutil.cpu_count", lambda: 1)  # no worker processes
    assert resident(load_data(table).train) is None
    assert len(list(cache.entries())) == 2


def flip(entry: Path) -> None:
    content = bytearray((entry / cache.PIXELS).read_bytes())
    content[-1] ^= 1
    (entry / cache.PIXELS).write_bytes(content)


def cut(entry: Path) -> None:
    content = (entry / cache.PIXELS).read_bytes()
    (entry / cache.PIXELS).write_bytes(content[:-50])


def told_otherwise(entry: Path) -> None:
    card = json.loads((entry / cache.CARD).read_text())
    (entry / cache.CARD).write_text(json.dumps({**card, "count": card["count"] * 10**9}))


def of_objects(entry: Path) -> None:
    np.save(entry / cache.PIXELS, np.array([{}]), allow_pickle=True)


def a_link(entry: Path) -> None:
    (entry / cache.PIXELS).unlink()
    (entry / cache.PIXELS).symlink_to("/dev/zero")


def no_card(entry: Path) -> None:
    (entry / cache.CARD).write_text("[" * 100_000)


def absent_elsewhere(entry: Path) -> None:
    card = json.loads((entry / cache.CARD).read_text())
    (entry / cache.CARD).write_text(json.dumps({**card, "absent": [10**6]}))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "harm", [flip, cut, told_otherwise, of_objects, a_link, no_card, absent_elsewhere]
)
def test_a_broken_entry_is_made_anew(harm: Any, table: Path) -> None:
    load_data(table)
    for entry in cache.entries():
        harm(entry)
    assert right(load_data(table)), "a cache that lies"
    with no_decoding():
        assert right(load_data(table)), "it was not made anew"


@pytest.mark.thorough
def test_processes_at_the_same_time_do_no_harm(table: Path) -> None:
    code = (
        "import sys; from expunge.data import images; images.LONG_SECONDS = -1\n"
        "from expunge.data.load import load_data; import hashlib\n"
        "data = load_data(sys.argv[1])\n"
        "print(hashlib.sha256(data.train.store.whole().numpy().tobytes()).hexdigest())"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(table)], stdout=subprocess.PIPE, text=True
    )
    while other.poll() is None:
        cache.purge([])
        data = load_data(table)
        assert right(data)
    told = {other.communicate()[0].strip()}
    assert told == {hashlib.sha256(pixels(data.train).tobytes()).hexdigest()}
    assert right(data) and len(list(cache.entries())) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(table))  # a file: no folder can be made there
    data = load_data(table)
    assert right(data)
    made = unlearn(original(data), data.train.ids[:2].tolist(), "gradient_ascent", place=CPU)
    assert not [one for one in made.record.warnings if "cache" in one]


# --- its limit


def test_what_was_unused_longest_goes_first(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_data(table)
    for age, entry in enumerate(cache.entries()):
        os.utime(entry, (1000 - age, 1000 - age))
    load_data(table)  # a use
    used = {entry.name for entry in cache.entries()}
    large = COUNT * 12 * 9 * 3
    monkeypatch.setenv("EXPUNGE_CACHE_GB", str(1.6 * large / 1e9))
    load_data(f"{table}@11x9")
    left = {entry.name for entry in cache.entries()}
    assert len(left - used) == 2, "what is new stays"
    assert sum(one.bytes for one in cache.cached() if one.is_images) <= 1.6 * large
    monkeypatch.setenv("EXPUNGE_CACHE_GB", "0")
    cache.purge([])
    load_data(table)
    assert not list(cache.entries())


def test_a_limit_that_was_lowered_is_heeded_at_the_next_look(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(table)
    load_data(f"{table}@11x9")
    pixels(data.train)
    large = COUNT * 12 * 9 * 3
    monkeypatch.setenv("EXPUNGE_CACHE_GB", str(1.5 * large / 1e9))
    load_data(table)
    assert 0 < cache.kept_bytes() <= 1.5 * large
    monkeypatch.setenv("EXPUNGE_CACHE_GB", "0")
    decoded.strike(data.train, data.train.ids[:1])
    assert not list(cache.entries())
    monkeypatch.delenv("EXPUNGE_CACHE_GB")
    load_data(table)
    assert list(cache.entries())
    monkeypatch.setenv("EXPUNGE_CACHE_GB", "0")
    assert right(load_data(table)) and not list(cache.entries())


@pytest.mark.parametrize("text", ["", "much", "-1", "nan", "inf"])
def test_a_limit_that_is_none(text: str, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE_GB", text)
    with pytest.raises(ConfigError, match=r"EXPUNGE_CACHE_GB is .*; write gigabytes as a number"):
        load_data(table)


# --- what a deletion strikes


@pytest.mark.parametrize("kind", ["photos", "table"])
def test_a_deletion_strikes_the_cache(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(kind)
    data = load_data(path)
    load_data(f"{path}:20")  # other entries of the same data, one of them of other pixels
    load_data(f"{path}@5x6")
    forgotten, kept = data.train.ids[3:6].tolist(), data.train.ids[7]
    rows = [row_of(one) for one in forgotten]
    assert all(is_stored(row) for row in rows)
    small = [pixels(load_data(f"{path}@5x6").train)[row].tobytes() for row in range(3, 6)]
    whole = [truth([picture(row)]).tobytes() for row in rows]
    slowly = sum(
        file.read_bytes().count(one) * len(one) for file in stored() for one in whole + small
    )
    assert decoded.kept_pixels(data.train, forgotten) == slowly > 3 * len(whole[0])
    made = unlearn(original(data), forgotten, "gradient_ascent", place=CPU)

    def struck() -> bool:
        found = [file.read_bytes() for file in stored()]
        gone = not any(one in content for one in small for content in found)
        return gone and not any(is_stored(row) for row in rows)

    assert struck() and is_stored(row_of(kept)) and not decoded.kept_pixels(data.train, forgotten)
    names = "".join(file.read_bytes().decode("latin-1") for file in stored())
    assert not any(one in names for one in forgotten if len(one) > 2), "no id is kept"
    assert right(load_data(path)), "an audit reads them from where they came from"
    assert struck(), "they were written back"
    assert right(made.data), "what is in memory stays"
    cache.purge([])
    assert right(load_data(path)) and struck() and is_stored(row_of(kept))
    with no_decoding() as patch:
        patch.setattr(
            parquet, "_read_images", lambda *_: [encoded(picture(r)) for r in range(COUNT)]
        )
        decoded_rows: list[int] = []

        def counting(some: images.EncodedImages) -> NDArray[np.uint8]:
            decoded_rows.append(len(some))
            return truth([Image.open(io.BytesIO(_bytes(one))) for one in some.sources])

        patch.setattr(images, "_decode_all", counting)
        assert right(load_data(path))
        assert decoded_rows == [3], "only what is absent is decoded"


def _bytes(source: images.Encoded) -> bytes:
    if isinstance(source, bytes):
        return source
    return source.read_bytes() if isinstance(source, Path) else source.content


def test_a_further_deletion_strikes_more(table: Path) -> None:
    data = load_data(table)
    first = unlearn(original(data), ["1", "2", "3"], "gradient_ascent", place=CPU)
    left = [one for one in first.split.retain if one not in ("1", "2", "3")][:2]
    unlearn(first, left, "gradient_ascent", place=CPU)
    assert not any(is_stored(row) for row in (1, 2, 3, *map(int, left)) if str(row) in first.ids)
    assert right(load_data(table))


def test_purging_for_a_ledger_strikes_what_is_kept(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, data = ledger_at(tmp_path), load_data(table)
    one = data.train.ids[2]
    held = SimpleNamespace(train=data.train, struck=SimpleNamespace(ids=frozenset([one])))
    monkeypatch.setattr(opening, "load", lambda *_, **__: SimpleNamespace(data=held))
    told = "decoded images of 1 struck samples, 0.0 MB"
    assert purge_lines(ledger, dry_run=True) == [f"would go: {told}"] and is_stored(row_of(one))
    assert purge_lines(ledger) == [f"deleted: {told}"] and not is_stored(row_of(one))
    events = [json.loads(line) for line in event_lines(ledger)[-2:]]
    assert [event["kind"] for event in events] == ["purge begun", "images deleted"]
    assert purge_lines(ledger) == ["nothing is due to be deleted"]


def test_a_trial_strikes_nothing(table: Path) -> None:
    data = load_data(table)
    one = data.train.ids[0]
    trial = Place(device="cpu", strike=False)
    unlearn(original(data), [one], "gradient_ascent", place=trial)
    assert is_stored(int(one))


def test_a_diagnosis_is_a_trial(table: Path) -> None:
    data = load_data(table)
    split = Split.ids(data, data.train.ids[:1].tolist(), base=Split.whole(data, validation=0))
    check: Any = SimpleNamespace(split=split, seed=0, place=CPU, allow_code=False)
    _Check._unlearn(check, original(data), make_method("gradient_ascent", allow_code=False), None)
    assert is_stored(int(data.train.ids[0]))


class _Killed(BaseException):
    pass


def killed_at(where: str, data: Data, one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion of one sample that ends there."""

    def killed(*_: Any) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(decoded, where, killed)
        with pytest.raises(_Killed):
            decoded.strike(data.train, [one])


@pytest.mark.parametrize("where", ["_strike_entry", "_digest_without", "_blank"])
def test_a_deletion_that_is_killed_is_ended_by_the_next_reader(
    where: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(table)
    one = data.train.ids[0]
    killed_at(where, data, one, monkeypatch)
    assert is_stored(int(one))
    assert right(load_data(table))
    assert not is_stored(int(one))


@pytest.mark.parametrize("where", ["_strike_entry", "_digest_without", "_blank"])
def test_whoever_reads_these_data_next_ends_a_deletion_in_all_that_is_kept_of_them(
    where: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(table)
    one = data.train.ids[0]
    load_data(f"{table}@5x6")
    killed_at(where, data, one, monkeypatch)
    load_data(f"{table}@5x6").test.shape()
    assert not is_stored(int(one)) and len(list(cache.entries())) == 4
    assert all("unfinished" not in file.name for file in stored())
    monkeypatch.setattr(decoded, "_strike_all", lambda *_: pytest.fail("it was ended before"))
    load_data(f"{table}@5x6").test.shape()


def test_a_deletion_says_what_it_could_not_remove(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(table)

    def failing(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoded, "_blank", failing)
    made = unlearn(original(data), data.train.ids[:2].tolist(), "gradient_ascent", place=CPU)
    assert not is_stored(int(data.train.ids[0])), "an entry that cannot be mended goes"
    assert not [one for one in made.record.warnings if "purge" in one]
    load_data(table)
    monkeypatch.setattr(decoded, "remove_entry", failing)
    made = unlearn(original(data), data.train.ids[2:4].tolist(), "gradient_ascent", place=CPU)
    (told,) = [one for one in made.record.warnings if "purge" in one]
    assert "No space left on device" in told and str(cache.images_folder()) in told


def test_what_was_struck_stays_absent_where_its_record_is_gone(table: Path) -> None:
    data = load_data(table)
    decoded.strike(data.train, data.train.ids[:2])
    cache.purge(["struck"])
    decoded.strike(data.train, data.train.ids[5:7])
    assert right(load_data(table))
    assert not any(is_stored(int(data.train.ids[row])) for row in (0, 1, 5, 6))


def saved(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def one_bit_off(record: bytes) -> bytes:
    at = len(saved(np.array([1]))) - 8  # of the first row number
    return record[:at] + bytes([record[at] ^ 2]) + record[at + 1 :]


DAMAGE = {
    "empty": lambda _: b"",
    "another file": lambda _: b"PK\x03\x04",
    "cut short": lambda record: record[:-1],
    "without its digest": lambda record: record[:-64],
    "other numbers": lambda _: saved(np.array([1.0])),
    "one bit": one_bit_off,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_where_a_record_of_deletions_is_damaged_nothing_is_kept(damage: Any, table: Path) -> None:
    data = load_data(table)
    one, two = data.train.ids[:2].tolist()
    decoded.strike(data.train, [one])
    (record,) = cache.struck_folder().iterdir()
    record.write_bytes(damage(record.read_bytes()))
    cache.purge([])
    assert right(load_data(table)) and not list(cache.entries())
    told = decoded.strike(data.train, [two])
    assert told is not None and "purge struck" in told and "\n" not in told
    assert right(load_data(table)) and not list(cache.entries())
    cache.purge(["struck"])
    load_data(table)
    assert list(cache.entries())


def test_what_is_kept_is_not_used_where_the_record_of_deletions_is_damaged(table: Path) -> None:
    data = load_data(table)
    decoded.strike(data.train, data.train.ids[:1])
    (record,) = cache.struck_folder().iterdir()
    record.write_bytes(b"x")
    assert decoded.strike(data.train, data.train.ids[1:2]) is not None
    assert not list(cache.entries()), "it may hold what was struck"


def other_rows(entry: Path) -> None:
    file = entry / cache.ROWS
    np.save(file, np.load(file)[::-1])


def no_rows(entry: Path) -> None:
    (entry / cache.ROWS).write_bytes(b"\x93NUMPY\x01\x00")


@pytest.mark.parametrize("harm", [other_rows, no_rows])
def test_an_entry_of_other_rows_goes_with_a_deletion(harm: Any, table: Path) -> None:
    data = load_data(table)
    for entry in cache.entries():
        harm(entry)
    decoded.strike(data.train, data.train.ids[1:2])
    assert not is_stored(int(data.train.ids[1]))
    assert right(load_data(table))


def test_of_two_deletions_at_once_none_is_lost(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one comes while the first waits for its turn."""
    data = load_data(table)
    one, two = data.train.ids[:2].tolist()
    plain = decoded.locked

    @contextmanager
    def late() -> Iterator[None]:
        monkeypatch.setattr(decoded, "locked", plain)
        decoded.strike(data.train, [two])
        with plain():
            yield

    monkeypatch.setattr(decoded, "locked", late)
    decoded.strike(data.train, [one])
    cache.purge([])
    load_data(table)
    assert list(cache.entries()) and not is_stored(int(one)) and not is_stored(int(two))


def test_a_broken_entry_is_not_made_true_by_a_deletion(table: Path) -> None:
    data = load_data(table)
    for entry in cache.entries():
        flip(entry)
    decoded.strike(data.train, [data.train.ids[0]])
    assert right(load_data(table))


def test_images_that_were_being_written_meanwhile(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were decoded before the deletion and are written after it."""
    data = load_data(table)
    one, keep = data.train.ids[0], decoded.keep_decoded
    cache.purge([])

    def late(*given: Any) -> None:
        decoded.strike(data.train, [one])
        keep(*given)

    monkeypatch.setattr(images, "keep_decoded", late)
    load_data(table)
    assert list(cache.entries()) and not is_stored(int(one))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_could_not_take_its_name_does_not_stay(kind: str, table: Path) -> None:
    data = load_data(table)
    names = list(cache.entries())
    cache.purge([])
    for entry in names:
        if kind == "file":
            entry.write_text("in the way")
        else:
            entry.mkdir()
            (entry / "mine.txt").write_text("in the way")
    assert right(load_data(table))
    assert sorted(cache.images_folder().iterdir()) == names, "it was kept under another name"
    for clean in (lambda: cache.purge([]), lambda: decoded.strike(data.train, data.train.ids[:1])):
        aside = cache.images_folder() / f"{names[0].name}.unnamed-0123abcd"
        aside.mkdir()
        (aside / cache.PIXELS).write_bytes(truth([picture(0)]).tobytes())
        clean()
        assert not aside.exists()
    assert sorted(cache.images_folder().iterdir()) == names, "it was somebody else's"


def test_what_a_kill_left_in_an_entry_is_in_nobodys_way(table: Path) -> None:
    load_data(table)
    left = ".card.json.expunge-new-0123abcd"
    for entry in cache.entries():
        (entry / left).write_text("{")
    gone = cache.purge([])
    assert len(gone) == 2 and not list(cache.entries())
    load_data(table)
    for entry in cache.entries():
        (entry / left).write_text("{")
        (entry / cache.CARD).unlink()
    assert right(load_data(table))
    with no_decoding():
        assert right(load_data(table)), "they were never kept again"


def test_a_deletion_sweeps_what_a_killed_one_left(table: Path) -> None:
    data = load_data(table)
    decoded.strike(data.train, data.train.ids[:1])
    for folder in (cache.struck_folder(), *cache.entries()):
        (folder / ".one.expunge-new-0123abcd").write_text("1")
    decoded.strike(data.train, data.train.ids[1:2])
    assert not [file for file in stored() if "expunge-new" in file.name]


def test_a_folder_that_holds_only_foreign_files_is_said_to(table: Path) -> None:
    load_data(table)
    entry = next(cache.entries())
    (entry / "mine.txt").write_text("mine")
    assert entry.name in {one.name for one in cache.purge([])}
    (told,) = [one for one in cache.cached() if one.name == entry.name]
    assert "yours to remove" in told.words
    assert entry.name not in {one.name for one in cache.purge([])}, "it was not removed"
    assert right(load_data(table)) and [one.name for one in entry.iterdir()] == ["mine.txt"]


def test_where_nobody_has_a_home_nothing_is_kept(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    data = load_data(table)
    assert right(data) and decoded.strike(data.train, data.train.ids[:1]) is None
    assert not cache.cached() and not cache.purge([])


# --- list and purge


def test_the_cache_is_listed_and_purged(table: Path, photos: Path, tmp_path: Path) -> None:
    assert "0.0 MB" in expunge("cache", "list", cwd=tmp_path).stdout
    data = load_data(table)
    load_data(photos)
    decoded.strike(data.train, [data.train.ids[0]])
    told = expunge("cache", "list", cwd=tmp_path).stdout
    assert told.count("decoded images") == 5 and "a.parquet," in told  # lines may break after it
    assert "of at most 5,000.0 MB" in told and str(cache.cache_folder()) in " ".join(told.split())
    name = next(cache.entries()).name
    wrong = expunge("cache", "purge", "fingerprint", name, cwd=tmp_path, ok=False)
    assert wrong.returncode == 2 and "did you mean 'fingerprints'?" in wrong.stderr
    assert len(list(cache.entries())) == 4
    expunge("cache", "purge", name, cwd=tmp_path)
    assert name not in {one.name for one in cache.entries()}
    assert "freed: 0.0 MB" in expunge("cache", "purge", "--older-than", "1", cwd=tmp_path).stdout
    oldest = next(cache.entries())
    os.utime(oldest, (time.time() - 3 * 86_400,) * 2)
    told = expunge("cache", "purge", "--older-than", "2", cwd=tmp_path).stdout
    assert oldest.name in told and not oldest.exists() and len(list(cache.entries())) == 2
    expunge("cache", "purge", cwd=tmp_path)
    assert [one.name for one in cache.cached()] == ["struck"]
    expunge("cache", "purge", "struck", cwd=tmp_path)
    assert not cache.cached()


def test_nothing_else_is_purged(table: Path) -> None:
    load_data(table)
    entry = next(cache.entries())
    others = [
        cache.cache_folder() / "mine.txt",
        cache.images_folder() / "mine.npy",
        cache.images_folder() / "0123456789abcdef.png",
        entry / "mine.txt",
    ]
    for file in others:
        file.write_text("mine")
    aside = table.parent / "aside"
    aside.mkdir()
    (aside / cache.PIXELS).write_text("mine")
    (cache.images_folder() / "fedcba9876543210").symlink_to(aside)
    cache.purge([])
    assert all(file.read_text() == "mine" for file in (*others, aside / cache.PIXELS))
    assert not (entry / cache.PIXELS).exists()


def test_looking_at_the_cache_loads_nothing_heavy() -> None:
    code = (
        "import sys; from expunge.cli.cache import list_; list_()\n"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
