"""Gradient ascent: SGD that climbs the loss of what is to be forgotten."""

from __future__ import annotations

import copy

import expunge
from expunge import Data, Part
from expunge.methods.gradient_ascent import GradientAscent
from expunge.place import HERE
from expunge.training.session import open_session
from reference.case import Case, Work, problem, trained_by

LR = 1e-4
EPOCHS = 5
METHOD = GradientAscent(epochs=EPOCHS, lr=LR)


def whole_call(data: Data) -> tuple[Work, Work]:
    """The loop, and `expunge.unlearn` as a user calls it."""
    given = problem(data, samples=2000, forget=200)
    forget = given.images(Part.FORGET, augment=True)

    def theirs() -> object:
        network = copy.deepcopy(given.network)
        return trained_by(network, forget, epochs=EPOCHS, lr=LR, sign=-1.0)

    return theirs, lambda: expunge.unlearn(given.trained, given.split, METHOD)


def method_alone(data: Data) -> tuple[Work, Work]:
    """The loop, and the method without what `expunge.unlearn` does around it."""
    given = problem(data, samples=2000, forget=200)
    theirs, _ = whole_call(data)
    trained = given.trained

    def ours() -> object:
        session = open_session(
            ("benchmark", 0),
            METHOD.name,
            trained.data,
            given.split,
            METHOD.reads,
            recipe=trained.recipe,
            fresh=None,
            mask=None,
            place=HERE,
        )
        return METHOD.unlearn(copy.deepcopy(trained.model), session.view, session.run)

    return theirs, ours


CASES = (
    Case("gradient ascent, 5 epochs of 200, whole call", 1.3, whole_call),
    Case("gradient ascent, 5 epochs of 200, method alone", 1.5, method_alone),
)
