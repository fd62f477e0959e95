"""Where each pruner cuts: magnitudes, rounds of imp, chance, synaptic flow by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import digits, original, run_on_cpu, same_state, seeded, toy
from hypothesis import given
from hypothesis import strategies as st
from sparse_helpers import F, T, blind, bools
from torch import Tensor, nn

from expunge.errors import ConfigError, ModelError
from expunge.models import largest
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
from expunge.pruning import make_pruner, synflow
from expunge.pruning.imp import Iterative
from expunge.pruning.omp import OneShot
from expunge.pruning.random import Random
from expunge.pruning.synflow import SynFlow
from expunge.training.recipe import Recipe

# --- the table


def test_unknown_pruners_and_settings() -> None:
    with pytest.raises(
        ConfigError, match=r"no pruner 'ompp', did you mean 'omp'\?; there are: omp"
    ):
        make_pruner("ompp", allow_code=True)
    with pytest.raises(ConfigError, match="OneShot has no setting 'rate'"):
        make_pruner("omp", {"rate": 0.2}, allow_code=True)


# --- magnitude


def test_omp_cuts_the_smallest_magnitudes_of_all_layers() -> None:
    """The obvious slow code: every |w| in one numpy array, sorted."""
    model = original("cnn")
    mask = OneShot().mask(model, blind(), run_on_cpu(), sparsity=0.8)
    sizes = {key: np.abs(p.detach().numpy()) for key, p in prunable(model).items()}
    flat = np.sort(np.concatenate([size.ravel() for size in sizes.values()]))[::-1]
    smallest = flat[round(0.2 * len(flat)) - 1]
    for key, size in sizes.items():
        assert (mask[key].numpy() == (size >= smallest)).all(), key
    assert len(set(layer_sparsity(mask).values())) == 3, "layers are cut unequally"


def test_imp_cuts_a_share_of_what_is_left_each_round() -> None:
    pruner = Iterative()
    assert (pruner.sparsity, pruner.rate) == (0.95, 0.2)
    cuts = pruner.cuts()
    assert len(cuts) == 14
    assert cuts[:3] == pytest.approx((0.2, 0.36, 0.488))
    assert cuts[:-1] == pytest.approx([1 - 0.8**k for k in range(1, 14)])
    assert cuts[-1] == 0.95
    assert cuts[-2] < 0.95 < 1 - 0.8**14
    assert len(Iterative(rate=0.4508).cuts()) == 5


@pytest.mark.parametrize(
    ("sparsity", "rate", "rounds"),
    [
        (0.2, 0.2, 1),
        (0.36, 0.2, 2),
        (0.488, 0.2, 3),
        (0.5, 0.5, 1),
        (0.1, 0.2, 1),
        (0.0, 0.2, 1),
        (0.9, 0.9, 1),
        (0.3, 0.3, 1),
        (0.51, 0.3, 2),
    ],
)
def test_imp_takes_no_round_that_cuts_nothing(sparsity: float, rate: float, rounds: int) -> None:
    """Each costs a training: 1 - 0.8 is a hair under 0.2, and that is no reason for another."""
    cuts = Iterative(sparsity=sparsity, rate=rate).cuts()
    assert len(cuts) == rounds
    assert cuts[-1] == sparsity


def test_one_cut_elsewhere() -> None:
    for pruner in (OneShot(sparsity=0.7), SynFlow(sparsity=0.7), Random(sparsity=0.7)):
        assert pruner.cuts() == (0.7,)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(182, 8), (91, 4), (30, 1), (45, 2), (2, 1), (3, 1), (1, 0)]
)
def test_rewinding_is_to_epoch_8_of_182_scaled(epochs: int, expected: int) -> None:
    recipe = Recipe(epochs=epochs)
    for pruner in (OneShot(), Iterative()):
        assert pruner.rewind_to(recipe) == expected
    assert OneShot(rewind_epoch=0).rewind_to(recipe) == 0
    assert OneShot(rewind_epoch=17).rewind_to(recipe) == 17
    assert SynFlow().rewind_to(recipe) == Random().rewind_to(recipe) == 0


# --- chance


def test_random_cuts_are_drawn_over_all_layers_by_the_seed() -> None:
    model = original("cnn")
    masks = [
        Random().mask(model, blind(), run_on_cpu(names=("original", seed)), sparsity=0.9)
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(masks[0][key], masks[1][key]) for key in masks[0])
    assert not any(torch.equal(masks[0][key], masks[2][key]) for key in masks[0])
    total = sum(keep.numel() for keep in masks[0].values())
    assert sum(int(keep.sum()) for keep in masks[0].values()) == round(0.1 * total)
    # 1 / 19 is what two independent masks share
    assert overlap(masks[0], masks[2]) == pytest.approx(0.1 / 1.9, abs=0.01)
    for key in ("features.4.weight", "features.8.weight"):
        assert layer_sparsity(masks[0])[key] == pytest.approx(0.9, abs=0.01)


def test_random_cuts_do_not_look_at_the_weights() -> None:
    one, other = original("cnn"), original("cnn")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter))
    first, second = (
        Random().mask(model, blind(), run_on_cpu(), sparsity=0.9) for model in (one, other)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


# --- synaptic flow


def two_layers(*between: nn.Module) -> nn.Sequential:
    """Weights [[1, -2], [3, 4]] and [[-5, 6]], with biases that must not count."""
    model = nn.Sequential(nn.Linear(2, 2), *between, nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        model[0].bias.copy_(torch.tensor([100.0, -100.0]))
        model[-1].weight.copy_(torch.tensor([[-5.0, 6.0]]))
        model[-1].bias.copy_(torch.tensor([1000.0]))
    return model


def loud_norm() -> nn.BatchNorm1d:
    """BatchNorm with statistics, scale and shift that would turn every score around."""
    norm = nn.BatchNorm1d(2)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1000.0, 0.001]))
        norm.bias.copy_(torch.tensor([-7.0, 9.0]))
        norm.running_mean.copy_(torch.tensor([50.0, -3.0]))  # type: ignore[union-attr]
        norm.running_var.copy_(torch.tensor([1e-6, 1e6]))  # type: ignore[union-attr]
    return norm


ONES = torch.ones(1, 2, dtype=torch.float64)
# |w2_i| |w1_ij| for the first layer, |w2_i| sum_j |w1_ij| for the second
BY_HAND = {"first": [[5.0, 10.0], [18.0, 24.0]], "last": [[15.0, 42.0]]}


@pytest.mark.parametrize(
    "between",
    [(), (loud_norm(),), (nn.LayerNorm(2), nn.Dropout(0.5)), (nn.GroupNorm(1, 2),)],
    ids=["plain", "batchnorm", "layernorm", "groupnorm"],
)
def test_synaptic_flow_by_hand(between: tuple[nn.Module, ...]) -> None:
    """R = |w2| |W1| 1 = 57; normalisation is the identity, biases are 0, signs do not count."""
    model = two_layers(*between)
    flow = synflow.linearised(model)
    last = f"{len(model) - 1}.weight"
    mask = {"0.weight": bools([T, T], [T, T]), last: bools([T, T])}
    scores = synflow.synaptic_flow(flow, ONES, mask)
    assert {key: score.tolist() for key, score in scores.items()} == {
        "0.weight": BY_HAND["first"],
        last: BY_HAND["last"],
    }
    assert all(score.dtype == torch.float64 for score in scores.values())


def test_synaptic_flow_under_a_mask_by_hand() -> None:
    """Without w1_00 and w2_1: row 1 carries nothing any more, row 0 only 2 * 5."""
    flow = synflow.linearised(two_layers())
    mask = {"0.weight": bools([F, T], [T, T]), "2.weight": bools([T, F])}
    scores = synflow.synaptic_flow(flow, ONES, mask)
    assert scores["0.weight"].tolist() == [[0, 10], [0, 0]]
    assert scores["2.weight"].tolist() == [[10, 0]]


def test_synflow_scores_anew_after_each_cut() -> None:
    """One cut to 4 of 6 weights keeps w2_0 (15), into which no flow is left.

    Two cuts, to 5 and to 4: first w1_00 goes (5), which leaves w1_01 and w2_0 with 10 each; the
    first in order stays.
    """
    data = toy([0, 1, 0, 1])
    once = SynFlow(steps=1).mask(two_layers(), blind(data), run_on_cpu(), sparsity=1 / 3)
    assert torch.equal(once["0.weight"], bools([F, F], [T, T]))
    assert torch.equal(once["2.weight"], bools([T, T]))
    twice = SynFlow(steps=2).mask(two_layers(), blind(data), run_on_cpu(), sparsity=1 / 3)
    assert torch.equal(twice["0.weight"], bools([F, T], [T, T]))
    assert torch.equal(twice["2.weight"], bools([F, T]))


def test_synflow_keeps_a_falling_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 - s)^(k / n) of the weights after step k."""
    counts: list[int] = []
    honest = synflow.synaptic_flow

    def spy(flow: nn.Module, ones: Tensor, mask: Mask, out: Any) -> Any:
        counts.append(sum(int(keep.sum()) for keep in mask.values()))
        return honest(flow, ones, mask, out)

    monkeypatch.setattr(synflow, "synaptic_flow", spy)
    model = original("mlp")
    mask = SynFlow().mask(model, blind(), run_on_cpu(), sparsity=0.95)
    total = sum(weight.numel() for weight in prunable(model).values())
    assert SynFlow().steps == 100
    assert counts == [round(0.05 ** (k / 100) * total) for k in range(100)]
    assert sum(int(keep.sum()) for keep in mask.values()) == round(0.05 * total)


