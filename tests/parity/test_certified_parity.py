"""Methods with a certificate against plain loops in float64, written from their equations."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from helpers import digits, run_on_cpu, view_of
from torch import Tensor, nn

from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.methods.noisy_finetune import NoisyFinetune
from expunge.methods.shared.noisy_descent import NoisyDescent, concentration
from expunge.training.recipe import Recipe

SIZE = 64


class Double(nn.Module):
    """A small network in float64 that takes what the view hands out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10)
        ).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double())
        return logits


def network(seed: int = 1) -> Double:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Double()


def view(names: tuple[str | int, ...] = ("parity", 0)) -> DataView:
    data = digits()
    return view_of(data, Split.random(data, 0.2), names=names)


def cross_entropy(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    logits = model(inputs)
    terms = [torch.logsumexp(row, 0) - row[k] for row, k in zip(logits, labels, strict=True)]
    return torch.stack(terms).mean()


def cut(vectors: list[Tensor], norm: float) -> list[Tensor]:
    size = math.sqrt(sum(float(v.square().sum()) for v in vectors))
    return [v * min(1.0, norm / size) for v in vectors]


@pytest.mark.parametrize(("clip", "decay"), [(0.2, 40.0), (50.0, 0.0)])
def test_noisy_finetune_equals_its_loop(clip: float, decay: float) -> None:
    """theta <- theta - eta (Pi_C1(g) + lambda theta) + sigma z, then SGD; z of the same Philox key."""
    steps, eta, start = 5, 0.01, 0.3
    method = NoisyFinetune(
        noise_steps=steps,
        step_size=eta,
        start_norm=start,
        clip_norm=clip,
        decay=decay,
        epochs=2,
        lr=0.1,
        momentum=0.5,
        weight_decay=0.01,
        batch_size=SIZE,
        noise_seed=5,
    )
    fast, slow = network(), network()
    before = copy.deepcopy(fast)
    method.unlearn(
        fast, view(), run_on_cpu(recipe=Recipe(precision="float32", augmentation="none"))
    )

    draw = np.random.Generator(np.random.Philox(5))
    secret = "-".join(str(n) for n in draw.integers(2**62, size=2).tolist())
    data = view(("parity", 0, secret))
    retain = data.source(Part.RETAIN)
    weights = list(slow.parameters())
    count = sum(w.numel() for w in weights)

    q = 1 - eta * decay
    shift = 2 * start * q**steps + 2 * eta * clip * sum(q**t for t in range(steps))
    log = math.log(1 / method.delta)
    rho = (math.sqrt(log + method.epsilon) - math.sqrt(log)) ** 2
    sigma = shift / math.sqrt(2 * rho * sum(q ** (2 * t) for t in range(steps)))

    def epoch(number: int) -> list[tuple[Tensor, Tensor]]:
        order = data.order(len(retain), number, True)
        cuts = [order[i : i + SIZE] for i in range(0, len(order), SIZE)]
        (whole,) = retain.batches(len(retain), shuffle=False, augment=False)
        assert whole.labels is not None
        return [(whole.inputs[c], whole.labels[c]) for c in cuts]

    with torch.no_grad():
        for w, small in zip(weights, cut([w.detach() for w in weights], start), strict=True):
            w.copy_(small)
    batches = [each for number in range(3) for each in epoch(number)][:steps]
    assert len(batches) == steps
    for inputs, labels in batches:
        gradients = cut(
            list(torch.autograd.grad(cross_entropy(slow, inputs, labels), weights)), clip
        )
        noise = torch.from_numpy(draw.standard_normal(count)).split([w.numel() for w in weights])
        with torch.no_grad():
            for w, g, z in zip(weights, gradients, noise, strict=True):
                w.copy_(w - eta * (g + decay * w) + sigma * z.view_as(w))
    velocity = [torch.zeros_like(w) for w in weights]
    for number in range(2):
        for inputs, labels in epoch(number):
            found = torch.autograd.grad(cross_entropy(slow, inputs, labels), weights)
            with torch.no_grad():
                for w, g, v in zip(weights, found, velocity, strict=True):
                    v.mul_(0.5).add_(g + 0.01 * w)
                    w -= 0.1 * v
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=1e-6, atol=1e-8)
        assert not torch.allclose(value, before.state_dict()[name], rtol=0, atol=1e-2)


