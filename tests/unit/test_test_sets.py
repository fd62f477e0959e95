"""A test set that is asked for: what was learned is none, and nothing of what was asked is dropped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expunge.data.load import load_data
from expunge.errors import DataError
from tests.unit.test_data import encoded, picture
from tests.unit.test_table import people, write


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders of noise, of which no two are alike."""
    draw = np.random.default_rng(0)
    folders = ("train/a", "train/b", "test/a", "test/b")
    for name in (f"{folder}/{row}" for folder in folders for row in range(6)):
        file = tmp_path / "photos" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    return tmp_path / "photos"


def test_what_was_learned_is_no_test_set(tmp_path: Path, photos: Path) -> None:
    flat, table = photos / "train", write(tmp_path / "people.csv", people())
    copied = Path(shutil.copytree(flat, tmp_path / "copied"))
    for data, test in (
        (f"{flat}:10", f"{flat}"),
        (f"{flat}", f"{flat}:8"),
        (f"{photos}", f"{flat}"),
        (f"{flat}", f"{copied}"),
        (f"{table}:group=person", f"{table}:group=person,missing=0"),
        (f"{table}:group=person:20", f"{table}:group=person"),
    ):
        with pytest.raises(
            DataError, match="are the training data; a test set holds what was never"
        ):
            load_data(data, test=test)
    assert len(load_data(f"{flat}", test=f"{photos}").test) == 12
    assert len(load_data(f"{flat}", test=f"{photos / 'test'}:8").test) == 8


def test_nothing_that_was_said_of_a_test_set_is_dropped(photos: Path) -> None:
    with pytest.raises(DataError, match="photos:4 asks for a number of training samples"):
        load_data(f"{photos / 'train'}", test=f"{photos}:4")
    with pytest.raises(DataError, match="is poisoned, and a test set is clean"):
        load_data(f"{photos / 'train'}", test=f"{photos}+patch")


@pytest.mark.parametrize("kind", ["table", "pictures"])
@pytest.mark.parametrize("labels", [[0, 2], ["a", "c"]])
def test_a_class_of_the_test_part_alone_is_refused(
    tmp_path: Path, kind: str, labels: list[Any]
) -> None:
    image = {"bytes": encoded(picture(8, 8)), "path": None}
    for part, two in (("train", [type(labels[0])(1), labels[0]]), ("test", labels)):
        two = ["a", "b"] if part == "train" and labels == ["a", "c"] else two
        content: dict[str, list[Any]] = {"label": two * 10}
        content |= {"image": [image] * 20} if kind == "pictures" else {"x": [*range(20)]}
        pq.write_table(pa.table(content), tmp_path / f"{part}.parquet")
    with pytest.raises(
        DataError, match=rf"the test part has {labels[1]} .10 samples., which the trai"
    ):
        load_data(tmp_path)
    names = ["0", "1", "2"] if labels == [0, 2] else ["a", "b", "c"]
    assert len(load_data(tmp_path, classes=names).test) == 20
