"""One change of inputs that fools a model on all of them, and the gradient through how it is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.view import PartSource
from expunge.methods.shared.attack import Bounds, check_movable, lengths
from expunge.per_sample.chunks import held_still, piece
from expunge.training.run import Run


@dataclass
class Universal:
    """The worst change within a ball, found anew round after round.

    radius: its root mean square at most, 1 being the way from black to white (of inputs that are no
    images: 1 itself). steps: batches that it is found on. share: of a batch that it is laid on, its
    first samples. size: samples a batch. losses: under it, at the end of each search.
    """

    source: PartSource
    run: Run
    radius: float
    steps: int
    share: float
    size: int
    losses: list[float] = field(default_factory=list)
    change: Tensor = field(init=False)
    _bounds: Bounds = field(init=False)

    def __post_init__(self) -> None:
        self._bounds = self.source.bounds

    def find(self, model: nn.Module, epoch: int) -> None:
        """Normalised ascent of the loss from 0, brought back into the ball after each step."""
        change: Tensor | None = None
        most, last = 0.0, torch.zeros(())
        with held_still(model):
            batches = self.run.steps(
                lambda n: self.source.view.named(f"change {epoch}").batches(
                    self.source.part, self.size, epoch=n, augment=False
                ),
                self.steps,
            )
            for batch in batches:
                check_movable(batch, self.run)
                if change is None:
                    change = torch.zeros_like(batch.inputs[:1])
                    most = self.radius * change.numel() ** 0.5
                change = change.detach().requires_grad_(True)
                loss = self.run.loss(model, self._laid(batch, change))
                (slope,) = torch.autograd.grad(loss, change)
                slope = self.run.sum(slope)
                last = self.run.sum(loss.detach()) / self.run.world
                moved = change.detach() + 2.5 * most / self.steps * slope / lengths(slope)
                change = moved * (most / lengths(moved)).clamp(max=1.0)
        self.losses.append(float(last))
        self.change = torch.zeros(1) if change is None else change.detach()

    def laid_on(self, batch: Batch) -> Batch:
        """A batch with the change on its first samples, as many as the share says."""
        count = self._count(batch)
        if count == len(batch):
            return self._laid(batch, self.change)
        changed = self._laid(piece(batch, 0, count), self.change)
        return replace(batch, inputs=torch.cat([changed.inputs, batch.inputs[count:]]))

    def _count(self, batch: Batch) -> int:
        return max(1, round(self.share * len(batch)))

    def _laid(self, batch: Batch, change: Tensor) -> Batch:
        scale = 1.0 if self._bounds is None else self._bounds[1] - self._bounds[0]
        return replace(batch, inputs=batch.inputs + scale * change)

    def add_implicit(
        self, model: nn.Module, batch: Batch, *, terms: int, step: float, penalty: float
    ) -> None:
        """Add to the gradients that are there what flows through the change, by the changed samples.

        The outer loss reaches the change through these alone, so that the slope of theirs, times their
        share, is its own.
        """
        weights = [one for one in model.parameters() if one.requires_grad and one.grad is not None]
        change = self.change.detach().requires_grad_(True)
        changed = piece(batch, 0, self._count(batch))

        def together(value: Tensor) -> Tensor:
            return self.run.sum(value) / self.run.world

        with held_still(model):
            loss = self.run.loss(model, self._laid(changed, change))
            (slope,) = torch.autograd.grad(loss, change, retain_graph=True)
            slope = together(slope) * len(changed) / len(batch)
            inner = penalty * change.square().sum() - loss
            found = implicit_gradient(
                inner, change, slope, weights, step=step, terms=terms, together=together
            )
        for weight, further in zip(weights, found, strict=True):
            if weight.grad is not None:
                weight.grad += further


def implicit_gradient(
    inner: Tensor,
    change: Tensor,
    slope: Tensor,
    weights: Sequence[Tensor],
    *,
    step: float,
    terms: int,
    together: Callable[[Tensor], Tensor] = lambda value: value,
) -> list[Tensor]:
    """(d_theta Phi)^T of the sum over k < terms of ((d_delta Phi)^T)^k slope.

    Phi = delta - step d_delta(inner) is one step down the inner loss, so d_delta Phi = I - step H and
    d_theta Phi = -step d_theta d_delta(inner). With many terms the sum is (I - d_delta Phi)^-T slope,
    where Phi contracts. Zeng et al. 2022, equation 6; the series as in Grazzi et al. 2020.

    inner: loss of the inner problem, of `change` and `weights`. slope: of the outer loss in the change.
    together: the mean over processes.
    """
    (down,) = torch.autograd.grad(inner, change, create_graph=True)
    term = total = slope
    for _ in range(terms - 1):
        (bent,) = torch.autograd.grad(down, change, term, retain_graph=True)
        term = term - step * together(bent)
        total = total + term
    mixed = torch.autograd.grad(down, list(weights), total, materialize_grads=True)
    return [-step * together(one) for one in mixed]
