"""Per-sample gradients, and what is made of them, against backward passes on batches of one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import batch_of, original, random_mask, run_on_cpu
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.per_sample import (
    fisher_diagonal,
    gradient_products,
    gram_matrix,
    per_sample_gradients,
    weighted_gradient,
)
from expunge.per_sample.fisher import label_factor
from expunge.per_sample.half import HalfBackward
from expunge.per_sample.layers import (
    add_squares_by_rows,
    as_matrix,
    as_weight,
    squares_by_pairs,
)
from expunge.per_sample.probe import choose
from expunge.run import Run
from expunge.task import Classification

# torch's own, of a convolution whose padding is wider on one side
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")

RUN = run_on_cpu(names=("per sample", 0))
CLASSES = 4
ENGINES = ["hooks", "vmap", "loop"]

# ---- slow code: one sample, one backward pass


def rows(model: nn.Module, loss: Callable[[nn.Module, int], Tensor], count: int) -> Tensor:
    """Gradients of `loss(model, row)` for each row, (count, parameters), evaluation mode."""
    model = copy.deepcopy(model).eval()
    wanted = [p for p in model.parameters() if p.requires_grad]
    found = []
    for row in range(count):
        value = loss(model, row)
        gradient = torch.autograd.grad(value, wanted, allow_unused=True)
        pairs = zip(wanted, gradient, strict=True)
        found.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])
        )
    return torch.stack(found)


def one(inputs: Any, row: int) -> Any:
    if isinstance(inputs, dict):
        return {key: value[row : row + 1] for key, value in inputs.items()}
    return inputs[row : row + 1]


def logits(model: nn.Module, inputs: Any, row: int) -> Tensor:
    alone = one(inputs, row)
    result: Tensor = model(**alone) if isinstance(alone, dict) else model(alone)
    return result


def label_rows(model: nn.Module, inputs: Any, labels: Any) -> Tensor:
    """Gradients of the cross-entropy at the given labels."""

    def loss(model: nn.Module, row: int) -> Tensor:
        return -logits(model, inputs, row).log_softmax(1)[0, int(labels[row])]

    return rows(model, loss, len(labels))


def slow_fisher(model: nn.Module, batch: Batch, labels: str) -> Tensor:
    """(parameters,) by the definition."""
    count = len(batch)
    if labels == "true":
        return label_rows(model, batch.inputs, batch.labels).square().mean(0)
    still = copy.deepcopy(model).eval()
    with torch.no_grad():
        p = torch.cat([logits(still, batch.inputs, row).softmax(1) for row in range(count)])
    if labels == "sampled":
        generator = torch.Generator().manual_seed(RUN.seed_for("fisher"))
        uniform = torch.rand(count, 1, dtype=torch.float64, generator=generator)
        drawn = (p.cumsum(1) <= uniform).sum(1)
        return label_rows(model, batch.inputs, drawn).square().mean(0)
    total = torch.zeros(())
    for label in range(p.shape[1]):
        G = label_rows(model, batch.inputs, torch.full((count,), label))
        total = total + (p[:, label : label + 1] * G.square()).mean(0)
    return total


def flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values.values()])


def flat_mask(model: nn.Module, mask: dict[str, Tensor]) -> Tensor:
    named = model.named_parameters()
    return torch.cat([mask.get(n, torch.ones_like(p) > 0).flatten() for n, p in named])


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def cut(batch: Batch, size: int) -> list[Batch]:
    return [
        replace(
            batch,
            ids=batch.ids[start : start + size],
            inputs=torch.utils._pytree.tree_map(lambda x: x[start : start + size], batch.inputs),  # noqa: B023
            labels=None if batch.labels is None else batch.labels[start : start + size],
        )
        for start in range(0, len(batch), size)
    ]


# ---- models


class Sequence(nn.Module):
    """Tokens and a mask, as keyword arguments; linear layers and norms at several positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, tokens: Tensor, weight: Tensor) -> Tensor:
        hidden = torch.tanh(self.mix(self.norm(self.embed(tokens))))
        result: Tensor = self.head((hidden * weight.unsqueeze(-1)).sum(1))
        return result


