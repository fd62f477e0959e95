"""Which files of a folder are the tables, and what else lies there: parts by their names, pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.data.load import load_data
from expunge.errors import DataError
from tests.unit.test_image_folders import fill, photos, told
from tests.unit.test_table import ROWS, people, write


def tables(folder: Path, *names: str) -> Path:
    """Files of a table each, with a third of the rows where they are no data to train on."""
    for name in names:
        rows = ROWS if "train" in name.lower() else ROWS // 3
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content = {key: values[:rows] for key, values in people().items() if key != "id"}
        write(folder / name, content)
    return folder


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "Test"), ("iris_train", "iris_test"), ("iris-training", "iris-eval"),
        ("TRAIN", "VAL"), ("trainA", "testA"), ("Train/a", "Test/a"), ("my_train/a", "my_test/a"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["csv", "PARQUET"])
def test_parts_of_a_table_are_known_by_their_names(
    tmp_path: Path, train: str, test: str, ending: str
) -> None:
    data = load_data(f"{tables(tmp_path, f'{train}.{ending}', f'{test}.{ending}')}:group=person")
    assert (len(data.train), len(data.test), data.test_drawn) == (ROWS, ROWS // 3, False)


@pytest.mark.parametrize("name", ["a.CSV", "a.Tsv", "a.PARQUET"])
def test_a_table_by_its_ending_in_any_case(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name.lower(), people()).rename(tmp_path / name)
    assert len(load_data(f"{file}:group=person", test="none").train) == ROWS


def test_a_test_part_is_never_learned(tmp_path: Path) -> None:
    tables(tmp_path, "iris.parquet", "iris_test.parquet")
    with pytest.raises(DataError, match=r"iris_test\.parquet, which is to test on by its name"):
        load_data(f"{tmp_path}:group=person")


def test_tables_beside_folders_of_parts_are_told_of(tmp_path: Path) -> None:
    tables(tmp_path, "train/a.csv", "test/a.csv", "valid/a.csv", "extra.csv", "train/b.tsv")
    notes = " ".join(load_data(f"{tmp_path}:group=person").notes)
    assert "these are not read: b.tsv, ROOT/extra.csv, valid/a.csv".replace(
        "ROOT", tmp_path.name
    ) in notes.replace(f"{tmp_path.name}/extra.csv, b.tsv", f"b.tsv, {tmp_path.name}/extra.csv")


def test_a_table_beside_pictures_never_takes_their_place(tmp_path: Path) -> None:
    photos(tables(tmp_path / "a", "train.csv") / "train")
    data, notes = told(lambda: load_data(tmp_path / "a"))
    assert data.classes == ("cat", "dog")
    assert notes == [
        f"the images of {tmp_path / 'a'} are read, and not train.csv: name a table itself to read it; "
        "what is known of each image may stand in metadata.csv"
    ]
    fill(tables(tmp_path / "b", "train/labels.csv") / "train")
    with pytest.raises(
        DataError, match=r"train holds 4 images and no class folders.*metadata\.csv"
    ):
        load_data(tmp_path / "b")
    photos(tables(tmp_path / "c", "train.csv"))
    with pytest.raises(
        DataError, match=r"holds tables, such as train\.csv, and 8 images in 2 folders"
    ):
        load_data(tmp_path / "c")
    photos(tables(tmp_path / "d", "people.csv"))
    assert ["people.csv" in note for note in told(lambda: load_data(tmp_path / "d"))[1]] == [True]


def test_a_figure_beside_tables_is_told_of(tmp_path: Path) -> None:
    fill(tables(tmp_path, "train.csv", "test.csv") / "plots", 1)
    data = load_data(f"{tmp_path}:group=person")
    assert len(data.train) == ROWS
    assert "1 images beside them are not" in " ".join(data.notes)
