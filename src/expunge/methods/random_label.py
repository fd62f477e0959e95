"""Random labels: teach wrong answers on what is to be forgotten, beside the right ones on the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from expunge.data.parts import Part
from expunge.errors import ConfigError
from expunge.methods.base import Epochs, Rate, SgdMethod
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.loop import Update
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run


class Relabelling(Settings):
    """What `RandomLabel` has beside SGD's settings."""

    draw: Literal["other", "all"] = Field(
        default="other",
        description="other: a wrong class, the same in every epoch; all: any class, drawn each epoch",
    )
    order: Literal["turns", "mixed"] = Field(
        default="turns",
        description="turns: a pass over the forget set, then one over the retain set; mixed: both "
        "shuffled together",
    )
    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="update rule")


class RandomLabel(SgdMethod, Relabelling):
    """Train on random labels of the forget set and on the true ones of the retain set.

    Equation: SGD on loss(x, y') over the forget set and on loss(x, y) over the retain set, y the true
    label. With draw=other, y' is uniform over the classes but y and fixed per sample: it follows from
    the run's seed and the sample's id alone, not from batches, order or the number of processes. With
    draw=all it is uniform over all classes, the true one too, and drawn anew in each epoch. A class that
    is forgotten whole, now or by an earlier request, is never drawn while another can be.

    Settings are those of SalUn's program for CIFAR-10. Preset `salun` draws as that does, preset
    `amnesiac` is amnesiac unlearning's in the form of the bad teacher's program: 3 epochs of Adam over
    both sets mixed. Deviation: SalUn's program takes turns or mixes by the name of the data set, and
    draws from all classes where its paper says y' is not y; here both are settings.

    Cost: 10 passes over all the data; none of it before training.

    Use it when any request must be met quickly and the retain set is at hand. draw=other flips the label
    where there are two classes.

    Avoid it when forgotten samples should look like unseen ones: wrong labels push the true class's
    probability under what a retrained model gives (over-forgetting on random requests), and confident
    wrong answers are a trace that an attack on outputs can find. On whole classes it changes the answers
    more than the features: see `linear_probe`.
    """

    name: ClassVar[str] = "random_label"
    paper: ClassVar[str] = (
        "Graves et al., AAAI 2021 (amnesiac); Golatkar et al., CVPR 2020; settings of SalUn, ICLR 2024"
    )
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    needs_classes: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "salun": {"draw": "all"},
        "amnesiac": {
            "order": "mixed",
            "optimizer": "adam",
            "epochs": 3,
            "lr": 1e-4,
            "weight_decay": 0.0,
        },
    }

    epochs: Epochs = Field(default=10, description="passes over both sets")
    lr: Rate = 0.013

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError for data of a single class."""
        self.teach(model, data, run)
        return model

    def recipe(self, run: Run) -> Recipe:
        """See `SgdMethod`; with the update rule that is asked for."""
        return super().recipe(run).but(optimizer=self.optimizer)

    def teach(
        self, model: nn.Module, data: DataView, run: Run, update: Update | None = None
    ) -> None:
        """The training itself, in place. update: what of the model may change, as `fit` takes it."""
        from expunge.training.fit import fit

        classes = len(data.classes)
        if classes < 2:
            raise ConfigError(
                f"{run.label} draws other labels, and these data have one class; choose a method that "
                "needs none, such as finetune"
            )
        forget, retain = data.source(Part.FORGET), data.source(Part.RETAIN)
        size, gone = self.batch_size, data.forgotten_classes

        def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
            epoch = int(progress * self.epochs + 1e-6)  # labels are drawn by whole epochs
            return run.loss(model, relabelled(batch, classes, self.draw, epoch, run, gone))

        fit(
            model,
            lambda epoch: (
                data.mix(forget, retain).batches(size, epoch=epoch)
                if self.order == "mixed"
                else data.chain(
                    forget.batches(size, epoch=epoch), retain.batches(size, epoch=epoch)
                )
            ),
            loss,
            recipe=self.recipe(run),
            run=run,
            update=update,
        )


def relabelled(
    batch: Batch,
    classes: int,
    draw: Literal["other", "all"],
    epoch: int,
    run: Run,
    gone: Collection[int] = (),
) -> Batch:
    """The batch with random labels for those of its samples that are to be forgotten.

    classes: how many there are, at least 2. epoch: counts for draw "all" alone. gone: classes that are
    not drawn while others can be.
    """
    import torch

    from expunge.methods.shared.targets import open_classes

    if (
        batch.part is Part.RETAIN or batch.labels is None
    ):  # without labels the loss says what is wrong
        return batch
    labels = batch.labels.tolist()
    others = open_classes(batch.labels, classes, gone).tolist()
    stay = [one for one in range(classes) if one not in gone]
    for place in batch.forget.nonzero().flatten().tolist():
        key = str(batch.ids[place])
        if draw == "other":
            after = [(labels[place] + step) % classes for step in range(1, classes)]
            able = [one for one in after if others[place][one]]
            labels[place] = able[run.seed_for("label", key) % len(able)]
        else:
            labels[place] = stay[run.seed_for("label", key, epoch) % len(stay)]
    return batch.relabelled(torch.tensor(labels))
