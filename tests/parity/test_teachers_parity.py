"""Methods with teachers against plain loops: equations and optimisers by hand, in float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import EVERYTHING, global_randomness_stays, run_on_cpu, same_state, seeded, view_of
from helpers import toy as toy_data
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.delete import Delete
from expunge.methods.lotus import Lotus
from expunge.methods.scrub import Scrub
from expunge.methods.shared.distillation import divergence
from expunge.names.seeds import numpy_generator, seed_for
from expunge.training.run import Run

__all__ = ["global_randomness_stays"]
NAMES = ("teachers", 0)
CLASSES = 4
LABELS = [row % CLASSES for row in range(90)]


class Network(nn.Module):
    """BatchNorm between two layers, in float64."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Linear(5, 8, bias=False)  # BatchNorm cancels one
        layers = [first, nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES)]
        self.layers = nn.Sequential(*layers).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double())
        return logits


def network() -> Network:
    def build() -> Network:
        model = Network()
        for _ in range(3):  # statistics of its own
            model(2 * torch.randn(20, 5) + 1)
        return model

    return seeded(build, 1)


def data() -> Data:
    generator = torch.Generator().manual_seed(4)
    return toy_data(LABELS, inputs=torch.randn(len(LABELS), 5, generator=generator))


def view(*, whole_class: bool = False) -> DataView:
    rows = [row for row in range(90) if LABELS[row] == 2] if whole_class else range(20)
    split = Split.indices(data(), rows, base=Split.whole(data(), validation=0.2))
    return view_of(data(), split, EVERYTHING, NAMES)


def run() -> Run:
    return run_on_cpu(names=NAMES, constructor=Network)


class Optimiser:
    """SGD with momentum, Adam, or AdamW, as they are written."""

    def __init__(
        self, model: nn.Module, kind: str, lr: float, momentum: float, decay: float
    ) -> None:
        self.model, self.kind, self.lr = model, kind, lr
        self.momentum, self.decay, self.count = momentum, decay, 0
        self.first = [torch.zeros_like(p) for p in model.parameters()]
        self.second = [torch.zeros_like(p) for p in model.parameters()]

    def step(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, list(self.model.parameters()))
        self.count += 1
        with torch.no_grad():
            for number, parameter in enumerate(self.model.parameters()):
                g = gradients[number]
                if self.kind == "adamw":
                    parameter *= 1 - self.lr * self.decay
                else:
                    g = g + self.decay * parameter
                if self.kind == "sgd":
                    self.first[number] = self.momentum * self.first[number] + g
                    parameter -= self.lr * self.first[number]
                    continue
                a, b = self.momentum, 0.999
                self.first[number] = a * self.first[number] + (1 - a) * g
                self.second[number] = b * self.second[number] + (1 - b) * g * g
                mean = self.first[number] / (1 - a**self.count)
                spread = (self.second[number] / (1 - b**self.count)).sqrt()
                parameter -= self.lr * mean / (spread + 1e-8)


def shares(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax, written out."""
    powers = torch.exp(logits / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of each row; p may have zeros."""
    ratio = torch.where(p > 0, torch.log(p / q), torch.zeros_like(p))
    return (p * ratio).sum(dim=1)


def frozen(model: nn.Module) -> Callable[[Batch], Tensor]:
    """What a copy of the model says, in evaluation mode."""
    teacher = copy.deepcopy(model).eval()

    def says(batch: Batch) -> Tensor:
        with torch.no_grad():
            logits: Tensor = teacher(batch.inputs)
        return logits

    return says


def right(model: nn.Module, part: Part, only: set[int] | None = None) -> float:
    """Share of the samples of a part, of some classes, that the model names rightly."""
    hits = []
    model.eval()
    for batch in view().batches(part, 1000, shuffle=False):
        assert batch.labels is not None
        for logits, label in zip(model(batch.inputs), batch.labels.tolist(), strict=True):
            if only is None or label in only:
                hits.append(int(logits.argmax()) == label)
    model.train()
    return sum(hits) / len(hits)


def same(fast: nn.Module, slow: nn.Module) -> None:
    """The same weights and statistics, and none of them where it was."""
    start = network().state_dict()
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, slow.state_dict()[name], rtol=0, atol=1e-9)
        assert value.dtype == torch.int64 or not torch.allclose(value, start[name], atol=1e-5), name


# --- the mathematics that they share


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_divergence_is_its_formula(temperature: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        (5 * torch.randn(7, 6, generator=generator, dtype=torch.float64)).to(dtype)
        for _ in range(2)
    )
    found = divergence(student, teacher, temperature)
    wanted = kl(shares(teacher.double(), temperature), shares(student.double(), temperature))
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # what the rounding of the logits cost is in both; what follows is in float32 or wider
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)


# --- the methods


SCRUB: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.02, "weight_decay": 0.01, "momentum": 0.8},
    "adam": {"lr": 0.01, "weight_decay": 0.1, "optimizer": "adam"},
}