class Joined(nn.Module):
    """Two weights used as their sum, whose gradients are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor([[1.0, -2], [3, 4]]))
            self.b.weight.copy_(torch.tensor([[5.0, 6], [-7, 8]]))

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(inputs, self.a.weight + self.b.weight)


def test_weights_that_share_a_gradient_have_their_own_scores() -> None:
    flow = synflow.linearised(Joined())
    whole = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(flow).items()}
    found = synflow.synaptic_flow(flow, torch.ones(1, 2, dtype=torch.float64), whole)
    assert found["a.weight"].tolist() == [[1, 2], [3, 4]]
    assert found["b.weight"].tolist() == [[5, 6], [7, 8]]


def test_what_is_cut_already_may_have_no_score_and_a_layer_no_weight() -> None:
    scores = {"a": torch.tensor([1.0, torch.nan, 3.0]), "b": torch.zeros(0)}
    within = {"a": torch.tensor([True, False, True]), "b": torch.zeros(0, dtype=torch.bool)}
    assert keep_largest(scores, 2 / 3, within)["a"].tolist() == [False, False, True]
    with pytest.raises(ConfigError, match="not numbers"):
        keep_largest(scores, 2 / 3)


def test_synflow_sees_neither_data_nor_statistics() -> None:
    model, other = original("cnn"), original("cnn")
    with torch.no_grad():
        for name, tensor in other.state_dict().items():
            if (
                name.endswith(("running_mean", "running_var", "bias"))
                or name == "features.1.weight"
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)))
    few = digits(100)
    first = SynFlow(steps=20).mask(model, blind(), run_on_cpu(), sparsity=0.95)
    second = SynFlow(steps=20).mask(other, blind(few), run_on_cpu(), sparsity=0.95)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_synflow_collapses_no_layer_where_magnitude_does() -> None:
    """A layer a thousand times smaller than the others is cut whole by magnitude, not by flow."""
    model = original("cnn")
    with torch.no_grad():
        model.get_parameter("features.4.weight").mul_(1e-3)
    magnitude = OneShot().mask(model, blind(), run_on_cpu(), sparsity=0.99)
    flow = SynFlow().mask(model, blind(), run_on_cpu(), sparsity=0.99)
    assert layer_sparsity(magnitude)["features.4.weight"] == 1
    assert max(layer_sparsity(flow).values()) < 1
    apply_mask(model, flow)
    assert synflow.linearised(model)(torch.ones(1, 1, 8, 8).double()).sum() > 0


def test_synflow_refuses_a_flow_that_overflows() -> None:
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(12)])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e30)
    with pytest.raises(ConfigError, match="flow of ones overflows in this model; use omp or imp"):
        SynFlow().mask(model, blind(toy([0, 1])), run_on_cpu(), sparsity=0.5)


class Words(nn.Module):
    """Takes a dictionary by keywords, as models of the Hugging Face hub do."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.words(input_ids).mean(1))
        return logits


