"""What is drawn by a seed: small models with statistics of their own, and vectors to learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pytest
import torch
from helpers import toy, view_of
from torch import Tensor, nn

from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView

M = TypeVar("M", bound=nn.Module)


def seeded(build: Callable[[], M], seed: int = 0) -> M:
    """A model as torch draws it after `seed`; torch's own stream stays where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def with_statistics(build: Callable[[], M], draw: Callable[[], Tensor]) -> M:
    """A model whose BatchNorm has seen three batches, and is that of no fresh model."""
    model = build()
    for _ in range(3):
        model(draw())
    return model


def vectors() -> Data:
    """40 vectors of 5 numbers; label i % 3."""
    generator = torch.Generator().manual_seed(4)
    return toy([i % 3 for i in range(40)], inputs=torch.randn(40, 5, generator=generator))


def other_vectors() -> Tensor:
    """20 more, shifted and wider, of torch's own stream."""
    return 2 * torch.randn(20, 5) + 1


def view_of_vectors(
    forgotten: Iterable[int], declared: Part, names: tuple[str | int, ...]
) -> DataView:
    """`vectors`, of which some rows are forgotten and all others retained."""
    data = vectors()
    split = Split.indices(data, forgotten, base=Split.whole(data, validation=0))
    return view_of(data, split, declared, names=names)


@pytest.fixture(autouse=True)
def global_randomness_stays() -> Iterator[None]:
    """torch's own stream is where it was: for modules that import this, around every test."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
