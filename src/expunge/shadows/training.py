"""Train a model as the original was trained, on other samples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.place import Place
from expunge.trained.record import SeedNames
from expunge.trained.recorded import record_of
from expunge.trained.trained import Trained
from expunge.training.fit import train_from
from expunge.training.session import Session, finished, open_session

PLAIN = torch.device("cpu")


def session_on(
    original: Trained, split: Split, names: SeedNames, place: Place, label: str
) -> Session:
    """A run under these seed names that may read what a model is to learn from."""
    return open_session(
        names,
        label,
        original.data,
        split,
        Part.RETAIN | Part.VALIDATION,
        recipe=original.recipe,
        fresh=original.fresh,
        mask=original.mask,
        place=place,
    )


def trained_on(
    original: Trained, split: Split, names: SeedNames, place: Place, label: str
) -> tuple[nn.Module, float]:
    """A model trained as the original was, from weights and in an order of these names' own; and the
    seconds that it took.
    """
    session = session_on(original, split, names, place, label)
    network = session.run.fresh()
    with session.measured(network):
        train_from(network, session.view, session.run, session.run.original_recipe())
    return finished(network, PLAIN, original.mask), session.cost.seconds


def as_original(original: Trained, network: nn.Module, split: Split, names: SeedNames) -> Trained:
    """Such a model as one that can be made to forget: an original of its own, which lies nowhere."""
    recipe = {} if original.recipe is None else original.recipe.model_dump(mode="json")
    return replace(
        original,
        model=network.eval(),
        split=split,
        history=(record_of("train", split, settings=recipe, names=names),),
        artifacts={},
        seed=None,
        path=None,
        weights="",
        struck=(),
    )
