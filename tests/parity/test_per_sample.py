"""Fisher diagonals, Gram matrices, products and per-sample gradients against slow ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import batch_of, random_mask, run_on_cpu
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
    slow_fisher,
)
from thorough import but_first
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.task import Classification
from expunge.models.table import build_model
from expunge.per_sample import (
    fisher_diagonal,
    gradient_products,
    gram,
    gram_matrix,
    kernels,
    layers,
    per_sample_gradients,
    weighted_gradient,
)
from expunge.per_sample.chunks import memory_for
from expunge.per_sample.fisher import label_factor
from expunge.per_sample.gram import gram_and_products
from expunge.per_sample.layers import TILE, Layer, add_weight_squares, as_matrix, as_weight

pytestmark = of_same_padding


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("labels", ["all", "sampled", "true"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20"])
def test_fisher(name: str, labels: Any, engine: Any) -> None:
    model, batch = digits_case(name, 3 if name == "resnet20" else 6)
    found = fisher_diagonal(model, cut(batch, 4), RUN, labels=labels, engine=engine)
    close(flat(found), slow_fisher(model, batch, labels))
    assert {n: (v.shape, v.dtype) for n, v in found.items()} == {
        n: (p.shape, p.dtype) for n, p in model.named_parameters()
    }


@pytest.mark.parametrize("labels", ["all", "true"])
@pytest.mark.parametrize("name", [*FITTING, *VECTORS, "tokens"])
def test_fisher_by_hooks_of_many_layers(name: str, labels: Any) -> None:
    model, batch = case(name)
    found = fisher_diagonal(model, [batch], RUN, labels=labels, engine="hooks")
    close(flat(found), slow_fisher(model, batch, labels))


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("memory_bytes", [1, 2**16, 2**30])
@pytest.mark.parametrize("labels", ["all", "sampled", "true"])
def test_fisher_depends_on_neither_batches_nor_memory(
    labels: Any, memory_bytes: int, size: int
) -> None:
    model, batch = case("strided")
    whole = fisher_diagonal(model, [batch], RUN, labels=labels)
    found = fisher_diagonal(model, cut(batch, size), RUN, labels=labels, memory_bytes=memory_bytes)
    close(flat(found), flat(whole), 1e-12)


def test_fisher_is_not_the_square_of_a_batch_means_gradient() -> None:
    """The known trap: (mean gradient)² shrinks with the batch, and is no Fisher information."""
    model, batch = case("strided")
    squared_mean = label_rows(model, batch.inputs, batch.labels).mean(0).square()
    for size in (1, 7):
        found = flat(fisher_diagonal(model, cut(batch, size), RUN, labels="true"))
        close(found, slow_fisher(model, batch, "true"))
        assert float((found - squared_mean).norm()) > 0.5 * float(found.norm())


@pytest.mark.parametrize("engine", ENGINES)
def test_fisher_under_a_mask(engine: Any) -> None:
    model, batch = digits_case("cnn")
    mask = random_mask(model, 0.3)
    found = flat(fisher_diagonal(model, [batch], RUN, mask=mask, engine=engine))
    close(found, slow_fisher(model, batch, "all") * flat_mask(model, mask))


def test_fisher_of_some_parameters_alone() -> None:
    model, batch = digits_case("cnn")
    expected = slow_fisher(model, batch, "all")
    names = [name for name, _ in model.named_parameters()]
    keep = {name for name in names if name.endswith("bias") or name == "features.4.weight"}
    sizes = [p.numel() for p in model.parameters()]
    for name, p in model.named_parameters():
        p.requires_grad_(name in keep)
    found = fisher_diagonal(model, [batch], RUN, engine="hooks")
    assert list(found) == [name for name in names if name in keep]
    pieces = dict(zip(names, expected.split(sizes), strict=True))
    for name, value in found.items():
        close(value.flatten(), pieces[name])


# ---- its pieces


def test_label_factor() -> None:
    generator = torch.Generator().manual_seed(0)
    z = 30 * torch.randn(50, 10, generator=generator, dtype=torch.float64)
    z[0], z[1, 3], z[2, 9], z[3, 0] = 0.0, 800.0, 800.0, 800.0
    p, u = z.softmax(1), label_factor(z)
    assert u.shape == (50, 9, 10)
    covariance = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    close(u.transpose(1, 2) @ u, covariance, 1e-12)
    # where a model is certain, small variances keep their digits
    others = torch.stack([p[:, [i for i in range(10) if i != c]].sum(1) for c in range(10)], 1)
    variance = p * others
    assert ((u.square().sum(1) - variance).abs() <= 1e-9 * variance + 1e-300).all()


@pytest.mark.parametrize("directions", [1, 9])
@pytest.mark.parametrize("positions", [1, 5, 16])
@pytest.mark.parametrize("fan_out", [3, TILE // 40])
def test_squares_of_a_layers_weight(positions: int, directions: int, fan_out: int) -> None:
    """One position and several; several samples at a time, and one in tiles of some outputs."""
    generator = torch.Generator().manual_seed(0)
    batch = 2 if fan_out > 3 else 5
    A = torch.randn(batch, 4, positions, generator=generator, dtype=torch.float64)
    B = torch.randn(batch, directions, fan_out, positions, generator=generator, dtype=torch.float64)
    expected = torch.einsum("bkt,blot->blok", A, B).square().sum((0, 1))
    total = torch.ones_like(expected)
    add_weight_squares(A, B, total)
    close(total, expected + 1, 1e-12)


def test_a_gpu_multiplies_in_few_large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """In tiles for a processor's caches this one layer of a ResNet-18 took 5,504 products.

    What is counted is the same on any device but a processor, and on `meta` nothing is computed.
    """
    made: list[int] = []
    real = layers.weight_rows
    monkeypatch.setattr(layers, "weight_rows", lambda A, B: made.append(1) or real(A, B))
    A = torch.empty(128, 4608, 16, device="meta")  # the widest layer of a ResNet-18
    B = torch.empty(128, 9, 512, 16, device="meta")
    add_weight_squares(A, B, torch.empty(512, 4608, device="meta"))
    assert len(made) == 128, "one of each sample"


def test_a_pass_may_hold_a_share_of_a_gpus_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    total = {"small": 2**32, "large": 80 * 2**30}
    for name, expected in (("small", 2**30), ("large", 10 * 2**30)):
        card = SimpleNamespace(total_memory=total[name])
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, card=card: card)
        assert memory_for(torch.device("cuda")) == expected
        assert memory_for(torch.device("cuda"), 5) == memory_for(torch.device("cpu"), 5) == 5
    assert memory_for(torch.device("cpu")) == 2**30


def test_weights_as_matrices_and_back() -> None:
    weight = torch.arange(120.0).view(2, 3, 4, 5)
    assert torch.equal(as_weight(as_matrix(weight), weight.shape), weight)
    many = torch.stack([as_matrix(weight), as_matrix(-weight)])
    assert torch.equal(as_weight(many, weight.shape), torch.stack([weight, -weight]))


def test_sums_of_squares_are_never_negative() -> None:
    """The product over pairs of positions that made them cancelled where a gradient is 0."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(50, 4, 1, generator=generator).expand(-1, -1, 3)
    d = torch.randn(50, 10, 6, 3, generator=generator)
    d -= d.mean(-1, keepdim=True)  # so the gradient is 0 but for rounding
    for dtype in (torch.float32, torch.bfloat16):
        total = torch.zeros(6, 4)
        add_weight_squares(a.to(dtype), d.to(dtype), total)
        assert (total >= 0).all()
    exact = torch.zeros(6, 4)
    add_weight_squares(a, d, exact)
    # rounding of a gradient is squared, too: far below the rounding of the squares' own terms
    assert float(exact.max()) < 1e-9


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resnet18_has_no_negative_fisher_information(precision: Any) -> None:
    """It had -3e-12, and -2e-6 in bfloat16, where sums went over pairs of the last layers' positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model("resnet18", (3, 16, 16), 10, allow_code=True)
        batch = batch_of(torch.randn(1, 3, 16, 16), torch.tensor([0]))
    found = fisher_diagonal(model, [batch], RUN, labels="true", precision=precision)
    assert min(float(value.min()) for value in found.values()) >= 0.0


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
    v = some_vector(model)
    both = gram_and_products(model, cut(batch, 4), RUN, v, mask=mask, engine=engine)
    assert torch.equal(both[0], K)
    close(both[1], G @ flat(v))


@pytest.mark.parametrize("memory_bytes", but_first(2, [2**13, 2**30, 1, 2**16]))
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
    v = some_vector(model)
    found, products = gram_and_products(
        model,
        cut(batch, 3),
        RUN,
        v,
        mask=mask if masked else None,
        engine="hooks",
        memory_bytes=memory_bytes,
    )
    close(found, G @ G.T)
    close(products, G @ flat(v))


def some_vector(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        n: torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for n, p in model.named_parameters()
    }


def test_gram_of_many_samples_goes_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of pairs of samples, lowered to 64 samples, and all rows at once by vmap."""
    monkeypatch.setattr(kernels, "PAIRS", 64**2)
    monkeypatch.setattr(gram, "BLOCK", 64)
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
