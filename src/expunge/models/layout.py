"""In which memory layout a model works: channels innermost, which is fastest, or torch's ordinary one.

A model that reads activations by `view` takes the ordinary layout alone. It is marked by a hook that
hands it its inputs in that layout, so whoever runs it, or a copy of it, keeps to the same decision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map


def lay_out(model: nn.Module, form: torch.memory_format) -> None:
    """Store the weights of 2-D convolutions in a memory format; the others have none.

    A model that takes the ordinary layout alone stays in it.
    """
    if stays_ordinary(model):
        form = torch.contiguous_format
    for parameter in model.parameters():
        if not is_lazy(parameter) and parameter.ndim == 4:
            laid = torch.empty_like(parameter, memory_format=form)
            # `contiguous` leaves weights of one channel as they are, for they count as either, and then
            # a grey image's first convolution and its pooling run in the slow layout
            if laid.stride() != parameter.stride():
                parameter.data = laid.copy_(parameter.data)


def keep_ordinary(model: nn.Module) -> None:
    """Mark a model that takes the ordinary layout alone."""
    model.register_forward_pre_hook(_ordinary, with_kwargs=True)
    lay_out(model, torch.contiguous_format)


def stays_ordinary(model: nn.Module) -> bool:
    """Whether a model is so marked."""
    return any(hook is _ordinary for hook in model._forward_pre_hooks.values())


def _ordinary(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Inputs of a model in the ordinary layout."""
    return tree_map(_plain, args), tree_map(_plain, kwargs)


def _plain(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor) or leaf.ndim != 4:
        return leaf
    _, channels, height, width = leaf.shape
    if leaf.stride() == (channels * height * width, height * width, width, 1):
        return leaf
    return leaf.clone(memory_format=torch.contiguous_format)  # see `lay_out` of a single channel
