"""How much each source class harms a target task, by two scorers.

cosine: minus the mean, over the target's classes, of the cosine between the source class's mean
penultimate feature and the target class's. A source class that looks like nothing in the target harms.

gradient: minus the inner product, in the last block, of the mean gradient of the source loss on the
class and the gradient of the target loss, the model adapted to the target by a linear probe. A step that
serves the class would raise the target's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from expunge.audits.features import FEATURE_BATCH, features
from expunge.data.classes import rows_by_class
from expunge.data.load import Data
from expunge.data.samples import Samples
from expunge.data.task import read_logits
from expunge.data.transform import Transform
from expunge.errors import ConfigError
from expunge.names.tables import pick
from expunge.training.loop import evaluating
from expunge.training.run import Run
from expunge.transfer.adapt import probe_head
from expunge.transfer.head import last_block

Scorer = Callable[[nn.Module, Samples, Data, Data, Run], npt.NDArray[np.float64]]


def class_harm(
    model: nn.Module,
    samples: Samples,
    source: Data,
    target: Data,
    run: Run,
    *,
    scorer: str = "cosine",
) -> npt.NDArray[np.float64]:
    """(classes,), larger = more harmful; nan for a source class without samples.

    samples: of the source, what the model learned from. target: as `as_target` makes it; its training
    samples are read, its test set is not. The model is not changed.
    """
    return pick("scorer", SCORERS, scorer)(model, samples, source, target, run)


def most_harmful(harm: Sequence[float] | npt.NDArray[np.float64], count: int) -> list[int]:
    """Indices of the `count` most harmful classes, in the order of classes.

    Raises ConfigError unless some stay.
    """
    known = [row for row, value in enumerate(harm) if not np.isnan(value)]
    if not 0 < count < len(known):
        raise ConfigError(
            f"{count} harmful classes of {len(known)} cannot be forgotten; some must stay"
        )
    worst = sorted(known, key=lambda row: (-float(harm[row]), row))
    return sorted(worst[:count])


def _cosine(
    model: nn.Module, samples: Samples, source: Data, target: Data, run: Run
) -> npt.NDArray[np.float64]:
    ours = _means(model, samples, len(source.classes), Transform(source.normalisation), run)
    theirs = _means(model, target.train, len(target.classes), Transform(target.normalisation), run)
    theirs = theirs[~torch.isnan(theirs).any(dim=1)]
    # the mean of all cosines, without a table of all pairs of classes
    harm: npt.NDArray[np.float64] = (
        -functional.normalize(ours, dim=1) @ functional.normalize(theirs, dim=1).mean(dim=0)
    ).numpy()
    return harm


def _means(
    model: nn.Module, samples: Samples, classes: int, transform: Transform, run: Run
) -> Tensor:
    """(classes, features), float64: mean penultimate feature of each class; nan of an empty one."""
    found = features(model, samples, transform, run).double()
    labels = torch.from_numpy(samples.labels)
    sums = torch.zeros(classes, found.shape[1], dtype=torch.float64).index_add_(0, labels, found)
    return sums / torch.bincount(labels, minlength=classes)[:, None]


def _gradient(
    model: nn.Module, samples: Samples, source: Data, target: Data, run: Run
) -> npt.NDArray[np.float64]:
    adapted = probe_head(model, target, run)
    rows = np.arange(len(target.train))
    theirs = _mean_gradient(adapted, target.train, rows, Transform(target.normalisation), run)
    harm = np.full(len(source.classes), np.nan)
    transform = Transform(source.normalisation)
    for label, rows in rows_by_class(samples.labels).items():
        ours = _mean_gradient(model, samples, rows, transform, run)
        harm[label] = -float(ours @ theirs)
    return harm


def _mean_gradient(
    model: nn.Module, samples: Samples, rows: npt.NDArray[np.int64], transform: Transform, run: Run
) -> Tensor:
    """Gradient of the mean loss with respect to the last block, one vector, float64 on the CPU."""
    device = next((p.device for p in model.parameters()), run.device)
    model.to(run.device)
    block = last_block(model)
    wanted = [parameter.requires_grad for parameter in block]
    total: list[Tensor] = [torch.zeros_like(p, dtype=torch.float64) for p in block]
    batches = [rows[start : start + FEATURE_BATCH] for start in range(0, len(rows), FEATURE_BATCH)]
    try:
        for parameter in block:
            parameter.requires_grad_(True)
        with evaluating(model):
            for index, raw in zip(batches, samples.store.stream(batches, run.device), strict=True):
                labels = torch.from_numpy(samples.labels[index]).to(run.device)
                outputs = read_logits(model(transform(raw)))
                loss = functional.cross_entropy(outputs, labels, reduction="sum")
                for part, gradient in zip(
                    total, torch.autograd.grad(loss, block, allow_unused=True), strict=True
                ):
                    if gradient is not None:
                        part += gradient.double()
    finally:
        for parameter, before in zip(block, wanted, strict=True):
            parameter.requires_grad_(before)
        model.to(device)
    return torch.cat([part.flatten().cpu() for part in total]) / len(rows)


SCORERS: Mapping[str, Scorer] = MappingProxyType({"cosine": _cosine, "gradient": _gradient})
