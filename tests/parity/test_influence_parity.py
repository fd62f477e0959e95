"""Influence unlearning against a dense solve in float64, and against retraining where it is exact."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    batch_of,
    changed,
    digits,
    original,
    other_vectors,
    random_mask,
    run_on_cpu,
    seeded,
    toy,
    unlearned,
    view_of,
    view_of_vectors,
    with_statistics,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import ConfigError, DivergenceError
from expunge.methods.influence import Influence
from expunge.models.mask import Mask, apply_mask
from expunge.per_sample.curvature import top_eigenvalue

Matrix = NDArray[np.float64]
NAMES = ("influence", 0)
FORGOTTEN = range(9)


class Tiny(nn.Module):
    """47 parameters in float64, with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)
        ).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double())
        return logits


def tiny() -> Tiny:
    return seeded(lambda: with_statistics(Tiny, other_vectors), seed=3)


def view() -> DataView:
    return view_of_vectors(FORGOTTEN, Influence.reads, NAMES)


def gradient(model: nn.Module, batch: Batch) -> Matrix:
    """Of the mean loss of a batch, -log softmax at the label written out, as one vector."""
    assert batch.labels is not None
    logits = model(batch.inputs)
    losses = torch.logsumexp(logits, 1) - logits[torch.arange(len(logits)), batch.labels]
    pieces = torch.autograd.grad(losses.mean(), list(model.parameters()))
    return torch.cat([piece.flatten() for piece in pieces]).numpy()


def vector(model: nn.Module) -> Matrix:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()


def keeps(mask: Mask | None) -> Matrix:
    """1 for every weight that a mask keeps."""
    model = tiny()
    ones = [(mask or {}).get(name, torch.ones_like(p)) for name, p in model.named_parameters()]
    return torch.cat([one.flatten().double() for one in ones]).numpy()


def masked_tiny(mask: Mask | None) -> Tiny:
    model = tiny()
    apply_mask(model, mask)
    return model


@dataclass
class Dense:
    """The same problem with all matrices built."""

    v: Matrix
    curvature: Matrix
    step: Matrix


def dense(mask: Mask | None, samples: int, damping: float, curvature: str = "fisher") -> Dense:
    """(C + damping I)⁻¹ v among the kept weights, v by its definition."""
    kept = keeps(mask).astype(bool)
    model = masked_tiny(mask).eval()
    data = view()
    batches = data.source(Part.RETAIN).batches(1, shuffle=False)
    retain = np.stack([gradient(model, single) for single in batches])
    forget = np.stack(
        [gradient(model, one) for one in data.source(Part.FORGET).batches(1, shuffle=False)]
    )
    n_r, n_f = len(retain), len(forget)
    assert (n_r, n_f) == (31, 9)
    v = forget.sum(0) / (n_r + n_f) - n_f / ((n_r + n_f) * n_r) * retain.sum(0)
    taken = list(data.take(Part.RETAIN, samples).batches(1, shuffle=False))
    if curvature == "fisher":
        rows = np.stack([gradient(model, single) for single in taken])
        matrix = rows.T @ rows / len(rows)
    else:
        matrix = sum(hessian(model, single) for single in taken) / len(taken)
    matrix = matrix * np.outer(kept, kept)
    step = np.zeros_like(v)
    inner = matrix[np.ix_(kept, kept)] + damping * np.eye(int(kept.sum()))
    step[kept] = np.linalg.solve(inner, v[kept])
    return Dense(v, matrix, step)


def hessian(model: nn.Module, batch: Batch) -> Matrix:
    """Second derivatives of one sample's loss, row by row."""
    assert batch.labels is not None
    parameters = list(model.parameters())
    loss = nn.functional.cross_entropy(model(batch.inputs), batch.labels)
    first = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([piece.flatten() for piece in first])
    rows = []
    for entry in flat:
        second = torch.autograd.grad(entry, parameters, retain_graph=True)
        rows.append(torch.cat([piece.flatten() for piece in second]).numpy())
    return np.stack(rows)


def step_of(method: Influence, mask: Mask | None = None) -> tuple[Matrix, dict[str, Any]]:
    """What the method moves a model by, over alpha; and what it records."""
    model, run = masked_tiny(mask), run_on_cpu(mask=mask, names=NAMES, label="influence")
    start = vector(model)
    method.unlearn(model, view(), run)
    return (vector(model) - start) / method.alpha, run.log


