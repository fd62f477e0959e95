"""The theory check of sparsity: does gradient ascent's error fall with sparsity as its bound does?

Proposition 2 of Jia et al. (NeurIPS 2023) bounds the error of gradient ascent on a model that was
trained under a mask m, up to a constant factor, by

    e(m) = O(eta^2 t ||m . (theta_t - theta_0)||_2 sigma(m)).

The error is the distance of weights from a retrained model's, and sigma(m) is read as the largest
absolute eigenvalue of M H M, for a mask M and the Hessian H of the training loss. Here the factors
are computed at several sparsities, beside the distance to a paired retraining and its floor: the
distance of the original to its own training again, nothing removed, in other batches. As the constant
is unknown, only the trends can be compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from expunge.api import train, unlearn
from expunge.audits.accuracy import accuracy_on_test, unlearning_accuracy
from expunge.audits.observe import observe
from expunge.data.batch import Batch
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import ConfigError, DivergenceError, SplitError
from expunge.methods import Method, make_method, method_name
from expunge.models.mask import Mask, prunable
from expunge.per_sample.curvature import hessian_product, masked, top_eigenvalue
from expunge.per_sample.plain import ByName
from expunge.place import HERE, Place
from expunge.progress import Silent, Step
from expunge.pruning import Pruner, make_pruner, pruner_name
from expunge.pruning.base import sparsity_levels
from expunge.pruning.original import prune
from expunge.trained.again import trained_again
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.run import Run, accelerator_on
from expunge.training.session import Fresh, constructor, open_session, resolve_recipe

SPARSITIES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.99)
MODELS = ("original", "forgot", "retrained")
COLUMNS = (
    "sparsity_percent",
    "kept_weights",
    "learning_rate",
    "steps",
    "weight_change_l2",
    "top_eigenvalue",
    "factor_product",
    "factor_product_relative",
    "distance_l2",
    "distance_relative",
    "distance_percent_of_retrained",
    "untouched_distance_l2",
    "floor_distance_l2",
    "moved_by_method_l2",
    *(f"ua_{name}_percent" for name in MODELS),
    *(f"ta_{name}_percent" for name in MODELS),
    "seconds",
    "seed",
    "pruner",
    "method",
    "momentum",
    "hessian_samples",
    "error",
)
"""Of the frame. Norms are Euclidean, over all parameters that train and no buffers.

sparsity_percent, kept_weights: asked for; prunable weights that the mask keeps.
learning_rate, steps: eta of the recipe, and t of the original's training.
weight_change_l2: ||m . (theta_t - theta_0)||_2.
top_eigenvalue: of M H M, the one of largest magnitude, with its sign, to 1 %. H is the Hessian of
    the mean training loss in evaluation mode, without weight decay.
factor_product: eta^2 t ||m . (theta_t - theta_0)||_2 |top eigenvalue|.
distance_l2: ||theta_GA - theta_r||_2. untouched_distance_l2: ||theta_t - theta_r||_2, if nothing is
    done. floor_distance_l2: ||theta_t - theta_a||_2 for the original's training a again, nothing
    removed, in other batches: so much of a distance is chance.
moved_by_method_l2: ||theta_GA - theta_t||_2.
factor_product_relative, distance_relative: divided by their values at sparsity 0.
distance_percent_of_retrained: 100 distance_l2 / ||theta_r||_2.
ua_*_percent, ta_*_percent: as `audit` has them, of the original, of the method's result ("forgot")
    and of the retrained model.
