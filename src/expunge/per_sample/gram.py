"""The Gram matrix of per-sample gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.models.mask import Mask
from expunge.per_sample.chunks import MEMORY, checked_mask, counted
from expunge.per_sample.plain import per_sample_gradients
from expunge.run import Run


def gram_matrix(
    model: nn.Module,
    batches: Iterable[Batch],
    run: Run,
    *,
    mask: Mask | None = None,
    engine: Literal["auto", "loop", "vmap", "hooks"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    memory_bytes: int = MEMORY,
) -> Tensor:
    """G Gᵀ (n, n)."""
    if run.world > 1:
        raise ConfigError(
            f"{run.label}: a Gram matrix needs all samples in one process, and there are "
            f"{run.world}; use solver='cg', or one process"
        )
    kept = checked_mask(model, mask)
    rows = []
    for batch in counted(batches):
        gradients = per_sample_gradients(model, batch, run, engine="loop")
        kept_rows = {n: g for n, g in gradients.items() if n not in kept}
        kept_rows |= {n: g * kept[n] for n, g in gradients.items() if n in kept}
        rows.append(torch.cat([g.flatten(1) for g in kept_rows.values()], 1))
    matrix = torch.cat(rows)
    return matrix @ matrix.T
