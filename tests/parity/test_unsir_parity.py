"""UNSIR against the paper's program written plainly: class after class, formulas by hand, float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from helpers import digits, run_on_cpu, same_state, view_of
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.methods.shared.noise import Noise, Objective, learn_noise, sizes
from expunge.methods.unsir import Unsir
from expunge.names.seeds import torch_generator
from expunge.training.recipe import Recipe
from expunge.training.run import Run

CLASSES, BATCH, STEPS, SHAPE = (2, 7), 6, 12, (1, 8, 8)
RATE = {"adam": 0.1, "sgd": 0.5}


class Network(nn.Module):
    """Convolution and BatchNorm with statistics of its own, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, bias=False).double()  # BatchNorm cancels one
        self.norm = nn.BatchNorm2d(4).double()
        self.head = nn.Linear(4 * 36, 10).double()

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.norm(self.convolution(inputs.double())).tanh().flatten(1)
        logits: Tensor = self.head(features)
        return logits


def network() -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Network()
        for _ in range(3):
            model(torch.randn(20, *SHAPE))
    return model


def recipe(optimizer: str) -> Recipe:
    return Recipe(
        epochs=1,
        lr=RATE[optimizer],
        optimizer=optimizer,
        schedule="constant",
        momentum=0.9 if optimizer == "adam" else 0.0,
        weight_decay=0.0,
        augmentation="none",
    )


def learned(
    model: nn.Module, optimizer: str, size: str, run: Run, chunk: int | None = None
) -> Noise:
    return learn_noise(
        model,
        torch.tensor(CLASSES),
        SHAPE,
        run,
        recipe=recipe(optimizer),
        count=BATCH,
        steps=STEPS,
        objective=Objective(0.1, size, BATCH),  # type: ignore[arg-type]
        chunk=chunk,
        dtype=torch.float64,
    )


class Plain:
    """Adam or plain descent on one tensor, as their papers write them."""

    def __init__(self, optimizer: str, rate: float) -> None:
        self.adam, self.rate, self.count = optimizer == "adam", rate, 0
        self.first = self.second = torch.zeros((), dtype=torch.float64)

    def step(self, value: Tensor, gradient: Tensor) -> Tensor:
        if not self.adam:
            return value - self.rate * gradient
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        m = self.first / (1 - 0.9**self.count)
        v = self.second / (1 - 0.999**self.count)
        return value - self.rate * m / (v.sqrt() + 1e-8)


def cross_entropy(model: nn.Module, inputs: Tensor, labels: Iterable[int]) -> Tensor:
    """Mean of -log softmax at the label, written out."""
    rows = model(inputs)
    terms = [torch.log(torch.exp(row).sum()) - row[c] for row, c in zip(rows, labels, strict=True)]
    return torch.stack(terms).sum() / len(terms)


