"""The mask of a sparse model: which weights are kept, counted, compared and applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from expunge.errors import ConfigError, ModelError
from expunge.models.largest import Ranked, least_of_largest

Mask = Mapping[str, Tensor]
"""Parameter name -> bool tensor of its shape, True = kept. Parameters it does not name are dense."""

CONVOLUTIONS = (nn.modules.conv._ConvNd,)
EXACT = (torch.float32, torch.float64)
"""Types that scores are compared in as they are."""


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that pruning may cut: convolutions', or linear layers' where there are none.

    Biases, normalisation and (beside convolutions) the classifier stay dense, as in Jia et al.
    Raises ModelError for a model that has neither.
    """
    convolutional = any(isinstance(module, CONVOLUTIONS) for module in model.modules())
    kinds = CONVOLUTIONS if convolutional else (nn.Linear,)
    wanted = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, kinds) and isinstance(module.weight, nn.Parameter)
    }
    found = {name: p for name, p in model.named_parameters() if id(p) in wanted}
    if not found:
        raise ModelError(
            "the model has no convolution and no linear layer, so there is nothing to prune"
        )
    return found


def keep_largest(scores: Mapping[str, Tensor], sparsity: float, within: Mask | None = None) -> Mask:
    """One cut over all layers: the (1 - sparsity) share of weights with the largest scores.

    scores: parameter name -> score of each weight. within: an earlier mask; what it cut stays cut.
    The number kept is exact; of equal scores the first in order are kept.
    Raises ConfigError for a sparsity outside [0, 1), or one below that of `within`.
    """
    if not 0 <= sparsity < 1:
        raise ConfigError(f"sparsity {sparsity:g} is no share of the weights; give 0 to below 1")
    count = max(1, round((1 - sparsity) * sum(score.numel() for score in scores.values())))
    ranked = [
        Ranked(
            (score if score.dtype in EXACT else score.double()).detach(),
            None if within is None else within[name].to(score.device),
        )
        for name, score in scores.items()
    ]
    if any(one.unknown() for one in ranked):
        raise ConfigError("the pruning scores are not numbers; the model's weights are not finite")
    if sum(one.left() for one in ranked) < count:
        raise ConfigError(
            f"sparsity {sparsity:g} is below that of the mask that is cut further; ask for more"
        )
    least = least_of_largest(ranked, count)
    kept = [one.among(one.values >= least) for one in ranked]
    _drop_last(kept, ranked, least, sum(int(one.count_nonzero()) for one in kept) - count)
    return dict(zip(scores, kept, strict=True))


def _drop_last(
    kept: Sequence[Tensor], ranked: Sequence[Ranked], least: Tensor, too_many: int
) -> None:
    """Take the last of those that equal the least out of what is kept, in place."""
    for one, scores in zip(reversed(kept), reversed(ranked), strict=True):
        if too_many <= 0:
            return
        equal = one.logical_and(scores.values == least).flatten().nonzero().flatten()[-too_many:]
        dropped = torch.zeros(one.numel(), dtype=torch.bool, device=one.device)
        dropped[equal] = True
        one &= ~dropped.view(one.shape)  # whatever layout the scores have
        too_many -= len(equal)


def check_fits(model: nn.Module, given: Mapping[str, Tensor | bool], what: str) -> None:
    """Raise ConfigError for a mask (`what` names it) with parameters or shapes of another model."""
    parameters = dict(model.named_parameters())
    unknown = set(given) - set(parameters)
    if unknown:
        raise ConfigError(f"the {what} names {sorted(unknown)[0]!r}, which the model lacks")
    for key, value in given.items():
        if isinstance(value, Tensor) and value.shape != parameters[key].shape:
            raise ConfigError(
                f"the {what} of {key!r} has shape {tuple(value.shape)}, the parameter "
                f"{tuple(parameters[key].shape)}; give one boolean per weight"
            )


def apply_mask(model: nn.Module, mask: Mask | None) -> None:
    """Set the weights that the mask cuts to 0, in place; ConfigError if it is another model's."""
    check_fits(model, mask or {}, "mask")
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, keep in (mask or {}).items():
            # not a product: 0 times a weight that is not finite would not be 0
            parameters[name].masked_fill_(~keep.to(parameters[name].device), 0.0)


def sparsity_of(mask: Mask) -> float:
    """Share of weights that are cut, of those that the mask names, in [0, 1]."""
    total = sum(keep.numel() for keep in mask.values())
    return 1 - sum(int(keep.count_nonzero()) for keep in mask.values()) / max(1, total)


def layer_sparsity(mask: Mask) -> dict[str, float]:
    """Parameter name -> share of its weights that are cut, in [0, 1]."""
    return {name: sparsity_of({name: keep}) for name, keep in mask.items()}


def overlap(one: Mask, other: Mask) -> float:
    """Jaccard index of the kept weights of two masks of one model: 1 = the same, 0 = none shared.

    Raises ConfigError for masks of different models.
    """
    if {n: k.shape for n, k in one.items()} != {n: k.shape for n, k in other.items()}:
        raise ConfigError("two masks of different models have no overlap; prune one model twice")
    both = sum(int((keep & other[name].to(keep.device)).sum()) for name, keep in one.items())
    either = sum(int((keep | other[name].to(keep.device)).sum()) for name, keep in one.items())
    return both / max(1, either)
