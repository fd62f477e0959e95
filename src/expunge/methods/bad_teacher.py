"""Bad teaching: learn from an untrained network on the forget set, from the original on the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Method, Rate, constant_rate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.run import Run


class BadTeacher(Method):
    """Bad teaching: answer like an untrained network on the forget set, as before on the rest.

    Equation: minimise the mean over the forget set and a share of the retain set, shuffled together,
    of KL(t(x) || f(x)), with both softmaxes at temperature T: t is the bad teacher on the forget
    set, and the original on the retain samples.

    The bad teacher is a network of the same architecture with weights drawn anew by the run's seed.
    Both teachers are in evaluation mode, the student is in training mode; the share is drawn once.

    Deviation: the divergence is summed over classes and averaged over samples. The authors' program
    also divides by the number of classes, as its function does unless told otherwise; that hardly
    matters to Adam, and would to any other optimiser.

    Cost: 1 pass over the forget set and 30 percent of the retain set; each step has a pass of both
    teachers.

    Use it when it must be quick, for requests of any kind, and outputs near chance on what was
    forgotten are wanted.

    Avoid it when the model is to be like a retrained one: a retrained model gets most random samples
    right and is sure of some of them, this one is unsure of all that it was asked to forget, and to
    be so unsure gives them away to a membership attack. Layers that were right for the original
    stay, and a linear probe or a little training may bring the forget set back.
    """

    name: ClassVar[str] = "bad_teacher"
    paper: ClassVar[str] = "Chundawat et al., AAAI 2023"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    needs_classes: ClassVar[bool] = True
    diverges: ClassVar[Mapping[str, object]] = {"lr": 1e8}

    epochs: Epochs = Field(default=1, description="passes over both sets")
    lr: Rate = Field(default=1e-4, description="learning rate of Adam")
    batch_size: BatchSize = Field(default=256, description="samples of both sets a step")
    retain_share: float = Field(
        default=0.3, gt=0, le=1, description="share of the retain set that is read"
    )
    temperature: float = Field(default=1.0, gt=0, description="T of both softmaxes")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import torch

        from expunge.data.task import class_logits
        from expunge.methods.shared.distillation import divergence, taught
        from expunge.training.fit import fit

        bad, good = run.teacher(run.fresh("bad_teacher")), run.teacher(model)
        logits_of = class_logits(run.task)
        count = max(1, round(self.retain_share * data.size(Part.RETAIN)))
        both = data.mix(data.source(Part.FORGET), data.take(Part.RETAIN, count))

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            lessons = taught(bad, batch, run.task), taught(good, batch, run.task)
            lesson = torch.where(batch.forget.unsqueeze(1), *lessons)
            return run.mean(divergence(logits_of(model, batch), lesson, self.temperature), batch)

        fit(
            model,
            lambda epoch: both.batches(self.batch_size, epoch=epoch),
            loss,
            recipe=constant_rate(
                run, epochs=self.epochs, lr=self.lr, batch_size=self.batch_size, optimizer="adam"
            ),
            run=run,
        )
        return model
