"""Steps with noise on a model's weights, all of them as one vector in float64."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.view import Source
from expunge.methods.shared.certified import SecretNoise
from expunge.methods.shared.noisy_descent import NoisyDescent
from expunge.per_sample.chunks import held_still
from expunge.training.precision import arithmetic, resolve_precision
from expunge.training.run import Run


def descend(
    model: nn.Module, descent: NoisyDescent, retain: Source, size: int, run: Run, noise: SecretNoise
) -> None:
    """Take the steps in place, in evaluation mode, on batches of so many samples without augmentation.

    Frozen weights stay; under a mask the weights that are kept alone have norms, gradients and noise.
    """
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    whole = {name: torch.ones_like(p, dtype=torch.bool) for name, p in weights.items()}
    kept = _flat({**whole, **{n: m for n, m in (run.mask or {}).items() if n in whole}}.values())
    asked = run.recipe.precision if run.recipe is not None else "auto"
    precision = resolve_precision(asked, model, run.device)

    def gradient(theta: Tensor, batch: Batch) -> Tensor:
        _set(weights.values(), theta)
        with arithmetic(precision, run.device):
            loss = run.loss(model, batch)
        found = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        return run.sum(_flat(found).to(run.device)).cpu() / run.world * kept

    with held_still(model):
        last = descent.descend(
            _flat(p.detach() for p in weights.values()) * kept,
            run.steps(lambda n: retain.batches(size, epoch=n, augment=False), descent.steps),
            gradient,
            lambda: noise.normal(len(kept)) * kept,
        )
    _set(weights.values(), last)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """All of them as one vector on the processor."""
    return torch.cat([each.cpu().flatten() for each in tensors])


def _set(parameters: Iterable[Tensor], vector: Tensor) -> None:
    """Put a vector into parameters, in place."""
    with torch.no_grad():
        for each in parameters:
            each.copy_(vector[: each.numel()].view(each.shape))
            vector = vector[each.numel() :]
