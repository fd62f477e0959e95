"""What a layer's inputs and output gradients say about its weights, sample by sample.

A rule takes a layer's `inputs` (batch, ...) and the gradients `deltas` of its output along each
direction, (batch, directions, ...), and never the gradient of a weight. Three families:

factored    linear layers and convolutions: the gradient of the weight is delta aᵀ, summed over
            positions, where a holds what the weight multiplied (Goodfellow 2015, arXiv 1510.01799;
            Rochette, Manoel and Tramel 2019, arXiv 1912.06015, for convolutions)
scaled      normalisation in evaluation mode: sums over positions of delta times the normalised
            input
generic     any other layer: `vmap` of the layer's own backward pass
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn import functional

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
PATCHED = (nn.Conv1d, nn.Conv2d)
"""Convolutions whose patches are made here; others go the generic way."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A module whose own parameters are wanted.

    own: the module's name of a parameter -> the model's name of it; wanted parameters alone.
    kind: which family of rules it follows.
    """

    module: nn.Module
    own: Mapping[str, str]
    kind: str


def family_of(module: nn.Module) -> str:
    """The family of a module: exact types alone, since a subclass may compute something else."""
    if type(module) is nn.Linear:
        return "factored"
    if type(module) in PATCHED and module.groups == 1:
        return "factored"
    if type(module) in (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm):
        return "scaled"
    return "generic"


# ---- factored: linear layers and convolutions


def left_factor(module: nn.Module, inputs: Tensor) -> Tensor:
    """What the weight multiplied, (batch, fan-in, positions), fan-in ordered as in `as_matrix`."""
    if isinstance(module, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1]).transpose(1, 2)
    if isinstance(module, PATCHED):
        return patches(module, inputs)
    raise TypeError(f"{type(module).__name__} has no factors")


def patches(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    """Patches of a convolution's input, (batch, kernel * channels, positions).

    Channels come last, as `fit` stores images, so that a patch is copied in runs of a kernel's row.
    """
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        # as the layer's own forward pass does it: "same" may pad one side more than the other
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        inputs = functional.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
        inputs = inputs.movedim(1, -1)
    else:
        around = [side for side in reversed(module.padding) for _ in range(2)]
        inputs = functional.pad(inputs.movedim(1, -1), [0, 0, *around])
    inputs = inputs.contiguous()
    kernel, dilation, stride = module.kernel_size, module.dilation, module.stride
    batch, *sides, channels = inputs.shape
    steps = inputs.stride()[1:-1]
    places = [
        (side - (k - 1) * d - 1) // s + 1
        for side, k, d, s in zip(sides, kernel, dilation, stride, strict=True)
    ]
    view = inputs.as_strided(
        (batch, *places, *kernel, channels),
        (
            inputs.stride(0),
            *(step * s for step, s in zip(steps, stride, strict=True)),
            *(step * d for step, d in zip(steps, dilation, strict=True)),
            1,
        ),
    )
    positions = math.prod(places)
    return view.reshape(batch, positions, math.prod(kernel) * channels).transpose(1, 2)


def right_factor(module: nn.Module, deltas: Sequence[Tensor]) -> Tensor:
    """Output gradients as (batch, directions, fan-out, positions).

    deltas: one (batch, *output) per direction.
    """
    if isinstance(module, nn.Linear):
        return torch.stack([d.reshape(len(d), -1, d.shape[-1]) for d in deltas], 2).permute(
            0, 2, 3, 1
        )
    if len(deltas) == 1:
        return deltas[0].flatten(2).unsqueeze(1)  # no copy, where channels lie last
    # positions first in memory, where channels lie last: copied in runs, and a view afterwards
    return torch.stack([d.flatten(2).transpose(1, 2) for d in deltas], 2).permute(0, 2, 3, 1)


def as_matrix(weight: Tensor) -> Tensor:
    """A weight (fan-out, channels, *kernel) as (fan-out, kernel * channels); a matrix as it is."""
    return weight.movedim(1, -1).flatten(1)


def as_weight(matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Matrices (..., fan-out, kernel * channels) as weights of a shape: undoes `as_matrix`."""
    fan_out, channels, *kernel = shape
    weights = matrix.reshape(*matrix.shape[:-2], fan_out, *kernel, channels)
    return weights.movedim(-1, matrix.ndim - 1)


