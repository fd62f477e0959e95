"""Fine-pruning: cut the channels that sleep on clean data, then fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import Scope, SgdMethod
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class CutByActivity(Settings):
    """What `FinePruning` has beside SGD's settings."""

    lost: float = Field(
        default=0.04,
        ge=0,
        le=1,
        description="share of clean samples that may turn wrong by pruning, before fine-tuning",
    )
    tries: int = Field(default=20, ge=1, description="equal steps in which channels are cut")
    samples: int = Field(
        default=1000, ge=1, description="clean samples that activations and accuracy are taken on"
    )


class FinePruning(SgdMethod, CutByActivity):
    """Cut the channels of the last convolution that clean data wake least, then fine-tune on these.

    Equation: a_c = mean over clean x of the mean over positions of max(0, z_c(x)), where z_c is what
    channel c of the last convolution gives; the k channels of smallest a_c go to 0, k as large as
    accuracy on clean samples allows (within `lost`); then min over the other weights of loss(D_r).

    A trigger wakes channels that clean samples leave asleep. The last convolution is the one that is
    called last; where a normalisation follows it, z_c is what that gives, and the channel's weight and
    bias there go to 0 with it, so that it is silent. In a model without convolutions it is the last
    linear layer before the head. What is cut stays 0 in fine-tuning. k is found in `tries` equal steps,
    none of which may lose more than `lost` against no pruning; the record has it.

    Deviations: a block that adds a shortcut is measured before the sum; the paper leaves the number of
    epochs open, and accuracy is taken on the samples that are also fine-tuned on.

    Cost: up to 21 looks at 1000 samples, and 10 passes over the retain set.

    Use it when a model may hold a backdoor and there is clean data, but no poison is known; it is the
    plainest of its kind, and what others are compared with.

    Avoid it when a trigger shares its channels with clean features, as where nothing sleeps in a small
    network: then pruning stops at once, and what is left is fine-tuning.
    """

    name: ClassVar[str] = "fine_pruning"
    paper: ClassVar[str] = "Liu, Dolan-Gavitt and Garg, RAID 2018 (fine-pruning)"
    reads: ClassVar[Part] = Part.RETAIN
    scope: ClassVar[Scope] = "backdoor"
    needs_classes: ClassVar[bool] = True

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ModelError for a model without such a layer, or with a frozen one."""
        import torch

        from expunge.methods.shared.asleep import prune_asleep
        from expunge.training.fit import fit

        clean = data.take(Part.RETAIN, self.samples)
        off = prune_asleep(
            model, clean, run, lost=self.lost, tries=self.tries, size=self.batch_size
        )
        update: dict[str, torch.Tensor | bool] = dict.fromkeys(dict(model.named_parameters()), True)
        for name, rows in off.items():
            stays = torch.ones_like(model.get_parameter(name), dtype=torch.bool)
            stays[rows] = False
            update[name] = stays
        update = {
            name: one for name, one in update.items() if model.get_parameter(name).requires_grad
        }
        fit(
            model,
            lambda epoch: data.batches(Part.RETAIN, self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
            update=update,
        )
        return model
