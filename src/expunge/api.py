"""`train`, `unlearn`, `audit`: the calls that Python users, the command line and studies make."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from expunge.audits import score_outputs
from expunge.audits.outputs import Outputs
from expunge.audits.panel import Panel, Subject, extra_scores, observe_panel
from expunge.data.duplicates import duplicates_left
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Task
from expunge.errors import SplitError
from expunge.methods import Method, make_method, method_name, whole_classes_only
from expunge.models.mask import Mask, apply_mask, sparsity_of
from expunge.progress import Reporter
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, check_extra
from expunge.training.cost import Cost, Meter
from expunge.training.fit import train_from
from expunge.training.recipe import Recipe
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


@dataclass(frozen=True)
class Record:
    """How a model came about.

    step: "train" or the name by which the method can be made again. names: the seed names. cost: see
    `Cost`. warnings: what the person should know, one sentence each.
    """

    step: str
    settings: dict[str, Any]
    names: tuple[str | int, ...]
    cost: Cost
    warnings: tuple[str, ...] = ()
    log: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A model and the record of its making.

    split: what it retains and what it forgot. artifacts: tensors that the method made on its way,
    such as UNSIR's noise, for pictures; they are not saved with the model.
    """

    model: nn.Module
    record: Record
    split: Split
    recipe: Recipe | None = None
    mask: Mask | None = None
    artifacts: Mapping[str, torch.Tensor] = field(default_factory=dict)


def train(
    data: Data,
    model: str | Fresh = "resnet18",
    *,
    recipe: Recipe | None = None,
    split: Split | None = None,
    seed: int = 0,
    task: Task | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
) -> Result:
    """Train an original model.

    model: an architecture's name, `module:function`, or a function that returns an untrained model.
    split: what to learn from (its retain and forget sets together) and what to validate on; by
        default everything but 10 % for validation.
    seed: of the weights, the order and the augmentation, under the name ("original", seed).
    device: "cpu", "cuda", or None for the best there is.

    Raises DivergenceError if training diverges.
    """
    recipe = resolve_recipe(recipe or Recipe(), data, split := split or Split.whole(data))
    learned = Split((*split.retain, *split.forget), (), split.validation, split.excluded)
    fresh = constructor(model, data, learned)
    run = make_run(("original", seed), "training", recipe, fresh, task, None, device, progress)
    view = make_view(data, learned, Part.RETAIN | Part.VALIDATION, run)
    network = run.fresh()
    warmed = warm_up(network, view, run)
    with Meter(run.device) as meter:
        fitted = train_from(network, view, run, recipe)
    log = {"losses": fitted.losses, "precision": fitted.precision}
    if fitted.validation:
        log["validation"] = fitted.validation
    record = Record(
        "train", recipe.model_dump(), run.names, cost_of(meter, view, run, warmed), log=log
    )
    return Result(finished(network, torch.device("cpu"), None), record, learned, recipe)


def unlearn(
    model: nn.Module,
    data: Data,
    split: Split,
    method: str | Method,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    fresh: str | Fresh | None = None,
    task: Task | None = None,
    mask: Mask | None = None,
    mask_saw_forget: bool | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    names: Sequence[str | int] | None = None,
) -> Result:
    """Make a model forget `split.forget`; the caller's model is not changed.

    model: any `nn.Module`. data: as `load_data` returns it. method: a name, or a method object.
    recipe: the original's, which `retrain` needs. fresh: makes an untrained model, for `retrain`;
    a function, an architecture's name or `module:function`.
    mask: of a sparse model: parameter name -> bool tensor, True = kept; held throughout.
    mask_saw_forget: whether the mask was found with the forget samples in sight (None: unknown);
    recorded, for such a mask carries what they taught into the retrained reference too.
    seed: under the name ("unlearn", method, seed); for retrain ("retrain", seed). `names` replaces
    these: ("retrain", seed, "floor") is the second retraining of the noise floor.

    Raises SplitError if there is nothing to forget, ConfigError for settings or requests that do
    not fit the method, DivergenceError if the method diverges.
    """
    method = make_method(method) if isinstance(method, str) else method
    if not split.forget:
        raise SplitError(
            "the split has nothing to forget; make one with Split.parse or Split.random"
        )
    check_request(method, data, split)
    if names is None:
        names = ("retrain", seed) if method.name == "retrain" else ("unlearn", method.name, seed)
    build = constructor(fresh, data, split) if fresh is not None else None
    recipe = resolve_recipe(recipe, data, split) if recipe is not None else None
    run = make_run(tuple(names), method.name, recipe, build, task, mask, device, progress)
    view = make_view(data, split, method.reads, run)
    before = next((p.device for p in model.parameters()), run.device)
    private = copy.deepcopy(model).to(run.device)
    if mask:
        run.log["mask"] = {"sparsity": sparsity_of(mask), "saw_forget_set": mask_saw_forget}
        apply_mask(private, mask)
    warmed = warm_up(private, view, run)
    with Meter(run.device) as meter:
        forgotten = method.unlearn(private, view, run)
    record = Record(
        step=method_name(method),
        settings=method.model_dump(mode="json"),
        names=run.names,
        cost=cost_of(meter, view, run, warmed),
        warnings=(*warnings_for(data, split), *run.log.pop("warnings", ())),
        log=dict(run.log),
    )
    model = finished(forgotten, before, mask)
    return Result(model, record, split, recipe, mask, dict(run.artifacts))


