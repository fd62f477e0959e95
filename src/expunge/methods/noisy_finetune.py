"""Noisy fine-tuning: noise that provably hides where the weights began, then ordinary training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Rate, SgdMethod
from expunge.methods.shared.certified import Certificate
from expunge.methods.shared.covered import initial_deviation
from expunge.methods.shared.noisy_descent import NoisyDescent, concentration

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run

HALF = 0.5
"""Of retraining: what costs more is hardly worth a proof that is weaker."""


class Noising(Certificate):
    """What `NoisyFinetune` has beside SGD's settings."""

    noise_steps: int = Field(default=100, ge=1, description="T, steps with noise")
    step_size: float = Field(default=0.001, gt=0, description="eta, of the steps with noise")
    start_norm: float = Field(default=0.1, ge=0, description="C0, norm that the weights are cut to")
    clip_norm: float = Field(default=0.1, gt=0, description="C1, norm that a gradient is cut to")
    decay: float = Field(default=50.0, ge=0, description="lambda_w, pull to 0 of those steps")
    public: bool = Field(
        default=False,
        description="you vouch that all but the trained weights never saw the forget set",
    )


class NoisyFinetune(SgdMethod, Noising):
    """Gaussian noise hides the old weights with a proof, and fine-tuning learns the retain set anew.

    Equation: theta_0 = Pi_C0(theta_o), the weights cut to norm C0; then T steps
    theta <- theta - eta (Pi_C1(g) + lambda_w theta) + N(0, sigma² I), g the mean gradient of a batch of
    the retain set; then `epochs` of SGD on the retain set. With q = 1 - eta lambda_w,
    Z = 2 C0 q^T + 2 eta C1 (1 + q + ... + q^(T-1)) and rho + 2 sqrt(rho ln(1/delta)) = epsilon, the
    noise is sigma² = Z² / (2 rho (1 + q² + ... + q^(2(T-1)))).

    What is proved: the weights are (epsilon, delta)-indistinguishable from those that the same procedure
    makes on the retain set from any other start, such as weights that never saw the forget set; for
    every loss and every size of request. It is about the last weights alone: no loss and no weight of a
    step with noise is recorded. Batches come in an order of the retain set by itself, and in the steps
    with noise without augmentation, dropout and momentum, or they would tell of the forget set. Sums are
    made in float64, where noise counts as real numbers do. Taken as public: the settings, the list of
    classes, and the mean and deviation that inputs are normalised with, as for retrain. Two runs from
    one original tell more than one.

    Noise comes of the operating system (Philox under 128 bits of it), so that no run can be repeated;
    with `noise_seed` it can, and nothing is proved. Refused: running statistics, which no noise on the
    weights hides, and, unless `public` vouches for them, frozen weights, masks found with sight of the
    data, and whatever else a model may keep of them: buffers, tensors that are plain attributes, and
    state of its own (get_extra_state).

    The noise on a weight ends as Z / sqrt(2 rho), which the record has beside the deviation of an
    initialiser. At the middle of what the paper swept (preset `swept`) it is 1.96 against some 0.05, and
    hardly anything is learned after it; the default, C1 = 0.1 in place of 10, ends at 0.025. At an
    epsilon near 1 the original's weights are lost in any case: all of them together differ from those of
    another start by a fifth of the noise on a single weight. So this is training anew, from a draw of
    its own. For another epsilon set clip_norm so that the noise is near an initialiser's.

    Cost: T batches, then `epochs` passes over the retain set; for a good model about as many as its
    training took, and a warning says where they are more than half of that.

    Use it when a proof is wanted, the model has no BatchNorm, and training it anew is affordable.

    Avoid it when retrain is affordable too: it is exact, needs no noise, and ends better.
    """

    name: ClassVar[str] = "noisy_finetune"
    paper: ClassVar[str] = "Koloskova et al., ICML 2025"
    reads: ClassVar[Part] = Part.RETAIN
    guarantee: ClassVar[str] = "certified(epsilon, delta)"
    takes_statistics: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"swept": {"clip_norm": 10.0}}

    epochs: Epochs = Field(default=10, description="passes over the retain set after the noise")
    lr: Rate = Field(default=0.05, description="learning rate after the noise")
    batch_size: BatchSize = 128

    @model_validator(mode="after")
    def _shrinks(self) -> NoisyFinetune:
        if self.step_size * self.decay >= 1:
            raise ValueError(
                f"step_size * decay is {self.step_size * self.decay:g} and must be below 1; lower decay"
            )
        return self

    def proves(self) -> str:
        """See `Method.proves`."""
        return self.certificate()

    def descent(self) -> NoisyDescent:
        """The steps with noise, and how much."""
        return NoisyDescent(
            self.noise_steps,
            self.step_size,
            self.start_norm,
            self.clip_norm,
            self.decay,
            concentration(self.epsilon, self.delta),
        )

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ModelError for what it proves nothing of."""
        from expunge.methods.shared.certified import SecretNoise
        from expunge.methods.shared.covered import check_covered, untrained
        from expunge.methods.shared.noisy_steps import descend
        from expunge.training.fit import fit

        fresh = untrained(model, run, public=self.public)
        check_covered(model, fresh, run, public=self.public)
        self._tell(model, fresh, data, run)
        noise = SecretNoise(run, self.noise_seed)
        secret = noise.name()
        view, run = data.named(secret), replace(run, names=(*run.names, secret))
        # a mix has an order of its own; a part by itself has that of all data, with gaps
        retain = view.mix(view.source(Part.RETAIN))
        with run.progress.work(f"{run.label}, steps with noise"):
            descend(model, self.descent(), retain, self.batch_size, run, noise)
        fit(
            model,
            lambda epoch: retain.batches(self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
        )
        return model

    def _tell(self, model: nn.Module, fresh: nn.Module | None, data: DataView, run: Run) -> None:
        """Log the noise on a weight beside an initialiser's; warn where they differ, and of the cost."""
        noise, usual = self.descent().final_noise, initial_deviation(model, fresh)
        run.log["noise"] = {
            "sigma": self.descent().sigma,
            "on_a_weight": noise,
            "of_an_initialiser": usual,
            "steps": self.noise_steps,
            "epochs_after": self.epochs,
        }
        warnings = run.log.setdefault("warnings", [])
        if noise > usual:
            warnings.append(
                f"{run.label} leaves noise of {noise:.2g} on each weight, and an untrained model has "
                f"{usual:.2g}: the model is erased, and may not learn again; lower clip_norm or "
                "start_norm, or raise decay"
            )
        if noise < usual / 10:
            warnings.append(
                f"{run.label} leaves noise of {noise:.2g} on each weight, and an untrained model has "
                f"{usual:.2g}: the model is near 0, and may not learn again; raise clip_norm"
            )
        if run.recipe is None:
            return
        size = data.size(Part.RETAIN)
        passes = self.noise_steps * min(self.batch_size, size) / size + self.epochs
        if passes > HALF * run.recipe.epochs:
            warnings.append(
                f"{run.label} takes {passes:.3g} passes over the retain set ({self.noise_steps} steps "
                f"with noise, then {self.epochs} epochs), and retraining, which is exact, takes "
                f"{run.recipe.epochs}"
            )
