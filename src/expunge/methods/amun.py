"""AMUN: learn the nearest adversaries of what is to be forgotten, under the labels they provoke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Scope, SgdMethod
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView, Source
    from expunge.training.run import Run


class Adversaries(Settings):
    """What `Amun` has beside SGD's settings."""

    epsilon: float = Field(default=0.04, gt=0, description="first radius, in units of model inputs")
    steps: int = Field(default=50, ge=1, description="of the attack within a radius")
    step_size: float = Field(default=0.1, gt=0, description="of a step, as a share of the radius")
    rounds: int = Field(default=12, ge=1, description="radii tried at most, each twice the last")
    retain: bool = Field(default=True, description="train on the retain set too")
    adv_only: bool = Field(default=False, description="leave the forget set itself out")


class Amun(SgdMethod, Adversaries):
    """AMUN: fine-tune on everything and on the forget set's nearest adversaries, wrongly labelled.

    Equation: cross-entropy on retain and forget set with their own labels, and on (x', y') for each
    forget sample x: x' lies within the smallest radius epsilon 2^k around x at which projected
    gradient ascent makes the original f predict another class, and y' = argmax f(x') is that class.
    So the model grows unsure just where it knew too well, and stays what it is elsewhere. No class that
    is forgotten whole, now or before, is a y' of another's samples while there are others: the attack
    takes its logit for minus infinity.

    The attack is made once, against the original in evaluation mode, and not each epoch against the
    model that is being trained. A sample that the original gets wrong already is its own adversary.
    One that it gets right within the largest radius has none: it is left out, and the record says how
    many were. The gradient is that of a loss that is parallel to the cross-entropy and does not vanish
    where the model is sure.

    Adversaries of pictures stay between black and white as the model reads them, channel by channel
    through the normalisation, where public code cuts normalised inputs to [0, 1]; other inputs have no
    bounds, of which a warning tells. Token ids are refused. How far each adversary has moved is held in
    memory, as much as the forget set takes; adversaries are never augmented. With retain=false it reads
    the forget set alone; adv_only=true leaves the true labels of the forget set out.

    Defaults are the authors': 50 steps of a tenth of the radius from 0.04, lr 0.01, 10 epochs, batch
    128. They double the radius without end; 12 rounds end at 82.

    Cost: 10 passes over all data and the adversaries; before, for each radius tried, 50 passes forward
    and backward over those of the forget set that still withstand, which for a tenth of the data may
    take longer than all the rest.

    Use it when single samples of classes that stay are to be forgotten, few of them above all: it
    hardly changes anything else, and needs no retain set where none is left.

    Avoid it when a whole class must go, for it goes on learning the forget set's true labels; and for
    inputs other than pictures, whose adversaries mean little. It moves little: compare it with the row
    that does nothing.
    """

    name: ClassVar[str] = "amun"
    paper: ClassVar[str] = "Ebrahimpour-Boroojeny et al., ICML 2025"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    scope: ClassVar[Scope] = "random"
    needs_classes: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "adv_only": {"adv_only": True},
        "forget_only": {"retain": False},
    }

    epochs: Epochs = Field(default=10, description="passes over all that it trains on")
    batch_size: BatchSize = 128

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError where no sample can be fooled, or none can be moved."""
        from expunge.methods.shared.adversaries import adversaries_of
        from expunge.methods.shared.attack import Attack
        from expunge.training.fit import fit

        struck = data.source(Part.FORGET)
        sources: list[Source] = [data.source(Part.RETAIN)] if self.retain else []
        sources += [] if self.adv_only else [struck]
        gone = data.forgotten_classes
        attack = Attack(self.epsilon, self.steps, self.step_size, self.rounds, gone)
        mixed = data.mix(*sources, adversaries_of(model, struck, attack, run, self.batch_size))
        fit(
            model,
            lambda epoch: mixed.batches(self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
        )
        return model
