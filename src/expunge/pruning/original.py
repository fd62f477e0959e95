"""`prune`: sparse originals, and what it takes to judge a pruner."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.api import Record, Result, train
from expunge.audits.observe import accuracy
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Task
from expunge.data.view import DataView
from expunge.errors import ConfigError, SplitError
from expunge.models.mask import Mask, apply_mask, layer_sparsity, overlap, sparsity_of
from expunge.progress import Reporter, Silent
from expunge.pruning import Pruner, make_pruner, pruner_name
from expunge.pruning.base import FINE_TUNING
from expunge.pruning.search import Search, State, find_mask, train_found
from expunge.training.cost import Meter
from expunge.training.recipe import Recipe
from expunge.training.run import Run, accelerator_on
from expunge.training.session import (
    Fresh,
    constructor,
    cost_of,
    finished,
    make_run,
    make_view,
    resolve_recipe,
    warm_up,
)

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pruned(Result):
    """A sparse original.

    dense: the trained dense model that the mask was cut from, where there was one. early: state
    that training under the mask started from, for another pruner on the same dense model; None
    where the cut weights went on as they were.
    """

    dense: nn.Module | None = None
    early: State | None = None


def prune(
    data: Data,
    model: str | Fresh = "resnet18",
    pruner: str | Pruner = "omp",
    *,
    recipe: Recipe | None = None,
    split: Split | None = None,
    seed: int = 0,
    trained: nn.Module | None = None,
    rewind: Mapping[str, Tensor] | None = None,
    rewind_epoch: int | None = None,
    sparse_recipe: Recipe | None = None,
    mask: Mask | None = None,
    task: Task | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
) -> Pruned:
    """Make a sparse original: train (where the pruner needs it), cut, rewind, train again.

    model, recipe, split, seed: as `train` takes them.
    trained: a trained dense model to start from, not changed. Then `rewind` is its state after
    `rewind_epoch` epochs of the recipe; without it the cut weights are trained on by
    `sparse_recipe`, by default the recipe at a constant rate of 0.01 for 10 epochs.
    mask: of `trained`, if it is sparse already: it is cut further.

    recipe may be None for a trained model whose recipe is not known and that is not rewound.

    Raises ConfigError for settings that do not fit, DivergenceError if a training diverges.
    """
    pruner = make_pruner(pruner) if isinstance(pruner, str) else pruner
    if trained is None and (rewind is not None or mask is not None):
        raise ConfigError("rewind and mask belong to a trained model; pass it as trained=")
    split = split or Split.whole(data)
    if recipe is not None or trained is None:
        recipe = resolve_recipe(recipe or Recipe(), data, split)
    used = _recipe_under_mask(recipe, sparse_recipe, trained is not None, rewind is not None)
    used = resolve_recipe(used, data, split)
    learned, view, run = _prepared(
        data, model, pruner, split, used, seed, mask, task, device, progress
    )
    network = run.fresh() if trained is None else copy.deepcopy(trained).to(run.device)
    apply_mask(network, mask)
    warmed = warm_up(network, view, run)
    with Meter(run.device) as meter:
        search = find_mask(
            network,
            pruner,
            view,
            run,
            used,
            trained=trained is not None,
            early=rewind,
            early_epoch=rewind_epoch,
        )
        dense = _restored(network, search.dense)
        fitted = train_found(network, search, view, run, used)
    log = _described(pruner, search, trained is not None)
    log |= {"losses": fitted.losses, "precision": fitted.precision}
    settings = {"pruner": pruner_name(pruner), **pruner.model_dump(), "recipe": used.model_dump()}
    record = Record("prune", settings, run.names, cost_of(meter, view, run, warmed), log=log)
    kept = {name: keep.cpu() for name, keep in search.mask.items()}
    early = None if search.early is None else {k: v.cpu() for k, v in search.early.items()}
    return Pruned(
        finished(network, CPU, kept),
        record,
        learned,
        recipe,
        kept,
        dense=finished(dense, CPU, None) if dense is not None else None,
        early=early,
    )


@dataclass(frozen=True)
class Criteria:
    """How good a pruner is for unlearning (Jia et al., section 4).

    overlap: Jaccard index of the kept weights found with and without the forget set; 1 = the mask
    does not depend on it. test_accuracy, dense_test_accuracy: in percent. seconds: to find the
    mask, its trainings included. dense_seconds: to train the dense original.
    """

    pruner: str
    sparsity: float
    overlap: float
    test_accuracy: float
    dense_test_accuracy: float
    seconds: float
    dense_seconds: float

    @property
    def difference(self) -> float:
        """Test accuracy of the sparse original minus the dense one's, in points."""
        return self.test_accuracy - self.dense_test_accuracy


