"""Classes that a forgotten sample may be taught: none that was itself forgotten."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor


def open_classes(labels: Tensor, classes: int, gone: Collection[int]) -> Tensor:
    """Which classes samples of these labels (n,) may be taught instead: bool (n, classes).

    All but a sample's own and those of `gone`, forgotten now or before; where none is left, all but its
    own.
    """
    others = torch.ones(len(labels), classes, dtype=torch.bool, device=labels.device)
    others.scatter_(1, labels[:, None], False)
    stays = others.clone()
    stays[:, list(gone)] = False
    return torch.where(stays.any(1, keepdim=True), stays, others)
