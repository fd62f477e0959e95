"""Adversaries and what they rest on: bounds of pictures, samples derived from others, rows gathered."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import batch_of, digits, named_digits, run_on_cpu, toy, unlearned, view_of
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.derived import DerivedSource
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.samples import row_ids
from expunge.data.split import Split
from expunge.data.transform import Normalisation, Transform
from expunge.errors import AccessError, ConfigError
from expunge.methods.amun import Amun
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.shared.attack import (
    Attack,
    ascent,
    check_movable,
    lengths,
    looked_at,
    sign_step,
)

COLOURS = Normalisation((0.2, 0.5, 0.9), (0.1, 0.25, 0.5))


def pictures(count: int = 12) -> Data:
    """Colour pictures of 2 x 2 pixels, black and white ones among them."""
    bytes_ = torch.randint(0, 256, (count, 3, 2, 2), generator=torch.Generator().manual_seed(1))
    bytes_[0], bytes_[1] = 0, 255
    return toy([i % 3 for i in range(count)], inputs=bytes_.to(torch.uint8))


def first(data: Data, part: Part = Part.FORGET, **fields: Any) -> Any:
    """The source of a part that has the first six samples, by a view."""
    split = Split.indices(data, range(6), base=Split.whole(data, validation=0))
    return view_of(data, split, **fields).source(part)


# --- bounds


def test_bounds_of_pictures_go_channel_by_channel_through_the_normalisation() -> None:
    source = first(pictures().with_normalisation(COLOURS))
    low, high = source.bounds
    assert low.shape == high.shape == (3, 1, 1)
    torch.testing.assert_close(low.flatten(), torch.tensor([-2.0, -2.0, -1.8]))
    torch.testing.assert_close(high.flatten(), torch.tensor([8.0, 2.0, 0.2]))
    batch = next(iter(source.batches(6, shuffle=False)))
    assert torch.equal(batch.inputs[0], low.expand(3, 2, 2)), "black is the lowest, to the bit"
    assert torch.equal(batch.inputs[1], high.expand(3, 2, 2))


def test_bounds_without_normalisation_are_0_and_1() -> None:
    low, high = first(pictures()).bounds
    assert torch.equal(low, torch.zeros(3, 1, 1))
    assert torch.equal(high, torch.ones(3, 1, 1))


def test_bounds_of_vectors_of_bytes_go_feature_by_feature() -> None:
    bytes_ = torch.zeros(12, 2, dtype=torch.uint8)
    data = toy([0, 1] * 6, inputs=bytes_).with_normalisation(Normalisation((0.5, 0), (0.5, 2)))
    low, high = first(data).bounds
    assert (low.tolist(), high.tolist()) == ([-1, 0], [1, 0.5])


def test_nobody_knows_the_bounds_of_other_numbers() -> None:
    assert first(toy([0, 1] * 6)).bounds is None
    assert first(toy([0, 1] * 6, inputs=torch.zeros(12, 5, dtype=torch.int64))).bounds is None


def test_bounds_of_streamed_data_read_one_sample_of_that_part_and_count_it() -> None:
    dataset, data = named_digits(40)
    split = Split.random(data, 0.2)
    view = view_of(data, split)
    assert view.source(Part.FORGET).bounds is None, "floats between 0 and 1, as it happens"
    assert set(dataset.read) <= set(split.forget)
    assert view.reads[Part.FORGET] == len(dataset.read) == 1
    dataset.inputs = (dataset.inputs * 255).to(torch.uint8)
    low, _ = view_of(data, split, transform=Transform()).source(Part.FORGET).bounds  # type: ignore[misc]
    assert torch.equal(low, torch.zeros(1, 1, 1))
    with pytest.raises(AccessError):
        view_of(data, split, Part.RETAIN).source(Part.FORGET)


# --- derived samples


def test_derived_samples_keep_ids_and_part_and_are_never_augmented() -> None:
    data = digits()
    view = view_of(
        data, Split.random(data, 0.1), transform=Transform(data.normalisation, "crop_flip")
    )
    struck = view.source(Part.FORGET)
    plain = {str(b.ids[i]): b.inputs[i] for b in struck.batches(8, augment=False) for i in range(8)}
    view.reads.clear()
    other = DerivedSource(struck, lambda batch: batch.relabelled(batch.labels + 1))  # type: ignore[operator]
    mixed = view.mix(view.source(Part.RETAIN), other)
    ids: list[str] = []
    for batch in mixed.batches(64, epoch=3):
        for i in torch.nonzero(batch.forget).flatten().tolist():
            ids.append(str(batch.ids[i]))
            if ids[-1] in plain:
                assert torch.equal(batch.inputs[i], plain[ids[-1]])
    assert sorted(ids) == sorted(view.split.forget)
    assert view.reads[Part.FORGET] == len(struck) == len(other)
    for one, two in zip(other.batches(8, epoch=2), struck.batches(8, epoch=2), strict=True):
        assert one.ids.tolist() == two.ids.tolist()
        assert torch.equal(one.labels, two.labels + 1)  # type: ignore[arg-type, operator]
        assert one.part is Part.FORGET
        assert one.forget.all()


# --- rows of all processes


class Fellow:
    """As much of an accelerator as adds up over processes: two threads that wait for each other."""

    device = torch.device("cpu")

    def __init__(self, rank: int, held: list[Any], gate: threading.Barrier) -> None:
        self.process_index, self.num_processes = rank, len(held)
        self.held, self.gate = held, gate

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        self.held[self.process_index] = tensor
        self.gate.wait(10)
        total: Tensor = sum(self.held)  # type: ignore[assignment]
        self.gate.wait(10)
        return total


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_of_all_processes_come_in_the_order_of_the_batch(count: int) -> None:
    """The second of two processes has a stand-in where there is one sample."""
    data = toy([0, 1] * 6)
    split = Split.indices(data, range(count), base=Split.whole(data, validation=0))
    held: list[Any] = [None, None]
    gate = threading.Barrier(2)
    found: dict[int, Tensor] = {}

    def process(rank: int) -> None:
        run = run_on_cpu(accelerator=Fellow(rank, held, gate))
        view = view_of(data, split, rank=rank, world=2)
        batch = next(iter(view.batches(Part.FORGET, 8, shuffle=False)))
        found[rank] = run.gathered(batch.inputs, batch)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = next(iter(view_of(data, split).batches(Part.FORGET, 8, shuffle=False)))
    assert len(whole) == count
    for rank in range(2):
        assert torch.equal(found[rank], whole.inputs)
    alone = run_on_cpu().gathered(whole.inputs.requires_grad_(True), whole)
    assert torch.equal(alone, whole.inputs)
    assert not alone.requires_grad


# --- the attack


class Linear(nn.Module):
    """Two classes in float64, told apart by a plane."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.head = nn.Linear(5, 2).double()
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs.double())
        return logits


