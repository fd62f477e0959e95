"""Fisher forgetting: variances by hand, the information by a plain loop, and noise that keeps to it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from helpers import (
    changed,
    digits,
    original,
    other_vectors,
    random_mask,
    run_on_cpu,
    seeded,
    unlearned,
    view_of,
    view_of_vectors,
    with_statistics,
)
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import DivergenceError
from expunge.methods.fisher import Fisher, last_layer, released_variance, theory_variance
from expunge.models.mask import apply_mask
from expunge.per_sample import fisher_diagonal

NAMES = ("fisher", 0)


class Tiny(nn.Module):
    """59 parameters in float64, with BatchNorm; the last layer has a row for each of 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(5, 6)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3, bias=True)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.tanh(self.norm(self.hidden(inputs.double()))))
        return logits


def tiny() -> Tiny:
    return seeded(lambda: with_statistics(Tiny, other_vectors), seed=3)


def view(rows: Iterable[int] = range(9)) -> DataView:
    return view_of_vectors(rows, Fisher.reads, NAMES)


def by_hand(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Mean over samples of sum_y p(y|x) (d -log p(y|x))²: one backward pass per sample and class."""
    model = copy.deepcopy(model).eval()
    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    count = 0
    for batch in batches:
        for row in batch.inputs:
            logs = model(row.unsqueeze(0))[0].log_softmax(0)
            for label in range(len(logs)):
                pieces = torch.autograd.grad(-logs[label], list(named.values()), retain_graph=True)
                for name, piece in zip(named, pieces, strict=True):
                    total[name] += logs[label].exp().detach() * piece**2
            count += 1
    return {name: value / count for name, value in total.items()}


def forgotten(method: Fisher, data: DataView | None = None, **options: Any) -> nn.Module:
    model = options.pop("model", None) or tiny()
    return method.unlearn(model, data or view(), run_on_cpu(names=NAMES, label="fisher", **options))


# --- variances by hand


def test_the_theorys_variance_by_hand() -> None:
    """Standard deviation sigma F^(-1/4), so variance sigma² F^(-1/2); F no less than the floor."""
    fisher = torch.tensor([[16.0, 1.0], [0.0001, 0.0]], dtype=torch.float64)
    found = theory_variance(fisher, sigma=0.1, floor=1e-8)
    assert found.flatten().tolist() == pytest.approx([0.01 / 4, 0.01, 1.0, 100.0])
    assert theory_variance(fisher, 0.1, floor=0.25).flatten().tolist() == pytest.approx(
        [0.01 / 4, 0.01, 0.02, 0.02]
    )


def test_the_released_variance_of_a_matrix_by_hand() -> None:
    """1 / F up to 1000, and each row its mean: (2 + 4) / 2, (1000 + 500) / 2."""
    fisher = torch.tensor([[0.5, 0.25], [0.0, 0.002]], dtype=torch.float64)
    found = released_variance(fisher, alpha=0.1)
    assert found.flatten().tolist() == pytest.approx([0.3, 0.3, 75, 75], rel=1e-5)


def test_the_released_variance_of_the_last_layer_by_hand() -> None:
    """1 / F up to 100, row means, times 10."""
    fisher = torch.tensor([[0.5, 0.25], [0.0, 0.05]], dtype=torch.float64)
    found = released_variance(fisher, alpha=0.1, last=True)
    assert found.flatten().tolist() == pytest.approx([3, 3, 60, 60], rel=1e-5)
    bias = released_variance(torch.tensor([0.5, 0.0], dtype=torch.float64), 0.1, last=True)
    assert bias.tolist() == pytest.approx([2, 100]), "times 10 once, not twice"


def test_the_released_variance_of_one_dimension_by_hand() -> None:
    """1 / F up to 1000, no mean, times 10."""
    found = released_variance(torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64), alpha=0.1)
    assert found.tolist() == pytest.approx([2, 1000, 0.5])


def test_the_released_variance_of_a_convolution_by_hand() -> None:
    """The mean is over input channels: every place of the kernel has its own."""
    fisher = torch.tensor([[[0.5, 1.0]], [[0.25, 0.0]]], dtype=torch.float64).transpose(0, 1)
    found = released_variance(fisher.unsqueeze(-1), alpha=1.0)
    assert found.shape == (1, 2, 2, 1)
    assert found.flatten().tolist() == pytest.approx([3, 500.5, 3, 500.5], rel=1e-5)


def test_what_is_cut_does_not_count_in_the_mean() -> None:
    fisher = torch.tensor([[0.5, 0.0, 0.25], [0.0, 0.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    found = released_variance(fisher, alpha=1.0, mask=mask)
    assert found[0].tolist() == pytest.approx([3, 3, 3], rel=1e-5)
    assert torch.isfinite(found).all(), "a row that is cut whole has no mean"


def test_the_last_layer_has_a_row_for_each_class() -> None:
    assert last_layer(tiny(), 3) == {"last.weight", "last.bias"}
    assert last_layer(tiny(), 6) == {"hidden.weight", "hidden.bias"}
    assert last_layer(tiny(), 7) == set()
    assert last_layer(original("cnn"), 10) == {"classifier.weight", "classifier.bias"}
    assert last_layer(original("mlp"), 10) == {"fc3.weight", "fc3.bias"}
    twins = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False))
    assert last_layer(twins, 3) == {"1.weight"}
    assert last_layer(nn.Linear(3, 3), 3) == {"weight", "bias"}


# --- the information


@pytest.mark.parametrize("batch_size", [1, 5, 16, 100])
def test_the_information_is_by_the_models_own_predictions(batch_size: int) -> None:
    """Sample by sample, over all classes, whatever the size of a batch."""
    batches = view().batches(Part.RETAIN, batch_size, shuffle=False)
    found = fisher_diagonal(tiny(), batches, run_on_cpu())
    for name, expected in by_hand(tiny(), batches).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-15)


def test_forgetting_does_not_depend_on_the_batch_size() -> None:
    for variant in ("released", "theory"):
        settings: dict[str, Any] = {"variant": variant, "alpha": 1e-3, "sigma": 0.1}
        found = [
            torch.nn.utils.parameters_to_vector(
                forgotten(Fisher(batch_size=size, **settings)).parameters()
            )
            for size in (1, 7, 100)
        ]
        torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found[2], found[0], rtol=1e-9, atol=1e-12)


def test_a_drawn_label_is_unbiased() -> None:
    """The mean over many draws is the exact information, within four of its standard errors."""
    batches = list(view().batches(Part.RETAIN, 16, shuffle=False))

    def totals(**options: Any) -> Tensor:
        seed = options.pop("seed", 0)
        found = fisher_diagonal(tiny(), batches, run_on_cpu(names=("draw", seed)), **options)
        return torch.stack([value.sum() for value in found.values()])

    exact = totals()
    draws = torch.stack([totals(labels="sampled", seed=seed) for seed in range(60)])
    spread = draws.std(0)
    assert (spread > 0.01 * exact).all(), "every seed draws its own"
    errors = (draws.mean(0) - exact) / (spread / math.sqrt(len(draws)))
    assert errors.abs().max() < 4, errors
    assert torch.equal(draws[3], totals(labels="sampled", seed=3))
    # the true labels are another matter: these the model does not predict well
    true = totals(labels="true")
    assert ((true - exact) / (spread / math.sqrt(len(draws)))).abs().max() > 8


# --- the noise


@pytest.mark.parametrize("variant", ["released", "theory"])
def test_noise_has_the_promised_deviation(variant: Any) -> None:
    """Each weight's noise over its deviation is standard normal: 50 000 of them say so."""
    data = digits()
    view = view_of(data, Split.random(data, 0.1), Fisher.reads, names=NAMES)
    model = original("mlp")
    method = Fisher(variant=variant, alpha=1e-6, sigma=1e-3)
    found = method.unlearn(copy.deepcopy(model), view, run_on_cpu(names=NAMES))
    fisher = fisher_diagonal(model, view.batches(Part.RETAIN, 64, shuffle=False), run_on_cpu())
    for name, before in model.named_parameters():
        noise = (found.get_parameter(name) - before).detach().double()
        if variant == "theory":
            deviation = 1e-3 * fisher[name].double().clamp(min=1e-8) ** -0.25
        else:
            ceiling, factor = (100, 10) if name.startswith("fc3") else (1000, 1)
            variance = 1e-6 * (1 / (fisher[name].double() + 1e-8)).clamp(max=ceiling)
            if before.ndim == 2:
                variance = variance.mean(1, keepdim=True).expand_as(variance)
            else:
                factor = 10
            deviation = (factor * variance).sqrt()
        normal = (noise / deviation).flatten()
        bound = 5 / math.sqrt(len(normal))
        assert abs(float(normal.mean())) < bound, name
        assert abs(float(normal.std()) - 1) < bound, name
        if len(normal) > 1000:
            assert float((normal.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.02)


@pytest.mark.parametrize("variant", ["released", "theory"])
def test_buffers_and_frozen_weights_get_no_noise(variant: Any) -> None:
    model = tiny().train()
    model.hidden.bias.requires_grad_(False)
    before = copy.deepcopy(model)
    forgotten(Fisher(variant=variant, alpha=1e-6), model=model)
    assert changed(before, model) == {name for name, _ in model.named_parameters()} - {
        "hidden.bias"
    }
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("variant", ["released", "theory"])
def test_the_mask_changes_no_other_noise(variant: Any) -> None:
    """Kept weights get noise by the information of the sparse model; cut ones stay 0.

    What no mask names gets the noise that it gets without one.
    """
    mask = random_mask(tiny(), kept=0.5)
    model = tiny()
    apply_mask(model, mask)
    before, without = copy.deepcopy(model), copy.deepcopy(model)
    forgotten(Fisher(variant=variant, alpha=1e-3), model=model, mask=mask)
    for name, keep in mask.items():
        assert not model.get_parameter(name)[~keep].any()
        moved = model.get_parameter(name) != before.get_parameter(name)
        assert torch.equal(moved, keep)
    forgotten(Fisher(variant=variant, alpha=1e-3), model=without)
    for name in dict(model.named_parameters()).keys() - mask.keys():
        assert torch.equal(model.get_parameter(name), without.get_parameter(name))


def test_noise_that_explodes_raises() -> None:
    for method in (Fisher(alpha=1e6), Fisher(variant="theory", sigma=1e5)):
        with pytest.raises(DivergenceError, match=r"fisher diverged.*lower alpha or sigma"):
            forgotten(method)


# --- a whole class


def last_rows(model: nn.Module, rows: Iterable[int], **settings: Any) -> tuple[Tensor, Tensor]:
    found = forgotten(Fisher(alpha=1e-12, **settings), view(rows), model=model)
    last: Any = found.get_submodule("last")
    return last.weight.detach(), last.bias.detach()


CLASS_ONE = range(1, 40, 3)


def test_the_row_of_a_forgotten_class_is_drawn_anew() -> None:
    """Whatever it was, mean 0; the other rows keep theirs."""
    loud = tiny()
    with torch.no_grad():
        loud.last.weight[1] = 100.0
        loud.last.bias[1] = -100.0
    before = tiny().last
    for model in (tiny(), loud):
        weight, bias = last_rows(model, CLASS_ONE)
        assert weight[1].abs().max() < 5 * math.sqrt(1e-3)
        assert bias[1].abs() < 5 * math.sqrt(1e-3)
        for row in (0, 2):
            torch.testing.assert_close(weight[row], before.weight[row].detach(), rtol=0, atol=1e-3)
            torch.testing.assert_close(bias[row], before.bias[row].detach(), rtol=0, atol=1e-3)
    assert torch.equal(last_rows(tiny(), CLASS_ONE)[0][1], last_rows(loud, CLASS_ONE)[0][1])


def test_the_row_of_a_forgotten_class_has_the_stated_variance() -> None:
    """1e-4, and ten times as much for the last layer: 1290 numbers of ten rows say so."""
    data, values = digits(), []
    for label in range(10):
        split = Split.classes(data, [label])
        found = unlearned(
            original("mlp"), data, split, Fisher(labels="sampled"), device="cpu"
        ).model
        last: Any = found.get_submodule("fc3")
        values += [last.weight[label].detach(), last.bias[label : label + 1].detach()]
    drawn = torch.cat(values)
    assert len(drawn) == 1290
    assert float(drawn.mean()) == pytest.approx(0, abs=5e-3)
    assert float(drawn.var()) == pytest.approx(1e-4 * 10, rel=0.2)


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (range(9), {}),  # some of each class
        (range(1, 37, 3), {}),  # all of class 1 but the last
        (CLASS_ONE, {"variant": "theory", "sigma": 1e-9}),  # the paper's equation has no such rule
    ],
)
def test_no_row_is_drawn_anew_where_a_class_stays(rows: Any, settings: Any) -> None:
    before = tiny().last
    weight, bias = last_rows(tiny(), rows, **settings)
    torch.testing.assert_close(weight, before.weight.detach(), rtol=0, atol=1e-3)
    torch.testing.assert_close(bias, before.bias.detach(), rtol=0, atol=1e-3)


def test_several_classes_lose_their_rows() -> None:
    loud = tiny()
    with torch.no_grad():
        loud.last.weight.fill_(50.0)
    weight, _ = last_rows(loud, [i for i in range(40) if i % 3])
    assert weight[0].min() > 49
    assert weight[1:].abs().max() < 1