class Odd(nn.Module):
    """A layer of nobody's making: an elementwise scale to a learned power."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(5) + 0.5)
        self.power = nn.Parameter(torch.tensor(1.5))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * inputs.abs() ** self.power


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.first(torch.tanh(self.first(inputs)))))
        return result


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(inputs)))))
        return result


class Borrowed(Twice):
    """Calls the layer once, and uses its weight a second time by hand."""

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(inputs))
        result: Tensor = self.head(torch.tanh(functional.linear(hidden, self.first.weight)))
        return result


class Token(nn.Module):
    """A parameter of the model itself, and attention, whose weights no layer's call shows."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        words = torch.cat(
            [self.token.expand(len(inputs), -1, -1), inputs.view(-1, 2, 3).repeat(1, 1, 2)], 1
        )
        mixed, _ = self.attention(words, words, words, need_weights=False)
        result: Tensor = self.head(mixed[:, 0])
        return result


class Branches(Twice):
    """Takes one of two ways by what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(6, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        layer = self.first if float(inputs.sum()) > 0 else self.other
        result: Tensor = self.head(torch.tanh(layer(inputs)))
        return result


class Outside(Twice):
    """Calls the layer's `forward` past its hooks."""

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.first.forward(inputs)))
        return result


class Crosswise(Twice):
    """The first axis that a layer sees is not the samples'."""

    def forward(self, inputs: Tensor) -> Tensor:
        words = inputs.unsqueeze(0).expand(2, -1, -1)
        result: Tensor = self.head(torch.tanh(self.first(words)).sum(0))
        return result


class Centred(Twice):
    """Every sample depends on the others in its batch; alone it is only itself."""

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        result: Tensor = self.head(torch.tanh(hidden - 0.5 * hidden.mean(0)))
        return result


class Overwritten(Twice):
    """The input of a layer is changed after the layer has read it; the bias alone is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.first.weight.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs * 1.0
        first = self.first(hidden)
        hidden.mul_(2.0)
        result: Tensor = self.head(torch.tanh(first) + hidden)
        return result


class Inplace(nn.Module):
    """The output of a layer is overwritten by what follows, which is no fault."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 7), nn.ReLU(inplace=True), nn.Linear(7, 7), nn.ReLU(inplace=True),
            nn.Linear(7, CLASSES),
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layers[:3](inputs)
        hidden += inputs.mean(1, keepdim=True)
        result: Tensor = self.layers[3:](hidden)
        return result


class OneWay(torch.autograd.Function):
    """Squares; has a derivative backward and none forward."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs.square()

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Tensor:  # type: ignore[override]
        (inputs,) = ctx.saved_tensors
        return 2 * inputs * delta


class OneWayOnce(OneWay):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, delta: Tensor) -> Tensor:  # type: ignore[override]
        (inputs,) = ctx.saved_tensors
        return 2 * inputs * delta


class Custom(Twice):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(self.function.apply(self.first(inputs)))
        return result


def images(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(CLASSES))


FITTING: dict[str, Callable[[], nn.Module]] = {
    "strided": lambda: images(
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), nn.Tanh(),
        nn.Conv2d(3, 4, 2, bias=False),
    ),
    "same": lambda: images(nn.Conv2d(2, 3, 2, padding="same"), nn.Tanh()),
    "reflected": lambda: images(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")),
    "pointwise": lambda: images(nn.Conv2d(2, 3, 1, stride=2), nn.Tanh(), nn.Conv2d(3, 40, 3, padding=1)),
    "groups": lambda: images(nn.Conv2d(2, 4, 3, groups=2), nn.GroupNorm(2, 4), nn.Tanh()),
    "upwards": lambda: images(nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3), nn.PReLU()),
    "line": lambda: images(
        nn.Flatten(2), nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2), nn.BatchNorm1d(3)
    ),
    "volume": lambda: images(nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 2, (1, 2, 2)), nn.Tanh()),
    "layer norm": lambda: images(nn.LayerNorm((5, 4)), nn.Tanh(), nn.Linear(4, 3)),
}  # fmt: skip
VECTORS: dict[str, Callable[[], nn.Module]] = {
    "odd": lambda: nn.Sequential(nn.Linear(6, 5), Odd(), nn.Linear(5, CLASSES)),
    "in place": Inplace,
}
# model, and the best engine that follows it
UNFIT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "called twice": (Twice, "vmap"),
    "tied": (Tied, "vmap"),
    "borrowed": (Borrowed, "vmap"),
    "token and attention": (Token, "vmap"),
    "branches": (Branches, "loop"),
    "past the hooks": (Outside, "vmap"),
    "crosswise": (Crosswise, "vmap"),
    "centred": (Centred, "vmap"),
    "overwritten": (Overwritten, "loop"),
    "weight norm": (lambda: nn.Sequential(
        torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Linear(5, CLASSES)
    ), "vmap"),
    "no statistics": (lambda: nn.Sequential(
        nn.Linear(6, 8), nn.Unflatten(1, (2, 4)), nn.BatchNorm1d(2, track_running_stats=False),
        nn.Flatten(), nn.Linear(8, CLASSES),
    ), "vmap"),
    "one way": (lambda: Custom(OneWay), "loop"),
}  # fmt: skip


def seeded(build: Callable[[], nn.Module], example: Any) -> nn.Module:
    """A float64 model in training mode with statistics of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build().double()
        for _ in range(3):
            model(**example) if isinstance(example, dict) else model(example)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
                nn.init.normal_(module.weight)
    return model.train()


