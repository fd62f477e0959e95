"""What `fit` shows of itself: a bar that ends where training ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers import batch_of, run_on_cpu
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.progress import Silent
from expunge.training.fit import fit
from expunge.training.recipe import Recipe


class Counted(Silent):
    """How many steps were announced, and how many were done."""

    announced = done = 0

    @contextmanager
    def work(
        self, label: str, steps: int = 1, done: int = 0, unit: str = "steps"
    ) -> Iterator[Counted]:
        self.announced = steps
        yield self

    def advance(self, note: str = "") -> None:
        self.done += 1


def squares(model: nn.Module, batch: Batch, _: float) -> Tensor:
    found: Tensor = model(batch.inputs).square().mean()
    return found


@pytest.mark.parametrize(
    ("lengths", "stop"), [([3, 3, 3], 9), ([5, 2, 2], 9), ([2, 5, 5], 9), ([3, 3, 3], 0)]
)
@pytest.mark.parametrize("known", [True, False])
def test_a_bar_is_full_at_the_end_and_never_more(
    lengths: list[int], stop: int, known: bool
) -> None:
    """Epochs of other lengths than the first, or that are never trained, leave no bar half way."""
    shown = Counted()

    def batches(epoch: int) -> Any:
        made = [batch_of(torch.ones(2, 2), [0, 0])] * lengths[epoch]
        return made if known else iter(made)

    log = fit(
        nn.Linear(2, 1),
        batches,
        squares,
        recipe=Recipe(epochs=3, lr=0.01, schedule="constant", augmentation="none"),
        run=run_on_cpu(progress=shown),
        after_epoch=lambda _, epoch: epoch == stop,
    )
    assert log.steps == sum(lengths[: stop + 1])
    assert shown.done == shown.announced == (lengths[0] if known else 1) * 3
