"""Bad teaching: learn from a network that knows nothing where the forget set is concerned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div

from expunge import Batch, DataView, Method, Part, Run, constant_rate, fit


class RandomTeacher(Method):
    """Distil an untrained network on the forget set, the original on a share of the retain set."""

    name: ClassVar[str] = "random_teacher"
    paper: ClassVar[str] = "Chundawat et al., AAAI 2023"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    diverges: ClassVar[Mapping[str, object]] = {"lr": 1e8}

    epochs: int = Field(default=1, ge=1, description="passes over both")
    lr: float = Field(default=1e-4, gt=0, description="learning rate of Adam")
    share: float = Field(
        default=0.3, gt=0, le=1, description="share of the retain set that is used"
    )
    batch_size: int = Field(default=256, ge=1, description="samples a step")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        ignorant, original = run.teacher(run.fresh("teacher")), run.teacher(model)
        some = data.take(Part.RETAIN, max(1, round(self.share * data.size(Part.RETAIN))))
        mix = data.mix(data.source(Part.FORGET), some)

        def soft(network: nn.Module, batch: Batch) -> Tensor:
            return run.task.observe(network, batch)["logits"].log_softmax(1)

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            which = batch.forget.unsqueeze(1)
            target = torch.where(which, soft(ignorant, batch), soft(original, batch))
            apart = kl_div(soft(model, batch), target, reduction="none", log_target=True)
            return run.mean(apart.sum(1), batch)

        fit(
            model,
            lambda epoch: mix.batches(self.batch_size, epoch=epoch),
            loss,
            recipe=constant_rate(
                run,
                epochs=self.epochs,
                lr=self.lr,
                batch_size=self.batch_size,
                optimizer="adam",
            ),
            run=run,
        )
        return model
