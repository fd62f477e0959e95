"""Samples moved to where a model first takes them for another class, under that class's label."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.derived import DerivedSource
from expunge.data.view import PartSource
from expunge.errors import ConfigError
from expunge.methods.shared.attack import Attack, Bounds, Logits, in_bounds, looked_at
from expunge.training.run import Run


def adversaries_of(
    model: nn.Module, source: PartSource, attack: Attack, run: Run, size: int
) -> DerivedSource:
    """The samples of a part that the model as it is now can be fooled on, as its adversaries.

    Their moves are held in memory. The log has how many there are and how far away; samples that no
    radius fools are left out, of which a warning tells. Raises ConfigError where there is none.
    """
    bounds = source.bounds

    def look(logits: Logits, inputs: Tensor, labels: Tensor, bounds: Bounds) -> tuple[Tensor, ...]:
        able = attack.among(logits, labels)
        move = attack(logits, inputs, labels, bounds) - inputs
        with torch.no_grad():
            return move, able(in_bounds(inputs + move, bounds)).argmax(1)

    moves, labels = looked_at(model, source, bounds, run, size, look)
    fooled = labels.values != source.labels.cpu()
    _tell(moves.values[fooled], len(source), attack, run)

    def moved(batch: Batch) -> Batch:
        inputs = in_bounds(batch.inputs + moves.of(batch), bounds)
        return replace(batch, inputs=inputs).relabelled(labels.of(batch))

    return DerivedSource(replace(source, rows=source.rows[fooled.numpy()]), moved)


def _tell(moves: Tensor, asked: int, attack: Attack, run: Run) -> None:
    """Log how many samples have an adversary, and how far away; ConfigError where none has."""
    far, rounds = attack.radii[-1], attack.rounds
    if not len(moves):
        raise ConfigError(
            f"{run.label}: none of {asked} samples is taken for another class within a radius of "
            f"{far:g}, so there is nothing to learn; raise rounds (now {rounds})"
        )
    left = asked - len(moves)
    mean = float(moves.flatten(1).norm(dim=1).mean())
    run.log["adversaries"] = {"made": len(moves), "left_out": left, "mean_length": mean}
    if left:
        run.log.setdefault("warnings", []).append(
            f"{run.label}: {left} of {asked} samples have no adversary within a radius of {far:g}, "
            f"and were left out of those; raise rounds (now {rounds}) to reach them"
        )
