"""Gradient ascent: climb the loss of what is to be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import Epochs, Rate, SgdMethod, StillNorm, WeightDecay

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class GradientAscent(SgdMethod):
    """GA: stochastic gradient ascent on the cross-entropy of the forget set.

    The loss has no ceiling, so few small steps are taken, and `fit` ends a run whose weights
    explode. The learning rate is tuned per setting in the paper; 1e-4 is its usual value.

    Deviation: normalisation layers keep their running statistics by default. The published code
    trains them on the forget set, which shifts every prediction; norm="train" does the same.

    Equation: theta <- theta + lr grad loss(D_f), few steps.

    Cost: 5 passes over the forget set; none over the retain set.

    Use it when the retain set is no longer at hand, and the rate can be tuned on validation
    samples.

    Avoid it when accuracy must not suffer: nothing holds the rest in place. Of random samples it
    over-forgets: a retrained model still gets most of them right.
    """

    name: ClassVar[str] = "gradient_ascent"
    paper: ClassVar[str] = (
        "Graves et al., AAAI 2021; Thudi et al., EuroS&P 2022; settings of Jia et al."
    )
    reads: ClassVar[Part] = Part.FORGET

    epochs: Epochs = Field(default=5, description="passes over the forget set")
    lr: Rate = Field(default=1e-4, description="learning rate; tune it, on a seed not reported")
    weight_decay: WeightDecay = 0.0
    norm: StillNorm = "eval"

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import fit

        fit(
            model,
            lambda epoch: data.batches(Part.FORGET, self.batch_size, epoch=epoch),
            lambda model, batch, _: -run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
            norm=self.norm,
        )
        return model
