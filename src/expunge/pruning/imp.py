"""Iterative magnitude pruning, the search for lottery tickets."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from expunge.pruning.omp import OneShot


class Iterative(OneShot):
    """IMP: rounds of train, cut a share of what is left, rewind; the last cut meets the target.

    With 20 % a round, 14 rounds pass 95 %; each costs a training. rate=0.4508 takes 5.
    """

    name: ClassVar[str] = "imp"
    paper: ClassVar[str] = (
        "Frankle and Carbin, ICLR 2019; with rewinding, Frankle et al., ICML 2020"
    )

    rate: float = Field(
        default=0.2, gt=0, lt=1, description="share of the kept weights cut a round"
    )

    def cuts(self) -> tuple[float, ...]:
        """1 - (1 - rate)^k for k = 1, 2, ..., the last one the target itself."""
        found: list[float] = []
        kept = 1 - self.rate
        while 1 - kept < self.sparsity - 1e-9:  # a round that only rounding asks for cuts nothing
            found.append(1 - kept)
            kept *= 1 - self.rate
        return (*found, self.sparsity)