class TwoInputs(Words):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids)


@pytest.mark.parametrize("kind", [Words, TwoInputs])
def test_synflow_refuses_a_model_that_wants_other_inputs(kind: type[Words]) -> None:
    model = seeded(kind)
    with pytest.raises(ConfigError, match="synflow feeds the model one tensor of ones"):
        SynFlow().mask(model, blind(toy([0, 1])), run_on_cpu(), sparsity=0.5)


# --- masks: exact counts, ties, what is prunable, what is applied, and how masks are compared


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9, 0.99])
def test_a_cut_keeps_what_a_stable_sort_would(dtype: torch.dtype, sparsity: float) -> None:
    """With many equal scores, in several tensors, under a mask and without one."""
    generator = torch.Generator().manual_seed(0)
    scores = {
        name: torch.randint(0, 7, shape, generator=generator).to(dtype)
        for name, shape in (("a", (40, 5)), ("b", (70,)), ("c", (3, 3, 9)))
    }
    images = torch.randint(0, 7, (6, 4, 3, 3), generator=generator).to(dtype)
    scores["d"] = images.contiguous(memory_format=torch.channels_last)
    total = sum(score.numel() for score in scores.values())
    half = {name: torch.arange(s.numel()).view(s.shape) % 2 == 0 for name, s in scores.items()}
    for within in (None, half if sparsity > 0.5 else None):
        flat = torch.cat([score.flatten().double() for score in scores.values()])
        if within is not None:
            flat[~torch.cat([keep.flatten() for keep in within.values()])] = -torch.inf
        order = torch.sort(flat, descending=True, stable=True).indices
        expected = torch.zeros(total, dtype=torch.bool)
        expected[order[: max(1, round((1 - sparsity) * total))]] = True
        found = keep_largest(scores, sparsity, within)
        assert torch.equal(torch.cat([keep.flatten() for keep in found.values()]), expected)


@pytest.mark.parametrize("sorted_away", [False, True], ids=["by chance", "misled"])
def test_a_cut_by_a_sample_keeps_what_a_sort_would(
    monkeypatch: pytest.MonkeyPatch, sorted_away: bool
) -> None:
    """A small sample brackets the least that is kept; one of the largest scores alone is found out."""
    monkeypatch.setattr(largest, "SAMPLE", 200)
    drawn = np.random.default_rng(1).standard_normal((2, 60, 100))
    if sorted_away:
        monkeypatch.setattr(
            largest.Ranked, "drawn", lambda self, _: self.values.flatten().sort().values[-60:]
        )
    scores = {name: torch.tensor(one) for name, one in zip("ab", drawn, strict=True)}
    within = {name: score > -0.5 for name, score in scores.items()}
    for sparsity in (0.5, 0.9, 0.999):
        kept = keep_largest(scores, sparsity, within)
        count = round((1 - sparsity) * drawn.size)
        least = np.sort(drawn, axis=None)[-count]
        for name, one in zip("ab", drawn, strict=True):
            assert np.array_equal(kept[name].numpy(), one >= least)


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
    model = seeded(lambda: build_model(name, (1, 8, 8), 10, allow_code=True))
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
