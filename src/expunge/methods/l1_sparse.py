"""l1-sparse unlearning: fine-tune what is kept while a penalty makes the weights sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from expunge.data.parts import Part
from expunge.methods.base import SgdMethod
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.run import Run

NEAR_ZERO = 1e-3
"""A weight below this share of its tensor's largest counts as near zero."""


class Penalty(Settings):
    """What `L1Sparse` has beside SGD's settings."""

    gamma: float = Field(default=5e-4, ge=0, description="weight of the l1 norm; tune it")
    scheduler: Literal["decreasing", "constant", "increasing"] = Field(
        default="decreasing", description="how that weight goes over the epochs"
    )
    gamma_is: Literal["peak", "mean"] = Field(
        default="peak",
        description="gamma is the largest gamma_t, or the mean of all epochs",
        # a later field: left out where it changes nothing, a record is the same as before it was there
        exclude_if=lambda value: value == "peak",
    )
    proximal: bool = Field(default=False, description="soft-threshold after each step: exact zeros")


class L1Sparse(SgdMethod, Penalty):
    """SGD on loss(retain) + gamma_t ||theta||_1 over all parameters (Jia et al., equation 3).

    gamma_t in epoch t = 0 ... T - 1: constant gamma; increasing gamma t / T; decreasing
    gamma (1 - t / T), the paper's best. So the schedulers differ in dose too: the sums of gamma_t are
    as 2 : 3 : 1 for decreasing, constant and increasing at T = 3. gamma_is="mean" multiplies gamma_t
    so that its mean over the epochs is gamma, and compares them at equal dose.

    The l1 norm enters as a subgradient, as published, which brings weights near 0 but not to it.
    proximal=true soft-thresholds after each step instead, by lr gamma_t / (1 - momentum), the shrinking
    that the subgradient adds up to under momentum; then weights become exact zeros. The record has
    the share of exact zeros and of weights below 0.001 of their tensor's largest.

    Equation: min over theta of loss(D_r) + gamma_t |theta|_1.

    Cost: 10 passes over the retain set; as fine-tuning.

    Use it when the model may become sparse, or when plain fine-tuning forgets too little.

    Avoid it when accuracy is tight and gamma cannot be tuned: the penalty takes from what is kept
    too.
    """

    name: ClassVar[str] = "l1_sparse"
    paper: ClassVar[str] = "Jia et al., NeurIPS 2023, equation 3"
    reads: ClassVar[Part] = Part.RETAIN

    @model_validator(mode="after")
    def _has_a_mean(self) -> L1Sparse:
        if self.gamma_is == "mean" and self.scheduler == "increasing" and self.epochs == 1:
            raise ValueError(
                "increasing begins at 0, and one epoch is all there is, so no gamma has that mean; set "
                "epochs to 2 or more, or gamma_is to 'peak'"
            )
        return self

    def weight(self, progress: float) -> float:
        """gamma_t at a progress in [0, 1): t counts whole epochs."""
        share = self._share(int(progress * self.epochs + 1e-6))
        if self.gamma_is == "mean":
            share *= self.epochs / sum(map(self._share, range(self.epochs)))
        return self.gamma * share

    def _share(self, epoch: int) -> float:
        """gamma_t of the scheduler whose peak is 1."""
        passed = epoch / self.epochs
        return {"constant": 1.0, "increasing": passed, "decreasing": 1 - passed}[self.scheduler]

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import fit

        def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
            if self.proximal:
                return run.loss(model, batch)
            return run.loss(model, batch) + self.weight(progress) * l1_norm(model)

        def shrink(model: nn.Module, progress: float) -> None:
            soft_threshold(model, self.lr * self.weight(progress) / (1 - self.momentum))

        fit(
            model,
            lambda epoch: data.batches(Part.RETAIN, self.batch_size, epoch=epoch),
            loss,
            recipe=self.recipe(run),
            run=run,
            after_step=shrink if self.proximal else None,
        )
        with run.only_reported():
            run.log["zero_fraction"], run.log["near_zero_fraction"] = zero_fractions(model)
        return model


def l1_norm(model: nn.Module) -> Tensor:
    """Sum of |theta| over all parameters that are trained."""
    import torch

    return torch.stack([p.abs().sum() for p in model.parameters() if p.requires_grad]).sum()


def soft_threshold(model: nn.Module, size: float) -> None:
    """Move every trained weight towards 0 by `size`, in place; those nearer than that become 0."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.nn.functional.softshrink(parameter, size))


def zero_fractions(model: nn.Module) -> tuple[float, float]:
    """Share of all weights that are exactly 0, and share below 0.001 of their tensor's largest."""
    zero = near = total = 0
    for parameter in model.parameters():
        size = parameter.detach().abs()
        zero += int((size == 0).sum())
        near += int((size <= NEAR_ZERO * size.max()).sum()) if size.numel() else 0
        total += size.numel()
    return zero / total, near / total
