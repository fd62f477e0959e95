"""Certified removal from the last layer: a Newton step, and noise that hides what it leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from expunge.data.parts import Part
from expunge.errors import ConfigError
from expunge.methods.base import Method, Scope, check_weights
from expunge.methods.shared.certified import Certificate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.view import DataView
    from expunge.methods.shared.one_vs_rest import OneVsRest
    from expunge.training.run import Run

KEPT = "head"
"""The group that holds the head without noise."""


class CertifiedHead(Method, Certificate):
    """The last layer forgets by a Newton step, with a proof; the layers below stay as they are.

    Head only: what is proved is of the last layer. The layers below learned from the forget set and
    stay so, unless they never saw it. It takes part in training (`expunge train --method
    certified_head`): the recipe trains the whole model, whose layers are then frozen, and the last one
    is fitted anew as logistic regressions of each class against the rest, on features
    x = (h / |h|, 1) / sqrt 2; the class with the largest score is the answer.

    Equation: w = argmin sum l(y w·x) + lambda m |w|² / 2 over m samples, kept secret; released is
    w + N(0, (sigma / (lambda m))² I). Removal: w <- w - H⁻¹ g, g and H the gradient and the Hessian over
    the retain set at the old w, and released with noise drawn anew. What the step v leaves of the
    gradient is at most beta = |X_r|_2 |v| |X_r v| / (12 sqrt 3) for a class, so that w is within
    beta / (lambda m) of the minimum on the retain set. It is certified while the root of the sum of
    beta², over classes and over all removals since the last fit, is at most
    sigma epsilon / sqrt(2 ln(1.5 / delta)).

    What is proved: all heads that one chain of removals releases, from one fit to the next, are together
    (epsilon, delta)-indistinguishable from heads fitted to what was to stay each time, above the same
    layers; requests may depend on what was released, but not on w. A second removal from the same folder
    begins another chain, and two chains tell more than one. When a removal is refused, and when a head
    is fitted anew, depends on w through what is spent, and is outside of the certificate: do not show
    refusals to those from whom the data are to be hidden, and let none of them steer requests. How much
    is spent is told to nobody. Taken as public: the settings, the number of
    samples, the list of classes, and how inputs are normalised.

    Deviations: Guo et al. put the noise into the loss, as b·w, keep b, and step from weights that depend
    on it. What the step leaves then depends on b, and a Gaussian that is shifted by what depends on its
    own draw need not look like one, however short the shift; nor is it hidden from who holds two
    releases. Here w has no noise in it, so that beta is a number of the data alone, and every release
    has noise of its own, on the weights. The gradient over the retain set is Guo et al.'s over the
    forget set where w is a minimum; where it is not, nothing adds up from one removal to the next. The
    bound is theirs with the constant of the logistic loss, 1 / (12 sqrt 3) in place of 1 / 4; |X_r|_2 by
    power iteration, as in their program, is too small, and that never stops at its budget.

    w, and what is spent of the budget, lie beside the model, readable by its owner alone, and are in no
    export and no record: who has w has no noise to look through. Noise comes of the operating system
    (Philox under 128 bits of it); with `noise_seed` nothing is proved. sigma 1 suits some thousand
    samples, where the published 10 (preset `published`) drowns the head.

    Cost: one pass over the retain set; and a Hessian for each class, of the features squared. The
    features of the retain set are held in memory, in float64.

    Use it when the layers below come from elsewhere, many samples stay (noise is sigma / (lambda m) on
    each weight), and requests are small.

    Avoid it when the layers below learned from what is to be forgotten: nothing is proved of them, and
    `linear_probe` finds there what the head hides. A whole class soon spends the budget.
    """

    name: ClassVar[str] = "certified_head"
    paper: ClassVar[str] = "Guo et al., ICML 2020, with noise on the weights"
    reads: ClassVar[Part] = Part.RETAIN
    scope: ClassVar[Scope] = "head"
    guarantee: ClassVar[str] = "certified(epsilon, delta)"
    needs_classes: ClassVar[bool] = True
    takes_part: ClassVar[bool] = True
    per_request: ClassVar[frozenset[str]] = frozenset({"spend", "refit"})
    seeded: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"published": {"sigma": 10.0}}

    epsilon: float = Field(default=1.0, gt=0, le=2, description="of the certificate, 2 at most")
    delta: float = Field(
        default=1e-4, gt=0, lt=0.1, description="of the certificate: how often that may fail"
    )
    sigma: float = Field(default=1.0, gt=0, description="noise; the budget grows with it")
    penalty: float = Field(default=1e-3, gt=0, description="lambda, L2 penalty a sample")
    loss: Literal["logistic", "squared"] = Field(
        default="logistic", description="of the head; after a step of squared loss nothing is left"
    )
    spend: Literal["bound", "measured"] = Field(
        default="bound", description="what a removal takes of the budget: beta, or what was left"
    )
    refit: bool = Field(
        default=False, description="where the budget is spent, fit the head anew; else refuse"
    )
    batch_size: int = Field(default=256, ge=1, description="samples a pass")

    def proves(self) -> str:
        """See `Method.proves`."""
        return self.certificate()

    def built(self, fresh: Callable[[], nn.Module]) -> nn.Module:
        """An untrained model with such a head. Raises ModelError for one that ends otherwise."""
        from expunge.methods.shared.unit_head import with_unit_head

        return with_unit_head(fresh())

    def train(self, data: DataView, run: Run) -> nn.Module:
        """Train by the original's recipe, then the head by itself."""
        import torch

        from expunge.training.fit import train_from

        model = run.fresh()
        told = train_from(model, data, run, run.original_recipe()).told()
        run.log.update(told)
        model = self.built(lambda: model)
        problem = self._problem(model, data, run)
        weights = torch.stack([problem.fit(label) for label in range(len(data.classes))])
        self._release(model, weights, problem, run, spent=0.0)
        return model

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError where the budget is spent."""
        import torch

        from expunge.methods.shared.one_vs_rest import hidden

        problem = self._problem(model, data, run)
        kept = run.kept.read(KEPT)
        steps = [problem.step(own, label) for label, own in enumerate(kept["weights"])]
        left = [each.bound if self.spend == "bound" else each.measured for each in steps]
        spent = math.hypot(float(kept["spent"]), *left)
        budget = self.sigma * hidden(self.epsilon, self.delta)
        weights = torch.stack([each.weights for each in steps])
        if not spent <= budget:
            if not self.refit:  # what is spent depends on the secret head: nobody is told how much
                raise ConfigError(
                    f"{run.label}: this request spends the budget of {budget:.3g}; count what a step "
                    "left in place of its bound with spend=measured, fit the head anew with refit=true, "
                    "or train with more sigma or penalty"
                )
            weights, spent = torch.stack([problem.fit(k) for k in range(len(steps))]), 0.0
        self._release(model, weights, problem, run, spent=spent)
        return model

    def _problem(self, model: nn.Module, data: DataView, run: Run) -> OneVsRest:
        """What is to be minimised, on what the layers below make of the retain set."""
        from expunge.methods.shared.one_vs_rest import OneVsRest
        from expunge.methods.shared.unit_head import head_inputs

        run.tell(f"{self.name} is about the head only: the layers below keep what they learned")
        source = data.source(Part.RETAIN)
        batches = source.batches(self.batch_size, shuffle=False, augment=False)
        with run.progress.work(f"{run.label}, features"):
            found, labels = head_inputs(model, batches, run)

        def total(tensor: Tensor) -> Tensor:
            return tensor if run.world == 1 else run.sum(tensor.to(run.device)).cpu()

        return OneVsRest(found, labels, len(source), self.penalty, self.loss, total)

    def _release(
        self, model: nn.Module, weights: Tensor, problem: OneVsRest, run: Run, *, spent: float
    ) -> None:
        """Keep the head as it is, and put it into the model with noise drawn anew."""
        import torch

        from expunge.methods.shared.certified import SecretNoise
        from expunge.methods.shared.unit_head import head_of

        deviation = self.sigma / problem.modulus
        noise = SecretNoise(run, self.noise_seed).normal(weights.numel()).view_as(weights)
        with check_weights(model, run, f"lower sigma (now {self.sigma:g})"):
            head_of(model, run).set(weights + deviation * noise)
        state = {"weights": weights, "spent": torch.tensor(spent, dtype=torch.float64)}
        run.kept.write(KEPT, state, private=True)
        run.log["noise"] = {"on_a_weight": deviation}
        if deviation > 1:
            run.log.setdefault("warnings", []).append(
                f"{run.label} leaves noise of {deviation:.2g} on each weight of the head, whose scores "
                "decide at a few units: it may be drowned; train with less sigma or more penalty"
            )
