"""Gradient ascent: climb the loss of what is to be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import Method, constant_rate

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class GradientAscent(Method):
    """GA: stochastic gradient ascent on the cross-entropy of the forget set.

    The loss has no ceiling, so few small steps are taken, and `fit` ends a run whose weights
    explode. The learning rate is tuned per setting in the paper; 1e-4 is its usual value.

    Deviation: normalisation layers keep their running statistics by default. The published code
    trains them on the forget set, which shifts every prediction; norm="train" does the same.
    """

    name: ClassVar[str] = "gradient_ascent"
    paper: ClassVar[str] = (
        "Graves et al., AAAI 2021; Thudi et al., EuroS&P 2022; settings of Jia et al."
    )
    reads: ClassVar[Part] = Part.FORGET

    epochs: int = Field(default=5, ge=1, description="passes over the forget set")
    lr: float = Field(
        default=1e-4, gt=0, description="learning rate; tune it, on a seed not reported"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="SGD momentum")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty of SGD")
    batch_size: int = Field(default=256, ge=1, description="samples a step")
    norm: Literal["eval", "train"] = Field(
        default="eval",
        description="eval: normalisation layers keep their statistics; train: they drift",
    )

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import fit

        fit(
            model,
            lambda epoch: data.batches(Part.FORGET, self.batch_size, epoch=epoch),
            lambda model, batch, _: -run.loss(model, batch),
            recipe=constant_rate(run, **self.model_dump(exclude={"norm"})),
            run=run,
            norm=self.norm,
        )
        return model
