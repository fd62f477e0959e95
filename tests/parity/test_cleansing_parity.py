"""Defences against backdoors beside the slow and obvious way to compute the same, in float64."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from helpers import run_on_cpu, seeded, toy, view_of
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ModelError
from expunge.methods.anp import Anp
from expunge.methods.fine_pruning import FinePruning
from expunge.methods.ibau import Ibau
from expunge.methods.shared.asleep import activity_of, last_convolution
from expunge.methods.shared.channel_masks import ChannelMasks
from expunge.methods.shared.channels import channels_of
from expunge.methods.shared.universal import Universal, implicit_gradient

RUN = run_on_cpu(names=("cleansing", 0), label="cleansing")
IMAGES = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = [row % 3 for row in range(40)]
VIEW = view_of(data := toy(LABELS, inputs=IMAGES), Split.whole(data))


class Double(nn.Module):
    """What a view hands out is float32."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.double()


def small(norm: bool = False) -> nn.Module:
    """A smooth network in float64: 25 numbers in, three classes."""

    def build() -> nn.Module:
        layers = [Double(), nn.Conv2d(1, 4, 3), *([nn.BatchNorm2d(4)] if norm else []), nn.Tanh()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 3)).double().eval()

    return seeded(build, 3)


def batch(count: int = 12) -> Batch:
    return Batch(data.train.ids[:count], IMAGES[:count], torch.tensor(LABELS[:count]), Part.RETAIN)


