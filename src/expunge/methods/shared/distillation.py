"""Learning from a teacher's outputs: what it says of a batch, and how far a student is from that."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.batch import Batch
from expunge.data.task import Task, class_logits
from expunge.errors import DataError


def taught(teacher: nn.Module, batch: Batch, task: Task) -> Tensor:
    """The teacher's class logits (batch, classes), without gradients."""
    with torch.no_grad():
        return class_logits(task)(teacher, batch)


def given_labels(batch: Batch) -> Tensor:
    """The labels (batch,). Raises DataError where a batch has none."""
    if batch.labels is None:
        raise DataError("this method needs labels, and this batch has none")
    return batch.labels


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) of each sample (batch,), in nats, 0 and up.

    student, teacher: logits (batch, classes); a class of which the teacher says -inf has no share.
    Summed over the classes, never averaged, and in float32 or wider, whatever the logits are in.
    """
    own = functional.log_softmax(_wide(student) / temperature, dim=1)
    wanted = functional.softmax(_wide(teacher) / temperature, dim=1)
    return functional.kl_div(own, wanted, reduction="none").sum(dim=1)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
