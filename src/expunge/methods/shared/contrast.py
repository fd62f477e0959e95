"""The two losses of FCS on outputs alone: towards uniform ones, and apart from those of others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.batch import Batch
from expunge.data.task import class_logits
from expunge.training.loop import Loss
from expunge.training.run import Run


def flat_and_apart(run: Run, temperature: float) -> tuple[Loss, Loss]:
    """KL(uniform || p) of a batch; the contrast of a batch with another, which has no gradient."""
    observe = class_logits(run.task)

    def flat(model: nn.Module, batch: Batch, _: float) -> Tensor:
        says = observe(model, batch).log_softmax(1)
        return run.mean(-says.mean(1) - math.log(says.shape[1]), batch)

    def apart(model: nn.Module, pair: tuple[Batch, Batch], _: float) -> Tensor:
        struck, kept = pair
        with torch.no_grad():
            others = run.gathered(observe(model, kept), kept)
        with torch.autocast(
            run.device.type, enabled=False
        ):  # whole numbers would be lost in scores
            scores = functional.linear(observe(model, struck), others) / temperature
        return run.mean(-scores.log_softmax(1).mean(1), struck)

    return flat, apart
