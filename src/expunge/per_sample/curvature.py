"""Products with the Fisher matrix and the Hessian, damped solves, and the largest eigenvalue.

Neither matrix is ever built. Iterative solvers are scipy's, in float64; products run in the
model's own precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.models.mask import Mask
from expunge.per_sample.gram import gram_and_products
from expunge.per_sample.plain import ByName
from expunge.per_sample.products import gradient_products, weighted_gradient
from expunge.training.loop import evaluating
from expunge.training.run import Run

Product = Callable[[ByName], ByName]

EIGENVALUE_TOLERANCE = 1e-2
"""Relative accuracy of the largest eigenvalue, which is only reported."""


@dataclass(frozen=True)
class Solved:
    """A solution x of (C + damping I) x = v for a curvature matrix C.

    top_eigenvalue: of C, the largest in magnitude; far below the damping, x is v / damping.
    residual: ||(C + damping I) x - v|| / ||v||; None where the solve is direct.
    iterations: products that an iterative solver took.
    Eigenvalue and residual are only reported, so the run's cost does not have what they take.
    """

    x: dict[str, Tensor]
    top_eigenvalue: float
    residual: float | None = None
    iterations: int = 0


def solve_in_sample_space(
    model: nn.Module,
    batches: Iterable[Batch],
    run: Run,
    vector: ByName,
    *,
    damping: float,
    own: float = 0.0,
    mask: Mask | None = None,
) -> Solved:
    """X = (F + damping I)⁻¹ v for the empirical Fisher F = GᵀG / n, by way of the n x n Gram matrix.

    v = vector + own Gᵀ1: `own` times the sum of these samples' own gradients, which is not computed
    beforehand, for G Gᵀ1 is a sum over the Gram matrix. By Woodbury
    x = [v - Gᵀ (n damping I + G Gᵀ)⁻¹ G v] / damping, rows of G the gradients of the n samples of
    `batches`: one pass for the Gram matrix and the products, one weighted backward pass. Under a mask
    only kept weights count. damping: above 0.
    Raises ConfigError under several processes, each of which sees its own share of the samples.
    """
    if damping <= 0:
        raise ConfigError("the sample-space solve divides by the damping; set it above 0")
    kept = masked(vector, mask)
    # float32 throughout: an error e in the Gram matrix becomes e * eigenvalue / damping in x
    gram, products = gram_and_products(model, batches, run, kept, mask=mask, precision="float32")
    gram, products = gram.double(), products.double()
    count = len(gram)
    damped = gram + count * damping * torch.eye(count, dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(damped, products + own * gram.sum(1)) - own
    correction = weighted_gradient(model, batches, run, weights.to(next(iter(kept.values())).dtype))
    x = {name: (value - correction[name]) / damping for name, value in kept.items()}
    with run.only_reported():
        top = float(torch.linalg.eigvalsh(gram)[-1]) / count
    return Solved(masked(x, mask), top)


def solve_by_conjugate_gradients(
    product: Product,
    vector: ByName,
    run: Run,
    *,
    damping: float,
    mask: Mask | None = None,
    tolerance: float = 1e-6,
    iterations: int = 200,
) -> Solved:
    """X = (C + damping I)⁻¹ v for a symmetric C that is given as products, as `fisher_product`.

    tolerance: of the residual, relative to v. An indefinite C wants a damping above its most negative
    eigenvalue; where the iterations end early, `residual` says how far off x is.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    right = as_vector(masked(vector, mask))
    calls = 0

    def damped(p: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal calls
        calls += 1
        return as_vector(masked(product(from_vector(p, vector)), mask)) + damping * p

    shape = (len(right), len(right))
    x, _ = cg(
        LinearOperator(shape, matvec=damped, dtype=np.float64),
        right,
        rtol=tolerance,
        maxiter=iterations,
    )
    products = calls
    with run.only_reported():
        left = float(np.linalg.norm(damped(x) - right))
        residual = left / max(float(np.linalg.norm(right)), 1e-300)
        top = top_eigenvalue(lambda p: masked(product(masked(p, mask)), mask), vector)
    return Solved(masked(from_vector(x, vector), mask), top, residual, products)


def top_eigenvalue(product: Product, like: ByName, *, seed: int = 0) -> float:
    """The eigenvalue of largest magnitude, with its sign, by Lanczos iteration.

    product: of a symmetric matrix with a vector. like: gives names and shapes. seed: of the start.
    """
    size = sum(value.numel() for value in like.values())

    def apply(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return as_vector(product(from_vector(p, like)))

    start = np.random.default_rng(seed).standard_normal(size)
    if size < 3 or not (first := apply(start)).any():
        matrix = (
            np.stack([apply(column) for column in np.eye(size)]) if size < 3 else np.zeros((1, 1))
        )
        values = np.linalg.eigvalsh(matrix)
        return float(values[np.abs(values).argmax()])
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    found = eigsh(
        operator, k=1, which="LM", v0=first, tol=EIGENVALUE_TOLERANCE, return_eigenvectors=False
    )
    return float(found[0])


def fisher_product(model: nn.Module, batches: Iterable[Batch], run: Run, vector: ByName) -> ByName:
    """F p = Gᵀ (G p) / n for the empirical Fisher of the samples of `batches`."""
    products = gradient_products(model, batches, run, vector)
    count = run.sum(torch.tensor(float(len(products)), device=products.device))
    found = weighted_gradient(model, batches, run, products)
    return {name: run.sum(value) / count for name, value in found.items()}


def hessian_product(model: nn.Module, batches: Iterable[Batch], run: Run, vector: ByName) -> ByName:
    """H p for H the Hessian of the mean loss over the samples of `batches` (Pearlmutter, 1994)."""
    parameters = {name: p for name, p in model.named_parameters() if name in vector}
    leaves = list(parameters.values())
    total = {name: torch.zeros_like(value) for name, value in vector.items()}
    count = 0
    with evaluating(model):
        for batch in batches:
            if not batch.weight:
                continue
            count += len(batch)
            loss = run.task.losses(model, batch).sum()
            gradients = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
            along = sum(
                (gradient * vector[name]).sum()
                for name, gradient in zip(parameters, gradients, strict=True)
                if gradient is not None and gradient.requires_grad
            )
            if not isinstance(along, Tensor):
                continue  # a loss that is linear in the parameters
            seconds = torch.autograd.grad(along, leaves, allow_unused=True)
            for name, second in zip(parameters, seconds, strict=True):
                if second is not None:
                    total[name] += second
    samples = run.sum(torch.tensor(float(count), device=run.device))
    return {name: run.sum(value) / samples for name, value in total.items()}


def masked(values: ByName, mask: Mask | None) -> dict[str, Tensor]:
    """The values, with 0 for weights that the mask cuts."""
    if mask is None:
        return dict(values)
    return {
        name: value * mask[name].to(value.device) if name in mask else value
        for name, value in values.items()
    }


def as_vector(values: ByName) -> NDArray[np.float64]:
    """Named tensors as one vector."""
    pieces = [value.detach().double().flatten().cpu() for value in values.values()]
    joined: NDArray[np.float64] = torch.cat(pieces).numpy()
    return joined


def from_vector(vector: NDArray[np.float64], like: ByName) -> dict[str, Tensor]:
    """One vector as named tensors of the shapes, types and devices of `like`."""
    pieces = torch.split(
        torch.from_numpy(np.ascontiguousarray(vector)), [value.numel() for value in like.values()]
    )
    return {
        name: piece.view(value.shape).to(value)
        for (name, value), piece in zip(like.items(), pieces, strict=True)
    }
