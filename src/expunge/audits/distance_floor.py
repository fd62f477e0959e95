"""How far an original ends from its own training again: the floor of a paired retraining's distance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from expunge.audits.weights import as_log, layer_distances
from expunge.errors import DivergenceError
from expunge.place import HERE, Place
from expunge.trained.again import trained_again
from expunge.trained.record import SeedNames
from expunge.trained.trained import Trained
from expunge.training.cost import Cost


@dataclass(frozen=True)
class DistanceFloor:
    """How far an original is from its own training again: distances as `as_log` has them, empty where
    that training diverged (`warning`), and what it took.
    """

    distances: dict[str, Any]
    cost: Cost
    warning: str = ""

    def booked(self, cost: Cost) -> Cost:
        """The cost of a retraining, with what this took standing apart."""
        return replace(
            cost,
            reported_seconds=cost.reported_seconds + self.cost.seconds,
            reported_reads={
                part: cost.reported_reads.get(part, 0) + count
                for part, count in self.cost.reads.items()
                if count
            },
        )


def distance_floor(
    original: Trained, names: SeedNames, *, place: Place = HERE
) -> DistanceFloor | None:
    """The floor of distances to a paired retraining; it does not depend on what is forgotten.

    names: the seed names that the original's training began with. None for an original that has come
    away from where that training ended.
    """
    if original.record.step not in ("train", "retrain") or original.trained_by is not None:
        return None
    try:
        again, cost = trained_again(original, names, place=place)
    except DivergenceError as error:
        return DistanceFloor({}, Cost(), f"no floor of the distance: {error}")
    return DistanceFloor(as_log(layer_distances(again, original.model)), cost)
