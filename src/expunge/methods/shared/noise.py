"""Error-maximising noise: inputs on which a frozen model is as wrong as it can be about a class.

Tarun et al. (TNNLS 2023), equation 2: for a class c, the noise N minimises
-loss(f(N), c) + weight * size(N).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.samples import row_ids
from expunge.data.view import Source
from expunge.errors import ConfigError
from expunge.models.layout import lay_out
from expunge.names.seeds import torch_generator
from expunge.progress import Silent
from expunge.training.fit import fit
from expunge.training.loop import Loss
from expunge.training.precision import resolve_precision
from expunge.training.recipe import Recipe
from expunge.training.run import Run

CHUNK = {"cpu": 256}
"""Images a pass by kind of device: a processor is fastest while activations stay in its caches."""
LARGE_CHUNK = 512

SHOWN = 8
"""Noise images per class that are kept for a picture."""

NoiseSize = Literal["squared", "l2"]


@dataclass(frozen=True)
class Objective:
    """What noise minimises, a mean over images: `weight` is lambda, `size` what it multiplies.

    batch: images of the mean. Of these, fewer may be learned, for none depends on another.
    """

    weight: float
    size: NoiseSize
    batch: int


@dataclass(frozen=True)
class Noise:
    """Learned noise on the device, class after class.

    images: (classes, count, *shape), model inputs. classes: (classes,), their indices.
    losses: (steps, classes), the mean loss of each class's images before each step.
    """

    images: Tensor
    classes: Tensor
    losses: Tensor

    @property
    def labels(self) -> Tensor:
        """The class of each image, (classes * count,), in the order of `images.flatten(0, 1)`."""
        return self.classes.repeat_interleave(self.images.shape[1])

    def record(self, run: Run, names: Sequence[str]) -> None:
        """Tell the record how it was learned, and keep some of it for a picture.

        names: of all classes.
        """
        run.log["noise_loss"] = {  # of the random start, and before the last step
            names[int(c)]: [float(self.losses[0, row]), float(self.losses[-1, row])]
            for row, c in enumerate(self.classes)
        }
        run.artifacts["noise"] = self.images[:, :SHOWN].cpu()
        run.artifacts["noise_classes"] = self.classes.cpu()


class Images(nn.Module):
    """Images as the weights of a model, so that `fit` learns them."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(start)

    def forward(self, rows: Tensor) -> Tensor:
        """(n, *shape), the images, whatever `rows` are: data parallelism wants some input."""
        return self.images


def learn_noise(
    model: nn.Module,
    classes: Tensor,
    shape: tuple[int, ...],
    run: Run,
    *,
    count: int,
    steps: int,
    recipe: Recipe,
    objective: Objective,
    chunk: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Noise:
    """Learn `count` images for each of the `classes` (k,), all classes in one loop.

    The model is frozen and in evaluation mode, so no image sees another: steps on chunks of them
    are the same as steps on all. It is a copy, so `model` keeps its modes and buffers.

    recipe: optimiser, rate and precision, of one epoch, which has `steps` steps.
    """
    _warn_of_mixing(model, run)
    frozen = run.teacher(model)
    lay_out(frozen, torch.channels_last)
    recipe = recipe.but(precision=resolve_precision(recipe.precision, model, run.device))
    classes = classes.to(run.device)
    labels = classes.repeat_interleave(count)
    generator = torch_generator(*run.names, "noise")
    start = torch.randn((len(labels), *shape), generator=generator, dtype=dtype)
    losses = torch.zeros((steps, len(classes)), device=run.device)
    chunk = chunk or CHUNK.get(run.device.type, LARGE_CHUNK)
    learner = replace(run, progress=Silent(), mask=None)  # the mask is of weights, not of images
    pieces = []
    with run.progress.work(f"{run.label} (noise)", steps * -(-len(labels) // chunk)) as bar:
        for rows in torch.split(torch.arange(len(labels), device=run.device), chunk):
            # the rows stand for inputs: what is learned is the images that they name
            target = [Batch(row_ids(len(rows)), rows, labels[rows], None)] * steps
            images = Images(start[rows.cpu()])
            fit(
                images,
                lambda _, target=target: target,  # type: ignore[misc]
                _loss(frozen, run, objective, count, losses),
                recipe=recipe,
                run=learner,
                name="noise",
                rate="noise_lr",
                after_step=lambda *_: bar.advance(),
            )
            pieces.append(images.images.detach())
    return Noise(torch.cat(pieces).reshape(len(classes), count, *shape), classes, losses)


def _loss(frozen: nn.Module, run: Run, objective: Objective, count: int, losses: Tensor) -> Loss:
    """The objective of some rows of the noise, which also adds up each class's mean loss."""

    def loss(images: nn.Module, target: Batch, progress: float) -> Tensor:
        noise = images(target.inputs)
        found = run.task.losses(frozen, Batch(target.ids, noise, target.labels, None))
        step = losses[round(progress * len(losses))]
        step.index_add_(0, target.inputs // count, found.detach().to(step) / count)
        return (objective.weight * sizes(noise, objective.size) - found).sum() / objective.batch

    return loss


def sizes(images: Tensor, size: NoiseSize) -> Tensor:
    """Per image, the sum of squares, or its root with "l2": (n, ...) -> (n,)."""
    squares = images.flatten(1).square().sum(dim=1)
    return squares if size == "squared" else squares.sqrt()


def input_shape(source: Source) -> tuple[int, ...]:
    """Shape of one input, read off one sample. Raises ConfigError for what noise cannot stand for."""
    (batch,) = source.read([np.zeros(1, dtype=np.int64)], 0, False)
    if not isinstance(batch.inputs, Tensor) or not batch.inputs.is_floating_point():
        raise ConfigError(
            "noise is learned in place of inputs, and these are no numbers that could be changed a "
            "little (token ids, or several tensors); use neggrad_plus or finetune"
        )
    return tuple(batch.inputs.shape[1:])


def _warn_of_mixing(model: nn.Module, run: Run) -> None:
    """BatchNorm without running statistics lets images see each other even in evaluation mode."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    if any(norm.running_mean is None for norm in norms):
        run.log.setdefault("warnings", []).append(
            f"{run.label} (noise): the model's BatchNorm keeps no running statistics, so the images of "
            "a pass influence each other, across classes too; this noise is not the paper's"
        )
