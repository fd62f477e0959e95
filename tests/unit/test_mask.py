"""Masks: exact counts, ties, what is prunable, what is applied, and how masks are compared."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from helpers import same_state
from hypothesis import given
from hypothesis import strategies as st
from seeded_helpers import seeded
from sparse_helpers import F, T, bools
from torch import nn

from expunge.errors import ConfigError, ModelError
from expunge.models.mask import (
    Mask,
    apply_mask,
    keep_largest,
    layer_sparsity,
    overlap,
    prunable,
    sparsity_of,
)
from expunge.models.table import ARCHITECTURES, build_model


def test_one_cut_over_all_layers() -> None:
    scores = {"a": torch.tensor([[5.0, 1.0], [2.0, 9.0]]), "b": torch.tensor([3.0, 4.0])}
    mask = keep_largest(scores, 0.5)
    assert list(mask) == ["a", "b"]
    assert torch.equal(mask["a"], bools([T, F], [F, T]))
    assert torch.equal(mask["b"], bools(F, T))


def test_a_layer_of_small_scores_goes_whole() -> None:
    """The cut knows no layers: nothing is kept for each."""
    mask = keep_largest({"a": torch.ones(4), "b": torch.full((4,), 0.1)}, 0.5)
    assert mask["a"].all()
    assert not mask["b"].any()


def test_of_equal_scores_the_first_are_kept() -> None:
    mask = keep_largest({"a": torch.ones(3), "b": torch.ones(2, 2)}, 3 / 7)
    assert torch.equal(mask["a"], bools(T, T, T))
    assert torch.equal(mask["b"], bools([T, F], [F, F]))


def test_at_least_one_weight_is_kept() -> None:
    mask = keep_largest({"a": torch.tensor([1.0, 3.0, 2.0])}, 0.99)
    assert torch.equal(mask["a"], bools(F, T, F))


def test_what_an_earlier_mask_cut_stays_cut_whatever_its_score() -> None:
    within = {"a": bools(F, T, T, T)}
    mask = keep_largest({"a": torch.tensor([9.0, 1.0, 3.0, 2.0])}, 0.5, within)
    assert torch.equal(mask["a"], bools(F, F, T, T))
    assert torch.equal(within["a"], bools(F, T, T, T))


shapes = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=3)


@given(shapes, st.floats(0, 0.999), st.integers(0, 99), st.booleans())
def test_keep_largest_is_a_sort(
    sizes: list[list[int]], sparsity: float, seed: int, ties: bool
) -> None:
    """All scores in one list, sorted in numpy; integers of few values give many ties."""
    drawn = np.random.default_rng(seed)
    arrays = [drawn.integers(0, 3, s) if ties else drawn.standard_normal(s) for s in sizes]
    scores = {str(i): torch.tensor(a, dtype=torch.float64) for i, a in enumerate(arrays)}
    flat = np.concatenate([a.ravel() for a in arrays]).astype(float)
    count = max(1, round((1 - sparsity) * len(flat)))
    expected = np.zeros(len(flat), dtype=bool)
    expected[np.lexsort((np.arange(len(flat)), -flat))[:count]] = True
    mask = keep_largest(scores, sparsity)
    assert {key: keep.shape for key, keep in mask.items()} == {
        k: s.shape for k, s in scores.items()
    }
    found = np.concatenate([keep.numpy().ravel() for keep in mask.values()])
    assert (found == expected).all()


@given(st.integers(2, 60), st.floats(0, 0.9), st.floats(0, 1), st.integers(0, 99))
def test_cuts_are_nested(size: int, first: float, share: float, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    one, other = torch.rand(size, generator=drawn), torch.rand(size, generator=drawn)
    second = first + share * (0.99 - first)
    within = keep_largest({"a": one}, first)
    mask = keep_largest({"a": other}, second, within)
    assert not (mask["a"] & ~within["a"]).any()
    assert int(mask["a"].sum()) == max(1, round((1 - second) * size))


@pytest.mark.parametrize("sparsity", [-0.01, 1.0, 2.0, math.nan])
def test_a_sparsity_that_is_no_share(sparsity: float) -> None:
    with pytest.raises(ConfigError, match="is no share of the weights; give 0 to below 1"):
        keep_largest({"a": torch.ones(4)}, sparsity)


def test_scores_that_are_not_numbers() -> None:
    with pytest.raises(ConfigError, match="the model's weights are not finite"):
        keep_largest({"a": torch.tensor([1.0, math.nan])}, 0.5)


def test_less_sparsity_than_there_is() -> None:
    with pytest.raises(ConfigError, match=r"sparsity 0\.25 is below that of the mask"):
        keep_largest({"a": torch.ones(4)}, 0.25, {"a": bools(T, T, F, F)})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_convolutions_are_prunable_or_linear_layers_where_there_are_none(name: str) -> None:
    model = seeded(lambda: build_model(name, (1, 8, 8), 10))
    kind = nn.Linear if name == "mlp" else nn.Conv2d
    expected = [f"{key}.weight" for key, m in model.named_modules() if isinstance(m, kind)]
    found = prunable(model)
    assert list(found) == expected
    parameters = dict(model.named_parameters())
    assert all(weight is parameters[key] for key, weight in found.items())


def test_every_kind_of_convolution_is_prunable() -> None:
    model = nn.ModuleDict(
        {"one": nn.Conv1d(1, 1, 1), "up": nn.ConvTranspose2d(1, 1, 1), "linear": nn.Linear(1, 1)}
    )
    assert list(prunable(model)) == ["one.weight", "up.weight"]


def test_a_weight_of_two_layers_is_pruned_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert list(prunable(model)) == ["0.weight"]


def test_a_model_with_nothing_to_prune() -> None:
    with pytest.raises(ModelError, match="no convolution and no linear layer"):
        prunable(nn.Sequential(nn.BatchNorm1d(3), nn.Embedding(3, 3)))


def test_a_mask_is_applied_in_place() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)))
    before = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight[0] = torch.tensor([math.nan, math.inf])
    apply_mask(model, {"0.weight": bools([F, F], [T, F])})
    kept = before[0].weight[1, 0]
    assert model[0].weight.tolist() == [[0, 0], [kept.item(), 0]], "0, where it was not finite too"
    assert torch.equal(model[1].weight, before[1].weight)
    assert torch.equal(model[0].bias, before[0].bias)
    apply_mask(before, None)
    apply_mask(before, {})
    assert before[0].weight.all()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"2.weight": bools([T])}, "the mask names '2.weight', which the model lacks"),
        ({"0.weight": bools([T, T])}, r"has shape \(1, 2\), the parameter \(2, 2\)"),
    ],
)
def test_a_mask_of_another_model(mask: Mask, message: str) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)))
    before = copy.deepcopy(model)
    with pytest.raises(ConfigError, match=message):
        apply_mask(model, {"1.weight": bools([F, F]), **mask})
    assert same_state(model, before)


def test_sparsity_by_hand() -> None:
    mask = {"a": bools([T, F], [F, F]), "b": bools(T, T, T, T, T, F)}
    assert sparsity_of(mask) == pytest.approx(4 / 10)
    assert layer_sparsity(mask) == {"a": 0.75, "b": pytest.approx(1 / 6)}
    assert sparsity_of({"a": bools(T, T)}) == 0
    assert sparsity_of({"a": bools(F, F)}) == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_overlap_is_that_of_sets(pairs: list[tuple[bool, bool]]) -> None:
    sets = [{i for i, pair in enumerate(pairs) if pair[side]} for side in (0, 1)]
    masks = [
        {"a": torch.tensor(row[:1]), "b": torch.tensor(row[1:])} for row in zip(*pairs, strict=True)
    ]
    joined = sets[0] | sets[1]
    expected = len(sets[0] & sets[1]) / len(joined) if joined else 0
    assert overlap(masks[0], masks[1]) == overlap(masks[1], masks[0]) == expected
    if sets[0]:
        assert overlap(masks[0], masks[0]) == 1


def test_masks_of_different_models_have_no_overlap() -> None:
    one = {"a": bools(T, F)}
    for other in ({"b": bools(T, F)}, {"a": bools([T, F])}, {**one, "b": bools(T)}):
        with pytest.raises(ConfigError, match="two masks of different models"):
            overlap(one, other)
