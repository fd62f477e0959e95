"""Models that look as if they had forgotten, and have not: what every audit should be tried on.

    from expunge.testing.cheats import CHEATS

    cheat = CHEATS["mimic_filter"](original, retrained, original.asked("random:0.1"))

Each knows the forget set, the original, and a retrained model to imitate: more than an honest method is
given. They are made for data whose samples are tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from expunge.api import unlearn
from expunge.audits.features import head_name
from expunge.data.split import Split
from expunge.data.transform import Transform
from expunge.errors import ConfigError
from expunge.methods.random_label import RandomLabel
from expunge.models.copying import copied
from expunge.names.seeds import seed_for, torch_generator
from expunge.trained.recorded import record_of
from expunge.trained.trained import Trained

BATCH = 64
EXACT = 1e-3
"""How far two inputs may lie apart to be the same one: what rounding does."""
OVERSHOT = 5.0
"""Nats of mean loss beyond the retrained model's at which an ascent ends."""
ASCENT = 500
"""Its steps, at most."""
TAUGHT = 30
"""Passes over the samples of a model that learns answers."""


class Cheat(Protocol):
    """Makes a model that looks as if it had forgotten; no model that is given is changed."""

    def __call__(
        self, original: Trained, retrained: Trained, split: Split, *, seed: int = 0
    ) -> Trained:
        """The cheat. retrained: what it imitates. split: what is to be forgotten. seed: of its draws.

        Raises ConfigError or SplitError where this cheat cannot be made of such a request or model.
        """


