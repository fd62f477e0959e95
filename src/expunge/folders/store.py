"""A model folder with its data: loaded together, checked against each other, saved with lineage."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from expunge.api import Fresh, Result
from expunge.data.load import BUILT_IN, Data, DataSpec, load_data
from expunge.data.poison import split_poison
from expunge.data.split import Split
from expunge.data.split_file import home_of, split_from_plain, split_to_plain
from expunge.data.transform import Normalisation
from expunge.errors import DataError
from expunge.models.folder import (
    Ancestor,
    DataCard,
    ModelCard,
    builder,
    load_folder,
    read_card,
    read_split,
    save_folder,
)
from expunge.progress import Reporter, Silent
from expunge.recipe import Recipe
from expunge.run import Mask
from expunge.version import VERSION


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
    card = read_card(Path(path))
    plain = read_split(Path(path))
    spec = data if data is not None else card.data.spec
    if spec is None:
        raise DataError(f"{path} does not say which data it learned from; name them with --data")
    typed = data is not None
    with (progress or Silent()).work(f"reading {spec if isinstance(spec, str) else 'data'}"):
        found = load_data(
            spec, data_dir=data_dir or os.environ.get("EXPUNGE_DATA") or card.data.data_dir,
            classes=card.classes, allow_code=typed or allow_code, home=home_of(plain),
        )  # fmt: skip
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
    folder = load_folder(path, allow_code=allow_code, build=build)
    return Loaded(
        path=folder.path,
        model=folder.model,
        card=card,
        data=found,
        split=split_from_plain(plain, found),
        recipe=Recipe(**card.recipe) if card.recipe is not None else None,
        fresh=build or builder(card, allow_code=True),
        mask=folder.mask,
        redacted="salt" in plain,
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
    card = ModelCard(
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
    state = PartialState(cpu=torch.accelerator.current_accelerator(True) is None)
    if state.is_main_process:
        redact = redact_ids or (parent is not None and parent.redacted)
        plain = split_to_plain(result.split, data, redact=redact)
        card = save_folder(
            out, result.model, card, plain, mask=result.mask, overwrite=overwrite
        )  # fmt: skip
    state.wait_for_everyone()
    return card


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