def slow_noise(model: nn.Module, optimizer: str, size: str, run: Run) -> tuple[Tensor, Tensor]:
    """One class after another, all its images in one batch; images and losses before each step."""
    model = copy.deepcopy(model).eval()
    start = torch.randn(
        (len(CLASSES) * BATCH, *SHAPE),
        dtype=torch.float64,
        generator=torch_generator(*run.names, "noise"),
    )
    images, losses = [], []
    for number, label in enumerate(CLASSES):
        noise = start[number * BATCH : (number + 1) * BATCH]
        rule = Plain(optimizer, RATE[optimizer])
        seen = []
        for _ in range(STEPS):
            noise = noise.detach().requires_grad_()
            loss = cross_entropy(model, noise, [label] * BATCH)
            squares = [(image * image).sum() for image in noise]
            each = squares if size == "squared" else [torch.sqrt(s) for s in squares]
            objective = -loss + 0.1 * torch.stack(each).sum() / BATCH
            noise = rule.step(noise, torch.autograd.grad(objective, noise)[0])
            seen.append(float(loss.detach()))
        images.append(noise.detach())
        losses.append(seen)
    return torch.stack(images), torch.tensor(losses).T


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("size", ["squared", "l2"])
@pytest.mark.parametrize("chunk", [1, 5, None], ids=["one by one", "across classes", "at once"])
def test_noise_equals_the_plain_loop(optimizer: str, size: str, chunk: int | None) -> None:
    """In any chunks: images of one class may lie in several, and a chunk may span classes."""
    run = run_on_cpu(names=("parity", 0))
    model = network()
    found = learned(model, optimizer, size, run, chunk)
    images, losses = slow_noise(model, optimizer, size, run)
    assert found.images.dtype == torch.float64
    torch.testing.assert_close(found.images, images, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.losses, losses.float(), rtol=1e-5, atol=1e-6)
    assert found.classes.tolist() == list(CLASSES)
    start = torch.randn(
        images.flatten(0, 1).shape,
        dtype=torch.float64,
        generator=torch_generator("parity", 0, "noise"),
    )
    assert float((found.images.flatten(0, 1) - start).abs().max()) > 1e-3, "the noise did not move"


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_images_that_are_not_used_need_not_be_learned(optimizer: str) -> None:
    """The first of a batch of 6, learned alone, are what they are in the batch."""
    run, model = run_on_cpu(names=("parity", 0)), network()
    one = torch.tensor(CLASSES[:1])
    given: dict[str, Any] = {
        "steps": STEPS,
        "recipe": recipe(optimizer),
        "objective": Objective(0.1, "squared", BATCH),
        "dtype": torch.float64,
    }
    whole = learn_noise(model, one, SHAPE, run, count=BATCH, **given)
    few = learn_noise(model, one, SHAPE, run, count=2, **given)
    torch.testing.assert_close(few.images[0], whole.images[0, :2], rtol=1e-9, atol=1e-12)


def by_hand(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: str,
    rate: float,
    loss: Callable[[nn.Module, Batch], Tensor],
) -> None:
    rules = {name: Plain(optimizer, rate) for name, _ in model.named_parameters()}
    model.train()
    for batch in batches:
        names, values = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss(model, batch), values)
        with torch.no_grad():
            for name, value, gradient in zip(names, values, gradients, strict=True):
                value.copy_(rules[name].step(value, gradient))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_impair_and_repair_equal_the_plain_loop(optimizer: str) -> None:
    """One pass on the noise, repeated and labelled, among the retain samples; one on those alone."""
    data = digits()
    view = view_of(data, Split.classes(data, CLASSES), names=("unlearn", 0))
    run = run_on_cpu(names=("unlearn", 0), label="unsir")
    method = Unsir(
        noise_batch=BATCH,
        noise_steps=STEPS,
        noise_repeats=3,
        noise_used=4,
        retain_per_class=9,
        optimizer=optimizer,
        impair_lr=0.02,
        repair_lr=0.01,
        batch_size=32,
    )
    model = network()
    fast = method.unlearn(copy.deepcopy(model), view, run)

    noise = run.artifacts["noise"]
    assert noise.shape == (2, 4, *SHAPE), "all of it, or this test has no noise to train on"
    images = torch.cat([noise[0], noise[1]])
    labels = torch.tensor([2] * 4 + [7] * 4)
    retain = view.take(Part.RETAIN, 9, per_class=True)
    assert len(retain) == 8 * 9
    written_out = view.tensors(images.repeat(3, 1, 1, 1), labels.repeat(3))
    slow = copy.deepcopy(model)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        return cross_entropy(model, batch.inputs, batch.labels.tolist())

    mixed = view.mix(written_out, retain)
    assert len(mixed) == 24 + 72
    by_hand(slow, mixed.batches(32), optimizer, 0.02, loss)
    by_hand(slow, retain.batches(32), optimizer, 0.01, loss)
    for name, value in slow.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], value, rtol=1e-9, atol=1e-11)
    assert not same_state(fast, model)


def test_the_size_of_an_image() -> None:
    """3-4-5: the paper's text means the root, its program the sum of squares."""
    images = torch.tensor([[[3.0, 4.0]], [[0.0, -2.0]]])
    assert sizes(images, "squared").tolist() == [25, 4]
    assert sizes(images, "l2").tolist() == [5, 2]
    assert math.isclose(float(sizes(torch.ones(1, 3, 4, 4), "l2")), math.sqrt(48), rel_tol=1e-6)
