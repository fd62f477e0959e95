"""Loading: every kind of source, its ids, labels and classes; and what a refusal says."""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import Named, digits, toy
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, Subset, TensorDataset

from expunge.data import fingerprint as fingerprints
from expunge.data.aside import stratified
from expunge.data.duplicates import duplicates_left
from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.data.samples import ResidentStore, Samples, StreamStore, resident, row_ids
from expunge.data.spec import DataSpec
from expunge.data.split import Split
from expunge.data.thumbnails import LARGEST, thumbnail
from expunge.data.transform import Draws, Normalisation, Transform, augment, padding_of
from expunge.data.view import DataView
from expunge.errors import DataError, DataWarning

GENERATOR = np.random.default_rng(0)


def pixels(samples: Samples) -> np.ndarray:
    tensor = resident(samples)
    assert tensor is not None
    return tensor.numpy()


def picture(height: int = 16, width: int = 16, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def in_channels_first(image: Image.Image) -> np.ndarray:
    array = np.array(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


# --- digits


def test_digits() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits")
    assert (len(data.train), len(data.test)) == (1438, 359)  # a fifth of 1797 is set aside
    assert data.classes == tuple("0123456789")
    assert data.spec == "digits"
    assert data.train.positional
    bunch = load_digits()
    for part in (data.train, data.test):
        rows = part.ids.astype(int)  # row numbers of the whole
        assert part.labels.tolist() == bunch.target[rows].tolist()
        expected = np.rint(bunch.images[rows] * 255 / 16)[:, None]
        assert np.array_equal(pixels(part), expected)
        assert pixels(part).dtype == np.uint8
    assert not set(data.train.ids) & set(data.test.ids)
    shares = np.bincount(data.test.labels) / np.bincount(bunch.target)
    assert shares == pytest.approx(0.2, abs=0.006)


@pytest.mark.parametrize("count", [5, 500, 1430, 1436, 1437, 1438])
def test_a_count_keeps_that_many_training_samples(count: int) -> None:
    data, whole = load_data(f"digits:{count}"), load_data("digits")
    assert len(data.train) == count
    assert data.test.ids.tolist() == whole.test.ids.tolist()
    assert set(data.train.ids) <= set(whole.train.ids)
    shares = np.bincount(data.train.labels, minlength=10) / np.bincount(whole.train.labels)
    assert shares * 1438 == pytest.approx(count, abs=12)  # stratified
    assert load_data(f"digits:{count}").train.ids.tolist() == data.train.ids.tolist()
    assert data.train.fingerprint != whole.train.fingerprint or count == 1438


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits:1439", "'digits:1439' asks for 1439 training samples of 1438"),
        ("digits:0", "'digits:0': sizes and counts start at 1"),
        ("photos@0", "'photos@0': sizes and counts start at 1"),
        (
            "digts",
            r"no dataset or path 'digts', did you mean 'digits'\?; there are digits, cifar10",
        ),
        (
            "no/such.npz",
            r"no dataset or path 'no/such.npz'; .*a .csv, .parquet or .npz file, a folder",
        ),
        ("", "the data specification is empty; name a dataset, as in digits"),
        ("cifar10", r"cifar10 is not part of the package.*--data-dir, or set EXPUNGE_DATA"),
    ],
)
def test_what_cannot_be_found(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(spec)


def test_a_size_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((10, 3)), y=np.arange(10) % 2)
    for spec in ("digits@16", f"{tmp_path}/a.npz@16"):
        with pytest.raises(DataError, match="@16"):
            load_data(spec)


@pytest.mark.parametrize(
    ("text", "base", "size", "count"),
    [
        ("cifar10", "cifar10", None, None),
        ("cifar10:5000", "cifar10", None, 5000),
        ("photos@64", "photos", (64, 64), None),
        ("photos@64x48:1000", "photos", (64, 48), 1000),
        ("package.module:load", "package.module:load", None, None),
        ("package.module:load:90", "package.module:load", None, 90),
        ("./a@b/photos@32", "./a@b/photos", (32, 32), None),
        ("  digits ", "digits", None, None),
    ],
)
def test_specifications(text: str, base: str, size: Any, count: int | None) -> None:
    assert DataSpec.parse(text) == DataSpec(base, size, count)


def test_data_is_returned_as_it_is() -> None:
    assert load_data(digits()) is digits()


# --- npz


