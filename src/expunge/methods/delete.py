"""DELETE: distil the original with the forgotten class struck out of its outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Rate, Scope, SgdMethod, StillNorm, WeightDecay

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.run import Run


class Delete(SgdMethod):
    """DELETE: learn, on the forget set alone, what the original says of it besides its class.

    Equation: minimise the mean over the forget set of KL(q || p), p = softmax(f(x)), and q the
    softmax of the original's logits with those of the sample's label and of all other forgotten
    classes set to minus infinity: the classes that stay keep the ratios that the original gives them.
    With one of these q is one-hot.

    The original is in evaluation mode. Classes are struck out by minus infinity itself, and never by a
    large number, which half precision cannot hold. Deviations: the program strikes out the sample's
    label alone, so that of several classes that go, now or by an earlier request, each is taught the
    others; normalisation layers keep their
    running statistics by default; the program lets them follow the forget set, as norm="train" does.
    Preset `released` has that and the rate of its settings for CIFAR-10.

    Cost: 20 passes over the forget set, each with a pass of the teacher; no retain sample is read.

    Use it when whole classes are to go and what is kept is not at hand, or too large to pass over.

    Avoid it when a class that goes is like no other, so that what the original says besides it is
    noise, or when features must forget: the probability of the class goes to 0 in the outputs, which
    scores take for forgetting, and a linear probe may still find it. The rate wants tuning, for
    nothing but it and the number of epochs holds the retained classes in place.
    """

    name: ClassVar[str] = "delete"
    paper: ClassVar[str] = "Zhou et al., CVPR 2025"
    reads: ClassVar[Part] = Part.FORGET
    scope: ClassVar[Scope] = "class"
    needs_classes: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "released": {"lr": 1e-4, "norm": "train"}
    }

    epochs: Epochs = Field(default=20, description="passes over the forget set")
    lr: Rate = 1e-3
    weight_decay: WeightDecay = 0.0
    batch_size: BatchSize = 128
    norm: StillNorm = "eval"

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from expunge.data.task import class_logits
        from expunge.methods.shared.distillation import divergence, given_labels, taught
        from expunge.training.fit import fit

        teacher, logits_of = run.teacher(model), class_logits(run.task)
        gone = data.forgotten_classes

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            others = without_label(taught(teacher, batch, run.task), given_labels(batch), gone)
            return run.mean(divergence(logits_of(model, batch), others), batch)

        fit(
            model,
            lambda epoch: data.batches(Part.FORGET, self.batch_size, epoch=epoch),
            loss,
            recipe=self.recipe(run),
            run=run,
            norm=self.norm,
        )
        return model


def without_label(logits: Tensor, labels: Tensor, gone: Collection[int] = ()) -> Tensor:
    """Logits (batch, classes) of any precision, those of each sample's label (batch,) and of forgotten
    classes `gone` at -inf.
    """
    from expunge.methods.shared.targets import open_classes

    return logits.masked_fill(~open_classes(labels, logits.shape[1], gone), float("-inf"))
