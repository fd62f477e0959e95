"""The last linear layer of a model: another one in its place, and what stands before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expunge.audits.features import head_name
from expunge.errors import ModelError
from expunge.models.copying import copied
from expunge.models.mask import Mask


def with_head(model: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """A copy of the model with a new head: weight (classes, features), bias (classes,)."""
    name = head_name(model)
    twin = copied(model)
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    if not name:
        return head
    parent, _, leaf = name.rpartition(".")
    setattr(twin.get_submodule(parent), leaf, head.to(next(twin.parameters()).device))
    return twin


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
