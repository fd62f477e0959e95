"""Retraining from scratch: exact, dear, and what every other method is read against."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.data.parts import Part
from expunge.methods.base import Method

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class Retrain(Method):
    """Train a new model on the retain set with the original's recipe, unchanged.

    Weights start from a fresh draw, never from the original's. Under a pruning mask the same mask
    is held. Validation samples are read only where the recipe's schedule is "plateau", for it
    watches their loss.
    """

    name: ClassVar[str] = "retrain"
    paper: ClassVar[str] = "exact unlearning; the reference of Jia et al., NeurIPS 2023"
    reads: ClassVar[Part] = Part.RETAIN | Part.VALIDATION
    guarantee: ClassVar[str] = "exact"

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import train_from

        recipe = run.original_recipe()
        fresh = run.fresh()
        train_from(fresh, data, run, recipe)
        return fresh
