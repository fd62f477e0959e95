"""Boundary Shrink: give each sample of a class to the class that lies nearest to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Rate, Scope, SgdMethod, StillNorm, WeightDecay

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.methods.shared.attack import Bounds, Logits
    from expunge.training.run import Run


class BoundaryShrink(SgdMethod):
    """Boundary Shrink: train the samples of a class towards the class across the nearest boundary.

    Equation: cross-entropy of (x, y') on the forget set, with y' the class, of those that stay, that
    the original f thinks likeliest at x + epsilon sign(gradient of f's loss at x): one step of the fast
    gradient sign method.

    The step is made once, against the original in evaluation mode. Where it fails to reach another
    class, the authors' program takes y' = y, and trains the sample in rather than out; here y' is then
    the runner-up, and the record says for how many (`step_failed`). Where several classes go, or
    went by an earlier request, none of them is a y' either.

    epsilon is a share of a channel's range, so 0.1 is a tenth of the way from black to white, and the
    moved picture stays between these, through the normalisation. It is not rounded to bytes. Inputs
    other than bytes are moved by epsilon as it is, without bounds, of which a warning tells; token ids
    are refused. Samples are never augmented.

    Deviation: normalisation layers keep their running statistics by default. The authors' program trains
    them on the forgotten class alone, which shifts every prediction; norm="train" does the same.

    Defaults are those of the released program (lr 1e-5, batch 64, no decay), but for 20 epochs where it
    makes 10. At this rate a small class hardly moves: tune it, on a seed not reported.

    Cost: 20 passes over the forget set; before, one more, forward and backward. It reads nothing else.

    Use it when a whole class must go and the data that stay are out of reach.

    Avoid it when what the class looked like must go too: the outputs are moved to a neighbour, and what
    they are made from is hardly touched, so that a probe on the features may still find the class, and
    a membership attack that class's samples in another. Nothing holds what stays in place but few steps.
    """

    name: ClassVar[str] = "boundary_shrink"
    paper: ClassVar[str] = "Chen et al., CVPR 2023"
    reads: ClassVar[Part] = Part.FORGET
    scope: ClassVar[Scope] = "class"
    needs_classes: ClassVar[bool] = True

    epochs: Epochs = Field(default=20, description="passes over the forget set")
    lr: Rate = Field(default=1e-5, description="learning rate; tune it, on a seed not reported")
    weight_decay: WeightDecay = 0.0
    batch_size: BatchSize = 64
    epsilon: float = Field(
        default=0.1, gt=0, description="length of the step, as a share of a channel's range"
    )
    norm: StillNorm = "eval"

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError for inputs that cannot be moved."""
        import torch

        from expunge.data.derived import DerivedSource
        from expunge.methods.shared.attack import looked_at, sign_step
        from expunge.methods.shared.targets import open_classes
        from expunge.training.fit import fit

        struck, gone = data.source(Part.FORGET), data.forgotten_classes

        def look(
            logits: Logits, inputs: Tensor, labels: Tensor, bounds: Bounds
        ) -> tuple[Tensor, ...]:
            with torch.no_grad():
                there = logits(sign_step(logits, inputs, labels, bounds, self.epsilon))
            staying = there.masked_fill(~open_classes(labels, there.shape[1], gone), -torch.inf)
            return staying.argmax(1), (there.argmax(1) == labels).long()

        nearest, failed = looked_at(model, struck, struck.bounds, run, self.batch_size, look)
        run.log["step_failed"] = int(failed.values.sum())

        def relabelled(batch: Batch) -> Batch:
            return batch.relabelled(nearest.of(batch))

        moved = DerivedSource(struck, relabelled)
        fit(
            model,
            lambda epoch: moved.batches(self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
            norm=self.norm,
        )
        return model
