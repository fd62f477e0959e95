"""The blocks of a model from its inputs to its head, and the last k of them.

Blocks are found by how a module is built, in the order in which it names its parts:

- A model that wraps a single part with weights is looked through.
- The model is opened, and so is a plain list in what is opened (`nn.Sequential`, `nn.ModuleList`,
  `nn.ModuleDict`). Any other part is opened where it holds such a list of modules that have layers
  themselves (a backbone, an encoder); but not one of several of its class side by side, or the only one
  in a list: these are blocks.
- What is not opened is a block if it has a weight of two or more axes. What has none (normalisation, a
  scale) belongs to the block before it.
- The last block is the head.

So a ResNet has its first convolution, each residual block, and the linear layer; a transformer its
embedding, each layer, a pooling layer if that has weights, and the classifier; a plain Sequential each
linear or convolutional layer with the normalisation that follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from expunge.errors import ConfigError, ModelError
from expunge.methods.fisher import last_layer
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.training.loop import Norm
    from expunge.training.run import Run

Depth = Annotated[int, Field(ge=0)] | Literal["all"]


class LastBlocks(Settings):
    """The field of a method that trains the end of a model."""

    k: Depth = Field(
        default=1,
        description="blocks that are trained with the head; 0: the head alone; all: the whole model",
    )


@dataclass(frozen=True)
class ModelBlock:
    """Modules that belong together. name: of the one with weights."""

    name: str
    modules: tuple[nn.Module, ...]

    def holds(self) -> set[int]:
        """Identities of its parameters and buffers."""
        return {id(one) for each in self.modules for one in (*each.parameters(), *each.buffers())}


@dataclass(frozen=True)
class Tail:
    """The end of a model that is trained, all of it by default.

    update, norm: as `fit` takes them. rest: names of all parameters and buffers that stay.
    """

    update: Mapping[str, bool] | None = None
    norm: Norm = "train"
    rest: frozenset[str] = field(default_factory=frozenset)


def last_blocks(model: nn.Module, k: Depth, classes: int, run: Run) -> Tail:
    """The last k blocks and the head.

    A weight stays if a block ahead of these holds it too, or if none of the blocks does (a class token):
    so with k the number of blocks too, where nothing else stays, and k "all" alone trains whatever there
    is.
    Raises ConfigError for more blocks than there are, ModelError for a model that does not name its head
    last.
    """
    blocks = blocks_of(model)
    before = len(blocks) - 1
    if k == "all":
        return Tail()
    if k > before:
        raise ConfigError(
            f"{run.label}: k = {k}, and before its head the model has {before} blocks "
            f"({', '.join(block.name for block in blocks[:-1])}); lower k, or set it to all"
        )
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    logits = {id(tensors[name]) for name in last_layer(model, classes) if name in tensors}
    if logits and not logits & blocks[-1].holds():
        raise ModelError(
            f"{run.label} trains the end of a model, and the last part of this one, "
            f"{blocks[-1].name!r}, is not the layer with a row for each class; define the layers in the "
            "order of their use, or set k to all"
        )
    ahead = blocks[: before - k]
    stays = {one for block in ahead for one in block.holds()}
    trained = {one for block in blocks[before - k :] for one in block.holds()} - stays
    return Tail(
        update={name: True for name, p in model.named_parameters() if id(p) in trained},
        norm=tuple(module for block in ahead for module in block.modules),
        rest=frozenset(name for name, one in tensors.items() if id(one) not in trained),
    )


def blocks_of(model: nn.Module) -> list[ModelBlock]:
    """The blocks of a model, as the text of this file defines them; the last is the head.

    Raises ModelError for a model without a weight of two or more axes.
    """
    found: list[ModelBlock] = []
    waiting: tuple[nn.Module, ...] = ()  # without such a weight, ahead of the first block
    for name, module in _parts("", model, top=True):
        if any(each.ndim > 1 for each in module.parameters()):
            found.append(ModelBlock(name, (*waiting, module)))
            waiting = ()
        elif found:
            found[-1] = replace(found[-1], modules=(*found[-1].modules, module))
        else:
            waiting = (*waiting, module)
    if not found:
        raise ModelError(
            "the model has no layer with a matrix of weights, and so no blocks and no head"
        )
    return found


def _parts(name: str, module: nn.Module, *, top: bool) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a module that is opened, in order. top: of the model itself, or what it wraps."""
    parts = [(key, part) for key, part in module.named_children() if _has_tensors(part)]
    kinds = [type(part) for _, part in parts]
    if top and not parts:
        yield name, module
    for key, part in parts:
        inner = f"{name}.{key}" if name else key
        wrapped = top and len(parts) == 1
        one_of_many = kinds.count(type(part)) > 1 or (len(parts) == 1 and _is_list(module))
        if wrapped or _is_list(part) or (not one_of_many and _holds_blocks(part)):
            yield from _parts(inner, part, top=wrapped)
        else:
            yield inner, part


def _holds_blocks(module: nn.Module) -> bool:
    """Whether it holds a plain list of modules that have layers themselves."""
    members = [member for part in module.modules() if _is_list(part) for member in part.children()]
    return any(_has_tensors(inner) for member in members for inner in member.children())


def _is_list(module: nn.Module) -> bool:
    """Whether it is a plain list of modules; what is derived from one is a module of its own."""
    from torch import nn

    return type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _has_tensors(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())