def test_npz_of_images(tmp_path: Path) -> None:
    x = GENERATOR.integers(0, 256, (40, 9, 7, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "a.npz",
        x_train=x,
        y_train=np.arange(40) % 4,
        x_test=x[:8],
        y_test=np.zeros(8, int),
        id=[f"n{i}" for i in range(40)],
        id_test=[f"m{i}" for i in range(8)],
        classes=["a", "b", "c", "d"],
        person=np.arange(40) // 4,
        person_test=np.arange(8),
    )
    data = load_data(tmp_path / "a.npz")
    assert pixels(data.train).shape == (40, 3, 9, 7)
    assert np.array_equal(pixels(data.train), x.transpose(0, 3, 1, 2))
    assert data.train.ids.tolist() == [f"n{i}" for i in range(40)]
    assert data.test.ids.tolist() == [f"m{i}" for i in range(8)]
    assert not data.train.positional
    assert data.classes == ("a", "b", "c", "d")
    assert list(data.train.columns) == list(data.test.columns) == ["person"]
    assert data.test.columns["person"].tolist() == list(range(8))
    split = Split.parse(data, "group:person=3", base=Split.whole(data, validation=0))
    assert set(split.forget) == {"n12", "n13", "n14", "n15"}
    assert data.train.fingerprint != data.test.fingerprint


def test_npz_of_as_many_test_as_training_samples_keeps_columns_apart(tmp_path: Path) -> None:
    zeros, labels = np.zeros((6, 2)), np.arange(6) % 2
    np.savez(
        tmp_path / "a.npz",
        x_train=zeros,
        y_train=labels,
        x_test=zeros,
        y_test=labels,
        age=np.arange(6),
        age_test=np.arange(6) * 10,
    )
    data = load_data(tmp_path / "a.npz")
    assert {name: c.tolist() for name, c in data.train.columns.items()} == {
        "age": [0, 1, 2, 3, 4, 5]
    }
    assert {name: c.tolist() for name, c in data.test.columns.items()} == {
        "age": [0, 10, 20, 30, 40, 50]
    }


@pytest.mark.parametrize(
    ("shape", "dtype", "expected", "kind"),
    [
        ((30, 5), np.float64, (5,), torch.float32),
        ((30, 5), np.float32, (5,), torch.float32),
        ((30, 8, 8), np.uint8, (1, 8, 8), torch.uint8),
        ((30, 8, 8, 1), np.uint8, (1, 8, 8), torch.uint8),
        ((30, 1, 8, 8), np.uint8, (1, 8, 8), torch.uint8),
        ((30, 3, 8, 8), np.float32, (3, 8, 8), torch.float32),
        ((30, 8, 8, 3), np.float32, (3, 8, 8), torch.float32),
        ((30, 6), np.int64, (6,), torch.int64),
    ],
)
def test_npz_without_a_test_set(
    tmp_path: Path, shape: Any, dtype: Any, expected: tuple[int, ...], kind: torch.dtype
) -> None:
    x = (GENERATOR.random(shape) * 200).astype(dtype)
    labels = np.array(["no", "yes"])[np.arange(30) % 2]
    np.savez(tmp_path / "v.npz", x=x, y=labels)
    data = load_data(str(tmp_path / "v.npz"))
    assert (len(data.train), len(data.test)) == (24, 6)
    assert data.train.shape() == expected
    tensor = resident(data.train)
    assert tensor is not None
    assert tensor.dtype == kind
    assert data.classes == ("no", "yes")
    rows = data.train.ids.astype(int)
    assert data.train.labels.tolist() == (rows % 2).tolist()
    flat = np.sort(x[rows].reshape(24, -1), axis=1)
    assert np.allclose(np.sort(tensor.reshape(24, -1).numpy(), axis=1), flat, atol=1e-4)


def not_zip(path: Path) -> None:
    path.write_bytes(b"hello")


def cut_short(path: Path) -> None:
    np.savez(path, x=np.zeros((50, 50)), y=np.zeros(50, int))
    path.write_bytes(path.read_bytes()[:500])


def objects(path: Path) -> None:
    np.savez(path, x=np.array([{}, []], dtype=object), y=np.zeros(2, int))


def plain_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


@pytest.mark.parametrize(
    "spoil", [not_zip, cut_short, objects, plain_array, lambda path: path.write_bytes(b"")]
)
def test_npz_that_cannot_be_read(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "a.npz"
    spoil(path)
    with pytest.raises(DataError, match=r"cannot read .*a\.npz .*numpy\.savez"):
        load_data(path)


def test_npz_of_the_wrong_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(DataError, match="holds images, labels; expected x and y, or x_train"):
        load_data(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2)), y=np.zeros(4, int))
    with pytest.raises(DataError, match="x holds 3 samples but y holds 4 labels"):
        load_data(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=np.zeros((3, 2)), y=np.zeros(3, int), id=["a", "b", "a"])
    with pytest.raises(DataError, match=r"the id 'a' occurs 2 times.*each must be different"):
        load_data(tmp_path / "c.npz")


# --- parquet


def table(images: list[Any], labels: list[Any], **columns: Any) -> pa.Table:
    cells = [
        {"bytes": encoded(i) if isinstance(i, Image.Image) else i, "path": None} for i in images
    ]
    return pa.table({"image": cells, "label": labels, **columns})


def with_names(content: pa.Table, names: list[str]) -> pa.Table:
    """Class names as the `datasets` library writes them."""
    info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    return content.replace_schema_metadata({"huggingface": json.dumps(info)})


