"""One logistic regression for each class against the rest, its Newton step to fewer samples, and how
far that can end from their own minimum.

L(w) = sum_i l(y_i w·x_i) + lambda m |w|² / 2 over m samples, |x_i| <= 1, y_i = 1 for the class and
-1 for others. With g and H its gradient and Hessian at w the step is v = -H⁻¹ g. What is left of the
gradient is X^T D X v with D diagonal and |D_ii| <= c |x_i·v|, for l'' is Lipschitz with 2 c; so

    |gradient after| <= c |X|_2 max |x_i·v| |X v| <= c |X|_2 |v| |X v|.

L is lambda m strongly convex: the minimum is within |gradient| / (lambda m).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from expunge.errors import DivergenceError

CURVING = {"logistic": 1 / (12 * math.sqrt(3)), "squared": 0.0}
"""c: half of the Lipschitz constant of the loss's second derivative, for logistic 1 / (6 sqrt 3)."""
ROUNDED_UP = 1 + 1e-9
ITERATIONS = 200
"""Newton steps of a fit, at most; some ten are taken."""


@dataclass(frozen=True)
class NewtonStep:
    """Weights (d,) after a Newton step; the bound of their gradient's norm, and the norm itself.

    Both hold what a fit leaves, too, and rounding.
    """

    weights: Tensor
    bound: float
    measured: float


@dataclass(frozen=True)
class OneVsRest:
    """The problems of all classes on the same samples.

    features: (n, d) float64, norms 1 at most; of several processes, this one's share. labels: (n,).
    count: m, samples of all processes. penalty: lambda > 0. total: sums a tensor over processes.
    """

    features: Tensor
    labels: Tensor
    count: int
    penalty: float
    loss: Literal["logistic", "squared"] = "logistic"
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor

    @property
    def modulus(self) -> float:
        """Lambda m, of strong convexity."""
        return self.penalty * self.count

    @property
    def tolerance(self) -> float:
        """The gradient's norm at which a fit ends; rounding of a sum over all samples is far below."""
        return 1e-9 + 1e-13 * self.count

    @cached_property
    def spectral_norm(self) -> float:
        """|X|_2, by all eigenvalues of X^T X and rounded up: power iteration would end below it."""
        gram = self.total(self.features.T @ self.features)
        return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))) * ROUNDED_UP

    def gradient(self, weights: Tensor, label: int) -> Tensor:
        """(d,), at the weights of one class."""
        signs, scores = self._of(weights, label)
        slopes = scores - signs if self.loss == "squared" else -signs * (-signs * scores).sigmoid()
        return self.total(self.features.T @ slopes) + self.modulus * weights

    def hessian(self, weights: Tensor, label: int) -> Tensor:
        """(d, d), at the weights of one class."""
        _, scores = self._of(weights, label)
        bends = scores.sigmoid() * (-scores).sigmoid()
        bends = torch.ones_like(scores) if self.loss == "squared" else bends
        hessian = self.total(self.features.T @ (bends[:, None] * self.features))
        return hessian + self.modulus * torch.eye(len(weights), dtype=hessian.dtype)

    def fit(self, label: int) -> Tensor:
        """The minimum for one class, (d,), to `tolerance`, by Newton's method with halved steps.

        Raises DivergenceError where it does not get there.
        """
        weights = self.features.new_zeros(self.features.shape[1])
        gradient = self.gradient(weights, label)
        for _ in range(ITERATIONS):
            if float(gradient.norm()) <= self.tolerance:
                return weights
            step = torch.linalg.solve(self.hessian(weights, label), -gradient)
            share = 1.0
            while share > 1e-9:
                ahead = self.gradient(weights + share * step, label)
                if ahead.norm() <= (1 - share / 4) * gradient.norm():
                    break
                share /= 2
            weights, gradient = weights + share * step, ahead
        raise DivergenceError(
            f"the head does not converge with lambda {self.penalty:g}; raise penalty"
        )

    def step(self, weights: Tensor, label: int) -> NewtonStep:
        """One Newton step from weights (d,) that fit more samples, or nearly these."""
        gradient, hessian = self.gradient(weights, label), self.hessian(weights, label)
        step = torch.linalg.solve(hessian, -gradient)
        unsolved = float((hessian @ step + gradient).norm())
        moved = math.sqrt(float(self.total((self.features @ step).square().sum())))
        after = weights + step
        bound = CURVING[self.loss] * self.spectral_norm * float(step.norm()) * moved * ROUNDED_UP
        measured = float(self.gradient(after, label).norm())
        slack = 2 * self.tolerance  # of a fit in its place, and of these sums
        return NewtonStep(after, bound + unsolved + slack, measured + slack)

    def _of(self, weights: Tensor, label: int) -> tuple[Tensor, Tensor]:
        """Signs and scores, (n,) each."""
        signs = torch.where(self.labels == label, 1.0, -1.0).to(self.features)
        return signs, self.features @ weights


def hidden(epsilon: float, delta: float) -> float:
    """How far apart two means may be, in deviations of the noise, for (epsilon, delta), epsilon <= 2.

    epsilon / c with c = sqrt(2 ln(1.5 / delta)) (Guo et al., theorem 3). Gaussians epsilon / c apart
    have a delta below P(z > c - epsilon / (2 c)) <= e^(epsilon/2 - c²/2) / 2, which is at most
    1.5 e^(-c²/2) = delta while epsilon <= 2 ln 3.
    """
    return epsilon / math.sqrt(2 * math.log(1.5 / delta))
