"""Several models as one, whose logits are the log of their mean probability."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Members that predict together.

    The output (batch, classes) is log probabilities, so it serves as logits wherever one model's do:
    its softmax is the members' mean softmax. With `vote` it is log((votes + mean) / (members + 1)): the
    class that most members name, and among those that as many name the one of the larger mean.

    members: models of one kind. read: the logits (batch, classes) in what a member returns. vote: count
    what each member names. `taught` (members,) bool says who has learned anything: the others are not
    asked.
    """

    taught: Tensor

    def __init__(
        self, members: Sequence[nn.Module], read: Callable[[Any], Tensor], *, vote: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.read, self.vote = read, vote
        self.register_buffer("taught", torch.ones(len(members), dtype=torch.bool))

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Log probabilities (batch, classes); the arguments are each member's."""
        logits = torch.stack([self.read(member(*inputs, **named)) for member in self.members])
        logits = logits if logits.dtype == torch.float64 else logits.float()
        asked = self.taught[:, None, None]
        shares = logits.log_softmax(2).masked_fill(~asked, -math.inf)
        count = self.taught.sum().to(shares.dtype)
        mean = shares.logsumexp(0) - count.log()
        if not self.vote:
            return mean
        named_by = torch.zeros_like(shares).scatter_(2, logits.argmax(2, keepdim=True), 1.0)
        votes = (named_by * asked).sum(0)
        return torch.logaddexp(votes.log(), mean) - (count + 1).log()
