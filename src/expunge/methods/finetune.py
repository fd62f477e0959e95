"""Fine-tuning on what is kept, trusting that the rest fades."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.data.parts import Part
from expunge.methods.base import SgdMethod

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class Finetune(SgdMethod):
    """FT: stochastic gradient descent on the retain set, from the original weights.

    Defaults are those of Jia et al. (10 epochs, lr 0.01); momentum 0.9, weight decay 5e-4.

    Equation: min over theta of loss(D_r), from the original's weights.

    Cost: 10 passes over the retain set.

    Use it when samples of classes that stay are to be forgotten and their influence is small; it is
    also the least that any other method must beat.

    Avoid it when a whole class or memorised samples must go: nothing pushes the model away from
    them, so it forgets only what training on the rest happens to overwrite.
    """

    name: ClassVar[str] = "finetune"
    paper: ClassVar[str] = "Warnecke et al., NDSS 2023; settings of Jia et al., NeurIPS 2023"
    reads: ClassVar[Part] = Part.RETAIN

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import fit

        fit(
            model,
            lambda epoch: data.batches(Part.RETAIN, self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
        )
        return model
