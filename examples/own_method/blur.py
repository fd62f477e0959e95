"""A method of one's own: what is to be forgotten is pulled to an even guess, the rest is trained on."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from expunge import Batch, DataView, Part, Run, SgdMethod, fit


class Blur(SgdMethod):
    """SGD on loss(retain) + pull * cross-entropy of an even guess and the model's, on the forget set."""

    name: ClassVar[str] = "blur"
    paper: ClassVar[str] = "none: an example"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET

    pull: float = Field(default=1.0, ge=0, description="weight of the even guess; 0 is fine-tuning")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        retain, forget = data.source(Part.RETAIN), data.source(Part.FORGET)

        def loss(model: nn.Module, pair: tuple[Batch, Batch], done: float) -> torch.Tensor:
            kept, struck = pair
            even = -torch.log_softmax(model(struck.inputs), dim=1).mean(dim=1)
            return run.loss(model, kept) + self.pull * run.mean(even, struck)

        fit(
            model,
            lambda epoch: data.pairs(retain, forget, self.batch_size, epoch=epoch),
            loss,
            recipe=self.recipe(run),
            run=run,
        )
        return model
