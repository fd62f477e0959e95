"""A piece of work that is done twice, and what the two are given: the same network, the same samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import expunge
from expunge import Data, Part, Recipe, Split, Trained
from expunge.data.samples import resident
from expunge.data.transform import Normalisation
from expunge.models.table import build_model

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 256
PADDING = 4

Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """Two ways to the same end.

    aim: times that ours is to be faster. set_up: called once with CIFAR-10 (or what `--data-dir` has
    under its name), returns the reference's work and ours, which are then called in turns; each call
    begins anew.
    """

    name: str
    aim: float
    set_up: Callable[[Data], tuple[Work, Work]]


@dataclass(frozen=True)
class Problem:
    """A network and a request.

    network: takes images in [0, 1] and normalises them itself, as the papers' networks do.
    trained: the same for this package. split: what is to be forgotten.
    """

    network: nn.Module
    trained: Trained
    split: Split

    def images(self, part: Part, *, augment: bool = False) -> Images:
        """The samples of a part, for a DataLoader."""
        samples = self.trained.data.train
        rows = torch.from_numpy(self.split.rows(samples, part))
        stored = resident(samples)
        assert stored is not None
        return Images(stored[rows], torch.from_numpy(samples.labels)[rows], augment)


def problem(data: Data, *, samples: int, forget: int, model: str = "cnn") -> Problem:
    """The first `samples` of the training set, of which some at random are to be forgotten."""
    part = Data(data.train.subset(np.arange(samples)), data.test, data.classes)
    part = part.with_normalisation(Normalisation(MEAN, STD))
    torch.manual_seed(0)
    network = build_model(model, (3, 32, 32), 10, allow_code=True)
    recipe = Recipe(batch_size=BATCH, augmentation="crop_flip")
    trained = expunge.adopt(network, part, recipe=recipe)
    split = trained.asked(np.random.default_rng(0).permutation(samples) < forget)
    return Problem(Normalised(network), trained, split)


class Normalised(nn.Module):
    """A network behind the normalisation of its images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[None, :, None, None])

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network((images - self.mean) / self.std)
        return found


class Images(Dataset[tuple[Tensor, int]]):
    """Images (n, 3, height, width) uint8 and labels (n,), one at a time as floats in [0, 1].

    augment: a random crop after zero padding of 4, and a horizontal flip.
    """

    def __init__(self, images: Tensor, labels: Tensor, augment: bool) -> None:
        self.images, self.labels, self.augment = images, labels.tolist(), augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.augment:
            size = image.shape[1:]
            image = nn.functional.pad(image, (PADDING,) * 4)
            top, left = torch.randint(0, 2 * PADDING + 1, (2,)).tolist()
            image = image[:, top : top + size[0], left : left + size[1]]
            if torch.rand(1) < 0.5:
                image = image.flip(-1)
        return image.float().div(255), self.labels[index]


def trained_by(
    network: nn.Module, samples: Images, *, epochs: int, lr: float, sign: float = 1.0
) -> float:
    """Epochs of SGD with momentum 0.9 and weight decay 5e-4; the share answered rightly meanwhile.

    sign: -1 climbs the loss. Loss and answers are looked at after each step, as public loops do.
    """
    loader = DataLoader(samples, batch_size=BATCH, shuffle=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    right = summed = 0.0
    network.train()
    for _ in range(epochs):
        for inputs, labels in loader:
            outputs = network(inputs)
            loss = sign * criterion(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            summed += loss.item()
            right += (outputs.detach().argmax(1) == labels).float().mean().item()
    return right / epochs / len(loader)
