"""Sparse originals: trained from nothing under a mask found on the way, or cut from a trained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.methods.taking_part import check_prunes
from expunge.models.copying import copied
from expunge.models.mask import Mask, apply_mask, layer_sparsity, sparsity_of
from expunge.place import HERE, Place
from expunge.pruning import Pruner, make_pruner, pruner_name
from expunge.pruning.base import FINE_TUNING
from expunge.pruning.search import MaskSearch, State, find_mask, train_found
from expunge.trained.recorded import record_of
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.session import (
    Fresh,
    Session,
    architecture_of,
    constructor,
    finished,
    open_session,
    resolve_recipe,
)

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False, repr=False)
class Pruned(Trained):
    """A sparse original.

    Attributes:
        dense: the trained dense model that the mask was cut from, where there was one.
        early: state that training under the mask started from, for another pruner on the same dense
            model; None where the cut weights went on as they were.
    """

    dense: nn.Module | None = None
    early: State | None = None


def train_sparse(
    data: Data,
    model: str | Fresh,
    pruner: str | Pruner,
    *,
    recipe: Recipe,
    split: Split,
    seed: int = 0,
    place: Place = HERE,
    allow_code: bool,
) -> Pruned:
    """Train a sparse original: train (where the pruner needs it), cut, rewind, train again.

    The arguments are those of `train`, the recipe's augmentation resolved.

    Raises ConfigError for settings that do not fit, DivergenceError if a training diverges.
    """
    pruner = make_pruner(pruner, allow_code=allow_code) if isinstance(pruner, str) else pruner
    fresh = constructor(model, data, split.whole_again(), allow_code=allow_code)
    session = _session(data, fresh, pruner, split.whole_again(), recipe, seed, None, place)
    network = session.untrained()
    with session.measured(network):
        search = find_mask(network, pruner, session.view, session.run, recipe)
        losses = _train(network, search, session, recipe)
    dense = _restored(network, search.dense)
    made = _Made(pruner, search, recipe, losses, given=False)
    learned = session.view.split
    record = record_of("prune", learned, **made.fields(session))
    return Pruned(
        finished(network, CPU, made.mask),
        data,
        learned,
        (record,),
        recipe,
        fresh,
        architecture=architecture_of(model),
        mask=made.mask,
        seed=seed,
        dense=finished(dense, CPU, None) if dense is not None else None,
        early=made.early,
    )


def prune(
    original: Trained,
    pruner: str | Pruner = "omp",
    *,
    recipe: Recipe | None = None,
    rewind: Mapping[str, Tensor] | None = None,
    rewind_epoch: int | None = None,
    seed: int | None = None,
    place: Place = HERE,
    allow_code: bool = True,
) -> Pruned:
    """Cut a trained model, which is not changed; a sparse one is cut further.

    Args:
        original: its weights are cut. What it was asked to forget is not read again.
        pruner: a name, or a pruner object.
        recipe: how to train on under the mask: by default the original's recipe at a constant rate
            of 0.01 for 10 epochs. Not with `rewind`, which repeats the original's.
        rewind: the state of its training after `rewind_epoch` epochs, to go back to after each cut.
        rewind_epoch: which epoch that is of.
        seed: by default the original's own.
        place: device and progress.
        allow_code: whether a pruner that is `module:Class` may be imported; False for a name from a
            file.

    Raises:
        ConfigError: for settings that do not fit.
        SplitError: for a model that learned what deletion requests struck since.
        DivergenceError: if a training diverges.
    """
    pruner = make_pruner(pruner, allow_code=allow_code) if isinstance(pruner, str) else pruner
    check_prunes(original.trained_by, original.name)
    data, split = original.data, original.split.settled()
    data.struck.check_forgotten(split.retain)
    split = split.withholding(data.struck.ids)
    used = _recipe_under_mask(original.recipe, recipe, rewound=rewind is not None)
    used = resolve_recipe(used, data, split)
    fresh = original.fresh or _nobody_said
    at = (original.seed or 0) if seed is None else seed
    session = _session(data, fresh, pruner, split, used, at, original.mask, place)
    network = copied(original.model).to(session.run.device)
    apply_mask(network, original.mask)
    with session.measured(network):
        search = find_mask(
            network,
            pruner,
            session.view,
            session.run,
            used,
            trained=True,
            early=rewind,
            early_epoch=rewind_epoch,
        )
        losses = _train(network, search, session, used)
    dense = _restored(network, search.dense)
    made = _Made(pruner, search, used, losses, given=True)
    record = record_of("prune", split, original, **made.fields(session))
    return Pruned(
        finished(network, CPU, made.mask),
        data,
        split,
        original.history_with(record),
        original.recipe,
        original.fresh,
        architecture=original.architecture,
        mask=made.mask,
        seed=original.seed,
        split_seed=original.split_seed,
        redacted=original.redacted,
        key=original.key,
        struck=original.struck,
        dense=finished(dense, CPU, None) if dense is not None else None,
        early=made.early,
    )


def mask_without(
    data: Data,
    model: str | Fresh,
    pruner: Pruner,
    split: Split,
    *,
    recipe: Recipe,
    seed: int = 0,
    place: Place = HERE,
    allow_code: bool,
) -> Mask:
    """The mask that a pruner finds without the split's forget set, all else as of the original.

    Initial weights, order, augmentation and batches are those of the original with this seed, the
    forget set struck out of each batch. `mask_in_other_order` says how alike two masks are anyway.
    allow_code: whether a model that is `module:function` may be imported.
    """
    recipe = resolve_recipe(recipe, data, split)
    fresh = constructor(model, data, split, allow_code=allow_code)
    session = _session(data, fresh, pruner, split, recipe, seed, None, place)
    view = replace(session.view, cut="struck")
    return _on_cpu(find_mask(session.run.fresh(), pruner, view, session.run, recipe).mask)


def mask_in_other_order(
    data: Data,
    model: str | Fresh,
    pruner: Pruner,
    split: Split,
    *,
    recipe: Recipe,
    seed: int = 0,
    place: Place = HERE,
    allow_code: bool,
) -> Mask:
    """The mask that a pruner finds with nothing removed and the same initial weights, in another order.

    The floor beside `mask_without`: its overlap with the original's mask is there with nothing
    forgotten. The split's retain and forget sets are learned from together.
    """
    whole = split.whole_again()
    recipe = resolve_recipe(recipe, data, whole)
    fresh = constructor(model, data, whole, allow_code=allow_code)
    session = _session(data, fresh, pruner, whole, recipe, seed, None, place)
    view = session.view.named("floor")
    return _on_cpu(find_mask(session.run.fresh(), pruner, view, session.run, recipe).mask)


@dataclass(frozen=True)
class _Made:
    """What a search and the training after it left. given: the weights were trained before."""

    pruner: Pruner
    search: MaskSearch
    recipe: Recipe
    trained: dict[str, Any]
    given: bool

    @property
    def mask(self) -> dict[str, Tensor]:
        """The mask, on the CPU."""
        return _on_cpu(self.search.mask)

    @property
    def early(self) -> dict[str, Tensor] | None:
        """The state that training under the mask began with, on the CPU."""
        return None if self.search.early is None else _on_cpu(self.search.early)

    def fields(self, session: Session) -> dict[str, Any]:
        """Of the record."""
        pruner = self.pruner
        return {
            "settings": {
                "pruner": pruner_name(pruner),
                **pruner.model_dump(),
                "recipe": self.recipe.model_dump(),
            },
            "names": session.run.names,
            "cost": session.cost,
            "log": session.run.log | _described(pruner, self.search, self.given) | self.trained,
        }


def _train(
    model: nn.Module, search: MaskSearch, session: Session, recipe: Recipe
) -> dict[str, Any]:
    """Train under the mask; what the record says of it."""
    fitted = train_found(model, search, session.view, session.run, recipe)
    return {"losses": fitted.losses, "precision": fitted.precision}


def _recipe_under_mask(original: Recipe | None, asked: Recipe | None, *, rewound: bool) -> Recipe:
    """What the training under the mask of a trained model goes by."""
    if not rewound:
        return asked or (original or Recipe(augmentation="none")).but(**FINE_TUNING)
    if asked is not None:
        raise ConfigError(
            "training from rewound or initial weights repeats the original's recipe; leave other "
            "settings of training out, or do not rewind"
        )
    if original is None:
        raise ConfigError(
            "rewinding goes on with the original's recipe, and this model comes without one: "
            "import it with --recipe, or leave --rewind out and fine-tune the cut weights"
        )
    return original


def _session(
    data: Data,
    fresh: Fresh,
    pruner: Pruner,
    split: Split,
    recipe: Recipe,
    seed: int,
    mask: Mask | None,
    place: Place,
) -> Session:
    """Under the original's seed names, so that its beginning can be repeated."""
    return open_session(
        ("original", seed),
        f"pruning by {pruner.name}",
        data,
        split,
        Part.RETAIN | Part.VALIDATION,
        recipe=recipe,
        fresh=fresh,
        mask=mask,
        place=place,
    )


def _nobody_said() -> nn.Module:
    raise ConfigError("nobody said how to make this model anew; pass fresh=... to `adopt`")


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in tensors.items()}


def _restored(model: nn.Module, state: State | None) -> nn.Module | None:
    """A copy of the model with another state; None without one."""
    if state is None:
        return None
    other = copied(model)
    other.load_state_dict(dict(state))
    return other


def _described(pruner: Pruner, search: MaskSearch, given: bool) -> dict[str, Any]:
    """What a record says of a mask and of where its training began."""
    if search.early is None:
        start = "the cut weights of the trained model, fine-tuned"
    elif not given and search.first_epoch == 0:
        start = "the initial weights"
    else:
        start = f"weights and buffers of epoch {search.first_epoch}"
    return {
        "sparsity": sparsity_of(search.mask),
        "layers": layer_sparsity(search.mask),
        "saw_data": pruner.trained or given,
        "start": start,
        "first_epoch": search.first_epoch,
        "cuts": len(pruner.cuts()),
        "seconds_to_mask": search.seconds,
    }
