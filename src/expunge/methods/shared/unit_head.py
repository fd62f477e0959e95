"""A last layer on features of norm 1, and what the layers below hand to it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.task import logits_of_task
from expunge.data.view import Stream
from expunge.errors import DivergenceError, ModelError
from expunge.training.loop import evaluating
from expunge.training.run import Run

SMALLEST = 1e-12
"""Features of a smaller norm are divided by this."""


class UnitHead(nn.Linear):
    """Scores (batch, classes) of features h (batch, d): (h / |h|, 1) / sqrt 2 times weight and bias."""

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        unit = functional.normalize(inputs, dim=-1, eps=SMALLEST)
        return functional.linear(unit, self.weight, self.bias) / math.sqrt(2)

    def set(self, weights: Tensor) -> None:
        """Take weights (classes, d + 1), the bias last."""
        with torch.no_grad():
            self.weight.copy_(weights[:, :-1])
            self.bias.copy_(weights[:, -1])


def with_unit_head(model: nn.Module) -> nn.Module:
    """The model with its last linear layer made a `UnitHead` of its weights and a bias, in place.

    Raises ModelError for a model without such a layer.
    """
    found = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    name, old = found[-1] if found else ("", None)
    if old is None or not name:
        raise ModelError(
            "the model has no linear layer at its end that a certified head could take the place of; "
            "choose a model that ends in nn.Linear"
        )
    parent, _, own = name.rpartition(".")
    made = nn.utils.skip_init(UnitHead, old.in_features, old.out_features)  # type: ignore[no-untyped-call]
    head: UnitHead = made.to(old.weight)
    bias = old.weight.new_zeros(old.out_features) if old.bias is None else old.bias
    head.set(torch.cat([old.weight, bias[:, None]], dim=1))  # nothing is drawn
    setattr(model.get_submodule(parent), own, head.train(old.training))
    return model


def head_of(model: nn.Module, run: Run) -> UnitHead:
    """The head that training put there. Raises ModelError for a model without."""
    found = [module for module in model.modules() if isinstance(module, UnitHead)]
    if not found:
        raise ModelError(f"{run.label} is for models whose head it trained, and this is another")
    return found[-1]


def head_inputs(model: nn.Module, batches: Stream, run: Run) -> tuple[Tensor, Tensor]:
    """What the head reads, (n, d + 1) float64 of norm 1 with the constant last, and labels (n,).

    On the processor, of this process's share. Raises ModelError where the head does not give the logits,
    DivergenceError where these are not finite.
    """
    head = head_of(model, run)
    seen: list[tuple[Tensor, Tensor]] = []
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    try:
        with evaluating(model), torch.no_grad():
            for batch in batches:
                seen.clear()
                logits = logits_of_task(run.task.observe(model, batch))
                if not torch.isfinite(logits).all():
                    raise DivergenceError(
                        f"{run.label} diverged: the model's outputs are not finite, so no head can be "
                        "fitted to what is below it; lower lr, or look for inputs that are not finite"
                    )
                if len(seen) != 1 or not torch.equal(seen[0][1].to(logits), logits):
                    raise ModelError(
                        f"{run.label} trains the last linear layer, and that of this model does not "
                        "give its logits; choose a model that ends in nn.Linear"
                    )
                if batch.weight and batch.labels is not None:
                    rows.append(seen[0][0].cpu().double())
                    labels.append(batch.labels.cpu())
    finally:
        hook.remove()
    wide = torch.zeros(0, head.in_features, dtype=torch.float64)
    unit = functional.normalize(torch.cat([wide, *rows]), dim=1, eps=SMALLEST)
    joined = torch.cat([unit, torch.ones(len(unit), 1, dtype=torch.float64)], dim=1) / math.sqrt(2)
    return joined, torch.cat([torch.zeros(0, dtype=torch.int64), *labels])
