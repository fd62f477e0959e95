"""Paired retraining: the original's own batches with the forget set struck out, and its floor."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, named_digits, run_on_cpu, same_state, seen, toy, view_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from expunge.api import adopt, audit, train, unlearn
from expunge.audits.weights import floor_in, layer_distances
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.transform import Transform
from expunge.data.view import DataView
from expunge.errors import ConfigError
from expunge.methods.retrain import Retrain
from expunge.names.seeds import numpy_generator, seed_for, torch_generator
from expunge.scores.shown import score_notes
from expunge.trained.record import Record, pairing
from expunge.trained.trained import Trained
from expunge.training.fit import train_from
from expunge.training.recipe import Recipe

NAMES = ("original", 0)
SIZE = 16
RECIPE = Recipe(
    epochs=3,
    batch_size=SIZE,
    lr=0.05,
    momentum=0.0,
    weight_decay=0.0,
    schedule="constant",
    augmentation="none",
    precision="float32",
)


BARE = Retrain(paired=True, floor=False)


class Exact(nn.Module):
    """A small network in float64 on (n, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(192, 6), nn.Tanh(), nn.Linear(6, 3)).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double().contiguous().flatten(1))
        return logits


class Normed(nn.Module):
    """With BatchNorm, which cannot train on one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(192, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.contiguous().flatten(1))
        return logits


@functools.cache
def pictures(count: int = 45) -> Data:
    """45 float pictures of three classes; of 40, the last batch of 16 has 8."""
    drawn = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return toy([i % 3 for i in range(count)], inputs=drawn)


def learned() -> Split:
    """40 of them, five held back for validation."""
    names = pictures().train.ids.tolist()
    return Split(retain=tuple(names[5:]), validation=tuple(names[:5]))


def original(recipe: Recipe = RECIPE, make: Any = Exact) -> Trained:
    return train(pictures(), make, recipe=recipe, split=learned(), place=CPU)


def whole_batches(epoch: int, size: int = SIZE) -> list[list[int]]:
    """The original's batches as rows, by hand: a last one under 8 would join; here it has 8."""
    keys = numpy_generator(*NAMES, "order", epoch).random(45)
    order = sorted(range(5, 45), key=lambda row: keys[row])
    return [order[start : start + size] for start in range(0, 40, size)]


def alone_in_the_last_batch() -> list[str]:
    """Seven of the last batch of epoch 0: one sample is left of it."""
    return [str(row) for row in whole_batches(0)[-1][:7]]