def points(count: int = 40) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(3)).double()


ATTACK = Attack(epsilon=0.04, steps=50, step_size=0.1, rounds=12)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_an_adversary_of_a_linear_model_lies_on_the_normal_just_across(scale: float) -> None:
    """At a scale of 1e4 cross-entropy is 0, and so is its gradient: the direction must not vanish."""
    model, x = Linear(scale), points()
    w = (model.head.weight[1] - model.head.weight[0]).detach()
    b = (model.head.bias[1] - model.head.bias[0]).detach()
    margin = x @ w + b
    labels = (margin > 0).long()
    found = ATTACK(model, x, labels, None)
    move = found - x
    assert (model(found).argmax(1) != labels).all()
    assert torch.nn.functional.cosine_similarity(move, -w * margin.sign()[:, None]).min() > 1 - 1e-9
    reach = (2 * margin.abs() / w.norm()).clamp(min=0.04)
    assert (move.norm(dim=1) <= reach * (1 + 1e-9)).all()


def test_a_sample_that_is_wrong_already_is_its_own_adversary() -> None:
    model, x = Linear(), points()
    wrong = 1 - model(x).argmax(1)
    assert torch.equal(ATTACK(model, x, wrong, None), x)


def test_a_sample_that_no_radius_moves_stays() -> None:
    model, x = Linear(), points()
    labels = model(x).argmax(1)
    found = replace(ATTACK, rounds=1, epsilon=1e-9)(model, x, labels, None)
    assert torch.equal(found, x)


