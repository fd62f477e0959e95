"""Random labels, SalUn, perturb, CF-k and EU-k against plain loops in float64, over the same batches."""

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
from expunge.data.task import Classification
from expunge.data.view import DataView
from expunge.methods.cfk import Cfk
from expunge.methods.euk import Euk
from expunge.methods.perturb import Perturb
from expunge.methods.random_label import RandomLabel
from expunge.methods.salun import Salun
from expunge.training.recipe import Recipe

EPOCHS, SIZE = 2, 16
Keep = dict[str, Tensor]
PLAIN = Recipe(augmentation="none")


class Net(nn.Module):
    """Two convolutions, one of them grouped, normalisation, two linear layers; in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=2)
        )
        self.hidden, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 10)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.hidden(self.body(inputs.double()).flatten(1))))
        logits: Tensor = self.head(hidden)
        return logits


def network(seed: int = 1) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Net()
        for _ in range(3):  # statistics of its own
            model(torch.randn(20, 1, 8, 8))
    return model.eval()


def view() -> DataView:
    data = digits()
    base = Split.whole(data)
    few = Split(base.retain[:90], (), base.validation, base.retain[90:])
    return view_of(data, Split.random(data, 0.3, base=few), names=("parity", 0))


def cross_entropy(model: nn.Module, inputs: Tensor, labels: Any) -> Tensor:
    """Mean of -log softmax at the label, written out."""
    logits = model(inputs)
    rows = torch.arange(len(logits))
    terms = torch.log(torch.exp(logits).sum(1)) - logits[rows, torch.as_tensor(labels)]
    return terms.sum() / len(terms)


class Spy(Classification):
    """Knows the ids and labels of every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[list[str], list[int]]] = []

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        self.steps.append(([str(each) for each in batch.ids], batch.labels.tolist()))
        return super().losses(model, batch)


def loop(
    model: nn.Module,
    steps: Iterable[Batch],
    labels: Callable[[int, Batch], Any],
    *,
    lr: float,
    momentum: float = 0.9,
    decay: float = 0.0,
    adam: bool = False,
    rate: Callable[[int], float] = lambda step: 1.0,
    keep: Keep | None = None,
) -> None:
    """SGD or Adam as it is written. keep: 1 where a parameter moves, by name; all: None."""
    parameters = dict(model.named_parameters())
    start = {name: p.detach().clone() for name, p in parameters.items()}
    first = {name: torch.zeros_like(p) for name, p in parameters.items()}
    second = copy.deepcopy(first)
    for step, batch in enumerate(steps):
        value = cross_entropy(model, batch.inputs, labels(step, batch))
        gradients = torch.autograd.grad(value, list(parameters.values()))
        with torch.no_grad():
            for (name, p), gradient in zip(parameters.items(), gradients, strict=True):
                g = gradient + decay * p
                if adam:
                    first[name] = momentum * first[name] + (1 - momentum) * g
                    second[name] = 0.999 * second[name] + 0.001 * g * g
                    up = first[name] / (1 - momentum ** (step + 1))
                    down = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                    p -= lr * rate(step) * up / down
                else:
                    first[name] = momentum * first[name] + g
                    p -= lr * rate(step) * first[name]
                if keep is not None:
                    p.copy_(keep[name] * p + (1 - keep[name]) * start[name])


def true(_: int, batch: Batch) -> Tensor:
    assert batch.labels is not None
    return batch.labels


def agree(fast: nn.Module, slow: nn.Module, start: nn.Module) -> None:
    before, wanted = start.state_dict(), slow.state_dict()
    moved = 0
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-9)
        moved += not torch.allclose(value.double(), before[name].double(), rtol=0, atol=1e-5)
    assert moved


def both_passes(data: DataView, epoch: int) -> list[Batch]:
    parts = (Part.FORGET, Part.RETAIN)
    return [batch for part in parts for batch in data.batches(part, SIZE, epoch=epoch)]


def one_mix(data: DataView, epoch: int) -> list[Batch]:
    mixed = data.mix(data.source(Part.FORGET), data.source(Part.RETAIN))
    return list(mixed.batches(SIZE, epoch=epoch))


