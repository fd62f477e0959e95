"""Per-sample work on the device: the fast way is the plain loop, in float64."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from helpers import (
    SAME_FLOAT32,
    SAME_FLOAT64,
    apart,
    batch_of,
    digits,
    inputs_of,
    original,
    random_mask,
    run_on,
)
from thorough import THOROUGH
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.per_sample import (
    fisher_diagonal,
    gradient_products,
    gram_matrix,
    per_sample_gradients,
    weighted_gradient,
)
from expunge.per_sample.curvature import (
    hessian_product,
    solve_by_conjugate_gradients,
    solve_in_sample_space,
    top_eigenvalue,
)

pytestmark = THOROUGH  # of a processor, where there is no GPU


COUNT = 8


@functools.cache
def _model(name: str) -> nn.Module:
    return original(name).double()


@pytest.fixture(params=["cnn", "mlp", "resnet20"])
def model(request: pytest.FixtureRequest, device: str) -> nn.Module:
    return copy.deepcopy(_model(request.param)).to(device)


@pytest.fixture
def batches(device: str) -> list[Batch]:
    inputs, labels = inputs_of(digits(), COUNT, device)
    return [batch_of(x, y) for x, y in zip(inputs.double().split(5), labels.split(5), strict=True)]


def rows_of(model: nn.Module, batches: list[Batch], device: str) -> dict[str, Tensor]:
    """Every sample's gradient, by the loop over batches of one."""
    each = [per_sample_gradients(model, b, run_on(device), engine="loop") for b in batches]
    return {name: torch.cat([one[name] for one in each]) for name in each[0]}


def vector_of(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
        for name, p in model.named_parameters()
    }


def test_gradients_and_what_is_made_of_them(
    model: nn.Module, batches: list[Batch], device: str
) -> None:
    run, rows, v = run_on(device), rows_of(model, batches, device), vector_of(model)
    joined = torch.cat([value.flatten(1) for value in rows.values()], dim=1)
    along = joined @ torch.cat([value.flatten() for value in v.values()])
    fast = [per_sample_gradients(model, batch, run, engine="vmap") for batch in batches]
    assert apart({k: torch.cat([one[k] for one in fast]) for k in rows}, rows) < SAME_FLOAT64
    assert apart({"": gradient_products(model, batches, run, v)}, {"": along}) < SAME_FLOAT64
    assert apart({"": gram_matrix(model, batches, run)}, {"": joined @ joined.t()}) < SAME_FLOAT64
    summed = {name: torch.tensordot(along, value, 1) for name, value in rows.items()}
    assert apart(weighted_gradient(model, batches, run, along), summed) < SAME_FLOAT64
    mask = random_mask(model)
    squares = {name: value.square().mean(0) for name, value in rows.items()}
    squares |= {name: squares[name] * keep.to(squares[name]) for name, keep in mask.items()}
    found = fisher_diagonal(model, batches, run, labels="true", mask=mask)
    assert apart(found, squares) < SAME_FLOAT64
    assert {value.device.type for value in found.values()} == {torch.device(device).type}


@pytest.mark.parametrize("labels", ["all", "sampled"])
def test_the_fisher_diagonal_of_the_hooks_is_the_loops(
    model: nn.Module, batches: list[Batch], labels: Any, device: str
) -> None:
    one, other = (
        fisher_diagonal(model, batches, run_on(device), labels=labels, engine=engine)
        for engine in ("hooks", "loop")
    )
    assert apart(one, other) < SAME_FLOAT64


def test_the_fast_engine_follows_float32_too(device: str) -> None:
    """What a sample is alone and in a batch must not differ by a GPU's rounding of convolutions."""
    model = original("resnet20").to(device)
    inputs, labels = inputs_of(digits(), COUNT, device)
    run = run_on(device)
    fast = fisher_diagonal(model, [batch_of(inputs, labels)], run, engine="hooks")
    slow = fisher_diagonal(model, [batch_of(inputs, labels)], run, engine="loop")
    assert apart(fast, slow) < 0.03  # bfloat16 products, where the device has them
    exact = fisher_diagonal(
        model, [batch_of(inputs, labels)], run, engine="hooks", precision="float32"
    )
    assert apart(exact, slow) < 10 * SAME_FLOAT32


def test_solves_on_the_device_agree(batches: list[Batch], device: str) -> None:
    """One system, in sample space and by conjugate gradients, and against the matrix written out."""
    model = copy.deepcopy(_model("mlp")).to(device)
    run, v = run_on(device), vector_of(model)
    direct = solve_in_sample_space(model, batches, run, v, damping=0.5)
    rows = rows_of(model, batches, device)
    G = torch.cat([value.flatten(1) for value in rows.values()], dim=1)

    def product(p: Any) -> dict[str, Tensor]:
        flat = torch.cat([p[name].flatten() for name in rows])
        pieces = torch.split(
            G.t() @ (G @ flat) / len(G), [value[0].numel() for value in rows.values()]
        )
        return {
            name: piece.view(value[0].shape)
            for (name, value), piece in zip(rows.items(), pieces, strict=True)
        }

    iterated = solve_by_conjugate_gradients(product, v, run, damping=0.5, tolerance=1e-10)
    assert apart(direct.x, iterated.x) < 1e-6
    assert {value.device.type for value in iterated.x.values()} == {torch.device(device).type}
    assert direct.top_eigenvalue == pytest.approx(iterated.top_eigenvalue, rel=0.02)


def test_the_hessian_is_the_processors(device: str) -> None:
    inputs, labels = inputs_of(digits(), COUNT, "cpu")
    found = []
    for where in (device, "cpu"):
        model = copy.deepcopy(_model("cnn")).to(where)
        batches = [batch_of(inputs.double().to(where), labels.to(where))]
        run = run_on(where)
        found.append(hessian_product(model, batches, run, vector_of(model)))
        model = copy.deepcopy(_model("mlp")).to(where)
        eigenvalue = top_eigenvalue(
            lambda p, m=model, b=batches, r=run: hessian_product(m, b, r, p), vector_of(model)
        )
        found.append({"": torch.tensor([eigenvalue])})
    assert apart(found[0], found[2]) < SAME_FLOAT64
    assert apart(found[1], found[3]) < 0.02
