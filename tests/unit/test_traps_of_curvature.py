"""The traps of METHODS.md for influence unlearning and Fisher forgetting, each with a test."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from helpers import changed, digits, original, run_on_cpu, toy, unlearned, view_of
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.methods.fisher import Fisher
from expunge.methods.influence import Influence
from expunge.per_sample import fisher_diagonal


def tenth() -> Split:
    return Split.random(digits(), 0.1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- influence


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def sample_gradients(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """One row per sample, in evaluation mode."""
    model = copy.deepcopy(model).eval()
    rows = []
    for batch in batches:
        for inputs, label in zip(batch.inputs, batch.labels, strict=True):  # type: ignore[arg-type]
            loss = nn.functional.cross_entropy(model(inputs.unsqueeze(0)), label.unsqueeze(0))
            rows.append(flat(torch.autograd.grad(loss, list(model.parameters()))))
    return torch.stack(rows)


def linear_problem() -> tuple[nn.Module, DataView]:
    """A linear model in float64 on 30 vectors, 8 of them to forget."""
    generator = seeded(3)
    data = toy([i % 3 for i in range(30)], inputs=torch.randn(30, 4, generator=generator))
    split = Split.indices(data, range(8), base=Split.whole(data, validation=0))
    model = nn.Sequential(Doubled(), nn.Linear(4, 3).double())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model, view_of(data, split)


class Doubled(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.double()


def test_influence_is_no_recursion_with_a_stale_inverse_product() -> None:
    """The copied recursion keeps o = F⁻¹ g of the first gradient g, and only rescales it.

    So whatever the other gradients are, what it returns is v plus a multiple of the first of them.
    Recomputed for every gradient, the same recursion is the solve.
    """
    model, view = linear_problem()
    rows = sample_gradients(model, view.batches(Part.RETAIN, 50, shuffle=False))
    forget = sample_gradients(model, view.batches(Part.FORGET, 50, shuffle=False))
    n, n_f = len(rows), len(forget)
    v = forget.sum(0) / (n + n_f) - n_f / ((n + n_f) * n) * rows.sum(0)

    def recursion(stale: bool) -> Tensor:
        k, inverse = v.clone(), torch.eye(len(v), dtype=torch.float64)
        o = rows[0].clone()
        for row in rows:
            if not stale:
                o = inverse @ row
            along = torch.dot(o, row)
            k = k - torch.dot(k, row) / (n + along) * o
            inverse = inverse - torch.outer(o, o) / (n + along)
            if stale:
                o = o - along / (n + along) * o
        return k

    solved = torch.linalg.solve(rows.T @ rows / n + torch.eye(len(v), dtype=torch.float64), v)
    stale = recursion(stale=True)
    error = stale - v
    multiple = torch.dot(error, rows[0]) / rows[0].square().sum()
    torch.testing.assert_close(error, multiple * rows[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(recursion(stale=False), solved, rtol=1e-9, atol=1e-12)
    assert (stale - solved).norm() > 0.05 * solved.norm()

    for solver in ("gram", "cg"):
        before = flat(model.parameters())
        method = Influence(damping=1.0, alpha=1.0, solver=solver, tolerance=1e-10)
        moved = flat(method.unlearn(copy.deepcopy(model), view, run_on_cpu()).parameters()) - before
        assert (moved - solved).norm() < 1e-6 * solved.norm()
        assert (moved - stale).norm() > 0.05 * solved.norm()


def test_influence_sums_over_all_of_both_sets() -> None:
    """`samples` is of the curvature alone: far below the damping, it makes no difference."""
    model, view = linear_problem()
    before = flat(model.parameters())
    steps = []
    for samples in (2, 1000):
        method = Influence(damping=1e6, alpha=1e3, samples=samples)
        found = method.unlearn(copy.deepcopy(model), view, run_on_cpu())
        steps.append(flat(found.parameters()) - before)
    assert (steps[0] - steps[1]).norm() < 1e-4 * steps[1].norm()
    assert steps[1].norm() > 0


def test_influence_forgets_rather_than_learns() -> None:
    """The sign: the step goes up the loss of the forget set."""
    model = original("mlp")
    method = Influence(damping=0.1, samples=50)
    found = unlearned(model, digits(), tenth(), method, device="cpu").model
    batch = next(iter(view_of(digits(), tenth()).batches(Part.FORGET, 100)))
    with torch.no_grad():
        assert run_on_cpu().loss(found, batch) > run_on_cpu().loss(model, batch)


@pytest.mark.parametrize("method", [Influence(samples=20), Fisher(labels="sampled")])
def test_what_only_looks_leaves_batchnorm_statistics_alone(method: Any) -> None:
    model = original("cnn")
    found = unlearned(model, digits(), tenth(), method, device="cpu").model
    moved = changed(model, found)
    assert moved
    assert not {name for name in moved if "running" in name or "tracked" in name}


# --- fisher


def test_fisher_never_squares_the_gradient_of_a_batch_mean() -> None:
    """The squared mean shrinks as the batch grows; the mean of squares does not know of batches."""
    model, view = linear_problem()
    found = {}
    for size in (1, 11, 22):
        batches = view.batches(Part.RETAIN, size, shuffle=False)
        found[size] = flat(fisher_diagonal(model, batches, run_on_cpu(), labels="true").values())
    rows = sample_gradients(model, view.batches(Part.RETAIN, 50, shuffle=False))
    by_hand = rows.square().mean(0)
    trap = {size: rows.split(size) for size in found}
    squared_means = {
        size: torch.stack([part.mean(0).square() for part in parts]).mean(0)
        for size, parts in trap.items()
    }
    for size, value in found.items():
        torch.testing.assert_close(value, by_hand, rtol=1e-9, atol=1e-15)
        assert (squared_means[size].sum() < 0.5 * by_hand.sum()) == (size > 1)


@pytest.mark.parametrize("variant", ["released", "theory"])
def test_fisher_leaves_pruned_weights_without_noise(variant: Any) -> None:
    """A weight of 0 with no information would get the largest noise of all."""
    model = original("cnn")
    mask = {"features.4.weight": torch.rand(64, 32, 3, 3, generator=seeded(2)) < 0.1}
    method = Fisher(variant=variant, alpha=1e-6, labels="sampled")
    view = view_of(digits(), tenth())
    with torch.no_grad():
        model.get_parameter("features.4.weight").mul_(mask["features.4.weight"])
    found = method.unlearn(copy.deepcopy(model), view, run_on_cpu(mask=mask))
    weight = found.get_parameter("features.4.weight")
    assert not weight[~mask["features.4.weight"]].any(), "by the method, not by a mask put on later"
    assert (weight != model.get_parameter("features.4.weight"))[mask["features.4.weight"]].all()
