"""Many rows: what is looked up, hashed or written once for each, beside the plain way to do it."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Named, digits, run_on_cpu, toy
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from expunge.audits import observe as observing
from expunge.audits.observe import observe
from expunge.audits.outputs import PartOutputs
from expunge.data import duplicates, id_rows, samples, view
from expunge.data.aside import others
from expunge.data.duplicates import duplicates_left
from expunge.data.id_rows import BYTES_AT_ONCE, id_keys
from expunge.data.load import Data, load_data
from expunge.data.parts import SPLIT_PARTS, Part
from expunge.data.samples import ResidentStore, Samples, digest_arrays, row_ids
from expunge.data.split import Split
from expunge.data.split_file import home_of
from expunge.data.transform import Normalisation, Transform
from expunge.data.view import DataView
from expunge.errors import DataError, SplitError
from expunge.names.text import clean_all, clean_names
from expunge.trained.card import write_json

STRANGE = ["07", "+7", " 7", "7 ", "7_0", "٧", "x", "", "-1", "7.0", "9" * 40, "1" * 5000, "7\0"]


def rows(count: int, ids: list[str] | None = None) -> Samples:
    names = row_ids(count) if ids is None else np.array(ids)
    return Samples(
        names,
        np.zeros(count, np.int64),
        ResidentStore(torch.zeros(count, 1)),
        "print",
        positional=ids is None,
    )


@pytest.mark.parametrize(
    "index", [range(30), [2, 3, 5, 7, 28], [28, 2, 7, 5], []], ids=["all", "some", "mixed", "none"]
)
def test_ids_are_looked_up_as_in_a_dictionary(index: list[int]) -> None:
    found = rows(30).subset(np.array(index, dtype=np.int64))
    plain = {name: row for row, name in enumerate(found.ids.tolist())}
    asked = [*map(str, range(31)), *STRANGE]
    assert found.rows_of(asked).tolist() == [plain.get(name, -1) for name in asked]
    assert dict(found.position) == plain and list(found.position) == list(plain)
    for name in STRANGE:
        assert name not in found.position
    assert 7 not in found.position  # type: ignore[comparison-overlap]  # no text


def test_keys_of_ids_depend_on_nothing_else() -> None:
    alone = [id_keys(np.array([name]))[0] for name in STRANGE[:-1]]
    assert id_keys(np.array(STRANGE[:-1])).tolist() == alone
    assert len(set(alone)) == len(alone)
    many = row_ids(BYTES_AT_ONCE // 8)  # made in several pieces
    assert id_keys(many)[[0, -1]].tolist() == [id_keys(many[[row]])[0] for row in (0, -1)]


@pytest.mark.parametrize("names", [["b", "a", "c"], ["b", "a", "b"]], ids=["different", "twice"])
def test_ids_of_one_key_are_told_apart(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_rows, "id_keys", lambda ids: np.zeros(len(ids), np.uint64))
    found = id_rows.IdRows(np.array(names))
    assert found.all_different is (len(set(names)) == 3)
    assert found.rows_of(["a", "x", "c", "a"]).tolist() == [
        1,
        -1,
        names.index("c") if found.all_different else -1,
        1,
    ]


def test_ids_are_found_among_none() -> None:
    assert rows(0).rows_of(["a"]).tolist() == [-1] and rows(3).rows_of([]).tolist() == []


def test_a_split_keeps_the_rows_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    base = Split.whole(data)
    split = base.forgetting(base.retain[3:9])
    for made in (base, split):
        fresh = Split(made.retain, made.forget, made.validation, made.excluded)
        assert fresh.digest == made.digest
        for part in (Part.RETAIN, Part.FORGET, Part.VALIDATION):
            assert made.rows(data.train, part).tolist() == fresh.rows(data.train, part).tolist()
    monkeypatch.setattr(Samples, "rows_of", lambda *_: pytest.fail("looked up again"))
    assert len(split.rows(data.train, Part.RETAIN)) == len(base.retain) - 6
    assert len(split.settled().rows(data.train, Part.RETAIN)) == len(base.retain) - 6


def test_a_split_knows_what_it_was_made_of() -> None:
    base = Split(("a", "b", "c"), excluded=("z",))
    split = base.forgetting(["a"])
    assert split.made_of(base) and split.made_of(base.settled())
    again = Split(split.retain, split.forget, split.validation, split.excluded)
    for other in (base, split, Split(("a", "b")), split.settled()):
        assert not again.made_of(other) and split.made_of(other) is (other is base)
    assert not copy.deepcopy(split).made_of(base)  # it looks at each id then


@pytest.mark.parametrize("odd", ["x" * 100, "x\0", "\U0001f600", "\uffff"])
def test_a_digest_is_of_ids_in_the_order_of_their_letters(odd: str) -> None:
    names = ("b", "a", odd, "é", "a9")
    text = (
        "retain\x1e" + "\x1f".join(sorted(names)) + "".join(f"{one}\x1e" for one in SPLIT_PARTS[1:])
    )
    assert Split(names).digest == hashlib.sha256(text.encode()).hexdigest()


def test_ids_that_are_no_row_numbers_are_looked_up_as_they_read() -> None:
    for names in (["007", "7", "x"], ["007", "7", "8"]):  # two read as one number
        found = Samples(
            np.array(names), np.zeros(3, np.int64), ResidentStore(torch.zeros(3, 1)), "", True
        )
        assert found.rows_of([*names, "07"]).tolist() == [0, 1, 2, -1]


def test_rows_of_checked_samples_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows(6, [f"k{i}" for i in range(6)])
    monkeypatch.setattr(samples, "clean_names", lambda _: pytest.fail("looked at every id again"))
    assert whole.subset(np.array([1, 4])).ids.tolist() == ["k1", "k4"]
    monkeypatch.undo()
    with pytest.raises(DataError, match="'k1' occurs 2 times"):
        whole.subset(np.array([1, 4, 1]))


@pytest.mark.parametrize(
    "index",
    [
        np.array([-3, -2, -1, 0, 1]),
        np.array([-1, 0, 3]),
        np.array([0, 2, 0], dtype=np.uint8),
        np.array([3, 0, 3], dtype=np.uint64),
        np.array([2, -2], dtype=np.int8),
    ],
    ids=lambda one: f"{one.dtype} {one.tolist()}",
)
@pytest.mark.parametrize("own", [False, True], ids=["row numbers", "ids"])
def test_an_index_that_names_a_row_twice_is_refused(index: Any, own: bool) -> None:
    whole = rows(4, list("abcd") if own else None)
    with pytest.raises(DataError, match="occurs 2 times"):
        whole.subset(index)


def test_rows_are_taken_by_any_kind_of_index() -> None:
    whole = Samples(
        row_ids(4), np.arange(4), ResidentStore(torch.arange(4.0)[:, None]), "print", True
    )
    for index in (np.array([1, 3], dtype=kind) for kind in ("u1", "i1", "u4", "u8", "i8")):
        some = whole.subset(index)
        assert samples.resident(some).tolist() == [[1], [3]] and some.ids.tolist() == ["1", "3"]
    assert whole.subset(np.array([False, True, False, True])).ids.tolist() == ["1", "3"]


def test_a_subset_that_counts_from_the_end_is_refused() -> None:
    whole = TensorDataset(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(DataError, match="'3' occurs 2 times"):
        load_data((Subset(whole, [-1, 0, 3]), whole))


def test_whoever_writes_into_a_splits_rows_writes_into_a_copy() -> None:
    data = toy([0, 1] * 10)
    split = Split.ids(data, ["1", "4"], base=Split.whole(data, validation=0))
    for _ in range(2):
        found = split.rows(data.train, Part.FORGET)
        assert found.tolist() == [1, 4]
        found[:] = 0


def test_ids_take_no_more_room_than_they_need() -> None:
    assert row_ids(1000).dtype.itemsize <= 4 * len("1000")
    numbers = clean_names(np.array([5, -1200, 70]))
    assert numbers.tolist() == ["5", "-1200", "70"] and numbers.dtype.itemsize == 4 * len("-1200")


def test_a_dataset_without_ids_keeps_the_fingerprint_that_folders_know() -> None:
    dataset = Named(torch.zeros(12, 2), [0, 1] * 6, [f"k{i}" for i in range(12)])
    del dataset.ids
    print_ = load_data((dataset, dataset)).train.fingerprint
    wide = np.array([str(i) for i in range(12)], dtype="U21")
    assert print_ == digest_arrays(wide, np.array([0, 1] * 6))


def test_a_split_finds_its_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy([0, 0, 1, 1, 2, 2] * 5)
    split = Split.classes(data, ["1"], base=Split.whole(data, validation=0.2))
    asked: list[int] = []
    plain = Samples.rows_of

    def counted(self: Samples, names: Any) -> Any:
        asked.append(len(names))
        return plain(self, names)

    monkeypatch.setattr(Samples, "rows_of", counted)
    for _ in range(3):
        assert split.rows(data.train, Part.RETAIN).tolist() == sorted(map(int, split.retain))
        assert split.forgotten_classes(data) == (1,) and split.only_whole_classes(data)
        duplicates_left(data, split)
    assert len(asked) <= 3  # of retain, forget and excluded
    for twin in (copy.deepcopy(split), pickle.loads(pickle.dumps(split))):
        assert twin == split
        assert twin.rows(data.train, Part.FORGET).tolist() == sorted(map(int, split.forget))
    smaller = toy([0] * 6)
    with pytest.raises(SplitError, match=r"1[0-9] of the 1[0-9] retain samples are not in"):
        split.rows(smaller.train, Part.RETAIN)


def test_a_split_names_an_id_that_is_in_two_parts() -> None:
    with pytest.raises(SplitError, match="'b' is in retain and in excluded"):
        Split(retain=("a", "b"), excluded=("c", "b"))
    with pytest.raises(SplitError, match="'a' is in retain and in retain"):
        Split(retain=("a", "a"))


def test_the_others() -> None:
    assert others(5, np.array([3, 0])).tolist() == [1, 2, 4]
    assert others(2, np.empty(0, np.int64)).tolist() == [0, 1]


def test_where_ids_lay_is_worked_out_only_where_somebody_asks() -> None:
    plain = {"retain": ["a"], "forget": ["b"], "validation": [], "excluded": [], "test": ["c"]}
    train, test = home_of(plain)(rows(4, list("dcba")))
    assert (train.tolist(), test.tolist()) == ([2, 3], [1])

    class Untouched(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return pytest.fail("read") if key in plain else default

    home_of(Untouched())  # as for data whose ids are row numbers


def _copies(data: Data, split: Split) -> list[tuple[str, str]]:
    """By all pairs of rows, byte by byte; each with the first forget row that equals it."""
    tensor, ids = samples.resident(data.train), data.train.ids.tolist()
    assert tensor is not None
    content = [row.contiguous().reshape(-1).view(torch.uint8).tolist() for row in tensor]
    forget, retain = (split.rows(data.train, part) for part in (Part.FORGET, Part.RETAIN))
    return [
        (ids[next(one for one in forget if content[one] == content[row])], ids[row])
        for row in retain
        if any(content[one] == content[row] for one in forget)
    ]


def _inputs(kind: str) -> Tensor:
    values = torch.randint(0, 3, (40, 3), generator=torch.Generator().manual_seed(0))
    if kind == "image":
        return values.to(torch.uint8)[:, :, None, None].repeat(1, 1, 3, 5)
    if kind == "strided":
        return values.float().repeat(1, 2)[:, ::2]
    if kind == "zeros":  # -0.0 and 0.0 are other bytes
        return torch.where(values == 0, -0.0, 0.0)
    if kind == "single":
        return values[:, 0].float()
    return values.to(getattr(torch, kind))


@pytest.mark.parametrize(
    "kind",
    ["float32", "bfloat16", "float64", "int64", "bool", "image", "strided", "zeros", "single"],
)
@pytest.mark.parametrize("alike", [False, True], ids=["keys", "all keys equal"])
def test_copies_are_those_that_all_pairs_of_rows_show(
    kind: str, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy([0] * 40, inputs=_inputs(kind))
    split = Split.ids(data, ["3", "17", "22", "9"], base=Split.whole(data, validation=0.1))
    monkeypatch.setattr(duplicates, "BYTES_AT_ONCE", 64)
    if alike:  # then bytes decide
        monkeypatch.setattr(duplicates, "_keys", lambda _, rows: np.zeros(len(rows), np.uint64))
    found = duplicates_left(data, split)
    assert found == _copies(data, split)
    assert found


def test_only_rows_with_equal_keys_are_compared_byte_by_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = torch.randn(3000, 5, generator=torch.Generator().manual_seed(0))
    inputs[2000] = inputs[10]
    data = toy([0] * 3000, inputs=inputs)
    split = Split.ids(data, [str(i) for i in range(20)], base=Split.whole(data, validation=0))
    looked: list[int] = []
    plain = duplicates._contents

    def counted(tensor: Tensor, chosen: Any) -> Any:
        looked.extend(chosen.tolist())
        return plain(tensor, chosen)

    monkeypatch.setattr(duplicates, "_contents", counted)
    assert duplicates_left(data, split) == [("10", "2000")]
    assert sorted(looked) == [10, 2000]


def test_copies_are_told_apart_by_digests() -> None:
    inputs = torch.randint(0, 256, (200, 3, 100, 100), dtype=torch.uint8)
    inputs[100:] = inputs[:100]
    data = toy([0] * 200, inputs=inputs)
    ids = list(map(str, range(100)))
    split = Split.ids(data, ids, base=Split.whole(data, validation=0))
    tracemalloc.start()
    try:
        assert len(duplicates_left(data, split)) == 100
        assert tracemalloc.get_traced_memory()[1] < inputs[:100].numel() / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "inputs",
    [
        torch.randint(0, 256, (300, 3, 5, 4), dtype=torch.uint8),
        torch.randint(0, 256, (300, 7), dtype=torch.uint8),
        torch.randn(300, 3, 5, 4) * 7 + 3,
        torch.randn(300, 6) * 100 + 1e4,
        (torch.randn(300, 6) * 10).half(),
    ],
    ids=["images", "bytes", "float images", "vectors", "half"],
)
def test_statistics_are_those_of_a_loop_in_double_precision(
    inputs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "STATISTICS_VALUES", 1000)
    found = toy([0] * len(inputs), inputs=inputs).train.statistics()
    values = inputs.double().numpy() / (255 if inputs.dtype == torch.uint8 else 1)
    for channel in range(inputs.shape[1]):
        own = values[:, channel].ravel()
        assert found is not None
        assert found.mean[channel] == pytest.approx(own.mean(), abs=2e-6, rel=1e-9)
        assert found.std[channel] == pytest.approx(own.std(), abs=2e-6, rel=1e-9)


def test_bytes_are_counted_only_where_a_channel_has_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A histogram of each of many columns would take far longer than their sums."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randint(0, 256, (1500, 784), dtype=torch.uint8, generator=generator)
    pictures = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8, generator=generator)
    counted: list[int] = []
    plain = torch.bincount

    def counting(values: Tensor, **given: Any) -> Tensor:
        counted.append(len(values))
        return plain(values, **given)

    monkeypatch.setattr(torch, "bincount", counting)
    for inputs, times in ((columns, 0), (pictures, 3)):
        counted.clear()
        found = toy([0] * len(inputs), inputs=inputs).train.statistics()
        assert len(counted) == times and found is not None
        axes = (0, 2, 3) if inputs.ndim == 4 else 0
        values = inputs.double().numpy() / 255
        assert np.allclose(found.mean, values.mean(axes), rtol=0, atol=1e-6)
        assert np.allclose(found.std, values.std(axes), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 0), (6, 2, 0, 3), (6, 0, 4, 4)])
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_inputs_without_values_have_no_statistics(shape: tuple[int, ...], kind: Any) -> None:
    data = toy([0] * 6, inputs=torch.zeros(shape, dtype=kind))
    with pytest.raises(DataError, match="which holds no value to learn from; give at least one"):
        data.train.statistics()


def test_statistics_never_copy_many_inputs_in_double_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest: list[int] = []
    plain = Tensor.double

    def counted(self: Tensor) -> Tensor:
        largest.append(self.numel())
        return plain(self)

    monkeypatch.setattr(Tensor, "double", counted)
    toy([0] * 1500, inputs=torch.zeros(1500, 3, 32, 32)).train.statistics()
    toy([0] * 1500, inputs=torch.zeros(1500, 3, 32, 32, dtype=torch.uint8)).train.statistics()
    assert max(largest) <= 2**20


def test_many_ids_are_written_as_json_would_indent_them(tmp_path: Path) -> None:
    ids = ["a", 'b"c', "ä,\\", "\n", "漢", "", "\ud800"]
    content = {"digest": "x", "retain": ids, "forget": [], "mixed": ["a", 1], "deep": {"a": [{}]}}
    write_json(tmp_path / "one.json", content)
    told = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    assert (tmp_path / "one.json").read_bytes() == told.encode("utf-8", "backslashreplace")


def test_texts_are_cleaned_one_by_one_only_where_one_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert clean_all(["a", "\x1b", 3, ("b", "\udcff")]) == ["a", "\\x1b", 3, ("b", "\\xff")]
    assert clean_all(["a\n", "b"]) == ["a\n", "b"]
    assert clean_all(["a", 3]) == ["a", 3] and clean_all([]) == []
    monkeypatch.setattr("expunge.names.text.clean", lambda _: pytest.fail("one by one"))
    assert clean_all(["a"] * 3) == ["a"] * 3


def test_the_order_of_an_epoch_is_that_of_a_stable_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    data = toy([0] * 500)
    one = DataView(data, Split.whole(data, validation=0), Part.RETAIN)
    picked = np.arange(0, 500, 3)
    keys = view.numpy_generator("view", "order", 4).random(500)
    expected = np.argsort(keys[picked], kind="stable")
    assert one.shuffled(picked, 4).tolist() == expected.tolist()

    class Ties:
        def random(self, count: int) -> np.ndarray:
            return np.arange(count) % 4 / 4

    monkeypatch.setattr(view, "numpy_generator", lambda *_: Ties())
    expected = np.argsort((np.arange(500) % 4)[picked], kind="stable")
    assert one.shuffled(picked, 4).tolist() == expected.tolist()


def test_what_normalises_is_made_once_and_serves_training_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transform = Transform(Normalisation((0.5, 2.0), (0.25, 4.0)))
    inputs = torch.tensor([[1.0, 2.0], [0.0, -2.0]])
    with torch.inference_mode():
        transform(inputs)
    monkeypatch.setattr(torch, "tensor", lambda *_: pytest.fail("made again"))
    wanted = inputs.clone().requires_grad_()
    for kept in (pickle.dumps(transform.normalisation), copy.deepcopy(transform.normalisation)):
        twin = pickle.loads(kept) if isinstance(kept, bytes) else kept
        assert twin == transform.normalisation and vars(twin).keys() == {"mean", "std"}
    made = transform(wanted)
    assert torch.equal(made, (inputs - Tensor([0.5, 2.0])) / Tensor([0.25, 4.0]))
    made.sum().backward()  # type: ignore[no-untyped-call]
    assert wanted.grad is not None


class Sized(nn.Module):
    """A linear model that notes how large its batches are."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 3)
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("shape", "dtype", "size"),
    [
        ((4,), torch.float32, 1024),
        ((4096,), torch.float32, 256),
        ((1, 2, 2), torch.float32, 64),
        ((4,), torch.uint8, 64),
    ],
    ids=["vectors", "long vectors", "images", "bytes"],
)
def test_rows_of_numbers_are_observed_many_at_a_time(
    shape: tuple[int, ...], dtype: torch.dtype, size: int
) -> None:
    inputs = (torch.randn(1100, *shape) * 20).to(dtype)
    data = toy([0, 1, 2, 2] * 275, inputs=inputs)
    split = Split.ids(data, ["5", "70", "1099"], base=Split.whole(data, validation=0))
    model = Sized(inputs[0].numel())
    seen = observe(model, data, split, run_on_cpu())
    assert max(model.sizes) == size
    assert seen.forget is not None and seen.retain is not None
    assert seen.forget.ids == ("5", "70", "1099")
    kept = split.rows(data.train, Part.RETAIN)
    scaled = inputs.double() / (255 if dtype == torch.uint8 else 1)
    linear = model.linear.double()
    plain = torch.log_softmax(linear(scaled[torch.from_numpy(kept)].flatten(1)), dim=1)
    labels = torch.from_numpy(data.train.labels[kept])
    wanted = -plain.gather(1, labels[:, None])[:, 0]
    assert torch.allclose(seen.retain.losses, wanted, rtol=1e-4, atol=1e-3)
    assert seen.retain.ids == tuple(map(str, kept.tolist()))


