"""`fit`: the only optimiser loop. Methods bring the batches and the loss; the rest is here."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch, Part
from expunge.data.view import DataView
from expunge.errors import ConfigError, DivergenceError
from expunge.precision import arithmetic, resolve_precision
from expunge.progress import Step
from expunge.recipe import Recipe
from expunge.run import Mask, Run
from expunge.schedule import Schedule
from expunge.seeds import seed_for

Batches = Callable[[int], Iterable[Any]]
Loss = Callable[[nn.Module, Any, float], Tensor]
Update = Mapping[str, Tensor | bool]
Held = list[tuple[nn.Parameter, Tensor, Tensor | None]]

EXPLOSION = 100.0
"""A parameter norm above this many times its start counts as divergence."""
SMALLEST_START = 1.0
"""A parameter norm that starts below this counts as this: weights that start at 0 may grow too."""
CHECK_EVERY = 50
"""Steps between divergence checks on a GPU, where each costs a synchronisation."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass
class FitLog:
    """What a call of `fit` did. losses: mean per epoch; validation: per epoch, where measured."""

    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    precision: str = "float32"


def fit(
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    *,
    recipe: Recipe,
    run: Run,
    update: Update | None = None,
    norm: Literal["train", "eval"] = "train",
    after_epoch: Callable[[nn.Module, int], None] | None = None,
    validate: Callable[[nn.Module], float] | None = None,
) -> FitLog:
    """Train `model` in place.

    batches: epoch -> iterable of batches, or of tuples of batches; with `len` where it can be.
    loss: (model, batch, progress in [0, 1)) -> scalar, this process's share of the global mean
        (`run.loss` gives it).
    update: parameter name -> True, or a bool tensor of its shape: what may change. Everything else
        stays bit-identical, buffers of modules whose own parameters are all frozen too (a BatchNorm
        without parameters goes on counting). None: all may change.
    norm: "eval" makes normalisation layers use their running statistics and leave them alone.
    after_epoch: called with the bare model and the epoch's number, from 0.
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
    log = FitLog(precision=resolve_precision(recipe.precision, model, run.device))
    start = time.perf_counter()
    model.to(run.device)
    if run.world == 1:
        lay_out(model, torch.channels_last)
    with prepared(model, recipe, run, update, norm) as loop:
        first = batches(0)
        schedule = Schedule(recipe, loop.optimizer, _length(first))
        with run.progress.work(run.label, recipe.epochs * (_length(first) or 1)) as bar:
            for epoch in range(recipe.epochs):
                stream = first if epoch == 0 else batches(epoch)
                _epoch(loop, stream, loss, epoch, schedule, bar, log)
                if validate is not None:
                    with evaluating(model), torch.no_grad(), arithmetic(log.precision, run.device):
                        log.validation.append(validate(model))
                schedule.after_epoch(log.validation[-1] if log.validation else None)
                if after_epoch is not None:
                    after_epoch(model, epoch)
    log.seconds = time.perf_counter() - start
    return log


def _epoch(
    loop: Loop, stream: Iterable[Any], loss: Loss, epoch: int, schedule: Schedule, bar: Step,
    log: FitLog,
) -> None:  # fmt: skip
    """One pass over a stream; appends its mean loss to the log."""
    steps = _length(stream)
    seen: Tensor | float = 0.0
    step = -1
    for step, batch in enumerate(stream):
        done = (epoch + (step / steps if steps else 0.0)) / loop.recipe.epochs
        seen = seen + loop.step(loss, batch, done, log.precision)
        loop.check(epoch, step)
        schedule.after_step()
        if steps:
            bar.advance(f"loss {log.losses[-1]:.3g}" if log.losses else "")
    if step < 0:
        raise ConfigError(f"{loop.run.label}: there is nothing to train on")
    loop.check(epoch, step, force=True)
    log.steps += step + 1
    total = loop.run.sum(torch.as_tensor(seen))
    log.losses.append(float(total) / (step + 1) / loop.run.world)
    if not steps:
        bar.advance(f"loss {log.losses[-1]:.3g}")


def train_from(model: nn.Module, data: DataView, run: Run, recipe: Recipe) -> FitLog:
    """Ordinary training on the retain set, as originals and retrained models get it."""
    validate = None
    if recipe.schedule == "plateau" and data.size(Part.VALIDATION):
        validate = _validation_loss(data, run, recipe)
    return fit(
        model,
        lambda epoch: data.batches(Part.RETAIN, recipe.batch_size, epoch=epoch),
        lambda model, batch, _: run.loss(model, batch),
        recipe=recipe,
        run=run,
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


@dataclass
class Loop:
    """One optimiser at work on one model. Made by `prepared`."""

    model: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    run: Run
    hold: Held
    norms: list[nn.Module]
    norm_start: float
    trainable: list[nn.Parameter]
    first_bad: Tensor
    count: int = 0

    def step(self, loss: Loss, batch: Any, done: float, precision: str) -> Tensor:
        """One forward, backward and update; returns the detached loss."""
        alone = smallest(batch) < 2
        for module in self.norms if alone else ():
            module.eval()  # one sample has no variance: use the running statistics for this step
        with arithmetic(precision, self.run.device):
            value = loss(self.wrapped, batch, done)
        self.optimizer.zero_grad(set_to_none=True)
        self.run.accelerator.backward(value)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable, self.recipe.clip_norm)
        if self.recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self.trainable, self.recipe.clip_value)
        self.optimizer.step()
        self.restore()
        for module in self.norms if alone else ():
            module.train()
        detached = value.detach()
        bad = ~torch.isfinite(detached) & (self.first_bad < 0)
        self.first_bad = torch.where(bad, self.count, self.first_bad)
        self.count += 1
        return detached

    def restore(self) -> None:
        """Put back what must not change: masked weights to 0, frozen entries to their start."""
        with torch.no_grad():
            for parameter, keep, start in self.hold:
                if start is None:
                    parameter.mul_(keep)
                else:
                    torch.where(keep, parameter, start, out=parameter)

    def check(self, epoch: int, step: int, force: bool = False) -> None:
        """Raise DivergenceError if a loss was not finite or the weights exploded."""
        due = self.run.device.type == "cpu" or self.count % CHECK_EVERY == 0
        if not (force or due):
            return
        where = f"{self.run.label} diverged in epoch {epoch + 1} of {self.recipe.epochs}"
        advice = f"lower lr (now {self.recipe.lr:g})"
        clipped = self.recipe.clip_norm is not None or self.recipe.clip_value is not None
        if self.recipe == self.run.recipe and not clipped:  # a method's own recipe has no clipping
            advice += " or set clip_norm"
        bad = int(self.run.sum((self.first_bad >= 0).long().to(self.run.device)))
        if bad:
            late = max(0, self.count - 1 - int(self.first_bad)) if int(self.first_bad) >= 0 else 0
            raise DivergenceError(
                f"{where}, step {max(0, step - late) + 1}: the loss is not finite; {advice}"
            )
        if force or self.count % CHECK_EVERY == 0:
            size = parameter_norm(self.trainable)
            if not size <= EXPLOSION * self.norm_start:
                raise DivergenceError(
                    f"{where}, step {step + 1}: the weights' norm is {size:.3g}, more than "
                    f"{EXPLOSION:g} times the {self.norm_start:.3g} it started from; {advice}"
                )


@contextmanager
def prepared(
    model: nn.Module, recipe: Recipe, run: Run, update: Update | None,
    norm: Literal["train", "eval"],
) -> Iterator[Loop]:  # fmt: skip
    """Optimiser, processes, frozen parts and modes; undone on the way out."""
    modes = {module: module.training for module in model.modules()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    try:
        hold = _holds(model, run.mask, update)
        trainable = [p for p in model.parameters() if p.requires_grad]
        if not trainable:
            raise ConfigError(
                f"{run.label}: the model has no parameters to train, all are frozen; call "
                "requires_grad_(True) on those that may change"
            )
        model.train()
        frozen = _freeze_norms(model, everything=norm == "eval")
        optimizer = make_optimizer(trainable, recipe)
        wrapped: nn.Module = model
        if run.world > 1:
            wrapped = distributed(model, run)
        if recipe.compile:
            wrapped = torch.compile(wrapped)  # type: ignore[assignment]
        loop = Loop(
            model=model, wrapped=wrapped, optimizer=optimizer, recipe=recipe, run=run, hold=hold,
            norms=[m for m in model.modules() if isinstance(m, NORMS) and m not in frozen],
            norm_start=max(parameter_norm(trainable), SMALLEST_START),
            trainable=trainable, first_bad=torch.tensor(-1, device=run.device),
        )  # fmt: skip
        loop.restore()
        with torch.random.fork_rng(devices=_cuda_indices(run)):
            # dropout and the like: the same numbers for the same run, whatever ran before
            torch.manual_seed(seed_for(*run.names, "fit", run.rank))
            yield loop
        _average_buffers(model, run)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])
            parameter.grad = None
        for module, training in modes.items():
            module.training = training
        if run.world > 1:
            run.accelerator.free_memory()  # it keeps every model that it prepared


def lay_out(model: nn.Module, form: torch.memory_format) -> None:
    """Store the weights of 2-D convolutions in a memory format; the others have none."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=form)


