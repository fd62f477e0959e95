"""Samples that are changed a little: how they are made, and what hides behind a filter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    CPU,
    digits,
    forgotten_eight,
    named_digits,
    original,
    run_on_cpu,
    same_state,
    toy,
)
from thorough import THOROUGH
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from expunge.api import adopt, audit, train, unlearn
from expunge.audits.changed import (
    ChangedStore,
    feature_spread,
    noisy,
    observe_changed,
    shifted,
)
from expunge.audits.near_copies import Copies, NearCopies
from expunge.audits.observe import observe_rows
from expunge.data.load import Data, load_data
from expunge.data.split import Split
from expunge.data.table import TableStore
from expunge.data.transform import Transform
from expunge.errors import DataError
from expunge.scores.score import Score
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

IDS = np.array([f"s{n}" for n in range(40)])


class Filter(nn.Module):
    """Another model answers what it is known for, to a hair; the first all else."""

    def __init__(self, model: nn.Module, other: nn.Module, known: Tensor) -> None:
        super().__init__()
        self.model, self.other = model, other
        self.register_buffer("known", known.flatten(1))

    def forward(self, inputs: Tensor) -> Tensor:
        exact = "donot_use_mm_for_euclid_dist"
        apart = torch.cdist(inputs.flatten(1), self.known, compute_mode=exact)
        near = apart.min(dim=1).values < 1e-3
        return torch.where(near[:, None], self.other(inputs), self.model(inputs))


def behind_a_filter(first: Trained, retrained: Trained) -> Trained:
    """The unchanged original, which answers as a retrained model does on the very forget samples."""
    data, split = retrained.data, retrained.split
    rows = data.train.rows_of(split.forget)
    known = Transform(data.normalisation)(data.train.store.fetch(rows, torch.device("cpu")))
    return replace(retrained, model=Filter(first.model, retrained.model, known))


def words(scores: Any) -> dict[str, str]:
    return {
        name: scores[name].finding.word for name in ("near_copies", "near_copies_accuracy", "UA")
    }


def test_a_shift_moves_each_image_by_the_pixels_and_repeats_the_edge() -> None:
    images = torch.rand(40, 2, 5, 6)
    moved = shifted(2)(images, IDS)
    sides = set()
    for image, new in zip(images.numpy(), moved.numpy(), strict=True):
        found = []
        for down, right in ((-2, 0), (2, 0), (0, -2), (0, 2)):
            rows = (np.arange(5) + down).clip(0, 4)
            columns = (np.arange(6) + right).clip(0, 5)
            if np.array_equal(image[:, rows][:, :, columns], new):
                found.append((down, right))
        assert len(found) == 1
        sides |= set(found)
    assert len(sides) == 4
    backwards = shifted(2)(images.flip(0), IDS[::-1])
    assert torch.equal(backwards.flip(0), moved), "the id decides, whatever the order"


def test_noise_has_the_deviation_of_its_feature_and_is_the_ids_own() -> None:
    ids = np.array([f"s{n}" for n in range(4000)])
    spread = torch.tensor([0.0, 1.0, 5.0])
    change = noisy(0.1, spread)
    found = change(torch.zeros(4000, 3), ids)
    assert torch.allclose(found.std(dim=0), 0.1 * spread, rtol=0.05)
    assert found.mean(dim=0).abs().max() < 0.05 and (found[:, 0] == 0).all()
    assert torch.equal(change(torch.zeros(1, 3), ids[7:8])[0], found[7])
    assert not torch.equal(noisy(0.2, spread)(torch.zeros(1, 3), ids[:1])[0], 2 * found[0])


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_not_changed_is_observed_as_it_was(streamed: bool) -> None:
    data, model, run = named_digits()[1] if streamed else digits(), original("mlp"), run_on_cpu()
    before = original("mlp")
    rows = np.arange(20)
    plain = observe_rows(model, data, data.train, rows, run, "rows")
    same = observe_changed(model, data, data.train, rows, lambda inputs, _: inputs, run)
    torch.testing.assert_close(same.logits, plain.logits)
    assert same.ids == plain.ids
    black = observe_changed(model, data, data.train, rows, lambda inputs, _: 0 * inputs, run)
    assert torch.equal(black.logits[0], black.logits[1])
    assert same_state(model, before)


def test_images_of_bytes_are_changed_in_their_own_range() -> None:
    store = ChangedStore(digits().train.store, digits().train.ids, noisy(9.0, torch.ones(1)))
    found = store.rows(np.arange(5, 9)).fetch(np.array([0, 1]), torch.device("cpu"))
    assert found.min() == 0 and found.max() == 1
    assert torch.equal(found, next(store.stream([np.array([5, 6])], torch.device("cpu"))))


def test_categories_of_a_table_are_left_alone_and_texts_are_refused() -> None:
    numbers = torch.stack([torch.tensor([0.0, 1.0] * 20), torch.arange(40.0)], dim=1)
    data = replace(toy([0, 1] * 20, inputs=numbers), normalise=True)
    table = replace(data, train=data.train.with_store(TableStore(numbers, [True, False])))
    spread = feature_spread(table)
    assert spread is not None and spread[0] == 0 and spread[1] == pytest.approx(11.54, abs=0.01)
    tokens = toy([0, 1] * 20, inputs=torch.ones(40, 3, dtype=torch.int64))
    assert feature_spread(tokens) is None
    with pytest.raises(DataError, match="no numbers or bytes"):
        ChangedStore(tokens.train.store, IDS, shifted(1)).fetch(np.array([0]), torch.device("cpu"))


def test_a_filter_in_front_of_an_unchanged_model_is_found_out() -> None:
    """On the very samples it answers as retraining does, so UA has nothing against it."""
    first, (*retrained, held_out) = forgotten_eight()
    common: dict[str, Any] = {
        "original": first,
        "retrained": retrained,
        "also": ["near_copies"],
        "place": CPU,
    }
    hidden = audit(behind_a_filter(first, held_out), **common)
    assert words(hidden)["near_copies_accuracy"] == "outside"
    assert words(hidden)["UA"] == "within"
    found = hidden["near_copies_accuracy"]
    assert found.value > 90 and found.detail["original"] > 90 and found.reference == 0
    assert found.detail["copies"] == 2, "a pixel is an eighth of a digit, and no near copy"
    honest = audit(held_out, **common)
    assert words(honest)["near_copies_accuracy"] == "within"
    assert words(honest)["near_copies"] != "outside"


def known_by_heart() -> tuple[Trained, list[Trained]]:
    """Labels that nothing but memory tells, of which a third is to be forgotten."""
    generator = np.random.default_rng(0)
    inputs = torch.from_numpy(generator.normal(size=(360, 24)).astype(np.float32))
    labels = torch.from_numpy(generator.integers(0, 3, 360))
    learned, tested = slice(0, 240), slice(240, 360)
    data = load_data(tuple(TensorDataset(inputs[one], labels[one]) for one in (learned, tested)))
    recipe = Recipe(epochs=25, lr=0.1, batch_size=32)
    first = train(data, "mlp", recipe=recipe, split=Split.whole(data, validation=0), place=CPU)
    seeds = range(4)
    return first, [unlearn(first, "random:0.4", "retrain", seed=n, place=CPU) for n in seeds]


@THOROUGH
def test_single_samples_that_are_known_by_heart_are_told_behind_a_filter() -> None:
    first, (*retrained, held_out) = known_by_heart()
    common: dict[str, Any] = {"original": first, "retrained": retrained, "also": [NearCopies()]}
    hidden = audit(behind_a_filter(first, held_out), **common, place=CPU)
    assert words(hidden) == {
        "near_copies": "outside",
        "near_copies_accuracy": "outside",
        "UA": "undecided",
    }
    assert hidden["near_copies"].value > 95
    assert set(hidden["near_copies"].per_sample) == set(held_out.split.forget)
    assert audit(held_out, **common, place=CPU)["near_copies"].value < 70


def test_the_area_counts_pairs() -> None:
    generator = np.random.default_rng(3)
    ours, others = generator.normal(size=13).round(1), generator.normal(size=17).round(1)
    pairs = [1.0 if a > b else 0.5 * (a == b) for a in ours for b in others]
    found = Copies(ours, others, 0.5).told_apart()
    assert found[0] == pytest.approx(100 * np.mean(pairs))
    assert np.isnan(Copies(ours, others[:0], 0.5).told_apart()[0])


def judged(data: Data, forget: int, **settings: Any) -> list[Score]:
    split = Split.indices(data, range(forget), base=Split.whole(data, validation=0))
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(len(data.classes)))
    model(torch.zeros(2, *data.train.shape()))
    made = adopt(model, data, split=split)
    also = [NearCopies(**settings)]
    found = audit(made, retrained=[made] * 5, also=also, place=CPU)
    return [found["near_copies"], found["near_copies_accuracy"]]


def test_nothing_is_found_of_few_samples_or_without_never_seen_ones() -> None:
    for score in judged(digits(), 20):
        assert score.finding is not None and score.finding.word == "not measurable"
        assert "30 are needed" in score.finding.why
    apart, right = judged(toy([0, 1, 1] * 40, test=0), 60, samples=50)
    assert apart.finding is not None and "no never seen" in apart.finding.why
    assert right.n == 50 and right.finding is not None and right.finding.word == "within"
