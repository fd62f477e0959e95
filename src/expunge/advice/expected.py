"""How many seconds a method would take on a model, measured by a rehearsal of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from expunge.advice.duration import in_seconds
from expunge.api import unlearn
from expunge.data.answer import Answered
from expunge.data.parts import Part
from expunge.errors import DivergenceError, UserError
from expunge.methods import Method
from expunge.methods.finetune import Finetune
from expunge.methods.retrain import Retrain
from expunge.place import HERE, Place
from expunge.progress import Silent
from expunge.trained.trained import Trained
from expunge.training.rehearsal import ENOUGH_SECONDS, Rehearsal, RehearsalError, rehearsing
from expunge.training.session import load_optimizers

MOST_EACH, MOST_ALL = 10.0, 60.0
"""Seconds that one rehearsal may take, and all of them together."""
LEAST = 1.0
"""Seconds without which a rehearsal tells nothing."""


@dataclass(frozen=True)
class Expected:
    """seconds: of work, loading and audits apart; None: nobody can tell. rough: guessed by the number of
    its epochs, where a rehearsal told nothing. failed: what a rehearsal broke off with, in words.
    """

    seconds: float | None
    rough: bool = False
    failed: str = ""

    @property
    def at_most(self) -> float:
        """The seconds, infinite where nobody can tell."""
        return math.inf if self.seconds is None else self.seconds

    def __str__(self) -> str:
        if self.seconds is None:
            return "unknown"
        return f"{'roughly ' if self.rough else ''}{in_seconds(self.seconds)}"


@dataclass
class Stopwatch:
    """Rehearses methods on one model and one request.

    most: seconds that all rehearsals may take. clock: in seconds.
    """

    original: Trained
    asked: Answered
    seed: int = 0
    place: Place = HERE
    most: float = MOST_ALL
    clock: Callable[[], float] = time.perf_counter
    begin: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        load_optimizers()  # so that it counts nowhere
        self.begin = self.clock()
        self.place = replace(self.place, progress=Silent(), strike=False)

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return self.clock() - self.begin

    def expect(self, method: Method) -> Expected:
        """What a method would take with its settings.

        Raises UserError or DivergenceError where the method itself refuses this model or request.
        """
        failed = ""
        for whole_passes in (False, True):
            try:
                seconds = self._rehearsed(method, whole_passes=whole_passes)
                self._note_epoch(method, seconds)
                return Expected(seconds)
            except RehearsalError:
                break
            except (UserError, DivergenceError):
                if whole_passes:  # or it may be for what the rehearsal left out
                    raise
            except Exception as error:  # it missed what was left out; others' code may do anything
                failed = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return replace(self._guessed(method), failed=failed)

    def _rehearsed(self, method: Method, *, whole_passes: bool) -> float:
        left = self.most - self.spent
        if left <= 0:
            raise RehearsalError("there is no time left for a rehearsal")
        rehearsal = Rehearsal(
            seconds=min(ENOUGH_SECONDS, self.most / 8),
            most=min(MOST_EACH, max(LEAST, left)),
            whole_passes=whole_passes,
            clock=self.clock,
        )
        with rehearsing(rehearsal):
            made = unlearn(
                self.original,
                self.asked,
                method,
                seed=self.seed,
                place=self.place,
                allow_code=self.place.allow_code,
            )
        return made.record.cost.seconds + rehearsal.skipped

    def _note_epoch(self, method: Method, seconds: float) -> None:
        """Retraining is so many passes of training: it tells how long one is."""
        if isinstance(method, Retrain) and self.original.recipe is not None:
            self.__dict__["an_epoch"] = seconds / self.original.recipe.epochs

    def _guessed(self, method: Method) -> Expected:
        """By its epochs over what it reads, each taken for one of plain training; unknown for a method
        that counts in anything else.
        """
        split = self.asked.split
        parts = {Part.RETAIN: split.retain, Part.FORGET: split.forget}
        read = sum(len(ids) for part, ids in parts.items() if part in method.reads)
        passes = sum(
            value
            for name, value in method
            if isinstance(value, int) and (name == "epochs" or name.endswith("_epochs"))
        )
        if not passes and method.needs_recipe and self.original.recipe is not None:
            passes = self.original.recipe.epochs
        if not passes or self.an_epoch is None:
            return Expected(None, rough=True)
        epochs = passes * read / max(1, len(split.retain))
        return Expected(epochs * self.an_epoch, rough=True)

    @cached_property
    def an_epoch(self) -> float | None:
        """Seconds of one pass of training over the retain set; None where even that cannot be told."""
        try:
            return self._rehearsed(Finetune(epochs=1), whole_passes=False)
        except (UserError, DivergenceError, RehearsalError):
            return None
