"""What every pruner is: validated settings, and one cut."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.errors import ConfigError
from expunge.training.recipe import Recipe, Settings

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.models.mask import Mask
    from expunge.training.run import Run

J_REWIND_SHARE = 8 / 182
"""Jia et al. rewind to epoch 8 of 182."""


FINE_TUNING = {"epochs": 10, "lr": 0.01, "schedule": "constant"}
"""What changes in the recipe where cut weights of a trained model are trained on: fine-tuning."""


class Pruner(Settings):
    """A way to find a sparse subnetwork. Its fields are its settings, with their paper's defaults.

    A new pruner is one file with such a class, and one line in `expunge.pruning.PRUNERS`.

    trained: whether it cuts trained weights. Then the model is trained before each cut, and the
    mask depends on the training data; else it cuts untrained weights and sees no data.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    trained: ClassVar[bool]

    sparsity: float = Field(
        default=0.95, ge=0, lt=1, description="share of the prunable weights to cut"
    )

    def cuts(self) -> tuple[float, ...]:
        """Sparsity after each cut; a pruner that cuts trained weights trains before each."""
        return (self.sparsity,)

    def rewind_to(self, recipe: Recipe) -> int:
        """Epochs of the first training whose weights and buffers the sparse training starts from."""
        return 0

    @abstractmethod
    def mask(
        self,
        model: nn.Module,
        data: DataView,
        run: Run,
        *,
        sparsity: float,
        within: Mask | None = None,
    ) -> Mask:
        """One cut to `sparsity` of all prunable weights, among those that `within` keeps.

        Changes neither the model nor its modes.
        """


class Rewinding(Pruner):
    """A pruner that rewinds weights and buffers to an early epoch after each cut."""

    trained: ClassVar[bool] = True

    rewind_epoch: int | None = Field(
        default=None,
        ge=0,
        description="epochs of training to rewind to; null: the paper's 8 of 182, scaled",
    )

    def rewind_to(self, recipe: Recipe) -> int:
        """See `Pruner`: 8 of 182 epochs, so 1 of a recipe of 30."""
        if self.rewind_epoch is not None:
            return self.rewind_epoch
        return min(recipe.epochs - 1, max(1, round(J_REWIND_SHARE * recipe.epochs)))


def sparsity_levels(sparsities: Sequence[float]) -> list[float]:
    """Sparsities to compare, each once, ascending. Raises ConfigError for no shares, or without 0."""
    wrong = [s for s in sparsities if not 0 <= s < 1]
    if wrong:
        raise ConfigError(
            f"sparsity {wrong[0]:g} is no share of the weights; give 0 to below 1, as in 0.95"
        )
    levels = sorted(set(sparsities))
    if not levels or levels[0] != 0:
        raise ConfigError("the trends are relative to sparsity 0; give 0 among the sparsities")
    return levels
