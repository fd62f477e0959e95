"""Retraining from scratch: exact, dear, and what every other method is read against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import Method, read_in_training

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run


class Retrain(Method):
    """Train a new model on the retain set with the original's recipe, unchanged.

    Weights start from a fresh draw, never from the original's. Under a pruning mask the same mask
    is held. Validation samples are read only where the recipe's schedule is "plateau", for it
    watches their loss.

    paired=true (preset `paired`) repeats the original's training instead: its initial weights, order,
    augmentation and batches, with the forget set struck out of each batch, so that only the removal
    differs; a batch of which fewer than two samples are left joins the one before it, and the rate is
    then behind until the epoch ends. It means nothing for an imported or a pruned model; after an
    earlier deletion its batches are those of what that left. Distances to it are read against their
    floor: training the original again, with nothing removed and a first batch half as large, ends some
    way off too. The record has that distance, and what it took stands apart in the cost. An original
    that another method has changed since has none.

    Equation: theta_r = argmin over theta of loss(D_r), by the original's recipe, from fresh
    weights.

    Cost: all epochs of the recipe over the retain set; nothing is saved, and nothing of the forget
    set can be left.

    Use it when a proof is wanted, or once in a while as the reference that says how good the others
    are.

    Avoid it when requests come often: each costs the whole training.
    """

    name: ClassVar[str] = "retrain"
    paper: ClassVar[str] = "exact unlearning; the reference of Jia et al., NeurIPS 2023"
    reads: ClassVar[Part] = Part.RETAIN | Part.VALIDATION
    needs_recipe: ClassVar[bool] = True
    guarantee: ClassVar[str] = "exact"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"paired": {"paired": True}}

    paired: bool = Field(
        default=False, description="repeat the original's training, batch by batch"
    )
    floor: bool = Field(
        default=True, description="with paired: train the original again, for the distance's floor"
    )

    def reads_now(self, recipe: Recipe | None, *, whole: bool) -> Part:
        """See the base: validation samples for the recipe's schedule alone."""
        return read_in_training(self.reads, recipe)

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.training.fit import train_from

        recipe = run.original_recipe()
        fresh = run.fresh()
        view = replace(data, cut="struck") if self.paired else data
        train_from(fresh, view, run, recipe)
        return fresh
