"""Inputs moved until a model takes them for another class: what two families of methods learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.task import class_logits
from expunge.errors import ConfigError
from expunge.methods.shared.targets import open_classes
from expunge.training.loop import evaluating

if TYPE_CHECKING:
    from expunge.data.view import PartSource
    from expunge.training.run import Run

Logits = Callable[[Tensor], Tensor]
Bounds = tuple[Tensor, Tensor] | None
"""Lowest and highest value of an input; None: it may go anywhere."""


@dataclass(frozen=True)
class Attack:
    """Projected gradient ascent in L2, radius after radius.

    epsilon: the first radius, in units of what the model reads; each round doubles it. steps: of a
    round, each `step_size` times the radius long. rounds: how many radii are tried at most. gone:
    classes that no sample of another is moved to, while there are others.
    """

    epsilon: float
    steps: int
    step_size: float
    rounds: int
    gone: tuple[int, ...] = ()

    @property
    def radii(self) -> list[float]:
        """What is tried, one after another."""
        return [self.epsilon * 2.0**each for each in range(self.rounds)]

    def __call__(self, logits: Logits, inputs: Tensor, labels: Tensor, bounds: Bounds) -> Tensor:
        """Inputs (batch, ...) within the smallest radius at which another class wins.

        One that is taken for another class already stays; so does one for which no radius is enough.
        """
        found = inputs.clone()
        left = torch.arange(len(inputs), device=inputs.device)
        for radius in (0.0, *self.radii):
            able = self.among(logits, labels[left])
            moved = self._within(radius, able, inputs[left], labels[left], bounds)
            with torch.no_grad():
                wrong = able(moved).argmax(1) != labels[left]
            found[left[wrong]] = moved[wrong]
            left = left[~wrong]
            if not len(left):
                break
        return found

    def among(self, logits: Logits, labels: Tensor) -> Logits:
        """The logits of samples of these labels; those of classes to leave out are minus infinity."""

        def able(inputs: Tensor) -> Tensor:
            found = logits(inputs)
            shut = ~open_classes(labels, found.shape[1], self.gone)
            return found.masked_fill(shut.scatter(1, labels[:, None], False), -math.inf)

        return able

    def _within(
        self, radius: float, logits: Logits, inputs: Tensor, labels: Tensor, bounds: Bounds
    ) -> Tensor:
        """The inputs after a round of steps up the loss, none farther away than the radius."""
        moved = inputs
        for _ in range(self.steps if radius else 0):
            slope = ascent(logits, moved, labels)
            move = moved + self.step_size * radius * slope / lengths(slope) - inputs
            moved = in_bounds(inputs + move * (radius / lengths(move)).clamp(max=1.0), bounds)
        return moved


Look = Callable[[Logits, Tensor, Tensor, Bounds], tuple[Tensor, ...]]
"""(logits, inputs, labels, bounds) -> values (batch, ...) of each sample."""


@dataclass(frozen=True)
class BySample:
    """Values (n, ...) of the samples of a part, on the processor, found again by their ids."""

    rows: Mapping[str, int]
    values: Tensor

    def of(self, batch: Batch) -> Tensor:
        """Those of a batch's samples (batch, ...), where its inputs are."""
        return self.values[[self.rows[str(name)] for name in batch.ids]].to(batch.inputs.device)


def looked_at(
    model: nn.Module, source: PartSource, bounds: Bounds, run: Run, size: int, look: Look
) -> tuple[BySample, ...]:
    """Values of each sample under the model as it is now, in evaluation mode and exact float32.

    A sample is read once, without augmentation, in batches of `size`, on which nothing depends; every
    process knows all of them afterwards. Raises ConfigError for inputs that cannot be moved a little.
    """
    teacher = run.teacher(model)
    observe = class_logits(run.task)
    if bounds is None:
        run.log.setdefault("warnings", []).append(
            f"{run.label}: the inputs are no pictures of bytes, and nobody knows how far their values "
            "may go: they are moved without bounds"
        )
    found: list[tuple[Tensor, ...]] = []
    stream = source.batches(size, shuffle=False, augment=False)
    with evaluating(teacher), run.progress.work(f"{run.label}, attack", len(stream)) as bar:
        for batch in stream:
            check_movable(batch, run)

            def logits(inputs: Tensor, like: Batch = batch) -> Tensor:
                return observe(teacher, replace(like, inputs=inputs))

            values = look(logits, batch.inputs, batch.labels, bounds)  # type: ignore[arg-type]
            found.append(tuple(run.gathered(value, batch).cpu() for value in values))
            bar.advance()
    names = source.view.samples.ids[source.rows].tolist()
    rows = {str(name): row for row, name in enumerate(names)}
    return tuple(BySample(rows, torch.cat(each)) for each in zip(*found, strict=True))


def check_movable(batch: Batch, run: Run) -> None:
    """Raise ConfigError for inputs that are no numbers of which a little more makes sense."""
    if not isinstance(batch.inputs, Tensor) or not batch.inputs.is_floating_point():
        raise ConfigError(
            f"{run.label} moves inputs a little towards another class, and token ids and the like "
            "cannot be moved; choose a method that leaves inputs as they are, such as neggrad_plus"
        )


def ascent(logits: Logits, inputs: Tensor, labels: Tensor) -> Tensor:
    """The direction in which each sample's cross-entropy rises, of no particular length.

    It is the gradient of log sum_{c != y} exp z_c - z_y, which is parallel to that of the
    cross-entropy, and does not vanish where the model is sure of the label. Of a sum: a sample's own
    does not depend on the batch.
    """
    moved = inputs.detach().requires_grad_(True)
    with torch.enable_grad():
        found = logits(moved)
        own = found.gather(1, labels[:, None]).squeeze(1)
        others = found.scatter(1, labels[:, None], -math.inf).logsumexp(1)
        slope: Tensor = torch.autograd.grad((others - own).sum(), moved)[0]
    return slope


def lengths(moves: Tensor) -> Tensor:
    """Euclidean length of each sample's move, above 0: (batch, 1, ...)."""
    tiny = torch.finfo(moves.dtype).tiny
    found: Tensor = torch.linalg.vector_norm(moves.flatten(1), dim=1).clamp(min=tiny)
    return found.reshape(-1, *[1] * (moves.ndim - 1))


def in_bounds(inputs: Tensor, bounds: Bounds) -> Tensor:
    """Inputs cut to the bounds."""
    return inputs if bounds is None else torch.clamp(inputs, *bounds)


def sign_step(
    logits: Logits, inputs: Tensor, labels: Tensor, bounds: Bounds, share: float
) -> Tensor:
    """Inputs after one step of the fast gradient sign method, a share of each channel's range long.

    Without bounds the share is the length itself, in units of what the model reads.
    """
    size = share if bounds is None else share * (bounds[1] - bounds[0])
    return in_bounds(inputs + size * ascent(logits, inputs, labels).sign(), bounds)
