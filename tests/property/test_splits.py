"""Splits: what must hold for any data and any request, and what a refusal says."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy
from hypothesis import assume, given
from hypothesis import strategies as st

from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.request import read_ids
from expunge.data.split import Split
from expunge.errors import SplitError

PARTS = ("retain", "forget", "validation", "excluded")
SEEDS = st.integers(0, 10_000)
SHARES = st.floats(0, 0.9)


@st.composite
def datasets(draw: st.DrawFn, smallest: int = 12) -> Data:
    """Some tens of samples in up to five classes, with names in no order."""
    labels = draw(st.lists(st.integers(0, 4), min_size=smallest, max_size=60))
    names = draw(st.permutations([f"s{number}" for number in range(len(labels))]))
    return toy(labels, ids=names, classes=["ant", "bee", "cat", "dog", "eel"])


def parts(split: Split) -> list[set[str]]:
    return [set(getattr(split, name)) for name in PARTS]


def check_whole(split: Split, data: Data) -> None:
    """Four disjoint parts that are together the training data."""
    ids = [key for name in PARTS for key in getattr(split, name)]
    assert sorted(ids) == sorted(data.train.ids.tolist())
    assert len(set(ids)) == len(ids)


@given(datasets(), st.floats(0.05, 0.95), SEEDS, SHARES, SEEDS)
def test_parts_are_disjoint_and_make_up_the_data(
    data: Data, fraction: float, seed: int, validation: float, split_seed: int
) -> None:
    base = Split.whole(data, validation=validation, split_seed=split_seed)
    check_whole(base, data)
    assert not base.forget
    assert not base.excluded
    assume(0 < round(fraction * len(base.retain)) < len(base.retain))
    split = Split.random(data, fraction, seed=seed, base=base)
    check_whole(split, data)
    assert {*split.retain, *split.forget} == set(base.retain)


@given(datasets(), SHARES, SEEDS)
def test_validation_is_stratified(data: Data, share: float, seed: int) -> None:
    """Each class gives its share, rounded up or down, and keeps one sample to learn from."""
    held = Counter(
        classes_of(data, Split.whole(data, validation=share, split_seed=seed).validation)
    )
    sizes = Counter(data.train.labels.tolist())
    for label, size in sizes.items():
        most = min(math.ceil(share * size), size - 1)
        assert min(math.floor(share * size), most) <= held[label] <= most
    if all(math.ceil(share * size) < size for size in sizes.values()):
        assert held.total() == round(share * len(data.train))


def classes_of(data: Data, ids: tuple[str, ...]) -> list[int]:
    return [int(data.train.labels[data.train.position[key]]) for key in ids]


@given(datasets(smallest=30), SEEDS, SEEDS)
def test_validation_does_not_depend_on_the_seed_of_the_request(
    data: Data, one: int, other: int
) -> None:
    first, second = (Split.random(data, 0.2, seed=seed) for seed in (one, other))
    assert first.validation == second.validation == Split.whole(data).validation


def test_validation_depends_on_its_own_seed() -> None:
    data = toy([0, 1] * 100)
    held = {Split.whole(data, split_seed=seed).validation for seed in range(5)}
    assert len(held) == 5
    assert len(Split.whole(data).validation) == 20
    assert Split.whole(data, split_seed=0) == Split.whole(data)


@given(datasets(), st.floats(0.01, 0.99), SEEDS)
def test_a_random_request_has_the_size_asked_for(data: Data, fraction: float, seed: int) -> None:
    base = Split.whole(data)
    count = round(fraction * len(base.retain))
    assume(0 < count < len(base.retain))
    split = Split.random(data, fraction, seed=seed)
    assert len(split.forget) == count
    assert split == Split.random(data, fraction, seed=seed)


def test_random_requests_differ_by_seed_and_are_fair() -> None:
    data = toy([0] * 100)
    base = Split.whole(data, validation=0)
    drawn = [Split.random(data, 0.2, seed=seed, base=base).forget for seed in range(200)]
    assert len(set(drawn)) == 200
    counts = Counter(key for forget in drawn for key in forget)
    assert len(counts) == 100  # everyone has a turn: 40 of 200 on average
    assert 15 < min(counts.values()) <= max(counts.values()) < 70


@given(datasets(), st.sets(st.integers(0, 4), min_size=1, max_size=3))
def test_whole_classes(data: Data, wanted: set[int]) -> None:
    base = Split.whole(data)
    learned = set(classes_of(data, base.retain))
    assume(wanted & learned)
    assume(learned - wanted)
    split = Split.classes(data, sorted(wanted))
    check_whole(split, data)
    assert set(classes_of(data, split.forget)) == wanted & learned
    assert not set(classes_of(data, (*split.retain, *split.validation))) & wanted
    assert set(split.excluded) == {
        key for key in base.validation if data.train.labels[data.train.position[key]] in wanted
    }
    assert set(split.forgotten_classes(data)) == wanted & learned
    names = [data.classes[c] for c in wanted]
    assert split == Split.classes(data, names) == Split.parse(data, "class:" + ",".join(names))


@given(datasets(), st.data())
def test_ids_indices_and_mask_say_the_same(data: Data, choice: st.DataObject) -> None:
    rows = choice.draw(
        st.lists(st.integers(0, len(data.train) - 1), min_size=1, max_size=8, unique=True)
    )
    names = [str(data.train.ids[row]) for row in rows]
    assume(set(names) & set(Split.whole(data).retain))
    split = Split.ids(data, names)
    check_whole(split, data)
    assert {*split.forget, *split.excluded} == set(names)
    assert split == Split.ids(data, names[::-1])
    assert split == Split.indices(data, rows)
    assert split == Split.parse(data, "indices:" + ",".join(map(str, rows)))
    mask = np.isin(np.arange(len(data.train)), rows)
    assert split == Split.mask(data, mask) == Split.mask(data, mask.tolist())


@given(datasets(), SEEDS, SEEDS)
def test_a_second_deletion_never_reads_what_the_first_struck(
    data: Data, one: int, other: int
) -> None:
    first = Split.random(data, 0.2, seed=one)
    second = Split.random(data, 0.2, seed=other, base=first.settled())
    check_whole(second, data)
    assert set(second.excluded) == set(first.forget)
    third = Split.random(data, 0.2, seed=one, base=second.settled())
    assert set(third.excluded) == {*first.forget, *second.forget}
    read = {key for name in PARTS[:3] for key in getattr(third, name)}
    assert not read & {*first.forget, *second.forget}
    # a request on a split that was not settled keeps them out just the same
    assert Split.random(data, 0.2, seed=other, base=first).excluded == second.excluded


@given(datasets(), st.data())
def test_the_digest_depends_on_the_parts_and_not_on_their_order(
    data: Data, choice: st.DataObject
) -> None:
    split = Split.random(data, 0.3)
    shuffled = Split(**{n: tuple(choice.draw(st.permutations(getattr(split, n)))) for n in PARTS})
    assert shuffled.digest == split.digest
    assert len(split.digest) == 64
    moved = Split(split.retain[1:], (*split.forget, split.retain[0]), split.validation)
    assert moved.digest != split.digest
    assert Split(split.forget, split.retain, split.validation).digest != split.digest


@given(datasets(), st.randoms(use_true_random=False))
def test_rows_are_those_of_the_ids_in_ascending_order(data: Data, random: Any) -> None:
    ids = data.train.ids.tolist()
    random.shuffle(ids)  # a split from a file may list its ids in any order
    split = Split(retain=tuple(ids[4:]), forget=tuple(ids[:4]))
    for part, ids in ((Part.RETAIN, split.retain), (Part.FORGET, split.forget)):
        rows = split.rows(data.train, part)
        assert data.train.ids[rows].tolist() == sorted(ids, key=data.train.position.__getitem__)
        assert (np.diff(rows) > 0).all()
    assert split.rows(data.train, Part.FORGET_LABELS).tolist() == rows.tolist()


# --- requests as people type them


ANIMALS = toy(
    [0, 1, 2, 3] * 10,
    ids=[f"photo-{i:02d}.png" for i in range(40)],
    classes=["ant", "bee", "cat", "dog"],
    columns={
        "person": np.array([f"p{i // 4}" for i in range(40)]),
        "year": np.arange(40) // 20 + 2020,
    },
)


@pytest.mark.parametrize("spec", ["group:person=p3", "group:year=2021"])
def test_groups(spec: str) -> None:
    column, value = spec.removeprefix("group:").split("=")
    split = Split.parse(ANIMALS, spec)
    check_whole(split, ANIMALS)
    values = ANIMALS.train.columns[column].astype(str)
    wanted = set(ANIMALS.train.ids[values == value].tolist())
    assert {*split.forget, *split.excluded} == wanted
    assert split == Split.groups(ANIMALS, column, value)


def test_parse_random_takes_the_seed_of_the_request() -> None:
    assert Split.parse(ANIMALS, "random:0.25", seed=3) == Split.random(ANIMALS, 0.25, seed=3)
    assert Split.parse(ANIMALS, "random:0.25", seed=3) != Split.parse(ANIMALS, "random:0.25")


def test_ids_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "struck.txt"
    path.write_bytes("\ufeffphoto-03.png\r\n\r\n  photo-05.png \nphoto-07.png".encode())
    assert read_ids(str(path)) == ["photo-03.png", "photo-05.png", "photo-07.png"]
    expected = Split.ids(ANIMALS, ["photo-03.png", "photo-05.png", "photo-07.png"])
    assert Split.parse(ANIMALS, f"ids:{path}") == expected


def test_ids_from_standard_input() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"photo-03.png\nphoto-05.png\n")
    os.close(writer)
    before = os.dup(0)
    try:
        os.dup2(reader, 0)
        assert read_ids("-") == ["photo-03.png", "photo-05.png"]
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reader)


def test_classes_by_name_by_index_and_by_both() -> None:
    ways: list[list[Any]] = [["cat"], [2], ["#2"], ["2"], [np.int64(2)]]
    assert len({Split.classes(ANIMALS, way) for way in ways}) == 1
    assert Split.parse(ANIMALS, "class: cat , #0") == Split.classes(ANIMALS, ["ant", "cat"])


NUMBERS = toy([0, 1, 2] * 8, classes=["2", "x", "1"])


def test_a_number_that_is_a_name_and_another_index_is_refused() -> None:
    with pytest.raises(SplitError, match="class '2' is the name of class #0 and the index of '1'"):
        Split.classes(NUMBERS, ["2"])
    with pytest.raises(SplitError, match="write #2 or #1"):
        Split.classes(NUMBERS, ["1"])
    assert Split.classes(NUMBERS, ["#1"]) == Split.classes(NUMBERS, ["x"])
    digits = toy([0, 1, 2] * 8)  # named "0", "1", "2": no contradiction
    assert Split.classes(digits, ["2"]) == Split.classes(digits, [2])


# --- refusals: the value that is wrong, and what to do about it


def struck(data: Data, ids: list[str]) -> Split:
    return Split.ids(data, ids, base=Split.whole(data, validation=0)).settled()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("class:cta", r"no class 'cta', did you mean 'cat'\?; there are: ant, bee, cat, dog"),
        ("class:7", "no class '7'; there are: ant, bee, cat, dog"),
        ("class:#4", "class '#4': give an index from #0 to #3"),
        ("class:#-1", "class '#-1': give an index from #0 to #3"),
        ("class:#cat", "class '#cat': give an index"),
        ("class:ant,bee,cat,dog", r"class ant, bee, cat, dog names all \d+ samples .*delete the"),
        ("indices:40", "row 40 is out of range: the training data has rows 0 to 39"),
        ("indices:-1", "row -1 is out of range: .* rows 0 to 39"),
        ("indices:3,3", "id 'photo-03.png' is listed 2 times; list each once"),
        ("indices:three", r"'indices:three': 'three' is not a .*; write indices:ROW\[,ROW...\]"),
        ("indices:1.5", r"'indices:1.5': '1.5' is not a .*; write indices:ROW\[,ROW...\]"),
        ("indices:nan", r"'indices:nan': 'nan' is not a .*; write indices:ROW\[,ROW...\]"),
        ("indices:1,", r"'indices:1,': '' is not a .*; write indices:ROW\[,ROW...\]"),
        ("random:0", "random:0 - the fraction must lie between 0 and 1"),
        ("random:1", "random:1 - the fraction must lie between 0 and 1"),
        ("random:-0.1", "random:-0.1 - the fraction must lie between 0 and 1"),
        ("random:nan", "random:nan - the fraction must lie between 0 and 1"),
        ("random:ten", "'random:ten': 'ten' is not a number; write random:FRACTION"),
        ("random:0.001", "random:0.001 of 36 samples is none; ask for a larger share"),
        ("random:0.999", "names all 36 samples .* nothing would be retained"),
        ("group:persn=p3", r"no column 'persn', did you mean 'person'\?; there are: person, year"),
        ("group:person=p33", r"column 'person' never reads 'p33', did you mean 'p\d'\?"),
        ("group:person", "'group:person' lacks a value; write group:COLUMN=VALUE"),
        ("ids:/no/such/file", "cannot read ids from '/no/such/file' .*; one id per line, UTF-8"),
        ("clas:cat", r"'clas:cat' is no forget request, did you mean 'class'\?; write one of ra"),
        ("cat", "'cat' is no forget request; write one of random:FRACTION, class:LABEL"),
        ("class:", "'class:' is no forget request"),
        ("class: ", "'class: ' is no forget request"),
        ("", "'' is no forget request"),
    ],
)
def test_requests_that_cannot_be_met(spec: str, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        Split.parse(ANIMALS, spec)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "the request names no samples"),
        (["photo-00.png", "photo-00.png"], "id 'photo-00.png' is listed 2 times; list each once"),
        (
            ["photo-0.png", "photo-01.png"],
            r"id 'photo-0.png' is not in the training data, did you mean 'photo-\d\d.png'\? "
            r"\(1 of 2 unknown; an id looks like 'photo-00.png'\)",
        ),
        (ANIMALS.train.ids.tolist(), "the request names all 36 samples that the model learned fr"),
    ],
)
def test_ids_that_cannot_be_struck(ids: list[str], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        Split.ids(ANIMALS, ids)


def test_row_numbers_that_cannot_be_struck() -> None:
    with pytest.raises(
        SplitError, match=r"id '99' is not .*; ids are row numbers of the file, 0 to 23"
    ):
        Split.ids(NUMBERS, ["99"])


def test_validation_alone_cannot_be_forgotten() -> None:
    """Nobody learned from it."""
    split = Split.whole(ANIMALS)
    with pytest.raises(SplitError, match=r"only samples that the model never learned from \(valid"):
        Split.ids(ANIMALS, split.validation)


def test_validation_in_a_request_is_set_aside_for_good() -> None:
    whole = Split.whole(ANIMALS)
    split = Split.ids(ANIMALS, [whole.validation[0], whole.retain[0]])
    assert split.forget == (whole.retain[0],)
    assert split.excluded == (whole.validation[0],)
    assert split.validation == whole.validation[1:]


def test_what_was_struck_cannot_be_struck_again() -> None:
    base = struck(ANIMALS, ["photo-02.png", "photo-06.png"])
    with pytest.raises(
        SplitError, match=r"id 'photo-06.png' was struck .* remove it from the list"
    ):
        Split.ids(ANIMALS, ["photo-06.png", "photo-07.png"], base=base)
    with pytest.raises(SplitError, match=r"id 'photo-02.png' was struck"):
        Split.indices(ANIMALS, [2], base=base)


def test_classes_and_groups_leave_out_what_was_struck() -> None:
    base = struck(ANIMALS, ["photo-12.png", "photo-13.png"])
    split = Split.groups(ANIMALS, "person", "p3", base=base)
    assert split.forget == ("photo-14.png", "photo-15.png")
    assert split.excluded == ("photo-12.png", "photo-13.png")
    with pytest.raises(SplitError, match=r"person=p3 names no samples, or all of them were struck"):
        Split.groups(ANIMALS, "person", "p3", base=split.settled())
    dogs = Split.classes(ANIMALS, ["dog"], base=Split.whole(ANIMALS, validation=0)).settled()
    with pytest.raises(SplitError, match=r"class dog names no samples, or all .* were struck"):
        Split.classes(ANIMALS, ["dog"], base=dogs)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([True] * 39, r"the mask is bool of shape \(39,\); give one boolean for each of the 40"),
        ([1] + [0] * 39, r"the mask is int64 of shape \(40,\); give one boolean"),
        (np.ones((40, 1), bool), r"the mask is bool of shape \(40, 1\)"),
        ([False] * 40, "names no samples"),
        ([True] * 40, "names all 36 samples"),
    ],
)
def test_masks_that_cannot_be_met(mask: Any, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        Split.mask(ANIMALS, mask)


@pytest.mark.parametrize("validation", [-0.1, 1, 1.5, math.nan])
def test_validation_is_a_share(validation: float) -> None:
    with pytest.raises(SplitError, match=f"a share from 0 up to below 1, not {validation}"):
        Split.whole(ANIMALS, validation=validation)


def test_a_sample_is_in_one_part_only() -> None:
    with pytest.raises(SplitError, match="id 'b' is in retain and in forget"):
        Split(retain=("a", "b"), forget=("b",))
    with pytest.raises(SplitError, match="id 'a' is in retain and in retain"):
        Split(retain=("a", "a"))


def test_files_that_hold_no_ids(tmp_path: Path) -> None:
    empty, latin = tmp_path / "empty", tmp_path / "latin"
    empty.write_text("\n \n")
    latin.write_bytes(b"caf\xe9\n")
    with pytest.raises(SplitError, match="empty' holds no ids; write one per line"):
        read_ids(str(empty))
    with pytest.raises(SplitError, match=r"cannot read ids from .*latin.*UTF-8"):
        read_ids(str(latin))


def test_excluded_samples_may_be_gone_and_others_not() -> None:
    base = struck(ANIMALS, ["photo-02.png"])
    less = toy([0] * 39, ids=[key for key in ANIMALS.train.ids if key != "photo-02.png"])
    split = Split.ids(less, ["photo-07.png"], base=base)
    assert len(split.rows(less.train, Part.RETAIN)) == 38
    with pytest.raises(SplitError, match=r"1 of the 38 retain samples are not in .*'photo-00.png'"):
        split.rows(toy([0] * 38, ids=less.train.ids[1:].tolist()).train, Part.RETAIN)


def test_forgotten_classes_are_those_that_nothing_is_retained_of() -> None:
    base = Split.whole(ANIMALS, validation=0)
    assert Split.classes(ANIMALS, ["cat"], base=base).forgotten_classes(ANIMALS) == (2,)
    some = Split.indices(ANIMALS, range(2, 20, 4), base=base)
    assert some.forgotten_classes(ANIMALS) == ()
    rest = Split.classes(ANIMALS, ["cat"], base=some.settled())
    assert rest.forgotten_classes(ANIMALS) == (2,)
    both = Split.classes(ANIMALS, ["ant"], base=rest.settled())
    assert both.forgotten_classes(ANIMALS) == (0, 2)