def pruning_criteria(
    data: Data,
    model: str | Fresh,
    pruner: Pruner,
    split: Split,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    sparse: Pruned | None = None,
    dense: Result | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
) -> Criteria:
    """Judge a pruner on a forget request: a dense and a sparse original, and a second mask.

    The second mask is found on the retain set alone, with the same initialisation and the same
    order of the samples that stay. sparse, dense: these originals where they were made before, with
    the same recipe and seed.
    Raises SplitError if there is nothing to forget.
    """
    if not split.forget:
        raise SplitError("without a forget set no mask depends on it; name one")
    common: dict[str, Any] = {"seed": seed, "device": device, "progress": progress}
    recipe = resolve_recipe(recipe or Recipe(), data, split)
    whole = Split((*split.retain, *split.forget), (), split.validation, split.excluded)
    sparse = sparse or prune(data, model, pruner, recipe=recipe, split=whole, **common)
    dense = dense or train(data, model, recipe=recipe, split=whole, **common)
    blind = mask_without(data, model, pruner, split, recipe=recipe, **common)
    run = Run(
        names=("criteria", seed), accelerator=accelerator_on(device), progress=progress or Silent()
    )
    return Criteria(
        pruner=pruner.name,
        sparsity=sparsity_of(sparse.mask or {}),
        overlap=overlap(sparse.mask or {}, blind),
        test_accuracy=accuracy(sparse.model, data, run),
        dense_test_accuracy=accuracy(dense.model, data, run),
        seconds=float(sparse.record.log["seconds_to_mask"]),
        dense_seconds=dense.record.cost.seconds,
    )


def mask_without(
    data: Data,
    model: str | Fresh,
    pruner: Pruner,
    split: Split,
    *,
    recipe: Recipe,
    seed: int = 0,
    device: str | None = None,
    progress: Reporter | None = None,
) -> Mask:
    """The mask that a pruner finds without the split's forget set.

    Initialisation and order of the samples that stay are those of the original with this seed.
    """
    kept = Split(split.retain, (), split.validation, (*split.excluded, *split.forget))
    recipe = resolve_recipe(recipe, data, split)
    _, view, run = _prepared(data, model, pruner, kept, recipe, seed, None, None, device, progress)
    found = find_mask(run.fresh(), pruner, view, run, recipe).mask
    return {name: keep.cpu() for name, keep in found.items()}


def _recipe_under_mask(
    recipe: Recipe | None, asked: Recipe | None, trained: bool, rewound: bool
) -> Recipe:
    """What the training under the mask goes by."""
    if trained and not rewound:
        return asked or (recipe or Recipe(augmentation="none")).but(**FINE_TUNING)
    if asked is not None:
        raise ConfigError(
            "training from rewound or initial weights repeats the original's recipe; leave other "
            "settings of training out, or do not rewind"
        )
    if recipe is None:
        raise ConfigError(
            "rewinding goes on with the original's recipe, and this model comes without one: "
            "import it with --recipe, or leave --rewind out and fine-tune the cut weights"
        )
    return recipe


def _prepared(
    data: Data,
    model: str | Fresh,
    pruner: Pruner,
    split: Split,
    recipe: Recipe,
    seed: int,
    mask: Mask | None,
    task: Task | None,
    device: str | None,
    progress: Reporter | None,
) -> tuple[Split, DataView, Run]:
    """What is learned from, and the view and run under the original's seed names."""
    learned = Split((*split.retain, *split.forget), (), split.validation, split.excluded)
    fresh = constructor(model, data, learned)
    run = make_run(
        ("original", seed), f"pruning by {pruner.name}", recipe, fresh, task, mask, device, progress
    )
    return learned, make_view(data, learned, Part.RETAIN | Part.VALIDATION, run), run


def _restored(model: nn.Module, state: State | None) -> nn.Module | None:
    """A copy of the model with another state; None without one."""
    if state is None:
        return None
    other = copy.deepcopy(model)
    other.load_state_dict(dict(state))
    return other


def _described(pruner: Pruner, search: Search, given: bool) -> dict[str, Any]:
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
