"""Gram matrices, products and the per-sample gradients themselves against slow ones; other tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import random_mask, run_on_cpu
from per_sample_helpers import (
    ENGINES,
    FITTING,
    RUN,
    VECTORS,
    Custom,
    Inplace,
    OneWay,
    OneWayOnce,
    Twice,
    case,
    close,
    cut,
    digits_case,
    flat,
    flat_mask,
    label_rows,
    of_same_padding,
    rows,
    samples,
    seeded,
)
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.task import Classification
from expunge.per_sample import (
    fisher_diagonal,
    gradient_products,
    gram_matrix,
    kernels,
    per_sample_gradients,
    weighted_gradient,
)
from expunge.per_sample.layers import Layer

pytestmark = of_same_padding


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20"])
def test_gram(name: str, masked: bool, engine: Any) -> None:
    model, batch = digits_case(name, 3 if name == "resnet20" else 6)
    mask = random_mask(model, 0.3) if masked else None
    G = label_rows(model, batch.inputs, batch.labels)
    if mask is not None:
        G = G * flat_mask(model, mask)
    K = gram_matrix(model, cut(batch, 4), RUN, mask=mask, engine=engine)
    close(K, G @ G.T)
    assert torch.equal(K, K.T)


@pytest.mark.parametrize("memory_bytes", [1, 2**13, 2**16, 2**30])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [*FITTING, *VECTORS, "tokens"])
def test_gram_by_hooks_of_many_layers(name: str, masked: bool, memory_bytes: int) -> None:
    model, batch = case(name)
    mask = {
        n: torch.rand(p.shape, generator=torch.Generator().manual_seed(2)) < 0.6
        for n, p in model.named_parameters()
    }
    G = label_rows(model, batch.inputs, batch.labels)
    if masked:
        G = G * flat_mask(model, mask)
    found = gram_matrix(
        model,
        cut(batch, 3),
        RUN,
        mask=mask if masked else None,
        engine="hooks",
        memory_bytes=memory_bytes,
    )
    close(found, G @ G.T)


def test_gram_of_many_samples_goes_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of pairs of samples, lowered to 64 samples, and all rows at once by vmap."""
    monkeypatch.setattr(kernels, "PAIRS", 64**2)
    model, batch = digits_case("mlp", 300)
    G = label_rows(model, batch.inputs, batch.labels)
    close(gram_matrix(model, cut(batch, 64), RUN, engine="hooks"), G @ G.T)
    close(gram_matrix(model, cut(batch, 64), RUN, engine="vmap"), G @ G.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_times_itself_is_never_negative(dtype: torch.dtype) -> None:
    """Summed over pairs of positions, the square of a gradient that cancels fell below 0."""
    layer = Layer(nn.Linear(3, 2), {"weight": "weight"}, "factored")
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(200, 3, 2, generator=generator)
    d -= d.mean(1, keepdim=True)  # over positions with one and the same input the gradient is 0
    a = torch.randn(200, 1, 3, generator=generator).expand(-1, 3, -1).contiguous()
    K = torch.zeros(200, 200)
    kernels.add_pairs(K, layer, a.to(dtype), d.to(dtype))
    assert (K.diagonal() >= 0).all()
    scale = d.square().sum((1, 2)) * a.square().sum((1, 2))
    assert (K.diagonal() <= 0.05 * scale).all()


@pytest.mark.parametrize("name", ["cnn", "branches", "centred"])
def test_products(name: str) -> None:
    model, batch = digits_case("cnn") if name == "cnn" else case(name)
    G = label_rows(model, batch.inputs, batch.labels)
    generator = torch.Generator().manual_seed(1)
    vector = {
        n: torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for n, p in model.named_parameters()
    }
    weights = torch.randn(len(batch), generator=generator, dtype=torch.float64)
    for size in (1, 3, 7):
        batches = cut(batch, size)
        close(gradient_products(model, batches, RUN, vector), G @ flat(vector))
        close(flat(weighted_gradient(model, batches, RUN, weights)), weights @ G)
        close(flat(weighted_gradient(model, batches, RUN)), G.sum(0))
    named = next(iter(vector))
    alone = {n: v if n == named else torch.zeros_like(v) for n, v in vector.items()}
    close(gradient_products(model, [batch], RUN, {named: vector[named]}), G @ flat(alone))


@pytest.mark.parametrize("function", [OneWay, OneWayOnce])
def test_products_without_a_forward_mode(function: Any) -> None:
    batch = samples(6)
    model = seeded(lambda: Custom(function), batch.inputs)
    G = label_rows(model, batch.inputs, batch.labels)
    vector = {n: torch.ones_like(p) for n, p in model.named_parameters()}
    close(gradient_products(model, [batch], RUN, vector), G @ flat(vector))


@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
def test_per_sample_gradients(engine: Any) -> None:
    model, batch = case("token and attention")
    found = per_sample_gradients(model, batch, RUN, engine=engine)
    G = torch.cat([value.flatten(1) for value in found.values()], 1)
    close(G, label_rows(model, batch.inputs, batch.labels))


# ---- other tasks


class Regression(Classification):
    """Squared error of one output against a target that the inputs carry."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = model(batch.inputs["x"])
        result: Tensor = (outputs[:, 0] - batch.inputs["y"]).square() / 2
        return result


class ById(Regression):
    """Its losses depend on who the sample is."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        scale = torch.tensor([float(name) + 1 for name in batch.ids], dtype=torch.float64)
        return scale * super().losses(model, batch)


@pytest.mark.parametrize("task", [Regression(), ById()])
def test_other_tasks(task: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(6, generator=generator, dtype=torch.float64)
    inputs: Any = {"x": x, "y": y}
    batch = Batch(np.array([str(i) for i in range(6)]), inputs, None, None)
    model = seeded(Twice, x) if isinstance(task, ById) else seeded(Inplace, x)
    run = run_on_cpu(task=task)
    scale = torch.arange(1.0, 7.0) if isinstance(task, ById) else torch.ones(6)

    def loss(model: nn.Module, row: int) -> Tensor:
        return scale[row] * (model(x[row : row + 1])[0, 0] - y[row]) ** 2 / 2

    G = rows(model, loss, 6)
    vector = {n: torch.ones_like(p) for n, p in model.named_parameters()}
    for batches in ([batch], cut(batch, 2)):
        close(flat(fisher_diagonal(model, batches, run, labels="true")), G.square().mean(0))
        close(gram_matrix(model, batches, run), G @ G.T)
        close(gradient_products(model, batches, run, vector), G.sum(1))
        close(flat(weighted_gradient(model, batches, run)), G.sum(0))
