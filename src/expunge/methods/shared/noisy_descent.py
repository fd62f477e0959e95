"""Noisy descent and its accounting: how much noise hides where a path of so many steps began.

Two paths start at norms of C0 at most and take the same steps
M(theta) = q theta - eta Pi_C1(g(theta)), q = 1 - eta lambda, each followed by N(0, sigma² I). Whatever
the function g is, |M(x) - M(y)| <= q |x - y| + 2 eta C1. By privacy amplification by iteration
(Feldman et al., FOCS 2018) shifts a_t >= 0, taken at each noise, cost alpha a_t² / (2 sigma²) of Rényi
divergence of order alpha, and all of Z = 2 C0 q^T + 2 eta C1 (1 + q + ... + q^(T-1)) must be taken,
sum q^(T-1-t) a_t = Z. The cheapest are a_t = Z q^(T-1-t) / S, S = 1 + q² + ... + q^(2(T-1)), which
never take more than there is; then the last iterates, and these alone, are within
alpha Z² / (2 sigma² S).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

OneBatch = TypeVar("OneBatch")

MARGIN = 1e-9
"""Relative, of the noise, for the rounding of float64."""


def concentration(epsilon: float, delta: float) -> float:
    """The largest rho for which Rényi divergences of rho alpha for all alpha > 1 give (epsilon, delta).

    rho + 2 sqrt(rho ln(1/delta)) = epsilon (Bun and Steinke, TCC 2016, proposition 1.3).
    """
    log = math.log(1 / delta)
    return (epsilon / (math.sqrt(log + epsilon) + math.sqrt(log))) ** 2


@dataclass(frozen=True)
class NoisyDescent:
    """T steps of size eta from a ball: the settings of the module's text, all public.

    steps: T, 1 or more. step_size: eta > 0. start_norm: C0 >= 0. clip_norm: C1 >= 0. decay: lambda,
    0 <= eta lambda < 1. rho: see `concentration`.
    """

    steps: int
    step_size: float
    start_norm: float
    clip_norm: float
    decay: float
    rho: float

    def _sum(self, power: int) -> float:
        """1 + q^power + ... + q^(power (T - 1)), exact where q is near 1."""
        shrinks = math.log1p(-self.step_size * self.decay) * power
        return math.expm1(shrinks * self.steps) / math.expm1(shrinks) if shrinks else self.steps

    @property
    def shift(self) -> float:
        """Z: how far the starts and the gradients can drive two paths apart, after all shrinking."""
        start = 2 * self.start_norm * (1 - self.step_size * self.decay) ** self.steps
        return start + 2 * self.step_size * self.clip_norm * self._sum(1)

    @property
    def sigma(self) -> float:
        """Deviation of the noise of a step on each weight."""
        return self.final_noise / math.sqrt(self._sum(2))

    @property
    def final_noise(self) -> float:
        """Deviation of what all steps' noise adds up to on each weight: Z / sqrt(2 rho)."""
        return self.shift / math.sqrt(2 * self.rho) * (1 + MARGIN)

    def descend(
        self,
        start: Tensor,
        batches: Iterable[OneBatch],
        gradient: Callable[[Tensor, OneBatch], Tensor],
        noise: Callable[[], Tensor],
    ) -> Tensor:
        """The last iterate (weights,) in float64. Nothing else of the path may be told to anyone.

        start: (weights,). batches: T of them. gradient: (weights, batch) -> (weights,). noise: draws
        N(0, 1) a weight.
        """
        theta = _projected(start.double(), self.start_norm)
        for batch in batches:
            clipped = _projected(gradient(theta, batch).double(), self.clip_norm)
            theta = (1 - self.step_size * self.decay) * theta - self.step_size * clipped
            theta += self.sigma * noise()
        return theta


def _projected(vector: Tensor, radius: float) -> Tensor:
    """The nearest vector of at most that norm; 0 for one that is not finite, for to stop would tell."""
    norm = float(vector.norm())
    if not math.isfinite(norm):
        return vector.new_zeros(vector.shape)
    return vector if norm <= radius else vector * (radius / norm)