def samples(*shape: int, count: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    return batch_of(inputs, torch.randint(CLASSES, (count,), generator=generator))


def tokens(count: int = 7) -> Batch:
    generator = torch.Generator().manual_seed(5)
    inputs: Any = {
        "tokens": torch.randint(11, (count, 3), generator=generator),
        "weight": torch.rand(count, 3, generator=generator, dtype=torch.float64),
    }
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return Batch(np.array([str(i) for i in range(count)]), inputs, labels, None)


def case(name: str) -> tuple[nn.Module, Batch]:
    if name in FITTING:
        batch = samples(2, 5, 4)
        return seeded(FITTING[name], batch.inputs), batch
    if name == "tokens":
        batch = tokens()
        return seeded(Sequence, batch.inputs), batch
    batch = samples(6)
    build = VECTORS[name] if name in VECTORS else UNFIT[name][0]
    return seeded(build, batch.inputs), batch


def digits_case(name: str, count: int = 6) -> tuple[nn.Module, Batch]:
    generator = torch.Generator().manual_seed(6)
    inputs = torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (count,), generator=generator)
    return original(name).double(), batch_of(inputs, labels)


# ---- the Fisher diagonal


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


@pytest.mark.parametrize("name", UNFIT)
def test_what_hooks_would_get_wrong_goes_elsewhere(name: str) -> None:
    model, batch = case(name)
    expected = slow_fisher(model, batch, "true")
    with pytest.raises(ConfigError, match="engine 'hooks' cannot follow"):
        fisher_diagonal(model, [batch], RUN, labels="true", engine="hooks")
    close(flat(fisher_diagonal(model, [batch], RUN, labels="true")), expected)
    parameters = dict(model.named_parameters())
    model.eval()
    assert choose(model, parameters, RUN.task.losses, batch, "auto").engine == UNFIT[name][1]


def test_a_first_batch_of_one_sample_shows_too_little() -> None:
    model, batch = case("centred")
    batches = [*cut(batch, 1)[:1], *[cut(batch, 1)[1]], *cut(batch, 7)]
    whole = torch.cat([batch.inputs[:2], batch.inputs])
    labels = torch.cat([batch.labels[:2], batch.labels])  # type: ignore[index]
    found = fisher_diagonal(model, batches, RUN, labels="true")
    close(flat(found), slow_fisher(model, batch_of(whole, labels), "true"))


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


def test_stand_ins_count_for_nothing() -> None:
    model, batch = case("strided")
    idle = replace(batch, weight=0.0)
    close(
        flat(fisher_diagonal(model, [batch, idle], RUN)), flat(fisher_diagonal(model, [batch], RUN))
    )
    assert len(gradient_products(model, [batch, idle], RUN, {})) == len(batch)