def check_request(method: Method, data: Data, split: Split) -> None:
    """Raise ConfigError for a method that forgets whole classes only, asked for anything else."""
    if not method.whole_classes:
        return
    asked = set(data.train.labels[split.rows(data.train, Part.FORGET_LABELS)].tolist())
    staying = sorted(asked - set(split.forgotten_classes(data)))
    if staying:
        left = data.classes[staying[0]]
        raise whole_classes_only(
            method, f"this request leaves samples of class {left!r} in the retain set"
        )


def audit(
    model: nn.Module,
    data: Data,
    split: Split,
    *,
    original: nn.Module | None = None,
    retrained: nn.Module | None = None,
    features: Sequence[str] = ("confidence",),
    also: Sequence[str] = (),
    paired: bool | None = None,
    mask: Mask | None = None,
    seed: int = 0,
    task: Task | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
) -> list[Score]:
    """Score a model after forgetting: UA, RA, TA, TA_forget and MIA, each in percent.

    retrained: the reference; with it every score carries the reference's value and the gap.
    original: the model before; with it every score's detail carries its value as "original".
    features: of the membership attack; "confidence" is the papers'.
    also: further scores, names in `audits.EXTRA`: relearn_time (with AIN), which needs the original;
    weight_distance and prediction_distribution, which need the retrained model.
    paired: whether the retrained model began with the original's initial weights and order, as
    weight_distance then says. mask: of sparse models, held while they relearn.
    No model is changed.
    """
    check_extra(also, original=original is not None, retrained=retrained is not None)
    run = make_run(("audit", seed), "audit", None, None, task, None, device, progress)
    panel = observe_panel(
        Subject(model, data, mask),
        split,
        run,
        original=Subject(original, data, mask) if original is not None else None,
        retrained=Subject(retrained, data, mask) if retrained is not None else None,
        paired=paired,
    )
    return audit_panel(panel, features=features, also=also, seed=seed)


def audit_panel(
    panel: Panel,
    *,
    features: Sequence[str] = ("confidence",),
    also: Sequence[str] = (),
    seed: int = 0,
) -> list[Score]:
    """`audit` for models that were observed before."""
    with panel.run.progress.work("scoring"):
        scores = audit_outputs(
            panel.outputs,
            original=panel.original_outputs,
            retrained=panel.retrained_outputs,
            features=features,
            seed=seed,
        )
        return [*scores, *extra_scores(also, panel)]


def audit_outputs(
    outputs: Outputs,
    *,
    original: Outputs | None = None,
    retrained: Outputs | None = None,
    features: Sequence[str] = ("confidence",),
    seed: int = 0,
) -> list[Score]:
    """`audit` for outputs that were observed before."""
    scores = score_outputs(outputs, retrained, seed=seed, features=features)
    if original is None:
        return scores
    before = {s.name: s.value for s in score_outputs(original, seed=seed, features=features)}
    for score in scores:
        if isinstance(score.detail, dict) and score.name in before:
            score.detail["original"] = before[score.name]
    return scores


def warnings_for(data: Data, split: Split) -> list[str]:
    """What a person should know about a forget request before trusting its scores."""
    found = []
    if len(split.forget) < NEAR_EMPTY:
        found.append(
            f"only {len(split.forget)} samples to forget: scores come with wide intervals, and no "
            f"verdict is given under {NEAR_EMPTY}"
        )
    copies = duplicates_left(data, split)
    if copies:
        shown = ", ".join(f"{kept} (copy of {struck})" for struck, kept in copies[:5])
        found.append(
            f"{len(copies)} exact copies of forget samples stay in the retain set: {shown}"
            f"{', ...' if len(copies) > 5 else ''}; add them to the request if they belong to it"
        )
    return found
