"""Per-sample gradients by slow code, a sample and a backward pass at a time; and how to compare."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from helpers import run_on_cpu
from torch import Tensor, nn

from expunge.data.batch import Batch

RUN = run_on_cpu(names=("per sample", 0))
ENGINES = ["hooks", "vmap", "loop"]


def rows(model: nn.Module, loss: Callable[[nn.Module, int], Tensor], count: int) -> Tensor:
    """Gradients of `loss(model, row)` for each row, (count, parameters), evaluation mode."""
    model = copy.deepcopy(model).eval()
    wanted = [p for p in model.parameters() if p.requires_grad]
    found = []
    for row in range(count):
        value = loss(model, row)
        gradient = torch.autograd.grad(value, wanted, allow_unused=True)
        pairs = zip(wanted, gradient, strict=True)
        found.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])
        )
    return torch.stack(found)


def one(inputs: Any, row: int) -> Any:
    if isinstance(inputs, dict):
        return {key: value[row : row + 1] for key, value in inputs.items()}
    return inputs[row : row + 1]


def logits(model: nn.Module, inputs: Any, row: int) -> Tensor:
    alone = one(inputs, row)
    result: Tensor = model(**alone) if isinstance(alone, dict) else model(alone)
    return result


def label_rows(model: nn.Module, inputs: Any, labels: Any) -> Tensor:
    """Gradients of the cross-entropy at the given labels."""

    def loss(model: nn.Module, row: int) -> Tensor:
        return -logits(model, inputs, row).log_softmax(1)[0, int(labels[row])]

    return rows(model, loss, len(labels))


def slow_fisher(model: nn.Module, batch: Batch, labels: str) -> Tensor:
    """(parameters,) by the definition."""
    count = len(batch)
    if labels == "true":
        return label_rows(model, batch.inputs, batch.labels).square().mean(0)
    still = copy.deepcopy(model).eval()
    with torch.no_grad():
        p = torch.cat([logits(still, batch.inputs, row).softmax(1) for row in range(count)])
    if labels == "sampled":
        generator = torch.Generator().manual_seed(RUN.seed_for("fisher"))
        uniform = torch.rand(count, 1, dtype=torch.float64, generator=generator)
        drawn = (p.cumsum(1) <= uniform).sum(1)
        return label_rows(model, batch.inputs, drawn).square().mean(0)
    total = torch.zeros(())
    for label in range(p.shape[1]):
        G = label_rows(model, batch.inputs, torch.full((count,), label))
        total = total + (p[:, label : label + 1] * G.square()).mean(0)
    return total


def flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for value in values.values()])


def flat_mask(model: nn.Module, mask: dict[str, Tensor]) -> Tensor:
    named = model.named_parameters()
    return torch.cat([mask.get(n, torch.ones_like(p) > 0).flatten() for n, p in named])


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def cut(batch: Batch, size: int) -> list[Batch]:
    return [
        replace(
            batch,
            ids=batch.ids[start : start + size],
            inputs=torch.utils._pytree.tree_map(lambda x: x[start : start + size], batch.inputs),  # noqa: B023
            labels=None if batch.labels is None else batch.labels[start : start + size],
        )
        for start in range(0, len(batch), size)
    ]