@pytest.mark.parametrize("terms", [1, 5, 400])
def test_the_implicit_gradient_is_that_of_dense_matrices(terms: int) -> None:
    """Of a series by its powers; of a long one by the inverse itself, where the step contracts."""
    model, step = small(), 0.05
    weights = list(model.parameters())
    change = 0.1 * torch.randn(25, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    slope = torch.linspace(-1, 1, 25, dtype=torch.float64)
    one = batch()

    def inner(change: Tensor, flat: Tensor) -> Tensor:
        sizes = [each.numel() for each in weights]
        pieces = zip(dict(model.named_parameters()).items(), flat.split(sizes), strict=True)
        named = {name: piece.view_as(each) for (name, each), piece in pieces}
        logits = functional_call(model, named, (one.inputs + change.view(1, 1, 5, 5),))
        return 2.0 * change.square().sum() - functional.cross_entropy(logits, one.labels)

    flat = torch.cat([each.detach().flatten() for each in weights])
    (bent, mixed), _ = torch.autograd.functional.hessian(inner, (change, flat))
    back = torch.eye(25, dtype=torch.float64) - step * bent  # of one step of the inner problem
    if terms == 400:
        assert torch.linalg.eigvalsh(back).abs().max() < 0.9
        wanted = torch.linalg.solve(torch.eye(25, dtype=torch.float64) - back, slope)
    else:
        wanted = sum(torch.linalg.matrix_power(back, k) @ slope for k in range(terms))
    expected = -step * mixed.T @ wanted

    change.requires_grad_(True)
    named = inner(change, torch.cat([each.flatten() for each in weights]))
    found = implicit_gradient(named, change, slope, weights, step=step, terms=terms)
    got = torch.cat([each.flatten() for each in found])
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert expected.norm() > 1e-3


def test_the_gradient_that_is_added_is_that_of_the_series() -> None:
    """As the method adds it: the outer slope and the inner loss of the very batch."""
    model, one = small(), batch()
    worst = Universal(VIEW.source(Part.RETAIN), RUN, radius=0.2, steps=3, share=0.5, size=8)
    worst.find(model, 0)
    assert float(worst.change.square().mean().sqrt()) <= 0.2 + 1e-6
    worst.change = worst.change.double()
    weights = list(model.parameters())
    RUN.loss(model, worst.laid_on(one)).backward()
    plain = [each.grad.clone() for each in weights if each.grad is not None]
    worst.add_implicit(model, one, terms=3, step=0.1, penalty=0.01)

    change = worst.change.detach().requires_grad_(True)
    moved = torch.cat([one.inputs[:6] + change, one.inputs[6:]])
    (slope,) = torch.autograd.grad(functional.cross_entropy(model(moved), one.labels), change)
    loss = functional.cross_entropy(model(moved[:6]), one.labels[:6])
    further = implicit_gradient(
        0.01 * change.square().sum() - loss, change, slope, weights, step=0.1, terms=3
    )
    for weight, before, more in zip(weights, plain, further, strict=True):
        assert weight.grad is not None
        assert torch.allclose(weight.grad, before + more, rtol=1e-9, atol=1e-12)


def test_the_search_raises_the_loss_above_that_of_random_changes() -> None:
    model = small()
    worst = Universal(VIEW.source(Part.RETAIN), RUN, radius=0.5, steps=20, share=1.0, size=40)
    worst.find(model, 0)
    everything = batch(40)
    draw = torch.Generator().manual_seed(2)

    def loss(change: Tensor) -> float:
        return float(
            RUN.loss(
                model.requires_grad_(False), replace(everything, inputs=everything.inputs + change)
            )
        )

    for _ in range(20):
        other = torch.randn(1, 1, 5, 5, generator=draw, dtype=torch.float64)
        assert loss(worst.change) > loss(0.5 * other / other.square().mean().sqrt())


@pytest.mark.parametrize("norm", [False, True])
def test_a_step_of_the_masks_is_that_of_plain_autograd(norm: bool) -> None:
    """On a copy of the network whose channels are multiplied one by one."""
    model, one = small(norm), batch()
    masks = ChannelMasks(
        model, channels_of(model, RUN), RUN, alpha=0.3, epsilon=0.25, ascent_steps=1
    )
    start = torch.tensor([0.9, 0.4, 0.7, 1.0], dtype=torch.float64)
    with torch.no_grad():
        masks.masks[0].copy_(start)
    place = 2 if norm else 1  # the layer whose channels these are
    weight, bias = model[place].weight.detach(), model[place].bias.detach()

    def loss(mask: Tensor, delta: Tensor, xi: Tensor) -> Tensor:
        rows = [weight[c] * (mask[c] + delta[c]) for c in range(4)]
        named = {f"{place}.weight": torch.stack(rows), f"{place}.bias": bias * (1 + xi)}
        return functional.cross_entropy(functional_call(model, named, (one.inputs,)), one.labels)

    delta, xi = (torch.zeros(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    slopes = torch.autograd.grad(loss(start, delta, xi), (delta, xi))
    worst = [0.25 * slope.sign() for slope in slopes]
    mask, still = start.clone().requires_grad_(True), torch.zeros(4, dtype=torch.float64)
    total = 0.3 * loss(mask, still, still) + 0.7 * loss(mask, *worst)
    (expected,) = torch.autograd.grad(total, mask)

    found = masks(one)
    found.backward()
    assert found.item() == pytest.approx(total.item(), rel=1e-12)
    assert torch.allclose(masks.masks[0].grad, expected, rtol=1e-9, atol=1e-12)
    assert all(each.grad is None for each in model.parameters())


def test_channels_below_the_threshold_go_and_nothing_else_changes() -> None:
    model = small(norm=True)
    before = copy.deepcopy(model.state_dict())
    made = Anp(steps=30, step_size=5.0, batch_size=20, threshold=0.5).unlearn(model, VIEW, RUN)
    after = made.state_dict()
    off = after["2.weight"] == 0
    assert 0 < RUN.log["channels"]["cut"] == int(off.sum()) <= 4
    for name, value in before.items():
        same = after[name] == value
        assert bool(same[~off].all() if name == "2.weight" else same.all()), name


def test_what_is_asleep_is_what_a_loop_says() -> None:
    model = small(norm=True)
    source = VIEW.source(Part.RETAIN)
    layer, norm = last_convolution(model, source, RUN, 7)
    assert (layer, norm) == (model[1], model[2])
    found = activity_of(model, norm, source, RUN, 7)
    rows = source.rows.tolist()
    expected = torch.zeros(4, dtype=torch.float64)
    for row in rows:
        seen = model[2](model[1](IMAGES[row : row + 1]))
        for c in range(4):
            expected[c] += seen[0, c].clamp(min=0).mean() / len(rows)
    assert torch.allclose(found, expected, rtol=1e-6)  # its inputs are float32


def test_pruning_takes_the_least_awake_and_they_stay_silent() -> None:
    model = small(norm=True)
    activity = activity_of(model, model[2], VIEW.source(Part.RETAIN), RUN, 40)
    made = FinePruning(lost=1.0, tries=2, epochs=2, lr=0.1).unlearn(model, VIEW, RUN)
    off = (made[2].weight == 0) & (made[2].bias == 0)
    assert int(off.sum()) == RUN.log["channels"]["cut"] == 3, "never all"
    assert not off[activity.argmax()]
    silent = made[2](made[1](IMAGES))[:, off]
    assert not silent.any()


def test_a_model_without_such_a_layer_is_refused() -> None:
    linear = nn.Sequential(Double(), nn.Flatten(), nn.Linear(25, 3)).double()
    for method in (Anp(steps=1), FinePruning()):
        with pytest.raises(ModelError, match="choose another method, such as ibau"):
            method.unlearn(linear, VIEW, RUN)


def test_no_change_of_inputs_is_kept_in_the_ball_of_another_scale() -> None:
    """The radius is a root mean square, whatever the size of an input."""
    method = Ibau(epochs=1, steps=1, ascent_steps=2, radius=0.01)
    method.unlearn(small(), VIEW, RUN)
    change = RUN.artifacts["universal_change"]
    assert float(change.square().mean().sqrt()) == pytest.approx(0.01, rel=1e-6)