def weight_rows(A: Tensor, B: Tensor) -> Tensor:
    """Gradients of the weight as matrices, (batch, directions * fan-out, fan-in).

    A: left factor (batch, fan-in, positions). B: right factor.
    """
    return torch.bmm(B.flatten(1, 2), A.transpose(1, 2))


# ---- scaled: normalisation


def normalised(module: nn.Module, inputs: Tensor) -> Tensor:
    """What the scale multiplied, shaped as the layer's input."""
    if isinstance(module, BATCH_NORMS):
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None:
            raise TypeError("a BatchNorm without running statistics mixes samples")
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        scale = (variance + module.eps).rsqrt()
        return (inputs - mean.view(shape)) * scale.view(shape)
    if isinstance(module, nn.LayerNorm):
        return functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return functional.group_norm(inputs, module.num_groups, eps=module.eps)
    raise TypeError(f"{type(module).__name__} normalises nothing")


def over_positions(module: nn.Module, values: Tensor) -> Tensor:
    """Sum over everything but samples and the layer's parameters: (batch, *parameter)."""
    total = total_type(values.dtype)
    if isinstance(module, nn.LayerNorm):
        shape = module.normalized_shape
        return values.reshape(len(values), -1, *shape).sum(1, dtype=total)
    return values.flatten(2).sum(2, dtype=total) if values.ndim > 2 else values.to(total)


def total_type(dtype: torch.dtype) -> torch.dtype:
    """What sums are kept in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def scaled_rows(layer: Layer, hat: Tensor, delta: Tensor) -> dict[str, Tensor]:
    """Gradients of scale and shift, parameter's own name -> (batch, *shape); one direction.

    hat: the normalised input.
    """
    rows = {}
    if "weight" in layer.own:
        rows["weight"] = over_positions(layer.module, delta * hat)
    if "bias" in layer.own:
        rows["bias"] = over_positions(layer.module, delta)
    return rows


# ---- generic: any layer


def pullback(
    function: Callable[[Mapping[str, Tensor]], Tensor], parameters: Mapping[str, Tensor]
) -> tuple[Tensor, Callable[[Tensor], dict[str, Tensor]]]:
    """Outputs of a function of parameters, and what takes their gradient to the parameters'."""
    outputs, back = vjp(function, dict(parameters))[:2]

    def pull(delta: Tensor) -> dict[str, Tensor]:
        (found,) = back(delta)
        result: dict[str, Tensor] = found
        return result

    return outputs, pull


def generic_rows(layer: Layer, inputs: tuple[Tensor, ...], delta: Tensor) -> dict[str, Tensor]:
    """Gradients of a layer's parameters by its own backward pass, own name -> (batch, *shape)."""
    module = layer.module
    parameters = {name: getattr(module, name).detach() for name in layer.own}
    dtype = next(iter(parameters.values())).dtype

    def one(delta: Tensor, *inputs: Tensor) -> dict[str, Tensor]:
        single = tuple(value.unsqueeze(0) for value in inputs)
        output, pull = pullback(lambda p: functional_call(module, dict(p), single), parameters)
        return pull(delta.unsqueeze(0).to(output.dtype))

    # inputs may be bfloat16 under autocast, while the parameters are not
    plain = [value.to(dtype) if value.is_floating_point() else value for value in inputs]
    rows: dict[str, Tensor] = vmap(one)(delta, *plain)
    return rows


# ---- all families


def rows_of(layer: Layer, inputs: tuple[Tensor, ...], delta: Tensor) -> dict[str, Tensor]:
    """Gradients of one direction, model's name of the parameter -> (batch, *shape).

    delta: gradient of the layer's output, (batch, ...).
    """
    module = layer.module
    if layer.kind == "generic":
        rows = generic_rows(layer, inputs, delta)
    elif layer.kind == "scaled":
        rows = scaled_rows(layer, normalised(module, inputs[0]).to(delta.dtype), delta)
    else:
        B = right_factor(module, [delta])
        rows = {}
        if "weight" in layer.own:
            A = left_factor(module, inputs[0].to(B.dtype))
            rows["weight"] = as_weight(weight_rows(A, B), weight_shape(module))
        if "bias" in layer.own:
            rows["bias"] = B[:, 0].sum(-1, dtype=total_type(B.dtype))
    return {layer.own[name]: value for name, value in rows.items()}


