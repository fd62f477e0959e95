"""ANP: switch off the channels that a small change of the weights turns against the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Method, Momentum, Scope, constant_rate

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class Anp(Method):
    """Adversarial neuron pruning: find by clean data the channels that carry a backdoor, and cut them.

    Equation: min over m in [0, 1]^n of alpha L(m w, b) + (1 - alpha) max over delta, xi in
    [-epsilon, epsilon]^n of L((m + delta) w, (1 + xi) b), where w is the row of weights of a channel, b
    its bias and L the loss on clean samples; then w = 0 in each channel with m < threshold. A backdoor
    answers to small changes of the channels that it lives in, so the masks of these fall.

    A channel is an entry of the weights of a normalisation layer where the model has such, as in the
    paper; else a row of a convolution or a linear layer, but the last. The worst change is found from 0
    by steps of the sign of the gradient; the masks by SGD, cut to [0, 1] after each step. Nothing is
    fine-tuned, and no other weight changes. The record has the masks' lowest value and how many channels
    were cut, and warns where that is none.

    Deviation: the released program begins the worst change at a random place. As there, normalisation
    layers go by the batch while the masks are learned, and have their running statistics back after.

    Cost: 2000 steps on 500 samples, three forward and backward passes each; the rest is never read.

    Use it when a model may hold a backdoor and there is a little clean data, but no poison is known. It
    wants no label of the attacker's, and its result is the same network with some channels at 0.

    Avoid it when the trigger is spread over all channels (blends, warps), or the network is so small
    that its channels do several things at once: accuracy falls with the backdoor. Compare thresholds.
    """

    name: ClassVar[str] = "anp"
    paper: ClassVar[str] = "Wu and Wang, NeurIPS 2021 (adversarial neuron pruning)"
    reads: ClassVar[Part] = Part.RETAIN
    scope: ClassVar[Scope] = "backdoor"

    epsilon: float = Field(
        default=0.4, gt=0, description="how far a channel's weight may be changed"
    )
    alpha: float = Field(
        default=0.2, ge=0, le=1, description="share of the loss without the change"
    )
    threshold: float = Field(
        default=0.2, ge=0, le=1, description="channels whose mask is below are cut; tune it"
    )
    steps: int = Field(default=2000, ge=1, description="steps of the masks")
    step_size: float = Field(default=0.2, gt=0, description="learning rate of the masks")
    momentum: Momentum = 0.9
    ascent_steps: int = Field(default=1, ge=1, description="steps to the worst change, each time")
    samples: int = Field(default=500, ge=1, description="clean samples that are looked at")
    batch_size: BatchSize = 128

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ModelError for a model without channels that may change."""
        from dataclasses import replace

        from expunge.methods.shared.channel_masks import ChannelMasks
        from expunge.methods.shared.channels import channels_of, switch_off
        from expunge.training.fit import fit

        masks = ChannelMasks(
            model,
            channels_of(model, run),
            run,
            alpha=self.alpha,
            epsilon=self.epsilon,
            ascent_steps=self.ascent_steps,
        )
        clean = data.take(Part.RETAIN, self.samples)
        recipe = constant_rate(
            run,
            epochs=1,
            lr=self.step_size,
            batch_size=self.batch_size,
            momentum=self.momentum,
        )
        with masks.by_the_batch(model):
            fit(
                masks,
                lambda epoch: clean.batches(self.batch_size, epoch=epoch),
                lambda masks, batch, _: masks(batch),
                recipe=recipe,
                run=replace(run, mask=None),  # its names are the model's; 0 times a mask stays 0
                steps=self.steps,
                rate="step_size",
                after_step=lambda _, __: masks.cut(),
            )
        off = masks.below(self.threshold)
        switch_off(model, off)
        cut = sum(int(one.sum()) for one in off.values())
        run.log["channels"] = {"cut": cut, "of": masks.count, "lowest": masks.lowest}
        if not cut:
            run.log.setdefault("warnings", []).append(
                f"{run.label} cut no channel: the lowest of {masks.count} masks is {masks.lowest:.2f}, "
                f"and the threshold {self.threshold:g}; raise threshold or steps"
            )
        return model
