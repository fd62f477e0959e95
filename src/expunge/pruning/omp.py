"""One-shot magnitude pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.pruning.base import Rewinding

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.models.mask import Mask
    from expunge.training.run import Run


class OneShot(Rewinding):
    """OMP: train, cut the smallest weights of all layers at once, rewind, train again.

    Weights and BatchNorm buffers go back to an early epoch, with the learning-rate schedule and a
    fresh optimiser.
    """

    name: ClassVar[str] = "omp"
    paper: ClassVar[str] = "Ma et al., NeurIPS 2021; settings of Jia et al., NeurIPS 2023"

    def mask(
        self,
        model: nn.Module,
        data: DataView,
        run: Run,
        *,
        sparsity: float,
        within: Mask | None = None,
    ) -> Mask:
        """The weights of largest magnitude."""
        from expunge.models.mask import keep_largest, prunable

        scores = {name: weight.detach().abs() for name, weight in prunable(model).items()}
        return keep_largest(scores, sparsity, within)
