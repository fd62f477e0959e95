"""ReGUn: answer for forgotten samples as one answers for samples that were never seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Scope, SgdMethod, WeightDecay
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.run import Run


class Balance(Settings):
    """What `Regun` has beside SGD's settings."""

    retain_weight: float = Field(
        default=0.5, ge=0, le=1, description="of the retain loss; the rest is the forget loss's"
    )


class Regun(SgdMethod, Balance):
    """ReGUn: distil the forget set to what the original says of held-out samples of the same classes.

    Equation: (1 - retain_weight) KL(q || p(x)) on the forget set + retain_weight * cross-entropy on
    the retain set, where q = sum_c h_c m_c: h_c is the share of class c in the forget batch, and m_c the
    mean of the original's probabilities over the validation samples of class c (over all of them for a
    class that has none there).

    The authors draw as many held-out samples as the batch has, anew in each step; here their mean stands
    for them, which has the same gradient on average and none of the drawing's noise. Evaluation mode, no
    augmentation, probabilities at temperature 1.

    The validation samples so used may judge no more: scores on them say too much good of this model. The
    record and a warning tell how many, and tuning takes one half of them and judges by the other. The
    test set is not touched.

    Defaults are those of the authors' program: SGD at 0.01 without decay, 10 epochs, batch 128. Only
    workshops have reviewed it.

    Cost: 10 passes over the forget set and as many retain samples; a batch of them where the
    forget set is smaller; one over the validation samples.

    Use it when single samples of classes that stay are to be forgotten, and validation samples are at
    hand that nobody needs to judge by: it aims at what a retrained model says, not at being wrong.

    Avoid it when a whole class must go, for it keeps naming the class; without enough validation samples
    of each class; and to report scores on these. All samples of a batch get the same target, so a forget
    set of many classes is taught to name none, and gets more wrong than a retrained model would: a small
    retain set feels it, too.
    """

    name: ClassVar[str] = "regun"
    paper: ClassVar[str] = "Mirlach et al., ICLR 2026 workshops"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET | Part.VALIDATION
    scope: ClassVar[Scope] = "random"
    needs_classes: ClassVar[bool] = True

    epochs: Epochs = Field(default=10, description="passes over the forget set")
    weight_decay: WeightDecay = 0.0
    batch_size: BatchSize = Field(default=128, description="samples of each set a step")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError without validation samples."""
        import torch
        from torch.nn import functional

        from expunge.data.task import class_logits
        from expunge.methods.shared.beside import retain_beside_forget
        from expunge.methods.shared.held_out import held_out_means
        from expunge.training.fit import fit

        means = held_out_means(model, data, run, self.batch_size)
        observe = class_logits(run.task)

        def loss(model: nn.Module, pair: tuple[Batch, Batch], _: float) -> Tensor:
            struck, kept = pair
            own = torch.bincount(struck.labels, minlength=len(means))  # type: ignore[arg-type]
            counts = run.sum(own * bool(struck.weight)).to(means)
            target = (counts[:, None] * means).sum(0) / counts.sum()
            says = observe(model, struck).log_softmax(1)
            apart = functional.kl_div(says, target.expand_as(says), reduction="none").sum(1)
            forget = run.mean(apart, struck)
            return (1 - self.retain_weight) * forget + self.retain_weight * run.loss(model, kept)

        fit(
            model,
            lambda epoch: retain_beside_forget(data, self.batch_size, epoch=epoch),
            loss,
            recipe=self.recipe(run),
            run=run,
        )
        return model