def test_label_factor() -> None:
    generator = torch.Generator().manual_seed(0)
    z = 30 * torch.randn(50, 10, generator=generator, dtype=torch.float64)
    z[0], z[1, 3], z[2, 9], z[3, 0] = 0.0, 800.0, 800.0, 800.0
    p, u = z.softmax(1), label_factor(z)
    assert u.shape == (50, 9, 10)
    covariance = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    close(u.transpose(1, 2) @ u, covariance, 1e-12)
    # the certain sample: its small variances keep their digits
    right = p * (p.sum(1, keepdim=True) - p).clamp(min=0)
    others = torch.stack([p[:, [i for i in range(10) if i != c]].sum(1) for c in range(10)], 1)
    small = (u.square().sum(1) - p * others).abs() <= 1e-9 * p * others + 1e-300
    assert small.all(), right


@pytest.mark.parametrize("directions", [1, 9])
@pytest.mark.parametrize("positions", [1, 5, 16])
@pytest.mark.parametrize("fan_out", [3, 2**16])
def test_both_ways_to_square(positions: int, directions: int, fan_out: int) -> None:
    """Pairs of positions, and tiles of one sample or of several (2^16 outputs exceed a tile)."""
    generator = torch.Generator().manual_seed(0)
    batch = 2 if fan_out > 3 else 5
    A = torch.randn(batch, 4, positions, generator=generator, dtype=torch.float64)
    B = torch.randn(batch, directions, fan_out, positions, generator=generator, dtype=torch.float64)
    expected = torch.einsum("bkt,blot->blok", A, B).square().sum((0, 1))
    total = torch.zeros_like(expected)
    add_squares_by_rows(A, B, total)
    close(total, expected, 1e-12)
    close(squares_by_pairs(A, B), expected, 1e-12)


def test_weights_as_matrices_and_back() -> None:
    weight = torch.arange(120.0).view(2, 3, 4, 5)
    assert torch.equal(as_weight(as_matrix(weight), weight.shape), weight)
    many = torch.stack([as_matrix(weight), as_matrix(-weight)])
    assert torch.equal(as_weight(many, weight.shape), torch.stack([weight, -weight]))


# ---- Gram matrix and products


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
        model, cut(batch, 3), RUN, mask=mask if masked else None, engine="hooks",
        memory_bytes=memory_bytes,
    )  # fmt: skip
    close(found, G @ G.T)


def test_gram_of_many_samples_goes_by_blocks() -> None:
    model, batch = digits_case("mlp", 300)
    G = label_rows(model, batch.inputs, batch.labels)
    close(gram_matrix(model, cut(batch, 64), RUN), G @ G.T)
    close(gram_matrix(model, cut(batch, 64), RUN, engine="vmap"), G @ G.T)


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


# ---- precision


def test_bfloat16_stays_under_one_percent() -> None:
    """Backward passes and products in bfloat16, wherever it runs; few samples are the worst case."""
    for name in ("cnn", "resnet20"):
        model, batch = digits_case(name, 16)
        exact = flat(fisher_diagonal(model, [batch], RUN))
        K = gram_matrix(model, [batch], RUN)
        model = model.float()
        batch = replace(batch, inputs=batch.inputs.float())
        found = flat(fisher_diagonal(model, [batch], RUN, precision="bfloat16"))
        error = float((found - exact).abs().sum() / exact.sum())
        assert 1e-5 < error < 0.01  # it did compute in bfloat16
        half = gram_matrix(model, [batch], RUN, precision="bfloat16")
        assert 1e-5 < float((half - K).norm() / K.norm()) < 0.01
        single = flat(fisher_diagonal(model, [batch], RUN, precision="float32"))
        assert float((single - exact).abs().sum() / exact.sum()) < 1e-5
        assert gram_matrix(model, [batch], RUN).dtype == torch.float32
        assert float((gram_matrix(model, [batch], RUN) - K).norm() / K.norm()) < 1e-5


# ---- manners


def state(model: nn.Module) -> list[Any]:
    modules = [
        (m.training, dict(m._forward_hooks), dict(m._forward_pre_hooks), "forward" in vars(m))
        for m in model.modules()
    ]
    return [modules, [(p.requires_grad, p.grad, p.dtype) for p in model.parameters()]]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("engine", ["hooks", "vmap", "loop"])
