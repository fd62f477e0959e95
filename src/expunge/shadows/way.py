"""Whether a bank's models are trained several at once or one after another: a short trial decides."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from expunge.data.parts import Part
from expunge.disk.reading import read_json, reading
from expunge.disk.whole import write_file
from expunge.errors import ConfigError, DivergenceError
from expunge.place import HERE, Place
from expunge.shadows.bank import Bank
from expunge.shadows.places import HOW
from expunge.shadows.plan import STACK
from expunge.shadows.stacked import train_stacked, trial_sessions, why_not
from expunge.trained.trained import Trained
from expunge.training.fit import fit
from expunge.training.processes import one_thread
from expunge.training.session import Session

How = Literal["auto", "loop", "stacked"]
SHARE = 0.05
"""Of the time that the whole bank takes, what the trial may take, about."""
LONGEST_STEP = 0.25
"""Seconds: a network whose step takes longer is not small, and nothing is tried."""
MOST_STEPS = 50
ROUNDS = 2
"""Each way is timed so often, in turn; the quickest counts."""


@dataclass(frozen=True)
class BankWay:
    """How the models of a bank are trained.

    stacked: several at once. why: where nothing was timed, why not. loop, at_once: seconds of a step of
    one model, one after another and at once; 0 where nothing was timed.
    """

    stacked: bool
    why: str = ""
    loop: float = 0.0
    at_once: float = 0.0

    @property
    def sentence(self) -> str:
        """What a person is told of it."""
        if not self.loop:
            how = f"{STACK} at once" if self.stacked else "one after another"
            return f"models are trained {how}{f', for {self.why}' if self.why else ''}"
        times = f"{1000 * self.at_once:.3g} ms a step and model, {1000 * self.loop:.3g} ms alone"
        if self.stacked:
            return f"models are trained {STACK} at once ({times})"
        return f"models are trained one after another, for at once they would be slower ({times})"

    def facts(self) -> dict[str, str]:
        """What is noted of each model."""
        found = {"how": "stacked" if self.stacked else "loop"}
        if self.loop:
            found |= {
                "step_seconds": f"{self.loop:.3g}",
                "step_seconds_at_once": f"{self.at_once:.3g}",
            }
        return found


def faster(original: Trained, *, models: int = 16, place: Place = HERE) -> BankWay:
    """Which way is quicker on this machine, found by some steps each way, of which nothing is kept.

    models: of the bank: a trial of a small one is short.
    """
    why = why_not(original, models, place)
    if why is not None:
        return BankWay(False, why)
    count = min(STACK, models)
    with one_thread(), place.progress.work("trying how to train models"):
        sessions = trial_sessions(original, count, place)
        networks = [one.run.fresh() for one in sessions]

        def alone(steps: int) -> None:
            _alone(sessions[0], copy.deepcopy(networks[0]), steps)

        def at_once(steps: int) -> None:
            train_stacked(sessions, copy.deepcopy(networks), steps=steps)

        try:
            alone(2)  # the first ones prepare kernels
            step = _seconds(alone, 2) / 2
            if step > LONGEST_STEP:
                return BankWay(
                    False, f"a step takes {step:.2g} s, and stacking helps small networks"
                )
            steps = _steps(sessions[0], models, count, step)
            if steps < 2:
                return BankWay(False, "so small a bank is done before a trial is")
            at_once(2)
            timed = [(_seconds(alone, steps), _seconds(at_once, steps)) for _ in range(ROUNDS)]
        except DivergenceError:
            return BankWay(False, "training diverges in a trial")
        except torch.OutOfMemoryError:
            return BankWay(False, f"there is no room for {count} models at once")
    loop, together = (min(one) / steps for one in zip(*timed, strict=True))
    return BankWay(together / count < loop, "", loop, together / count)


def _steps(session: Session, models: int, count: int, step: float) -> int:
    """Steps of each timing, so that all of them take a small share of the bank."""
    recipe = session.run.original_recipe()
    epoch = len(session.view.batches(Part.RETAIN, recipe.batch_size)) / 2  # they learn from halves
    whole = models * recipe.epochs * epoch
    allowed = math.floor(SHARE * whole / (ROUNDS * (count + 1)))
    return min(allowed, MOST_STEPS, max(2, math.floor(LONGEST_STEP / step)))


def _alone(session: Session, network: torch.nn.Module, steps: int) -> None:
    run, recipe = session.run, session.run.original_recipe()
    fit(
        network,
        lambda epoch: session.view.batches(Part.RETAIN, recipe.batch_size, epoch=epoch),
        lambda model, batch, _: run.loss(model, batch),
        recipe=recipe,
        run=run,
        steps=steps,
    )


def _seconds(work: Callable[[int], None], steps: int) -> float:
    """That a processor works for it, whoever else is at work; of a graphics card those that pass."""
    cuda = torch.cuda.is_available()
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    work(steps)
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def chosen_way(
    original: Trained, bank: Bank, models: int, *, how: How = "auto", place: Place = HERE
) -> BankWay:
    """How the models of a bank are trained: as it was chosen when it was begun, so that what goes on
    after a break is the same to the last bit.

    Raises ConfigError where all at once was asked for and cannot be.
    """
    known = read_way(bank)
    if known is not None and how in ("auto", known.facts()["how"]):
        return known
    if how == "auto":
        way = faster(original, models=models, place=place)
    elif how == "loop":
        way = BankWay(False)
    else:
        why = why_not(original, models, place)
        if why is not None:
            raise ConfigError(
                f"{original.name}: models like this cannot be trained at once, for {why}; train them "
                "one after another"
            )
        way = BankWay(True)
    write_file(bank.folder / HOW, json.dumps(asdict(way)) + "\n")
    return way


def forecast(way: BankWay, original: Trained, bank: Bank) -> float:
    """Seconds that a model takes of those that are trained at once, as the trial has it; 0 where nobody
    knows.
    """
    recipe = original.recipe
    if recipe is None or not way.stacked:
        return 0.0
    return way.at_once * recipe.epochs * math.ceil(bank.learned / 2 / recipe.batch_size)


def read_way(bank: Bank) -> BankWay | None:
    """What was chosen for a bank; None where nothing was yet. Raises ConfigError for a damaged file."""
    file = bank.folder / HOW
    if not os.path.lexists(file):
        return None
    with reading(file, "delete it, and build the bank again", ConfigError):
        told = read_json(file, within=bank.folder)
        try:
            return BankWay(
                bool(told["stacked"]), str(told["why"]), float(told["loop"]), float(told["at_once"])
            )
        except (KeyError, TypeError) as error:
            raise ValueError("it does not say how models are trained") from error
