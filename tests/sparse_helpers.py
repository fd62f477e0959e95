"""Masks written out and compared, and pruning as the tests of it do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from helpers import digits, run_on_cpu, view_of
from torch import Tensor, nn

from expunge.api import adopt, train
from expunge.data.cuts import Cut
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.models.mask import Mask
from expunge.models.table import build_model
from expunge.place import Place
from expunge.pruning import Pruner, make_pruner
from expunge.pruning.original import Pruned, prune
from expunge.training.fit import train_from
from expunge.training.recipe import Recipe
from expunge.training.run import Run

T, F = True, False

# ---- masks


def bools(*rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """The same values under the same names, in the same order."""
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def is_within(narrow: Mask, wide: Mask) -> bool:
    """Whether what the wide mask cuts is cut by the narrow one, too."""
    return not any((keep & ~wide[key]).any() for key, keep in narrow.items())


def blind(data: Data | None = None) -> DataView:
    """A view that hands out no sample."""
    data = data or digits()
    return view_of(data, Split.whole(data, validation=0), Part.NONE)


# ---- pruning on digits

State = dict[str, Tensor]
RECIPE = Recipe(epochs=3, batch_size=64, lr=0.05, augmentation="none", precision="float32")


def quick(name: str, **settings: Any) -> Pruner:
    return make_pruner(
        name, {**({"steps": 10} if name == "synflow" else {}), **settings}, allow_code=True
    )


def pruned(pruner: str | Pruner, architecture: str = "cnn", **options: Any) -> Pruned:
    pruner = quick(pruner) if isinstance(pruner, str) else pruner
    return made_sparse(digits(), architecture, pruner, **{"recipe": RECIPE, **options})


def made_sparse(
    data: Data,
    architecture: Any,
    pruner: str | Pruner,
    *,
    recipe: Recipe,
    split: Split | None = None,
    seed: int = 0,
    trained: nn.Module | None = None,
    mask: Mask | None = None,
    sparse_recipe: Recipe | None = None,
    device: str = "cpu",
    **rewinding: Any,
) -> Pruned:
    """A sparse model: trained under a mask from nothing, or cut from a bare trained module."""
    split, place = split or Split.whole(data), Place(device=device)
    if trained is None:
        found = train(
            data, architecture, recipe=recipe, split=split, pruner=pruner, seed=seed, place=place
        )
        assert isinstance(found, Pruned)
        return found
    whole = adopt(trained, data, recipe=recipe, fresh=architecture, split=split, mask=mask)
    return prune(whole, pruner, recipe=sparse_recipe, seed=seed, place=place, **rewinding)


def state_of(model: nn.Module) -> State:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def under(mask: Mask, state: State) -> State:
    """A state with 0 wherever the mask cuts."""
    return {
        key: torch.where(mask[key], value, 0) if key in mask else value
        for key, value in state.items()
    }


def run_by_hand(architecture: str = "cnn", seed: int = 0) -> Run:
    """The run that trains an original."""
    return run_on_cpu(
        names=("original", seed),
        constructor=lambda: build_model(architecture, (1, 8, 8), 10, allow_code=True),
    )


def trained_by_hand(
    recipe: Recipe = RECIPE,
    *,
    start: State | None = None,
    mask: Mask | None = None,
    first_epoch: int = 0,
    split: Split | None = None,
    architecture: str = "cnn",
    cut: Cut = "filled",
    order: str | None = None,
) -> dict[int, State]:
    """Epochs done -> state, of a training on digits as an original gets it, or in another `order`."""
    run = run_by_hand(architecture)
    split = split or Split.whole(digits())
    view = view_of(digits(), split, names=run.names, cut=cut)
    view = view if order is None else view.named(order)
    model = run.fresh()
    if start is not None:
        model.load_state_dict(start)
    states = {first_epoch: state_of(model)}
    train_from(
        model,
        view,
        run_on_cpu(names=run.names, mask=mask),
        recipe,
        first_epoch=first_epoch,
        after_epoch=lambda network, epoch: states.update({epoch + 1: state_of(network)}),
    )
    return states
