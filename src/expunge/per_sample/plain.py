"""The plain engines: one sample at a time, or all of a piece under `vmap`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from expunge.data.batch import Batch, Ids
from expunge.errors import ConfigError
from expunge.per_sample.chunks import held_still, piece, wanted
from expunge.per_sample.layers import pullback
from expunge.training.run import Run

ByName = Mapping[str, Tensor]
"""Parameter name -> tensor of its shape."""
Output = Callable[[nn.Module, Batch], Tensor]
"""(model, batch) -> (batch,) losses or (batch, classes) logits."""
Directions = Callable[[Tensor, Batch], Tensor]
"""(outputs (batch, ...), batch) -> (batch, directions, ...): what to differentiate along.

Called with the samples in their order, each of them once.
"""


class Untold:
    """Stands for ids where a sample does not know its own: any use of it raises."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigError(f"ids are not known under vmap, and the task uses ids.{name}")

    def _refuse(self, *_: object) -> NoReturn:
        raise ConfigError("ids are not known under vmap, and the task uses them")

    __getitem__ = __iter__ = __len__ = __array__ = __eq__ = _refuse
    __hash__ = object.__hash__


class Bound(nn.Module):
    """A model and what is computed from it, as one module that `functional_call` can take."""

    def __init__(self, model: nn.Module, output: Output) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, batch: Batch) -> Tensor:
        """(batch,) losses or (batch, classes) logits."""
        return self.output(self.model, batch)


def as_function(model: nn.Module, output: Output) -> Callable[[ByName, Batch], Tensor]:
    """(parameters by name, batch) -> outputs; parameters not named are the model's own."""
    bound = Bound(model, output)
    places = _places(model)

    def function(parameters: ByName, batch: Batch) -> Tensor:
        named = {
            f"model.{place}": value for name, value in parameters.items() for place in places[name]
        }
        # left to torch, a module of two names is given its parameters twice, and not its own back
        result: Tensor = functional_call(bound, named, (batch,), tie_weights=False)
        return result

    return function


def _places(model: nn.Module) -> dict[str, list[str]]:
    """Parameter name -> the names under which it is found, each module counting once."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    for prefix, module in model.named_modules():
        for local, parameter in module._parameters.items():
            if parameter is not None:
                found[names[id(parameter)]].append(f"{prefix}.{local}" if prefix else local)
    return found


def over_samples(function: Callable[..., Any], batch: Batch, *others: Tensor) -> Any:
    """`vmap` of a function of a batch of one over the samples of a batch.

    others: tensors (batch, ...) whose rows the function is given, too.
    """
    leaves, spec = tree_flatten(batch.inputs)
    count = len(batch)
    along = [isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == count for leaf in leaves]
    moving = [leaf for leaf, moves in zip(leaves, along, strict=True) if moves]

    def one(mine: list[Tensor], label: Tensor | None, *more: Tensor) -> Any:
        rows = iter(mine)
        inputs = [
            next(rows).unsqueeze(0) if moves else leaf
            for leaf, moves in zip(leaves, along, strict=True)
        ]
        labels = None if label is None else label.unsqueeze(0)
        # ids are numpy strings, which vmap cannot hand out one by one
        ids = cast(Ids, Untold())
        single = replace(batch, ids=ids, inputs=tree_unflatten(inputs, spec), labels=labels)
        return function(single, *more)

    places = (0, None if batch.labels is None else 0, *[0] * len(others))
    with warnings.catch_warnings():
        # vmap warns of operations that it can only loop over; they are right all the same
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        return vmap(one, in_dims=places)(moving, batch.labels, *others)


def squares_by_vmap(
    model: nn.Module, parameters: ByName, output: Output, directions: Directions, batch: Batch
) -> dict[str, Tensor]:
    """Sum over samples and directions of the squared gradients; name -> (*shape)."""
    function = as_function(model, output)
    given = {name: value.detach() for name, value in parameters.items()}
    # by pullback too, for torch then takes a recurrent layer apart into steps that vmap can follow
    outputs = over_samples(
        lambda single: pullback(lambda p: function(p, single), given)[0][0], batch
    )
    # drawn outside of vmap, which would not know whose turn of the generator it is
    along = directions(outputs, batch)

    def one(single: Batch, mine: Tensor) -> dict[str, Tensor]:
        _, pull = pullback(lambda p: function(p, single), given)
        total = {name: torch.zeros_like(value) for name, value in given.items()}
        for direction in mine.unbind(0):
            gradient = pull(direction.unsqueeze(0))
            total = {name: total[name] + gradient[name].square() for name in total}
        return total

    every = over_samples(one, batch, along)
    return {name: value.sum(0) for name, value in every.items()}


def squares_by_loop(
    model: nn.Module, parameters: ByName, output: Output, directions: Directions, batch: Batch
) -> dict[str, Tensor]:
    """Sum over samples and directions of the squared gradients; name -> (*shape)."""
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for row in range(len(batch)):
        single = piece(batch, row, row + 1)
        outputs = output(model, single)
        along = directions(outputs.detach(), single)
        for column in range(along.shape[1]):
            gradient = torch.autograd.grad(
                outputs,
                list(parameters.values()),
                along[:, column],
                retain_graph=column + 1 < along.shape[1],
                allow_unused=True,
            )
            for name, value in zip(parameters, gradient, strict=True):
                if value is not None:
                    total[name].addcmul_(value, value)
    return total


def gradients_by_vmap(
    model: nn.Module, parameters: ByName, output: Output, batch: Batch
) -> dict[str, Tensor]:
    """Gradient of the sum of each sample's outputs; name -> (batch, *shape)."""
    function = as_function(model, output)
    given = {name: value.detach() for name, value in parameters.items()}

    def one(single: Batch) -> dict[str, Tensor]:
        outputs, pull = pullback(lambda p: function(p, single), given)
        return pull(torch.ones_like(outputs))

    return cast(dict[str, Tensor], over_samples(one, batch))


def gradients_by_loop(
    model: nn.Module, parameters: ByName, output: Output, batch: Batch
) -> dict[str, Tensor]:
    """Gradient of the sum of each sample's outputs; name -> (batch, *shape)."""
    rows = {name: value.new_zeros(len(batch), *value.shape) for name, value in parameters.items()}
    for row in range(len(batch)):
        loss = output(model, piece(batch, row, row + 1)).sum()
        gradient = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, value in zip(parameters, gradient, strict=True):
            if value is not None:
                rows[name][row] = value
    return rows


def per_sample_gradients(
    model: nn.Module,
    batch: Batch,
    run: Run,
    *,
    engine: Literal["auto", "loop", "vmap"] = "auto",
) -> dict[str, Tensor]:
    """Gradient of each sample's loss (`run.task.losses`); name -> (batch, *shape).

    Holds samples times parameters: for tests, and for small models or batches. engine: "auto" is
    vmap, or the loop over batches of one where vmap cannot follow the model.
    """
    with held_still(model):
        parameters = wanted(model)
        output = run.task.losses
        if engine == "vmap" or (engine == "auto" and follows(model, parameters, output, batch)):
            rows = gradients_by_vmap(model, parameters, output, batch)
        else:
            rows = gradients_by_loop(model, parameters, output, batch)
        return {name: value.detach() for name, value in rows.items()}


def follows(model: nn.Module, parameters: ByName, output: Output, batch: Batch) -> bool:
    """Whether vmap can follow the model: tried on two samples."""
    try:
        gradients_by_vmap(model, parameters, output, piece(batch, 0, 2))
    except Exception:
        # whatever it was, the loop meets it again if it is the model's own fault
        return False
    return True
