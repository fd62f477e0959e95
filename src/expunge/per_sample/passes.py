"""One forward pass that keeps what the layers saw, and backward passes to the layers' outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from expunge.errors import ConfigError
from expunge.per_sample.layers import Layer
from expunge.training.precision import resolve_precision


def multiplies_in_bfloat16(asked: str, model: nn.Module, device: torch.device) -> bool:
    """Whether the hooks' products multiply in bfloat16.

    asked: "auto" is yes for float32 models with convolutions where the processor has it.

    Passes never do: rounding the forward pass moves every sample's loss and flips rectifiers, which
    put 1 to 6 percent of error on the Fisher diagonal of small trained networks.
    """
    exact = any(p.dtype != torch.float32 for p in model.parameters())
    return not (asked == "auto" and exact) and (
        resolve_precision(asked, model, device) == "bfloat16"
    )


class UnfitError(ConfigError):
    """The hooks cannot follow this model; the message says why.

    Caught where an engine is chosen. It gets out only for a model that does something else with
    a later batch than with the samples that it was tried on.
    """


@dataclass
class Seen:
    """A layer's call: its inputs, their versions at the time, and where its output's gradient is."""

    inputs: tuple[Tensor, ...]
    versions: tuple[int, ...]
    edge: GradientEdge
    output: tuple[int, ...]


@dataclass
class Recording:
    """What the layers saw in one forward pass."""

    seen: dict[Layer, Seen] = field(default_factory=dict)

    def note(self, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Keep a call; the output that the model goes on with."""
        if layer in self.seen:
            raise UnfitError(f"{_name(layer)} is called more than once in a forward pass")
        if kwargs or not all(isinstance(value, Tensor) for value in args):
            raise UnfitError(f"{_name(layer)} takes more than tensors in order")
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise UnfitError(f"{_name(layer)} does not return one tensor of numbers")
        if not output.requires_grad:
            # a copy: what follows may work in place, which a leaf forbids
            leaf = output.detach().requires_grad_()
            edge, output = get_gradient_edge(leaf), leaf.clone()
        else:
            # the edge, not the tensor: a layer behind may overwrite the tensor in place
            edge = get_gradient_edge(output)
        inputs = tuple(value.detach() for value in args)
        versions = tuple(value._version for value in args)
        self.seen[layer] = Seen(inputs, versions, edge, tuple(output.shape))
        return output

    def check(self, batch: int) -> None:
        """Raise UnfitError if inputs were overwritten, or the first axis does not count samples."""
        for layer, seen in self.seen.items():
            if any(v._version != at for v, at in zip(seen.inputs, seen.versions, strict=True)):
                raise UnfitError(f"the input of {_name(layer)} is overwritten after its use")
            if any(s[:1] != (batch,) for s in [seen.output, *(v.shape for v in seen.inputs)]):
                raise UnfitError(f"the first axis of {_name(layer)} does not count samples")

    def backward(
        self,
        output: Tensor,
        directions: Sequence[Tensor],
        *,
        half: bool = False,
        keep: bool = False,
    ) -> dict[Layer, list[Tensor]]:
        """Gradients of the layers' outputs along each direction, in order.

        directions: each of the shape of `output`. half: give bfloat16 where a product follows.
        keep: whether more passes follow.
        Layers that the output does not depend on are left out.
        """
        layers = list(self.seen)
        deltas: dict[Layer, list[Tensor]] = {}
        if not layers or not output.requires_grad:
            return deltas
        edges = [self.seen[layer].edge for layer in layers]
        for number, direction in enumerate(directions):
            found = torch.autograd.grad(
                output,
                edges,
                direction,
                allow_unused=True,
                retain_graph=keep or number + 1 < len(directions),
            )
            for layer, delta in zip(layers, found, strict=True):
                if delta is not None:
                    if half and layer.kind == "factored":
                        delta = delta.bfloat16()
                    deltas.setdefault(layer, []).append(delta)
        return deltas


def _name(layer: Layer) -> str:
    return next(iter(layer.own.values())).rpartition(".")[0] or type(layer.module).__name__


@contextmanager
def recording(model: nn.Module, layers: Sequence[Layer]) -> Iterator[Recording]:
    """Record the layers' calls in a forward pass; backward passes come after."""
    found = Recording()
    handles = []
    try:
        for layer in layers:
            handles.append(
                layer.module.register_forward_hook(_hook(found, layer), with_kwargs=True)
            )
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _hook(found: Recording, layer: Layer) -> Any:
    return lambda _, args, kwargs, output: found.note(layer, args, kwargs, output)
