"""Training under a mask: train where the pruner needs it, cut, rewind, train again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from expunge.data.view import DataView
from expunge.errors import ConfigError
from expunge.models.mask import Mask, apply_mask, check_fits
from expunge.pruning.base import Pruner
from expunge.training.fit import FitLog, train_from
from expunge.training.recipe import Recipe
from expunge.training.run import Run

State = Mapping[str, Tensor]
"""A state dict: weights and buffers."""


@dataclass
class MaskSearch:
    """How a mask was found.

    first_epoch: where training under the mask begins. early: the state at that point; None where
    the cut weights go on as they are. dense: the state of the trained dense model, where there was
    one. seconds: of the whole search, its trainings included.
    """

    mask: Mask
    first_epoch: int
    early: State | None = None
    dense: State | None = None
    seconds: float = 0.0
    fits: list[FitLog] = field(default_factory=list)


def find_mask(
    model: nn.Module,
    pruner: Pruner,
    data: DataView,
    run: Run,
    recipe: Recipe,
    *,
    trained: bool = False,
    early: State | None = None,
    early_epoch: int | None = None,
) -> MaskSearch:
    """Find a mask, and leave `model` where training under it begins, its cut weights 0.

    model: untrained, with `recipe` the original's; changed in place. Or, with `trained`, a dense
    model from elsewhere, which is not trained before the first cut. Then `early` is the state after
    `early_epoch` epochs of the recipe, to rewind to after each cut; without it the cut weights are
    trained on by `recipe` from its start. `run.mask` of a sparse model is cut further.

    Raises ConfigError where the rewinding epoch is not inside the recipe.
    """
    start = time.perf_counter()
    first_epoch = 0
    if not trained or early is not None:
        first_epoch = pruner.rewind_to(recipe) if early_epoch is None else early_epoch
    if first_epoch >= recipe.epochs:
        raise ConfigError(
            f"{pruner.name}: rewinding to epoch {first_epoch} leaves nothing of a recipe of "
            f"{recipe.epochs} epochs; set a smaller rewind_epoch, or train longer"
        )
    search = MaskSearch(run.mask or {}, first_epoch, early)
    if not trained and first_epoch == 0:
        search.early = snapshot(model)
    mask = run.mask
    for number, target in enumerate(pruner.cuts()):
        if pruner.trained and (number > 0 or not trained):
            whole = number == 0
            search.fits.append(_train(model, data, replace(run, mask=mask), recipe, search, whole))
            if whole:
                with run.only_reported():  # no mask needs it
                    search.dense = snapshot(model)
        mask = _checked(pruner, pruner.mask(model, data, run, sparsity=target, within=mask), model)
        if search.early is not None:
            model.load_state_dict(search.early)
        apply_mask(model, mask)
    search.mask = mask or {}
    search.seconds = time.perf_counter() - start
    return search


def _checked(pruner: Pruner, mask: object, model: nn.Module) -> Mask:
    """The mask that a pruner gave. Raises ConfigError for what is none of this model."""
    if not isinstance(mask, Mapping) or not mask:
        raise ConfigError(
            f"pruner {pruner.name} gave {type(mask).__name__}, not a mask: parameter name -> bool tensor"
        )
    for name, keep in mask.items():
        if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
            kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
            raise ConfigError(f"pruner {pruner.name}: the mask of {name!r} is {kind}, not bool")
    check_fits(model, mask, "mask")
    return mask


def train_found(
    model: nn.Module, search: MaskSearch, data: DataView, run: Run, recipe: Recipe
) -> FitLog:
    """Train under the mask that was found, from where `find_mask` left the model."""
    under = replace(run, mask=search.mask)
    return train_from(model, data, under, recipe, first_epoch=search.first_epoch)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _train(
    model: nn.Module, data: DataView, run: Run, recipe: Recipe, search: MaskSearch, whole: bool
) -> FitLog:
    """A training before a cut; the first, from epoch 0, leaves its early state in `search`."""

    def after_epoch(network: nn.Module, epoch: int) -> None:
        if epoch + 1 == search.first_epoch:
            search.early = snapshot(network)

    return train_from(
        model,
        data,
        run,
        recipe,
        first_epoch=0 if whole else search.first_epoch,
        after_epoch=after_epoch if whole else None,
    )
