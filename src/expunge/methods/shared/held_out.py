"""What a model says of samples that it never saw, class by class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expunge.data.parts import Part
from expunge.data.task import class_logits
from expunge.data.view import DataView
from expunge.errors import ConfigError
from expunge.methods.shared.unseen import tell_aimed_by
from expunge.training.loop import evaluating
from expunge.training.run import Run


def held_out_means(model: nn.Module, data: DataView, run: Run, size: int) -> Tensor:
    """Mean probabilities (classes, classes) of the validation samples of each class, under the model.

    A class without any has the mean of all. Raises ConfigError where there is no validation sample.
    """
    count = data.size(Part.VALIDATION)
    if not count:
        raise ConfigError(
            f"{run.label} learns from validation samples what the model says of the unseen, and there "
            "are none; keep some when it is trained or imported (--validation 0.1)"
        )
    classes = len(data.classes)
    sums = torch.zeros(classes, classes + 1, device=run.device)
    observe = class_logits(run.task)
    with evaluating(model), torch.no_grad(), run.progress.work(f"{run.label}, held-out"):
        for batch in data.batches(Part.VALIDATION, size, shuffle=False, augment=False):
            says = observe(model, batch).softmax(1)
            sums = sums.to(says.dtype)
            counted = torch.cat([says, torch.ones_like(says[:, :1])], dim=1) * bool(batch.weight)
            sums.index_add_(0, batch.labels, counted)  # type: ignore[arg-type]
    sums = run.sum(sums)
    seen = sums[:, -1:]
    run.log["held_out"] = count
    tell_aimed_by(count, run)
    everything = sums.sum(0, keepdim=True)
    return torch.where(seen > 0, sums / seen.clamp(min=1), everything / count)[:, :-1]
