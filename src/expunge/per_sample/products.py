"""Products with the matrix G of per-sample gradients (n, parameters), which is never built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import jvp

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.per_sample.chunks import counted, held_still, pieces, wanted
from expunge.per_sample.layers import total_type
from expunge.per_sample.plain import as_function
from expunge.run import Run


def gradient_products(
    model: nn.Module, batches: Iterable[Batch], run: Run, vector: Mapping[str, Tensor]
) -> Tensor:
    """G v (n,): the derivative of each sample's loss along `vector`."""
    with held_still(model):
        parameters = {name: p.detach() for name, p in wanted(model).items()}
        tangent = {
            name: vector[name].to(p) if name in vector else torch.zeros_like(p)
            for name, p in parameters.items()
        }
        function = as_function(model, run.task.losses)
        parts = []
        for batch in counted(batches):
            for part in pieces(batch, 128):
                with torch.no_grad():
                    _, along = jvp(lambda p: function(p, part), (parameters,), (tangent,))  # noqa: B023
                parts.append(along.detach())
        return torch.cat(parts)


def weighted_gradient(
    model: nn.Module, batches: Iterable[Batch], run: Run, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Gᵀ w: the sum over samples of weight times gradient, by parameter name."""
    with held_still(model):
        parameters = wanted(model)
        total = {
            name: torch.zeros_like(p, dtype=total_type(p.dtype)) for name, p in parameters.items()
        }
        start = 0
        for batch in counted(batches):
            for part in pieces(batch, 128):
                losses = run.task.losses(model, part)
                share = losses.sum()
                if weights is not None:
                    share = (losses * weights[start : start + len(part)].to(losses)).sum()
                start += len(part)
                gradient = torch.autograd.grad(share, list(parameters.values()), allow_unused=True)
                for name, value in zip(parameters, gradient, strict=True):
                    if value is not None:
                        total[name] += value
        if weights is None:
            total = {name: run.sum(value) for name, value in total.items()}
        elif len(weights) != start:
            raise ConfigError(
                f"{len(weights)} weights for {start} samples; give one weight per sample"
            )
        return {name: total[name].to(p.dtype) for name, p in parameters.items()}