def weight_shape(module: nn.Module) -> tuple[int, ...]:
    """Shape of a layer's weight."""
    weight = module.weight
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


# ---- sums of squares over samples and directions

TILE = 2**19
"""Gradient entries made at a time: with their squares they stay in the processor's caches."""
LARGE_TILE = 2**25
"""The same on a GPU, which has more to gain from few large products than from its caches."""


def zeros_like(parameter: Tensor) -> Tensor:
    """Zeros to sum in, stored so that `as_matrix` of them is a view."""
    shape = parameter.shape
    if len(shape) < 3:
        return torch.zeros(shape, dtype=total_type(parameter.dtype), device=parameter.device)
    moved = (shape[0], *shape[2:], shape[1])
    stored = torch.zeros(moved, dtype=total_type(parameter.dtype), device=parameter.device)
    return stored.movedim(-1, 1)


def add_squares(
    layer: Layer, inputs: tuple[Tensor, ...], deltas: list[Tensor], total: Mapping[str, Tensor]
) -> None:
    """Add the squared gradients, summed over samples and directions, to `total`.

    Only squares are added, so the sums cannot fall below 0, whatever the rounding.

    deltas: one (batch, *output) per direction. total: model's names -> sums, made by `zeros_like`.
    """
    if layer.kind == "factored":
        add_factored_squares(layer, inputs[0].to(deltas[0].dtype), deltas, total)
        return
    hat = None
    if layer.kind == "scaled":
        hat = normalised(layer.module, inputs[0]).to(deltas[0].dtype)
    for delta in deltas:
        rows = generic_rows(layer, inputs, delta) if hat is None else scaled_rows(layer, hat, delta)
        for name, value in rows.items():
            total[layer.own[name]].add_(value.square().sum(0))


def add_factored_squares(
    layer: Layer, inputs: Tensor, deltas: list[Tensor], total: Mapping[str, Tensor]
) -> None:
    """`add_squares` for a linear layer or a convolution."""
    A = left_factor(layer.module, inputs) if "weight" in layer.own else None
    # a linear layer's directions go together, a convolution's alone: together they would be copied
    together = isinstance(layer.module, nn.Linear)
    for some in [deltas] if together else [[delta] for delta in deltas]:
        B = right_factor(layer.module, some)
        if A is not None:
            add_weight_squares(A, B, as_matrix(total[layer.own["weight"]]))
        if "bias" in layer.own:
            bias = B.sum(-1, dtype=total_type(B.dtype))
            total[layer.own["bias"]].add_(bias.square().sum((0, 1)))


def add_weight_squares(A: Tensor, B: Tensor, total: Tensor) -> None:
    """Add the sum over samples and directions of (B Aᵀ)² to `total` (fan-out, fan-in).

    A: left factor. B: right factor. Gradients are made in tiles: several samples where one sample's
    are few, some outputs of one sample where they are many.
    """
    fan_in, positions = A.shape[1:]
    directions, fan_out = B.shape[1:3]
    if positions == 1:
        add_one_position_squares(A, B, total)
        return
    tile_size = TILE if A.device.type == "cpu" else LARGE_TILE
    samples = max(1, tile_size // (directions * fan_out * fan_in))
    outputs = max(1, min(fan_out, tile_size // (directions * fan_in)))
    for start in range(0, len(A), samples):
        a, b = A[start : start + samples], B[start : start + samples]
        for top in range(0, fan_out, outputs):
            tile = total[top : top + outputs]
            rows = weight_rows(a, b[:, :, top : top + outputs]).to(total.dtype)
            tile += rows.square_().view(-1, *tile.shape).sum(0)


def add_one_position_squares(A: Tensor, B: Tensor, total: Tensor) -> None:
    """The same where there is one position: (d a)² = d² a², so no gradient is made.

    Goodfellow 2015, arXiv 1510.01799.
    """
    a = A[..., 0].to(total.dtype).square()
    d = B[..., 0].to(total.dtype).square().sum(1)
    total.addmm_(d.t(), a)
