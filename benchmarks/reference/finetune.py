"""Fine-tuning: an epoch of plain SGD on what is kept."""

from __future__ import annotations

import copy

import expunge
from expunge import Data, Part
from expunge.methods.finetune import Finetune
from reference.case import Case, Work, problem, trained_by

LR = 0.01


def whole_call(data: Data) -> tuple[Work, Work]:
    """The loop, and `expunge.unlearn` as a user calls it."""
    given = problem(data, samples=2000, forget=200)
    retain = given.images(Part.RETAIN, augment=True)

    def theirs() -> object:
        return trained_by(copy.deepcopy(given.network), retain, epochs=1, lr=LR)

    return theirs, lambda: expunge.unlearn(given.trained, given.split, Finetune(epochs=1, lr=LR))


CASES = (Case("fine-tuning, one epoch of 1,800, whole call", 1.5, whole_call),)
