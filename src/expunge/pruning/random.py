"""Random pruning: the control that every other pruner should beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.pruning.base import Pruner

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.models.mask import Mask
    from expunge.training.run import Run


class Random(Pruner):
    """Cut weights by chance, drawn over all layers at once, before training."""

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "the usual control; Frankle et al., ICLR 2021"
    trained: ClassVar[bool] = False

    def mask(
        self,
        model: nn.Module,
        data: DataView,
        run: Run,
        *,
        sparsity: float,
        within: Mask | None = None,
    ) -> Mask:
        """Weights that draw the largest numbers."""
        import torch

        from expunge.models.mask import keep_largest, prunable

        generator = torch.Generator().manual_seed(run.seed_for("mask"))
        scores = {
            name: torch.rand(weight.shape, generator=generator).to(weight.device)
            for name, weight in prunable(model).items()
        }
        return keep_largest(scores, sparsity, within)