seconds: wall time of the row. error: why a row is incomplete, where something diverged.
"""
TEXTS = ("pruner", "method", "error")
STAGES = 5
"""Of each sparsity: train, eigenvalue, forget, retrain, train again for the floor."""
BATCH = 256
"""Samples a pass of a Hessian-vector product; the result does not depend on it."""


def diagnose_sparsity(
    data: Data,
    model: str | Fresh,
    split: Split,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    pruner: str | Pruner = "omp",
    method: str | Method = "gradient_ascent",
    recipe: Recipe | None = None,
    constant_rate: bool = True,
    seed: int = 0,
    hessian_samples: int = 1000,
    place: Place = HERE,
    allow_code: bool,
) -> pd.DataFrame:
    """The factors of proposition 2, and the error that it bounds, at each sparsity.

    One dense model is trained from theta_0 and each mask is cut from it, so masks of `omp`, `imp`
    and `random` are nested (`random` and `synflow` look at no trained weights). Each original is
    trained under its mask from theta_0 anew, whatever epoch the pruner would rewind to. The
    retraining is paired: the same theta_0 to the bit, the same mask, and the original's own batches
    with the forget set struck out of each, so that only the removal differs.

    model: an architecture's name, `module:function`, or a function that draws its weights from
    torch's generator alone. sparsities: shares of the prunable weights in [0, 1), with 0 among
    them, which the trends are relative to. pruner: its own sparsity is not used. recipe: SGD. The
    proposition assumes a constant rate and no momentum: the schedule is made constant unless
    `constant_rate` is False, momentum is as given. hessian_samples: a seeded part of what the
    original learned from, the same at each sparsity. allow_code: whether names of code may be imported.

    Returns one row per sparsity, ascending; `COLUMNS` says what is in it.

    Raises SplitError if there is nothing to forget, ConfigError for settings that do not fit,
    DivergenceError if the dense training diverges; later ones are recorded in their row.
    """
    levels = sparsity_levels(sparsities)
    if not split.forget:
        raise SplitError(
            "the split has nothing to forget, so there is no error to bound; name some"
        )
    if hessian_samples < 1:
        raise ConfigError(f"hessian_samples = {hessian_samples}: give 1 or more")
    check = _Check(
        data=data,
        model=model,
        split=split,
        pruner=make_pruner(pruner, allow_code=allow_code) if isinstance(pruner, str) else pruner,
        method=make_method(method, allow_code=allow_code) if isinstance(method, str) else method,
        recipe=_plain(resolve_recipe(recipe or Recipe(), data, split), constant_rate),
        seed=seed,
        hessian_samples=hessian_samples,
        place=place,
        allow_code=allow_code,
    )
    with place.progress.work("sparsity and theory", STAGES * len(levels)) as bar:
        rows = [check.row(sparsity, bar) for sparsity in levels]
    return _with_relative(pd.DataFrame(rows, columns=list(COLUMNS)))


def factor_product(
    learning_rate: float, steps: int, weight_change: float, eigenvalue: float
) -> float:
    """eta^2 t ||m . (theta_t - theta_0)||_2 sigma(m): proposition 2 without its constant."""
    return learning_rate**2 * steps * weight_change * abs(eigenvalue)


def masked_eigenvalue(
    model: nn.Module, batches: Iterable[Batch], run: Run, mask: Mask | None = None
) -> float:
    """The eigenvalue of M H M of largest magnitude, with its sign.

    H: Hessian of the mean loss over `batches` (iterated once for each product) with respect to the
    parameters that train. M: the mask as a diagonal matrix, 1 for parameters it does not name.
    """

    def product(vector: ByName) -> ByName:
        return masked(hessian_product(model, batches, run, masked(vector, mask)), mask)

    return top_eigenvalue(product, parameters(model))


def distance(one: ByName, other: ByName | None = None, mask: Mask | None = None) -> float:
    """Euclidean distance of two sets of named tensors (by default from 0), of the kept entries."""
    apart = {
        name: value.detach().double().cpu()
        - (other[name].detach().double().cpu() if other is not None else 0.0)
        for name, value in one.items()
    }
    return math.sqrt(sum(float(value.square().sum()) for value in masked(apart, mask).values()))


@dataclass
class _Check:
    """All that is common to the sparsities; the dense model and theta_0 are made once."""

    data: Data
    model: str | Fresh
    split: Split
    pruner: Pruner
    method: Method
    recipe: Recipe
    seed: int
    hessian_samples: int
    place: Place
    allow_code: bool
    whole: Split = field(init=False)
    run: Run = field(init=False)
    learned: DataView = field(init=False)
    start: dict[str, Tensor] = field(init=False)
    dense: Trained | None = None

    def __post_init__(self) -> None:
        self.whole = self.split.whole_again()
        session = open_session(
            ("original", self.seed),
            "sparsity and theory",
            self.data,
            self.whole,
            Part.RETAIN,
            recipe=self.recipe,
            fresh=constructor(self.model, self.data, self.whole, allow_code=self.allow_code),
            mask=None,
            place=replace(self.place, progress=Silent()),
        )
        self.run, self.learned = session.run, session.view
        self.start = self.run.fresh().state_dict()
        again = self.run.fresh().state_dict()
        if any(not torch.equal(value, again[name]) for name, value in self.start.items()):
            raise ConfigError(
                "the model's function draws other weights from the same seed, so no retraining can "
                "start where the original did; let it draw from torch's generator alone"
            )

    def row(self, sparsity: float, bar: Step) -> dict[str, Any]:
        """One row of the frame; what diverged leaves nan behind it, and a word in `error`."""
        begin = time.perf_counter()
        row: dict[str, Any] = dict.fromkeys(COLUMNS, math.nan) | dict.fromkeys(TEXTS, "")
        row |= {
            "sparsity_percent": round(100 * sparsity, 10),
            "seed": self.seed,
            "learning_rate": self.recipe.lr,
            "momentum": self.recipe.momentum,
            "hessian_samples": min(self.hessian_samples, self.learned.size(Part.RETAIN)),
            "pruner": pruner_name(self.pruner),
            "method": method_name(self.method),
        }
        row["steps"] = self.recipe.epochs * len(
            self.learned.batches(Part.RETAIN, self.recipe.batch_size)
        )
        done = 0
        try:
            for stage in self._stages(sparsity, row):
                bar.advance(f"sparsity {sparsity:.4g}: {stage}")
                done += 1
        except DivergenceError as error:
            if self.dense is None:
                raise  # there is nothing to cut, and nothing to be relative to
            row["error"] = str(error)
            for _ in range(STAGES - done):
                bar.advance("diverged")
        row["seconds"] = time.perf_counter() - begin
        return row

    def _stages(self, sparsity: float, row: dict[str, Any]) -> Iterator[str]:
        """Fill the row in, and say after each stage which it was."""
        original = self._original(sparsity)
        mask, theta = original.mask, parameters(original.model)
        weights = prunable(original.model)
        row["kept_weights"] = sum(
            int(mask[name].sum()) if mask else weight.numel() for name, weight in weights.items()
        )
        row["weight_change_l2"] = distance(theta, self.start, mask)
        self._accuracies(row, "original", original.model)
        yield "trained"
        row["top_eigenvalue"] = self._eigenvalue(original.model, mask)
        row["factor_product"] = factor_product(
            row["learning_rate"], row["steps"], row["weight_change_l2"], row["top_eigenvalue"]
        )
        yield "largest eigenvalue"
        forgot = self._unlearn(original, self.method, None)
        row["moved_by_method_l2"] = distance(parameters(forgot), theta)
        self._accuracies(row, "forgot", forgot)
        yield self.method.name
        # under the original's seed names: its initial weights, its order, its dropout
        names = ("original", self.seed)
        paired = make_method("retrain:paired", {"floor": False}, allow_code=False)
        retrained = self._unlearn(original, paired, names)
        target = parameters(retrained)
        row["distance_l2"] = distance(parameters(forgot), target)
        row["untouched_distance_l2"] = distance(theta, target)
        row["distance_percent_of_retrained"] = 100 * row["distance_l2"] / distance(target)
        self._accuracies(row, "retrained", retrained)
        yield "retrained"
        again, _ = trained_again(original, names, place=self.place)
        row["floor_distance_l2"] = distance(parameters(again), theta)
        yield "floor"

    def _original(self, sparsity: float) -> Trained:
        """The model trained under the mask from theta_0."""
        common: dict[str, Any] = {
            "recipe": self.recipe,
            "split": self.whole,
            "seed": self.seed,
            "place": self.place,
            "allow_code": self.allow_code,
        }
        if self.dense is None:
            self.dense = train(self.data, self.model, **common)
        if sparsity == 0:
            return self.dense
        pruner = type(self.pruner)(**{**self.pruner.model_dump(), "sparsity": sparsity})
        if not pruner.trained:
            return train(self.data, self.model, pruner=pruner, **common)
        return prune(
            self.dense,
            pruner,
            rewind=self.start,
            rewind_epoch=0,
            seed=self.seed,
            place=self.place,
            allow_code=self.allow_code,
        )

    def _eigenvalue(self, model: nn.Module, mask: Mask | None) -> float:
        part = self.learned.take(Part.RETAIN, self.hessian_samples)
        batches = part.batches(BATCH, shuffle=False, augment=False)
        device = next(model.parameters()).device
        try:
            return masked_eigenvalue(model.to(self.run.device), batches, self.run, mask)
        finally:
            model.to(device)

    def _unlearn(
        self, original: Trained, method: Method, names: tuple[str | int, ...] | None
    ) -> nn.Module:
        return unlearn(
            original,
            self.split,
            method,
            seed=self.seed,
            names=names,
            place=replace(self.place, strike=False),
            allow_code=self.allow_code,
        ).model

    def _accuracies(self, row: dict[str, Any], name: str, model: nn.Module) -> None:
        run = Run(task=self.data.task, accelerator=accelerator_on(self.place.device))
        seen = observe(model, self.data, self.split, run)
        if seen.forget is not None:
            row[f"ua_{name}_percent"] = unlearning_accuracy(seen.forget).value
        if seen.test_kept is not None:
            row[f"ta_{name}_percent"] = accuracy_on_test(seen.test_kept).value


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Name -> value of the parameters that train."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _plain(recipe: Recipe, constant_rate: bool) -> Recipe:
    """The recipe at a constant rate, if asked. Raises ConfigError for one that is not SGD."""
    if recipe.optimizer != "sgd":
        raise ConfigError(
            f"the proposition is about SGD, and the recipe has optimizer {recipe.optimizer!r}; use "
            "optimizer='sgd'"
        )
    return recipe.but(schedule="constant") if constant_rate else recipe


def _with_relative(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill in the two series relative to the first row, which is sparsity 0."""
    for series, relative in (
        ("factor_product", "factor_product_relative"),
        ("distance_l2", "distance_relative"),
    ):
        first = float(frame[series].iloc[0])
        frame[relative] = frame[series] / first if first else math.nan
    return frame
