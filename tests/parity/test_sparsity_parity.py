"""Synaptic flow against plain numpy, and l1-sparse unlearning against its loop, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers import digits, run_on_cpu, seeded, toy, view_of, with_statistics
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sparse_helpers import blind
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.methods.l1_sparse import L1Sparse, soft_threshold, zero_fractions
from expunge.pruning.synflow import SynFlow

EPOCHS, SIZE = 3, 32
SCHEDULERS = ("constant", "increasing", "decreasing")
Matrix = NDArray[np.float64]


# --- synaptic flow


def flow_of(matrices: list[Matrix]) -> list[Matrix]:
    """Score of each weight of a linear net: what flows in, times |w|, times what flows on."""
    scores = []
    for number, matrix in enumerate(matrices):
        into = np.ones(matrices[0].shape[1])
        for earlier in matrices[:number]:
            into = earlier @ into
        on = np.ones(matrices[-1].shape[0])
        for later in reversed(matrices[number + 1 :]):
            on = on @ later
        scores.append(on[:, None] * matrix * into[None, :])
    return scores


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_synflow_equals_numpy(steps: int, sparsity: float) -> None:
    model = seeded(
        lambda: nn.Sequential(
            nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4)
        ),
        seed=2,
    )
    layers = ["0.weight", "2.weight", "4.weight"]
    weights = [np.abs(model.get_parameter(key).detach().double().numpy()) for key in layers]
    kept = [np.ones_like(w, dtype=bool) for w in weights]
    total = sum(w.size for w in weights)
    for step in range(1, steps + 1):
        scores = flow_of([w * k for w, k in zip(weights, kept, strict=True)])
        ranked = [(float(s), i, at) for i, w in enumerate(scores) for at, s in np.ndenumerate(w)]
        ranked.sort(key=lambda one: -one[0])
        kept = [np.zeros_like(w, dtype=bool) for w in weights]
        for _, layer, at in ranked[: round(total * (1 - sparsity) ** (step / steps))]:
            kept[layer][at] = True
    data = toy([0, 1, 2, 3], inputs=torch.zeros(4, 6))
    mask = SynFlow(steps=steps).mask(model, blind(data), run_on_cpu(), sparsity=sparsity)
    for key, expected in zip(layers, kept, strict=True):
        assert (mask[key].numpy() == expected).all()


# --- the schedules of gamma


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("constant", [0.4, 0.4, 0.4, 0.4]),
        ("increasing", [0.0, 0.1, 0.2, 0.3]),
        ("decreasing", [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_gamma_over_the_epochs(scheduler: Any, expected: list[float]) -> None:
    method = L1Sparse(gamma=0.4, scheduler=scheduler, epochs=4)
    assert [method.weight(epoch / 4) for epoch in range(4)] == pytest.approx(expected)
    for epoch in range(4):
        inside = {method.weight((epoch + step / 7) / 4) for step in range(7)}
        assert inside == {method.weight(epoch / 4)}


@given(st.integers(1, 200), st.integers(1, 400), st.sampled_from(SCHEDULERS))
def test_gamma_stands_still_inside_an_epoch(epochs: int, steps: int, scheduler: Any) -> None:
    """Whatever the rounding of (epoch + step / steps) / epochs."""
    method = L1Sparse(gamma=1.0, scheduler=scheduler, epochs=epochs)
    for epoch in {0, epochs // 3, epochs // 2, epochs - 1}:
        share = {"constant": 1.0, "increasing": epoch / epochs, "decreasing": 1 - epoch / epochs}
        for step in {0, steps // 2, steps - 1}:
            found = method.weight((epoch + step / steps) / epochs)
            assert found == pytest.approx(share[scheduler], abs=1e-12)


# --- the method


class Double(nn.Module):
    """A small network in float64, with BatchNorm, that takes what the view hands out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 10)
        ).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double())
        return logits


def network() -> Double:
    def build() -> Double:
        model = with_statistics(Double, lambda: torch.randn(20, 1, 8, 8))
        with torch.no_grad():
            model.get_parameter("layers.2.bias").copy_(torch.randn(12))
        return model

    return seeded(build, seed=1)