def by_hand(recipe: Recipe, struck: set[int]) -> nn.Module:
    """A loop over the original's batches without the struck rows, picture after picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(*NAMES, "weights"))
        model = Exact()
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr)
    steps = recipe.epochs * 3
    schedule: Any = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    if recipe.schedule == "onecycle":
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=recipe.lr, total_steps=steps + 1, cycle_momentum=False
        )
    inputs = pictures().train.store.whole()
    assert inputs is not None
    for epoch in range(recipe.epochs):
        left = [[row for row in rows if row not in struck] for rows in whole_batches(epoch)]
        joined = [left[0]]
        for rows in left[1:]:
            if len(rows) < 2:
                joined[-1] = joined[-1] + rows
            else:
                joined.append(rows)
        for rows in joined:
            images = torch.stack([cropped(inputs[row], row, epoch, recipe) for row in rows])
            labels = torch.tensor([row % 3 for row in rows])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
        for _ in range(len(left) - len(joined)):
            schedule.step()
    return model


def cropped(image: Tensor, row: int, epoch: int, recipe: Recipe) -> Tensor:
    """One picture by its own draws, which stand at its row among those of all 45."""
    if recipe.augmentation == "none":
        return image
    generator = torch_generator(*NAMES, "augment", epoch)
    tops, lefts = (torch.randint(0, 3, (45,), generator=generator) for _ in range(2))
    flips = torch.rand(45, generator=generator) < 0.5
    padded = nn.functional.pad(image, (1, 1, 1, 1))
    top, left = int(tops[row]), int(lefts[row])
    window = padded[:, top : top + 8, left : left + 8]
    return window.flip(-1) if flips[row] else window


def apart(one: nn.Module, other: nn.Module) -> float:
    return layer_distances(one, other)[""].relative


# --- the same weights as slow code


@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
@pytest.mark.parametrize("augmentation", ["none", "crop_flip"])
def test_it_is_a_loop_over_the_originals_batches_without_the_struck(
    augmentation: Any, schedule: Any
) -> None:
    recipe = RECIPE.but(augmentation=augmentation, schedule=schedule)
    first = original(recipe)
    assert apart(first.model, by_hand(recipe, set())) < 1e-12
    struck = alone_in_the_last_batch()
    made = unlearn(first, struck, BARE, place=CPU)
    assert apart(made.model, by_hand(recipe, {int(name) for name in struck})) < 1e-12
    assert made.record.names == first.began
    assert made.record.cost.reads["retain"] == 3 * 33
    assert made.record.cost.reads["forget"] == 0
    filled = unlearn(first, struck, "retrain", names=first.began, place=CPU)
    assert apart(made.model, filled.model) > 1e-6


@pytest.mark.parametrize("make", [Exact, Normed])
def test_with_nothing_struck_it_is_the_original_to_the_bit(make: Any) -> None:
    recipe = RECIPE.but(momentum=0.9, schedule="onecycle", augmentation="crop_flip")
    first = original(recipe, make)
    run = run_on_cpu(names=NAMES, constructor=make)
    view = view_of(
        pictures(), learned(), names=NAMES, cut="struck", transform=Transform(None, "crop_flip")
    )
    model = run.fresh()
    train_from(model, view, run, recipe)
    assert same_state(model.eval(), first.model)


def test_batch_norm_trains_where_one_sample_is_left_of_a_batch() -> None:
    first = original(make=Normed)
    made = unlearn(first, alone_in_the_last_batch(), "retrain:paired", place=CPU)
    assert all(torch.isfinite(value).all() for value in made.model.state_dict().values())
    assert made.record.log["floor"]["l2"] > 0


def test_data_that_are_streamed_are_struck_alike() -> None:
    watched, data = named_digits()
    recipe = RECIPE.but(epochs=2)
    first = train(data, "mlp", recipe=recipe, place=CPU)
    split = first.asked("random:0.2")
    view = view_of(data, first.split, names=NAMES)
    order = [name for epoch in range(2) for name in seen(view.batches(Part.RETAIN, 9, epoch=epoch))]
    watched.read.clear()
    watched.forbidden = set(split.forget)
    unlearn(first, split, BARE, place=CPU)
    shape, *read = watched.read
    assert shape == first.split.retain[0]
    assert read == [name for name in order if name not in watched.forbidden]


def test_a_rate_that_watches_validation_works() -> None:
    first = original(RECIPE.but(schedule="plateau"))
    made = unlearn(first, ["7", "8"], "retrain:paired", place=CPU)
    assert made.record.cost.reads["validation"] == 3 * 5


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
def test_batches_that_fall_together_leave_the_rate_in_its_bounds(size: int, schedule: Any) -> None:
    recipe = RECIPE.but(batch_size=size, schedule=schedule, lr=1e-3)
    first = original(recipe, Normed if size > 1 else Exact)
    split = first.asked("random:0.6")
    made = unlearn(first, split, BARE, place=CPU)
    assert made.record.cost.reads["retain"] == 3 * len(split.retain)


# --- the batches


def struck_by_hand(batches: list[list[str]], struck: set[str], size: int) -> list[list[str]]:
    found: list[list[str]] = []
    waiting: list[str] = []
    for batch in batches:
        left = [name for name in batch if name not in struck]
        if len(waiting + left) >= min(2, size):
            found.append(waiting + left)
            waiting = []
        elif found:
            found[-1] += left
        else:
            waiting += left
    return [*found, waiting] if waiting else found


def split_of(count: int, forget: int, seed: int) -> tuple[Data, Split]:
    order = np.random.default_rng(seed).permutation(count).astype(str)
    data = toy([0] * count)
    return data, Split(retain=tuple(order[forget:]), forget=tuple(order[:forget]))


@given(st.integers(1, 70), st.data(), st.integers(1, 30), st.integers(0, 3))
def test_struck_batches_are_the_whole_sets_without_the_forget_set(
    count: int, choice: st.DataObject, size: int, epoch: int
) -> None:
    forget = choice.draw(st.integers(0, count - 1))
    data, split = split_of(count, forget, seed=count)
    before = view_of(data, split.whole_again(), names=NAMES).batches(Part.RETAIN, size, epoch=epoch)
    batches = [batch.ids.tolist() for batch in before]
    view = view_of(data, split, Part.RETAIN, names=NAMES, cut="struck")
    stream = view.batches(Part.RETAIN, size, epoch=epoch)
    expected = struck_by_hand(batches, set(split.forget), size)
    assert [batch.ids.tolist() for batch in stream] == expected
    assert len(stream) == len(before), "the rate goes by the original's steps"
    assert view.reads == {Part.RETAIN: count - forget}
    again = [replace(view, rank=rank, world=3, reads=Counter()) for rank in range(3)]
    shares = zip(*(one.batches(Part.RETAIN, size, epoch=epoch) for one in again), strict=True)
    for step, parts in zip(expected, shares, strict=True):
        assert sorted(seen(part for part in parts if part.weight)) == sorted(step)


@given(st.integers(1, 70), st.integers(1, 30))
def test_shifted_batches_are_the_same_order_cut_elsewhere(count: int, size: int) -> None:
    data, split = split_of(count, 0, seed=1)
    views = [view_of(data, split, names=NAMES, cut=cut) for cut in ("filled", "shifted")]
    filled, shifted = ([b.ids.tolist() for b in v.batches(Part.RETAIN, size)] for v in views)
    assert list(itertools.chain(*shifted)) == list(itertools.chain(*filled))
    ends = [set(np.cumsum([len(batch) for batch in one])[:-1]) for one in (filled, shifted)]
    if size > 1:
        assert not ends[0] & ends[1]
    still = [seen(v.batches(Part.RETAIN, size, shuffle=False)) for v in views]
    assert still[0] == still[1]


def augmented(view: DataView, size: int) -> dict[str, Tensor]:
    return {
        name: image
        for batch in view.batches(Part.RETAIN, size, epoch=2)
        for name, image in zip(batch.ids.tolist(), batch.inputs, strict=True)
    }


def test_a_samples_augmentation_is_its_own() -> None:
    """Whoever else is read, in batches of whatever size; by its place in the training data."""
    data = pictures()
    whole = Split.whole(data, validation=0)
    some = Split.indices(data, range(0, 45, 4), base=whole)
    transform = Transform(None, "crop_flip")
    all_, few = (view_of(data, s, names=NAMES, transform=transform) for s in (whole, some))
    first = augmented(all_, 45)
    for found in (augmented(all_, 7), augmented(few, 9), augmented(replace(few, cut="struck"), 9)):
        assert all(torch.equal(first[name], image) for name, image in found.items())
    taken = few.take(Part.RETAIN, 10).batches(3, epoch=2)
    for batch in taken:
        for name, image in zip(batch.ids.tolist(), batch.inputs, strict=True):
            assert torch.equal(first[name], image)
    plain = augmented(view_of(data, whole, names=NAMES), 45)
    assert sum(not torch.equal(first[name], plain[name]) for name in first) > 35


# --- the floor


def test_the_floor_is_the_distance_of_the_originals_training_again() -> None:
    first = original()
    before = copy.deepcopy(first.model)
    made = unlearn(first, ["7", "8", "9"], "retrain:paired", place=CPU)
    assert same_state(first.model, before)
    run = run_on_cpu(names=NAMES, constructor=Exact)
    again = run.fresh()
    train_from(again, view_of(pictures(), learned(), names=NAMES, cut="shifted"), run, RECIPE)
    expected = layer_distances(again, first.model)
    floor = floor_in(made.record)
    assert floor is not None and 0 < floor["relative"] == pytest.approx(expected[""].relative)
    assert floor["l2"] == pytest.approx(expected[""].l2)
    layers = {name: one["relative"] for name, one in floor["layers"].items()}
    assert layers == pytest.approx({n: one.relative for n, one in expected.items() if n})
    cost = made.record.cost
    assert cost.reads["retain"] == 3 * 37 and cost.epoch_equivalents == 3
    assert cost.reported_reads == {"retain": 3 * 40} and cost.reported_seconds > 0
    bare = unlearn(first, ["7", "8", "9"], BARE, place=CPU)
    assert same_state(bare.model, made.model), "it changes nothing"
    assert floor_in(bare.record) is None and not bare.record.cost.reported_reads


def test_an_original_that_came_away_from_its_training_has_no_floor() -> None:
    tuned = unlearn(original(), ["7", "8"], "finetune", place=CPU)
    made = unlearn(tuned, ["9"], "retrain:paired", place=CPU)
    assert "floor" not in made.record.log and made.record.settings["paired"]


def test_the_score_says_how_much_of_it_is_there_with_nothing_forgotten() -> None:
    first = original()
    split = first.asked(["7", "8", "9"])
    tuned = unlearn(first, split, "finetune", place=CPU)
    told = {}
    for name, method, names in (
        ("batches", "retrain:paired", None),
        ("bare", BARE, None),
        ("order", "retrain", first.began),
        ("none", "retrain", None),
    ):
        reference = unlearn(first, split, method, names=names, place=CPU)
        score = audit(tuned, retrained=reference, also="weight_distance", place=CPU)
        detail = score["weight_distance"].detail
        assert detail["paired"] == ("batches" if name == "bare" else name)
        assert detail["floor"] == floor_in(reference.record)
        (told[name],) = score_notes([score["weight_distance"]])
    assert "its floor is" in told["batches"] and "no floor was made" in told["bare"]
    assert "but in other batches" in told["order"]
    assert "began elsewhere" in told["none"]


@pytest.mark.parametrize(
    "floor",
    [
        None,
        3,
        {"l2": 1.0, "relative": 1.0},
        {"l2": "1", "relative": 1.0, "layers": {}},
        {"l2": math.nan, "relative": 1.0, "layers": {}},
        {"l2": 1.0, "relative": 1.0, "layers": {"a": 3}},
        {"l2": 1.0, "relative": 1.0, "layers": {"a": {"l2": -1.0, "relative": 0.0}}},
    ],
)
def test_a_floor_in_a_strangers_record_that_cannot_be_is_none(floor: Any) -> None:
    assert floor_in(Record(step="retrain", log={"floor": floor})) is None


# --- what is paired with what


def test_only_a_retraining_in_the_originals_batches_is_paired_with_it() -> None:
    begin = Record(step="train", names=NAMES)
    struck = Record(step="retrain", names=NAMES, settings={"paired": True})
    old = Record(step="retrain", names=NAMES)
    other = Record(step="retrain", names=("retrain", 0))
    cut = Record(step="prune", names=NAMES)
    assert pairing((begin,), (begin, struck)) == "batches"
    assert pairing((begin, Record(step="unsir")), (begin, struck)) == "batches"
    assert pairing((begin,), (begin, old)) == "order", "of earlier versions, or by names alone"
    assert pairing((begin,), (begin,)) == "order"
    assert pairing((begin, struck), (begin, struck)) == "order", "struck of another whole"
    assert pairing((begin,), (begin, other)) == "none"
    before = Record(step="finetune", forgotten=9)
    mine = (begin, before, Record(step="unsir", forgotten=3))
    assert pairing(mine, (begin, before, struck)) == "order", (
        "its batches are of what was left by then"
    )
    assert pairing((begin, cut), (begin, struck)) is None
    assert pairing((Record(step="import"),), (begin, struck)) is None


def test_what_cannot_be_paired_is_refused() -> None:
    first = original()
    adopted = adopt(first.model, pictures(), recipe=RECIPE, fresh=Exact, split=learned())
    with pytest.raises(ConfigError, match=r"nobody knows the weights that it began with"):
        unlearn(adopted, ["7"], "retrain:paired", place=CPU)
    named = unlearn(adopted, ["7"], BARE, names=NAMES, place=CPU)
    found = unlearn(first, ["7"], BARE, place=CPU)
    assert same_state(named.model, found.model), "whoever knows them says so"
