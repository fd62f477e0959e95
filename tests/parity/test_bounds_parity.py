"""Methods that move or relabel inputs against plain loops, sample by sample, in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from helpers import digits, run_on_cpu, view_of
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.transform import Transform
from expunge.data.view import DataView
from expunge.methods.amun import Amun
from expunge.methods.base import Method
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.fcs import Fcs
from expunge.methods.regun import Regun
from expunge.names.seeds import torch_generator

NAMES = ("parity", 0)
Step = tuple[Any, Callable[[nn.Module, Any], Tensor]]


class Doubles(Transform):
    """What the view hands out, in float64."""

    def normalise(self, inputs: Tensor) -> Tensor:
        return super().normalise(inputs).double()


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10)
        return nn.Sequential(*layers).double()


def view(split: Split) -> DataView:
    data = digits()
    return view_of(data, split, names=NAMES, transform=Doubles(data.normalisation))


def few() -> DataView:
    """Ten samples to forget of 300."""
    data = digits()
    return view(Split.ids(data, Split.whole(data).retain[:10]))


def one_class() -> DataView:
    data = digits()
    return view(Split.classes(data, [3]))


def descend(
    model: nn.Module, steps: Iterable[Step], lr: float, momentum: float = 0.9, decay: float = 0.0
) -> None:
    """SGD as it is written: v <- m v + (g + w theta), theta <- theta - lr v, from v = 0."""
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for batch, loss in steps:
        gradients = torch.autograd.grad(loss(model, batch), list(model.parameters()))
        with torch.no_grad():
            for v, parameter, gradient in zip(velocity, model.parameters(), gradients, strict=True):
                v.mul_(momentum).add_(gradient + decay * parameter)
                parameter -= lr * v


def says(logits: Tensor) -> Tensor:
    """Log probabilities, written out."""
    return logits - logits.exp().sum(1, keepdim=True).log()


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    assert batch.labels is not None
    rows = says(model(batch.inputs))
    return -sum(rows[i, label] for i, label in enumerate(batch.labels.tolist())) / len(rows)


def each(data: DataView) -> list[tuple[str, Tensor, int]]:
    """The forget samples one by one: id, inputs of one, label."""
    whole = next(iter(data.batches(Part.FORGET, 1000, shuffle=False, augment=False)))
    return [
        (str(whole.ids[i]), whole.inputs[i : i + 1], int(whole.labels[i]))  # type: ignore[index]
        for i in range(len(whole))
    ]


def slope(model: nn.Module, x: Tensor, label: int) -> Tensor:
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(-says(model(x))[0, label], x)[0]


def black_and_white() -> tuple[float, float]:
    normal = digits().normalisation
    assert normal is not None
    mean, std = normal.mean[0], normal.std[0]
    return (0 - mean) / std, (1 - mean) / std


def adversary(model: nn.Module, x: Tensor, label: int, steps: int) -> tuple[Tensor, int]:
    """The first radius of 0.04, 0.08, ... at which the class changes."""
    low, high = black_and_white()
    radius, found = 0.04, x
    while int(model(found).argmax()) == label:
        found = x
        for _ in range(steps):
            g = slope(model, found, label)
            move = found + radius / 10 * g / g.norm() - x
            if move.norm() > radius:
                move = move * radius / move.norm()
            found = (x + move).clamp(low, high)
        radius *= 2
    return found, int(model(found).argmax())


def amun(model: nn.Module, data: DataView, method: Any) -> None:
    made = [adversary(model, x, label, method.steps) for _, x, label in each(data)]
    inputs = torch.cat([x for x, _ in made])
    labels = torch.tensor([label for _, label in made])
    sources: list[Any] = [data.source(Part.RETAIN)] if method.retain else []
    sources += [] if method.adv_only else [data.source(Part.FORGET)]
    mixed = data.mix(*sources, data.tensors(inputs, labels))
    steps = (
        (batch, cross_entropy)
        for epoch in range(method.epochs)
        for batch in mixed.batches(method.batch_size, epoch=epoch)
    )
    descend(model, steps, method.lr, decay=method.weight_decay)


def shrink(model: nn.Module, data: DataView, method: Any) -> None:
    low, high = black_and_white()
    nearest = {}
    for name, x, label in each(data):
        size = method.epsilon * (high - low)
        there = model((x + size * slope(model, x, label).sign()).clamp(low, high))[0].tolist()
        nearest[name] = max((c for c in range(10) if c != label), key=lambda c: there[c])
    steps = (
        (batch.relabelled(torch.tensor([nearest[str(i)] for i in batch.ids])), cross_entropy)
        for epoch in range(method.epochs)
        for batch in data.batches(Part.FORGET, method.batch_size, epoch=epoch)
    )
    descend(model, steps, method.lr)


def expand(model: nn.Module, data: DataView, method: Any) -> None:
    generator = torch_generator(*NAMES, "extra row")
    head: Any = model[3]  # type: ignore[index]
    with torch.no_grad():
        bias = (2 * torch.rand(1, generator=generator).double() - 1) / math.sqrt(12)
        row = (2 * torch.rand(1, 12, generator=generator).double() - 1) / math.sqrt(12)
        head.bias = nn.Parameter(torch.cat([head.bias, bias]))
        head.weight = nn.Parameter(torch.cat([head.weight, row]))
    steps = (
        (batch.relabelled(torch.full((len(batch),), 10)), cross_entropy)
        for epoch in range(method.epochs)
        for batch in data.batches(Part.FORGET, method.batch_size, epoch=epoch)
    )
    descend(model, steps, method.lr)
    head.bias = nn.Parameter(head.bias.detach()[:10])
    head.weight = nn.Parameter(head.weight.detach()[:10])


def beside(data: DataView, size: int, epoch: int) -> Iterable[tuple[Batch, Batch]]:
    """Ten forget samples, and as many retain samples as a batch has."""
    drawn = data.named(f"drawn {epoch}").take(Part.RETAIN, size)
    return zip(
        data.batches(Part.FORGET, size, epoch=epoch),
        drawn.batches(size, epoch=epoch),
        strict=True,
    )


def fcs(model: nn.Module, data: DataView, method: Any) -> None:
    def flat(model: nn.Module, batch: Batch) -> Tensor:
        p = says(model(batch.inputs))
        return (0.1 * (math.log(0.1) - p)).sum() / len(p)

    def contrast(model: nn.Module, pair: tuple[Batch, Batch]) -> Tensor:
        anchors, others = model(pair[0].inputs), model(pair[1].inputs).detach()
        scores = anchors @ others.T / method.temperature
        return -says(scores).sum() / scores.numel()

    size = method.batch_size
    descend(model, ((batch, flat) for batch in data.batches(Part.FORGET, size)), method.uniform_lr)
    for number in range(method.rounds):
        rate = method.contrast_lr * 0.5 * (1 + math.cos(math.pi * number / method.rounds))
        descend(model, ((pair, contrast) for pair in beside(data, size, number)), rate)
        kept = data.batches(Part.RETAIN, size, epoch=number)
        steps = ((batch, cross_entropy) for batch in kept)
        descend(model, steps, method.retain_lr, decay=method.weight_decay)


def regun(model: nn.Module, data: DataView, method: Any) -> None:
    teacher = copy.deepcopy(model)
    held = next(iter(data.batches(Part.VALIDATION, 1000, shuffle=False)))
    with torch.no_grad():
        beliefs = says(teacher(held.inputs)).exp()

    def loss(model: nn.Module, pair: tuple[Batch, Batch]) -> Tensor:
        struck, kept = pair
        assert struck.labels is not None
        wanted = [beliefs[held.labels == label].mean(0) for label in struck.labels.tolist()]
        q = torch.stack(wanted).mean(0)
        p = says(model(struck.inputs))
        forget = sum((q * (q.log() - row)).sum() for row in p) / len(p)
        return 0.7 * forget + 0.3 * cross_entropy(model, kept)

    steps = (
        (pair, loss)
        for epoch in range(method.epochs)
        for pair in beside(data, method.batch_size, epoch)
    )
    descend(model, steps, method.lr)


CASES: dict[str, tuple[Method, Callable[[], DataView], Callable[..., None]]] = {
    "amun": (Amun(epochs=2, steps=12, batch_size=64), few, amun),
    "amun, adversaries alone": (
        Amun(epochs=3, steps=12, batch_size=4, adv_only=True, retain=False),
        few,
        amun,
    ),
    "boundary_shrink": (BoundaryShrink(epochs=2, lr=0.05, batch_size=8), one_class, shrink),
    "boundary_expand": (BoundaryExpand(epochs=2, lr=0.05, batch_size=8), one_class, expand),
    "fcs": (Fcs(rounds=3, batch_size=64, contrast_lr=0.05), few, fcs),
    "regun": (Regun(epochs=3, lr=0.05, batch_size=16, retain_weight=0.3), few, regun),
}


@pytest.mark.parametrize("case", CASES)
def test_a_method_equals_its_loop(case: str) -> None:
    method, data, loop = CASES[case]
    fast, slow = network(), network()
    start = copy.deepcopy(fast)
    method.unlearn(fast, data(), run_on_cpu(names=NAMES))
    loop(slow, data(), method)
    for name, value in fast.state_dict().items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=0, atol=1e-10)
        assert not torch.allclose(value, start.state_dict()[name], rtol=0, atol=1e-4)
