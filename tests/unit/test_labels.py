"""Labels, ids, columns and inputs as people have them: read rightly, or refused in one line that says
where."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from expunge.api import train
from expunge.data.labels import plain_labels
from expunge.data.load import Data, load_data
from expunge.data.samples import StreamStore
from expunge.data.split import Split
from expunge.errors import DataError
from expunge.training.recipe import Recipe
from tests.unit.test_data import encoded, picture

NAMES = ["cat", "dog", "owl"] * 10
PLACES = np.arange(30) % 3
ONE_HOT = np.eye(3, dtype=int)[PLACES]


class Own:
    """A dataset of one's own; item `row` is what `make` gives."""

    def __init__(self, labels: Any, make: Any = lambda row: torch.zeros(4), **more: Any) -> None:
        self.labels, self.make = labels, make
        self.__dict__.update(more)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Any:
        return self.make(row)


def labels_of(data: Data) -> list[str]:
    """Class names of all samples, in the order of their row numbers."""
    named = {
        int(one): data.classes[label]
        for part in (data.train, data.test)
        for one, label in zip(part.ids.tolist(), part.labels.tolist(), strict=True)
    }
    return [named[row] for row in sorted(named)]


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(NAMES),
        pa.array(NAMES).dictionary_encode(),
        pa.array(NAMES, pa.large_string()),
        pa.array(NAMES).cast(pa.string_view()),
        pa.array([name.encode() for name in NAMES]),
        pa.array([name.encode() for name in NAMES], pa.large_binary()),
        pa.array(pd.Categorical(NAMES)),
    ],
    ids=lambda labels: str(labels.type),
)
def test_columns_of_names(tmp_path: Path, labels: pa.Array) -> None:
    data = with_pictures(tmp_path, labels)
    assert data.classes == ("cat", "dog", "owl")
    assert labels_of(data) == NAMES


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(PLACES, pa.uint8()),
        pa.array(PLACES, pa.int64()).dictionary_encode(),
        pa.array(PLACES.astype(float)),
        pa.array([decimal.Decimal(int(one)) for one in PLACES]),
        pa.array(ONE_HOT.tolist()),
        pa.array(ONE_HOT.tolist(), pa.list_(pa.float32(), 3)),
    ],
    ids=lambda labels: str(labels.type),
)
def test_columns_of_numbers(tmp_path: Path, labels: pa.Array) -> None:
    data = with_pictures(tmp_path, labels)
    assert data.classes == ("0", "1", "2")
    assert labels_of(data) == [str(one) for one in PLACES]
    told = "; ".join(data.notes)
    assert ("one-hot" in told) == pa.types.is_nested(labels.type)
    assert told in repr(data)


def with_pictures(folder: Path, labels: pa.Array, **columns: Any) -> Data:
    image = encoded(picture(8, 8))
    content = {"image": [{"bytes": image, "path": None}] * len(labels), "label": labels, **columns}
    pq.write_table(pa.table(content), folder / "a.parquet")
    return load_data(folder / "a.parquet")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([None, "a"] * 5), r"5 rows without label \(it is null there\)"),
        (pa.array([None, 1, 0, 1]), r"1 rows without label \(it is null there\)"),
        (pa.array([float("nan"), 1.0, 0.0]), r"1 of 3 labels are missing .* the first in row 0"),
        (pa.array([0.0, 1.0, 1.5]), "label 1.5 in row 2 is no whole number"),
        (pa.array(["a", "", "b"]), "1 of 3 labels are missing .* the first in row 1"),
        (pa.array([[1, 0], [1, 1]]), "row 1 is not one-hot"),
        (pa.array([[1, 0], [1]]), "some samples have more labels than others"),
    ],
)
def test_columns_that_hold_no_classes(tmp_path: Path, labels: pa.Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_pictures(tmp_path, labels)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None, "b"],
        ["a", float("nan"), "b"],
        ["a", "", "b"],
        [b"a", b"", b"b"],
        [0, None, 1],
        [0.0, float("nan"), 1.0],
        pd.Series(["a", None, "b"]),
        pd.Series([0, None, 1], dtype="Int64"),
        pd.Series(["a", None, "b"], dtype="category"),
        torch.tensor([0.0, torch.nan, 1.0]),
        np.ma.masked_array([0, 9, 1], mask=[False, True, False]),
        ["a", " ", "b"],
        [b"a", b" ", b"b"],
        np.array(["a", "  ", "b"]),
    ],
    ids=lambda labels: f"{type(labels).__name__} {list(labels)}",
)
def test_a_missing_label_is_no_class(labels: Any) -> None:
    with pytest.raises(DataError, match=r"1 of 3 labels are missing .* the first in row 1;"):
        load_data(Own(labels))


