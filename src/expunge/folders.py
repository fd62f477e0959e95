"""The same calls on model folders: train, import, unlearn and audit what lies on the disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from expunge.api import (
    Record,
    Result,
    audit_outputs,
    constructor,
    resolve_recipe,
    train,
    unlearn,
)
from expunge.audits import NEAR_EMPTY, Outputs, SampleLoss, Score, near_empty_report
from expunge.cost import Cost
from expunge.data.load import Data, load_data
from expunge.data.split import Split, read_ids
from expunge.data.transform import Normalisation
from expunge.errors import ConfigError, SplitError
from expunge.methods import Method
from expunge.models.folder import ModelCard, check_target, load_weights
from expunge.observe import observe
from expunge.progress import Reporter, Silent
from expunge.recipe import Recipe
from expunge.run import Run, accelerator_on
from expunge.stored import Loaded, load_model, save_model


def train_folder(
    data: str,
    model: str,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    validation: float = 0.1,
    split_seed: int = 0,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    overwrite: bool = False,
) -> tuple[Result, Data]:
    """Train an original model and write its folder."""
    check_target(Path(out), overwrite=overwrite)
    loaded = load_data(data, data_dir=data_dir)
    split = Split.whole(loaded, validation=validation, split_seed=split_seed)
    result = train(
        loaded, model, recipe=recipe, split=split, seed=seed, device=device, progress=progress
    )
    save_model(
        result, out, data=loaded, architecture=model, data_dir=data_dir, seed=seed,
        split_seed=split_seed, overwrite=overwrite,
    )  # fmt: skip
    return result, loaded


def import_folder(
    model: str,
    weights: str | Path,
    data: str,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    trained_on: str | None = None,
    validation: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    data_dir: str | Path | None = None,
    overwrite: bool = False,
) -> tuple[Result, Data]:
    """Make a model folder of a checkpoint that was trained elsewhere.

    trained_on: `ids:FILE` of the samples it learned from, by default all. validation: `ids:FILE` of
    samples kept for validation, by default none. What is in neither is never read.
    mean, std: the normalisation it was trained with, per channel in units of the full scale.
    """
    check_target(Path(out), overwrite=overwrite)
    loaded = load_data(data, data_dir=data_dir)
    if (mean is None) != (std is None):
        raise ConfigError("mean and std belong together; give both or neither")
    normal = Normalisation(tuple(mean), tuple(std)) if mean and std else None
    loaded = loaded.with_normalisation(normal)
    split = _imported_split(loaded, trained_on, validation)
    if normal is not None:
        channels = loaded.train.shape(loaded.train.position[split.retain[0]])[0]
        if not len(normal.mean) == len(normal.std) == channels:
            raise ConfigError(
                f"{len(normal.mean)} means and {len(normal.std)} deviations for {channels} channels; "
                "give one of each per channel"
            )
        if not all(math.isfinite(v) for v in (*normal.mean, *normal.std)) or min(normal.std) <= 0:
            raise ConfigError("means must be numbers, and deviations must be above 0")
    network = constructor(model, loaded, split)()
    load_weights(network, weights)
    record = Record("import", {"weights": Path(weights).name}, (), Cost(0.0))
    if recipe is not None:
        recipe = resolve_recipe(recipe, loaded, split)
    result = Result(network.eval(), record, split, recipe)
    save_model(
        result, out, data=loaded, architecture=model, data_dir=data_dir, overwrite=overwrite
    )  # fmt: skip
    return result, loaded


@dataclass(frozen=True)
class Forgotten:
    """What `unlearn_folder` did. reference: the retrained model, if asked for."""

    result: Result
    data: Data
    loaded: Loaded
    reference: Result | None = None
    reference_path: Path | None = None


def unlearn_folder(
    path: str | Path,
    forget: str,
    method: Method,
    out: str | Path,
    *,
    seed: int = 0,
    forget_seed: int = 0,
    with_reference: bool = False,
    data: str | None = None,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    overwrite: bool = False,
    redact_ids: bool = False,
    allow_code: bool = False,
) -> Forgotten:
    """Make the model of a folder forget, and write the new model's folder.

    forget: a request as `Split.parse` reads it. What earlier requests struck is never read.
    with_reference: also train the retrained model, written to OUT-retrained.
    """
    target = Path(out).absolute()
    reference_path = target.with_name(f"{target.name}-retrained")
    check_target(target, overwrite=overwrite)
    if with_reference:
        check_target(reference_path, overwrite=overwrite)
    loaded = load_model(path, data=data, data_dir=data_dir, allow_code=allow_code)
    if with_reference and loaded.recipe is None:
        raise ConfigError(
            f"{path} has no recipe, so there is no retrained reference; import it with --recipe, or "
            "leave --with-reference out"
        )
    split = Split.parse(loaded.data, forget, seed=forget_seed, base=loaded.split.settled())

    def run(chosen: str | Method) -> Result:
        return unlearn(
            loaded.model, loaded.data, split, chosen, seed=seed, recipe=loaded.recipe,
            fresh=loaded.fresh, mask=loaded.mask, mask_saw_forget=saw_data(loaded.card),
            device=device, progress=progress,
        )  # fmt: skip

    def save(result: Result, where: Path) -> None:
        save_model(
            result, where, data=loaded.data, parent=loaded, data_dir=data_dir,
            overwrite=overwrite, redact_ids=redact_ids,
        )  # fmt: skip

    result = run(method)
    save(result, target)
    if not with_reference:
        return Forgotten(result, loaded.data, loaded)
    reference = run("retrain")
    save(reference, reference_path)
    return Forgotten(result, loaded.data, loaded, reference, reference_path)


def saw_data(card: ModelCard) -> bool | None:
    """Whether the mask of a folder was found with sight of training data; None: dense or unknown."""
    steps = [ancestor.log for ancestor in card.lineage if ancestor.step == "prune"]
    if not card.mask or not steps:
        return None
    return any(bool(log.get("saw_data", True)) for log in steps)


Prepared = tuple[nn.Module, Data]
"""A model, and the data as it wants them normalised."""


@dataclass(frozen=True)
class AuditReport:
    """Scores of one model. losses: of each forget sample, where there are fewer than 30."""

    scores: list[Score]
    losses: list[SampleLoss]
    split: Split
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "split": self.split.digest,
            "forgotten": len(self.split.forget),
            "retained": len(self.split.retain),
            "scores": [score.to_dict() for score in self.scores],
            "forget_losses": [asdict(loss) for loss in self.losses],
            "note": "empirical evidence, no formal guarantee",
        }


def audit_folder(
    path: str | Path,
    *,
    original: str | Path | None = None,
    retrained: str | Path | None = None,
    forget: str | None = None,
    forget_seed: int = 0,
    features: Sequence[str] = ("confidence",),
    data: str | None = None,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    allow_code: bool = False,
) -> AuditReport:
    """Score the model of a folder on its own split, beside its original and a retrained model.

    forget: for an original, what one would ask it to forget; needed where ids are redacted.
    Raises SplitError for a reference whose split differs.
    """
    loaded = load_model(path, data=data, data_dir=data_dir, allow_code=allow_code)

    def load(folder: str | Path) -> Loaded:
        # the samples are in memory already; each model keeps its own normalisation
        return load_model(folder, data=loaded.data, allow_code=allow_code)

    split = _audited_split(loaded, forget, forget_seed)
    before = load(original) if original is not None else None
    reference = load(retrained) if retrained is not None else None
    if reference is not None and set(reference.split.retain) != set(split.retain):
        raise SplitError(
            f"{retrained} learned from other samples than {path} retains, so it is no reference for "
            "it; retrain with the same --forget and --forget-seed"
        )
    if before is not None and set(before.split.retain) != {*split.retain, *split.forget}:
        raise SplitError(
            f"{original} did not learn from the samples that {path} retains and forgot; name the "
            "folder that this one was made from"
        )
    return _report(
        (loaded.model, loaded.data), split, (before.model, before.data) if before else None,
        (reference.model, reference.data) if reference else None, features, device, progress,
        run_time(loaded.card, reference.card if reference else None),
    )  # fmt: skip


def audit_forgotten(
    done: Forgotten, *, device: str | None = None, progress: Reporter | None = None
) -> AuditReport:
    """Scores of what `unlearn_folder` made, beside the original and the retrained model."""
    reference = done.reference
    cost = cost_score(
        done.result.record.cost.to_dict(), reference.record.cost.to_dict() if reference else None
    )
    return _report(
        (done.result.model, done.data), done.result.split, (done.loaded.model, done.data),
        (reference.model, done.data) if reference else None, ("confidence",), device, progress, cost,
    )  # fmt: skip


def _report(
    model: Prepared, split: Split, original: Prepared | None, retrained: Prepared | None,
    features: Sequence[str], device: str | None, progress: Reporter | None, cost: Score | None,
) -> AuditReport:  # fmt: skip
    """Observe each model once, with the normalisation that it was trained with, and score."""
    run = Run(accelerator=accelerator_on(device), progress=progress or Silent())

    def seen(pair: Prepared | None) -> Outputs | None:
        return None if pair is None else observe(*pair, split, run)

    outputs, reference = observe(*model, split, run), seen(retrained)
    scores = audit_outputs(
        outputs, original=seen(original), retrained=reference, features=features
    )  # fmt: skip
    few = len(split.forget) < NEAR_EMPTY
    losses = near_empty_report(outputs, reference) if few else []
    return AuditReport([*scores, *([cost] if cost else [])], losses, split, model[1].classes)


def run_time(card: ModelCard, reference: ModelCard | None = None) -> Score | None:
    """RTE from the last step of a card: seconds, the rest of the cost in detail."""
    return cost_score(card.lineage[-1].cost, reference.lineage[-1].cost if reference else None)


def cost_score(cost: Mapping[str, Any], reference: Mapping[str, Any] | None) -> Score | None:
    """RTE from a recorded cost; None for an imported model, whose cost nobody measured."""
    if not cost.get("seconds"):
        return None
    before = float(reference["seconds"]) if reference and reference.get("seconds") else None
    return Score(
        "RTE", float(cost["seconds"]), 1, None, None, "seconds", "low", dict(cost), before
    )  # fmt: skip


def _audited_split(loaded: Loaded, forget: str | None, forget_seed: int) -> Split:
    """The split to score on: the folder's own, or a request on an original."""
    split = loaded.split
    if loaded.redacted and split.forget:
        if forget is None:
            raise SplitError(
                f"{loaded.path} keeps hashes of ids only; give the request again with --forget"
            )
        # as the original had them: in the order of the data, set-aside samples back in validation
        order = loaded.data.train.position
        learned = sorted((*split.retain, *split.forget), key=lambda name: order[name])
        base = Split(tuple(learned), (), (*split.validation, *split.excluded))
        asked = Split.parse(loaded.data, forget, seed=forget_seed, base=base)
        if set(asked.forget) != set(split.forget):
            raise SplitError(f"--forget {forget!r} is not what {loaded.path} forgot")
        return split
    if split.forget:
        if forget is not None:
            raise SplitError(f"{loaded.path} has forgotten already; leave --forget out")
        return split
    if forget is None:
        raise SplitError(
            f"{loaded.path} has forgotten nothing yet; say with --forget what it would be asked to, "
            "or audit a folder that `expunge unlearn` wrote"
        )
    return Split.parse(loaded.data, forget, seed=forget_seed, base=split)


def _imported_split(data: Data, trained_on: str | None, validation: str | None) -> Split:
    def listed(source: str | None, what: str) -> set[str]:
        if source is None:
            return set()
        names = read_ids(source.removeprefix("ids:"))
        unknown = [name for name in names if name not in data.train.position]
        if unknown:
            raise SplitError(f"{what} names {unknown[0]!r}, which is not in the training data")
        return set(names)

    held = listed(validation, "--validation")
    learned = listed(trained_on, "--trained-on") or set(data.train.position) - held
    both = held & learned
    if both:
        raise SplitError(f"id {sorted(both)[0]!r} is in --trained-on and in --validation")
    if not learned:
        raise SplitError("no sample is left that the model learned from; shorten --validation")
    order = data.train.ids.tolist()
    return Split(
        retain=tuple(name for name in order if name in learned),
        validation=tuple(name for name in order if name in held),
        excluded=tuple(name for name in order if name not in learned and name not in held),
    )
