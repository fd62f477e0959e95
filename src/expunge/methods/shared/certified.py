"""What methods with a certificate share: its numbers, and noise that nobody can draw again."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from pydantic import Field

from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.training.run import Run


class Certificate(Settings):
    """(epsilon, delta), and the seed that tests give."""

    epsilon: float = Field(
        default=1.0, gt=0, description="of the certificate: e^epsilon bounds the odds"
    )
    delta: float = Field(
        default=1e-5, gt=0, lt=1, description="of the certificate: how often those may fail"
    )
    noise_seed: int | None = Field(
        default=None,
        ge=0,
        description="for tests: noise that anyone can draw again proves nothing",
    )

    def certificate(self) -> str:
        """As `Method.proves` tells it."""
        if self.noise_seed is not None:
            return "none (seeded)"
        return f"certified({self.epsilon:g}, {self.delta:g})"


class SecretNoise:
    """Gaussian noise in float64 from Philox under 128 bits of the operating system's generator.

    seed: for tests, in place of those. The first process draws, and all others are told.
    """

    def __init__(self, run: Run, seed: int | None = None) -> None:
        import numpy as np

        self._run = run
        key = secrets.randbits(128) if seed is None else seed
        self._generator = np.random.Generator(np.random.Philox(key))

    def normal(self, count: int) -> Tensor:
        """`count` draws of N(0, 1) on the processor, the same in every process."""
        import torch

        return self._told(torch.from_numpy(self._generator.standard_normal(count)))

    def name(self) -> str:
        """A seed name that nobody can guess, for what else must not tell of the forget set."""
        import torch

        drawn = self._generator.integers(2**62, size=2)
        return "-".join(str(each) for each in self._told(torch.from_numpy(drawn)).tolist())

    def _told(self, drawn: Tensor) -> Tensor:
        if self._run.world == 1:
            return drawn
        own = drawn if self._run.rank == 0 else drawn.zero_()
        return self._run.sum(own.to(self._run.device)).cpu()
