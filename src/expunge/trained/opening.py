"""A model folder with its data: loaded together, and checked against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.pseudonyms import is_kept
from expunge.data.spec import NO_TEST, DataSpec
from expunge.errors import DataError
from expunge.loading import loading
from expunge.place import HERE, Place
from expunge.progress import Reporter, Silent
from expunge.trained.card import TOKENIZER, ModelCard
from expunge.trained.papers import Papers, read_papers
from expunge.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.data.transform import Normalisation
    from expunge.trained.trained import Trained


def load(
    path: str | Path,
    *,
    data: str | Data | None = None,
    fresh: Callable[[], nn.Module] | None = None,
    place: Place = HERE,
) -> Trained:
    """Load a model folder, its data and its split.

    Args:
        path: the folder.
        data: instead of the data that the folder names.
        fresh: makes the untrained model, where the folder does not say how.
        place: `data_dir`, where named data lie (else EXPUNGE_DATA, else where they lay when the
            folder was written); `allow_code`, consent to run what the folder names
            (`module:function`); `progress`.

    Raises:
        ModelError: for a folder that is missing, damaged, or names code without consent.
        DataError: for data that are not there, or are not those that it learned from.
        SplitError: for a split that was changed.
    """
    papers = read_papers(path, data=data, place=place, own_model=fresh is not None)
    return open_papers(papers, progress=place.progress, fresh=fresh)


def open_papers(
    papers: Papers,
    *,
    progress: Reporter | None = None,
    fresh: Callable[[], nn.Module] | None = None,
    all_there: bool = True,
) -> Trained:
    """The rest of `load`, for papers that were read before: data, weights and mask.

    all_there: whether all samples that it learned from must be in the data.
    """
    with loading():
        from expunge.data.split_file import split_from_plain
        from expunge.trained.files import (
            builder,
            read_artifacts,
            read_kept,
            read_mask,
            read_weights,
        )
        from expunge.trained.trained import Trained
        from expunge.training.trial import try_out

    path, card = papers.path, papers.card
    what = papers.data if isinstance(papers.data, str) else "data"
    with (progress or Silent()).work(f"reading {what}"):
        found = _data_of(papers)
    found = _tokenised(found, card, path, progress or Silent())
    split, struck = split_from_plain(papers.split, found, papers.key, all_there=all_there)
    _check_shape(found, split, card, path)
    build = fresh or builder(card, allow_code=papers.allow_code)
    model = read_weights(path, card, build, papers.trained_by)
    try_out(model, found, split)
    return Trained(
        model=model,
        data=found,
        split=split,
        history=card.lineage,
        recipe=Recipe(**card.recipe) if card.recipe is not None else None,
        fresh=build,
        architecture=card.architecture,
        mask=read_mask(path, card, model),
        artifacts=read_artifacts(path, card, model),
        seed=card.seed,
        split_seed=card.split_seed,
        path=path,
        weights=card.weights,
        redacted=papers.redacted,
        key=papers.key,
        struck=struck,
        trained_by=papers.trained_by,
        kept=read_kept(path, card, model),
    )


def _tokenised(data: Data, card: ModelCard, path: Path, progress: Reporter) -> Data:
    """Texts as the tokens that the model of a folder learned from; other data as they are."""
    from expunge.data.tokens import TextStore
    from expunge.models.hub import load_tokenizer

    if card.hub is None or not card.hub.files or not isinstance(data.train.store, TextStore):
        return data
    with progress.work("tokenising texts"):
        tokenizer = load_tokenizer(path / TOKENIZER, card.hub.config)
        return data.tokenised(tokenizer, max_length=card.hub.length)


def _data_of(papers: Papers) -> Data:
    """The data that a folder speaks of, with its task and normalisation; checked to be these."""
    from expunge.data.load import load_data
    from expunge.data.read_as import ReadAs
    from expunge.data.spec import OF_ITS_DATA
    from expunge.data.split_file import home_of
    from expunge.data.suppressed import LEDGER
    from expunge.data.task import Classification, named_task
    from expunge.data.undivided import undivided

    path, card = papers.path, papers.card
    named = isinstance(papers.data, str)
    found = load_data(
        papers.data,
        data_dir=papers.data_dir,
        classes=card.classes,
        test=card.data.test if named else None,
        allow_code=papers.allow_data_code,
        read_as=ReadAs(
            home_of(papers.split, papers.key),
            card.data.drawing,
            card.data.table,
            tuple(file for file in (path / LEDGER,) if file.is_file()),
        ),
    )
    found = (
        undivided(found, allow_code=papers.allow_data_code) if card.data.test == NO_TEST else found
    )
    if card.data.task == OF_ITS_DATA and type(found.task) is Classification:
        raise DataError(f"the task of {path} came with its data, and these data bring none")
    if named and card.data.task not in (None, OF_ITS_DATA):
        task = named_task(card.data.task, allow_code=papers.allow_code)
        found = replace(found, task=task, task_name=card.data.task)
    _check_drawing(found, card, path)
    same = is_kept(found.train.fingerprint, card.data.fingerprint, papers.key)
    _check_poison(found, card, path, same=same)
    _check_data(found, card, path, same=same)
    return found.with_normalisation(normalisation_of(card, path))


def normalisation_of(card: ModelCard, path: Path) -> Normalisation | None:
    """As a card has it. Raises DataError for one of another number of channels than its inputs'."""
    from expunge.data.transform import Normalisation

    for values in (card.mean, card.std):
        if values is not None and len(values) not in (1, *card.shape[:1]):
            raise DataError(
                f"{path}/model.json normalises {len(values)} channels, and its inputs have the "
                f"shape {card.shape}"
            )
    if card.mean is None or card.std is None:
        return None
    return Normalisation(card.mean, card.std)