def test_streams_are_observed_as_before() -> None:
    data = load_data((Named(torch.zeros(70, 2), [0] * 70, [f"k{i}" for i in range(70)]),) * 2)
    sizes = [len(one) for one in observing._batches(data.test, np.arange(70), run_on_cpu())]
    assert sizes == [64, 6]


@pytest.mark.parametrize("classes", [2, 16, 17])
def test_losses_are_those_of_rows_in_double_precision(classes: int) -> None:
    logits = torch.randn(300, classes, generator=torch.Generator().manual_seed(0)) * 30
    logits[5, 1], logits[6, 0] = -torch.inf, 1e30
    labels = torch.arange(300) % classes
    part = PartOutputs(logits, labels, tuple(map(str, range(300))))
    wanted = -torch.log_softmax(logits.double(), dim=1).gather(1, labels[:, None])[:, 0]
    assert torch.allclose(part.losses, wanted, rtol=1e-12, atol=1e-13)
    assert torch.equal(part.predicted, logits.argmax(dim=1))


def test_outputs_know_the_order_of_their_ids() -> None:
    names = np.array(["10", "9", "a", "100"])
    for ids in (names, tuple(names.tolist())):
        part = PartOutputs(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), ids)
        assert part.ids == ("10", "9", "a", "100") and part.n == 4
        assert names[part.by_id].tolist() == sorted(names.tolist())
        assert part.of({"a", "10"}).ids == ("10", "a")


def test_loading_row_numbers_makes_no_dictionary_of_them(tmp_path: Path) -> None:
    file = tmp_path / "rows.npz"
    np.savez(file, x=np.zeros((50, 2), np.float32), y=np.arange(50) % 3)
    data = load_data(file)
    split = Split.ids(data, data.train.ids[:5].tolist())
    assert split.rows(data.train, Part.FORGET).tolist() == [0, 1, 2, 3, 4]
    for part in (data.train, data.test):
        assert part.shape(part.position[str(part.ids[3])]) == (2,)


def test_digits_are_found_by_any_part_of_them() -> None:
    data = digits()
    names = list(itertools.islice(reversed(data.train.ids.tolist()), 20))
    assert data.train.ids[data.train.rows_of(names)].tolist() == names