@pytest.mark.parametrize(
    "labels",
    [
        [float(one) for one in PLACES],
        np.array(PLACES.tolist(), dtype=object),
        np.array(PLACES.astype(float).tolist(), dtype=object),
        PLACES.astype(np.uint64),
        PLACES.astype(np.float16),
        PLACES[:, None],
        ONE_HOT,
        ONE_HOT.astype(np.float32),
        ONE_HOT.astype(bool),
        ONE_HOT.tolist(),
        torch.nn.functional.one_hot(torch.from_numpy(PLACES)),
        pd.Series(PLACES, dtype="Int64"),
    ],
    ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', '')}",
)
def test_numbers_of_any_kind_are_class_indices(labels: Any) -> None:
    data = load_data(Own(labels))
    assert data.classes == ("0", "1", "2")
    assert labels_of(data) == [str(one) for one in PLACES]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, "a", 1], "a number and a text"),
        ([{"a": 1}, {"a": 2}] * 3, "is a dict, and no class"),
        ([{1}, {2}] * 3, r"label \{1\} is a set, and no class"),
        (
            ["a", "nan", "b"],
            "1 of 3 labels are missing .written 'nan'., the first in row 1; .* 'nan'$",
        ),
        (
            np.array(["a", "NA", "b"]),
            "1 of 3 labels are missing .written 'NA'., the first in row 1",
        ),
        ([0, 1, 10**30], "is no class index"),
        (np.array([0, 1, 2**64 - 1], np.uint64), "label 18446744073709551615 "),
        ([0.0, 1.0, np.inf], "label inf in row 2"),
        (ONE_HOT * 0.5, "label 0.5 in row 0"),
        ([[0, 1], [1]], "more labels, or values of a column, than others"),
        ([0, 1, 255] * 200, r"label 255 \(200 samples, the first in row 2\) lies far .* 0 to 1;"),
        ([*PLACES, 10**6] * 2, r"label 1000000 \(2 samples, the first in row 30\)"),
    ],
)
def test_numbers_that_are_no_classes(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load_data(Own(labels))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", [PLACES[:, None], ONE_HOT, ONE_HOT.astype(np.float32)])
def test_arrays_of_labels_with_two_axes(tmp_path: Path, labels: Any) -> None:
    person = np.char.add("p", PLACES.astype(np.str_))
    np.savez(tmp_path / "a.npz", x=np.zeros((30, 4)), y=labels, person=person)
    data = load_data(tmp_path / "a.npz")
    assert labels_of(data) == [str(one) for one in PLACES]
    assert list(data.train.columns) == ["person"]


def test_a_part_of_many_classes_has_gaps_and_no_label_beyond_them() -> None:
    few = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]  # of a thousand, as people take some
    assert len(load_data(Own(few * 100)).classes) == 702
    assert load_data(Own([0, 1, 255] * 9), classes=[str(n) for n in range(256)]).notes == ()


def test_labels_that_count_from_one_are_told_of() -> None:
    data = load_data(Own(PLACES + 1))
    assert data.classes == ("0", "1", "2", "3")  # a model that was trained on them knows four
    assert "count from 1" in data.notes[0]
    assert "class '0' has no sample" in data.notes[0]
    assert load_data(Own(PLACES)).notes == ()
    assert load_data(Own(PLACES + 1), classes=["none", "a", "b", "c"]).notes == ()


def test_plain_labels_stay_as_they_are() -> None:
    for labels in (np.array(NAMES), PLACES, PLACES.astype(bool), PLACES.astype(np.uint8)):
        assert plain_labels(labels) is labels
    assert plain_labels([]).shape == (0,)


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((30, 4)), y=PLACES, classes=["cat", "dog", "cat"])
    for given in (tmp_path / "a.npz", Own(PLACES, classes=["cat", "dog", "cat"])):
        with pytest.raises(DataError, match="two classes are called 'cat'"):
            load_data(given)


def test_tensors_of_which_one_cannot_be_told() -> None:
    three = TensorDataset(torch.zeros(30, 4), torch.from_numpy(PLACES), torch.from_numpy(PLACES))
    for given in (three, Subset(three, range(20)), (three, three)):
        with pytest.raises(DataError, match=r"TensorDataset of 3 tensors: nobody can tell"):
            load_data(given)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"columns": {"p": list(range(10))}}, r"column 'p' has shape \(10,\) for 30 samples"),
        ({"columns": {"p": np.zeros((30, 2))}}, r"column 'p' has shape \(30, 2\) for 30 samples"),
        ({"ids": ["a", None, *range(28)]}, "1 ids are missing .* row 1;"),
        ({"ids": [float("nan"), *range(29)]}, "1 ids are missing .* row 0;"),
        ({"ids": ["a"] * 30}, "the id 'a' occurs 30 times"),
    ],
)
def test_ids_and_columns_that_do_not_fit(more: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(Own(PLACES, **more))


def test_ids_and_groups_of_pictures_that_are_null(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 rows without id .it is null there"):
        with_pictures(tmp_path, pa.array(PLACES), id=[None, *map(str, range(29))])


@pytest.mark.parametrize(
    "values",
    [
        [1, None, "a"],
        [b"x", pd.NA, "a"],
        np.array(["2020-01-01", "NaT", "2020-01-02"], "M8[D]"),
        pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-02"])),
        [0, float("nan"), "a"],
    ],
    ids=str,
)
def test_a_gap_of_a_column_reads_as_nothing(values: Any) -> None:
    data = load_data(Own([0, 1, 0], columns={"p": values}), test="none")
    texts = data.train.columns["p"].tolist()
    assert texts[1] == "" and texts[0] and texts[2]


def test_a_class_that_is_named_may_be_called_so() -> None:
    data = load_data(Own(["EU", "NA", "SA"] * 10), classes=["EU", "NA", "SA"])
    assert labels_of(data)[:3] == ["EU", "NA", "SA"]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.int8])
