"""Per-sample gradients by slow code, a sample and a backward pass at a time; and how to compare."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import batch_of, original, run_on_cpu
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.batch import Batch

RUN = run_on_cpu(names=("per sample", 0))
ENGINES = ["hooks", "vmap", "loop"]


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


# --- models that the engines follow, and models that lead one of them astray; each with its samples


CLASSES = 4
# torch's own, of a convolution whose padding is wider on one side
of_same_padding = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")


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
            nn.Linear(6, 7),
            nn.ReLU(inplace=True),
            nn.Linear(7, 7),
            nn.ReLU(inplace=True),
            nn.Linear(7, CLASSES),
        )

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
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        nn.Tanh(),
        nn.Conv2d(3, 4, 2, bias=False),
    ),
    "same": lambda: images(nn.Conv2d(2, 3, 2, padding="same"), nn.Tanh()),
    "reflected": lambda: images(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")),
    "pointwise": lambda: images(
        nn.Conv2d(2, 3, 1, stride=2), nn.Tanh(), nn.Conv2d(3, 40, 3, padding=1)
    ),
    "groups": lambda: images(nn.Conv2d(2, 4, 3, groups=2), nn.GroupNorm(2, 4), nn.Tanh()),
    "upwards": lambda: images(nn.ConvTranspose2d(2, 3, 2), nn.BatchNorm2d(3), nn.PReLU()),
    "line": lambda: images(
        nn.Flatten(2), nn.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2), nn.BatchNorm1d(3)
    ),
    "volume": lambda: images(nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 2, (1, 2, 2)), nn.Tanh()),
    "layer norm": lambda: images(nn.LayerNorm((5, 4)), nn.Tanh(), nn.Linear(4, 3)),
}
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
    "weight norm": (
        lambda: nn.Sequential(
            torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Linear(5, CLASSES)
        ),
        "vmap",
    ),
    "no statistics": (
        lambda: nn.Sequential(
            nn.Linear(6, 8),
            nn.Unflatten(1, (2, 4)),
            nn.BatchNorm1d(2, track_running_stats=False),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        ),
        "vmap",
    ),
    "one way": (lambda: Custom(OneWay), "loop"),
}


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
