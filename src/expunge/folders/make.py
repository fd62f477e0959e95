"""Make a model folder: train an original, import a checkpoint, unlearn from what lies on the disk."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.request import check_names, check_share, read_ids
from expunge.data.spec import DataSpec
from expunge.errors import ConfigError, DataError, SplitError
from expunge.loading import loading
from expunge.methods import check_scope
from expunge.models.checkpoint import check_weights_file
from expunge.models.hub import HubModel, check_base, folder_of, labels_beside, processor_of
from expunge.models.table import check_model
from expunge.names.code import TYPED
from expunge.names.libraries import library_of
from expunge.names.text import clean_name
from expunge.place import HERE, Place
from expunge.trained.card import check_target
from expunge.trained.opening import open_papers
from expunge.trained.papers import Papers, read_papers

if TYPE_CHECKING:
    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.methods import Method
    from expunge.pruning import Pruner
    from expunge.trained.trained import Trained
    from expunge.training.recipe import Recipe


@dataclass(frozen=True)
class HeldOut:
    """What a training leaves aside for validation: a share, drawn by a seed."""

    share: float = 0.1
    seed: int = 0


def check_source(data: str, model: str, out: str | Path, place: Place) -> None:
    """Raise for data, a model or a target folder that cannot be meant, before anything is loaded."""
    check_target(Path(out), overwrite=place.overwrite)
    check_model(model, allow_code=TYPED)
    DataSpec.parse(data).check(place.data_dir, allow_code=TYPED)


def train_folder(
    data: str,
    model: str,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    pruner: Pruner | None = None,
    seed: int = 0,
    held: HeldOut = HeldOut(),
    task: str | None = None,
    place: Place = HERE,
) -> Trained:
    """Train an original model, sparse if a pruner is given, and write its folder."""
    check_source(data, model, out, place)
    check_share(held.share)
    with loading():
        from expunge.api import train
        from expunge.trained.trained import keep_together

    loaded, split = load_held(sized(data, model), held, task, place)
    trained = train(
        loaded,
        model,
        recipe=recipe,
        split=split,
        pruner=pruner,
        seed=seed,
        place=place,
        allow_code=TYPED,
    )
    return keep_together(
        [(replace(trained, split_seed=held.seed), Path(out))], overwrite=place.overwrite
    )[0]


def sized(data: str, model: str) -> str:
    """Data of images for a model of transformers: in the size that its processor makes them, unless
    the data are asked for in one.
    """
    spec = DataSpec.parse(data)
    if library_of(model) != "hf" or spec.size is not None or not spec.resizable():
        return data
    size = processor_of(folder_of(model)).size
    return data if size is None else str(replace(spec, size=size))


def load_held(data: str, held: HeldOut, task: str | None, place: Place) -> tuple[Data, Split]:
    """Data, and what of them is left aside for validation."""
    from expunge.data.load import load_data
    from expunge.data.split import Split

    with place.progress.work(f"reading {data}"):
        loaded = load_data(data, data_dir=place.data_dir, task=task, allow_code=TYPED)
        return loaded, Split.whole(loaded, validation=held.share, split_seed=held.seed)


@dataclass(frozen=True)
class Elsewhere:
    """How a checkpoint came about, as far as somebody says.

    Attributes:
        trained_on: `ids:FILE` of the samples that it learned from; None: all.
        validation: `ids:FILE` of samples kept for validation; None: none. What is in neither is
            never read.
        mean, std: the normalisation that it was trained with, per channel in units of the full
            scale.
        recipe: how it was trained.
    """

    trained_on: str | None = None
    validation: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    recipe: Recipe | None = None


def import_folder(
    model: str,
    weights: str | Path | None,
    data: str,
    out: str | Path,
    *,
    how: Elsewhere = Elsewhere(),
    task: str | None = None,
    place: Place = HERE,
) -> Trained:
    """Make a model folder of a checkpoint that was trained elsewhere.

    weights: a file; None: those in the folder of `hf:FOLDER`.
    """
    check_source(data, model, out, place)
    if weights is not None:
        check_weights_file(weights)
    elif library_of(model) != "hf":
        raise ConfigError(f"{model} comes without weights; name a file of them with --weights")
    held, learned = _listed(how.validation), _listed(how.trained_on)
    _check_normalisation(how.mean, how.std)
    with loading():
        from expunge.api import adopt
        from expunge.data.load import load_data
        from expunge.data.transform import Normalisation
        from expunge.models.checkpoint import load_weights
        from expunge.training.hub import as_read_by
        from expunge.training.session import constructor

    # logits come in the order of the classes that the model was trained with
    names = labels_beside(model, weights) if library_of(model) == "hf" else None
    try:
        loaded = load_data(
            sized(data, model), data_dir=place.data_dir, classes=names, task=task, allow_code=TYPED
        )
    except DataError as error:
        if names is None:
            raise
        raise DataError(
            f"{error}; the model's config.json (id2label) gives these names: give data, or it, the same"
        ) from error
    loaded = as_read_by(model, loaded, place.progress)
    normal = loaded.fixed_normalisation
    normal = Normalisation(tuple(how.mean), tuple(how.std)) if how.mean and how.std else normal
    loaded = loaded.with_normalisation(normal)
    split = _imported_split(loaded, learned, held)
    if normal is not None:
        channels = loaded.train.shape(loaded.train.position[split.retain[0]])[0]
        if len(normal.mean) != channels:
            raise ConfigError(
                _uneven(len(normal.mean), len(normal.std), f" for {channels} channels")
            )
    make = constructor(model, loaded, split, allow_code=TYPED)
    fresh: str | HubModel
    if isinstance(make, HubModel):
        network, fresh = make.checkpoint(weights)
    else:
        network, fresh = make(), model
        load_weights(network, weights or "")
    adopted = adopt(network, loaded, recipe=how.recipe, fresh=fresh, split=split, allow_code=TYPED)
    record = adopted.record.model_copy(
        update={"settings": {"weights": clean_name(Path(weights or model).name)}}
    )
    return replace(adopted, history=(record,)).save(out, overwrite=place.overwrite)


@dataclass(frozen=True)
class Forgotten:
    """What `unlearn_folder` did. reference: the retrained model, if asked for."""

    original: Trained
    result: Trained
    reference: Trained | None = None

    @property
    def redacted(self) -> bool:
        """Whether nothing that is written or shown of it may name a sample."""
        return self.result.redacted


@dataclass(frozen=True)
class Beside:
    """What is made beside the forgetting model.

    Attributes:
        reference: also retrain, into OUT-retrained.
        paired: with the original's initial weights, order and batches; see `Retrain`. Trains twice.
        redact_ids: keep pseudonyms of ids in the new folders; made of a redacted one, they do so anyway.
        looks: class logits will be looked at afterwards, so a task without any is refused first.
    """

    reference: bool = False
    paired: bool = False
    redact_ids: bool = False
    looks: bool = False


def unlearn_folder(
    path: str | Path | Trained,
    forget: str | Split,
    method: Method,
    out: str | Path,
    *,
    seed: int = 0,
    forget_seed: int = 0,
    beside: Beside = Beside(),
    data: str | None = None,
    place: Place = HERE,
) -> Forgotten:
    """Make the model of a folder forget, and write the new model's folder.

    path: a folder, or what was loaded from one. forget: a request, or the split that it makes of the
    folder's own; what earlier requests struck is never read. data: instead of the folder's own.
    """
    target = Path(out).absolute()
    reference_path = reference_of(target)
    source = Path(path).absolute() if isinstance(path, str | Path) else path.path
    if beside.reference and source == reference_path:
        raise ConfigError(
            f"the reference would take the place of {source}, which is to forget; choose another --out"
        )
    apart = {} if source in (None, target) else {"the model folder": source}
    for folder in (target, reference_path) if beside.reference else (target,):
        check_target(folder, overwrite=place.overwrite, apart=apart)
    papers = read_papers(path, data=data, place=place) if isinstance(path, str | Path) else path
    _check_reference(papers, method, beside)
    if isinstance(forget, str) and isinstance(papers, Papers):
        check_names(forget, papers.card.classes)
        check_scope(method, forget)
    with loading():
        from expunge.api import unlearn
        from expunge.audits.observe import check_logits
        from expunge.trained.trained import keep_together
        from expunge.training.run import Run, accelerator_on

    if isinstance(papers, Papers):
        papers = open_papers(papers, progress=place.progress)
    redact = beside.redact_ids or papers.redacted
    original = papers.redacting() if redact else papers
    if beside.looks:
        run = Run(task=original.data.task, accelerator=accelerator_on(place.device))
        check_logits(original.model, original.data, original.split, run)
    asked = original.asked(forget, seed=forget_seed)  # once: standard input is read once

    make = functools.partial(unlearn, original, asked, seed=seed, place=place, allow_code=TYPED)
    keep = functools.partial(keep_together, overwrite=place.overwrite)
    made = [(make(method), target)]
    if not beside.reference:
        return Forgotten(original, *keep(made))
    try:
        reference = make("retrain:paired" if beside.paired else "retrain")
    except Exception:  # what has been made is kept, though nothing stands beside it
        keep(made)
        raise
    return Forgotten(original, *keep([*made, (reference, reference_path)]))


def reference_of(out: Path) -> Path:
    """Where the retrained reference of a new folder goes."""
    return out.with_name(f"{out.name}-retrained")


def _check_reference(papers: Papers | Trained, method: Method, beside: Beside) -> None:
    """Raise ConfigError for a retrained reference that cannot be had."""
    where = papers.path
    recipe = papers.card.recipe if isinstance(papers, Papers) else papers.recipe
    if method.name == "retrain" and recipe is None:
        raise ConfigError(
            f"retrain trains as the original was trained, and {where} comes without a recipe: import it "
            "with --recipe"
        )
    if beside.reference and recipe is None:
        raise ConfigError(
            f"{where} has no recipe, so there is no retrained reference; import it with "
            "--recipe, or leave --with-reference out"
        )
    if (beside.reference or method.name == "retrain") and isinstance(papers, Papers):
        check_base(papers.card.hub.base if papers.card.hub is not None else "")
    if not beside.paired:
        return
    if not beside.reference:
        raise ConfigError("--paired is about the reference; ask for it with --with-reference")
    if papers.began is None:
        raise ConfigError(
            f"{where} was imported or pruned, so nobody knows the weights that it began with; "
            "leave --paired out"
        )


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
        rows = data.train.rows_of(names)
        unknown = [name for name, row in zip(names, rows, strict=True) if row < 0]
        if unknown:
            raise SplitError(f"{what} names {unknown[0]!r}, which is not in the training data")
    held = set(validation)
    learned = set(trained_on) or set(data.train.ids.tolist()) - held
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
