"""One optimiser at work on one model: what is held still, watched for divergence, and put back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.errors import ConfigError, DivergenceError
from expunge.models.mask import check_fits
from expunge.names.seeds import seed_for
from expunge.training.pace import Pace
from expunge.training.precision import arithmetic, exact_convolutions
from expunge.training.recipe import Recipe
from expunge.training.run import Mask, Run, cards

Loss = Callable[[nn.Module, Any, float], Tensor]
Update = Mapping[str, Tensor | bool]
Norm = Literal["train", "eval"] | Collection[nn.Module]
"""Which normalisation layers use their running statistics: none, all, or those in some modules."""
Hook = Callable[[nn.Module, Any, float], None]
"""Called with the bare model, the step's batch and the progress."""
Held = list[tuple[nn.Parameter, Tensor, Tensor | None]]

EXPLOSION = 100.0
"""A parameter norm above this many times its start counts as divergence."""
SMALLEST_START = 1.0
"""A parameter norm that starts below this counts as this: weights that start at 0 may grow too."""
CHECK_EVERY = 50
"""Steps between divergence checks on a GPU, where each costs a synchronisation."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class StepRule:
    """What differs in steps on batches of one part.

    lr_factor: what the learning rate is multiplied by, 0 and up. clip_norm: the largest norm of the
    whole gradient, above 0, in place of the recipe's clipping; None: as the recipe says.
    """

    lr_factor: float = 1.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lr_factor < math.inf:
            raise ConfigError(f"lr_factor = {self.lr_factor}: give a finite number, 0 or more")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"clip_norm = {self.clip_norm}: give a number above 0, or None")


AS_THE_RECIPE_SAYS = StepRule()


@dataclass
class Loop:
    """One optimiser at work on one model. Made by `prepared`.

    rate: the setting to lower where training diverges. rules: by the part of a step's batch.
    """

    model: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    run: Run
    pace: Pace
    hold: Held
    norms: list[nn.Module]
    norm_start: float
    trainable: list[nn.Parameter]
    first_bad: Tensor
    count: int = 0
    rate: str = "lr"
    rules: Mapping[Part, StepRule] = field(default_factory=dict)
    after_backward: Hook | None = None
    after_step: Callable[[nn.Module, float], None] | None = None

    def step(self, loss: Loss, batch: Any, done: float, precision: str) -> Tensor:
        """One forward, backward and update; returns the detached loss."""
        alone = smallest(batch) < 2
        for module in self.norms if alone else ():
            module.eval()  # one sample has no variance: use the running statistics for this step
        with arithmetic(precision, self.run.device):
            value = loss(self.wrapped, batch, done)
        self.optimizer.zero_grad(set_to_none=True)
        if self.wrapped is self.model:
            value.backward()  # type: ignore[no-untyped-call]
        else:
            self.run.accelerator.backward(value)
        rule = self.rule(batch)
        if self.after_backward is not None:
            self.drop_held_gradients()
            self.after_backward(self.model, batch, done)
        self.clip(rule)
        if rule.lr_factor == 1:
            self.optimizer.step()
        else:
            with _scaled(self.optimizer, rule.lr_factor):
                self.optimizer.step()
        if self.after_step is not None:
            self.after_step(self.model, done)
        self.restore()
        for module in self.norms if alone else ():
            module.train()
        detached = value.detach()
        if not detached.is_cpu:
            bad = ~torch.isfinite(detached) & (self.first_bad < 0)
            self.first_bad = torch.where(bad, self.count, self.first_bad)
        elif not math.isfinite(detached.item()) and self.first_bad < 0:  # there, so nobody waits
            self.first_bad = torch.full_like(self.first_bad, self.count)
        self.count += 1
        return detached

    def rule(self, batch: Any) -> StepRule:
        """What this step's batch asks for; a batch of several parts follows the recipe."""
        part = batch.part if isinstance(batch, Batch) else None
        return AS_THE_RECIPE_SAYS if part is None else self.rules.get(part, AS_THE_RECIPE_SAYS)

    def clip(self, rule: StepRule) -> None:
        """Bound the gradient, by the rule's norm or else as the recipe says."""
        norm = self.recipe.clip_norm if rule.clip_norm is None else rule.clip_norm
        if norm is not None:
            self.drop_held_gradients()
            nn.utils.clip_grad_norm_(self.trainable, norm)
        elif self.recipe.clip_value is not None:
            nn.utils.clip_grad_value_(self.trainable, self.recipe.clip_value)

    def drop_held_gradients(self) -> None:
        """What is held still must not count in the norm that clipping sees."""
        for parameter, keep, _ in self.hold:
            if parameter.grad is not None:
                parameter.grad.mul_(keep)

    def restore(self) -> None:
        """Put back what must not change: masked weights to 0, frozen entries to their start."""
        if not self.hold:
            return
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
        bad = int(self.first_bad) >= 0
        if self.run.world > 1:
            bad = bool(self.run.sum(torch.tensor(int(bad), device=self.run.device)))
        if bad:
            late = max(0, self.count - 1 - int(self.first_bad)) if int(self.first_bad) >= 0 else 0
            where = self.where(epoch, max(0, step - late), self.count - 1 - late)
            raise DivergenceError(f"{where}: the loss is not finite; {self.advice()}")
        if force or self.count % CHECK_EVERY == 0:
            size = parameter_norm(self.trainable)
            if not size <= EXPLOSION * self.norm_start:
                where = self.where(epoch, step, self.count - 1)
                raise DivergenceError(
                    f"{where}: the weights' norm is {size:.3g}, more than "
                    f"{EXPLOSION:g} times the {self.norm_start:.3g} it started from; {self.advice()}"
                )

    def advice(self) -> str:
        """What to do where training diverges."""
        advice = f"lower {self.rate} (now {self.recipe.lr:g})"
        clipped = self.recipe.clip_norm is not None or self.recipe.clip_value is not None
        if self.recipe == self.run.recipe and not clipped:  # a method's own recipe has no clipping
            advice += " or set clip_norm"
        return advice

    def where(self, epoch: int, step: int, before: int) -> str:
        """The beginning of an error's text."""
        return f"{self.run.label} diverged in {self.pace.place(epoch, step, before)}"