def test_parquet_with_names_ids_and_groups(tmp_path: Path) -> None:
    images = [picture(seed=i) for i in range(20)]
    content = table(
        images,
        [i % 2 for i in range(20)],
        id=[f"case-{i}" for i in range(20)],
        person=[f"p{i // 5}" for i in range(20)],
    )
    pq.write_table(with_names(content, ["cat", "dog"]), tmp_path / "a.parquet")
    data = load_data(tmp_path / "a.parquet")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.classes == ("cat", "dog")
    assert not data.train.positional
    for name, values, label in zip(
        data.train.ids, pixels(data.train), data.train.labels, strict=True
    ):
        row = int(name.removeprefix("case-"))
        assert np.array_equal(values, in_channels_first(images[row]))
        assert label == row % 2
    split = Split.parse(data, "group:person=p1", base=Split.whole(data, validation=0))
    assert set(split.forget) == {f"case-{i}" for i in range(5, 10)} & set(data.train.ids)
    assert load_data(f"{tmp_path}/a.parquet:7").train.ids.tolist() != data.train.ids.tolist()


def test_parquet_folder_of_several_files(tmp_path: Path) -> None:
    for number in range(2):
        content = table([picture(8, 8, "L", seed=10 * number + i) for i in range(6)], [0, 1, 2] * 2)
        pq.write_table(content, tmp_path / f"train-0000{number}.parquet")
    pq.write_table(table([picture(8, 8, "L")] * 3, [2, 1, 0]), tmp_path / "test-00000.parquet")
    data = load_data(tmp_path)
    assert (len(data.train), len(data.test)) == (12, 3)
    assert data.train.shape() == (1, 8, 8)
    assert np.array_equal(pixels(data.train)[7, 0], np.asarray(picture(8, 8, "L", seed=11)))
    assert data.classes == ("0", "1", "2")
    assert data.train.positional
    assert data.train.ids.tolist() == [str(i) for i in range(12)]


def test_parquet_of_plain_bytes_under_other_names(tmp_path: Path) -> None:
    content = pa.table(
        {"scan": [encoded(picture(seed=i)) for i in range(10)], "fine_label": ["x", "y"] * 5}
    )
    pq.write_table(content, tmp_path / "a.parquet")
    data = load_data(tmp_path / "a.parquet")
    assert data.classes == ("x", "y")
    assert data.train.shape() == (3, 16, 16)


def test_images_of_different_sizes(tmp_path: Path) -> None:
    images = [picture(16, 16)] * 5 + [picture(20, 12)] * 5
    pq.write_table(table(images, [0, 1] * 5), tmp_path / "a.parquet")
    told = r"differ in size \(16x16 and 20x12 pixels.*append @SIZE"
    with pytest.raises(DataError, match=told):
        load_data(tmp_path / "a.parquet")
    assert load_data(f"{tmp_path}/a.parquet@8").train.shape() == (3, 8, 8)
    data = load_data(f"{tmp_path}/a.parquet@16x12:6")
    assert data.train.shape() == (3, 16, 12)
    assert len(data.train) == 6


def test_grey_among_colour_becomes_colour_and_grey_stays_grey(tmp_path: Path) -> None:
    grey = picture(mode="L")
    pq.write_table(table([grey] * 5 + [picture()] * 5, [0, 1] * 5), tmp_path / "mixed.parquet")
    assert load_data(tmp_path / "mixed.parquet").train.shape() == (3, 16, 16)
    pq.write_table(table([grey] * 10, [0, 1] * 5), tmp_path / "grey.parquet")
    data = load_data(tmp_path / "grey.parquet")
    assert data.train.shape() == (1, 16, 16)
    assert np.array_equal(pixels(data.train)[0], in_channels_first(grey))


@pytest.mark.parametrize("spoilt", [b"no image", encoded(picture())[:300]], ids=["text", "cut"])
def test_a_broken_image(tmp_path: Path, spoilt: bytes) -> None:
    pq.write_table(table([picture()] * 4 + [spoilt], [0, 1, 0, 1, 0]), tmp_path / "a.parquet")
    told = rf"cannot read a record of {len(spoilt)} bytes as an image .*remove or repair it"
    with pytest.raises(DataError, match=told):
        load_data(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            pa.table({"label": [1]}),
            "has no column to learn from: it has label; give columns",
        ),
        (table([picture()], [1]).drop_columns("label"), "has no label column: it has image"),
        (table([picture()] * 9 + [None], [0, 1] * 5), "has 1 rows without image bytes"),
        (
            table([picture()] * 2, [0, -1]),
            r"label -1 is negative \(1 such samples\); class indices",
        ),
        (with_names(table([picture()] * 2, [0, 2]), ["a", "b"]), "label 2 is beyond the 2 class"),
    ],
)
def test_parquet_that_does_not_fit(tmp_path: Path, content: pa.Table, message: str) -> None:
    pq.write_table(content, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        load_data(tmp_path / "a.parquet")


def test_parquet_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"cannot read .*a\.parquet as parquet"):
        load_data(tmp_path / "a.parquet")


