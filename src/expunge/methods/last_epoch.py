"""A control: what is gained by training on a little, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.data.parts import Part
from expunge.methods.base import Method, read_in_training

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run


class LastEpoch(Method):
    """Control: the last epoch of the original's recipe once more, on the retain set.

    The rate is the schedule's in that epoch (of "plateau", which goes by the losses of a whole
    training, the recipe's), and the optimiser starts anew. A method that comes no nearer to retrain
    than this gained nothing from its own idea. Validation samples are read only where the schedule
    is "plateau".

    Equation: min over theta of loss(D_r), for one epoch at the recipe's last rate.

    Cost: one pass over the retain set; the least that training can be.

    Use it when a table needs the row that every method which trains must beat.

    Avoid it when something is to be forgotten.
    """

    name: ClassVar[str] = "last_epoch"
    paper: ClassVar[str] = "of this package"
    reads: ClassVar[Part] = Part.RETAIN | Part.VALIDATION
    needs_recipe: ClassVar[bool] = True

    def reads_now(self, recipe: Recipe | None, *, whole: bool) -> Part:
        """See the base: validation samples for the recipe's schedule alone."""
        return read_in_training(self.reads, recipe)

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import train_from

        recipe = run.original_recipe()
        train_from(model, data, run, recipe, first_epoch=recipe.epochs - 1)
        return model