def distributed(model: nn.Module, run: Run) -> nn.Module:
    """The model under accelerate's data parallelism: gradients are averaged over processes."""
    with warnings.catch_warnings():
        # torch 2.13 renames the option of `accelerator_on`; both names mean the same to it
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        wrapped: nn.Module = run.accelerator.prepare_model(model)
    return wrapped


def make_optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser, fused where torch has it so."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay, foreach=True,
        )  # fmt: skip
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(
        parameters, lr=recipe.lr, betas=(recipe.momentum, 0.999), weight_decay=recipe.weight_decay,
        foreach=True,
    )  # fmt: skip


def _holds(model: nn.Module, mask: Mask | None, update: Update | None) -> Held:
    """What `restore` needs, and requires_grad switched off for wholly frozen parameters."""
    parameters = dict(model.named_parameters())
    for name, given in (("mask", mask or {}), ("update", update or {})):
        unknown = set(given) - set(parameters)
        if unknown:
            raise ConfigError(f"the {name} names {sorted(unknown)[0]!r}, which the model lacks")
        for key, value in given.items():
            if isinstance(value, Tensor) and value.shape != parameters[key].shape:
                raise ConfigError(
                    f"the {name} of {key!r} has shape {tuple(value.shape)}, the parameter "
                    f"{tuple(parameters[key].shape)}; give one boolean per weight"
                )
    masked: Held = [
        (parameters[name], kept.to(parameters[name].device), None)
        for name, kept in (mask or {}).items()
    ]
    if update is None:
        return masked
    hold: Held = []
    for name, parameter in parameters.items():
        allowed = update.get(name, False)
        if isinstance(allowed, Tensor) and not allowed.all() and allowed.any():
            start = parameter.detach().clone()
            hold.append((parameter, allowed.to(parameter.device), start))
        elif not (bool(allowed.any()) if isinstance(allowed, Tensor) else allowed):
            parameter.requires_grad_(False)
    return hold + masked  # the mask last: it holds in what must not change, too


