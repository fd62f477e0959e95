"""Data that anyone can make."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.data import TensorDataset


def spots(rest: str, data_dir: str | Path | None) -> tuple[TensorDataset, TensorDataset]:
    """A bright spot, whose place is the class. REST: side of the images, by default 4."""
    if rest == "gone":
        raise FileNotFoundError("no such file: spots.bin")
    side = int(rest.removeprefix("side=") or 4)

    def made(count: int, seed: int) -> TensorDataset:
        images = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))
        labels = torch.arange(count) % side
        images[torch.arange(count), 0, labels, labels] += 2
        return TensorDataset(images, labels)

    return made(80, 0), made(40, 1)