def test_tensors_of_every_precision(kind: torch.dtype) -> None:
    inputs = torch.arange(90.0).reshape(30, 3)
    data = load_data(
        TensorDataset(inputs.to(torch.bfloat16), torch.from_numpy(PLACES).to(kind)), test="none"
    )
    assert labels_of(data) == [str(one) for one in PLACES]
    assert torch.equal(data.train.store.whole(), inputs.bfloat16().float())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(30, 4).to_sparse(), "sparse, of which no rows are taken; give it dense"),
        (torch.zeros(30, 4, dtype=torch.complex64), "holds complex numbers, of which no model"),
    ],
)
def test_tensors_that_nobody_can_learn_from(inputs: torch.Tensor, message: str) -> None:
    labels = torch.from_numpy(PLACES)
    with pytest.raises(DataError, match=message):
        load_data(TensorDataset(inputs, labels))
    with pytest.raises(DataError, match=message):
        odd = labels.to(inputs.dtype) if inputs.is_complex() else labels.to_sparse()
        load_data(TensorDataset(torch.zeros(30, 4), odd))
    streamed = StreamStore(Own(PLACES, lambda row: inputs[row]))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        streamed.fetch(np.arange(4), torch.device("cpu"))


IDS = [f"s{row}" for row in range(30)]
ODD_ITEMS: dict[str, tuple[Any, str]] = {
    "none": (lambda row: None, "'s7' is None instead of an input"),
    "none beside a label": (lambda row: (None, 0), "'s7' is None instead of an input"),
    "another size": (lambda row: torch.zeros(5), r"'s7' is float32 of shape \(5,\), sample 's"),
    "another kind": (lambda row: "seven", r"'s7' is a str, sample 's\d+' is float32 of shape"),
    "nan": (lambda row: torch.tensor([0.0, torch.nan, 0, 0]), "'s7' holds nan,"),
    "inf": (lambda row: np.array([0, np.inf, 0, 0], np.float32), "'s7' holds inf,"),
}


@pytest.mark.parametrize("odd", ODD_ITEMS)
def test_an_item_that_does_not_fit_is_named(odd: str) -> None:
    made, message = ODD_ITEMS[odd]
    odd_one = Own(PLACES, lambda row: made(row) if row == 7 else torch.zeros(4), ids=IDS)
    data = load_data((odd_one, Own(PLACES)))
    with pytest.raises(DataError, match=message) as error:
        train(
            data,
            lambda: nn.Linear(4, 3),
            recipe=Recipe(epochs=1, batch_size=64),
            split=Split.whole(data, validation=0.0),
        )
    assert "\n" not in str(error.value)


def test_masks_among_several_inputs_may_hold_infinity() -> None:
    mask = torch.tensor([0.0, -torch.inf])
    store = StreamStore(Own(PLACES, lambda row: {"x": torch.zeros(2), "mask": mask}))  # type: ignore[arg-type]
    assert store.fetch(np.arange(4), torch.device("cpu"))["mask"].isinf().sum() == 4
    broken = StreamStore(Own(PLACES, lambda row: {"x": mask * 0}))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"'2' holds nan \(2 such samples\)"):
        broken.fetch(np.array([2, 4]), torch.device("cpu"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_arrays_that_are_not_finite_are_refused_as_they_are_read(
    tmp_path: Path, value: float
) -> None:
    x = np.zeros((30, 4), np.float32)
    x[5, 2] = value
    np.savez(tmp_path / "a.npz", x=x, y=PLACES, id=np.array(IDS))
    with pytest.raises(DataError, match=r"the input of sample 's5' holds (nan|inf)"):
        load_data(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"the input of sample '5' holds (nan|inf)"):
        load_data(TensorDataset(torch.from_numpy(x), torch.from_numpy(PLACES)))


def test_large_numbers_are_finite() -> None:
    x = torch.full((30, 4), torch.finfo(torch.float32).max)  # of which the sum is not
    assert len(load_data(TensorDataset(x, torch.from_numpy(PLACES))).train)


def test_inputs_that_ask_for_gradients_are_taken_as_values() -> None:
    x = torch.randn(30, 4, requires_grad=True)
    recipe = Recipe(epochs=2, batch_size=8, lr=0.01)
    for given in (TensorDataset(x, torch.from_numpy(PLACES)), Own(PLACES, lambda row: x[row] * 1)):
        train(load_data(given), lambda: nn.Linear(4, 3), recipe=recipe)
    assert x.grad is None
