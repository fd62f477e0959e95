"""UNSIR: unlearning by selective impair and repair, without a single sample of the forgotten class."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from expunge.data.parts import Part
from expunge.methods.base import Method, Scope, constant_rate

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView, Source
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run


class Unsir(Method):
    """UNSIR: learn noise that maximises the loss on each class to forget, train on it beside some
    retain samples (impair), then on those samples alone (repair). Reads no forget sample, only the
    classes' labels.

    The noise N of class c minimises -loss(f(N), c) + noise_weight |N|^2, with the model frozen in
    evaluation mode. Impair adds the first `noise_used` images of a class, each `noise_repeats`
    times, labelled c.

    The paper's text adds the whole batch 20 times (preset `text`), the authors' program 3 images 20
    times (preset `notebook`), for it counts channels where it means images. That is the default: on
    CIFAR-10, validation samples of seed 100, one to seven classes, it came nearer to retraining, in a
    third of the time (benchmarks/README.md). Preset `mnist_mlp` has the settings of a later program
    for MNIST: its 5 passes over the class are 120 steps here, and its rate of 0.01 for its one image
    is 256 times that for a mean over 256.

    Deviations from the authors' program: the noise carries its own class's label, not 0; BatchNorm
    does not follow the noise while it is learned.

    Equation: impair on argmin over N of -loss(f(N), c) + noise_weight |N|^2, labelled c; then
    repair.

    Cost: noise, and two passes over 1,000 retain samples a class, whatever the size of the data.

    Use it when whole classes are to go and their samples are gone already: it needs their names
    alone.

    Avoid it when samples of classes that stay are asked for, which it refuses; or when inputs
    cannot be changed a little, as token ids.
    """

    name: ClassVar[str] = "unsir"
    paper: ClassVar[str] = "Tarun et al., TNNLS 2023"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET_LABELS
    scope: ClassVar[Scope] = "class"
    needs_classes: ClassVar[bool] = True
    diverges: ClassVar[Mapping[str, object]] = {"impair_lr": 1e8}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "notebook": {"noise_used": 3, "noise_repeats": 20},
        "text": {"noise_used": None, "noise_repeats": 20},
        "mnist_mlp": {
            "noise_used": None,
            "noise_weight": 0.01,
            "noise_norm": "l2",
            "noise_optimizer": "sgd",
            "noise_lr": 2.56,
            "noise_steps": 120,
            "optimizer": "sgd",
            "impair_lr": 0.5,
            "repair_lr": 0.001,
        },
    }

    noise_batch: int = Field(default=256, ge=1, description="noise images per class")
    noise_steps: int = Field(default=40, ge=1, description="steps of learning them")
    noise_optimizer: Literal["adam", "sgd"] = Field(default="adam", description="of the noise")
    noise_lr: float = Field(default=0.1, gt=0, description="learning rate of the noise")
    noise_weight: float = Field(default=0.1, ge=0, description="lambda, of the noise's size")
    noise_norm: Literal["squared", "l2"] = Field(
        default="squared", description="size of an image: its sum of squares, or the root of that"
    )
    noise_used: int | None = Field(
        default=3, ge=1, description="noise images per class that impair adds; null: all"
    )
    noise_repeats: int = Field(default=20, ge=1, description="how often impair adds each of them")
    retain_per_class: int = Field(default=1000, ge=1, description="retain samples of each class")
    optimizer: Literal["adam", "sgd"] = Field(
        default="adam", description="of impair and repair; sgd is without momentum"
    )
    impair_lr: float = Field(default=0.02, gt=0, description="learning rate of impair")
    repair_lr: float = Field(default=0.01, gt=0, description="learning rate of repair")
    impair_epochs: int = Field(default=1, ge=1, description="passes over noise and retain samples")
    repair_epochs: int = Field(default=1, ge=0, description="passes over the retain samples")
    batch_size: int = Field(default=256, ge=1, description="samples a step of impair and repair")

    @model_validator(mode="after")
    def _consistent(self) -> Unsir:
        if (self.noise_used or 0) > self.noise_batch:
            raise ValueError(
                f"noise_used {self.noise_used} is more than noise_batch {self.noise_batch} has"
            )
        return self

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import torch

        from expunge.methods.shared.noise import Objective, input_shape, learn_noise

        retain = data.take(Part.RETAIN, self.retain_per_class, per_class=True)
        classes = torch.unique(data.forget_labels())
        start = time.perf_counter()
        noise = learn_noise(
            model,
            classes,
            input_shape(retain),
            run,
            # images do not depend on each other: those that impair does not add need no learning
            count=self.noise_used or self.noise_batch,
            steps=self.noise_steps,
            recipe=self._recipe(run, 1, self.noise_lr, self.noise_optimizer),
            objective=Objective(self.noise_weight, self.noise_norm, self.noise_batch),
        )
        seconds = {"noise": time.perf_counter() - start}
        images = noise.images.flatten(0, 1)
        added = data.tensors(images, noise.labels, repeats=self.noise_repeats)
        for phase, source, epochs, lr in (
            ("impair", data.mix(added, retain), self.impair_epochs, self.impair_lr),
            ("repair", retain, self.repair_epochs, self.repair_lr),
        ):
            if epochs:
                recipe = self._recipe(run, epochs, lr, self.optimizer)
                seconds[phase] = self._train(model, source, phase, recipe, run)
        run.log["seconds"] = seconds
        run.log["noise_images_added"] = len(added)
        with run.only_reported():
            noise.record(run, data.classes)
        return model

    def _train(
        self, model: nn.Module, source: Source, phase: str, recipe: Recipe, run: Run
    ) -> float:
        """Ordinary training on a source; returns its seconds."""
        from expunge.training.fit import fit

        return fit(
            model,
            lambda epoch: source.batches(self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=recipe,
            run=run,
            name=phase,
            rate=f"{phase}_lr",
        ).seconds

    def _recipe(
        self, run: Run, epochs: int, lr: float, optimizer: Literal["adam", "sgd"]
    ) -> Recipe:
        return constant_rate(
            run,
            epochs=epochs,
            lr=lr,
            batch_size=self.batch_size,
            optimizer=optimizer,
            momentum=0.9 if optimizer == "adam" else 0.0,
        )
