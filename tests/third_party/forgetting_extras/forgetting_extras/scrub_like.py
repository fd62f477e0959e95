"""Alternating distillation: away from the original on what goes, near to it on what stays."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div

from expunge import Batch, DataView, Part, Run, SgdMethod, fit


class ScrubLike(SgdMethod):
    """Passes over the forget set, away from a teacher, in turn with passes over the retain set.

    Both under one optimiser; only the first epochs have a pass over the forget set.
    """

    name: ClassVar[str] = "scrub_like"
    paper: ClassVar[str] = "Kurmanji et al., NeurIPS 2023 (SCRUB)"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET

    epochs: int = Field(default=3, ge=1, description="passes over the retain set")
    forget_epochs: int = Field(default=2, ge=0, description="passes over the forget set")
    lr: float = Field(default=5e-4, gt=0, description="learning rate")
    batch_size: int = Field(default=128, ge=1, description="retain samples a step")
    forget_batch: int = Field(default=32, ge=1, description="forget samples a step")
    gamma: float = Field(default=0.99, ge=0, description="weight of the retain loss")
    alpha: float = Field(default=0.001, ge=0, description="weight of the teacher on the retain set")
    temperature: float = Field(default=4.0, gt=0, description="of the distillation")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        teacher = run.teacher(model)

        def soft(network: nn.Module, batch: Batch) -> Tensor:
            return (run.task.observe(network, batch)["logits"] / self.temperature).log_softmax(1)

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            pair = soft(model, batch), soft(teacher, batch)
            apart = kl_div(*pair, reduction="none", log_target=True).sum(1) * self.temperature**2
            if batch.part is Part.FORGET:
                return -run.mean(apart, batch)
            return self.gamma * run.loss(model, batch) + self.alpha * run.mean(apart, batch)

        def stream(epoch: int) -> object:
            retain = data.batches(Part.RETAIN, self.batch_size, epoch=epoch)
            if epoch >= self.forget_epochs:
                return retain
            return data.chain(data.batches(Part.FORGET, self.forget_batch, epoch=epoch), retain)

        fit(model, stream, loss, recipe=self.recipe(run), run=run)
        return model