@contextmanager
def _scaled(optimizer: torch.optim.Optimizer, factor: float) -> Iterator[None]:
    """Another learning rate for a while, and the very same one afterwards."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] *= factor
    yield
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


@contextmanager
def prepared(
    model: nn.Module,
    recipe: Recipe,
    run: Run,
    pace: Pace,
    update: Update | None,
    norm: Norm,
) -> Iterator[Loop]:
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
        frozen = _freeze_norms(model, norm)
        optimizer = make_optimizer(trainable, recipe)
        wrapped: nn.Module = model
        if run.world > 1:
            wrapped = distributed(model, run)
        if recipe.compile:
            wrapped = torch.compile(wrapped)  # type: ignore[assignment]
        loop = Loop(
            model=model,
            wrapped=wrapped,
            optimizer=optimizer,
            recipe=recipe,
            run=run,
            pace=pace,
            hold=hold,
            norms=[m for m in model.modules() if isinstance(m, NORMS) and m not in frozen],
            norm_start=max(parameter_norm(trainable), SMALLEST_START),
            trainable=trainable,
            first_bad=torch.tensor(-1, device=run.device),
        )
        loop.restore()
        with torch.random.fork_rng(devices=cards(run.device)):
            # dropout and the like: the same numbers for the same run, whatever ran before
            torch.manual_seed(seed_for(*run.names, "fit", run.rank))
            yield loop
        average_buffers(model, run)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])
            parameter.grad = None
        for module, training in modes.items():
            module.training = training
        if run.world > 1:
            run.accelerator.free_memory()  # it keeps every model that it prepared


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
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(
        parameters,
        lr=recipe.lr,
        betas=(recipe.momentum, 0.999),
        weight_decay=recipe.weight_decay,
        foreach=True,
    )


def _holds(model: nn.Module, mask: Mask | None, update: Update | None) -> Held:
    """What `restore` needs, and requires_grad switched off for wholly frozen parameters."""
    parameters = dict(model.named_parameters())
    check_fits(model, mask or {}, "mask")
    check_fits(model, update or {}, "update")
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


def _freeze_norms(model: nn.Module, norm: Norm) -> set[nn.Module]:
    """Put normalisation layers in evaluation mode: those asked for, and those whose own parameters are
    all frozen.
    """
    asked = () if norm == "train" else [model] if norm == "eval" else norm
    inside = {module for outer in asked for module in outer.modules()}
    frozen: set[nn.Module] = set()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        still = bool(own) and not any(p.requires_grad for p in own)
        if isinstance(module, NORMS) and (still or module in inside):
            module.eval()
            frozen.add(module)
    return frozen


def average_buffers(model: nn.Module, run: Run) -> None:
    """Processes see different samples, so their running statistics differ: take the mean."""
    if run.world == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(run.sum(buffer.clone()) / run.world)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and exact float32 for a while; every module's mode is put back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with exact_convolutions():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def parameter_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Euclidean norm of all parameters together; not finite if one of them is not."""
    norms = torch._foreach_norm([p.detach() for p in parameters])
    # read all at once: a GPU is waited for at each reading
    return math.sqrt(sum(value**2 for value in torch.stack(list(norms)).double().tolist()))


def smallest(batch: Any) -> int:
    """Samples in the smallest batch of a step."""
    if isinstance(batch, Batch):
        return len(batch)
    return min((smallest(one) for one in batch), default=0)
