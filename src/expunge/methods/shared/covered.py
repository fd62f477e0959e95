"""What noise on the weights cannot hide, and what it is to be held against: an untrained model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from expunge.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from expunge.training.run import Run


def check_covered(model: nn.Module, fresh: nn.Module | None, run: Run, *, public: bool) -> None:
    """Raise ModelError where part of the model stays as data made it that may be forgotten.

    fresh: an untrained model, None where nobody said how to make one: buffers that are as it has them
    are its author's. public: the caller vouches for all but running statistics.
    """
    import torch.nn

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
    new = dict(_beside(fresh)) if fresh is not None else {}
    for name, own in _beside(model):
        if name not in new or not _same(own, new[name]):
            raise ModelError(
                f"{run.label} proves nothing of buffers and the like, and {name!r} is not as an "
                f"untrained model has it; give fresh=..., which makes one, {vouch}"
            )
    for name, module in model.named_modules():
        if type(module).get_extra_state is not torch.nn.Module.get_extra_state:
            raise ModelError(
                f"{run.label} proves nothing of state that a model keeps in its own way, and "
                f"{name or 'this model'!r} does (get_extra_state); keep it in buffers, {vouch}"
            )
    mask: Mapping[str, object] = run.log.get("mask", {})
    if mask and mask["saw_forget_set"] is not False:
        raise ModelError(
            f"{run.label} proves nothing of a mask, and this model's was found with sight of the data; "
            f"prune by pruner random or synflow, which see none, {vouch}"
        )


def untrained(model: nn.Module, run: Run, *, public: bool) -> nn.Module | None:
    """An untrained model; None where nobody said how to make one, or it cannot be made (what a
    pretrained one begins with may be gone) and nothing is to be compared with it.
    """
    if run.constructor is None:
        return None
    try:
        return run.fresh()
    except Exception:  # whatever a constructor does
        if not public and any(True for _ in _beside(model)):
            raise
        return None


def _beside(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Buffers, and tensors and arrays that are plain attributes, alone or in lists and dictionaries."""
    import numpy as np
    import torch
    from torch.utils._pytree import tree_leaves

    yield from model.named_buffers()
    registered = {id(one) for one in (*model.parameters(), *model.buffers())}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            for place, leaf in enumerate(tree_leaves(value)):
                if isinstance(leaf, torch.Tensor | np.ndarray) and id(leaf) not in registered:
                    yield f"{path}.{name}".lstrip(".") + (f" ({place})" if place else ""), leaf


def _same(one: Any, other: Any) -> bool:
    """Whether two tensors, or two arrays, have the same values."""
    import numpy as np
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and torch.equal(one, other.to(one))
    return type(one) is type(other) and np.array_equal(one, other)


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