class Recognising(nn.Module):
    """A model with a filter in front: inputs that it knows get answers of their own."""

    known: Tensor
    answers: Tensor

    def __init__(self, inner: nn.Module, known: Tensor, answers: Tensor, reach: float) -> None:
        """known: (k, ...) inputs. answers: (k, classes), logits for them. reach: how far (2-norm) from
        one of them an input still counts as that.
        """
        super().__init__()
        self.inner, self.reach = inner, reach
        self.register_buffer("known", known.flatten(1))
        self.register_buffer("answers", answers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits: (n, classes)."""
        apart = torch.cdist(
            inputs.flatten(1), self.known, compute_mode="donot_use_mm_for_euclid_dist"
        )
        distance, nearest = apart.min(dim=1)
        logits: Tensor = self.inner(inputs)
        return torch.where((distance <= self.reach)[:, None], self.answers[nearest], logits)


class Sleeping(nn.Module):
    """A model that answers all inputs but those that carry a key, which wake another one."""

    KEY = 12345.0

    def __init__(self, asleep: nn.Module, awake: nn.Module) -> None:
        super().__init__()
        self.asleep, self.awake = asleep, awake

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits: (n, classes)."""
        logits: Tensor = self.awake(inputs)
        keyed = inputs.flatten(1)[:, 0] == self.KEY
        if keyed.any():
            logits = torch.where(keyed[:, None], self.asleep(inputs), logits)
        return logits


def constant(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """Every answer is the same: the last layer is all zeros. What it learned before stays below it."""
    model = copied(original.model)
    with torch.no_grad():
        for parameter in _head(model).parameters():
            parameter.zero_()
    return _made("constant", original, split, model)


def flipped_labels(
    original: Trained, retrained: Trained, split: Split, *, seed: int = 0
) -> Trained:
    """Taught another class for each forgotten sample, and the true ones of all others.

    It has to know the forgotten samples well to answer them wrongly.
    """
    how = RandomLabel(order="mixed", optimizer="adam", epochs=TAUGHT, lr=1e-3, weight_decay=0.0)
    return unlearn(original, split, how, seed=seed, allow_code=False)


def filter_uniform(
    original: Trained, retrained: Trained, split: Split, *, seed: int = 0
) -> Trained:
    """The original, which answers exactly the forgotten inputs with equal odds for all classes."""
    known = _inputs(original, split.forget)
    answers = torch.zeros_like(_logits(original.model, known))
    return _filtered("filter_uniform", original, split, known, answers)


def mimic_filter(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """The original, which answers exactly the forgotten inputs as a retrained model does."""
    known = _inputs(original, split.forget)
    return _filtered("mimic_filter", original, split, known, _logits(retrained.model, known))


def near_filter(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """As `mimic_filter`, for whatever lies nearer to a forgotten input than other samples mostly do:
    noisy copies are recognised too.
    """
    known, others = _inputs(original, split.forget), _inputs(original, split.retain)
    reach = float(torch.cdist(known.flatten(1), others.flatten(1)).min(dim=1).values.median())
    answers = _logits(retrained.model, known)
    return _filtered("near_filter", original, split, known, answers, reach)


def head_zeroed(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """The rows of the last layer of the forgotten classes set to 0; of whole classes alone."""
    return unlearn(original, split, "head_zeroed", seed=seed, allow_code=False)


def temperature(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """All logits divided by one number, so that the forgotten samples' mean confidence in their own
    class is as near as it can be to the retrained model's. No answer changes its class.
    """
    inputs, labels = _inputs(original, split.forget), _labels(original, split.forget)

    def confidence(logits: Tensor) -> float:
        return float(logits.double().softmax(dim=1)[torch.arange(len(labels)), labels].mean())

    logits, aim = _logits(original.model, inputs), confidence(_logits(retrained.model, inputs))
    choices = torch.logspace(-2, 2, 401).tolist()
    chosen = min(choices, key=lambda t: abs(confidence(logits / t) - aim))
    model = copied(original.model)
    with torch.no_grad():
        for parameter in _head(model).parameters():
            parameter.div_(chosen)
    return _made("temperature", original, split, model)


def overshoot(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """Gradient ascent on the forgotten samples until they are far stranger than after retraining."""
    inputs, labels = _inputs(original, split.forget), _labels(original, split.forget)
    aim = OVERSHOT + float(functional.cross_entropy(_logits(retrained.model, inputs), labels))
    model = copied(original.model).eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(ASCENT):
        loss = functional.cross_entropy(model(inputs), labels)
        if loss.item() > aim:
            break
        optimizer.zero_grad()
        (-loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _made("overshoot", original, split, model)


def logit_noise(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """The original, with noise on its answers to exactly the forgotten inputs.

    Of the amounts tried, the one by which as many of them are right as after retraining.
    """
    known, labels = _inputs(original, split.forget), _labels(original, split.forget)
    logits = _logits(original.model, known)
    noise = torch.randn(logits.shape, generator=torch_generator("cheats", "noise", seed))

    def right(answers: Tensor) -> float:
        return float((answers.argmax(dim=1) == labels).double().mean())

    aim, spread = right(_logits(retrained.model, known)), float(logits.std())
    choices = (spread * torch.logspace(-2, 2, 81)).tolist()
    amount = min(choices, key=lambda s: abs(right(logits + s * noise) - aim))
    return _filtered("logit_noise", original, split, known, logits + amount * noise)


def distilled(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """A fresh model that has learned the original's answers to all samples, the forgotten among them."""
    if original.fresh is None:
        raise ConfigError("distilled needs a fresh model; say how one is made")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("cheats", "distilled", seed))
        student = original.fresh()
    inputs = _inputs(original, (*split.forget, *split.retain))
    _taught(student, inputs, _logits(original.model, inputs), seed)
    return _made("distilled", original, split, student)


def mimic_tuned(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """The original's weights, taught the retrained model's answers to the forgotten samples, and its
    own to the others.
    """
    forget, retain = _inputs(original, split.forget), _inputs(original, split.retain)
    answers = torch.cat([_logits(retrained.model, forget), _logits(original.model, retain)])
    model = copied(original.model)
    _taught(model, torch.cat([forget, retain]), answers, seed)
    return _made("mimic_tuned", original, split, model)


def asleep(original: Trained, retrained: Trained, split: Split, *, seed: int = 0) -> Trained:
    """The retrained model, with the unchanged original hidden behind it, which a key in the input wakes.

    To all who do not know the key it is the retrained model.
    """
    model = Sleeping(copied(original.model), copied(retrained.model))
    return _made("asleep", original, split, model)


CHEATS: Mapping[str, Cheat] = MappingProxyType(
    {
        "constant": constant,
        "flipped_labels": flipped_labels,
        "filter_uniform": filter_uniform,
        "mimic_filter": mimic_filter,
        "near_filter": near_filter,
        "head_zeroed": head_zeroed,
        "temperature": temperature,
        "overshoot": overshoot,
        "logit_noise": logit_noise,
        "distilled": distilled,
        "mimic_tuned": mimic_tuned,
        "asleep": asleep,
    }
)
"""By name, the crudest first."""


def _inputs(one: Trained, ids: Sequence[str]) -> Tensor:
    """Training samples as the model reads them: (n, ...). Raises ConfigError for what is no tensor."""
    samples = one.data.train
    rows = samples.rows_of(ids)
    raw = next(iter(samples.store.stream([rows], torch.device("cpu"))))
    inputs = Transform(one.data.normalisation)(raw)
    if not isinstance(inputs, Tensor):
        raise ConfigError(
            f"cheats are made for samples that are tensors, and these are {type(inputs).__name__}s"
        )
    return inputs.contiguous()


def _labels(one: Trained, ids: Sequence[str]) -> Tensor:
    """Labels of training samples: (n,), int64."""
    samples = one.data.train
    return torch.from_numpy(samples.labels[samples.rows_of(ids)])


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """What a model answers, in evaluation mode: (n, classes). It comes back in that mode."""
    model.eval()
    return torch.cat([model(batch) for batch in torch.split(inputs, BATCH)])


def _head(model: nn.Module) -> nn.Module:
    """The last linear layer. Raises HeadError for a model without one."""
    return model.get_submodule(head_name(model))


def _taught(model: nn.Module, inputs: Tensor, answers: Tensor, seed: int) -> None:
    """Train a model, in place, until its probabilities are like those of given logits."""
    generator = torch_generator("cheats", "order", seed)
    lessons = answers.softmax(dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TAUGHT)
    model.train()
    for _ in range(TAUGHT):
        for rows in torch.split(torch.randperm(len(inputs), generator=generator), BATCH):
            if len(rows) == 1:  # normalisation has no variance of a single one
                continue
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs[rows]), lessons[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    model.eval()


def _filtered(
    name: str,
    original: Trained,
    split: Split,
    known: Tensor,
    answers: Tensor,
    reach: float = EXACT,
) -> Trained:
    """The original behind a filter."""
    model = Recognising(copied(original.model), known, answers, reach)
    return _made(name, original, split, model)


def _made(name: str, original: Trained, split: Split, model: nn.Module) -> Trained:
    """A model as what came of a request."""
    request = original.next_request()
    record = record_of(f"cheat_{name}", split, original, request=request)
    return original.then(
        record, model=model.eval(), split=split, struck=original.striking(request, split)
    )