def scrubbed(method: Scrub, states: list[dict[str, Tensor]]) -> Network:
    """The student after all epochs; `states` gets it after each."""
    student = network().train()
    says, t = frozen(student), method.temperature
    steps = Optimiser(student, method.optimizer, method.lr, method.momentum, method.weight_decay)
    for epoch in range(method.epochs):
        steps.lr = method.lr * 0.1 ** sum(epoch >= place for place in method.milestones)

        def away(batch: Batch) -> tuple[Tensor, Tensor]:
            own = student(batch.inputs)
            return own, t * t * kl(shares(says(batch), t), shares(own, t)).mean()

        if epoch < method.forget_epochs:
            for batch in view().batches(Part.FORGET, method.forget_batch_size, epoch=epoch):
                steps.step(-away(batch)[1])
        for batch in view().batches(Part.RETAIN, method.batch_size, epoch=epoch):
            own, distance = away(batch)
            wrong = -torch.log(shares(own)[torch.arange(len(own)), batch.labels]).mean()
            steps.step(method.gamma * wrong + method.alpha * distance)
        states.append(copy.deepcopy(student.state_dict()))
    return student


@pytest.mark.parametrize("optimizer", SCRUB)
def test_scrub_equals_its_loop(optimizer: str) -> None:
    settings: dict[str, Any] = {"alpha": 0.5, "gamma": 0.7, "temperature": 3.0, "milestones": (2,)}
    method = Scrub(batch_size=16, forget_batch_size=8, **settings, **SCRUB[optimizer])
    fast, states = network(), []  # type: ignore[var-annotated]
    method.unlearn(fast, view(), run())
    same(fast, scrubbed(method, states))
    assert len(states) == 3


def test_rewinding_equals_its_loop() -> None:
    method = Scrub(batch_size=16, forget_batch_size=8, epochs=5, lr=0.03, rewind=True)
    fast, states, told = network(), [], run()  # type: ignore[var-annotated]
    method.unlearn(fast, view(), told)
    slow = scrubbed(method, states)
    asked = {LABELS[row] for row in range(20) if row in rows_of(Part.FORGET)}
    wanted = 1 - right(slow, Part.VALIDATION, asked)
    errors = []
    for state in states:
        slow.load_state_dict(state)
        errors.append(1 - right(slow, Part.FORGET))
    gaps = [abs(error - wanted) for error in errors]
    best = gaps.index(min(gaps))
    assert told.log["forget_errors"] == pytest.approx(errors)
    assert told.log["validation_error"] == pytest.approx(wanted)
    assert told.log["rewound_to_epoch"] == best + 1
    slow.load_state_dict(states[best])
    same(fast, slow)


def rows_of(part: Part) -> set[int]:
    given = view()
    return set(given.split.rows(given.samples, part).tolist())


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_delete_equals_its_loop(norm: Any) -> None:
    method = Delete(epochs=3, lr=0.05, batch_size=8, norm=norm)
    fast, student = network(), network()
    method.unlearn(fast, view(whole_class=True), run())
    says = frozen(student)
    steps = Optimiser(student.train(norm == "train"), "sgd", method.lr, 0.9, 0.0)
    for epoch in range(3):
        for batch in view(whole_class=True).batches(Part.FORGET, 8, epoch=epoch):
            others = [column for column in range(CLASSES) if column != 2]
            q = shares(says(batch)[:, others])  # of the other classes alone
            steps.step(kl(q, shares(student(batch.inputs))[:, others]).mean())
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, student.state_dict()[name], rtol=0, atol=1e-9)
    assert not same_state(fast, network())


def both_sets(given: DataView, share: float) -> Any:
    count = round(share * given.size(Part.RETAIN))
    return given.mix(given.source(Part.FORGET), given.take(Part.RETAIN, count))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_bad_teaching_equals_its_loop(temperature: float) -> None:
    method = BadTeacher(epochs=2, lr=0.01, batch_size=16, temperature=temperature)
    fast, student = network(), network()
    method.unlearn(fast, view(), run())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(*NAMES, "weights", "bad_teacher"))
        bad = frozen(Network())
    good = frozen(student)
    steps = Optimiser(student.train(), "adam", method.lr, 0.9, 0.0)
    for epoch in range(2):
        for batch in both_sets(view(), 0.3).batches(16, epoch=epoch):
            own = shares(student(batch.inputs), temperature)
            lessons = zip(bad(batch), good(batch), batch.forget, strict=True)
            lesson = torch.stack([one if gone else other for one, other, gone in lessons])
            steps.step(kl(shares(lesson, temperature), own).mean())
    same(fast, student)


def test_lotus_equals_its_loop() -> None:
    method = Lotus(epochs=3, lr=0.1, batch_size=16, weight_decay=0.1, alpha=4.0, margin=1.0)
    fast, student, told = network(), network(), run()
    method.unlearn(fast, view(), told)
    says = frozen(student)
    reference = right(network(), Part.VALIDATION)
    steps = Optimiser(student.train(), "adamw", method.lr, 0.9, method.weight_decay)
    temperatures = []
    for epoch in range(3):
        tau = math.exp(method.alpha * (right(student, Part.FORGET) - reference))
        temperatures.append(tau)
        for batch in both_sets(view(), 0.3).batches(16, epoch=epoch):
            seen, targets = says(batch), []
            for logits, gone, name in zip(seen, batch.forget, batch.ids, strict=True):
                noise = numpy_generator(*NAMES, "gumbel", epoch + 1, str(name)).gumbel(size=CLASSES)
                soft = shares((logits + torch.from_numpy(noise)).unsqueeze(0), tau)[0]
                targets.append(soft if gone else torch.eye(CLASSES).double()[logits.argmax()])
            own = torch.log(shares(student(batch.inputs)))
            steps.step(-(torch.stack(targets) * own).sum(dim=1).mean())
    assert told.log["temperatures"] == pytest.approx(temperatures)
    assert len(set(temperatures)) > 1
    same(fast, student)
