"""The Gram matrix of per-sample gradients against the product of their rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import random_mask
from per_sample_helpers import (
    ENGINES,
    FITTING,
    RUN,
    VECTORS,
    case,
    close,
    cut,
    digits_case,
    flat_mask,
    label_rows,
    of_same_padding,
)
from torch import nn

from expunge.per_sample import gram_matrix, kernels
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
