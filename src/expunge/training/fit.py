"""`fit`: the only optimiser loop. Methods bring the batches and the loss; the rest is here."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.parts import Part
from expunge.data.view import DataView
from expunge.errors import ConfigError
from expunge.models.layout import lay_out, stays_ordinary
from expunge.progress import Step
from expunge.training.loop import (
    Hook,
    Loop,
    Loss,
    Norm,
    StepRule,
    Update,
    average_buffers,
    evaluating,
    prepared,
)
from expunge.training.pace import Pace
from expunge.training.precision import arithmetic, resolve_precision
from expunge.training.recipe import Recipe
from expunge.training.run import Run
from expunge.training.schedule import Schedule

Batches = Callable[[int], Iterable[Any]]


@dataclass
class FitLog:
    """What a call of `fit` did. losses: mean per epoch; validation: per epoch, where measured."""

    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    precision: str = "float32"

    def told(self) -> dict[str, Any]:
        """What a record of ordinary training says of it."""
        log: dict[str, Any] = {"losses": self.losses, "precision": self.precision}
        return log | ({"validation": self.validation} if self.validation else {})


def fit(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    recipe: Recipe,
    run: Run,
    update: Update | None = None,
    norm: Norm = "train",
    steps: int | None = None,
    first_epoch: int = 0,
    name: str | None = None,
    rate: str = "lr",
    by_part: Mapping[Part, StepRule] | None = None,
    after_backward: Hook | None = None,
    after_step: Callable[[nn.Module, float], None] | None = None,
    after_epoch: Callable[[nn.Module, int], bool | None] | None = None,
    validate: Callable[[nn.Module], float] | None = None,
) -> FitLog:
    """Train `model` in place.

    batches: epoch -> iterable of batches, or of tuples of batches; with `len` where it can be.
    loss: (model, batch, progress in [0, 1)) -> scalar, this process's share of the global mean
        (`run.loss` gives it).
    recipe: a schedule that changes with every step, such as cosine, takes all epochs for as long as the
        first.
    update: parameter name -> True, or a bool tensor of its shape: what may change. Everything else
        stays bit-identical, buffers of modules whose own parameters are all frozen too (a BatchNorm
        without parameters goes on counting). None: all may change.
    norm: "eval" makes normalisation layers use their running statistics and leave them alone; modules,
        those in them.
    steps: train for so many steps, whatever the recipe's epochs: `batches` is asked for epoch after
        epoch until they are made, and the learning rate goes over them.
    first_epoch: rewinding: batches and rate as in a run from epoch 0, with a fresh optimiser.
    name: of this call among several of one run: it has its own draws of dropout, and progress and
        errors name it. `data.named(name)` gives it its own order of batches.
    rate: the setting to lower where this call diverges, for the error's text.
    by_part: another clipping or learning rate in steps on batches of a part, such as
        {Part.FORGET: StepRule(clip_norm=7.0)}; for streams whose parts take turns.
    after_backward: called with the bare model, the batch and the progress when the gradients are
        there, before they are clipped: it may change each `parameter.grad` in place, which is None
        where the loss does not reach, and 0 in what must not change.
    after_step: called with the bare model and the progress after every update, before what must not
        change is put back.
    after_epoch: called with the bare model and the epoch's number, from 0, when buffers are the same in
        all processes; where it returns True, training ends.
    validate: model -> loss, once an epoch; schedule `plateau` needs it.

    `run.mask` is held: masked-out weights are 0 after every step, whatever the optimiser does.
    Raises DivergenceError if the loss is not finite or the parameter norm exceeds 100 times its
    start; the model is then in an undefined state and must be thrown away.
    """
    if recipe.schedule == "plateau" and validate is None:
        raise ConfigError(
            f"{run.label}: schedule 'plateau' watches a validation loss, and there is no validation "
            "set; keep one (validation=0.1), or choose another schedule"
        )
    pace = Pace(recipe.epochs, steps, first_epoch)
    if name is not None:
        run = run.named(name)
    log = FitLog(precision=resolve_precision(recipe.precision, model, run.device))
    start = time.perf_counter()
    model.to(run.device)
    if run.world == 1:
        lay_out(model, torch.channels_last)
    if stays_ordinary(model):
        run.log["layout"] = "contiguous"
    with prepared(model, recipe, run, pace, update, norm) as loop:
        loop.rate, loop.rules = rate, by_part or {}
        loop.after_backward, loop.after_step = after_backward, after_step
        first = batches(first_epoch)
        schedule = Schedule(recipe, loop.optimizer, _length(first), pace)
        with _bar(run, _length(first), pace) as bar:
            for epoch in pace.rounds():
                stream = first if epoch == first_epoch else batches(epoch)
                short = None if run.rehearsal is None else run.rehearsal.training(batches, pace)
                stream = stream if short is None else short
                _epoch(loop, stream, loss, epoch, schedule, bar, log)
                if validate is not None:
                    with evaluating(model), torch.no_grad(), arithmetic(log.precision, run.device):
                        log.validation.append(validate(model))
                schedule.after_epoch(log.validation[-1] if log.validation else None)
                ended = False
                if after_epoch is not None:
                    average_buffers(model, run)  # here too, for what it looks at is one model
                    ended = bool(after_epoch(model, epoch))
                if short is not None:
                    short.end()
                if ended or short is not None or log.steps == steps:
                    break
    log.seconds = time.perf_counter() - start
    return log


@dataclass
class _Whole:
    """A piece of work whose steps were counted as if epochs were equally long: it never has more of
    them than that, and can be brought to its end. left: steps that are not done yet.
    """

    step: Step
    left: int
    noted: str = ""

    def advance(self, note: str = "") -> None:
        """One more step is done."""
        self.noted, self.left = note, self.left - 1
        (self.step.advance if self.left >= 0 else self.step.note)(note)

    def note(self, text: str) -> None:
        """Something new to tell, no step."""
        self.step.note(text)


@contextmanager
def _bar(run: Run, steps: int | None, pace: Pace) -> Iterator[Step]:
    """Progress by steps; by epochs where nobody knows how many steps one has.

    Its end is reached where training ends early too, or epochs are shorter than the first.
    """
    epochs = pace.epochs - pace.first_epoch
    total = pace.steps or epochs * (steps or 1)
    unit = "steps" if pace.total(steps) else "epochs"
    with run.progress.work(run.label, total, unit=unit) as bar:
        whole = _Whole(bar, total)
        yield whole
        while whole.left > 0:
            whole.advance(whole.noted)


def _epoch(
    loop: Loop,
    stream: Iterable[Any],
    loss: Loss,
    epoch: int,
    schedule: Schedule,
    bar: Step,
    log: FitLog,
) -> None:
    """One pass over a stream; appends its mean loss to the log."""
    steps, pace = _length(stream), loop.pace
    known = pace.total(steps)
    seen: Tensor | float = 0.0
    step = -1
    told = pace.epoch(epoch) if known else ""
    told += f", loss {log.losses[-1]:.3g}" if log.losses and known else ""
    left = None if pace.steps is None else pace.steps - log.steps
    for step, batch in enumerate(itertools.islice(stream, left)):
        done = pace.done(epoch, step, steps, loop.count)
        seen = seen + loop.step(loss, batch, done, log.precision)
        loop.check(epoch, step)
        schedule.after_step()
        if known:
            bar.advance(told)
    if step < 0:
        raise ConfigError(f"{loop.run.label}: there is nothing to train on")
    if left is None:  # where batches fell together, the rate ends the epoch where it would have
        for _ in range(step + 1, steps or 0):
            schedule.after_step()
            bar.advance(told)
    loop.check(epoch, step, force=True)
    log.steps += step + 1
    total = loop.run.sum(torch.as_tensor(seen))
    log.losses.append(float(total) / (step + 1) / loop.run.world)
    if not known:
        bar.advance(f"loss {log.losses[-1]:.3g}")


def train_from(
    model: nn.Module,
    data: DataView,
    run: Run,
    recipe: Recipe,
    *,
    update: Update | None = None,
    norm: Norm = "train",
    first_epoch: int = 0,
    after_epoch: Callable[[nn.Module, int], None] | None = None,
) -> FitLog:
    """Ordinary training on the retain set, as originals and retrained models get it.

    What may be asked for is as `fit` has it.
    """
    validate = None
    if recipe.schedule == "plateau" and data.size(Part.VALIDATION):
        validate = _validation_loss(data, run, recipe)
    return fit(
        model,
        lambda epoch: data.batches(Part.RETAIN, recipe.batch_size, epoch=epoch),
        lambda model, batch, _: run.loss(model, batch),
        recipe=recipe,
        run=run,
        update=update,
        norm=norm,
        first_epoch=first_epoch,
        after_epoch=after_epoch,
        validate=validate,
    )


def _validation_loss(data: DataView, run: Run, recipe: Recipe) -> Callable[[nn.Module], float]:
    def validate(model: nn.Module) -> float:
        total = torch.zeros(2, dtype=torch.float64, device=run.device)
        stream = data.batches(Part.VALIDATION, recipe.batch_size, shuffle=False, augment=False)
        for batch in stream:
            count = len(batch) if batch.weight else 0
            losses = run.task.losses(model, batch).double().sum() * bool(batch.weight)
            total += torch.stack([losses, torch.tensor(float(count), device=run.device)])
        total = run.sum(total)
        return float(total[0] / total[1])

    return validate


def _length(stream: Iterable[Any]) -> int | None:
    try:
        return len(stream)  # type: ignore[arg-type]
    except TypeError:
        return None
