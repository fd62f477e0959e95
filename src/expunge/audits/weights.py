"""Weight distance: how far a model's weights are from a retrained model's, layer by layer.

Tarun et al. (TNNLS 2023). It means something against a *paired* retraining, with the same initial
weights and the same batch order without the forget set; against any other it measures the draw of
the initial weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from expunge.audits.base import Audit, Need
from expunge.errors import ModelError
from expunge.scores.score import Score
from expunge.scores.table import SCORES, ScoreInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.audits.panel import Panel


class WeightDistance(Audit):
    """Distance of all weights to the retrained model's; it means something where that is paired."""

    name: ClassVar[str] = "weight_distance"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["weight_distance"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"model", "retrained"})

    def scores(self, panel: Panel) -> Iterator[Score]:
        """See `weight_distance`."""
        if panel.retrained is not None:
            yield weight_distance(panel.subject.model, panel.retrained.model, paired=panel.paired)


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


def weight_distance(model: nn.Module, retrained: nn.Module, *, paired: bool | None = None) -> Score:
    """`weight_distance`: ||model - retrained|| / ||retrained|| over all parameters, 0 = the same.

    paired: whether the retrained model began where the original did; None where that is unknown.
    The detail has `l2`, and both distances per layer.
    """
    found: Mapping[str, Distance] = layer_distances(model, retrained)
    layers = {name: {"l2": one.l2, "relative": one.relative} for name, one in found.items() if name}
    return Score(
        "weight_distance",
        found[""].relative,
        sum(p.numel() for p in model.parameters()),
        None,
        None,
        "relative",
        "low",
        {"l2": found[""].l2, "paired": paired, "layers": layers},
    )