def error(found: Matrix, expected: Matrix) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_the_slow_gradient_by_hand() -> None:
    """What all else here is measured by: (softmax - one-hot) x, for a linear model."""
    model = nn.Linear(2, 2).double()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    found = gradient(model, batch_of(torch.tensor([[2.0, -4.0]]).double(), [1]))
    assert found.tolist() == [1.0, -2.0, -1.0, 2.0, 0.5, -0.5]


# --- the step

MASKS = {"dense": None, "masked": random_mask(tiny(), kept=0.6)}
with_and_without_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


@with_and_without_mask
@pytest.mark.parametrize("damping", [1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("solver", ["gram", "cg", "auto"])
def test_the_step_is_the_dense_solve(solver: Any, damping: float, mask: Mask | None) -> None:
    method = Influence(solver=solver, damping=damping, tolerance=1e-10, iterations=1000)
    found, log = step_of(method, mask)
    expected = dense(mask, 1000, damping)
    assert error(found, expected.step) < 1e-7
    assert not found[keeps(mask) == 0].any()
    top = np.linalg.eigvalsh(expected.curvature)[-1]
    assert log["top_eigenvalue"] == pytest.approx(top, rel=0.02 if solver == "cg" else 1e-9)
    assert ("residual" in log) == ("products" in log) == (solver == "cg")
    if solver == "cg":
        assert log["residual"] < 1e-9
        assert 1 <= log["products"] <= 1001


@pytest.mark.thorough
@with_and_without_mask
@pytest.mark.parametrize(
    ("solver", "batch_size"),
    [("gram", 1), ("gram", 7), ("gram", 100), ("cg", 5), ("cg", 16), ("cg", 100)],
)  # one by one, conjugate gradients would take a pass over the samples for each of many products
def test_the_step_does_not_depend_on_the_batch_size(
    solver: Any, batch_size: int, mask: Mask | None
) -> None:
    method = Influence(solver=solver, damping=0.05, batch_size=batch_size, tolerance=1e-10)
    found, _ = step_of(method, mask)
    assert error(found, dense(mask, 1000, 0.05).step) < 1e-7


@with_and_without_mask
@pytest.mark.parametrize("samples", [1, 2, 13])
@pytest.mark.parametrize("solver", ["gram", "cg"])
def test_a_part_of_the_retain_set_makes_the_curvature_alone(
    solver: Any, samples: int, mask: Mask | None
) -> None:
    """The change of the gradient still sums over all of both sets."""
    method = Influence(solver=solver, damping=0.05, samples=samples, tolerance=1e-10)
    found, log = step_of(method, mask)
    expected = dense(mask, samples, 0.05)
    assert error(found, expected.step) < 1e-7
    assert error(found, dense(mask, 1000, 0.05).step) > 1e-3
    top = np.linalg.eigvalsh(expected.curvature)[-1]
    assert log["top_eigenvalue"] == pytest.approx(top, rel=0.02)


@with_and_without_mask
@pytest.mark.parametrize("damping", [1.0, 10.0])
def test_the_hessian_step_is_the_dense_solve(damping: float, mask: Mask | None) -> None:
    method = Influence(curvature="hessian", damping=damping, tolerance=1e-10, batch_size=7)
    found, log = step_of(method, mask)
    expected = dense(mask, 1000, damping, "hessian")
    values = np.linalg.eigvalsh(expected.curvature)
    assert values[0] < 0 < values[0] + damping
    assert error(found, expected.step) < 1e-7
    largest = values[np.abs(values).argmax()]
    assert log["top_eigenvalue"] == pytest.approx(largest, rel=0.02)


def test_far_below_the_damping_the_step_is_one_of_ascent() -> None:
    """Alpha / damping * v: v by the gradients of whole sets, in one pass each."""
    data, model = view(), tiny().eval()
    (retain,) = data.batches(Part.RETAIN, 100, shuffle=False)
    (forget,) = data.batches(Part.FORGET, 100, shuffle=False)
    whole = 31 + 9
    v = 9 / whole * (gradient(model, forget) - gradient(model, retain))
    for solver in ("gram", "cg"):
        method = Influence(alpha=1000.0, damping=1e7, solver=solver)
        found, log = step_of(method)
        assert log["top_eigenvalue"] < 1e-4 * method.damping
        assert error(found * method.damping, v) < 1e-5


def test_alpha_is_the_length_of_the_step() -> None:
    one, _ = step_of(Influence(damping=0.1))
    three, _ = step_of(Influence(damping=0.1, alpha=3.0))
    assert error(three, one) < 1e-10  # both are divided by alpha


@pytest.mark.parametrize(
    "settings", [{"solver": "gram"}, {"solver": "cg"}, {"curvature": "hessian"}]
)
def test_buffers_modes_and_gradients_are_left_alone(settings: Any) -> None:
    model = tiny().train()
    before = copy.deepcopy(model)
    Influence(damping=10.0, **settings).unlearn(model, view(), run_on_cpu(names=NAMES))
    assert changed(before, model) == {name for name, _ in model.named_parameters()}
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_what_is_frozen_stays() -> None:
    model = tiny()
    model.get_parameter("layers.0.weight").requires_grad_(False)
    before = copy.deepcopy(model)
    Influence().unlearn(model, view(), run_on_cpu(names=NAMES))
    names = {name for name, _ in model.named_parameters()}
    assert changed(before, model) == names - {"layers.0.weight"}


def test_a_step_that_explodes_raises() -> None:
    with pytest.raises(DivergenceError, match=r"influence diverged.*raise damping or lower alpha"):
        step_of(Influence(alpha=1e9))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "gram", "curvature": "hessian"}, "'gram' is for curvature 'fisher'"),
        ({"solver": "gram", "damping": 0}, "'gram' divides by the damping; set it above 0"),
    ],
)
def test_settings_that_exclude_each_other(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Influence(**settings)


# --- eigenvalues


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 2, 3, 30])
def test_the_largest_eigenvalue_is_that_of_numpy(size: int, seed: int) -> None:
    """With its sign: of an indefinite matrix it may be negative."""
    drawn = np.random.default_rng(seed).standard_normal((size, size))
    matrix = drawn + drawn.T
    like = {"a": torch.zeros(size, dtype=torch.float64)}

    def product(p: Any) -> Any:
        return {"a": torch.from_numpy(matrix) @ p["a"]}

    values = np.linalg.eigvalsh(matrix)
    expected = values[np.abs(values).argmax()]
    found = top_eigenvalue(product, like)
    assert abs(found) == pytest.approx(abs(expected), rel=0.02)
    near = np.abs(np.abs(values) - np.abs(expected)) < 0.02 * np.abs(expected)
    assert near.sum() > 1 or np.sign(found) == np.sign(expected)
    assert found == top_eigenvalue(product, like), "drawn by its own seed"


