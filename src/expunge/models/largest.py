"""The least of the largest scores, over several tensors, without a sort or a copy of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SAMPLE = 2**16
"""Ranked of a sample, by which the one that is looked for is bracketed."""


class Ranked(NamedTuple):
    """values: of a tensor. alive: those that count, bool of the same shape; None: all."""

    values: Tensor
    alive: Tensor | None

    def among(self, chosen: Tensor) -> Tensor:
        """Those of a choice, bool, that count."""
        return chosen if self.alive is None else chosen & self.alive

    def unknown(self) -> bool:
        """Whether one that counts is nan."""
        if not self.values.numel() or not bool(torch.aminmax(self.values).max.isnan()):
            return False
        return bool(self.among(self.values.isnan()).any())

    def left(self) -> int:
        """How many count."""
        return self.values.numel() if self.alive is None else int(self.alive.count_nonzero())

    def drawn(self, share: float) -> Tensor:
        """Of a share of them, always the same, those that count; some twice."""
        size = self.values.numel()
        if not size:
            return self.values.flatten()
        draw = torch.Generator().manual_seed(size)
        places = torch.randint(size, (math.ceil(share * size),), generator=draw)
        places = places.to(self.values.device)
        values = self.values.flatten()[places]
        return values if self.alive is None else values[self.alive.flatten()[places]]


def least_of_largest(scores: Sequence[Ranked], count: int) -> Tensor:
    """The `count`-th largest score, 1 <= count <= all that count: a tensor of no axes.

    A sample says between which two scores it lies, and the few between these are looked at alone; where
    the sample misleads, all are.
    """
    left = sum(one.left() for one in scores)
    share = min(1.0, SAMPLE / sum(one.values.numel() for one in scores))
    sample = torch.cat([one.drawn(share) for one in scores]).sort().values
    place = len(sample) * (1 - count / left)
    off = 2 * len(sample) ** 0.5 + 2  # four standard deviations of the place of a drawn one
    low = sample[int(place - off)] if place > off else -torch.inf
    high = sample[int(place + off)] if place + off < len(sample) else torch.inf
    for least, most in ((low, high), (-torch.inf, torch.inf)):
        higher = [one.among(one.values > most) for one in scores]
        above = sum(int(one.count_nonzero()) for one in higher)
        between = torch.cat(
            [
                one.values[one.among(one.values >= least) ^ more]
                for one, more in zip(scores, higher, strict=True)
            ]
        )
        if above < count <= above + len(between):
            break
    return between.kthvalue(len(between) - (count - above) + 1).values
