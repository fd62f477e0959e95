"""Methods against plain loops: the optimiser's formula by hand, over the same batches, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from helpers import digits, run_on_cpu, view_of
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.methods.base import Method
from expunge.methods.finetune import Finetune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.neggrad_plus import NegGradPlus
from expunge.training.recipe import Recipe

EPOCHS, SIZE = 3, 32
BATCHES = Callable[[DataView, int], Iterable[Any]]


class Double(nn.Module):
    """A small network in float64 that takes what the view hands out."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        hidden = [nn.Linear(64, 16), nn.BatchNorm1d(16) if norm else nn.Identity()]
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Tanh(), nn.Linear(16, 10)).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double())
        return logits


def network(norm: bool = False) -> Double:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Double(norm)
        for _ in range(3):  # statistics of its own
            model(torch.randn(20, 1, 8, 8))
    return model


def view() -> DataView:
    data = digits()
    return view_of(data, Split.random(data, 0.2), names=("parity", 0))


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean of -log softmax at the label, written out."""
    logits = model(batch.inputs)
    assert batch.labels is not None
    terms = [
        torch.log(torch.exp(row).sum()) - row[label]
        for row, label in zip(logits, batch.labels.tolist(), strict=True)
    ]
    return torch.stack(terms).sum() / len(terms)


def loop(
    model: nn.Module, batches: BATCHES, loss: Callable[[nn.Module, Any], Tensor], settings: Method
) -> None:
    """SGD as it is written: v <- m v + (g + w theta), theta <- theta - lr v, from v = 0."""
    given: Any = settings
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    data = view()
    for epoch in range(given.epochs):
        for batch in batches(data, epoch):
            gradients = torch.autograd.grad(loss(model, batch), list(model.parameters()))
            with torch.no_grad():
                for (name, parameter), gradient in zip(
                    model.named_parameters(), gradients, strict=True
                ):
                    decayed = gradient + given.weight_decay * parameter
                    velocity[name] = given.momentum * velocity[name] + decayed
                    parameter -= given.lr * velocity[name]


def retained(data: DataView, epoch: int) -> Iterable[Batch]:
    return data.batches(Part.RETAIN, SIZE, epoch=epoch)


def forgotten(data: DataView, epoch: int) -> Iterable[Batch]:
    return data.batches(Part.FORGET, SIZE, epoch=epoch)


def both(data: DataView, epoch: int) -> Iterable[tuple[Batch, Batch]]:
    """The forget set starts again wherever it ends, each time in another order."""
    struck: list[Batch] = []
    kept = list(data.batches(Part.RETAIN, SIZE, epoch=epoch))
    turn = 0
    while len(struck) < len(kept):
        number = epoch if turn == 0 else epoch + 1_000_003 * turn
        struck += list(data.batches(Part.FORGET, SIZE, epoch=number))
        turn += 1
    return zip(kept, struck, strict=False)


def plus(alpha: float) -> Callable[[nn.Module, Any], Tensor]:
    def loss(model: nn.Module, pair: tuple[Batch, Batch]) -> Tensor:
        return alpha * cross_entropy(model, pair[0]) - (1 - alpha) * cross_entropy(model, pair[1])

    return loss


CASES: dict[str, tuple[Method, BATCHES, Callable[[nn.Module, Any], Tensor]]] = {
    "finetune": (
        Finetune(epochs=EPOCHS, batch_size=SIZE, lr=0.05, weight_decay=0.01),
        retained,
        cross_entropy,
    ),
    "finetune without momentum": (
        Finetune(epochs=EPOCHS, batch_size=SIZE, lr=0.1, momentum=0, weight_decay=0),
        retained,
        cross_entropy,
    ),
    "gradient_ascent": (
        GradientAscent(epochs=EPOCHS, batch_size=SIZE, lr=0.01),
        forgotten,
        lambda model, batch: -cross_entropy(model, batch),
    ),
    "gradient_ascent with weight decay": (
        GradientAscent(epochs=EPOCHS, batch_size=SIZE, lr=0.01, weight_decay=0.1, momentum=0.5),
        forgotten,
        lambda model, batch: -cross_entropy(model, batch),
    ),
    "neggrad_plus": (
        NegGradPlus(epochs=EPOCHS, batch_size=SIZE, lr=0.02, alpha=0.8, weight_decay=0.01),
        both,
        plus(0.8),
    ),
    "neggrad_plus, all ascent": (
        NegGradPlus(epochs=EPOCHS, batch_size=SIZE, lr=0.001, alpha=0.0),
        both,
        plus(0.0),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_method_equals_its_loop(case: str) -> None:
    method, batches, loss = CASES[case]
    fast, slow = network(), network()
    start = copy.deepcopy(fast)
    method.unlearn(fast, view(), run_on_cpu())
    loop(slow, batches, loss, method)
    for name, value in fast.state_dict().items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=0, atol=1e-10)
        assert not torch.allclose(value, start.state_dict()[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_batchnorm_modes_equal_their_loops(norm: Any) -> None:
    method = GradientAscent(epochs=EPOCHS, batch_size=SIZE, lr=0.01, norm=norm)
    fast, slow = network(norm=True), network(norm=True)
    method.unlearn(fast, view(), run_on_cpu())
    slow.train(norm == "train")
    loop(slow, forgotten, lambda model, batch: -cross_entropy(model, batch), method)
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=0, atol=1e-10)


def test_a_method_runs_in_the_originals_precision() -> None:
    seen: dict[str, Any] = {}

    class Spy(Double):
        def forward(self, inputs: Tensor) -> Tensor:
            seen["autocast"] = torch.is_autocast_enabled("cpu")
            return super().forward(inputs)

    for precision, expected in (("float32", False), ("bfloat16", True)):
        run = run_on_cpu(recipe=Recipe(precision=precision, augmentation="none"))
        Finetune(epochs=1).unlearn(Spy(), view(), run)
        assert seen["autocast"] is expected
