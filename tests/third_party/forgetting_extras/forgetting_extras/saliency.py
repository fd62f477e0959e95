"""Saliency unlearning: random labels, learned by the weights that matter to the forget set."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from expunge import Batch, DataView, Part, Run, SgdMethod, fit, weighted_gradient


class Saliency(SgdMethod):
    """SGD on the retain set as it is and on the forget set under labels drawn anew each epoch.

    Only the weights with the largest gradient on the forget set may change.
    """

    name: ClassVar[str] = "saliency"
    paper: ClassVar[str] = "Fan et al., ICLR 2024 (SalUn)"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET

    lr: float = Field(default=0.013, gt=0, description="learning rate")
    share: float = Field(default=0.5, gt=0, le=1, description="share of the weights that change")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        forget = data.source(Part.FORGET)
        plain = forget.batches(self.batch_size, shuffle=False, augment=False)
        salient = largest(weighted_gradient(model, plain, run), self.share)
        mix = data.mix(data.source(Part.RETAIN), forget)
        draw = torch.Generator().manual_seed(run.seed_for("labels"))

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            drawn = torch.randint(len(data.classes), (len(batch),), generator=draw)
            labels = torch.where(batch.forget, drawn.to(batch.labels), batch.labels)
            return run.loss(model, batch.relabelled(labels))

        fit(
            model,
            lambda epoch: mix.batches(self.batch_size, epoch=epoch),
            loss,
            recipe=self.recipe(run),
            run=run,
            update=salient,
        )
        return model


def largest(gradient: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Where |gradient| is among the largest `share` of all parameters together."""
    sizes = torch.cat([value.abs().flatten() for value in gradient.values()])
    least = sizes.topk(max(1, round(share * len(sizes)))).values[-1]
    return {name: value.abs() >= least for name, value in gradient.items()}
