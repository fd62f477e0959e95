"""Selective synaptic dampening: shrink the weights that matter to the forget set alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from expunge import DataView, Method, Part, Run, fisher_diagonal


class Dampening(Method):
    """Where I_forget > alpha I_all, multiply the weight by min(strength I_all / I_forget, 1).

    I is the mean of squared per-sample gradients, without training and without chance. I_all is at
    least the forget set's share of I_forget, so a request of that share 1 / alpha changes nothing.
    """

    name: ClassVar[str] = "dampening"
    paper: ClassVar[str] = "Foster et al., AAAI 2024 (SSD)"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    seeded: ClassVar[bool] = False

    alpha: float = Field(default=10.0, gt=0, description="how much more a weight matters to it")
    strength: float = Field(default=1.0, gt=0, description="how far such a weight shrinks")
    batch_size: int = Field(default=256, ge=1, description="samples a pass")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""

        def importance(part: Part) -> dict[str, Tensor]:
            batches = data.batches(part, self.batch_size, shuffle=False, augment=False)
            return fisher_diagonal(model, batches, run, labels="true")

        forget, retain = importance(Part.FORGET), importance(Part.RETAIN)
        share = data.size(Part.FORGET) / (data.size(Part.FORGET) + data.size(Part.RETAIN))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in forget:
                    everywhere = share * forget[name] + (1 - share) * retain[name]
                    factor = (self.strength * everywhere / forget[name]).clamp(max=1)
                    chosen = forget[name] > self.alpha * everywhere
                    parameter.mul_(torch.where(chosen, factor.to(parameter), 1.0))
        return model
