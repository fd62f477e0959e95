"""Half precision: bfloat16 where per-sample work multiplies most, float32 where sums are kept.

Two halves of one trick: convolutions go backward in bfloat16, and the products of a layer's inputs
with its output gradients multiply in it. Forward passes never do: rounding them moves every
sample's loss and flips rectifiers, which put 1 to 6 percent of error on the Fisher diagonal of small
trained networks, where rounding what flows back put 0.2 percent on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input

from expunge.training.precision import resolve_precision

HalfWeights = Mapping[nn.Module, Tensor]
"""Convolution -> its weight in bfloat16, channels last: rounded once for all passes."""


def half_weights(asked: str, model: nn.Module, device: torch.device) -> HalfWeights | None:
    """The convolutions that go backward in bfloat16; None for all work in float32.

    asked: "auto" is bfloat16 for float32 models with convolutions where the processor has it.

    Weights must not change while these are in use.
    """
    exact = any(p.dtype != torch.float32 for p in model.parameters())
    if (asked == "auto" and exact) or resolve_precision(asked, model, device) != "bfloat16":
        return None
    return {
        module: rounded(module.weight)
        for module in model.modules()
        if type(module) in (nn.Conv1d, nn.Conv2d)
        and isinstance(module.weight, nn.Parameter)
        and module.weight.dtype == torch.float32
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    }


def rounded(weight: Tensor) -> Tensor:
    """A weight in bfloat16, channels last where it has a height and a width."""
    form = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    return weight.detach().to(torch.bfloat16, memory_format=form)


def half_backward(module: Any, weight: Tensor) -> Callable[[Tensor], Tensor]:
    """A forward function for a convolution whose backward pass multiplies in bfloat16."""

    def forward(inputs: Tensor) -> Tensor:
        output: Tensor = _Convolution.apply(inputs, module, weight)  # type: ignore[no-untyped-call]
        return output

    return forward


class _Convolution(torch.autograd.Function):
    """A convolution that has the gradient of its input alone, computed in bfloat16."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, module: Any, weight: Tensor) -> Tensor:
        ctx.module, ctx.weight, ctx.shape = module, weight, inputs.shape
        output: Tensor = type(module).forward(module, inputs)
        return output

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None]:
        module = ctx.module
        two = isinstance(module, nn.Conv2d)
        back: Callable[..., Tensor] = conv2d_input if two else conv1d_input
        found = back(
            ctx.shape,
            ctx.weight,
            delta.bfloat16(),
            module.stride,
            module.padding,
            module.dilation,
            module.groups,
        )
        return found.float(), None, None