def view() -> DataView:
    return view_of(digits(), Split.random(digits(), 0.2), names=("parity", 0))


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean of -log softmax at the label, written out."""
    assert batch.labels is not None
    terms = [
        torch.log(torch.exp(row).sum()) - row[label]
        for row, label in zip(model(batch.inputs), batch.labels.tolist(), strict=True)
    ]
    return torch.stack(terms).sum() / len(terms)


def towards_zero(value: float, size: float) -> float:
    if value > size:
        return value - size
    return value + size if value < -size else 0.0


def loop(model: nn.Module, method: L1Sparse) -> None:
    """v <- m v + (g + gamma_t sign(theta) + w theta), theta <- theta - lr v; or the threshold."""
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    data = view()
    model.train()
    for epoch in range(method.epochs):
        gamma = {
            "constant": method.gamma,
            "increasing": method.gamma * epoch / method.epochs,
            "decreasing": method.gamma * (1 - epoch / method.epochs),
        }[method.scheduler]
        for batch in data.batches(Part.RETAIN, SIZE, epoch=epoch):
            parameters = dict(model.named_parameters())
            gradients = torch.autograd.grad(mean_loss(model, batch), list(parameters.values()))
            with torch.no_grad():
                for (name, theta), gradient in zip(parameters.items(), gradients, strict=True):
                    penalty = 0.0 if method.proximal else gamma * theta.sign()
                    whole = gradient + penalty + method.weight_decay * theta
                    velocity[name] = method.momentum * velocity[name] + whole
                    theta -= method.lr * velocity[name]
                    if method.proximal:
                        size = method.lr * gamma / (1 - method.momentum)
                        flat = [towards_zero(value, size) for value in theta.flatten().tolist()]
                        theta.copy_(torch.tensor(flat, dtype=theta.dtype).view_as(theta))


@pytest.mark.parametrize("proximal", [False, True], ids=["subgradient", "proximal"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_l1_sparse_equals_its_loop(scheduler: Any, proximal: bool) -> None:
    method = L1Sparse(
        gamma=0.02,
        scheduler=scheduler,
        proximal=proximal,
        epochs=EPOCHS,
        batch_size=SIZE,
        lr=0.02,
        weight_decay=0.01,
    )
    fast, slow = network(), network()
    start = copy.deepcopy(fast)
    run = run_on_cpu()
    method.unlearn(fast, view(), run)
    loop(slow, method)
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=0, atol=1e-10)
        assert not torch.equal(value, start.state_dict()[name])
    values = torch.cat([p.detach().flatten() for p in slow.parameters()])
    zeros = float((values == 0).double().mean())
    assert run.log["zero_fraction"] == pytest.approx(zeros)
    assert (zeros > 0.02) == proximal, "subgradient steps bring weights near 0, not to it"
    assert run.log["near_zero_fraction"] >= run.log["zero_fraction"]


def test_without_gamma_nothing_is_penalised() -> None:
    found = []
    for gamma, proximal in ((0.0, False), (0.0, True), (0.02, False)):
        model = network()
        method = L1Sparse(gamma=gamma, proximal=proximal, epochs=1, batch_size=SIZE)
        method.unlearn(model, view(), run_on_cpu())
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)
    assert found[2].abs().sum() < found[0].abs().sum()


@pytest.mark.parametrize("proximal", [False, True], ids=["subgradient", "proximal"])
def test_the_norm_is_over_all_parameters(proximal: bool) -> None:
    """Biases and BatchNorm's scale and shift shrink too; what the caller froze does not count."""
    method = L1Sparse(
        gamma=1.0,
        scheduler="constant",
        proximal=proximal,
        epochs=1,
        lr=1e-3,
        momentum=0,
        weight_decay=0,
        batch_size=1000,
    )
    plain, penalised = network(), network()
    for model in (plain, penalised):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.where(parameter < 0, -0.5, 0.5))
        model.get_parameter("layers.4.bias").requires_grad_(False)
    L1Sparse(**{**method.model_dump(), "gamma": 0.0}).unlearn(plain, view(), run_on_cpu())
    method.unlearn(penalised, view(), run_on_cpu())
    for (name, one), other in zip(penalised.named_parameters(), plain.parameters(), strict=True):
        shrunk = (other.abs() - one.abs()).detach()
        expected = 0.0 if name == "layers.4.bias" else 1e-3
        torch.testing.assert_close(shrunk, torch.full_like(shrunk, expected), rtol=0, atol=1e-9)


def test_soft_threshold_by_hand() -> None:
    model = nn.Linear(5, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3, -0.3, 0.1, -0.05, 2.0]]))
        model.bias.fill_(-0.25)
    model.weight.requires_grad_(False)
    soft_threshold(model, 0.2)
    assert model.weight.tolist()[0] == pytest.approx([0.3, -0.3, 0.1, -0.05, 2.0])
    assert model.bias.item() == pytest.approx(-0.05)
    model.weight.requires_grad_(True)
    soft_threshold(model, 0.1)
    assert model.weight.tolist()[0] == pytest.approx([0.2, -0.2, 0.0, 0.0, 1.9])
    assert model.weight.tolist()[0][3] == model.bias.item() == 0


def test_zero_fractions_by_hand() -> None:
    """Near zero is by each tensor's own largest; a tensor of zeros is near zero as a whole."""
    model = nn.Module()
    for name, values in {
        "a": [0.0, 0.0009, -0.0009, 0.0011, -1.0],
        "b": [[0.5, -1000.0], [0.9, 1.1]],
        "c": [0.0, 0.0],
    }.items():
        model.register_parameter(name, nn.Parameter(torch.tensor(values)))
    assert zero_fractions(model) == (3 / 11, 7 / 11)


def test_the_record_says_how_sparse_it_became() -> None:
    run = run_on_cpu()
    L1Sparse(gamma=0.05, proximal=True, epochs=1, batch_size=SIZE).unlearn(network(), view(), run)
    assert set(run.log) == {"zero_fraction", "near_zero_fraction"}
    assert 0 < run.log["zero_fraction"] <= run.log["near_zero_fraction"] < 1