def test_the_direction_is_that_of_cross_entropy_and_of_no_other_sample() -> None:
    model, x = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4)).double(), points(6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    inputs = x.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(model(inputs), labels, reduction="sum")
    (wanted,) = torch.autograd.grad(loss, inputs)
    found = ascent(model, x, labels)
    assert torch.nn.functional.cosine_similarity(found, wanted).min() > 1 - 1e-9
    for i in range(6):
        alone = ascent(model, x[i : i + 1], labels[i : i + 1])
        torch.testing.assert_close(alone, found[i : i + 1])
    assert (lengths(torch.zeros(3, 2)) > 0).all()


def test_half_precision_has_a_direction_too() -> None:
    """A fill of -1e10 would be none in float16."""
    weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).half()
    found = ascent(lambda x: x @ weights, points(4).half(), torch.tensor([0, 1, 2, 0]))
    assert found.dtype == torch.float16
    assert bool(found.isfinite().all())
    assert bool((lengths(found) > 0.1).all())


def test_moved_pictures_stay_between_black_and_white() -> None:
    data = pictures().with_normalisation(COLOURS)
    source = first(data)
    batch = next(iter(source.batches(6, shuffle=False)))
    low, high = source.bounds

    def logits(inputs: Tensor) -> Tensor:  # no picture at all is taken for another class
        total = inputs.flatten(1).sum(1)
        return torch.stack([total + 1e6, -total], dim=1)

    labels = torch.zeros(6, dtype=torch.int64)
    moved = replace(ATTACK, rounds=10)._within(30.0, logits, batch.inputs, labels, (low, high))
    for far in (moved, sign_step(logits, batch.inputs, labels, (low, high), 1.5)):
        assert (far >= low).all()
        assert (far <= high).all()
        assert torch.equal(far, low.expand_as(far)), "all the way to black, in every channel"
    tenth = sign_step(logits, batch.inputs, labels, (low, high), 0.1) - batch.inputs
    assert torch.allclose(tenth[1], -0.1 * (high - low).expand(3, 2, 2)), "of a channel's own range"


@pytest.mark.parametrize("size", [1, 4, 7])
def test_what_is_found_does_not_depend_on_batches(size: int) -> None:
    data = pictures()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        nn.init.normal_(model[1].weight)  # type: ignore[arg-type]

    def look(logits: Any, inputs: Tensor, labels: Tensor, bounds: Any) -> tuple[Tensor, ...]:
        return (ATTACK(logits, inputs, labels, bounds), labels)

    source = first(data)
    before = model.train().state_dict()
    found, labels = looked_at(model, source, source.bounds, run_on_cpu(), size, look)
    whole, _ = looked_at(model, source, source.bounds, run_on_cpu(), 100, look)
    torch.testing.assert_close(found.values, whole.values)
    assert torch.equal(labels.values, source.labels)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    backwards = batch_of(torch.zeros(6, 1), [0] * 6)
    backwards = replace(backwards, ids=row_ids(12)[:6][::-1])
    assert torch.equal(found.of(backwards), found.values.flip(0))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.words(inputs).mean(1)
        return logits


@pytest.mark.parametrize("method", [Amun(), BoundaryShrink()])
def test_token_ids_are_refused_with_a_remedy(method: Any) -> None:
    ids = torch.randint(0, 9, (30, 4), generator=torch.Generator().manual_seed(0))
    data = toy([i % 3 for i in range(30)], inputs=ids)
    split = Split.classes(data, [0], base=Split.whole(data))
    told = rf"{method.name} moves inputs .*token ids.*choose a method that .*such as neggrad_plus"
    with pytest.raises(ConfigError, match=told):
        unlearned(Tokens(), data, split, method)
    with pytest.raises(ConfigError, match=told):
        named = Batch(row_ids(2), {"input_ids": ids[:2]}, None, None)
        check_movable(named, run_on_cpu(label=method.name))


@pytest.mark.parametrize("method", [Amun(epochs=1, steps=10), BoundaryShrink(epochs=1)])
def test_inputs_without_bounds_are_moved_all_the_same_and_told_of(method: Any) -> None:
    data = toy([i % 2 for i in range(40)], inputs=points().float())
    split = Split.classes(data, [0], base=Split.whole(data))
    found = unlearned(nn.Sequential(nn.Linear(5, 2)), data, split, method)
    assert any("moved without bounds" in text for text in found.record.warnings)
    pictured = pictures(30)
    split = Split.classes(pictured, [0], base=Split.whole(pictured))
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    found = unlearned(model, pictured, split, method)
    assert not any("bounds" in text for text in found.record.warnings)
