"""SCRUB: a student that leaves its teacher on the forget set, and stays with it on the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Rate, SgdMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run


class Scrub(SgdMethod):
    """SCRUB: move away from the original on the forget set, and stay with it on the retain set.

    Equation: d(x) = T^2 KL(f_o(x) || f(x)), with both softmaxes at temperature T, f_o the original
    in evaluation mode and f the student. Each of the first M = forget_epochs epochs begins with a
    pass over the forget set that maximises the mean of d; every epoch has a pass over the retain set
    that minimises the mean of gamma * cross-entropy + alpha * d. One optimiser makes all steps, so
    that momentum goes over from one pass to the next.

    The defaults are the authors' program's for large models (preset `large`); `mia` has those of its
    membership experiments, `small` those for small data sets. As there, the rate falls to a tenth
    after some epochs, which three do not reach, and the student's normalisation layers follow both
    sets; norm="eval" leaves their statistics alone.

    At the original's weights d is 0 and so is its gradient, but for what normalisation layers in
    training mode bring in: without these the first forget step changes nothing, and a request of one
    batch begins to be forgotten in the second epoch. d has no upper bound: a run whose weights
    explode is ended.

    rewind=true is SCRUB+R: of the states after each epoch the one is returned whose error on the
    forget set is nearest to V, the last state's error on validation samples of the classes that lose
    samples. Of a class that goes whole nothing is in the validation set any more, and a model that
    never saw it is always wrong: its samples count in V as an error of 1. Each state is kept whole,
    statistics of normalisation layers too, in the processor's memory: epochs times the model's size.
    The program may choose the original too, of which it keeps no state; here it is none of them.
    Validation samples are read only with rewind=true, and not where only whole classes go; the record
    warns that they may not judge the result then.

    Cost: 3 passes over the retain set and 2 over the forget set, each with a pass of the teacher;
    rewind=true adds one pass over the forget set an epoch, without gradients.

    Use it when some steps on the retain set can be afforded, whole classes or samples of all are to
    go, and the model's confidence on them is what must change.

    Avoid it when nothing can be tuned: how far the forget set is pushed hangs on the rate, on M and
    on the number of forget batches. Unrewound it goes too far on random samples, of which a
    retrained model gets most right, and membership attacks see that; with few steps it hardly moves,
    which looks good on random requests.
    """

    name: ClassVar[str] = "scrub"
    paper: ClassVar[str] = "Kurmanji et al., NeurIPS 2023; settings of its program"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET | Part.VALIDATION
    without_validation: ClassVar[str] = "rewind=false"
    needs_classes: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "large": {},
        "mia": {"gamma": 1.0, "alpha": 0.5, "forget_epochs": 3, "epochs": 5},
        "small": {
            "gamma": 1.0,
            "alpha": 0.5,
            "forget_epochs": 3,
            "epochs": 10,
            "temperature": 2.0,
            "optimizer": "adam",
            "weight_decay": 0.1,
            "milestones": (5, 8, 9),
        },
    }

    epochs: Epochs = 3
    lr: Rate = 5e-4
    batch_size: BatchSize = Field(default=128, description="retain samples a step")
    forget_batch_size: BatchSize = Field(default=32, description="forget samples a step")
    forget_epochs: int = Field(
        default=2, ge=0, description="M: how many epochs begin with a pass over the forget set"
    )
    gamma: float = Field(default=0.99, ge=0, description="weight of the retain loss")
    alpha: float = Field(default=0.001, ge=0, description="weight of d on the retain set")
    temperature: float = Field(default=4.0, gt=0, description="T of both softmaxes in d")
    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="adam: momentum is beta 1")
    milestones: tuple[int, ...] = Field(
        default=(3, 5, 9), description="epochs after which the rate falls to a tenth"
    )
    norm: Literal["train", "eval"] = Field(
        default="train",
        description="train: normalisation layers follow both sets; eval: they keep their statistics",
    )
    rewind: bool = Field(
        default=False, description="SCRUB+R: return the epoch that validation samples single out"
    )

    def reads_now(self, recipe: Recipe | None, *, whole: bool) -> Part:
        """See the base: validation samples to rewind by alone, and for none of a whole class."""
        return self.reads if self.rewind and not whole else self.reads & ~Part.VALIDATION

    def recipe(self, run: Run) -> Recipe:
        """See the base."""
        schedule = "step" if self.milestones else "constant"
        changes = {"optimizer": self.optimizer, "schedule": schedule, "milestones": self.milestones}
        return super().recipe(run).but(**changes)

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        from torch.nn import functional

        from expunge.data.task import class_logits
        from expunge.methods.shared.distillation import divergence, given_labels, taught
        from expunge.methods.shared.epoch_states import EpochStates
        from expunge.methods.shared.unseen import unseen_like
        from expunge.training.fit import fit

        teacher, logits_of = run.teacher(model), class_logits(run.task)
        states = None
        if self.rewind:
            unseen = unseen_like(data, run, same_classes=True, remedy=", or set rewind=false")
            states = EpochStates(unseen, data.source(Part.FORGET), run, self.batch_size)

        def stream(epoch: int) -> Iterable[Batch]:
            kept = data.batches(Part.RETAIN, self.batch_size, epoch=epoch)
            if epoch >= self.forget_epochs:
                return kept
            struck = data.batches(Part.FORGET, self.forget_batch_size, epoch=epoch)
            return data.chain(struck, kept)

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            logits = logits_of(model, batch)
            away = self.temperature**2 * divergence(
                logits, taught(teacher, batch, run.task), self.temperature
            )
            if batch.part is Part.FORGET:
                return -run.mean(away, batch)
            wrong = functional.cross_entropy(logits, given_labels(batch), reduction="none")
            return run.mean(self.gamma * wrong + self.alpha * away, batch)

        fit(
            model,
            stream,
            loss,
            recipe=self.recipe(run),
            run=run,
            norm=self.norm,
            after_epoch=None if states is None else states.keep,
        )
        if states is not None:
            states.load_best(model)
        return model
