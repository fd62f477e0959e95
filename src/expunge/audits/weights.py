"""Weight distance: how far a model's weights are from a retrained model's, layer by layer.

Tarun et al. (TNNLS 2023). It means something against a *paired* retraining, with the original's initial
weights, order, augmentation and batches, the forget set struck out of each; against any other it
measures the draw of the initial weights. Even then training is sensitive to everything: the *floor*
is the distance of the original to its own training again, in other batches, with nothing forgotten. A
distance of that size is chance; that of a small request may lie below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from expunge.audits.base import Audit, Family, Need
from expunge.errors import ModelError
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.audits.panel import Panel
    from expunge.trained.record import Pairing, Record

DISTANCE_FLOOR = "floor"
"""In the log of a paired retraining: the distance to the original of its own training again."""


class WeightDistance(Audit):
    """Distance of all weights to the retrained model's; it means something where that is paired."""

    name: ClassVar[str] = "weight_distance"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["weight_distance"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"model", "retrained"})
    family: ClassVar[Family] = "representation"

    def scores(self, panel: Panel) -> Iterator[Score]:
        """See `weight_distance`."""
        other = panel.pair or panel.retrained
        if other is not None:
            yield weight_distance(
                panel.subject.model,
                other.model,
                paired=panel.pairing,
                floor=floor_in(other.record),
            )


@dataclass(frozen=True)
class Distance:
    """l2: Euclidean distance. relative: divided by the reference's norm; nan where that is 0."""

    l2: float
    relative: float


def layer_distances(model: nn.Module, reference: nn.Module) -> dict[str, Distance]:
    """Distance of each layer's parameters (weight and bias together), in the model's order.

    The last entry, "" (a name no layer has), is over all parameters; buffers do not count.

    Raises ModelError for models of different makes.
    """
    import torch

    ours, theirs = dict(model.named_parameters()), dict(reference.named_parameters())
    if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in theirs.items()}:
        raise ModelError(
            "the two models have different parameters, so there is no distance between them; "
            "compare models of the same architecture"
        )
    squares: dict[str, Tensor] = {}
    for name, mine in ours.items():
        a, b = mine.detach().double().cpu(), theirs[name].detach().double().cpu()
        pair = torch.stack([(a - b).square().sum(), b.square().sum()])
        layer = name.rpartition(".")[0] or name
        squares[layer] = squares.get(layer, torch.zeros(2, dtype=torch.float64)) + pair
    squares[""] = torch.stack(list(squares.values())).sum(dim=0)
    return {layer: _distance(pair) for layer, pair in squares.items()}


def _distance(squares: Tensor) -> Distance:
    apart, norm = squares.sqrt().tolist()
    return Distance(apart, apart / norm if norm else float("nan"))


def as_log(found: Mapping[str, Distance]) -> dict[str, Any]:
    """Distances as a record has them: `l2` and `relative` over all parameters, and of the `layers`."""
    each = {name: {"l2": one.l2, "relative": one.relative} for name, one in found.items()}
    return {**each.pop(""), "layers": each}


def floor_in(record: Record) -> dict[str, Any] | None:
    """The floor in a retraining's record, as `as_log` writes it; None where there is none that can be.

    A record may come from a stranger's file: what is no finite distance is no floor.
    """
    found = record.log.get(DISTANCE_FLOOR)
    layers = found.get("layers") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(layers, Mapping):
        return None
    each = [found, *layers.values()]
    if not all(isinstance(one, Mapping) and _measured(one) for one in each):
        return None
    return {"l2": found["l2"], "relative": found["relative"], "layers": dict(layers)}


def _measured(one: Mapping[str, Any]) -> bool:
    values = [one.get("l2"), one.get("relative")]
    return all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in values)


def weight_distance(
    model: nn.Module,
    retrained: nn.Module,
    *,
    paired: Pairing | None = None,
    floor: Mapping[str, Any] | None = None,
) -> Score:
    """`weight_distance`: ||model - retrained|| / ||retrained|| over all parameters, 0 = the same.

    paired: what the retraining shares with the original's training; None where that is unknown.
    floor: of these distances, as `as_log` has them. The detail has `l2`, both distances per layer, and
    the floor.
    """
    found: Mapping[str, Distance] = layer_distances(model, retrained)
    log = as_log(found)
    return Score(
        "weight_distance",
        found[""].relative,
        sum(p.numel() for p in model.parameters()),
        None,
        None,
        "relative",
        "low",
        {"l2": log["l2"], "paired": paired, "layers": log["layers"], "floor": floor},
    )
