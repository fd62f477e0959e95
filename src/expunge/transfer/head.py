"""The last linear layer of a model: what goes into it, and another one in its place."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from expunge.data.samples import Samples
from expunge.data.transform import Transform
from expunge.errors import ModelError
from expunge.models.mask import Mask
from expunge.training.loop import evaluating
from expunge.training.run import Run

BATCH = 256


def head_name(model: nn.Module) -> str:
    """Name of the last linear layer. Raises ModelError for a model without one."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ModelError(
            "the model has no linear layer, so there is no head to replace for another task"
        )
    return str(names[-1])


def with_head(model: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """A copy of the model with a new head: weight (classes, features), bias (classes,)."""
    name = head_name(model)
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        parameter.requires_grad_(True)
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    if not name:
        return head
    parent, _, leaf = name.rpartition(".")
    setattr(copied.get_submodule(parent), leaf, head.to(next(copied.parameters()).device))
    return copied


def without_head(mask: Mask | None, model: nn.Module) -> Mask | None:
    """A mask of the weights that another head leaves in place."""
    if mask is None:
        return None
    gone = f"{head_name(model)}.weight"
    return {name: keep for name, keep in mask.items() if name != gone}


def last_block(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of the last part with any before the head: of the module's children, or theirs.

    A child that holds all the rest (a `Sequential` of everything) is opened; its last part counts.
    """
    head = set(model.get_submodule(head_name(model)).parameters())

    def parts(module: nn.Module) -> list[nn.Module]:
        return [c for c in module.children() if {*c.parameters()} - head]

    found = parts(model)
    while len(found) == 1 and parts(found[0]):
        found = parts(found[0])
    if not found:
        raise ModelError("the model has nothing with parameters before its head")
    return [parameter for parameter in found[-1].parameters() if parameter not in head]


def features(model: nn.Module, samples: Samples, transform: Transform, run: Run) -> Tensor:
    """What goes into the head: (n, features), float32 on the CPU, in evaluation mode."""
    collected: list[Tensor] = []
    head = model.get_submodule(head_name(model))

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        collected.append(inputs[0].detach().flatten(1).float().cpu())

    rows = np.arange(len(samples))
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    hook = head.register_forward_pre_hook(keep)
    device = next((p.device for p in model.parameters()), run.device)
    model.to(run.device)
    try:
        with evaluating(model), torch.no_grad():
            for raw in samples.store.stream(batches, run.device):
                model(transform(raw))
    finally:
        hook.remove()
        model.to(device)
    return torch.cat(collected)
