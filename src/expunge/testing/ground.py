"""What the checks stand on: 300 digits, models trained a little, and data that know who reads them."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.load import Data, load_data
from expunge.data.samples import resident
from expunge.data.split import Split
from expunge.models.mask import prunable
from expunge.models.table import build_model
from expunge.place import Place
from expunge.testing.promises import require
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05, augmentation="none")
"""How the original was trained, as a method is told."""
CPU = Place(device="cpu")
DIGITS = 300
ONE_PIXEL = "one pixel"
"""The name of `OnePixel` here; every other model is named as in `expunge list models`."""


@functools.cache
def digits(count: int = DIGITS) -> Data:
    """The first images of the digits data, (1, 8, 8) each, of ten classes."""
    return load_data(f"digits:{count}", allow_code=False)


class OnePixel(nn.Module):
    """BatchNorm on feature maps of one pixel, where a batch of one has no variance at all."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 8)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(8, 8)
        self.norm1d = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (batch, 10) of images (batch, 1, 8, 8)."""
        features = self.norm(self.convolution(inputs)).relu().flatten(1)
        logits: Tensor = self.head(self.norm1d(self.hidden(features)).relu())
        return logits


def untrained(architecture: str) -> nn.Module:
    """A fresh model for digits, drawn from torch's own stream."""
    if architecture == ONE_PIXEL:
        return OnePixel()
    return build_model(architecture, (1, 8, 8), 10, allow_code=False)


@functools.cache
def _original(architecture: str, count: int) -> nn.Module:
    samples = digits(count).train
    inputs = resident(samples)
    require(inputs is not None, "digits are held in memory")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = untrained(architecture)
        # a few plain steps, so that weights and running statistics are those of no fresh model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for rows in torch.split(torch.randperm(len(samples)), 64):
            images = inputs[rows].float() / 255  # type: ignore[index]
            labels = torch.from_numpy(samples.labels)[rows]
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval().requires_grad_(True)


def original(architecture: str, count: int = DIGITS) -> nn.Module:
    """A model trained a little on digits; the caller may change it."""
    model = copy.deepcopy(_original(architecture, count))
    model.zero_grad(set_to_none=True)
    return model


class Watched:
    """Digits as people write a dataset, items (image, label), which knows what was read of it.

    forbidden: ids that must not be read; reading one is a broken promise. read: ids, in order.
    """

    def __init__(self, count: int = 120, *, gone: Sequence[str] = ()) -> None:
        samples = digits().train
        inputs = resident(samples)
        missing = set(gone)
        names = [f"scan-{row:03d}.png" for row in range(count)]
        rows = [row for row, name in enumerate(names) if name not in missing]
        self.ids = [names[row] for row in rows]
        self.targets = [int(samples.labels[row]) for row in rows]
        self.inputs = [inputs[row].float() / 255 for row in rows] if inputs is not None else []
        self.classes = [str(label) for label in range(10)]
        self.forbidden: set[str] = set()
        self.read: list[str] = []

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        name = self.ids[row]
        require(name not in self.forbidden, f"it reads {name}, which it must not")
        self.read.append(name)
        return self.inputs[row], self.targets[row]

    def data(self) -> Data:
        """As `load_data` takes it, with some more digits as test set."""
        test = Watched(60)
        test.ids = [f"test-{name}" for name in test.ids]
        return load_data((self, test), allow_code=False)


def alone(data: Data, whole: Split) -> Split:
    """The same split, in which the eighth sample is the only one of its class."""
    first = whole.retain[7]
    keys = (*whole.retain, *whole.validation)
    labels = data.train.labels[data.train.rows_of(keys)]
    alike = zip(keys, labels == labels[keys.index(first)], strict=True)
    others = {key for key, same in alike if same and key != first}
    return Split(
        tuple(key for key in whole.retain if key not in others),
        (),
        tuple(key for key in whole.validation if key not in others),
        tuple(sorted(others)),
    )


def random_mask(model: nn.Module, kept: float = 0.1) -> dict[str, Tensor]:
    """A mask of the prunable weights, True for a share of them by chance."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(weight.shape, generator=generator) < kept
        for name, weight in prunable(model).items()
    }


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    """Names of weights and buffers that differ in a bit, or that only one of two models has."""
    first, second = one.state_dict(), other.state_dict()
    return [
        key
        for key in {**first, **second}
        if key not in first or key not in second or not torch.equal(first[key], second[key])
    ]


def not_finite(model: nn.Module) -> list[str]:
    """Names of weights and buffers with an entry that is no finite number."""
    return [key for key, value in model.state_dict().items() if not torch.isfinite(value).all()]


def _numpys_state() -> tuple[object, ...]:
    """Of numpy's own stream, to be compared; as text it takes as long as a short training."""
    name, numbers, *rest = np.random.get_state(legacy=True)
    return (name, np.asarray(numbers).tobytes(), *rest)


@contextmanager
def global_randomness_stays() -> Iterator[None]:
    """What runs inside draws from its run's seeds alone, or breaks a promise."""
    before = torch.get_rng_state(), _numpys_state(), random.getstate()
    yield
    require(
        torch.equal(torch.get_rng_state(), before[0]),
        "it draws from torch's global random stream; use run.seed_for, or a generator of its seed",
    )
    require(
        (_numpys_state(), random.getstate()) == before[1:],
        "it draws from numpy's or Python's global random stream; use a generator of run.seed_for",
    )
