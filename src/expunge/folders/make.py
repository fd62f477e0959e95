"""Make a model folder: train an original, import a checkpoint, unlearn from what lies on the disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.data.request import check_names, check_share, read_ids
from expunge.data.spec import DataSpec
from expunge.errors import ConfigError, SplitError
from expunge.folders.store import Loaded, Papers, open_papers, read_papers, save_model
from expunge.loading import loading
from expunge.methods import check_scope
from expunge.models.card import ModelCard, check_target, check_weights_file
from expunge.models.table import check_model
from expunge.progress import Reporter, Silent

if TYPE_CHECKING:
    from expunge.api import Result
    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.methods import Method
    from expunge.training.recipe import Recipe


Names = tuple[str | int, ...]


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
    check_model(model)
    DataSpec.parse(data).check(data_dir)
    check_share(validation)
    with loading():
        from expunge.api import train
        from expunge.data.load import load_data
        from expunge.data.split import Split

    with (progress or Silent()).work(f"reading {data}"):
        loaded = load_data(data, data_dir=data_dir)
        split = Split.whole(loaded, validation=validation, split_seed=split_seed)
    result = train(
        loaded, model, recipe=recipe, split=split, seed=seed, device=device, progress=progress
    )
    save_model(
        result,
        out,
        data=loaded,
        architecture=model,
        data_dir=data_dir,
        seed=seed,
        split_seed=split_seed,
        overwrite=overwrite,
    )
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
    check_model(model)
    DataSpec.parse(data).check(data_dir)
    check_weights_file(weights)
    held, learned = _listed(validation), _listed(trained_on)
    _check_normalisation(mean, std)
    with loading():
        from expunge.api import Record, Result
        from expunge.data.load import load_data
        from expunge.data.transform import Normalisation
        from expunge.models.folder import load_weights
        from expunge.training.cost import Cost
        from expunge.training.session import constructor, resolve_recipe

    loaded = load_data(data, data_dir=data_dir)
    normal = Normalisation(tuple(mean), tuple(std)) if mean and std else None
    loaded = loaded.with_normalisation(normal)
    split = _imported_split(loaded, learned, held)
    if normal is not None:
        channels = loaded.train.shape(loaded.train.position[split.retain[0]])[0]
        if len(normal.mean) != channels:
            raise ConfigError(
                _uneven(len(normal.mean), len(normal.std), f" for {channels} channels")
            )
    network = constructor(model, loaded, split)()
    load_weights(network, weights)
    record = Record("import", {"weights": Path(weights).name}, (), Cost(0.0))
    if recipe is not None:
        recipe = resolve_recipe(recipe, loaded, split)
    result = Result(network.eval(), record, split, recipe)
    save_model(result, out, data=loaded, architecture=model, data_dir=data_dir, overwrite=overwrite)
    return result, loaded


@dataclass(frozen=True)
class Forgotten:
    """What `unlearn_folder` did. reference: the retrained model, if asked for."""

    result: Result
    data: Data
    loaded: Loaded
    reference: Result | None = None
    reference_path: Path | None = None

    @property
    def paired(self) -> bool | None:
        """Whether the retrained model began as the original did; None where that is unknown."""
        began = initial_names(self.loaded.card)
        if self.reference is None or began is None:
            return None
        return self.reference.record.names == began


def unlearn_folder(
    path: str | Path | Loaded,
    forget: str | Split,
    method: Method,
    out: str | Path,
    *,
    seed: int = 0,
    forget_seed: int = 0,
    with_reference: bool = False,
    paired: bool = False,
    data: str | None = None,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    overwrite: bool = False,
    redact_ids: bool = False,
    allow_code: bool = False,
) -> Forgotten:
    """Make the model of a folder forget, and write the new model's folder.

    path: a folder, or one that is loaded already. forget: a request, or the split that it makes of the
    folder's own; what earlier requests struck is never read. with_reference: also retrain, into
    OUT-retrained; paired: with the original's beginning.
    """
    target = Path(out).absolute()
    reference_path = target.with_name(f"{target.name}-retrained")
    check_target(target, overwrite=overwrite)
    if with_reference:
        check_target(reference_path, overwrite=overwrite)
    kept: Any = {"data_dir": data_dir, "overwrite": overwrite, "redact_ids": redact_ids}
    papers = (
        path
        if isinstance(path, Loaded)
        else read_papers(path, data=data, data_dir=data_dir, allow_code=allow_code)
    )
    names = _check_reference(papers, method, with_reference=with_reference, paired=paired)
    if isinstance(forget, str):
        check_names(forget, papers.card.classes)
        check_scope(method, forget)
    with loading():
        from expunge.api import unlearn
        from expunge.data.split import Split

    loaded = papers if isinstance(papers, Loaded) else open_papers(papers, progress=progress)
    split = (
        forget
        if isinstance(forget, Split)
        else Split.parse(loaded.data, forget, seed=forget_seed, base=loaded.split.settled())
    )

    def make(where: Path, chosen: str | Method, names: Names | None = None) -> Result:
        result = unlearn(
            loaded.model,
            loaded.data,
            split,
            chosen,
            seed=seed,
            recipe=loaded.recipe,
            fresh=loaded.fresh,
            mask=loaded.mask,
            mask_saw_forget=saw_data(loaded.card),
            device=device,
            progress=progress,
            names=names,
        )
        save_model(result, where, data=loaded.data, parent=loaded, **kept)
        return result

    result = make(target, method)
    if not with_reference:
        return Forgotten(result, loaded.data, loaded)
    reference = make(reference_path, "retrain", names)
    return Forgotten(result, loaded.data, loaded, reference, reference_path)


def _check_reference(
    papers: Papers | Loaded, method: Method, *, with_reference: bool, paired: bool
) -> Names | None:
    """Seed names of the retrained reference, None for its own; ConfigError if it cannot be had."""
    where, card = papers.path, papers.card
    if method.name == "retrain" and card.recipe is None:
        raise ConfigError(
            f"retrain trains as the original was trained, and {where} comes without a recipe: import it "
            "with --recipe"
        )
    if with_reference and card.recipe is None:
        raise ConfigError(
            f"{where} has no recipe, so there is no retrained reference; import it with "
            "--recipe, or leave --with-reference out"
        )
    if not paired:
        return None
    if not with_reference:
        raise ConfigError("--paired is about the reference; ask for it with --with-reference")
    names = initial_names(card)
    if names is None:
        raise ConfigError(
            f"{where} was imported or pruned, so nobody knows the weights that it began with; "
            "leave --paired out"
        )
    return names


def saw_data(card: ModelCard) -> bool | None:
    """Whether the mask of a folder was found with sight of training data; None: dense or unknown."""
    steps = [ancestor.log for ancestor in card.lineage if ancestor.step == "prune"]
    if not card.mask or not steps:
        return None
    return any(bool(log.get("saw_data", True)) for log in steps)


def initial_names(card: ModelCard) -> Names | None:
    """Seed names of the training that a model began with; None for one imported or pruned."""
    names: Names | None = None
    for ancestor in card.lineage:
        if ancestor.step in ("train", "retrain"):
            names = ancestor.names
        if ancestor.step == "prune":  # it begins with weights that were rewound
            names = None
    return names


def _check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Raise ConfigError for means and deviations that fit no data."""
    if (mean is None) != (std is None):
        raise ConfigError("mean and std belong together; give both or neither")
    if mean is None or std is None:
        return
    if len(mean) != len(std):
        raise ConfigError(_uneven(len(mean), len(std)))
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std) <= 0:
        raise ConfigError("means must be numbers, and deviations must be above 0")


def _uneven(means: int, deviations: int, channels: str = "") -> str:
    return f"{means} means and {deviations} deviations{channels}; give one of each per channel"


def _listed(source: str | None) -> list[str]:
    return [] if source is None else read_ids(source.removeprefix("ids:"))


def _imported_split(data: Data, trained_on: list[str], validation: list[str]) -> Split:
    from expunge.data.split import Split

    for names, what in ((validation, "--validation"), (trained_on, "--trained-on")):
        unknown = [name for name in names if name not in data.train.position]
        if unknown:
            raise SplitError(f"{what} names {unknown[0]!r}, which is not in the training data")
    held = set(validation)
    learned = set(trained_on) or set(data.train.position) - held
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
