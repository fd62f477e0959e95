"""Error-maximising noise: inputs on which a frozen model is as wrong as it can be about a class.

Tarun et al. (TNNLS 2023), equation 2: for a class c, the noise N minimises
-loss(f(N), c) + weight * size(N).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.samples import row_ids
from expunge.data.view import Source
from expunge.errors import ConfigError
from expunge.loop import Loss, lay_out
from expunge.precision import resolve_precision
from expunge.progress import Silent
from expunge.recipe import Recipe
from expunge.run import Run
from expunge.seeds import torch_generator
from expunge.training import fit

CHUNK = {"cpu": 128}
"""Images a pass by kind of device: a processor is fastest while activations stay in its caches."""
LARGE_CHUNK = 4096

Size = Literal["squared", "l2"]


@dataclass(frozen=True)
class Noise:
    """Learned noise on the device, class after class.

    images: (classes, batch, *shape), model inputs. classes: (classes,), their indices.
    losses: (steps, classes), the mean loss of each class's images before each step.
    """

    images: Tensor
    classes: Tensor
    losses: Tensor

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images of each class, (n, *shape), and their labels (n,)."""
        images = self.images[:, :count]
        return images.flatten(0, 1), self.classes.repeat_interleave(images.shape[1])


class Images(nn.Module):
    """Images as the weights of a model without inputs, so that `fit` learns them."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.images = nn.Parameter(start)

    def forward(self) -> Tensor:
        """(n, *shape), the images."""
        return self.images


def learn_noise(
    model: nn.Module, classes: Tensor, shape: tuple[int, ...], run: Run, *, recipe: Recipe,
    batch: int, weight: float, size: Size, chunk: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Noise:  # fmt: skip
    """Learn `batch` images for each of the `classes` (k,), all classes in one loop.

    The model is frozen and in evaluation mode, so no image sees another: steps on chunks of them
    are the same as steps on all. It is a copy, so `model` keeps its modes and buffers.

    recipe: its optimiser, rate and precision; each of its epochs is one step.
    weight: lambda of the equation; a class's objective is the mean over its images.
    """
    frozen = run.frozen_copy(model)
    lay_out(frozen, torch.channels_last)
    recipe = recipe.but(precision=resolve_precision(recipe.precision, model, run.device))
    classes = classes.to(run.device)
    labels = classes.repeat_interleave(batch)
    generator = torch_generator(*run.names, "noise")
    start = torch.randn((len(labels), *shape), generator=generator, dtype=dtype)
    losses = torch.zeros((recipe.epochs, len(classes)), device=run.device)
    chunk = chunk or CHUNK.get(run.device.type, LARGE_CHUNK)
    learner = replace(run, progress=Silent(), mask=None)  # the mask is of weights, not of images
    pieces = []
    with run.progress.work(run.label, recipe.epochs * -(-len(labels) // chunk)) as bar:
        for rows in torch.split(torch.arange(len(labels), device=run.device), chunk):
            target = Batch(row_ids(len(rows)), rows, labels[rows], None)
            images = Images(start[rows.cpu()])
            fit(
                images, lambda _, target=target: [target],  # type: ignore[misc]
                _objective(frozen, run, weight, size, batch, losses), recipe=recipe, run=learner,
                after_step=lambda *_: bar.advance(),
            )  # fmt: skip
            pieces.append(images.images.detach())
    return Noise(torch.cat(pieces).reshape(len(classes), batch, *shape), classes, losses)


def _objective(
    frozen: nn.Module, run: Run, weight: float, size: Size, batch: int, losses: Tensor
) -> Loss:
    """The objective of some rows of the noise, which also adds up each class's mean loss."""

    def objective(images: nn.Module, target: Batch, progress: float) -> Tensor:
        noise = images()
        found = run.task.losses(frozen, Batch(target.ids, noise, target.labels, None))
        step = losses[round(progress * len(losses))]
        step.index_add_(0, target.inputs // batch, found.detach().to(step) / batch)
        return (weight * sizes(noise, size) - found).sum() / batch

    return objective


def sizes(images: Tensor, size: Size) -> Tensor:
    """Per image, the sum of squares, or its root with "l2": (n, ...) -> (n,)."""
    squares = images.flatten(1).square().sum(dim=1)
    return squares if size == "squared" else squares.sqrt()


def input_shape(source: Source) -> tuple[int, ...]:
    """Shape of one input, read off one sample. Raises ConfigError for what noise cannot stand for."""
    inputs = next(iter(source.batches(1, shuffle=False, augment=False))).inputs
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise ConfigError(
            "noise is learned in place of inputs, and these are no numbers that could be changed a "
            "little (token ids, or several tensors); use neggrad_plus or finetune"
        )
    return tuple(inputs.shape[1:])
