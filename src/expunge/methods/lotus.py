"""LoTUS: smooth what the model says of the forget set until it is as unsure as of samples never seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Method, Rate, WeightDecay, constant_rate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch, Ids
    from expunge.data.view import DataView
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run


class Lotus(Method):
    """LoTUS: smooth the outputs on the forget set until it is classified worse than unseen samples.

    Equation: ahead of epoch e, D_e is the accuracy on the forget set less that of the original on
    validation samples, both in [0, 1], and tau_e = exp(alpha * D_e). The epoch minimises the mean
    cross-entropy of the student with softmax((z + g) / tau_e) on the forget set, z being the
    original's logits and g Gumbel(0, 1) noise drawn anew in each epoch, and with the class that the
    original says on a share of the retain set, both shuffled together. It ends when D_e <= -margin, by
    default when it is a whole point worse than on unseen samples.

    Of a class that goes whole no model is ever right that never saw it: the validation accuracy is
    replaced by 0 for that share of the forget set which is of such classes, as the paper does it
    where all of it is; no accuracy is below that, so it then makes all epochs unless margin is 0. A
    model that is so far below from the start comes back as it was, and the record warns of it. The
    record has D_e and tau_e ahead of each epoch, and after an early end those that ended it. Validation
    samples are read unless only whole classes go; the record warns that they may not judge the result
    then.

    Noise is each sample's own, by the run's seed, its id and the epoch: it is the same in any batch,
    on any device and in any number of processes. Deviations: the authors' program rounds accuracies
    to whole percents, so that one that is 0.6 percent away counts as a whole one, and its retain
    targets are classes drawn by the original's probabilities. Presets `classes` (alpha 32),
    `many_classes` (alpha 2; CIFAR-100, Tiny ImageNet) and `transformer` have that program's other
    settings.

    Cost: at most 10 passes over the forget set and 30 percent of the retain set; each with a pass of
    the teacher. One pass over the forget set an epoch measures accuracy.

    Use it when the original is overconfident on what it learned, random samples are to go, and
    validation samples are at hand.

    Avoid it when the original is no surer of the forget set than of unseen samples, for then it
    stays put, which looks good on random requests; when there are few validation samples, for the
    accuracy that it stops at is measured on them; and when features must forget, for outputs alone
    are looked at.
    """

    name: ClassVar[str] = "lotus"
    paper: ClassVar[str] = "Spartalis et al., CVPR 2025; settings of its program"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET | Part.VALIDATION
    needs_classes: ClassVar[bool] = True
    diverges: ClassVar[Mapping[str, object]] = {"lr": 1e8}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "classes": {"alpha": 32.0},
        "many_classes": {"alpha": 2.0},
        "transformer": {"alpha": 2.0, "epochs": 3, "lr": 1e-6, "batch_size": 32},
    }

    alpha: float = Field(default=8.0, ge=0, le=100, description="how fast tau grows with D_e")
    margin: float = Field(
        default=0.01, ge=0, description="how far below validation accuracy is enough, of 1"
    )
    retain_share: float = Field(
        default=0.3, gt=0, le=1, description="share of the retain set that is read"
    )
    epochs: Epochs = Field(default=10, description="passes over both sets, at most")
    lr: Rate = Field(default=1e-4, description="learning rate of AdamW")
    weight_decay: WeightDecay = Field(default=5e-4, description="of AdamW, decoupled")
    batch_size: BatchSize = Field(default=128, description="samples of both sets a step")

    def reads_now(self, recipe: Recipe | None, *, whole: bool) -> Part:
        """See the base: of whole classes nobody asks what unseen samples are like."""
        return self.reads if not whole else self.reads & ~Part.VALIDATION

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import torch
        from torch.nn import functional

        from expunge.data.task import class_logits
        from expunge.methods.shared.distillation import taught
        from expunge.methods.shared.unseen import share_right, unseen_like
        from expunge.training.fit import fit

        teacher, logits_of = run.teacher(model), class_logits(run.task)
        struck = data.source(Part.FORGET)
        count = max(1, round(self.retain_share * data.size(Part.RETAIN)))
        both = data.mix(struck, data.take(Part.RETAIN, count))
        reference = unseen_like(data, run, same_classes=False).right(teacher, run, self.batch_size)
        gaps: list[float] = []  # D_e, the one that ends it too

        def enough(model: nn.Module, epoch: int) -> bool:
            if epoch + 1 < self.epochs:
                gaps.append(share_right(model, struck, run, self.batch_size) - reference)
            return gaps[-1] <= -self.margin

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            seen = taught(teacher, batch, run.task)
            noise = gumbel(batch.ids, seen.shape[1], *run.names, "gumbel", len(gaps)).to(seen)
            soft = functional.softmax((seen + noise) / math.exp(self.alpha * gaps[-1]), dim=1)
            hard = functional.one_hot(seen.argmax(dim=1), seen.shape[1]).to(seen)
            targets = torch.where(batch.forget.unsqueeze(1), soft, hard)
            own = logits_of(model, batch)
            return run.mean(functional.cross_entropy(own, targets, reduction="none"), batch)

        if not enough(model, -1):
            fit(
                model,
                lambda epoch: both.batches(self.batch_size, epoch=epoch),
                loss,
                recipe=constant_rate(
                    run,
                    epochs=self.epochs,
                    lr=self.lr,
                    batch_size=self.batch_size,
                    weight_decay=self.weight_decay,
                    optimizer="adamw",
                ),
                run=run,
                after_epoch=enough,
            )
        else:
            run.log.setdefault("warnings", []).append(
                f"lotus changed nothing: the model is right on {reference + gaps[0]:.1%} of the forget "
                f"set and on {reference:.1%} of unseen samples, so it has nothing to smooth"
            )
        run.log["accuracy_gaps"] = gaps
        run.log["temperatures"] = [math.exp(self.alpha * gap) for gap in gaps]
        return model


def gumbel(ids: Ids, classes: int, *names: str | int) -> Tensor:
    """Gumbel(0, 1) noise (samples, classes), float64, on the CPU: each sample's own, by its id."""
    import numpy as np
    import torch

    from expunge.names.seeds import numpy_generator

    rows = [numpy_generator(*names, str(one)).gumbel(size=classes) for one in ids]
    return torch.from_numpy(np.stack(rows))
