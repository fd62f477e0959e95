"""Which files of a folder are the tables, and what else lies there: parts by their names, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import DataError, SplitError
from tests.unit.test_data import encoded, picture
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


def test_a_test_file_without_labels_is_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", people())
    write(
        tmp_path / "test.csv", {key: values for key, values in people().items() if key != "label"}
    )
    for columns in ("group=person", "group=person,label=label"):
        with pytest.raises(
            DataError, match=r"test\.csv has no column 'label', the labels of the train"
        ):
            load_data(f"{tmp_path}:{columns}")


def test_numbers_name_the_same_classes_and_categories_in_both_parts(tmp_path: Path) -> None:
    rows = range(40)
    train = {"x": [*rows], "k": [row % 3 for row in rows], "label": [f"{row % 2}" for row in rows]}
    test = {"x": [*rows], "k": [row % 3 + 0.0 for row in rows], "label": [row % 2 for row in rows]}
    write(tmp_path / "train.parquet", train)
    write(tmp_path / "test.parquet", test)
    data = load_data(f"{tmp_path}:category=k")
    assert data.classes == ("0", "1")
    assert data.train.labels.tolist() == data.test.labels.tolist()
    inputs, others = data.train.store.whole(), data.test.store.whole()
    assert inputs is not None and others is not None and inputs.equal(others)


@pytest.mark.parametrize("kind", ["bytes", "pictures"])
def test_a_column_of_bytes_is_a_picture_where_it_shows_one(tmp_path: Path, kind: str) -> None:
    content = [encoded(picture(8, 8)), encoded(picture(8, 8, seed=1))]
    values = content if kind == "pictures" else [b"u", b"v"]
    rows = {"k": values * 20, "x": [*range(40)], "label": [0, 1] * 20}
    data = load_data(write(tmp_path / "a.parquet", rows))
    assert data.train.shape() == ((3, 8, 8) if kind == "pictures" else (3,))


ODD_LABELS: dict[str, tuple[list[Any], str]] = {
    "NA": (["cat", "dog", "NA"], r"column 'label': 13 of 40 .*written 'NA'., the first in row 2"),
    "nan": (
        ["cat", "dog", "NaN"],
        r"column 'label': 13 of 40 .*written 'NaN'., the first in row 2",
    ),
    "-1": ([0, 1, 2, -1], r"label -1 .10 samples, the first in row 3. stands beside 0 to 2"),
    "mixed": (
        ["1", "2", "x"],
        r"a.csv, column 'label': most .* 13 are not, such as 'x' .*in row 2",
    ),
    "one": ([0], "all samples are of one class, 0, and there is nothing to tell it from"),
}


@pytest.mark.parametrize("name", ODD_LABELS)
def test_labels_of_a_table_that_are_no_classes(tmp_path: Path, name: str) -> None:
    values, message = ODD_LABELS[name]
    labels = [values[row % len(values)] for row in range(40)]
    with pytest.raises(DataError, match=message):
        load_data(write(tmp_path / "a.csv", {"x": [*range(40)], "label": labels}))


def test_a_label_of_minus_one_beside_two_is_told_of(tmp_path: Path) -> None:
    for values, count in (([-1, 0, 1], 1), ([-1, 1], 0), ([-2, -1, 0], 0)):
        rows = {"x": [*range(42)], "label": values * (42 // len(values))}
        data, notes = told(lambda rows=rows: load_data(write(tmp_path / "a.csv", rows)))  # type: ignore[misc]
        assert data.classes == tuple(map(str, values))
        assert len(notes) == count and all("label -1 (14 samples)" in note for note in notes)


def test_a_category_that_may_be_none_is_told_of(tmp_path: Path) -> None:
    rows = {"x": [*range(42)], "k": ["u", "v", "NA"] * 14, "label": [0, 1] * 21}
    data, notes = told(lambda: load_data(write(tmp_path / "a.csv", rows)))
    assert data.train.shape() == (4,)
    assert len(notes) == 1 and "'NA' in column 'k' is taken as a category of its own" in notes[0]


def test_what_a_table_cannot_hold_is_refused_with_the_right_remedy(tmp_path: Path) -> None:
    rows = {"x": [*range(40)], "label": [[0, 1], [1, 0]] * 20}
    with pytest.raises(
        DataError, match=r"labels in column 'label' are of type list.* the place of their"
    ):
        load_data(write(tmp_path / "a.parquet", rows))
    (tmp_path / "b.csv").write_text("x;label\n" + "".join(f"{i},5;{i % 2}\n" for i in range(40)))
    with pytest.raises(
        DataError, match="'x' holds numbers with decimal commas, such as '0,5'; write"
    ):
        load_data(tmp_path / "b.csv")


def test_a_person_of_the_test_set_alone_is_named_as_such(tmp_path: Path) -> None:
    content = people()
    data = load_data(f"{write(tmp_path / 'a.csv', content)}:group=person,drop=state")
    data.test.columns["person"][:] = "p-new"
    with pytest.raises(SplitError, match="person=p-new names 12 samples, all of the test set"):
        Split.parse(data, "group:person=p-new")