def test_images_too_many_for_memory_are_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(seed=i) for i in range(10)]
    pq.write_table(table(images, [0, 1] * 5), tmp_path / "a.parquet")
    held = load_data(tmp_path / "a.parquet")
    monkeypatch.setattr("expunge.data.images.MEMORY_SHARE", 0.0)
    monkeypatch.setattr("psutil.cpu_count", lambda: 1)  # no worker processes
    streamed = load_data(tmp_path / "a.parquet")
    assert resident(streamed.train) is None
    assert streamed.train.ids.tolist() == held.train.ids.tolist()
    assert streamed.train.shape() == (3, 16, 16)
    rows = np.array([3, 0, 5])
    fetched = streamed.train.store.fetch(rows, torch.device("cpu"))
    assert np.array_equal(fetched.numpy(), pixels(held.train)[rows])
    batches = list(streamed.train.store.stream([rows[:2], rows[2:]], torch.device("cpu")))
    assert torch.equal(torch.cat(batches), fetched)


# --- folders of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/{cat,dog}/ and test/{cat,dog}/ of little pictures."""
    for part, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(("dog", "cat")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                picture(seed=100 * label + i).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_image_folder(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    with pytest.warns(DataWarning, match=r"1 file \(1 \.txt\), such as train/cat/notes\.txt"):
        data = load_data(folder)
    assert (len(data.train), len(data.test)) == (12, 4)
    assert data.classes == ("cat", "dog")  # sorted
    assert data.train.ids.tolist()[:2] == ["train/cat/0.png", "train/cat/1.png"]
    assert data.test.ids.tolist()[-1] == "test/dog/1.png"
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6
    assert np.array_equal(pixels(data.train)[2], in_channels_first(picture(seed=102)))
    assert not data.train.positional


def test_a_test_folder_that_lacks_a_class_counts_by_the_training_folders(folder: Path) -> None:
    shutil.rmtree(folder / "test" / "cat")
    data = load_data(folder)
    assert data.classes == ("cat", "dog")
    assert data.test.ids.tolist() == ["test/dog/0.png", "test/dog/1.png"]
    assert data.test.labels.tolist() == [1, 1]


def test_image_folder_without_a_test_set(folder: Path) -> None:
    data = load_data(folder / "train")
    assert (len(data.train), len(data.test)) == (10, 2)
    expected = {f"{name}/{i}.png" for name in data.classes for i in range(6)}
    assert {*data.train.ids, *data.test.ids} == expected


def test_image_folder_with_different_sizes(folder: Path) -> None:
    picture(9, 30).save(folder / "train" / "dog" / "wide.png")
    with pytest.raises(DataError, match=r"\(9x30 and 16x16 pixels, for example\); append @SIZE"):
        load_data(folder)
    assert load_data(f"{folder}@8").train.shape() == (3, 8, 8)


def test_a_broken_file_is_named(folder: Path) -> None:
    path = folder / "train" / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"cannot read .*train/dog/2\.png as an image"):
        load_data(folder)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_many_files_are_not_open_at_once(tmp_path: Path) -> None:
    for i in range(120):
        (tmp_path / f"{i % 2}").mkdir(exist_ok=True)
        picture(4, 4).save(tmp_path / f"{i % 2}" / f"{i}.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    already = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (already + 40, hard))
        assert len(load_data(tmp_path).train) == 96
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"holds no images in class folders; expected .*/CLASS/"):
        load_data(tmp_path)


# --- objects made in Python


def test_tensor_dataset() -> None:
    inputs, labels = torch.randn(30, 5), torch.arange(30) % 3
    data = load_data(TensorDataset(inputs, labels))
    assert (len(data.train), len(data.test)) == (24, 6)
    assert data.normalisation is None, "tensors from Python are fed as they are"
    assert data.train.positional
    rows = torch.from_numpy(data.train.ids.astype(int))
    assert torch.equal(torch.from_numpy(pixels(data.train)), inputs[rows])
    assert data.train.labels.tolist() == labels[rows].tolist()
    pair = load_data((TensorDataset(inputs, labels), TensorDataset(inputs[:4], labels[:4])))
    assert (len(pair.train), len(pair.test)) == (30, 4)
    other = load_data(TensorDataset(inputs + 1, labels))
    assert other.train.fingerprint != data.train.fingerprint


def test_subset_keeps_the_ids_of_the_whole() -> None:
    inputs, labels = torch.randn(30, 5), torch.arange(30) % 3
    rows = list(range(29, 3, -1))
    data = load_data((Subset(TensorDataset(inputs, labels), rows), TensorDataset(inputs, labels)))
    assert data.train.ids.tolist() == [str(row) for row in rows]
    assert data.train.labels.tolist() == [row % 3 for row in rows]
    assert torch.equal(torch.from_numpy(pixels(data.train)), inputs[rows])


def test_subset_of_a_users_dataset() -> None:
    """Of which `random_split` makes two; class names are those of the whole."""
    ids = [f"k{i}" for i in range(20)]
    inputs = torch.randn(20, 2)
    whole = Named(inputs, [i % 2 for i in range(20)], ids, classes=["cat", "dog"])
    data = load_data((Subset(whole, [4, 8, 1]), Subset(whole, [0, 3])))  # type: ignore[arg-type]
    assert data.train.ids.tolist() == ["k4", "k8", "k1"]
    assert data.test.labels.tolist() == [0, 1]
    assert data.classes == ("cat", "dog")
    fetched = data.train.store.fetch(np.array([2, 0]), torch.device("cpu"))
    assert torch.equal(fetched, inputs[[1, 4]])


def test_a_users_dataset_is_not_read_to_learn_about_it() -> None:
    ids = [f"k{i}" for i in range(20)]
    dataset = Named(torch.zeros(20, 2), [i % 2 for i in range(20)], ids, forbidden=ids)
    data = load_data(dataset)
    assert data.train.ids.tolist() == [name for name in ids if name in data.train.position]
    assert not data.train.positional
    assert data.normalisation is None
    Split.random(data, 0.3)
    assert isinstance(data.train.fingerprint, str)
    assert not dataset.read


class Pictures:
    """PIL images with string labels, given names, columns and a fingerprint of its own."""

    fingerprint = "version 3"

    def __init__(self, count: int = 20, **fields: Any) -> None:
        self.count = count
        self.labels = ["no", "yes"] * (count // 2)
        self.columns = {"ward": [i // 5 for i in range(count)]}
        for name, value in fields.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Any:
        return picture(seed=row), self.labels[row]


def test_items_may_be_pil_images() -> None:
    data = load_data((Pictures(), Pictures(4)))
    assert data.classes == ("no", "yes")
    assert data.train.fingerprint == "version 3"
    assert data.train.shape() == (3, 16, 16)
    fetched = data.train.store.fetch(np.array([5]), torch.device("cpu"))
    assert np.array_equal(fetched[0].numpy(), in_channels_first(picture(seed=5)))
    split = Split.parse(data, "group:ward=1", base=Split.whole(data, validation=0))
    assert split.forget == ("5", "6", "7", "8", "9")


def test_items_may_be_dictionaries() -> None:
    class Words(Pictures):
        def __getitem__(self, row: int) -> Any:
            return {"tokens": np.arange(4) + row, "length": row, "label": self.labels[row]}

    data = load_data((Words(), Words(4)))
    fetched = data.train.store.fetch(np.array([5, 2]), torch.device("cpu"))
    assert set(fetched) == {"tokens", "length"}  # labels are read elsewhere
    assert fetched["tokens"].tolist() == [[5, 6, 7, 8], [2, 3, 4, 5]]
    assert fetched["length"].tolist() == [5, 2]
    assert data.train.shape() == (4,)


def test_items_may_lie_in_a_memory_map(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(40.0, dtype=np.float32).reshape(20, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    class Mapped(Pictures):
        def __getitem__(self, row: int) -> Any:
            return mapped[row], self.labels[row]

    fetched = load_data((Mapped(), Mapped(4))).train.store.fetch(np.array([3]), torch.device("cpu"))
    assert fetched.tolist() == [[6.0, 7.0]]


def test_items_may_be_grey_pil_images() -> None:
    class Grey(Pictures):
        def __getitem__(self, row: int) -> Any:
            return picture(mode="L", seed=row), self.labels[row]

    fetched = load_data((Grey(), Grey(4))).train.store.fetch(np.array([3]), torch.device("cpu"))
    assert np.array_equal(fetched[0].numpy(), in_channels_first(picture(mode="L", seed=3)))


def test_labels_may_be_tensors_lists_arrays_or_objects() -> None:
    kinds: list[Any] = [
        torch.arange(20) % 2,
        [i % 2 for i in range(20)],
        np.arange(20) % 2,
        np.array(["0", "1"] * 10, dtype=object),
        np.array(["0", "1"] * 10),
    ]
    for labels in kinds:
        data = load_data(
            (Pictures(labels=labels, fingerprint=None), Pictures(4, labels=labels[:4]))
        )
        assert data.train.labels.tolist() == [0, 1] * 10
        assert data.classes == ("0", "1")


def test_class_names_may_be_given() -> None:
    data = load_data(TensorDataset(torch.zeros(9, 2), torch.arange(9) % 3), classes=["x", "y", "z"])
    assert data.classes == ("x", "y", "z")
    with pytest.raises(DataError, match="label 2 is beyond the 2 class names given"):
        load_data(TensorDataset(torch.zeros(9, 2), torch.arange(9) % 3), classes=["x", "y"])
    with pytest.raises(DataError, match=r"label 'no' is not among the class names yes"):
        load_data(Pictures(), classes=["yes"])


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield torch.zeros(2), 0


class Nameless:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> Any:
        return torch.zeros(2), 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Endless(), r"Endless is an iterable dataset: single samples cannot be named or left out"),
        (Nameless(), r"Nameless has no attribute `labels` or `targets`.*give the dataset one"),
        (TensorDataset(torch.zeros(3, 2)), "TensorDataset has no attribute `labels`"),
        (Pictures(labels=[0, 1]), "Pictures has 20 samples but 2 labels"),
        (Pictures(ids=["a"] * 20), "the id 'a' occurs 20 times: ids name single samples"),
        (Pictures(ids=["a", "b"]), "2 ids but 20 labels: give one of each per sample"),
        (Pictures(labels=[0.5] * 20), "label 0.5 in row 0 is no whole number, so it is no class"),
        (Pictures(labels=[[0, 2]] * 20), r"labels have shape \(20, 2\), and row 0 is not one-hot"),
        ([1, 2, 3], "load_data was given a list; give a map-style dataset"),
        ((1, 2, 3), "load_data was given a tuple"),
        ((Pictures(), [0]), "load_data was given a list"),
        (7, "load_data was given a int"),
    ],
)
def test_objects_that_are_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(given)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "my_own_data", raising=False)
    (tmp_path / "my_own_data.py").write_text(
        "import torch\n"
        "from torch.utils.data import TensorDataset\n"
        "def whole(): return TensorDataset(torch.zeros(10, 2), torch.arange(10) % 2)\n"
        "def pair(): return whole(), whole()\n"
        "made = whole()\n"
        "def number(): return 7\n"
        "def stream():\n"
        "    raise RuntimeError('a bug of the user')\n"
    )
    return "my_own_data"


def test_a_function_of_the_users(module: str) -> None:
    assert len(load_data(f"{module}:whole").train) == 8
    assert len(load_data(f"{module}:pair").train) == 10
    assert len(load_data(f"{module}:pair").test) == 10
    assert len(load_data(f"{module}:made").train) == 8
    assert len(load_data(f"{module}:pair:4").train) == 4
    assert load_data(f"{module}:pair:4").spec == f"{module}:pair:4"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", "my_own_data:number returned a int; give a map-style dataset"),
        ("absent", "module 'my_own_data' has no 'absent' for data"),
    ],
)
def test_a_function_that_does_not_fit(module: str, function: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(f"{module}:{function}")


def test_code_needs_consent_and_its_bugs_stay_visible(module: str) -> None:
    with pytest.raises(DataError, match="--allow-code"):
        load_data(f"{module}:whole", allow_code=False)
    with pytest.raises(RuntimeError, match="a bug of the user"):
        load_data(f"{module}:stream")
    with pytest.raises(DataError, match=r"cannot import 'no_such_module'.*set PYTHONPATH"):
        load_data("no_such_module:f")


# --- named data that lie elsewhere


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not (SHARED / "cifar10").is_dir() or not (SHARED / "mnist").is_dir(),
    reason=f"cifar10 and mnist are not in {SHARED}",
)