def test_the_eigenvalue_of_nothing() -> None:
    for size in (1, 2, 5):
        like = {"a": torch.zeros(size, dtype=torch.float64)}
        assert top_eigenvalue(lambda p: {"a": torch.zeros_like(p["a"])}, like) == 0


# --- retraining by one Newton step


class Ridge:
    """Squared error of the label plus ridge / 2 ||theta||², for each sample."""

    def __init__(self, ridge: float) -> None:
        self.ridge = ridge

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        size = sum(p.square().sum() for p in model.parameters())
        return (model(batch.inputs.double()).squeeze(1) - batch.labels).square() + (
            self.ridge / 2 * size
        )

    def observe(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"prediction": model(batch.inputs.double())}


def closed_form(x: Matrix, y: Matrix, ridge: float) -> Matrix:
    """The least of sum (x w - y)² + n ridge / 2 ||w||²."""
    return np.linalg.solve(2 * x.T @ x + len(x) * ridge * np.eye(x.shape[1]), 2 * x.T @ y)


@pytest.mark.parametrize("forgotten", [1, 10, 30])
@pytest.mark.parametrize("batch_size", [3, 1000])
def test_on_ridge_regression_one_step_is_retraining(forgotten: int, batch_size: int) -> None:
    ridge = 0.3
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(50, 6, generator=generator)
    labels = torch.randint(0, 9, (50,), generator=generator)
    data = toy(labels.tolist(), inputs=inputs)
    split = Split.indices(data, range(forgotten), base=Split.whole(data, validation=0))
    x, y = inputs.double().numpy(), labels.double().numpy()
    original, retrained = closed_form(x, y, ridge), closed_form(x[forgotten:], y[forgotten:], ridge)
    model = nn.Linear(6, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(original).unsqueeze(0))
    method = Influence(
        curvature="hessian",
        damping=0.0,
        samples=50 - forgotten,
        tolerance=1e-13,
        batch_size=batch_size,
    )
    run = run_on_cpu(task=Ridge(ridge), names=NAMES)
    method.unlearn(model, view_of(data, split, Influence.reads, names=NAMES), run)
    assert error(model.weight.detach().numpy()[0], retrained) < 1e-10
    assert error(original, retrained) > 1e-3
    assert run.log["residual"] < 1e-12


