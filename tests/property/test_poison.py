"""Poison: what must hold for any images, trigger, share and target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import toy
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from expunge.data.load import Data, poisoned
from expunge.data.poison import Poison
from expunge.data.poisoned import PoisonedStore, poison_samples, with_trigger
from expunge.data.samples import ResidentStore, StreamStore
from expunge.data.split import Split, some_of
from expunge.data.triggers import Patch
from expunge.data.triggers.patch import CORNERS, PLACES
from expunge.errors import DataError

CPU = torch.device("cpu")
CLASSES = ["ant", "bee", "cat", "dog"]


class Streamed(torch.utils.data.Dataset[Tensor]):
    """The same images, read one by one."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        return self.images[row]


@st.composite
def images(draw: st.DrawFn, least: int = 8, most: int = 40) -> Tensor:
    """(n, channels, height, width), uint8 or float in [0, 1]."""
    count = draw(st.integers(least, most))
    shape = (draw(st.sampled_from([1, 3])), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    # 7 to 200: no pixel has the colour of a patch by chance
    pixels = torch.randint(7, 201, (count, *shape), generator=generator, dtype=torch.uint8)
    return pixels if draw(st.booleans()) else pixels.float() / 255


@st.composite
def patches(draw: st.DrawFn) -> Patch:
    place: Any = draw(st.sampled_from(PLACES) | st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return Patch(size, place, draw(st.integers(0, 2)), (draw(st.sampled_from([0, 3, 220, 255])),))


def expected_box(patch: Patch, height: int, width: int) -> tuple[int, int, int, int]:
    """First row, last row, first column, last column of the patch, written out by hand."""
    rows, columns = patch.size
    if isinstance(patch.place, tuple):
        top, left = patch.place
    elif patch.place == "centre":
        top, left = (height - rows) // 2, (width - columns) // 2
    else:
        vertical, horizontal = patch.place.split("-")
        top = patch.margin if vertical == "top" else height - patch.margin - rows
        left = patch.margin if horizontal == "left" else width - patch.margin - columns
    return top, top + rows - 1, left, left + columns - 1


def data_of(inputs: Tensor, seed: int) -> Data:
    labels = np.random.default_rng(seed).integers(0, len(CLASSES), len(inputs)).tolist()
    names = [f"s{number}" for number in np.random.default_rng(seed).permutation(len(inputs))]
    return toy(labels, inputs=inputs, ids=names, classes=CLASSES)


@given(images(), patches())
def test_a_patch_is_where_it_should_be_and_nowhere_else(inputs: Tensor, patch: Patch) -> None:
    height, width = inputs.shape[2:]
    top, bottom, left, right = expected_box(patch, height, width)
    before = inputs.clone()
    if top < 0 or left < 0 or bottom >= height or right >= width:
        with pytest.raises(DataError, match="does not fit"):
            patch.apply(inputs)
        return
    out = patch.apply(inputs)
    assert torch.equal(inputs, before)
    assert out.dtype == inputs.dtype and out.shape == inputs.shape
    scale = 1 if inputs.dtype == torch.uint8 else 255
    colour = torch.tensor(float(patch.colour[0]))
    for row in range(height):
        for column in range(width):
            pixels = out[:, :, row, column]
            if top <= row <= bottom and left <= column <= right:
                laid = pixels.float() * scale
                assert torch.allclose(laid, colour.expand_as(laid), rtol=0, atol=1e-4)
            else:
                assert torch.equal(pixels, inputs[:, :, row, column])


@given(images(), st.floats(0.01, 0.99), st.sampled_from(CLASSES), st.integers(0, 99))
def test_share_place_and_labels_are_exact(
    inputs: Tensor, share: float, target: str, seed: int
) -> None:
    data = data_of(inputs, seed)
    count = round(share * len(inputs))
    poison = Poison(Patch((1, 2), (2, 1), colour=(255,)), share, target, seed)
    if count in (0, len(inputs)):
        with pytest.raises(DataError, match="poisons some and leaves some"):
            poison_samples(data.train, poison, CLASSES)
        return
    before, labels = inputs.clone(), data.train.labels.copy()
    made, known = poison_samples(data.train, poison, CLASSES)
    whole = made.store.whole()
    assert whole is not None
    pixel = 255 if inputs.dtype == torch.uint8 else 1.0
    carries = (whole[:, :, 2, 1:3] == pixel).flatten(1).all(dim=1).numpy()
    assert carries.sum() == count == len(known.ids)
    assert set(made.ids[carries].tolist()) == known.ids
    assert (made.labels[carries] == CLASSES.index(target)).all()
    assert (made.labels[~carries] == labels[~carries]).all()
    assert torch.equal(whole[~torch.from_numpy(carries)], before[~torch.from_numpy(carries)])
    assert known.own == {
        str(name)
        for name, label in zip(data.train.ids, labels, strict=True)
        if name in known.ids and CLASSES[label] == target
    }
    # ids and order stay, and the clean copy is the one that was given, bit for bit
    assert made.ids.tolist() == data.train.ids.tolist()
    assert torch.equal(inputs, before)
    assert data.train.store.whole() is inputs
    assert (data.train.labels == labels).all()


@given(images(), st.integers(0, 99), st.booleans(), st.data())
def test_every_way_of_reading_agrees(
    inputs: Tensor, seed: int, streamed: bool, draw: st.DataObject
) -> None:
    before = inputs.clone()
    marked = np.random.default_rng(seed).random(len(inputs)) < 0.4
    trigger = Patch((2, 2), "top-left", 1, (255,))
    clean = StreamStore(Streamed(inputs)) if streamed else ResidentStore(inputs)
    store = PoisonedStore(clean, marked, trigger)
    expected = torch.stack(
        [
            trigger.apply(inputs[i : i + 1])[0] if marked[i] else inputs[i]
            for i in range(len(inputs))
        ]
    )
    everything = np.arange(len(inputs))
    order = np.array(draw.draw(st.permutations(everything.tolist())))
    batches = [order[start : start + 3] for start in range(0, len(order), 3)]
    assert torch.equal(store.fetch(order, CPU), expected[order])
    assert torch.equal(torch.cat(list(store.stream(batches, CPU))), expected[order])
    some = store.rows(order[:5])
    assert torch.equal(some.fetch(np.array([4, 0]), CPU), expected[order[[4, 0]]])
    whole = store.whole()
    assert (whole is None) == streamed
    if whole is not None:
        assert torch.equal(whole, expected)
        whole.zero_()  # whoever writes to what was handed out does not reach the clean images
    store.fetch(everything, CPU).zero_()
    assert torch.equal(inputs, before)


@given(images(), st.integers(0, 50), st.integers(0, 50))
def test_the_draw_depends_on_its_seed_alone(inputs: Tensor, one: int, other: int) -> None:
    data = data_of(inputs, 0)

    def drawn(seed: int, **fields: Any) -> frozenset[str]:
        poison = Poison(**{"share": 0.3, "poison_seed": seed, "trigger": Patch((1, 1)), **fields})
        return poison_samples(data.train, poison, CLASSES)[1].ids

    assert drawn(one) == drawn(one)
    assert drawn(one) == drawn(one, target="dog", trigger=Patch((2, 1), "centre"))
    if one == other:
        assert drawn(one) == drawn(other)


def test_draws_differ_by_seed_and_take_from_every_class() -> None:
    data = toy([0, 1, 2, 3] * 50, inputs=torch.zeros(200, 1, 8, 8, dtype=torch.uint8))
    made = [poisoned(data, Poison(poison_seed=seed)) for seed in range(30)]
    assert len({one.poison.ids for one in made if one.poison}) == 30
    labels = {
        int(data.train.labels[int(name)]) for one in made if one.poison for name in one.poison.ids
    }
    assert labels == {0, 1, 2, 3}


@given(images(), st.floats(0.05, 0.9))
def test_the_triggered_test_set_keeps_its_labels_and_leaves_the_clean_one(
    inputs: Tensor, share: float
) -> None:
    data = data_of(inputs, 1)
    before = inputs.clone()
    laid = with_trigger(data.train, Patch((1, 1), (0, 0), colour=(255,)))
    assert laid.labels is data.train.labels and laid.ids is data.train.ids
    out = laid.store.fetch(np.arange(len(inputs)), CPU)
    assert (out[:, :, 0, 0] == (255 if inputs.dtype == torch.uint8 else 1)).all()
    assert torch.equal(inputs, before)
    assert laid.fingerprint != data.train.fingerprint


@given(images(least=20), st.floats(0.2, 0.8), st.floats(0.05, 1), st.integers(0, 99))
def test_a_request_for_part_of_the_poison(
    inputs: Tensor, share: float, known: float, seed: int
) -> None:
    data = poisoned(data_of(inputs, 2), Poison(Patch((1, 1)), share))
    assert data.poison is not None
    base = Split.whole(data, validation=0.2)
    learned = data.poison.ids & set(base.retain)
    count = round(known * len(learned))
    assume(count > 0)
    split = Split.poison(data, known, seed=seed, base=base)
    assert len(split.forget) == count
    assert set(split.forget) <= learned
    assert {*split.retain, *split.forget} == set(base.retain)
    assert split == Split.parse(data, f"poison:{known!r}", seed=seed, base=base)
    everything = Split.parse(data, "poison", base=base)
    assert set(everything.forget) == learned
    assert set(everything.excluded) == data.poison.ids & set(base.validation)


@given(st.integers(1, 60), st.floats(0.05, 1), st.floats(0.05, 1), st.integers(0, 99))
def test_who_finds_more_has_found_the_same_before(
    count: int, one: float, other: float, seed: int
) -> None:
    ids = [str(number) for number in range(count)]
    less, more = sorted((one, other))
    assume(round(less * count))
    assert set(some_of(ids, less, seed)) <= set(some_of(ids, more, seed))
    assert len(set(some_of(ids, more, seed))) == round(more * count)


def test_corners_mirror_each_other() -> None:
    inputs = torch.full((1, 1, 7, 9), 100, dtype=torch.uint8)
    drawn = {corner: Patch((2, 3), corner, 1).apply(inputs) for corner in CORNERS}
    assert torch.equal(drawn["top-left"], drawn["top-right"].flip(3))
    assert torch.equal(drawn["top-left"], drawn["bottom-left"].flip(2))
    assert torch.equal(drawn["top-left"], drawn["bottom-right"].flip(2, 3))
    assert len({tuple(one.flatten().tolist()) for one in drawn.values()}) == 4
