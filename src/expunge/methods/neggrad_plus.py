"""NegGrad+: descend on what is kept while ascending on what is to be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, SgdMethod
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.run import Run


class Weighing(Settings):
    """What `NegGradPlus` has beside SGD's settings."""

    alpha: float = Field(default=0.95, ge=0, le=1, description="weight of the retain loss")


class NegGradPlus(SgdMethod, Weighing):
    """SGD on alpha * loss(retain) - (1 - alpha) * loss(forget), the forget set cycled.

    alpha 1 is fine-tuning, alpha 0 gradient ascent. A well-tuned one is a baseline that newer
    methods must beat.

    As published, normalisation layers see both sets in training, so that their running statistics
    end up half way to the forget set; norm="eval" leaves them as the original has them.

    Equation: min over theta of alpha loss(D_r) - (1 - alpha) loss(D_f).

    Cost: 10 passes over the retain set, each beside as many forget samples; about 20 passes in all.

    Use it when a whole class is to go and a strong, simple method is wanted; tune alpha.

    Avoid it when samples of classes that stay are asked for: their loss is driven above what a
    retrained model has, and that can be seen.
    """

    name: ClassVar[str] = "neggrad_plus"
    paper: ClassVar[str] = "Kurmanji et al., NeurIPS 2023 (SCRUB), as a baseline"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET

    epochs: Epochs = Field(default=10, description="passes over the longer of the two sets")
    batch_size: BatchSize = Field(default=256, description="samples of each set a step")
    norm: Literal["train", "eval"] = Field(
        default="train",
        description="train: normalisation layers follow both sets; eval: they keep their statistics",
    )

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import fit

        retain, forget = data.source(Part.RETAIN), data.source(Part.FORGET)

        def loss(model: nn.Module, pair: tuple[Batch, Batch], _: float) -> Tensor:
            kept, struck = pair
            return self.alpha * run.loss(model, kept) - (1 - self.alpha) * run.loss(model, struck)

        fit(
            model,
            lambda epoch: data.pairs(retain, forget, self.batch_size, epoch=epoch),
            loss,
            recipe=self.recipe(run),
            run=run,
            norm=self.norm,
        )
        return model
