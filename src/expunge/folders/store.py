"""A model folder with its data: loaded together, checked against each other, saved with lineage."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.data.parts import SPLIT_PARTS
from expunge.data.poison import split_poison
from expunge.data.spec import BUILT_IN, DataSpec
from expunge.errors import ConfigError, DataError, ModelError, SplitError
from expunge.loading import loading
from expunge.models.card import (
    Ancestor,
    DataCard,
    ModelCard,
    check_code,
    check_files,
    read_card,
    read_split,
)
from expunge.models.table import check_model
from expunge.progress import Reporter, Silent
from expunge.training.recipe import Recipe
from expunge.version import VERSION

if TYPE_CHECKING:
    from torch import nn

    from expunge.api import Result
    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.models.mask import Mask
    from expunge.training.session import Fresh


@dataclass(frozen=True)
class Loaded:
    """A model folder with its data.

    fresh: makes an untrained model of the same architecture. redacted: the folder keeps hashes of
    ids only.
    """

    path: Path
    model: nn.Module
    card: ModelCard
    data: Data
    split: Split
    recipe: Recipe | None
    fresh: Fresh
    mask: Mask | None = None
    redacted: bool = False


@dataclass(frozen=True)
class Papers:
    """The card and the split of a model folder, read and checked without its weights or data.

    data: as typed, or as the card names them. allow_code: consent to run what the card names.
    """

    path: Path
    card: ModelCard
    split: dict[str, Any]
    data: str | Data
    data_dir: str | Path | None
    allow_code: bool
    allow_data_code: bool


def read_papers(
    path: str | Path,
    *,
    data: str | Data | None = None,
    data_dir: str | Path | None = None,
    allow_code: bool = False,
    own_model: bool = False,
) -> Papers:
    """What a model folder says of itself: all that can be wrong before anything costly starts.

    The arguments are those of `load_model`; own_model: it is given `build`.
    Raises ModelError for a folder that is missing or damaged, or names code without consent,
    SplitError for a split that is none, and DataError for data that are not there.
    """
    card = read_card(Path(path))
    split = read_split(Path(path))
    check_files(Path(path), card)
    if not own_model:
        check_code(card, allow_code=allow_code)
        check_model(card.architecture or "")
    _check_recipe(card, path)
    for name in SPLIT_PARTS:
        if not isinstance(split.get(name), list):
            raise SplitError(
                f"{path}/split.json lacks a list {name!r}; copy the whole folder again"
            )
    spec = card.data.spec if data is None else data
    if spec is None:
        raise DataError(f"{path} does not say which data it learned from; name them with --data")
    where = data_dir or os.environ.get("EXPUNGE_DATA") or card.data.data_dir
    allowed = data is not None or allow_code
    if isinstance(spec, str):
        DataSpec.parse(spec).check(where, allow_code=allowed)
    return Papers(Path(path), card, split, spec, where, allow_code, allowed)


def _check_recipe(card: ModelCard, path: str | Path) -> None:
    try:
        Recipe(**(card.recipe or {}))
    except ConfigError as error:
        raise ModelError(f"{path}/model.json: {error}") from error


def load_model(
    path: str | Path,
    *,
    data: str | Data | None = None,
    data_dir: str | Path | None = None,
    progress: Reporter | None = None,
    allow_code: bool = False,
    build: Callable[[], nn.Module] | None = None,
) -> Loaded:
    """Load a model folder, its data and its split.

    data: instead of the data that the card names. data_dir: where named data lie; else EXPUNGE_DATA,
    else where they lay when the folder was written.
    allow_code: consent to run code of the user's own that the card names (`module:function`).
    build: makes the untrained model, where the card does not say how.

    Raises ModelError or DataError where folder or data do not fit each other.
    """
    papers = read_papers(
        path, data=data, data_dir=data_dir, allow_code=allow_code, own_model=build is not None
    )
    return open_papers(papers, progress=progress, build=build)


def open_papers(
    papers: Papers,
    *,
    progress: Reporter | None = None,
    build: Callable[[], nn.Module] | None = None,
) -> Loaded:
    """The rest of `load_model`, for papers that were read before: data, weights and mask."""
    with loading():
        from expunge.data.load import load_data
        from expunge.data.split_file import home_of, split_from_plain
        from expunge.data.transform import Normalisation
        from expunge.models.folder import builder, load_folder

    path, card = papers.path, papers.card
    what = papers.data if isinstance(papers.data, str) else "data"
    with (progress or Silent()).work(f"reading {what}"):
        found = load_data(
            papers.data,
            data_dir=papers.data_dir,
            classes=card.classes,
            allow_code=papers.allow_data_code,
            home=home_of(papers.split),
        )
    _check_poison(found, card, path)
    _check_data(found, card, path)
    for values in (card.mean, card.std):
        if values is not None and len(values) not in (1, card.shape[0]):
            raise DataError(
                f"{path}/model.json normalises {len(values)} channels, its inputs have {card.shape[0]}"
            )
    if card.mean is not None and card.std is not None:
        found = found.with_normalisation(Normalisation(card.mean, card.std))
    else:
        found = found.with_normalisation(None)
    folder = load_folder(path, allow_code=papers.allow_code, build=build)
    return Loaded(
        path=folder.path,
        model=folder.model,
        card=card,
        data=found,
        split=split_from_plain(papers.split, found),
        recipe=Recipe(**card.recipe) if card.recipe is not None else None,
        fresh=build or builder(card, allow_code=True),
        mask=folder.mask,
        redacted="salt" in papers.split,
    )


def save_model(
    result: Result,
    out: str | Path,
    *,
    data: Data,
    architecture: str | None = None,
    parent: Loaded | None = None,
    data_dir: str | Path | None = None,
    seed: int | None = None,
    split_seed: int | None = None,
    overwrite: bool = False,
    redact_ids: bool = False,
) -> ModelCard:
    """Write a result as a model folder, whole or not at all; one process of several writes.

    architecture: a name or `module:function`, so that the folder can be loaded without help.
    parent: the folder that the model came from; its lineage is continued and the rest inherited.
    """
    import torch
    from accelerate import PartialState

    from expunge.data.split_file import split_to_plain
    from expunge.models.folder import save_folder

    card = _card(result, data, parent, data_dir, architecture, seed, split_seed)
    state = PartialState(cpu=torch.accelerator.current_accelerator(True) is None)
    if state.is_main_process:
        redact = redact_ids or (parent is not None and parent.redacted)
        plain = split_to_plain(result.split, data, redact=redact)
        card = save_folder(out, result.model, card, plain, mask=result.mask, overwrite=overwrite)
    state.wait_for_everyone()
    return card


def _card(
    result: Result,
    data: Data,
    parent: Loaded | None,
    data_dir: str | Path | None,
    architecture: str | None,
    seed: int | None,
    split_seed: int | None,
) -> ModelCard:
    """The card of a result, its lineage continued."""
    kept = result.split.retain[0]
    normal = data.normalisation
    ancestor = Ancestor(
        step=result.record.step,
        parent=parent.card.weights if parent else None,
        settings=result.record.settings,
        names=result.record.names,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        version=VERSION,
        split=result.split.digest,
        forgotten=len(result.split.forget),
        cost=result.record.cost.to_dict(),
        log=result.record.log,
    )
    recipe = result.recipe.model_dump(mode="json") if result.recipe is not None else None
    return ModelCard(
        architecture=parent.card.architecture if parent else architecture,
        shape=parent.card.shape if parent else data.train.shape(data.train.position[kept]),
        classes=data.classes,
        data=DataCard(
            spec=_lasting(data.spec),
            data_dir=_hint(data_dir, parent),
            fingerprint=data.train.fingerprint,
            positional=data.train.positional,
            test_fingerprint=data.test.fingerprint,
        ),
        mean=normal.mean if normal else None,
        std=normal.std if normal else None,
        recipe=recipe if recipe is not None else (parent.card.recipe if parent else None),
        seed=parent.card.seed if parent else seed,
        split_seed=parent.card.split_seed if parent else split_seed,
        lineage=(*(parent.card.lineage if parent else ()), ancestor),
    )


def _check_data(data: Data, card: ModelCard, path: str | Path) -> None:
    if data.classes != card.classes:
        raise DataError(
            f"the data have classes {list(data.classes)[:5]}..., {path} knows "
            f"{list(card.classes)[:5]}...; give the data that it was trained on"
        )
    same = data.train.fingerprint == card.data.fingerprint
    if not same and (card.data.positional or data.train.positional):
        raise DataError(
            f"the data have changed since {path} was written, and their ids are row numbers, which "
            "now may mean other samples; restore the file, or give samples ids of their own"
        )


def _check_poison(data: Data, card: ModelCard, path: str | Path) -> None:
    """Which samples are poisoned is drawn from all of them: other data would have others poisoned."""
    told = DataSpec.parse(card.data.spec).poison if card.data.spec else None
    made = data.poison.poison if data.poison is not None else None
    if (told or made) and data.train.fingerprint != card.data.fingerprint:
        raise DataError(
            f"{path} learned from {f'data poisoned with {told}' if told else 'data without that poison'}"
            ", and these data differ; give the very data that it learned from, all samples present"
        )


def _lasting(spec: str | None) -> str | None:
    """A specification that means the same from another folder: paths made absolute."""
    if spec is None:
        return None
    clean, poison = split_poison(spec)
    base = DataSpec.parse(clean).base
    path = Path(base).expanduser()
    known = base in BUILT_IN or not path.exists()
    suffix = spec.strip()[len(clean) :]
    if poison is not None and poison.trigger != poison.trigger.absolute():
        suffix = f"+{replace(poison, trigger=poison.trigger.absolute())}"
    return f"{clean if known else f'{path.resolve()}{clean[len(base) :]}'}{suffix}"


def _hint(data_dir: str | Path | None, parent: Loaded | None) -> str | None:
    chosen = data_dir or os.environ.get("EXPUNGE_DATA")
    if chosen:
        return str(Path(chosen).expanduser().resolve())
    return parent.card.data.data_dir if parent else None
