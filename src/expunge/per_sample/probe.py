"""Which engine can follow a model: found out on up to three samples, before anything is computed.

The hooks give per-sample gradients only if every parameter belongs to one layer that is called
once, on samples along the first axis, and used nowhere else; and if no sample's output depends on
another's. Each of these is looked at here, and what fails one goes to `vmap` or to the loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.per_sample.chunks import piece, size_for
from expunge.per_sample.layers import Layer, family_of, left_factor, rows_of
from expunge.per_sample.passes import UnfitError, recording
from expunge.per_sample.plain import Output, gradients_by_vmap, over_samples
from expunge.training.run import Run

Engine = Literal["auto", "loop", "vmap", "hooks"]
TRIED = 3
"""Samples that are tried; also one fewer, so that an axis of that length is not taken for them."""
TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}
"""Of a loss alone against the same in a batch, relative to the largest; else 0.05."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of one sample at a layer: what it is given, what it returns, shape of its left factor.

    The last two are 0 for layers that have no factors.
    """

    inputs: int
    output: int
    fan_in: int = 0
    positions: int = 0


@dataclass(frozen=True)
class Choice:
    """An engine, and what one sample needs of it.

    layers: for the hooks, else empty.
    fixed_bytes: held per sample whatever the directions. direction_bytes: for each direction.
    outputs: of a sample: classes, or 1 where the output is a loss.
    sizes: of the hooks' layers.
    tried: samples that it was found with.
    why: of the loop, why it is not another engine; empty where it was asked for.
    """

    engine: str
    layers: Sequence[Layer] = ()
    fixed_bytes: int = 0
    direction_bytes: int = 0
    outputs: int = 1
    tried: int = 0
    sizes: Mapping[Layer, Sizes] = field(default_factory=dict)
    why: str = ""

    def warn(self, run: Run) -> None:
        """Tell the record, once, that samples are gone through one by one."""
        told = run.log.setdefault("warnings", []) if self.why else []
        line = (
            f"{run.label}: gradients were taken one sample at a time, which is slow, for torch cannot "
            f"batch them for this model ({self.why})"
        )
        if self.why and line not in told:
            told.append(line)


def choose(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    output: Output,
    batch: Batch,
    engine: Engine,
) -> Choice:
    """The engine for a model: hooks where they are right, else vmap where it follows, else the loop.

    output: (model, batch) -> (batch,) or (batch, classes), whose gradients are wanted.
    Raises ConfigError if an engine was asked for by name that cannot follow the model.
    """
    part = piece(batch, 0, min(TRIED, len(batch)))
    size = sum(p.numel() * p.element_size() for p in parameters.values())
    if engine in ("auto", "hooks"):
        try:
            layers = layers_of(model, parameters)
            return tried(model, layers, parameters, output, part)
        except Exception as error:
            # mostly UnfitError; whatever else it was, the loop meets it again
            if engine == "hooks":
                raise ConfigError(
                    f"engine 'hooks' cannot follow this model: {_line(error)}; use engine='auto'"
                ) from error
    why = ""
    if engine != "loop":
        try:
            gradients_by_vmap(model, parameters, output, part)
            # gradient, running sum and one temporary of each sample
            return Choice("vmap", (), 4 * size, tried=len(part))
        except Exception as error:
            if engine == "vmap":
                raise ConfigError(
                    f"engine 'vmap' cannot follow this model: {_line(error)}; use engine='auto'"
                ) from error
            why = _line(error).partition(". ")[0]
    return Choice("loop", tried=len(part), why=why)


def layers_of(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> list[Layer]:
    """The modules that own the parameters, in order; UnfitError unless each is a plain leaf."""
    layers = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise UnfitError(f"{name} normalises by the batch that it sees")
        own = {
            local: f"{name}.{local}" if name else local
            for local, p in module.named_parameters(recurse=False)
            if p.requires_grad
        }
        if not own:
            continue
        if next(module.children(), None) is not None:
            raise UnfitError(f"{name or 'the model'} has parameters of its own beside its layers")
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise UnfitError(f"{name} has hooks or a forward of its own, and may compute anything")
        kind = family_of(module)
        if kind != "generic" and not set(own) <= {"weight", "bias"}:
            raise UnfitError(f"{name} has parameters that a {type(module).__name__} has not")
        layers.append(Layer(module, own, kind))
    if {full for layer in layers for full in layer.own.values()} != set(parameters):
        raise UnfitError("some layers share a parameter")
    return layers


def tried(
    model: nn.Module,
    layers: list[Layer],
    parameters: Mapping[str, nn.Parameter],
    output: Output,
    part: Batch,
) -> Choice:
    """What the hooks need per sample; UnfitError where they would be wrong."""
    if used_elsewhere(model, layers, parameters, output, part):
        raise UnfitError("a parameter is used outside of its layer's forward pass")
    together(model, output, part)
    for count in range(max(1, len(part) - 1), len(part) + 1):
        some = piece(part, 0, count)
        saved: dict[int, int] = {}
        with recording(model, layers) as seen, _counting(saved, model):
            outputs = output(model, some)
        seen.check(count)
        deltas = seen.backward(outputs, [torch.ones_like(outputs)])
    direction = work = 0
    sizes = {}
    for layer, call in seen.seen.items():
        if layer not in deltas:
            continue
        (delta,) = deltas[layer]
        direction += 2 * delta.nbytes // count
        fan_in = positions = 0
        # mostly kept for backward, too, and then no more than that
        saved |= {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in call.inputs}
        if layer.kind == "generic":
            try:
                rows = rows_of(layer, call.inputs, delta)
            except Exception as error:
                raise UnfitError(f"vmap cannot follow a {type(layer.module).__name__}") from error
            work = max(work, 3 * sum(value.nbytes for value in rows.values()) // count)
        if layer.kind == "factored":
            A = left_factor(layer.module, call.inputs[0][:1])
            fan_in, positions = A.shape[1:]
            work = max(work, 2 * A.numel() * delta.element_size())
        given = sum(value.numel() for value in call.inputs) // count
        sizes[layer] = Sizes(given, delta.numel() // count, fan_in, positions)
    outs = outputs.shape[1] if outputs.ndim > 1 else 1
    fixed = sum(saved.values()) // count + work
    return Choice("hooks", layers, fixed, direction, outs, len(part), sizes)


def used_elsewhere(
    model: nn.Module,
    layers: Sequence[Layer],
    parameters: Mapping[str, nn.Parameter],
    output: Output,
    part: Batch,
) -> bool:
    """Whether a parameter acts otherwise than by the output of its layer's call.

    Every layer's output is cut from the graph. A gradient that then still reaches a parameter from
    the result, or from any layer's input, came another way.
    """
    received: list[Tensor] = []

    def cut(_: nn.Module, args: tuple[Any, ...], result: Any) -> Any:
        received.extend(value for value in args if isinstance(value, Tensor))
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        return result.detach().requires_grad_().clone()

    handles = [layer.module.register_forward_hook(cut) for layer in layers]
    try:
        received.append(output(model, part))
    finally:
        for handle in handles:
            handle.remove()
    goals = [value.sum() for value in received if value.requires_grad]
    if not goals:
        return False
    found = torch.autograd.grad(goals, list(parameters.values()), allow_unused=True)
    return any(value is not None for value in found)


@torch.no_grad()
def together(model: nn.Module, output: Output, part: Batch) -> None:
    """Raise UnfitError unless samples in a batch give what they give alone.

    Alone means under vmap, which also refuses control flow that depends on the data.
    """
    whole = output(model, part)
    try:
        alone: Tensor = over_samples(lambda single: output(model, single)[0], part)
    except Exception as error:
        raise UnfitError(f"vmap cannot follow it ({_line(error)})") from error
    scale = float(whole.abs().max()) if whole.numel() else 0.0
    tolerance = TOLERANCE.get(whole.dtype, 0.05) * max(scale, 1e-3)
    if whole.shape != alone.shape or not torch.allclose(
        whole, alone, rtol=0, atol=tolerance, equal_nan=True
    ):
        raise UnfitError("a sample's output depends on the others in its batch")


def piece_size(model: nn.Module, output: Output, batch: Batch, memory_bytes: int) -> int:
    """Samples that a forward pass kept for backward may hold; 1 where samples act on each other."""
    part = piece(batch, 0, min(TRIED, len(batch)))
    try:
        together(model, output, part)
    except UnfitError:
        return 1
    saved: dict[int, int] = {}
    with _counting(saved, model):
        output(model, part)
    return size_for(memory_bytes, sum(saved.values()) // len(part))


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).strip()


def _counting(saved: dict[int, int], model: nn.Module) -> Any:
    """Count the bytes that a forward pass keeps for backward, the model's own tensors apart."""
    own = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return value

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value)
