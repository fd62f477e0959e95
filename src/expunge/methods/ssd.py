"""SSD: dampen the weights that matter far more to the forget set than to all the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.errors import ConfigError
from expunge.methods.base import Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.view import DataView, Source
    from expunge.training.run import Run

NEXT_TO_NOTHING = 1e-3
"""Share of the weights below which dampening is warned of."""


class Ssd(Method):
    """Selective synaptic dampening: shrink each weight that matters more to the forget set than to all.

    Equation: I_S = (1/|S|) sum over x in S of (d loss(x) / d theta)^2, the importance of each weight to
    a set S. Where I_F > alpha I_D, F the forget set and D all samples that the model retains or is to
    forget, theta becomes theta min(dampening I_D / I_F, 1). No weight grows or changes its sign.

    Squares are taken sample by sample, in evaluation mode without augmentation. The released program
    squares the mean gradient of a batch, so that alpha means something else at each batch size. As D
    holds F, I_F is at most |D| / |F| times I_D: the published alpha of 10 selects nothing where a tenth
    of the data goes. So the default is 10, or half of |D| / |F| if that is smaller, and an alpha out of
    reach is refused. A weight that nothing depends on, 0 in both, stays.

    I_D is taken once for a model and kept beside its folder, or in memory for a model without one; it
    serves these weights and samples alone, and never holds what was struck before. Its file is as
    large as the weights and may be removed at any time; its last bits depend on which request came
    first. The record says which share of the weights was dampened; it warns where that is less than one
    in a thousand, for then little or nothing was forgotten.

    Cost: one pass over all samples, per sample; a second request to the same model costs one pass over
    its forget set. No training.

    Use it when requests are small and come often, or whole classes go: it takes seconds where others
    train. Compare several alphas on validation samples: beside a folder each costs a pass over the
    forget set; studies and trials take I_D each time, for costs are compared there.

    Avoid it when a large forget set looks like the samples that stay: then hardly any weight stands
    out, the model stays where it is, and scores well on a random request for that alone. With alpha too
    low it destroys what is kept, and no training repairs it; look at the accuracy on what is retained.
    """

    name: ClassVar[str] = "ssd"
    paper: ClassVar[str] = "Foster et al., AAAI 2024 (selective synaptic dampening)"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    seeded: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    alpha: float | None = Field(
        default=None,
        ge=0,
        description="weights with I_F > alpha I_D are dampened; null: 10, or |D| / 2 |F| if smaller",
    )
    dampening: float = Field(
        default=1.0, ge=0, description="lambda: what is left of a chosen weight, times I_D / I_F"
    )
    batch_size: int = Field(default=256, ge=1, description="samples a pass; changes no result")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import torch

        struck, retain = data.source(Part.FORGET), data.source(Part.RETAIN)
        alpha = self._alpha((len(struck) + len(retain)) / len(struck), run)
        forget = self._importance(model, struck, run)

        def of_all() -> Mapping[str, Tensor]:
            share = len(struck) / (len(struck) + len(retain))
            kept = self._importance(model, retain, run)
            return {n: value.lerp(forget[n], share) for n, value in kept.items()}

        everything = run.statistic("importance", model, of_all, labels="true")
        chosen = total = 0
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in forget:
                    above = forget[name] > alpha * everything[name]
                    left = self.dampening * everything[name] / forget[name]
                    # not by a mask that is multiplied: 0 / 0 stands where nothing is chosen
                    weight.mul_(left.clamp(max=1).where(above, 1.0))
                    chosen, total = chosen + int(above.sum()), total + above.numel()
        run.log["alpha"], run.log["dampened_fraction"] = alpha, chosen / total
        if chosen < NEXT_TO_NOTHING * total:
            which = f"{chosen / total:.4%} of the weights matter" if chosen else "no weight matters"
            run.log.setdefault("warnings", []).append(
                f"{run.label}: {which} alpha = {alpha:g} times as much to the forget set as to all "
                f"samples, so {'hardly any' if chosen else 'none'} was dampened and "
                f"{'little' if chosen else 'nothing'} is forgotten; lower alpha"
            )
        return model

    def _alpha(self, most: float, run: Run) -> float:
        """The factor above which a weight is chosen; most: what I_F / I_D can be."""
        if self.alpha is None:
            return min(10.0, most / 2)
        if self.alpha >= most:
            raise ConfigError(
                f"{run.label}: alpha = {self.alpha:g} selects no weight, for of this forget set I_F is "
                f"at most {most:.4g} times I_D; set alpha below that, or leave it out"
            )
        return self.alpha

    def _importance(self, model: nn.Module, source: Source, run: Run) -> dict[str, Tensor]:
        """Mean of the squared gradients of each sample's loss; pruned weights get 0."""
        from expunge.per_sample import fisher_diagonal

        batches = source.batches(self.batch_size, shuffle=False, augment=False)
        with run.progress.work(f"{run.label}, importance"):
            return fisher_diagonal(model, batches, run, labels="true", mask=run.mask)