def _check_drawing(data: Data, card: ModelCard, path: str | Path) -> None:
    told = card.data.drawing
    if data.drawing is None or data.drawing == told:
        return
    if told.ground is not None or data.drawing.resize != told.resize:
        raise DataError(
            f"the images of these data are drawn with {data.drawing}, and {path} learned from such with "
            f"{told}; leave that out, or say the same"
        )


def _check_data(data: Data, card: ModelCard, path: str | Path, *, same: bool) -> None:
    if data.table != card.data.table:
        raise DataError(
            f"the inputs of {path} are other columns or categories of a table than those of the data; "
            "give the data as they were given when it was trained"
        )
    if data.classes != card.classes:
        raise DataError(
            f"the data have classes {list(data.classes)[:5]}..., {path} knows "
            f"{list(card.classes)[:5]}...; give the data that it was trained on"
        )
    if not same and (card.data.positional or data.train.positional):
        raise DataError(
            f"the data have changed since {path} was written, and their ids are row numbers, which "
            "now may mean other samples; restore the file, or give samples ids of their own"
        )


def _check_shape(data: Data, split: Split, card: ModelCard, path: str | Path) -> None:
    """A model is built for the shape that the card tells, so it must be the data's own."""
    rows = (data.train.position[one] for one in split.retain if one in data.train.position)
    shape = data.train.shape(next(rows, 0))
    if shape != card.shape:
        raise DataError(
            f"an input of the data has the shape {shape}, {path} was trained on {card.shape}; give the "
            "data that it was trained on"
        )


def _check_poison(data: Data, card: ModelCard, path: str | Path, *, same: bool) -> None:
    """Which samples are poisoned is drawn from all of them: other data would have others poisoned."""
    told = DataSpec.parse(card.data.spec).poison if card.data.spec else None
    made = data.poison.poison if data.poison is not None else None
    if (told or made) and not same:
        raise DataError(
            f"{path} learned from {f'data poisoned with {told}' if told else 'data without that poison'}"
            ", and these data differ; give the very data that it learned from, all samples present"
        )
