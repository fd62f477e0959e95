"""The channels of a model: rows of a layer's weight that one number can switch off."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from expunge.errors import ModelError
from expunge.models.mask import CONVOLUTIONS
from expunge.training.run import Run

AFFINE = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
)
ROWS_LAST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Layers whose weight does not have a channel of the output in a row."""


@dataclass(frozen=True)
class Channels:
    """One layer's channels.

    weight, bias: names of its parameters; a channel is a row of the first, an entry of the second.
    count: how many there are.
    """

    weight: str
    bias: str | None
    count: int


def channels_of(model: nn.Module, run: Run) -> tuple[Channels, ...]:
    """The channels that a mask may weigh: those of normalisation layers, where a model has some with
    weights of their own, else those of convolutions and linear layers but the last, which gives the
    logits. Frozen layers are left out.

    Raises ModelError where there are none.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    layers: list[nn.Module] = [
        one for one in model.modules() if isinstance(one, AFFINE) and _weight(one) is not None
    ]
    if not layers:
        kinds = (*CONVOLUTIONS, nn.Linear)
        plain: list[nn.Module] = [one for one in model.modules() if isinstance(one, kinds)]
        layers = [one for one in plain[:-1] if not isinstance(one, ROWS_LAST)]
    found: dict[str, Channels] = {}
    for layer in layers:
        weight, bias = _weight(layer), getattr(layer, "bias", None)
        if weight is not None and weight.requires_grad:
            named = names[id(bias)] if isinstance(bias, nn.Parameter) else None
            found[names[id(weight)]] = Channels(names[id(weight)], named, len(weight))
    if not found:
        raise ModelError(
            f"{run.label} switches channels off, and this model has no layer before the last whose "
            "channels may change; thaw its layers, or choose another method, such as ibau"
        )
    return tuple(found.values())


def _weight(layer: nn.Module) -> nn.Parameter | None:
    weight = getattr(layer, "weight", None)
    return weight if isinstance(weight, nn.Parameter) else None


def by_rows(values: Tensor, like: Tensor) -> Tensor:
    """A value per channel (count,), to be multiplied with a weight (count, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def switch_off(model: nn.Module, rows: dict[str, Tensor]) -> None:
    """Set rows of parameters to 0, in place. rows: parameter name -> (count,) bool, True = 0."""
    with torch.no_grad():
        for name, off in rows.items():
            model.get_parameter(name)[off.to(model.get_parameter(name).device)] = 0.0
