"""Tables of numbers and categories: read, standardised, forgotten from; shards of any layout."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from expunge.api import train, unlearn
from expunge.data.load import Data, load_data
from expunge.data.read_as import ReadAs
from expunge.data.samples import resident
from expunge.data.spec import DataSpec, lasting
from expunge.data.split import Split
from expunge.errors import DataError
from expunge.place import Place
from expunge.trained.opening import load
from expunge.training.recipe import Recipe
from tests.commands import expunge
from tests.unit.test_data import encoded, picture

ROWS = 60
STATES = ("CA", "NY", "TX")


def people(rows: int = ROWS) -> dict[str, list[Any]]:
    """A table whose ids and persons are texts that look like numbers."""
    draw = np.random.default_rng(0)
    return {
        "id": [f"{row:04d}" for row in range(rows)],
        "person": [f"{row // 6:03d}" for row in range(rows)],
        "age": draw.integers(18, 90, rows).tolist(),
        "income": (draw.normal(5e4, 1e4, rows)).round(2).tolist(),
        "state": [STATES[row % 3] for row in range(rows)],
        "label": [row % 2 for row in range(rows)],
    }


def write(path: Path, content: dict[str, list[Any]], delimiter: str = ",") -> Path:
    if path.suffix.lower() == ".parquet":
        pq.write_table(pa.table(content), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(content)
        writer.writerows(zip(*content.values(), strict=True))
    return path


def loaded(path: Path, columns: str = "group=person", **how: Any) -> Data:
    return load_data(f"{path}:{columns}" if columns else path, **how)


@pytest.mark.parametrize("name", ["people.csv", "people.tsv", "people.parquet"])
def test_numbers_and_categories_become_inputs(tmp_path: Path, name: str) -> None:
    content = people()
    file = write(tmp_path / name, content, "\t" if name.endswith("tsv") else ",")
    data = loaded(file)
    assert data.table is not None
    assert [(one.name, one.categories) for one in data.table.features] == [
        ("age", None),
        ("income", None),
        ("state", STATES),
    ]
    assert data.classes == ("0", "1")
    for samples in (data.train, data.test):
        inputs = resident(samples)
        assert inputs is not None
        assert inputs.dtype == torch.float32
        for name_, row in zip(samples.ids.tolist(), inputs.tolist(), strict=True):
            place = int(name_)  # 0007 stays 0007
            expected = [content["age"][place], content["income"][place]]
            assert row[:2] == pytest.approx(expected)
            assert row[2:] == [float(content["state"][place] == one) for one in STATES]
    assert "5 inputs: 2 numbers: age, income and 1 columns of categories: state (3)" in data.notes
    assert set(data.train.columns) == {"person", "age", "income", "state"}


def test_numbers_are_standardised_by_the_training_part_and_categories_stay(tmp_path: Path) -> None:
    data = loaded(write(tmp_path / "people.csv", people()))
    inputs, normal = resident(data.train), data.normalisation
    assert inputs is not None
    assert normal is not None
    exact = inputs.double().numpy()
    assert normal.mean[:2] == pytest.approx(exact[:, :2].mean(0), rel=1e-6)
    assert normal.std[:2] == pytest.approx(exact[:, :2].std(0), rel=1e-6)
    assert (normal.mean[2:], normal.std[2:]) == ((0.0,) * 3, (1.0,) * 3)


def test_a_unit_does_not_matter(tmp_path: Path) -> None:
    content = people()
    content["tiny"] = [1e-9 * age for age in content["age"]]  # image statistics end at six places
    data = loaded(write(tmp_path / "people.csv", content))
    normal, inputs = data.normalisation, resident(data.train)
    assert normal is not None
    assert inputs is not None
    scaled = (inputs[:, [0, 5]].double() - torch.tensor([normal.mean[0], normal.mean[5]])) / (
        torch.tensor([normal.std[0], normal.std[5]]).double()
    )
    torch.testing.assert_close(scaled[:, 0], scaled[:, 1], atol=1e-4, rtol=0)


def test_from_a_table_to_a_model_that_forgot_and_back(tmp_path: Path) -> None:
    file = write(tmp_path / "people.csv", people())
    place = Place(device="cpu")
    recipe = Recipe(epochs=1, batch_size=16)
    data = loaded(file)
    forgot = unlearn(
        train(data, "mlp", recipe=recipe, place=place), "group:person=003", "finetune", place=place
    )
    assert set(forgot.split.forget) <= {f"{row:04d}" for row in range(18, 24)}
    forgot.save(tmp_path / "m")
    content = people()
    stays = [person != "003" for person in content["person"]]
    write(
        file,
        {
            name: [one for one, kept in zip(values, stays, strict=True) if kept]
            for name, values in content.items()
        },
    )
    again = load(tmp_path / "m", place=place)
    assert again.data.table == data.table
    assert again.data.normalisation == data.normalisation
    assert again.data.train.rows_of(list(forgot.split.forget)).max() == -1


def test_a_table_from_the_command_line(tmp_path: Path) -> None:
    write(tmp_path / "people.csv", people())
    spec, few = "people.csv:group=person", ("--epochs", "1", "--batch-size", "16")
    made = expunge("train", "--data", spec, "--model", "mlp", *few, "--out", "m", cwd=tmp_path)
    assert "5 inputs: 2 numbers: age, income and 1 columns of categories: state (3)" in made.stdout
    asked = ("--forget", "group:person=003", "--method", "finetune", "--set", "epochs=1")
    expunge("unlearn", "m", *asked, "--with-reference", "--out", "f", cwd=tmp_path)
    judged = ("audit", "f", "--original", "m", "--retrained", "f-retrained")
    assert " UA " in expunge(*judged, cwd=tmp_path).stdout
    card = json.loads((tmp_path / "f/model.json").read_text())
    assert card["data"]["table"]["features"][2] == {"name": "state", "categories": [*STATES]}
    assert card["mean"] == json.loads((tmp_path / "m/model.json").read_text())["mean"]


def test_categories_of_a_model_stay_where_they_were(tmp_path: Path) -> None:
    file = write(tmp_path / "people.csv", people())
    data = loaded(file)
    content = people()
    content["state"] = ["NY" for _ in content["state"]]  # the others are gone
    write(file, content)
    assert loaded(file).train.shape() == (3,)
    kept = loaded(file, read_as=ReadAs(table=data.table), classes=data.classes)
    inputs = resident(kept.train)
    assert inputs is not None
    assert inputs.shape[1] == 5
    assert inputs[:, 2:].sum(0).tolist() == [0.0, float(len(inputs)), 0.0]
    write(file, {name: values for name, values in content.items() if name != "age"})
    with pytest.raises(DataError, match="no column 'age', which is an input"):
        loaded(file, read_as=ReadAs(table=data.table))


def test_another_reading_of_a_table_is_not_the_data_of_a_model(tmp_path: Path) -> None:
    file = write(tmp_path / "people.csv", people())
    data = loaded(file)
    train(data, "mlp", recipe=Recipe(epochs=1), place=Place(device="cpu")).save(tmp_path / "m")
    other = load_data(f"{file}:group=person,drop=age,category=income")
    with pytest.raises(DataError, match="other columns or categories"):
        load(tmp_path / "m", data=other)


SPOILT: dict[str, tuple[dict[str, Any], str]] = {
    "a number": ({"age": (7, "")}, "sample '0007' has no value in column 'age' .1 such rows."),
    "a category": ({"state": (7, "")}, "sample '0007' has no value in column 'state'"),
    "inf": ({"income": (7, "inf")}, "sample '0007' has inf in column 'income'"),
    "a label": ({"label": (7, "")}, "1 rows without label .*row 7"),
    "an id": ({"id": (7, "")}, "1 rows without id .*row 7"),
    "an id twice": ({"id": (7, "0008")}, "the id '0008' occurs 2 times"),
    "a text among numbers": ({"age": (7, "?")}, "'age' holds numbers as text and among them '.'"),
    "a share for a label": ({"label": (7, 0.5)}, "column 'label': label 0.5 in row 7"),
    "a mark for a label": ({"label": (7, 999)}, r"label 999 \(1 samples, the first in row 7\)"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_values_that_are_missing_or_odd_are_named(tmp_path: Path, spoilt: str) -> None:
    changes, message = SPOILT[spoilt]
    content = people()
    for name, (row, value) in changes.items():
        content[name][row] = value
    with pytest.raises(DataError, match=message) as error:
        loaded(write(tmp_path / "people.csv", content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["people.csv", "people.parquet"])
def test_missing_values_count_as_what_was_said(tmp_path: Path, name: str) -> None:
    content = people()
    none = "" if name.endswith("csv") else None
    content["age"][7], content["state"][8] = none, none
    data = loaded(write(tmp_path / name, content), "group=person,missing=-1")
    rows = {
        one: row.tolist()
        for part in (data.train, data.test)
        for one, row in zip(part.ids.tolist(), resident(part), strict=True)  # type: ignore[arg-type]
    }
    assert rows["0007"][0] == -1
    assert rows["0008"][2:] == [0, 0, 0]


ODD_COLUMNS: dict[str, tuple[Any, str]] = {
    "names": ([f"n{row}" for row in range(ROWS)], "60 different texts in 60 rows"),
    "Unnamed: 0": (list(range(ROWS)), "row numbers that pandas wrote"),
    "customer_id": (list(range(ROWS)), "it seems to name the rows; say id=customer_id"),
    "nothing": ([""] * ROWS, "holds nothing, neither numbers"),
    "day": (["2024-01-02"] * ROWS, "holds values of type date32"),
    "time": ([1.7e12 + row / 10 for row in range(ROWS)], "32-bit numbers cannot tell apart"),
}


@pytest.mark.parametrize("name", ODD_COLUMNS)
def test_columns_that_are_no_inputs_are_refused_until_something_is_said(
    tmp_path: Path, name: str
) -> None:
    values, message = ODD_COLUMNS[name]
    file = write(tmp_path / "people.csv", people() | {name: values})
    with pytest.raises(DataError, match=message) as error:
        loaded(file)
    assert name in str(error.value)
    for said in (f"drop={name}", f"group={name}"):
        data = loaded(file, f"group=person,{said}")
        assert data.train.shape() == (5,)
        assert (name in data.train.columns) == said.startswith("group")


def test_numbers_may_stand_for_kinds_and_names_be_learned(tmp_path: Path) -> None:
    content = people() | {"zip": [f"0{row % 4}000" for row in range(ROWS)]}
    data = loaded(write(tmp_path / "people.csv", content), "category=zip,category=person")
    assert data.table is not None
    kinds = {one.name: one.categories for one in data.table.features}
    assert kinds["zip"] == ("00000", "01000", "02000", "03000")
    assert len(kinds["person"] or ()) == 10


def test_an_unknown_category_of_the_test_part_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", people())
    content = people(12)
    content["state"][5] = "Texas"
    content["id"] = [f"t{row}" for row in range(12)]
    write(tmp_path / "test.csv", content)
    with pytest.raises(DataError, match="sample 't5' has 'Texas' in column 'state', which no row"):
        loaded(tmp_path)
    content["state"][5] = "TX"
    write(tmp_path / "test.csv", content)
    data = loaded(tmp_path)
    assert (len(data.train), len(data.test), data.test_drawn) == (ROWS, 12, False)


def test_labels_of_a_table_are_names(tmp_path: Path) -> None:
    for labels, classes in (
        ([row % 12 + 1 for row in range(ROWS)], tuple(str(one) for one in range(1, 13))),
        ([["yes", "no"][row % 2] for row in range(ROWS)], ("no", "yes")),
        ([["true", "false"][row % 2] for row in range(ROWS)], ("False", "True")),
        ([float(row % 2) for row in range(ROWS)], ("0", "1")),
    ):
        file = write(tmp_path / "people.csv", people() | {"label": labels})
        data = loaded(file)
        assert data.classes == classes
        rows = dict(zip(people()["id"], labels, strict=True))
        for one, label in zip(data.train.ids.tolist(), data.train.labels.tolist(), strict=True):
            told = rows[one]
            expected = str(int(told) if isinstance(told, float) else told)
            assert data.classes[label].lower() == expected
        # a class that is gone moves no other
        kept = [row for row in range(ROWS) if labels[row] != labels[0]]
        fewer = {
            name: [values[row] for row in kept]
            for name, values in (people() | {"label": labels}).items()
        }
        again = loaded(write(file, fewer), classes=data.classes)
        assert again.classes == data.classes
        for one, label in zip(again.train.ids.tolist(), again.train.labels.tolist(), strict=True):
            if one in data.train.position:
                assert label == data.train.labels[data.train.position[one]]


LONG = 2**53
"""From here on doubles tell no two whole numbers apart."""


@pytest.mark.parametrize("kind", ["table", "pictures"])
@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([LONG, LONG + 1, None]), [str(LONG), str(LONG + 1), ""]),
        (pa.array([1, 2, 3]), ["1", "2", "3"]),
        (pa.array([True, False, None]), ["True", "False", ""]),
        (pa.array([10, None, 20], pa.decimal128(5, 1)), ["10.0", "", "20.0"]),
        (pa.array([0, None, 1], pa.timestamp("ms")), [
            "1970-01-01T00:00:00.000", "", "1970-01-01T00:00:00.001",
        ]),
    ],
)  # fmt: skip
def test_gaps_of_a_group_column_change_no_other_value(
    tmp_path: Path, kind: str, values: pa.Array, texts: list[str]
) -> None:
    # a row group with a gap, and one without
    rows = pa.concat_arrays([values] * 10 + [values.filter(values.is_valid())] * 10)
    content = {"person": rows, "label": [row % 2 for row in range(len(rows))]}
    image = {"bytes": encoded(picture(8, 8)), "path": None}
    content |= {"image": [image] * len(rows)} if kind == "pictures" else {"x": range(len(rows))}
    pq.write_table(pa.table(content), tmp_path / "a.parquet", row_group_size=10 * len(values))
    spec = tmp_path / "a.parquet"
    data = loaded(spec, "" if kind == "pictures" else "group=person", test="none")
    found = [str(one) for one in data.train.columns["person"].tolist()]
    assert found == texts * 10 + [one for one in texts if one] * 10
    split = Split.parse(data, f"group:person={texts[0]}", base=Split.whole(data, validation=0))
    assert len(split.forget) == 20


def test_a_csv_column_with_gaps_that_nobody_named(tmp_path: Path) -> None:
    content = people() | {"person": [[LONG, LONG + 1, ""][row % 3] for row in range(ROWS)]}
    data = loaded(write(tmp_path / "a.csv", content), "missing=0", test="none")
    assert set(data.train.columns["person"].tolist()) == {str(LONG), str(LONG + 1), ""}


def test_columns_as_they_are_typed(tmp_path: Path) -> None:
    file = write(tmp_path / "people.csv", people())
    spec = DataSpec.parse(f"{file}:label=state,group=person,drop=id:20")
    assert (spec.base, spec.count) == (str(file), 20)
    assert spec.columns is not None
    assert (spec.columns.label, spec.columns.groups, spec.columns.dropped) == (
        "state",
        ("person",),
        ("id",),
    )
    data = load_data(f"{file}:label=state,group=person,drop=id:20")
    assert (len(data.train), data.classes, data.train.positional) == (20, STATES, True)
    assert data.train.shape() == (3,)
    assert lasting(f"{file}:label=state:20") == f"{file.resolve()}:label=state:20"
    assert DataSpec.parse("mine:label=x").base == "mine:label=x"  # REST of a package's data


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("label=stat", "has no column 'stat', did you mean 'state'"),
        ("group=nobody", "has no column 'nobody'"),
        ("label=state,id=state", "column 'state' is named twice"),
        ("label=a,label=b", "label= is given 2 times"),
        ("label=state,lable=x", "'lable=x' in a data specification, did you mean 'label'"),
        ("labl=x", "'labl=x' in a data specification, did you mean 'label'"),
        ("missing=mean", "missing=mean: say which number"),
        ("group=label,group=person", "has no label column.*people.csv:label=NAME"),
        ("drop=person,drop=age,drop=income,drop=state", "has no column to learn from"),
    ],
)
def test_columns_that_are_wrong(tmp_path: Path, columns: str, message: str) -> None:
    file = write(tmp_path / "people.csv", people())
    with pytest.raises(DataError, match=message) as error:
        loaded(file, columns)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_there_is_no_module() -> None:
    with pytest.raises(DataError, match=r"no dataset or path 'nobody.csv'"):
        load_data("nobody.csv:label=x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read .*people.csv as a table .Empty CSV file."),
        (b"age,label\n", "holds no rows"),
        (b"age,label\n1,0\n2\n", "cannot read .*Expected 2 columns, got 1"),
        (b"age,age,label\n1,2,0\n", "two columns are called 'age'"),
        (b"age,label\n\xff,1\n", "cannot read .*column 'age' is no UTF-8"),
        (b"<html>\n<body>404</body>\n", "has no label column: it has <html>"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "people.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_data(tmp_path / "people.csv")
    assert "\n" not in str(error.value)


def test_a_column_is_a_number_where_all_of_it_is(tmp_path: Path) -> None:
    content = people(20_000)  # more than a block of pyarrow's
    content["age"][-1] = 41.5
    data = loaded(write(tmp_path / "people.csv", content), "drop=person")
    assert data.table is not None
    assert data.table.features[0].categories is None


def test_images_have_sizes_and_tables_columns(tmp_path: Path) -> None:
    image = {"bytes": encoded(picture(8, 8)), "path": None}
    write(tmp_path / "a.parquet", {"image": [image] * 20, "label": [0, 1] * 10})
    with pytest.raises(DataError, match="holds images, whose columns have their usual names"):
        load_data(f"{tmp_path / 'a.parquet'}:label=label")
    write(tmp_path / "b.parquet", people())
    with pytest.raises(DataError, match="holds no images, so there is nothing to resize"):
        load_data(f"{tmp_path / 'b.parquet'}@8")


LAYOUTS: dict[str, tuple[list[str], list[str]]] = {
    "hub": (
        ["data/train-00000-of-00002", "data/train-00001-of-00002"],
        ["data/test-00000-of-00001"],
    ),
    "beside": (["train-00000-of-00002", "train-00001-of-00002"], ["validation-00000-of-00001"]),
    "converted": (["default/train/0000", "default/train/0001"], ["default/test/0000"]),
    "folders": (["train/a", "train/b"], ["valid/a"]),
    "any names": (["part-0", "part-1"], []),
    "two files": (["train"], ["test"]),
}


@pytest.mark.parametrize("kind", ["images", "tables"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards(tmp_path: Path, layout: str, kind: str) -> None:
    image = {"bytes": encoded(picture(8, 8)), "path": None}
    whole = (
        {"image": [image] * ROWS, "label": [0, 1] * (ROWS // 2)} if kind == "images" else people()
    )
    content = {name: values[:20] for name, values in whole.items() if name != "id"}
    for name in (one for part in LAYOUTS[layout] for one in part):
        file = tmp_path / f"{name}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, content)
    data = load_data(tmp_path) if kind == "images" else loaded(tmp_path)
    train_files, test_files = LAYOUTS[layout]
    assert len(data.train) + (0 if test_files else len(data.test)) == 20 * len(train_files)
    assert data.test_drawn == (not test_files)
    if test_files:
        assert len(data.test) == 20


def test_shards_that_are_not_all_there(tmp_path: Path) -> None:
    for name in (
        "train-00000-of-00003",
        "train-00002-of-00003",
        "validation-00000-of-00001",
        "test",
    ):
        write(tmp_path / f"{name}.parquet", people())
    with pytest.raises(DataError, match="2 of 3 files of train: number 1 is missing"):
        loaded(tmp_path)
    one = loaded(tmp_path / "train-00000-of-00003.parquet")
    assert "train-00000-of-00003.parquet is one of 3 files" in " ".join(one.notes)
    write(tmp_path / "train-00001-of-00002.parquet", people())
    with pytest.raises(DataError, match="files of train that count to 2 and such that count to 3"):
        loaded(tmp_path)


def test_tables_of_a_folder_that_are_not_read_are_told_of(tmp_path: Path) -> None:
    for name in ("train", "test", "validation"):
        content = people() | {"id": [f"{name}{row}" for row in range(ROWS)]}
        write(tmp_path / f"{name}.parquet", content)
    assert "these are not read: validation.parquet" in " ".join(loaded(tmp_path).notes)
