"""The learning rate over a run: torch's schedulers, stepped per step or per epoch as each wants."""

from __future__ import annotations

import warnings

import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
)

from expunge.training.pace import Pace
from expunge.training.recipe import Recipe


class Schedule:
    """steps: of an epoch; None where a stream does not say.

    pace: the training's length; smooth schedules go by steps where it is known in steps, else by
    epochs. They start as if the epochs before its first were over.
    """

    def __init__(
        self,
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        steps: int | None,
        pace: Pace,
    ) -> None:
        self.by_step: LRScheduler | None = None
        self.by_epoch: LRScheduler | None = None
        self.plateau: ReduceLROnPlateau | None = None
        known = pace.total(steps)
        total = known or recipe.epochs
        smooth: LRScheduler | None = None
        if recipe.schedule == "step":
            self.by_epoch = MultiStepLR(optimizer, list(recipe.milestones), gamma=recipe.gamma)
        elif recipe.schedule == "cosine":
            smooth = CosineAnnealingLR(optimizer, T_max=total)
        elif recipe.schedule == "onecycle":
            rising = recipe.warmup_fraction
            if rising * (total + 1) == 1:  # torch would divide by the length of the warm-up, 0
                rising *= 1 - 1e-9
            smooth = OneCycleLR(
                optimizer,
                max_lr=recipe.lr,
                total_steps=total + 1,
                cycle_momentum=False,
                pct_start=rising,
            )
        elif recipe.schedule == "triangle":
            self.by_epoch = LambdaLR(optimizer, lambda epoch: triangle(epoch, recipe.epochs))
        elif recipe.schedule == "plateau":
            self.plateau = ReduceLROnPlateau(
                optimizer, factor=recipe.gamma, patience=recipe.patience
            )
        if known:
            self.by_step = smooth
        elif smooth is not None:
            self.by_epoch = smooth
        with warnings.catch_warnings():
            # no step of the optimiser goes before these, and that is meant
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            for _ in range(pace.first_epoch):
                for _ in range(steps or 0):
                    self.after_step()
                self.after_epoch(None)

    def after_step(self) -> None:
        """Advance what goes by steps."""
        if self.by_step is not None:
            self.by_step.step()

    def after_epoch(self, validation: float | None) -> None:
        """Advance what goes by epochs."""
        if self.by_epoch is not None:
            self.by_epoch.step()
        if self.plateau is not None and validation is not None:
            self.plateau.step(validation)


def triangle(epoch: int, epochs: int) -> float:
    """Share of the learning rate in an epoch from 0: it rises by equal parts to 1 in the first
    (epochs + 1) // 2, then falls by equal parts; 0 after the last.
    """
    rising = (epochs + 1) // 2
    if epoch < rising:
        return (epoch + 1) / rising
    return max(0, epochs - epoch) / (epochs + 1 - rising)
