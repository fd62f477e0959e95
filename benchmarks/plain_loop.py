"""The baseline of the training benchmark: the loop that a typical paper repository has.

float32, contiguous memory, one PIL image at a time through RandomCrop, RandomHorizontalFlip,
ToTensor and Normalize (written as torchvision writes them, with the same work per image), a
DataLoader, SGD with momentum 0.9 and weight decay 5e-4, and the loss read at every step.
"""

from __future__ import annotations

import time
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

Images = NDArray[np.uint8]  # (n, height, width, 3)
Labels = NDArray[np.int64]  # (n,)

CIFAR10_MEAN = torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]
CIFAR10_STD = torch.tensor([0.2470, 0.2435, 0.2616])[:, None, None]
PADDING = 4


class PlainRun(NamedTuple):
    seconds: float
    samples: int


def augment(image: Image.Image) -> Image.Image:
    """RandomCrop(size, padding=4), then RandomHorizontalFlip()."""
    width, height = image.size
    image = ImageOps.expand(image, border=PADDING, fill=0)
    top, left = (int(torch.randint(0, 2 * PADDING + 1, (1,))) for _ in range(2))
    image = image.crop((left, top, left + width, top + height))
    if torch.rand(1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def to_tensor(image: Image.Image) -> Tensor:
    """ToTensor(), then Normalize(): float32 of shape (3, height, width)."""
    pixels = torch.from_numpy(np.array(image, copy=True))
    scaled = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return scaled.sub_(CIFAR10_MEAN).div_(CIFAR10_STD)


class PlainImages(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: Images, labels: Labels, *, train: bool) -> None:
        self.images, self.labels, self.train = images, labels, train

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])
        return to_tensor(augment(image) if self.train else image), int(self.labels[index])


def train_plain(
    model: nn.Module,
    images: Images,
    labels: Labels,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    workers: int,
    max_steps: int | None = None,
    schedule: Literal["constant", "cosine", "step", "onecycle"] = "cosine",
) -> PlainRun:
    """Train `model` in place, on the device it is on; seconds include the DataLoader's start.

    schedule: "step" divides by 10 at half and three quarters of the epochs; "onecycle" moves
    every step, the others every epoch. max_steps ends the run early and leaves the schedule alone.
    """
    torch.manual_seed(seed)
    device = next(model.parameters()).device
    loader = DataLoader(
        PlainImages(images, labels, train=True),
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    scheduler = _scheduler(schedule, optimizer, lr, epochs, len(loader))
    samples = steps = 0
    start = time.perf_counter()
    model.train()
    for _ in range(epochs):
        running_loss = 0.0
        for inputs, targets in loader:
            inputs, targets = inputs.to(device), targets.to(device)
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(targets)
            samples, steps = samples + len(targets), steps + 1
            if schedule == "onecycle":
                scheduler.step()
            if steps == max_steps:
                return PlainRun(time.perf_counter() - start, samples)
        if schedule != "onecycle":
            scheduler.step()
    return PlainRun(time.perf_counter() - start, samples)


def _scheduler(
    schedule: str, optimizer: torch.optim.Optimizer, lr: float, epochs: int, steps: int
) -> Any:
    match schedule:
        case "constant":
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
        case "step":
            return lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 3 // 4], gamma=0.1)
        case "onecycle":
            total = epochs * steps
            return lr_scheduler.OneCycleLR(
                optimizer, max_lr=lr, total_steps=total, cycle_momentum=False
            )
    raise ValueError(f"unknown schedule {schedule!r}")


@torch.no_grad()
def accuracy(model: nn.Module, images: Images, labels: Labels, *, batch_size: int = 256) -> float:
    """The fraction of `images` that `model` classifies rightly, in evaluation mode."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    right = 0
    for inputs, targets in DataLoader(PlainImages(images, labels, train=False), batch_size):
        predictions = model(inputs.to(device)).argmax(1)
        right += int((predictions == targets.to(device)).sum())
    model.train(was_training)
    return right / len(labels)