def test_the_noise_is_what_the_closed_forms_say() -> None:
    """At the values that the paper swept it ends at 1.96 a weight."""
    rho = concentration(1.0, 1e-5)
    assert rho + 2 * math.sqrt(rho * math.log(1e5)) == pytest.approx(1.0, rel=1e-12)
    for steps in (1, 7, 100):
        for lam in (0.5, 50.0, 900.0):
            found = NoisyDescent(steps, 1e-3, 0.1, 10.0, lam, rho)
            q = 1 - 1e-3 * lam
            z = 0.2 * q**steps + (20 / lam) * (1 - q**steps)
            wanted = z**2 * 1e-3 * lam * (2 - 1e-3 * lam) / (2 * rho * (1 - q ** (2 * steps)))
            assert found.sigma**2 == pytest.approx(wanted, rel=1e-7)
            assert found.final_noise == pytest.approx(z / math.sqrt(2 * rho), rel=1e-7)
        plain = NoisyDescent(steps, 1e-3, 0.1, 10.0, 0.0, rho)
        wanted = (0.2 + 2e-3 * 10 * steps) ** 2 / (2 * rho * steps)
        assert plain.sigma**2 == pytest.approx(wanted, rel=1e-7)
    swept = NoisyFinetune(**NoisyFinetune.presets["swept"]).descent()
    assert swept.final_noise == pytest.approx(1.96, abs=0.02)


@pytest.mark.parametrize("decay", [1e-3, 1e-7, 1e-11, 1e-15])
def test_the_noise_goes_over_into_that_without_decay(decay: float) -> None:
    some, none = (NoisyDescent(50, 1e-2, 0.3, 0.7, each, 0.02) for each in (decay, 0.0))
    assert some.sigma == pytest.approx(none.sigma, rel=max(1e-12, decay))


def gaussian_delta(epsilon: float, apart: float) -> float:
    """delta of two Gaussians of deviation 1, exactly (Balle and Wang, ICML 2018, theorem 8)."""

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    far = apart / 2
    return phi(far - epsilon / apart) - math.exp(epsilon) * phi(-far - epsilon / apart)


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-5), (0.1, 1e-3), (8.0, 1e-6)])
def test_starts_driven_apart_by_constant_gradients_are_within_the_claim(
    epsilon: float, delta: float
) -> None:
    """Gradients of +C1 and -C1 at starts of -C0 and C0: Gaussians Z apart, the worst there is."""
    descent = NoisyDescent(9, 0.1, 1.0, 2.0, 3.0, concentration(epsilon, delta))
    q = 1 - 0.1 * 3.0
    ends = [s * (q**9 + 0.1 * 2.0 * sum(q**t for t in range(9))) for s in (-1, 1)]
    deviation = descent.sigma * math.sqrt(sum(q ** (2 * t) for t in range(9)))
    apart = (ends[1] - ends[0]) / deviation
    assert 0 < gaussian_delta(epsilon, apart) < delta
    assert gaussian_delta(epsilon, 3 * apart) > delta


def test_one_weight_with_gradients_that_drive_it_from_0_is_within_the_claim() -> None:
    """The law of the last weight by sums over a grid, from starts at -C0 and C0."""
    epsilon, delta = 1.0, 1e-3
    descent = NoisyDescent(2, 0.2, 1.0, 1.5, 1.0, concentration(epsilon, delta))

    def excess(sigma: float) -> float:
        """The largest P(S) - e^epsilon Q(S)."""
        grid = np.linspace(-12 * sigma - 3, 12 * sigma + 3, 1200)
        moved = 0.8 * grid + 0.2 * 1.5 * np.sign(grid)
        kernel = np.exp(-((grid[:, None] - moved[None, :]) ** 2) / (2 * sigma**2))
        kernel /= kernel.sum(axis=0)
        laws = []
        for start in (-1.0, 1.0):
            first = np.exp(-((grid - (0.8 * start + 0.3 * np.sign(start))) ** 2) / (2 * sigma**2))
            law = first / first.sum()
            laws.append(kernel @ law)
        return float(np.maximum(laws[0] - math.exp(epsilon) * laws[1], 0).sum())

    assert 0 < excess(descent.sigma) < delta
    assert excess(descent.sigma / 3) > delta
