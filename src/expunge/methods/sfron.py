"""SFRon: climb on the forget set where it matters more than the retain set, and repair all along."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, count
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Method, Momentum, Rate, WeightDecay, constant_rate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.loop import Hook
    from expunge.training.run import Run

    After = Callable[[nn.Module, float], None]

LEAST_LOSS = 1e-6
"""A loss below this counts as this in a weight, which would else have no bound."""


class Sfron(Method):
    """Saliency forgetting in the remain-preserving manifold: ascent on some weights, descent on all.

    Equation: a weight is in the mask m where F_f >= gamma F_r, the means of squared per-sample
    gradients over forget and retain set. In each of `steps` steps t theta descends on the retain loss;
    ahead of every fifth, the first among them, it climbs on m a_t sum w_i loss_i over a batch of the
    forget set, its gradient clipped to norm 7, with w_i in proportion to loss_i^(-power), the sum of
    w_i 1, and a_t = alpha (1 + cos(pi t / steps)) / 2. After each step t theta becomes
    (1 - beta) theta_before + beta theta. The rate of SGD falls along a cosine over all steps, those of
    the forget set counted.

    Squares are taken sample by sample and compared without division; the released program squares the
    mean gradient of a batch. With beta = 1, which is released, there is no slow copy of the weights.

    As released, one optimiser makes both kinds of steps, so its momentum carries each on into the
    other. After a forget step the weights outside m are put back to the bit: neither momentum nor decay
    moves them there, as they do in the released program; their momentum fades by its factor meanwhile.

    Cost: 1,500 batches of 128 retain samples; a fifth as many of forget samples, and before them one
    pass over all samples, per sample.

    Use it when a class or many samples are to be forgotten and accuracy on the rest must hold: each
    climb is confined, weighed towards what the model still knows best, and repaired at once.

    Avoid it when the data are few: 1,500 steps of 128 are 4 passes over 50,000 samples, and 107 over
    1,800, where retraining is cheaper; set steps. On random samples of classes that stay, the repair can
    bring back what the climbs took: it then ends near the original, and scores well by that alone.
    """

    name: ClassVar[str] = "sfron"
    paper: ClassVar[str] = "Huang et al., NeurIPS 2024"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    diverges: ClassVar[Mapping[str, object]] = {"lr": 1e8}

    steps: int = Field(default=1500, ge=1, description="steps on the retain set")
    every: int = Field(default=5, ge=1, description="retain steps for each forget step")
    lr: Rate = Field(default=0.01, description="learning rate, which falls along a cosine")
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    batch_size: BatchSize = 128
    alpha: float = Field(default=25.0, ge=0, description="weight of the forget loss at the start")
    power: float = Field(
        default=0.5,
        ge=0,
        description="lambda: how much more a small forget loss weighs; 0: as much",
    )
    gamma: float = Field(
        default=1.0, ge=0, description="mask where F_f >= gamma F_r; 0: everywhere"
    )
    beta: float = Field(
        default=1.0, gt=0, le=1, description="share of the fast weights; 1: no others"
    )
    clip_norm: float = Field(default=7.0, gt=0, description="largest gradient of a forget step")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import fit
        from expunge.training.loop import StepRule

        before, after = confined(self._mask(model, data, run), model, self.beta)
        total = self.steps + math.ceil(self.steps / self.every)

        def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
            if batch.part is not Part.FORGET:
                return run.loss(model, batch)
            step = round(progress * total) // (self.every + 1) * self.every
            dose = self.alpha * (1 + math.cos(math.pi * step / self.steps)) / 2
            return -dose * self._weighted(model, batch, run)

        fit(
            model,
            lambda _: self._turns(data),
            loss,
            recipe=constant_rate(
                run,
                epochs=1,
                lr=self.lr,
                batch_size=self.batch_size,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
            ).but(schedule="cosine"),
            run=run,
            steps=total,
            by_part={Part.FORGET: StepRule(clip_norm=self.clip_norm)},
            after_backward=before,
            after_step=after,
        )
        return model

    def _mask(self, model: nn.Module, data: DataView, run: Run) -> dict[str, Tensor]:
        """Where the forget set matters at least gamma times as much as the retain set."""
        from expunge.per_sample import fisher_diagonal

        forget, retain = (
            fisher_diagonal(
                model,
                data.batches(part, self.batch_size, shuffle=False, augment=False),
                run,
                labels="true",
                mask=run.mask,
            )
            for part in (Part.FORGET, Part.RETAIN)
        )
        mask = {name: forget[name] >= self.gamma * retain[name] for name in forget}
        inside = sum(int(one.sum()) for one in mask.values())
        run.log["mask_fraction"] = inside / sum(one.numel() for one in mask.values())
        return mask

    def _turns(self, data: DataView) -> Iterator[Batch]:
        """A forget batch ahead of every fifth retain batch; both sets cycled, shuffled anew."""
        forget, retain = self._endless(data, Part.FORGET), self._endless(data, Part.RETAIN)
        for step in range(self.steps):
            if step % self.every == 0:
                yield next(forget)
            yield next(retain)

    def _endless(self, data: DataView, part: Part) -> Iterator[Batch]:
        return chain.from_iterable(
            data.batches(part, self.batch_size, epoch=epoch) for epoch in count()
        )

    def _weighted(self, model: nn.Module, batch: Batch, run: Run) -> Tensor:
        """Sum w_i loss_i over the global batch, as this process's share of it."""
        losses = run.task.losses(model, batch)
        # a stand-in of another process's batch has no weight
        weights = losses.detach().clamp(min=LEAST_LOSS).pow(-self.power) * bool(batch.weight)
        return (weights * losses).sum() * run.world / run.sum(weights.sum())


def confined(mask: Mapping[str, Tensor], model: nn.Module, beta: float) -> tuple[Hook, After]:
    """What `fit` is to call before and after each step.

    In a forget step gradients are cut to the mask, and weights outside it put back afterwards. After
    other steps the weights become the mean with what they were after the one before; beta: share of the
    new ones.
    """
    import torch

    held: dict[str, Tensor] = {}
    slow = {n: p.detach().clone() for n, p in model.named_parameters() if beta < 1}

    def before(model: nn.Module, batch: Batch, _: float) -> None:
        for name, parameter in model.named_parameters() if batch.part is Part.FORGET else ():
            if parameter.grad is not None:
                held[name] = parameter.detach().clone()
                parameter.grad.mul_(mask[name])

    def after(model: nn.Module, _: float) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in held:
                    parameter.copy_(torch.where(mask[name], parameter, held.pop(name)))
                elif name in slow:
                    parameter.copy_(slow[name].lerp_(parameter, beta))

    return before, after
