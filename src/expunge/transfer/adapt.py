"""Adapting a model to a target task: by a linear probe, and by full fine-tuning."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from expunge.audits.features import features, head_name
from expunge.audits.observe import observe_test
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.transform import Augmentation, Transform
from expunge.data.view import DataView
from expunge.errors import ConfigError, DataError
from expunge.loading import loading
from expunge.models.layout import lay_out
from expunge.scores.score import Score
from expunge.scores.statistics import wilson
from expunge.training.fit import train_from
from expunge.training.recipe import Recipe
from expunge.training.run import Run
from expunge.transfer.head import with_head

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Adapted:
    """A model for the target task, its accuracy on the target's test set, and what adapting took.

    right: of n test samples. seconds: of adapting, without measuring.
    """

    model: nn.Module
    right: int
    n: int
    seconds: float

    def scores(self, name: str) -> list[Score]:
        """`NAME` in percent with its Wilson interval, and `NAME_s` in seconds."""
        low, high = wilson(self.right, self.n)
        share = 100 * self.right / self.n
        return [
            Score(name, share, self.n, 100 * low, 100 * high, "percent", "high"),
            Score(f"{name}_s", self.seconds, 1, None, None, "seconds", "low"),
        ]


def linear_probe(model: nn.Module, target: Data, run: Run) -> Adapted:
    """A new head on frozen features, measured on the target's test set; see `probe_head`."""
    start = time.perf_counter()
    probed = probe_head(model, target, run)
    seconds = time.perf_counter() - start
    return _measured(probed, target, run, seconds)


def probe_head(model: nn.Module, target: Data, run: Run) -> nn.Module:
    """A copy of the model with a head for the target: logistic regression, L2 weight 1.

    On standardised features of the target's training samples. It is scikit-learn's, a convex problem
    solved to its end, so no rate or epoch is to be chosen. Raises DataError for fewer than two classes.
    """
    if len(np.unique(target.train.labels)) < 2:
        raise DataError("the target's training samples are of one class; a task needs two or more")
    transform = Transform(target.normalisation)
    inputs = features(model, target.train, transform, run).double().numpy()
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    spread[spread == 0] = 1.0
    with loading():
        from sklearn.linear_model import LogisticRegression  # slow to import, needed only here

    fitted = LogisticRegression(max_iter=2000).fit((inputs - mean) / spread, target.train.labels)
    weight, bias = _full(fitted, len(target.classes), inputs.shape[1])
    weight = weight / spread  # the standardisation becomes a part of the head
    bias = bias - weight @ mean
    return with_head(model, torch.from_numpy(weight), torch.from_numpy(bias))


def full_finetune(model: nn.Module, target: Data, run: Run, recipe: Recipe) -> Adapted:
    """All weights trained on the target, from a head that is drawn anew. The model is not changed."""
    start = time.perf_counter()
    width = _width(model)
    generator = torch.Generator().manual_seed(run.seed_for("head") % 2**63)
    bound = width**-0.5  # as torch draws linear layers
    weight, bias = (
        (2 * torch.rand(shape, generator=generator) - 1) * bound
        for shape in ((len(target.classes), width), (len(target.classes),))
    )
    adapted = with_head(model, weight, bias).train()
    device = next(adapted.parameters()).device
    view = DataView(
        data=target,
        split=Split.whole(target, validation=0.0),
        declared=Part.RETAIN,
        names=run.names,
        transform=Transform(target.normalisation, _augmentation(recipe)),
        device=run.device,
        rank=run.rank,
        world=run.world,
    )
    train_from(adapted, view, run, recipe)
    lay_out(adapted, torch.contiguous_format)
    seconds = time.perf_counter() - start
    return _measured(adapted.to(device), target, run, seconds)


def _full(fitted: LogisticRegression, classes: int, width: int) -> tuple[Array, Array]:
    """A row for each class: of two, scikit-learn keeps one; of absent ones, none."""
    weight = np.zeros((classes, width))
    bias = np.full(classes, -1e9 if len(fitted.classes_) < classes else 0.0)
    if len(fitted.classes_) == 2:
        first, second = fitted.classes_
        weight[first], weight[second] = -fitted.coef_[0] / 2, fitted.coef_[0] / 2
        bias[first], bias[second] = -fitted.intercept_[0] / 2, fitted.intercept_[0] / 2
    else:
        weight[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
    return weight, bias


def _augmentation(recipe: Recipe) -> Augmentation:
    if recipe.augmentation == "auto":
        raise ConfigError("augmentation 'auto' must be resolved before a model is adapted")
    return recipe.augmentation


def _width(model: nn.Module) -> int:
    return int(model.get_submodule(head_name(model)).get_parameter("weight").shape[1])


def _measured(model: nn.Module, target: Data, run: Run, seconds: float) -> Adapted:
    seen = observe_test(model.eval(), target, run)
    return Adapted(model, int(seen.correct.sum()), seen.n, seconds)
