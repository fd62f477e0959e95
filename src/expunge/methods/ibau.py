"""I-BAU: unlearn the universal change of inputs that fools the model most, by the implicit gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Method, Rate, Scope, StillNorm, constant_rate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.chain import Chain
    from expunge.data.view import DataView
    from expunge.training.run import Run


class Ibau(Method):
    """Implicit backdoor adversarial unlearning: stand against the worst change that fits all inputs.

    Equation: min over theta of H(delta*(theta), theta), H = mean of loss(f(x + delta), y) over clean
    samples, delta* = argmax of H over |delta| <= C. Its gradient is d_theta H + (d_theta Phi)^T
    (I - d_delta Phi)^-T d_delta H, where Phi = delta - s d_delta(|delta|^2 penalty - H) is one step of
    the inner problem; the inverse is the first `terms` terms of its series.

    Each round finds delta by normalised ascent from 0 on batches of clean data and brings it back into
    the ball after each step; then one pass of Adam with that gradient. A change of 1 is the way from
    black to white, where inputs are images; C is `radius` times the square root of the numbers in an
    input. The record has the loss under delta round by round: at the start it says how easily one change
    fools the model.

    Deviations: the released program ascends by plain steps of rate 10 and lays delta on a hundredth of
    each batch; `share` is 1 in the equation, and less by default, for a model that sees changed inputs
    alone forgets the others. The inner problem is taken on the changed samples of the same batch. Few
    data are gone over until a round has `steps` steps. s = 0.1 and a rate of 0.001, as released, broke
    small networks here; both defaults are smaller.

    Cost: 5 passes over the retain set of about nine passes' work each, and 20 batches a round.

    Use it when a model may hold a backdoor and there is clean data, a few hundred samples, but no
    poison is known; it works where a trigger is no patch, too, so long as one change lays it on all.

    Avoid it when inputs are no numbers (tokens), or the trigger differs from sample to sample: no one
    change stands for it.
    """

    name: ClassVar[str] = "ibau"
    paper: ClassVar[str] = (
        "Zeng et al., ICLR 2022 (adversarial unlearning by implicit hypergradient)"
    )
    reads: ClassVar[Part] = Part.RETAIN
    scope: ClassVar[Scope] = "backdoor"
    diverges: ClassVar[dict[str, object]] = {"lr": 1e8}

    epochs: int = Field(default=5, ge=1, description="rounds, each with its change and a pass")
    lr: Rate = 3e-4
    radius: float = Field(
        default=0.18, gt=0, description="of the change: its root mean square, at most"
    )
    ascent_steps: int = Field(
        default=20, ge=1, description="batches that a round's change is found on"
    )
    share: float = Field(
        default=1.0, gt=0, le=1, description="of a batch that the change is laid on"
    )
    terms: int = Field(default=5, ge=0, description="of the series; 0: plain adversarial training")
    inner_step: float = Field(default=0.01, gt=0, description="s: of the inner step Phi")
    penalty: float = Field(default=1e-3, ge=0, description="on the change's squared length, in Phi")
    steps: int = Field(default=50, ge=1, description="steps of a round at least")
    norm: StillNorm = "train"
    batch_size: BatchSize = 100

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError for inputs that cannot be changed a little."""
        from expunge.methods.shared.universal import Universal
        from expunge.training.fit import fit

        worst = Universal(
            data.source(Part.RETAIN),
            run,
            radius=self.radius,
            steps=self.ascent_steps,
            share=self.share,
            size=self.batch_size,
        )

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            return run.loss(model, worst.laid_on(batch))

        def implicit(model: nn.Module, batch: Batch, _: float) -> None:
            worst.add_implicit(
                model, batch, terms=self.terms, step=self.inner_step, penalty=self.penalty
            )

        def find_anew(model: nn.Module, epoch: int) -> None:
            if epoch + 1 < self.epochs:
                worst.find(model, epoch + 1)

        def batches(epoch: int) -> Chain:
            once = data.batches(Part.RETAIN, self.batch_size)
            passes = range(epoch * (again := -(-self.steps // len(once))), (epoch + 1) * again)
            size = self.batch_size
            return data.chain(
                *(data.batches(Part.RETAIN, size, epoch=n, augment=False) for n in passes)
            )

        worst.find(model, 0)
        fit(
            model,
            batches,
            loss,
            recipe=constant_rate(
                run,
                epochs=self.epochs,
                lr=self.lr,
                batch_size=self.batch_size,
                optimizer="adam",
            ),
            run=run,
            norm=self.norm,
            after_backward=implicit if self.terms else None,
            after_epoch=find_anew,
        )
        run.log["worst_losses"] = worst.losses
        run.artifacts["universal_change"] = worst.change
        return model