@needs_data
def test_cifar10() -> None:
    data = load_data("cifar10:200", data_dir=SHARED)
    assert (len(data.train), len(data.test)) == (200, 10_000)
    assert data.train.shape() == (3, 32, 32)
    assert len(data.classes) == 10
    assert np.bincount(data.train.labels).tolist() == [20] * 10
    assert data.normalisation is not None
    assert len(data.normalisation.mean) == 3


@needs_data
def test_mnist_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_DATA", str(SHARED))
    data = load_data("mnist:200")
    assert (len(data.train), len(data.test)) == (200, 10_000)
    assert data.train.shape() == (1, 28, 28)
    assert len(data.classes) == 10


def test_the_data_folder_must_hold_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"cifar10 does not exist; --data-dir must name the folder"):
        load_data("cifar10", data_dir=tmp_path)
    monkeypatch.setenv("EXPUNGE_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    with pytest.raises(DataError, match=r"mnist holds no train\*\.parquet"):
        load_data("mnist")
    pq.write_table(table([picture()] * 10, [0, 1] * 5), tmp_path / "mnist" / "train.parquet")
    assert len(load_data("mnist").train) == 8


# --- fingerprints


def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    def digest(value: int, name: str = "a.npz") -> str:
        np.savez(tmp_path / name, x=np.full((10, 2), value), y=np.arange(10) % 2)
        return load_data(tmp_path / name).train.fingerprint

    first = digest(0)
    assert digest(1) != first
    assert digest(0) == first
    assert digest(0, "b.npz") != first, "names within the data count"


def test_fingerprints_are_remembered_by_path_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "data"
    path.write_bytes(b"one")
    reads = []
    original = os.open

    def counted(file: Any, *args: Any, **kwargs: Any) -> int:
        if file == path:
            reads.append(file)
        return original(file, *args, **kwargs)

    monkeypatch.setattr(os, "open", counted)
    first = fingerprints.fingerprint_files([path], tmp_path)
    assert fingerprints.fingerprint_files([path], tmp_path) == first
    assert len(reads) == 1
    assert (tmp_path / "cache" / "expunge" / "fingerprints.json").is_file()
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert fingerprints.fingerprint_files([path], tmp_path) != first
    assert len(reads) == 2


def test_the_memory_of_fingerprints_may_be_broken_or_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"one")
    expected = fingerprints.fingerprint_files([path], tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file: no folder can be made there
    assert fingerprints.fingerprint_files([path], tmp_path) == expected
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "expunge").mkdir()
    for broken in ("{", "[]", '{"a": 1}'):
        (tmp_path / "expunge" / "fingerprints.json").write_text(broken)
        assert fingerprints.fingerprint_files([path], tmp_path) == expected


