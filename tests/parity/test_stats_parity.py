"""msg, ssd and sfron against plain loops, written from their equations, in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from helpers import digits, run_on_cpu, view_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.methods.msg import Msg
from expunge.methods.sfron import Sfron
from expunge.methods.ssd import Ssd
from expunge.names.seeds import torch_generator

NAMES = ("parity", 0)


class Net(nn.Module):
    """A small convolutional network in float64."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 2)
        self.layers = nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(12, 10)).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double())
        return logits


def network() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Net()
        for _ in range(3):  # statistics of its own
            model(torch.randn(20, 1, 8, 8))
    return model


def view(count: int = 150) -> DataView:
    data = digits()
    whole = Split.whole(data, validation=0)
    part = Split.ids(data, whole.retain[count:], base=whole).settled()
    return view_of(data, Split.random(data, 0.2, base=part), names=NAMES)


def all_of(data: DataView, part: Part) -> Batch:
    return next(iter(data.batches(part, 1000, shuffle=False, augment=False)))


def sample_gradients(model: nn.Module, batch: Batch) -> list[dict[str, Tensor]]:
    """Of each sample alone, in evaluation mode."""
    model = copy.deepcopy(model).eval()
    assert batch.labels is not None
    found = []
    for one, label in zip(batch.inputs, batch.labels, strict=True):
        loss = cross_entropy(model(one[None]), label[None])
        names, parameters = zip(*model.named_parameters(), strict=True)
        found.append(dict(zip(names, torch.autograd.grad(loss, parameters), strict=True)))
    return found


def sgd(model: nn.Module, velocity: dict[str, Tensor], lr: float, decay: float = 5e-4) -> None:
    """v <- .9 v + g + w theta, theta <- theta - lr v."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            assert p.grad is not None
            velocity[name] = 0.9 * velocity.get(name, 0.0) + p.grad + decay * p
            p -= lr * velocity[name]
            p.grad = None


def assert_same(one: nn.Module, other: nn.Module, start: nn.Module) -> None:
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=1e-10)
    moved = [
        not torch.equal(a, b) for a, b in zip(one.parameters(), start.parameters(), strict=True)
    ]
    assert any(moved)


def test_msg_equals_its_loop() -> None:
    fast, slow = network(), network()
    Msg(epochs=3, lr=0.05, batch_size=32).unlearn(fast, view(), run_on_cpu(names=NAMES))

    data = view()
    forget = all_of(data, Part.FORGET)
    retain = next(iter(data.take(Part.RETAIN, len(forget)).batches(1000, shuffle=False)))
    kept, struck = sample_gradients(slow, retain), sample_gradients(slow, forget)
    assert len(kept) == len(struck) == 30
    anew: dict[str, list[int]] = {}
    for name in ("layers.0.weight", "layers.2.weight"):
        weight = slow.get_parameter(name)
        g = sum(one[name] for one in kept) - sum(one[name] for one in struck)  # type: ignore[operator]
        size = g.abs().flatten().tolist()
        anew[name] = sorted(range(len(size)), key=lambda i: size[i])[: round(0.3 * len(size))]
        deviation = math.sqrt(2 / (weight.shape[0] * weight.shape[2] * weight.shape[3]))
        new = (
            torch.randn(weight.shape, generator=torch_generator(*NAMES, "drawn", name)) * deviation
        )
        with torch.no_grad():
            for i in anew[name]:
                weight.view(-1)[i] = new.view(-1)[i].double()
    velocity: dict[str, Tensor] = {}
    for epoch, rise in enumerate((1 / 2, 1, 1 / 2)):
        for batch in data.batches(Part.RETAIN, 32, epoch=epoch):
            cross_entropy(slow.train()(batch.inputs), batch.labels).backward()
            for name, drawn in anew.items():
                grad = slow.get_parameter(name).grad.view(-1)  # type: ignore[union-attr]
                for i in set(range(len(grad))) - set(drawn):
                    grad[i] *= 0.1
            sgd(slow, velocity, 0.05 * rise)
    for name, value in fast.state_dict().items():  # new weights are drawn in single precision
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=0, atol=1e-6)


def test_ssd_equals_its_loop() -> None:
    fast, slow = network(), network()
    start = network()
    Ssd(alpha=1.2, dampening=0.9, batch_size=32).unlearn(fast, view(), run_on_cpu(names=NAMES))

    data = view()
    forget = sample_gradients(slow, all_of(data, Part.FORGET))
    every = [*forget, *sample_gradients(slow, all_of(data, Part.RETAIN))]
    chosen = 0
    with torch.no_grad():
        for name, p in slow.named_parameters():
            i_f = torch.stack([one[name] ** 2 for one in forget]).sum(0) / len(forget)
            i_d = torch.stack([one[name] ** 2 for one in every]).sum(0) / len(every)
            for at in range(p.numel()):
                a, b = float(i_f.view(-1)[at]), float(i_d.view(-1)[at])
                if a > 1.2 * b:
                    chosen += 1
                    p.view(-1)[at] *= min(0.9 * b / a, 1)
    assert 0 < chosen < sum(p.numel() for p in slow.parameters())
    assert_same(fast, slow, start)


@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 1.0), (0.6, 1.3)])
def test_sfron_equals_its_loop(beta: float, gamma: float) -> None:
    fast, slow = network(), network()
    start = network()
    method = Sfron(steps=7, every=3, alpha=2.0, beta=beta, gamma=gamma, lr=0.05, batch_size=32)
    method.unlearn(fast, view(), run_on_cpu(names=NAMES))

    data = view()
    squares = {}
    for part in (Part.FORGET, Part.RETAIN):
        found = sample_gradients(slow, all_of(data, part))
        squares[part] = {n: sum(one[n] ** 2 for one in found) / len(found) for n in found[0]}
    mask = {n: f - gamma * squares[Part.RETAIN][n] >= 0 for n, f in squares[Part.FORGET].items()}
    forget = [b for e in range(3) for b in data.batches(Part.FORGET, 32, epoch=e)]
    retain = [b for e in range(3) for b in data.batches(Part.RETAIN, 32, epoch=e)]
    velocity: dict[str, Tensor] = {}
    made = 0
    for step in range(7):
        before = {n: p.detach().clone() for n, p in slow.named_parameters()}
        for kind in (["forget"] if step % 3 == 0 else []) + ["retain"]:
            lr = 0.05 * (1 + math.cos(math.pi * made / 10)) / 2  # ten steps in all
            made += 1
            batch = (forget if kind == "forget" else retain).pop(0)
            losses = cross_entropy(slow.train()(batch.inputs), batch.labels, reduction="none")
            if kind == "retain":
                losses.mean().backward()
                sgd(slow, velocity, lr)
                continue
            weights = torch.stack([1 / one.detach().sqrt() for one in losses])
            dose = 2.0 * (1 + math.cos(math.pi * step / 7)) / 2
            (-dose * (weights / weights.sum() * losses).sum()).backward()
            for name, p in slow.named_parameters():
                p.grad *= mask[name]
            nn.utils.clip_grad_norm_(slow.parameters(), 7.0)
            at = {n: p.detach().clone() for n, p in slow.named_parameters()}
            sgd(slow, velocity, lr)
            with torch.no_grad():
                for name, p in slow.named_parameters():
                    p[~mask[name]] = at[name][~mask[name]]
        with torch.no_grad():
            for name, p in slow.named_parameters():
                p.copy_((1 - beta) * before[name] + beta * p)
    assert_same(fast, slow, start)
