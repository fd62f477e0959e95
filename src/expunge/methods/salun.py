"""SalUn: random labels, taught to the weights alone that the forget set speaks to most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.methods.random_label import RandomLabel
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class Saliency(Settings):
    """What `Salun` has beside the settings of `RandomLabel`."""

    share: float = Field(
        default=0.5, gt=0, le=1, description="of the weights, how many are salient and may change"
    )


class Salun(RandomLabel, Saliency):
    """Random labels, trained into the weights alone with the largest gradient on the forget set.

    Equation: g = sum of grad loss(x, y) over the forget set, at the original, in evaluation mode; m = 1
    for the `share` of all parameters together with the largest |g|, else 0. Then `random_label` with
    theta = theta_o wherever m = 0, after each step.

    The number of salient weights is exact: of equal |g| those count first that the model names first.
    Weights that a pruning mask cuts, or that come frozen, count in no share. What is not salient stays
    bit-identical, running statistics of a normalisation layer without a salient weight too. The record
    has each parameter's share of salient weights.

    Deviations from the authors' program: labels are wrong ones, as the paper has it (preset `program`
    draws from all, as the program does); all samples weigh alike, where it adds up means of batches, so
    that a short last batch weighs more. To mask gradients alone, as copies of it do, is not enough:
    weight decay then moves all weights.

    Cost: 10 passes over all the data; and before, one over the forget set.

    Use it when `random_label` costs too much accuracy on what is kept: half of the weights stay put.
    With share 1 it is `random_label`.

    Avoid it when forgotten samples should look like unseen ones, as with `random_label`: the labels are
    the same, and so are the marks that they leave.
    """

    name: ClassVar[str] = "salun"
    paper: ClassVar[str] = "Fan et al., ICLR 2024 (SalUn)"
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"program": {"draw": "all"}}

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        salient = self.salient(model, data, run)
        with run.only_reported():
            run.log["salient"] = {name: float(m.double().mean()) for name, m in salient.items()}
        self.teach(model, data, run, update=salient)
        return model

    def salient(self, model: nn.Module, data: DataView, run: Run) -> dict[str, Tensor]:
        """Parameter name -> bool tensor of its shape, of all that are trained: which may change."""
        import torch

        from expunge.data.parts import Part
        from expunge.models.mask import keep_largest
        from expunge.per_sample import weighted_gradient

        forget = data.batches(Part.FORGET, self.batch_size, shuffle=False, augment=False)
        with run.progress.work(f"{run.label}, saliency"):
            found = weighted_gradient(model, forget, run)
        left = {name: torch.ones_like(g, dtype=torch.bool) for name, g in found.items()}
        left |= {
            name: keep.to(found[name].device)
            for name, keep in (run.mask or {}).items()
            if name in left
        }
        count = max(1, round(self.share * sum(int(keep.sum()) for keep in left.values())))
        total = sum(keep.numel() for keep in left.values())
        scores = {name: g.abs() for name, g in found.items()}
        return dict(keep_largest(scores, 1 - count / total, left))