@pytest.mark.parametrize("draw", ["other", "all"])
@pytest.mark.parametrize("order", ["turns", "mixed"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_random_label_equals_its_loop(draw: Any, order: Any, optimizer: Any) -> None:
    lr, decay = (0.02, 0.01) if optimizer == "sgd" else (0.002, 0.0)
    settings: Any = {"draw": draw, "order": order, "optimizer": optimizer, "weight_decay": decay}
    method = RandomLabel(**settings, epochs=EPOCHS, batch_size=SIZE, lr=lr)
    fast, slow, spy, data = network(), network().train(), Spy(), view()
    method.unlearn(fast, data, run_on_cpu(task=spy))
    steps = [
        batch
        for epoch in range(EPOCHS)
        for batch in (both_passes if order == "turns" else one_mix)(data, epoch)
    ]
    assert [list(batch.ids) for batch in steps] == [ids for ids, _ in spy.steps]
    drawn = [labels for _, labels in spy.steps]
    adam = optimizer == "adam"
    loop(slow, steps, lambda step, _: drawn[step], lr=lr, decay=decay, adam=adam)
    agree(fast, slow, network())
    for batch, (_, labels) in zip(steps, spy.steps, strict=True):
        assert batch.labels is not None
        given = torch.tensor(labels)
        assert torch.equal(given[~batch.forget], batch.labels[~batch.forget])
        assert draw == "all" or not (given == batch.labels)[batch.forget].any()


def saliency(model: nn.Module, data: DataView) -> Keep:
    """1 for the half of all weights with the largest gradient of the summed loss; sample by sample."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for batch in data.batches(Part.FORGET, 1, shuffle=False):
        value = cross_entropy(model, batch.inputs, batch.labels)
        for name, g in zip(
            parameters, torch.autograd.grad(value, list(parameters.values())), strict=True
        ):
            total[name] += g
    flat = torch.cat([g.abs().flatten() for g in total.values()])
    chosen = torch.zeros(len(flat), dtype=torch.float64)
    chosen[torch.argsort(-flat, stable=True)[: round(len(flat) / 2)]] = 1
    parts = chosen.split([p.numel() for p in parameters.values()])
    return {
        name: part.view_as(p) for (name, p), part in zip(parameters.items(), parts, strict=True)
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_salun_equals_its_loop(optimizer: Any) -> None:
    lr = 0.02 if optimizer == "sgd" else 0.002
    method = Salun(epochs=1, batch_size=SIZE, lr=lr, weight_decay=0.1, optimizer=optimizer)
    fast, slow, spy, data = network(), network(), Spy(), view()
    run = run_on_cpu(task=spy)
    keep = saliency(slow, data)
    method.unlearn(fast, data, run)
    steps = both_passes(data, 0)
    drawn = [labels for _, labels in spy.steps[-len(steps) :]]  # before them, the saliency's own
    adam = optimizer == "adam"
    loop(slow.train(), steps, lambda step, _: drawn[step], lr=lr, decay=0.1, adam=adam, keep=keep)
    agree(fast, slow, network())
    shares = {name: float(each.mean()) for name, each in keep.items()}
    assert run.log["salient"] == pytest.approx(shares)
    assert 0 < min(shares.values()) < max(shares.values())


@pytest.mark.parametrize("kind", ["transpose", "negate", "nothing"])
def test_perturb_equals_its_loop(kind: str) -> None:
    settings: Any = {"kind": kind} if kind != "nothing" else {"kind": "noise", "sigma": 0}
    method = Perturb(**settings, last_sigma=0, epochs=EPOCHS, batch_size=SIZE, lr=0.02)
    fast, slow, data = network(), network(), view()
    with torch.no_grad():
        first, second = slow.body[0], slow.body[3]
        if kind == "transpose":
            for each in (first, second):
                each.weight.data = torch.einsum("oiab->oiba", each.weight).contiguous()
        elif kind == "negate":
            first.weight.mul_(-1)
            first.bias.mul_(-1)
    steps = [
        batch for epoch in range(EPOCHS) for batch in data.batches(Part.RETAIN, SIZE, epoch=epoch)
    ]
    method.unlearn(fast, data, run_on_cpu())
    rate = lambda step: (1 + math.cos(math.pi * step / len(steps))) / 2  # noqa: E731
    loop(slow.train(), steps, true, lr=0.02, decay=5e-4, rate=rate)
    agree(fast, slow, network())


TAILS = {0: ("head",), 1: ("hidden", "norm", "head"), 2: ("body.3", "hidden", "norm", "head")}


@pytest.mark.parametrize("k", TAILS)
@pytest.mark.parametrize("name", ["cfk", "euk"])
def test_the_last_blocks_equal_their_loop(name: str, k: int) -> None:
    data = view()
    recipe = PLAIN.but(epochs=EPOCHS, batch_size=SIZE, lr=0.02, schedule="constant")
    run = run_on_cpu(recipe=recipe, constructor=Net)
    slow = network()
    if name == "cfk":
        fast = Cfk(k=k, epochs=EPOCHS, batch_size=SIZE, lr=0.02).unlearn(network(), data, run)
    else:
        fast = Euk(k=k).unlearn(network(), data, run)
        for part in TAILS[k]:
            slow.get_submodule(part).load_state_dict(run.fresh().get_submodule(part).state_dict())
    start = copy.deepcopy(slow)
    keep = {
        key: torch.full_like(p, float(key.startswith(TAILS[k])))
        for key, p in slow.named_parameters()
    }
    for part in TAILS[k]:
        slow.get_submodule(part).train()
    steps = [b for epoch in range(EPOCHS) for b in data.batches(Part.RETAIN, SIZE, epoch=epoch)]
    loop(slow, steps, true, lr=0.02, decay=5e-4, keep=keep)
    agree(fast, slow, start)
