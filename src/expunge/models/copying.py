"""A copy of a model that shares nothing with it, whatever its author keeps in it."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from expunge.errors import ModelError
from expunge.names.code import in_a_line


def copied(model: nn.Module) -> nn.Module:
    """A deep copy. A tensor that was computed and kept as an attribute is copied as a mere value.

    Such are the weight beside the parameters of `torch.nn.utils.prune`, `weight_norm` and
    `spectral_norm`, which the next forward pass computes anew, and an activation or a hidden state.
    Raises ModelError for a model that holds what cannot be copied.
    """
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in tree_leaves(list(vars(module).values()))
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever an object of somebody's own raises
        raise ModelError(
            f"the model cannot be copied ({in_a_line(error)}); take what it keeps beside its layers and "
            "weights (files, locks, outputs of an earlier pass) out of its attributes"
        ) from error
