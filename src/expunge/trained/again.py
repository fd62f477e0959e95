"""An original's training again with nothing removed: how much of a paired distance is there anyway."""

from __future__ import annotations

import torch
from torch import nn

from expunge.data.parts import Part
from expunge.place import Place
from expunge.trained.record import SeedNames
from expunge.trained.trained import Trained
from expunge.training.cost import Cost
from expunge.training.fit import train_from
from expunge.training.session import finished, open_session


def trained_again(original: Trained, names: SeedNames, *, place: Place) -> tuple[nn.Module, Cost]:
    """Train from the original's initial weights, in its order, on all that it learned from.

    The first batch is half as large, so all others begin elsewhere; batches of one sample cannot. Such
    a training is as good as the original's, and where it ends is chance: the floor of every distance
    to a paired retraining. names: the seed names that the original began with.

    Returns the model, and what it cost. Raises DivergenceError if the training diverges.
    """
    session = open_session(
        names,
        "the original again",
        original.data,
        original.split.settled(),
        Part.RETAIN | Part.VALIDATION,
        recipe=original.recipe,
        fresh=original.fresh,
        mask=original.mask,
        place=place,
        cut="shifted",
    )
    network = session.run.fresh()
    with session.measured(network):
        train_from(network, session.view, session.run, session.run.original_recipe())
    return finished(network, torch.device("cpu"), original.mask), session.cost
