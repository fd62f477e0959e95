"""What noise on the weights cannot hide, and what it is to be held against: an untrained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from expunge.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from expunge.training.run import Run


def check_covered(model: nn.Module, fresh: nn.Module | None, run: Run, *, public: bool) -> None:
    """Raise ModelError where part of the model stays as data made it that may be forgotten.

    fresh: an untrained model, None where nobody said how to make one: buffers that are as it has them
    are its author's. public: the caller vouches for all but running statistics.
    """
    import torch

    running = [
        name
        for name, one in model.named_modules()
        if getattr(one, "running_mean", None) is not None
    ]
    if running:
        raise ModelError(
            f"{run.label} proves nothing for a model with running statistics, which noise on the "
            f"weights does not hide ({running[0]!r} has some); train one with GroupNorm or LayerNorm in "
            "their place, or choose retrain"
        )
    if public:
        return
    vouch = "or say public=true if it never saw what is to be forgotten"
    frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
    if frozen:
        raise ModelError(
            f"{run.label} proves nothing of weights that stay as they are, and {frozen[0]!r} is frozen; "
            f"thaw it, {vouch}"
        )
    new = dict(fresh.named_buffers()) if fresh is not None else {}
    for name, buffer in model.named_buffers():
        if name not in new or not torch.equal(buffer, new[name].to(buffer)):
            raise ModelError(
                f"{run.label} proves nothing of buffers, and {name!r} is not as an untrained model has "
                f"it; give fresh=..., which makes one, {vouch}"
            )
    mask: Mapping[str, object] = run.log.get("mask", {})
    if mask and mask["saw_forget_set"] is not False:
        raise ModelError(
            f"{run.label} proves nothing of a mask, and this model's was found with sight of the data; "
            f"prune by pruner random or synflow, which see none, {vouch}"
        )


def initial_deviation(model: nn.Module, fresh: nn.Module | None) -> float:
    """Of the weights of an untrained model, over all its matrices and kernels together.

    fresh: such a model; None: taken as 1 / sqrt(fan_in) of each.
    """
    own = [p.detach() for p in (fresh or model).parameters() if p.ndim > 1]
    squares = [
        float(p.double().square().sum()) if fresh is not None else p.numel() / p[0].numel()
        for p in own
    ]
    return math.sqrt(sum(squares) / max(1, sum(p.numel() for p in own)))