def test_the_model_is_left_as_it_was(
    engine: Any, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = digits_case("cnn")
    model, batch = model.float().train(), replace(batch, inputs=batch.inputs.float())
    model.get_submodule("features.1").eval()
    next(model.parameters()).requires_grad_(False)
    weights, before = copy.deepcopy(model.state_dict()), state(model)
    random = torch.get_rng_state()

    class Failing(Classification):
        calls = 0

        def losses(self, model: nn.Module, batch: Batch) -> Tensor:
            self.calls += 1
            if self.calls > 8:
                raise RuntimeError("the task fails")
            return super().losses(model, batch)

    run = run_on_cpu(task=Failing()) if fails else RUN
    vector = {n: torch.ones_like(p) for n, p in model.named_parameters() if p.requires_grad}
    calls: list[Callable[[], object]] = [
        lambda: fisher_diagonal(
            model, [batch] * 9, run, labels="true", engine=engine, precision="bfloat16"
        ),
        lambda: gram_matrix(model, [batch] * 9, run, engine=engine, precision="bfloat16"),
        lambda: gradient_products(model, [batch] * 9, run, vector),
        lambda: weighted_gradient(model, [batch] * 9, run),
        lambda: per_sample_gradients(model, batch, run),
    ]
    for call in calls:
        if fails and call is not calls[-1]:
            run.task.calls = 0  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError, match="the task fails"):
                call()
        elif not fails:
            call()
        assert state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_the_same_call_gives_the_same_bits() -> None:
    model, batch = digits_case("cnn")
    model, batch = model.float(), replace(batch, inputs=batch.inputs.float())
    for labels in ("all", "sampled"):
        one, two = (
            flat(fisher_diagonal(model, [batch], RUN, labels=labels, precision="bfloat16"))
            for _ in range(2)
        )
        assert torch.equal(one, two)
    assert torch.equal(gram_matrix(model, [batch], RUN), gram_matrix(model, [batch], RUN))


def test_gradients_may_be_disabled_around_it() -> None:
    model, batch = case("strided")
    expected = flat(fisher_diagonal(model, [batch], RUN))
    with torch.no_grad():
        assert torch.equal(flat(fisher_diagonal(model, [batch], RUN)), expected)
        assert len(gram_matrix(model, [batch], RUN)) == len(batch)


def test_half_backward_skips_what_it_cannot_round() -> None:
    kinds = [
        nn.Conv2d(2, 3, 2, padding="same"), nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 3, 2).double(), nn.Conv2d(2, 4, 2, groups=2), nn.Conv1d(2, 3, 2),
    ]  # fmt: skip
    assert set(HalfBackward(nn.ModuleList(kinds)).convolutions) == set(kinds[3:])


class Several(Run):
    world = 2  # type: ignore[assignment]


def test_errors_say_what_to_do() -> None:
    model, batch = case("strided")
    vector = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    name = next(iter(vector))
    frozen = copy.deepcopy(model).requires_grad_(False)
    once = iter(cut(batch, 2))
    several = Several(accelerator=RUN.accelerator)
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("solver='cg'", lambda: gram_matrix(model, [batch], several)),
        ("no samples", lambda: gram_matrix(model, [], RUN)),
        ("no samples", lambda: fisher_diagonal(model, [], RUN)),
        ("read several times", lambda: gram_matrix(model, once, RUN, memory_bytes=1)),
        ("all, sampled or true", lambda: fisher_diagonal(model, [batch], RUN, labels="any")),  # type: ignore[arg-type]
        ("requires_grad_", lambda: fisher_diagonal(frozen, [batch], RUN)),
        ("the mask names", lambda: fisher_diagonal(model, [batch], RUN, mask={"x": torch.ones(1)})),
        ("one per sample", lambda: weighted_gradient(model, [batch], RUN, torch.ones(3))),
        ("one per sample", lambda: weighted_gradient(model, [batch], RUN, torch.ones(1))),
        ("no parameter of", lambda: gradient_products(model, [batch], RUN, {"x": torch.ones(1)})),
        ("one number per", lambda: gradient_products(model, [batch], RUN, {name: torch.ones(1)})),
    ]  # fmt: skip
    for text, call in wrong:
        with pytest.raises(ConfigError, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)
    branches, vectors = case("branches")
    with pytest.raises(ConfigError, match="engine 'vmap' cannot follow"):
        fisher_diagonal(branches, [vectors], RUN, engine="vmap")
