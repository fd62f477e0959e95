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
from expunge.per_sample.half import HalfWeights, half_backward
from expunge.per_sample.layers import Layer


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
    """What the layers saw in one forward pass.

    half: whether products follow in bfloat16.
    """

    half: bool = False
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
        self, output: Tensor, directions: Sequence[Tensor], *, keep: bool = False
    ) -> dict[Layer, list[Tensor]]:
        """Gradients of the layers' outputs along each direction, in order.

        directions: each of the shape of `output`. keep: whether more passes follow.
        bfloat16 where a product follows in it.
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
                    if self.half and layer.kind == "factored":
                        delta = delta.bfloat16()
                    deltas.setdefault(layer, []).append(delta)
        return deltas


def _name(layer: Layer) -> str:
    return next(iter(layer.own.values())).rpartition(".")[0] or type(layer.module).__name__


@contextmanager
def recording(
    model: nn.Module, layers: Sequence[Layer], half: HalfWeights | None = None
) -> Iterator[Recording]:
    """Record the layers' calls in a forward pass; backward passes come after.

    half: convolutions that go backward in bfloat16; products then multiply in it, too.
    """
    found = Recording(half=half is not None)
    handles = []
    try:
        for module, weight in (half or {}).items():
            vars(module)["forward"] = half_backward(module, weight)
        for layer in layers:
            handles.append(
                layer.module.register_forward_hook(_hook(found, layer), with_kwargs=True)
            )
        yield found
    finally:
        for module in half or {}:
            vars(module).pop("forward", None)
        for handle in handles:
            handle.remove()


def _hook(found: Recording, layer: Layer) -> Any:
    return lambda _, args, kwargs, output: found.note(layer, args, kwargs, output)
