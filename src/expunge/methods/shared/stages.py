"""The plan of SISA: who is in which slice of which shard, for how many epochs, and at what cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from expunge.data.keyed import Hashes
    from expunge.training.recipe import Recipe

HALF = 32
"""Bits of a hash that say the shard; as many more say the slice."""
NEARLY_ALL = 0.95
"""Of the shards, from which on next to nothing is saved."""
LITTLE = 0.5
"""Of the training that is done again, from which on a person is warned."""


@dataclass(frozen=True)
class Stages:
    """S shards of R slices, trained in R stages each: stage i learns slices 1 to i.

    Everything here counts from 0. A sample's place is a threshold of its own hash, so no other sample
    moves it.
    """

    shards: int
    slices: int

    def place(self, hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shard and slice (n,) of each sample, by its hash."""
        high, low = hashes >> np.uint64(HALF), hashes & np.uint64(2**HALF - 1)
        places = (
            (half * np.uint64(count)) >> np.uint64(HALF)
            for half, count in ((high, self.shards), (low, self.slices))
        )
        shard, slice_ = (one.astype(np.int64) for one in places)
        return shard, slice_

    def counts(self, shard: NDArray[np.int64], slice_: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many samples each slice has: (shards, slices)."""
        flat = np.bincount(shard * self.slices + slice_, minlength=self.shards * self.slices)
        return flat.reshape(self.shards, self.slices).astype(np.int64)

    def sums(
        self, hashes: Hashes, shard: NDArray[np.int64], slice_: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        """Of the hashes in each slice, modulo 2^64: (shards, slices)."""
        found = np.zeros((self.shards, self.slices), dtype=np.uint64)
        np.add.at(found, (shard, slice_), hashes)
        return found

    def recipe(self, recipe: Recipe, stage: int) -> Recipe:
        """What a stage is trained by: its own epochs, milestones in proportion."""
        whole = recipe.epochs
        ends = [2 * i * whole // (self.slices + 1) for i in (stage, stage + 1)]
        epochs = ends[1] - ends[0]
        milestones = tuple(dict.fromkeys(one * epochs // whole for one in recipe.milestones))
        return recipe.but(epochs=epochs, milestones=milestones)

    def check(self, recipe: Recipe) -> None:
        """Raise ConfigError for a recipe by which a stage would learn nothing, or one that looks at
        other samples than the shard's.
        """
        if 2 * recipe.epochs < self.slices + 1:
            raise ConfigError(
                f"sisa: {self.slices} slices share {recipe.epochs} epochs, so some would never be "
                f"learned; train for {math.ceil((self.slices + 1) / 2)} epochs or more, or take fewer "
                "slices"
            )
        if recipe.schedule == "plateau":
            raise ConfigError(
                "sisa: schedule 'plateau' watches validation samples, which every shard would then have "
                "learned of; choose another schedule"
            )

    def work(self, counts: NDArray[np.int64], recipe: Recipe) -> NDArray[np.int64]:
        """Samples read by each stage: (shards, slices)."""
        epochs = [self.recipe(recipe, stage).epochs for stage in range(self.slices)]
        found: NDArray[np.int64] = counts.cumsum(axis=1) * np.array(epochs)
        return found

    def one_request(self) -> float:
        """Expected share of the training that the request of one sample takes again."""
        return (2 * self.slices + 1) / (3 * self.slices * self.shards)

    def hit_by(self, requests: int) -> float:
        """Expected number of shards that hold one of so many samples."""
        return self.shards * (1 - (1 - 1 / self.shards) ** requests)

    def told(self, size: int) -> list[str]:
        """What a training of these will cost, and what a request to it. size: bytes of a model."""
        count, mib = self.shards * self.slices, 2**20
        lines = [
            f"sisa trains {self.shards} shards in {self.slices} stages each and keeps all "
            f"{count:,} checkpoints: {count * size / mib:,.1f} MiB on the disk. A request for one "
            f"sample will take about {self.one_request():.1%} of the training again"
        ]
        if self.shards > 1:
            many = math.ceil(math.log(1 - NEARLY_ALL) / math.log(1 - 1 / self.shards))
            lines[0] += (
                f", one for {many:,} hits {self.hit_by(many):.1f} of {self.shards} shards: then "
                "next to nothing is saved"
            )
        return lines

    def again(
        self, first: NDArray[np.int64], counts: NDArray[np.int64], recipe: Recipe, size: int
    ) -> Again:
        """What is done again where each shard goes on from a stage `first` (shards,). size: bytes of a
        model.
        """
        work, redone = self.work(counts, recipe), np.arange(self.slices) >= first[:, None]
        share = float(work[redone].sum()) / max(1.0, float(work.sum()))
        hit = int((first < self.slices).sum())
        log = {
            "shards_hit": hit,
            "shards": self.shards,
            "stages_redone": int(redone.sum()),
            "stages": redone.size,
            "share_redone": round(share, 4),
        }
        line = (
            f"sisa: the request hits {hit} of {self.shards} shards; {redone.sum()} of {redone.size} "
            f"stages are done again, {share:.1%} of the training. The new folder keeps all "
            f"{redone.size:,} checkpoints: {redone.size * size / 2**20:,.1f} MiB on the disk"
        )
        warning = ""
        if hit == self.shards and share > LITTLE:
            warning = (
                f"the request hits all shards, and sisa does {share:.0%} of the training again, which "
                "saves little over retraining; fewer samples at a time, or more shards, save more"
            )
        return Again(line, log, warning)


@dataclass(frozen=True)
class Again:
    """What a deletion does again: in words, as a record has it, and what to warn of."""

    line: str
    log: dict[str, Any]
    warning: str