def _freeze_norms(model: nn.Module, *, everything: bool) -> set[nn.Module]:
    """Put normalisation layers in evaluation mode: all, or those without trainable parameters."""
    frozen: set[nn.Module] = set()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        still = bool(own) and not any(p.requires_grad for p in own)
        if isinstance(module, NORMS) and (everything or still):
            module.eval()
            frozen.add(module)
    return frozen


def _average_buffers(model: nn.Module, run: Run) -> None:
    """Processes see different samples, so their running statistics differ: take the mean."""
    if run.world == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(run.sum(buffer.clone()) / run.world)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module's mode is put back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def parameter_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Euclidean norm of all parameters together; not finite if one of them is not."""
    norms = torch._foreach_norm([p.detach() for p in parameters])
    return math.sqrt(sum(float(value) ** 2 for value in torch.stack(list(norms)).double()))


def smallest(batch: Any) -> int:
    """Samples in the smallest batch of a step."""
    if isinstance(batch, Batch):
        return len(batch)
    return min((smallest(one) for one in batch), default=0)


def _length(stream: Iterable[Any]) -> int | None:
    try:
        return len(stream)  # type: ignore[arg-type]
    except TypeError:
        return None


def _cuda_indices(run: Run) -> list[int]:
    return [run.device.index or 0] if run.device.type == "cuda" else []