@pytest.mark.parametrize("forgotten", [1, 10])
def test_with_weight_decay_in_training_the_damping_is_the_decay(forgotten: int) -> None:
    """The loss has no decay in it, as in `fit`: without that damping the step is not to retraining."""
    decay = 0.3
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(50, 6, generator=generator)
    labels = torch.randint(0, 9, (50,), generator=generator)
    data = toy(labels.tolist(), inputs=inputs)
    split = Split.indices(data, range(forgotten), base=Split.whole(data, validation=0))
    x, y = inputs.double().numpy(), labels.double().numpy()
    original, retrained = closed_form(x, y, decay), closed_form(x[forgotten:], y[forgotten:], decay)
    off = {}
    for damping in (decay, 0.0):
        model = nn.Linear(6, 1, bias=False).double()
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(original).unsqueeze(0))
        method = Influence(curvature="hessian", damping=damping, samples=50, tolerance=1e-13)
        run = run_on_cpu(task=Ridge(0.0), names=NAMES)
        method.unlearn(model, view_of(data, split, Influence.reads, names=NAMES), run)
        off[damping] = error(model.weight.detach().numpy()[0], retrained)
    assert off[decay] < 1e-10
    assert off[0.0] > 1e-3


# --- what influence unlearning says when its solver does not get there


def forget(**settings: float | int | str) -> tuple[tuple[str, ...], dict[str, object]]:
    data = digits()
    method = Influence(samples=40, **settings)  # type: ignore[arg-type]
    record = unlearned(original("mlp"), data, Split.random(data, 0.2), method, device="cpu").record
    return record.warnings, record.log


def test_a_loose_solution_is_a_warning() -> None:
    warnings, log = forget(solver="cg", damping=0.01, iterations=2)
    assert float(str(log["residual"])) > 1e-2
    (told,) = warnings
    assert "left a residual of" in told and "raise iterations, or damping" in told
    assert "warnings" not in log


def test_a_good_solution_says_nothing() -> None:
    warnings, log = forget(solver="cg", damping=1.0)
    assert not warnings and float(str(log["residual"])) < 1e-5


@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
def test_the_cost_is_that_of_the_solve_alone(curvature: str) -> None:
    """Eigenvalue and residual are only reported: what they read and take stands apart."""
    data = digits()
    split = Split.random(data, 0.2)
    settings: dict[str, Any] = {"solver": "cg", "iterations": 2, "damping": 30.0}
    method = Influence(samples=40, curvature=curvature, tolerance=1e-12, **settings)
    record = unlearned(original("mlp"), data, split, method, device="cpu").record
    assert record.log["products"] == 2, "one for each iteration"
    passes = 2 if curvature == "fisher" else 1
    cost = record.cost
    assert cost.reads["forget"] == len(split.forget)
    assert cost.reads["retain"] == len(split.retain) + 40 * passes * 2
    assert cost.epoch_equivalents == sum(cost.reads.values()) / len(split.retain)
    rest, odd = divmod(cost.reported_reads["retain"], 40 * passes)
    assert rest > 2 and not odd, "products for the residual and for the eigenvalue"
    assert set(cost.reported_reads) == {"retain"}
    assert cost.reported_seconds > 0


def test_the_eigenvalue_of_the_gram_matrix_is_no_cost() -> None:
    data = digits()
    method = Influence(samples=40, solver="gram")
    cost = unlearned(
        original("mlp"), data, Split.random(data, 0.2), method, device="cpu"
    ).record.cost
    assert cost.reported_seconds > 0 and not cost.reported_reads


@pytest.mark.parametrize("samples", [40, 10_000])
def test_the_exact_solve_reads_its_samples_twice(samples: int) -> None:
    """Once for Gram matrix, products and their share of the sum, once for the way back."""
    data = digits()
    split = Split.random(data, 0.2)
    method = Influence(samples=samples)
    cost = unlearned(original("mlp"), data, split, method, device="cpu").record.cost
    assert cost.reads["retain"] == len(split.retain) + min(samples, len(split.retain))
