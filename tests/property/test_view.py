"""The view: every sample once, counted, in the same global batches for any number of processes."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import EVERYTHING, Named, seen, toy, view_of
from hypothesis import assume, given
from hypothesis import strategies as st

from expunge.data.batch import Batch
from expunge.data.cuts import SMALLEST_LAST
from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.transform import Transform
from expunge.data.view import DataView
from expunge.errors import AccessError

SIZES = st.integers(1, 40)
COUNTS = st.integers(1, 70)
EPOCHS = st.integers(0, 5)
WORLDS = (1, 2, 3)


def view(retain: int, forget: int = 0, validation: int = 0, **fields: Any) -> DataView:
    """A view of that many samples; the parts lie interleaved in the data, not one behind another."""
    total = retain + forget + validation
    order = np.random.default_rng(0).permutation(total).astype(str)
    split = Split(
        retain=tuple(order[:retain]),
        forget=tuple(order[retain : retain + forget]),
        validation=tuple(order[retain + forget :]),
    )
    return view_of(toy([i % 3 for i in range(total)]), split, **fields)


def ranks(one: DataView, world: int) -> list[DataView]:
    """The views of all processes."""
    return [replace(one, rank=rank, world=world, reads=Counter()) for rank in range(world)]


def check_contents(batch: Batch) -> None:
    """Inputs and labels are those of the ids: input i is (i, -i), and its label is i mod 3."""
    numbers = torch.tensor([float(name) for name in batch.ids])
    assert torch.equal(batch.inputs, torch.stack([numbers, -numbers], dim=1))
    assert batch.labels is not None
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == [int(name) % 3 for name in batch.ids]


# --- one part


@given(COUNTS, SIZES, EPOCHS, st.booleans())
def test_every_sample_once_an_epoch(count: int, size: int, epoch: int, shuffle: bool) -> None:
    data = view(count, forget=7, validation=3)
    stream = data.batches(Part.RETAIN, size, epoch=epoch, shuffle=shuffle)
    batches = list(stream)
    assert len(stream) == len(batches)
    assert sorted(seen(batches)) == sorted(data.split.retain)
    for batch in batches:
        check_contents(batch)
        assert batch.part is Part.RETAIN
        assert batch.weight == 1.0
    assert data.reads == {Part.RETAIN: count}
    if not shuffle:
        assert seen(batches) == sorted(data.split.retain, key=int)


@given(COUNTS, SIZES)
def test_batches_have_their_size_and_a_short_last_one_joins(count: int, size: int) -> None:
    sizes = [len(batch) for batch in view(count).batches(Part.RETAIN, size)]
    assert sum(sizes) == count
    assert all(length == size for length in sizes[:-1])
    least = min(SMALLEST_LAST, size)
    if len(sizes) > 1:
        assert least <= sizes[-1] < size + least
    else:
        assert sizes[0] < size + least


@given(COUNTS, st.integers(2, 40))
def test_no_batch_of_one_unless_the_part_has_one(count: int, size: int) -> None:
    sizes = [len(batch) for batch in view(count).batches(Part.RETAIN, size)]
    assert min(sizes) >= 2 or count == 1


def test_shuffles_differ_by_epoch_and_repeat_by_seed() -> None:
    def orders(*names: str | int) -> list[list[str]]:
        data = view(60, names=names)
        return [seen(data.batches(Part.RETAIN, 16, epoch=epoch)) for epoch in range(4)]

    first = orders("run", 0)
    assert first == orders("run", 0)
    assert len({tuple(order) for order in first + orders("run", 1)}) == 8


def test_a_stream_is_the_same_however_often_it_is_read() -> None:
    data = view(30)
    stream = data.batches(Part.RETAIN, 8, epoch=2)
    assert seen(stream) == seen(stream) == seen(data.batches(Part.RETAIN, 8, epoch=2))
    assert data.reads[Part.RETAIN] == 90


def test_only_what_was_read_is_counted() -> None:
    data = view(40)
    next(iter(data.batches(Part.RETAIN, 10)))
    assert data.reads[Part.RETAIN] == 10
    assert data.size(Part.RETAIN) == 40
    assert data.source(Part.RETAIN).labels.tolist() == [
        int(name) % 3 for name in sorted(data.split.retain, key=int)
    ]
    assert data.reads[Part.RETAIN] == 10


@given(st.integers(10, 60), st.integers(1, 9), EPOCHS)
def test_the_order_of_the_retain_set_is_that_of_all_with_the_forget_set_left_out(
    count: int, forget: int, epoch: int
) -> None:
    """So an original and its retraining are paired: same order, but for what is forgotten."""
    data = toy([0] * count)
    whole = Split.whole(data, validation=0)
    split = Split.ids(data, whole.retain[:: count // forget][:forget], base=whole)
    before, after = (view_of(data, s, names=("paired", 0)) for s in (whole, split))
    struck = set(split.forget)
    order = seen(before.batches(Part.RETAIN, 8, epoch=epoch))
    assert seen(after.batches(Part.RETAIN, 8, epoch=epoch)) == [
        name for name in order if name not in struck
    ]


# --- several processes


@given(COUNTS, SIZES, EPOCHS)
def test_global_batches_do_not_depend_on_the_number_of_processes(
    count: int, size: int, epoch: int
) -> None:
    data = view(count, forget=2)
    alone = [b.ids.tolist() for b in data.batches(Part.RETAIN, size, epoch=epoch)]
    for world in WORLDS:
        views = ranks(data, world)
        steps = [list(v.batches(Part.RETAIN, size, epoch=epoch)) for v in views]
        assert {len(batches) for batches in steps} == {len(alone)}
        for number, shares in enumerate(zip(*steps, strict=True)):
            shares_read = [batch.ids.tolist() if batch.weight else [] for batch in shares]
            assert sorted(itertools.chain(*shares_read)) == sorted(alone[number])
            assert len(shares) == world
            assert sum(batch.weight for batch in shares) / world == pytest.approx(1)
            for batch in shares:
                check_contents(batch)
                assert len(batch) >= 1  # an idle process gets a stand-in to keep in step
        assert sum((v.reads for v in views), Counter()) == {Part.RETAIN: count}


@given(COUNTS, SIZES, st.sampled_from(WORLDS))
def test_weighted_shares_average_to_the_global_mean(count: int, size: int, world: int) -> None:
    data = view(count)
    whole = [b.inputs[:, 0].double().mean() for b in data.batches(Part.RETAIN, size)]
    shares = [
        [b.inputs[:, 0].double().mean() * b.weight / world for b in v.batches(Part.RETAIN, size)]
        for v in ranks(data, world)
    ]
    for mean, parts in zip(whole, zip(*shares, strict=True), strict=True):
        torch.testing.assert_close(sum(parts), mean)


def test_no_process_is_idle_at_ordinary_sizes() -> None:
    """The last batch has 8 samples or more, so each of up to 8 processes has one of its own."""
    for count in range(16, 60):
        for rank in ranks(view(count), 8):
            assert all(batch.weight > 0 for batch in rank.batches(Part.RETAIN, 16))


IMAGES = torch.randint(0, 256, (30, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def augmented(world: int, source: str, size: int = 7, epoch: int = 3) -> dict[str, torch.Tensor]:
    """The inputs of every sample by id, over all processes."""
    data = toy([0] * 30, inputs=IMAGES)
    one = view_of(data, Split.whole(data, validation=0), transform=Transform(None, "crop_flip"))
    found = {}
    for rank in ranks(one, world):
        part: Any = rank.source(Part.RETAIN)
        if source == "mix":
            part = rank.mix(rank.take(Part.RETAIN, 30))
        for batch in part.batches(size, epoch=epoch):
            if batch.weight:
                found |= dict(zip(batch.ids.tolist(), batch.inputs, strict=True))
    assert len(found) == 30
    return found


@pytest.mark.parametrize("source", ["part", "mix"])
def test_augmentation_of_a_part_does_not_depend_on_the_number_of_processes(source: str) -> None:
    alone = augmented(1, source)
    plain = {str(i): image.float() / 255 for i, image in enumerate(IMAGES)}
    assert sum(not torch.equal(alone[name], plain[name]) for name in plain) > 20
    for world in WORLDS[1:]:
        again = augmented(world, source)
        assert all(torch.equal(alone[name], again[name]) for name in alone)


def test_augmentation_differs_by_epoch_and_can_be_left_out() -> None:
    first, second = augmented(1, "part", epoch=0), augmented(1, "part", epoch=1)
    assert sum(not torch.equal(first[name], second[name]) for name in first) > 20
    data = toy([0] * 30, inputs=IMAGES)
    one = view_of(data, Split.whole(data, validation=0), transform=Transform(None, "crop_flip"))
    for batch in one.batches(Part.RETAIN, 8, augment=False):
        rows = [int(name) for name in batch.ids]
        assert torch.equal(batch.inputs, IMAGES[rows].float() / 255)


# --- subsets, mixes, pairs, tensors


@given(st.integers(1, 60), st.integers(0, 80), st.booleans())
def test_take_is_a_seeded_subset(count: int, n: int, per_class: bool) -> None:
    data = view(count, forget=6)
    taken = data.take(Part.RETAIN, n, per_class=per_class)
    ids = seen(taken.batches(9))
    assert len(ids) == len(set(ids)) == len(taken)
    assert set(ids) <= set(data.split.retain)
    assert data.reads[Part.RETAIN] == len(ids)
    labels = Counter(int(name) % 3 for name in data.split.retain)
    expected = sum(min(n, c) for c in labels.values()) if per_class else min(n, count)
    assert len(ids) == expected
    if per_class:
        found = Counter(int(name) % 3 for name in ids)
        assert all(found[label] == min(n, have) for label, have in labels.items())
    again = seen(data.take(Part.RETAIN, n, per_class=per_class).batches(9))
    assert again == ids


def test_take_depends_on_the_seed_names() -> None:
    drawn = {
        tuple(sorted(seen(view(60, names=("run", seed)).take(Part.RETAIN, 10).batches(10))))
        for seed in range(6)
    }
    assert len(drawn) == 6


@given(st.integers(1, 30), st.integers(1, 30), SIZES, st.sampled_from(WORLDS))
def test_a_mix_holds_every_sample_of_its_sources_once(
    retain: int, forget: int, size: int, world: int
) -> None:
    one = view(retain, forget)
    made = torch.arange(5.0).repeat(2, 1).T * torch.tensor([1.0, -1.0])
    expected = {*one.split.retain, *one.split.forget, *(f"made:{i}" for i in range(5))}
    views = ranks(one, world)
    steps = []
    for data in views:
        mix = data.mix(
            data.source(Part.RETAIN),
            data.source(Part.FORGET),
            data.tensors(made, torch.arange(5) % 3),
        )
        assert len(mix) == len(expected)
        steps.append(list(mix.batches(size)))
    read = [seen(batch for batch in batches if batch.weight) for batches in steps]
    assert sorted(itertools.chain(*read)) == sorted(expected)
    for shares in zip(*steps, strict=True):
        assert sum(batch.weight for batch in shares) / world == pytest.approx(1)
        for batch in shares:
            check_contents(replace(batch, ids=np.char.replace(batch.ids, "made:", "")))
    total = sum((data.reads for data in views), Counter())
    assert total == {Part.RETAIN: retain, Part.FORGET: forget}


def test_a_mix_is_mixed_and_says_where_a_batch_comes_from() -> None:
    data = view(60, 60)
    mix = data.mix(data.source(Part.RETAIN), data.source(Part.FORGET))
    kept = set(data.split.retain)
    for batch in mix.batches(30):
        assert 5 < sum(str(name) in kept for name in batch.ids) < 25
        assert batch.part is None  # of two parts
    orders = {tuple(seen(mix.batches(30, epoch=epoch))) for epoch in range(3)}
    assert len(orders) == 3
    alone = data.mix(data.source(Part.RETAIN))
    assert {batch.part for batch in alone.batches(30)} == {Part.RETAIN}


def test_dictionaries_can_be_mixed() -> None:
    dataset = Words(20)
    data = load_data(dataset)
    split = Split.random(data, 0.3, base=Split.whole(data, validation=0))
    one = view_of(data, split)
    batches = list(one.mix(one.source(Part.RETAIN), one.source(Part.FORGET)).batches(8))
    for batch in batches:
        assert set(batch.inputs) == {"tokens", "length"}
        assert batch.inputs["length"].tolist() == [int(name[1:]) for name in batch.ids]
        assert batch.inputs["tokens"].shape == (len(batch), 4)
    assert len(seen(batches)) == len(data.train)


class Words:
    """Items are dictionaries, as models of the Hugging Face hub want them."""

    def __init__(self, count: int) -> None:
        self.labels = [i % 2 for i in range(count)]
        self.ids = [f"w{i}" for i in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"tokens": torch.full((4,), row), "length": row, "labels": self.labels[row]}


@given(st.integers(1, 40), st.integers(1, 40), SIZES, EPOCHS)
def test_pairs_cycle_the_shorter_side(retain: int, forget: int, size: int, epoch: int) -> None:
    data = view(retain, forget)
    sources = data.source(Part.RETAIN), data.source(Part.FORGET)
    lengths = [len(source.batches(size)) for source in sources]
    pairs = data.pairs(*sources, size, epoch=epoch)
    steps = list(pairs)
    assert len(pairs) == len(steps) == max(lengths)
    for side, ids in enumerate((data.split.retain, data.split.forget)):
        batches = [step[side] for step in steps]
        for start in range(0, len(batches), lengths[side]):
            one_round = seen(batches[start : start + lengths[side]])
            assert len(set(one_round)) == len(one_round)
            assert set(one_round) <= set(ids)
            if start + lengths[side] <= len(batches):
                assert sorted(one_round) == sorted(ids)
    assert data.reads == {
        Part.RETAIN: len(seen(step[0] for step in steps)),
        Part.FORGET: len(seen(step[1] for step in steps)),
    }


def test_the_shorter_side_is_shuffled_anew_each_time_round() -> None:
    data = view(80, 20)
    pairs = data.pairs(data.source(Part.RETAIN), data.source(Part.FORGET), 10)
    order = seen(forget for _, forget in pairs)
    assert len(order) == 80
    rounds = {tuple(order[start : start + 20]) for start in range(0, 80, 20)}
    assert len(rounds) == 4
    assert seen(kept for kept, _ in pairs) == seen(data.batches(Part.RETAIN, 10))
    still = data.pairs(data.source(Part.RETAIN), data.source(Part.FORGET), 10, shuffle=False)
    order = seen(forget for _, forget in still)
    assert order == order[:20] * 4


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("retain", "forget"), [(20, 0), (0, 5), (0, 0)])
def test_pairs_with_nothing_on_one_side_do_not_cycle_for_ever(retain: int, forget: int) -> None:
    data = view(20, 5)
    pairs = data.pairs(data.take(Part.RETAIN, retain), data.take(Part.FORGET, forget), 10)
    assert len(pairs) == 0
    assert list(pairs) == []


@given(st.integers(1, 30), SIZES, st.sampled_from(WORLDS))
def test_tensors_of_a_methods_own_are_not_counted_nor_changed(
    count: int, size: int, world: int
) -> None:
    one = view(10, transform=Transform(None, "crop_flip"))
    inputs = torch.randn(count, 3, 16, 16)
    found = {}
    for data in ranks(one, world):
        for batch in data.tensors(inputs, torch.arange(count)).batches(size):
            assert batch.part is None
            assert batch.labels is not None
            if batch.weight:
                found |= dict(zip(batch.labels.tolist(), batch.inputs, strict=True))
                assert batch.ids.tolist() == [f"made:{row}" for row in batch.labels.tolist()]
        assert not data.reads
    assert sorted(found) == list(range(count))
    assert all(torch.equal(found[row], inputs[row]) for row in found)


# --- the contract


def test_labels_of_the_forget_set_are_counted_and_no_input_is_touched() -> None:
    ids = [f"x{i}" for i in range(12)]
    dataset = Named(torch.zeros(12, 2), [i % 4 for i in range(12)], ids, forbidden=ids)
    data = load_data((dataset, dataset))
    split = Split.ids(data, ["x2", "x7", "x11"], base=Split.whole(data, validation=0))
    one = view_of(data, split, declared=Part.FORGET_LABELS)
    assert one.forget_labels().tolist() == [2, 3, 3]
    assert one.reads == {Part.FORGET_LABELS: 3}
    assert not dataset.read


@pytest.mark.parametrize(
    ("declared", "part", "message"),
    [
        (Part.RETAIN, Part.FORGET, "this method reads forget but declared only retain"),
        (Part.FORGET, Part.RETAIN, "this method reads retain but declared only forget"),
        (
            Part.RETAIN | Part.FORGET,
            Part.VALIDATION,
            "reads validation but declared only retain, forget",
        ),
        (Part.FORGET_LABELS, Part.FORGET, "reads forget but declared only forget_labels"),
        (Part.NONE, Part.RETAIN, "this method reads retain but declared only nothing"),
        (EVERYTHING, Part.RETAIN | Part.FORGET, "one part at a time, not retain and forget"),
        (EVERYTHING, Part.FORGET_LABELS, r"have no inputs: use forget_labels\(\)"),
    ],
)
def test_what_was_not_declared_is_refused_at_the_call(
    declared: Part, part: Part, message: str
) -> None:
    data = view(10, 5, 3, declared=declared)
    for call in (
        lambda: data.batches(part, 4),
        lambda: data.take(part, 2),
        lambda: data.source(part),
    ):
        with pytest.raises(AccessError, match=message):
            call()
    assert not data.reads


def test_labels_of_the_forget_set_must_be_declared_too() -> None:
    with pytest.raises(AccessError, match="reads forget_labels but did not declare"):
        view(10, 5, declared=Part.RETAIN).forget_labels()
    # who reads the samples may read their labels
    assert len(view(10, 5, declared=Part.FORGET).forget_labels()) == 5


@given(st.integers(0, 6))
def test_the_size_of_any_part_is_free(forget: int) -> None:
    assume(forget != 1)
    data = view(10, forget, 2, declared=Part.NONE)
    assert data.size(Part.FORGET) == forget
    assert data.size(Part.VALIDATION) == 2
    assert not data.reads
