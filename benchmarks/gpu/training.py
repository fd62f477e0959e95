"""Training: images per second of `fit` beside a lean loop and a typical one, and peak memory."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from plain_loop import train_plain
from torch import Tensor, nn
from torch.nn import functional
from training import cifar10, new_model, pixels, subset, train_fit

from expunge import Data, Recipe
from expunge.data.samples import ResidentStore, Samples, resident, row_ids
from expunge.training.cost import Meter
from expunge.training.precision import arithmetic
from gpu.child import Asked, Tell
from gpu.parts import FailedError, LeftOutError

EPOCH = 50_000
"""Images of an epoch, as CIFAR-10 has them."""
LR = 0.05
FEW = 3
"""Steps before the first timing: kernels chosen, memory taken."""


@dataclass(frozen=True)
class Size:
    """images: of one timing. rounds: timings of each loop, in turn; their median counts."""

    models: tuple[str, ...]
    images: int
    batch: int
    rounds: int
    workers: int


FULL = Size(("resnet20", "resnet18"), 12_800, 256, 3, min(8, os.cpu_count() or 1))
TINY = Size(("cnn",), 256, 64, 1, 0)


def run(asked: Asked, tell: Tell) -> None:
    """Time every loop on every model, until the time is over."""
    size = TINY if asked.tiny else FULL
    data, which = pictures(asked, size.images)
    tell({"data": which, "images_a_timing": size.images, "batch_size": size.batch})
    device = torch.device(asked.device)
    rows: list[dict[str, Any]] = []
    for name in size.models:
        loops = contenders(name, data, size, device)
        taken: dict[str, list[Meter]] = {label: [] for label in loops}
        for loop in loops.values():
            loop(FEW)
        for _ in range(size.rounds):
            for label, loop in loops.items():
                if asked.left() <= 0:
                    raise LeftOutError(f"time: over while {name} was timed; the rest was not")
                taken[label].append(timed(loop, -(-size.images // size.batch), device))
            now = [row(name, label, meters, size) for label, meters in taken.items() if meters]
            tell({"loops": rows + now})
        rows += now
    if any(not row["images_per_second"] > 0 for row in rows):
        raise FailedError("a loop took no time that could be measured")


def timed(loop: Callable[[int], object], steps: int, device: torch.device) -> Meter:
    """Seconds and peak memory of so many steps; the device is waited for at both ends."""
    with Meter(device) as meter:
        loop(steps)
    return meter


def row(model: str, label: str, meters: list[Meter], size: Size) -> dict[str, Any]:
    """One line of the table; seconds are the median of the timings."""
    seconds = statistics.median(meter.seconds for meter in meters)
    return {
        "model": model,
        "loop": label,
        "images_per_second": size.images / seconds,
        "seconds_per_epoch": EPOCH * seconds / size.images,
        "slowest_timing": max(meter.seconds for meter in meters),
        "fastest_timing": min(meter.seconds for meter in meters),
        "peak_memory_mib": max(meter.peak_memory_bytes for meter in meters) / 2**20,
        "memory": meters[0].memory,
    }


def contenders(
    name: str, data: Data, size: Size, device: torch.device
) -> dict[str, Callable[[int], object]]:
    """Label -> a function that trains a new model for some steps."""
    images, labels = pixels(data)
    on_device = resident(data.train).to(device), torch.from_numpy(labels).to(device)

    def typical(steps: int) -> object:
        return train_plain(
            new_model(name, 0).to(device),
            images,
            labels,
            epochs=1,
            batch_size=size.batch,
            lr=LR,
            seed=0,
            workers=size.workers,
            max_steps=steps,
            schedule="onecycle",
        )

    def lean(precision: str, form: torch.memory_format) -> Callable[[int], object]:
        return lambda steps: lean_loop(
            new_model(name, 0).to(device, memory_format=form),
            *on_device,
            steps=steps,
            batch=size.batch,
            precision=precision,
            form=form,
        )

    @cache  # made once, as the tensors of the lean loop are
    def part(steps: int) -> Data:
        return subset(data, steps * size.batch)

    def fitted(precision: str) -> Callable[[int], object]:
        recipe = Recipe(epochs=1, batch_size=size.batch, lr=LR, precision=precision)
        return lambda steps: train_fit(new_model(name, 0), part(steps), recipe, 0, device.type)

    half, last = "bfloat16", torch.channels_last
    return {
        f"typical loop, {size.workers} workers, float32": typical,
        "lean loop, float32": lean("float32", torch.contiguous_format),
        "lean loop, float32, channels last": lean("float32", last),
        "lean loop, bfloat16, channels last": lean(half, last),
        "fit, float32 (channels last)": fitted("float32"),
        "fit, bfloat16 (channels last)": fitted(half),
        "fit, auto": fitted("auto"),
    }


def lean_loop(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch: int,
    precision: str,
    form: torch.memory_format,
) -> None:
    """As little as training takes: all images on the device, one crop and one flip a batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator).to(images.device)
    model.train()
    for step in range(steps):
        rows = order[(step * batch) % len(images) :][:batch]
        inputs = functional.pad(images[rows].float() / 255 - 0.5, (4, 4, 4, 4))
        top, left, flip = torch.randint(0, 9, (3,), generator=generator).tolist()
        inputs = inputs[:, :, top : top + 32, left : left + 32]
        inputs = (inputs.flip(-1) if flip % 2 else inputs).contiguous(memory_format=form)
        with arithmetic(precision, images.device):
            loss = functional.cross_entropy(model(inputs), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def pictures(asked: Asked, count: int) -> tuple[Data, str]:
    """So many images, and which: CIFAR-10's where they are, else noise of the same shape."""
    if asked.cifar10() is not None and not asked.tiny:
        return subset(cifar10(asked.data_dir), count), "CIFAR-10"
    draw = np.random.default_rng(0)

    def noise(rows: int, part: str) -> Samples:
        tensor = torch.from_numpy(draw.integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8))
        return Samples(
            row_ids(rows), draw.integers(0, 10, rows), ResidentStore(tensor), f"noise/{part}", True
        )

    data = Data(noise(count, "train"), noise(100, "test"), tuple(map(str, range(10))))
    return data, "noise in the shape of CIFAR-10"
