"""Products with the matrix G of per-sample gradients (n, parameters), which is never built."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import jvp

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.per_sample.chunks import counted, held_still, memory_for, piece, pieces, wanted
from expunge.per_sample.layers import total_type
from expunge.per_sample.plain import ByName, Output, as_function, gradients_by_loop
from expunge.per_sample.probe import piece_size
from expunge.training.run import Run

Way = Callable[[nn.Module, Output, ByName, ByName, Batch], Tensor]
"""(model, losses, parameters, vector, batch) -> (batch,) derivatives of the losses along it."""


def gradient_products(
    model: nn.Module, batches: Iterable[Batch], run: Run, vector: ByName
) -> Tensor:
    """G v (n,): the derivative of each sample's loss (`run.task.losses`) along `vector`.

    vector: parameter name -> tensor of its shape; parameters that it does not name count as 0.
    Under several processes each returns the products of its own samples.
    Raises ConfigError for names or shapes that are not those of parameters with a gradient.
    """
    with held_still(model), _quiet_forward_mode():
        parameters = wanted(model)
        _check(vector, parameters)
        tangent = {
            name: vector[name].to(p) if name in vector else torch.zeros_like(p)
            for name, p in parameters.items()
        }
        losses, memory = run.task.losses, memory_for(run.device)
        way: Way | None = None
        one = next(iter(parameters.values()))
        parts = [torch.zeros(0, dtype=total_type(one.dtype), device=one.device)]
        for batch in counted(batches):
            way = way or _way(model, losses, parameters, tangent, batch)
            for part in pieces(batch, piece_size(model, losses, batch, memory // 2)):
                found = way(model, losses, parameters, tangent, part)
                parts.append(found.detach().to(parts[0].dtype))
        return torch.cat(parts)


def weighted_gradient(
    model: nn.Module, batches: Iterable[Batch], run: Run, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Gᵀ w: the sum over samples of weight times gradient, name -> tensor like the parameter.

    weights: (n,) in the order of `batches`; None is 1 for every sample of every process, and the
        sum is then over all processes. With weights it is over this process's samples.
    Raises ConfigError unless there is one weight per sample.
    """
    with held_still(model):
        parameters = wanted(model)
        total = {
            name: torch.zeros_like(p, dtype=total_type(p.dtype)) for name, p in parameters.items()
        }
        start, memory = 0, memory_for(run.device)
        for batch in counted(batches):
            for part in pieces(batch, piece_size(model, run.task.losses, batch, memory)):
                losses = run.task.losses(model, part)
                stop = start + len(part)
                if weights is not None and stop <= len(weights):
                    losses = losses * weights[start:stop].to(losses)
                start = stop
                found = torch.autograd.grad(
                    losses.sum(), list(parameters.values()), allow_unused=True
                )
                for name, value in zip(parameters, found, strict=True):
                    if value is not None:
                        total[name] += value
        if weights is not None and weights.shape != (start,):
            raise ConfigError(
                f"weights of shape {tuple(weights.shape)} for {start} samples; give one per sample"
            )
        if weights is None:
            total = {name: run.sum(value) for name, value in total.items()}
        return {name: total[name].to(p.dtype) for name, p in parameters.items()}


# ---- ways to differentiate the losses along a vector


def forward_mode(
    model: nn.Module, losses: Output, parameters: ByName, vector: ByName, batch: Batch
) -> Tensor:
    """One pass in forward mode: values and derivatives side by side."""
    function = as_function(model, losses)
    given = {name: p.detach() for name, p in parameters.items()}
    with torch.no_grad():
        pair = jvp(lambda p: function(p, batch), (given,), (dict(vector),))
    along: Tensor = pair[1]
    return along


def one_by_one(
    model: nn.Module, losses: Output, parameters: ByName, vector: ByName, batch: Batch
) -> Tensor:
    """For operations without a forward mode: each sample's gradient times the vector."""
    found = [
        _terms(model, losses, parameters, vector, piece(batch, row, row + 1)).sum()
        for row in range(len(batch))
    ]
    return torch.stack(found)


def _terms(
    model: nn.Module, losses: Output, parameters: ByName, vector: ByName, batch: Batch
) -> Tensor:
    """What one sample's product is the sum of, (parameters,)."""
    gradient = gradients_by_loop(model, parameters, losses, batch)
    return torch.cat([(gradient[name][0] * vector[name]).flatten() for name in gradient])


def _way(model: nn.Module, losses: Output, parameters: ByName, vector: ByName, batch: Batch) -> Way:
    """Forward mode, if the model's operations allow it and it is right for one sample.

    An operation may drop its share of a derivative in silence.
    """
    single = piece(batch, 0, 1)
    terms = _terms(model, losses, parameters, vector, single)
    tolerance = 1e3 * torch.finfo(terms.dtype).eps * float(terms.abs().sum())
    try:
        found = forward_mode(model, losses, parameters, vector, single)
    except Exception:
        # whatever it was, the loop meets it again if it is the model's own fault
        return one_by_one
    return forward_mode if abs(float(found.sum() - terms.sum())) <= tolerance else one_by_one


def _check(vector: ByName, parameters: ByName) -> None:
    for name, value in vector.items():
        if name not in parameters:
            raise ConfigError(
                f"the vector names {name!r}, which is no parameter of the model with a gradient; "
                "name only those"
            )
        if value.shape != parameters[name].shape:
            raise ConfigError(
                f"the vector's {name!r} has shape {tuple(value.shape)}, the parameter "
                f"{tuple(parameters[name].shape)}; give one number per weight"
            )


@contextmanager
def _quiet_forward_mode() -> Iterator[None]:
    """Forward mode, when it is first used, calls something that torch itself deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        yield