def test_what_was_read_before_does_not_change_a_fingerprint(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files under another root have other names, so another digest."""

    def digest(path: Path) -> str:
        return load_data(path).train.fingerprint.split("/")[0]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("one")))
    alone = digest(folder / "train")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("two")))
    digest(folder)
    assert digest(folder / "train") == alone


def test_a_subset_has_a_fingerprint_of_its_own() -> None:
    samples = toy([0] * 10).train
    marks = {samples.subset(np.array(rows)).fingerprint for rows in ([0, 1], [0, 2], [1, 0])}
    assert len(marks | {samples.fingerprint}) == 4


# --- normalisation and transforms


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [
        (torch.randint(0, 256, (5000, 3, 4, 5)).byte(), (0, 2, 3)),
        (torch.randn(5000, 2, 3, 3) * 7 + 2, (0, 2, 3)),
        (torch.randn(60, 7) * 3 - 1, (0,)),
        (torch.randint(0, 256, (60, 4)).byte(), (0,)),
    ],
)
def test_statistics_are_those_of_numpy(inputs: Tensor, axes: tuple[int, ...]) -> None:
    found = toy([0] * len(inputs), inputs=inputs).train.statistics()
    assert found is not None
    values = inputs.numpy().astype(np.float64) / (255 if inputs.dtype == torch.uint8 else 1)
    assert found.mean == pytest.approx(values.mean(axis=axes), abs=1e-6)
    assert found.std == pytest.approx(values.std(axis=axes), abs=1e-6)


def test_a_constant_channel_stays_finite() -> None:
    inputs = torch.zeros(20, 2, 3, 3)
    inputs[:, 1] = torch.randn(20, 3, 3)
    found = toy([0] * 20, inputs=inputs).train.statistics()
    assert found is not None
    assert found.std[0] == 1
    assert Transform(found)(inputs).isfinite().all()


def test_what_has_no_statistics() -> None:
    assert toy([0] * 5, inputs=torch.zeros(5, 3, dtype=torch.int64)).train.statistics() is None
    assert toy([0] * 5, inputs=torch.zeros(5, 3, 4)).train.statistics() is None
    assert load_data(Pictures()).normalisation is None, "a person's own dataset brings its own"


def test_normalisation_may_be_fixed() -> None:
    fixed = Normalisation((0.5,), (0.25,))
    data = digits().with_normalisation(fixed)
    assert data.normalisation == fixed
    assert digits().with_normalisation(None).normalisation is None
    assert digits().normalisation == digits().train.statistics()


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_normalise_is_the_textbook_formula(kind: torch.dtype) -> None:
    inputs = (torch.rand(6, 3, 4, 5) * 255).to(kind)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    found = Transform(Normalisation(mean, std))(inputs)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    scale = 255 if kind == torch.uint8 else 1
    for image, raw in zip(found, inputs, strict=True):
        for channel in range(3):
            expected = (raw[channel].double() / scale - mean[channel]) / std[channel]
            torch.testing.assert_close(image[channel].double(), expected, rtol=1e-5, atol=1e-5)


def test_vectors_are_normalised_per_feature() -> None:
    inputs = torch.randn(8, 3)
    found = Transform(Normalisation((1.0, 2.0, 3.0), (1.0, 2.0, 4.0)))(inputs)
    expected = (inputs - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(found, expected)


def test_without_normalisation_only_the_scale_changes() -> None:
    raw = torch.arange(256).byte().reshape(1, 1, 16, 16)
    assert torch.equal(Transform()(raw), raw.float() / 255)
    assert torch.equal(Transform()(raw.float()), raw.float())
    tokens = torch.tensor([[1, 5, 3]])
    assert Transform(Normalisation((0.5,), (0.1,)))(tokens) is tokens
    words = {"tokens": tokens}
    assert Transform()(words) is words


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (12, 20), (5, 5)])
@pytest.mark.parametrize("kind", ["crop", "flip", "crop_flip"])
def test_augmentation_equals_a_loop_over_images(kind: Any, height: int, width: int) -> None:
    count = 24
    inputs = torch.randint(1, 256, (count, 3, height, width)).byte()
    pad = padding_of(height, width)
    draws = Transform(None, kind).draw(inputs, count, torch.Generator().manual_seed(3))
    assert draws is not None
    assert set(draws.rows.tolist()) <= set(range(2 * pad + 1))
    assert 0 < draws.flips.sum() < count
    found = augment(inputs, draws, kind)
    assert found.dtype == torch.uint8
    for number, image in enumerate(inputs):
        expected = torch.zeros(3, height + 2 * pad, width + 2 * pad, dtype=torch.uint8)
        expected[:, pad : pad + height, pad : pad + width] = image
        if "crop" in kind:
            top, left = int(draws.rows[number]), int(draws.columns[number])
            expected = expected[:, top : top + height, left : left + width]
        else:
            expected = image
        if "flip" in kind and draws.flips[number]:
            expected = torch.stack([row.flip(0) for row in expected.reshape(-1, width)])
            expected = expected.reshape(3, height, width)
        assert torch.equal(found[number], expected)


def test_padding_is_four_pixels_of_thirty_two() -> None:
    assert [padding_of(s, s) for s in (1, 8, 16, 28, 32, 224)] == [1, 1, 2, 3, 4, 28]
    assert padding_of(32, 64) == 4


def test_all_offsets_and_both_sides_occur() -> None:
    inputs = torch.zeros(2000, 3, 32, 32, dtype=torch.uint8)
    draws = Transform(None, "crop_flip").draw(inputs, 2000, torch.Generator().manual_seed(0))
    assert isinstance(draws, Draws)
    assert set(draws.rows.tolist()) == set(draws.columns.tolist()) == set(range(9))
    assert draws.flips.float().mean() == pytest.approx(0.5, abs=0.04)


def test_vectors_are_not_augmented() -> None:
    transform, generator = Transform(None, "crop_flip"), torch.Generator()
    assert transform.draw(torch.zeros(4, 9), 4, generator) is None
    assert transform.draw({"a": torch.zeros(4, 3, 8, 8)}, 4, generator) is None
    assert Transform(None, "none").draw(torch.zeros(4, 3, 8, 8), 4, generator) is None


# --- the rest


def test_stratified_fills_classes_by_largest_remainder() -> None:
    labels = np.repeat([0, 1, 2], [33, 33, 34])
    chosen = stratified(labels, 0.1, np.random.default_rng(0))
    assert len(chosen) == 10
    assert np.bincount(labels[chosen]).tolist() == [3, 3, 4]
    assert (np.diff(chosen) > 0).all()
    alone = stratified(np.array([0, 1, 1, 1, 1]), 0.9, np.random.default_rng(0))
    assert np.bincount(np.array([0, 1, 1, 1, 1])[alone], minlength=2).tolist() == [0, 3]


def test_duplicates_of_forget_samples() -> None:
    inputs = torch.arange(20.0).reshape(10, 2)
    inputs[7] = inputs[2]
    inputs[9] = inputs[2]
    inputs[4] = inputs[3]  # both retained
    data = toy([0] * 10, inputs=inputs, ids=[f"x{i}" for i in range(10)])
    base = Split.whole(data, validation=0)
    assert duplicates_left(data, Split.ids(data, ["x2"], base=base)) == [("x2", "x7"), ("x2", "x9")]
    assert duplicates_left(data, Split.ids(data, ["x2", "x7"], base=base)) == [("x2", "x9")]
    assert duplicates_left(data, Split.ids(data, ["x2", "x7", "x9"], base=base)) == []


def test_duplicates_are_not_sought_in_data_that_would_have_to_be_read() -> None:
    ids = [f"k{i}" for i in range(12)]
    data = load_data(Named(torch.zeros(12, 2), [0, 1] * 6, ids, forbidden=ids))
    assert duplicates_left(data, Split.random(data, 0.3)) == []


def test_rows_of_rows() -> None:
    dataset = Named(torch.arange(10.0)[:, None], [0] * 10, [f"k{i}" for i in range(10)])
    samples = load_data((dataset, dataset)).train
    inner = samples.subset(np.array([9, 7, 5, 3])).subset(np.array([3, 0]))
    assert inner.ids.tolist() == ["k3", "k9"]
    assert inner.store.fetch(np.array([1, 0]), torch.device("cpu")).flatten().tolist() == [9, 3]
    assert isinstance(samples.store, StreamStore)


def test_a_view_reads_what_a_stream_brings() -> None:
    """PIL images are scaled and augmented like resident ones."""
    data = load_data((Pictures(), Pictures(4)))
    split = Split.whole(data, validation=0)
    images = torch.stack([torch.from_numpy(in_channels_first(picture(seed=i))) for i in range(20)])
    held = toy([0, 1] * 10, inputs=images)
    transform = Transform(Normalisation((0.5,) * 3, (0.2,) * 3), "crop_flip")
    streams = [
        DataView(d, split, Part.RETAIN, ("same", 1), transform).batches(Part.RETAIN, 6)
        for d in (data, held)
    ]
    for one, other in zip(*streams, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert torch.equal(one.inputs, other.inputs)


def test_resident_rows_are_copied_not_shared() -> None:
    store = ResidentStore(torch.arange(12.0).reshape(6, 2))
    rows = store.fetch(np.array([0, 1]), torch.device("cpu"))
    rows.zero_()
    assert store.tensor[1].tolist() == [2, 3]


# --- samples as pictures


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
