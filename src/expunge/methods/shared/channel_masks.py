"""A mask for every channel of a model, and the loss that ANP learns it by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.methods.shared.channels import Channels, by_rows
from expunge.per_sample.chunks import held_still
from expunge.per_sample.plain import as_function
from expunge.training.loop import NORMS
from expunge.training.run import Run

ChannelChange = dict[str, Tensor]
"""Parameter name -> what is added to the mask of each channel, or to 1 of a bias."""


class ChannelMasks(nn.Module):
    """Masks in [0, 1] of a model's channels, 1 at first; called, the loss of a batch to learn them by.

    The model is no part of it: only masks are trained. alpha, epsilon, ascent_steps: as `Anp` has them.
    """

    def __init__(
        self,
        model: nn.Module,
        channels: Sequence[Channels],
        run: Run,
        *,
        alpha: float,
        epsilon: float,
        ascent_steps: int,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.weights = {name: p.detach() for name, p in model.named_parameters()}
        self.masks = nn.ParameterList(
            torch.ones(one.count, dtype=self.weights[one.weight].dtype, device=run.device)
            for one in self.channels
        )
        self.run, self.alpha, self.epsilon, self.ascent_steps = run, alpha, epsilon, ascent_steps
        self.losses = as_function(model, run.task.losses)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch: alpha that of the masked model, 1 - alpha that of the worst change of it,
        as this process's share.
        """
        worst = self.worst(batch)
        return self.alpha * self.loss(batch, {}) + (1 - self.alpha) * self.loss(batch, worst)

    def loss(self, batch: Batch, change: ChannelChange) -> Tensor:
        """Mean loss of the masked model under a change, as this process's share."""
        named = dict(self.weights)  # none of the model's own, so that no gradient is taken of them
        for one, mask in zip(self.channels, self.masks, strict=True):
            weight, factor = self.weights[one.weight], mask
            if one.weight in change:
                factor = mask + change[one.weight]
            named[one.weight] = weight * by_rows(factor, weight)
            if one.bias is not None and one.bias in change:
                named[one.bias] = self.weights[one.bias] * (1 + change[one.bias])
        return self.run.mean(self.losses(named, batch), batch)

    def worst(self, batch: Batch) -> ChannelChange:
        """The change within epsilon of the masks as they are that steps of the sign lead to."""
        names = [
            name for one in self.channels for name in (one.weight, one.bias) if name is not None
        ]
        change = {
            name: torch.zeros(len(self.weights[name])).to(self.weights[name]) for name in names
        }
        for _ in range(self.ascent_steps):
            for one in change.values():
                one.requires_grad_(True)
            slopes = torch.autograd.grad(self.loss(batch, change), list(change.values()))
            change = {
                name: (
                    value.detach() + self.epsilon / self.ascent_steps * self.run.sum(slope).sign()
                )
                for (name, value), slope in zip(change.items(), slopes, strict=True)
            }
        return change

    @contextmanager
    def by_the_batch(self, model: nn.Module) -> Iterator[None]:
        """Evaluation mode, but normalisation goes by the batch; its statistics are put back."""
        kept = {name: value.clone() for name, value in model.named_buffers()}
        try:
            with held_still(model):
                for layer in model.modules():
                    layer.training = isinstance(layer, NORMS)
                yield
        finally:
            with torch.no_grad():
                for name, value in model.named_buffers():
                    value.copy_(kept[name])

    def cut(self) -> None:
        """Bring the masks back into [0, 1], in place."""
        with torch.no_grad():
            for mask in self.masks:
                mask.clamp_(0.0, 1.0)

    def below(self, threshold: float) -> dict[str, Tensor]:
        """Parameter name -> (count,) bool: channels whose mask is below."""
        return {
            one.weight: mask.detach() < threshold
            for one, mask in zip(self.channels, self.masks, strict=True)
        }

    @property
    def count(self) -> int:
        """How many channels there are."""
        return sum(one.count for one in self.channels)

    @property
    def lowest(self) -> float:
        """The smallest of all masks."""
        return min(float(mask.detach().min()) for mask in self.masks)
