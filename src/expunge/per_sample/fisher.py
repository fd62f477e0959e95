"""The diagonal of the Fisher information from per-sample gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.batch import Batch
from expunge.data.task import class_logits
from expunge.errors import ConfigError
from expunge.models.mask import Mask
from expunge.per_sample.chunks import (
    channels_last,
    checked_mask,
    counted,
    held_still,
    memory_for,
    pieces,
    size_for,
    wanted,
)
from expunge.per_sample.half import half_weights
from expunge.per_sample.layers import add_squares, zeros_like
from expunge.per_sample.passes import recording
from expunge.per_sample.plain import Directions, Output, squares_by_loop, squares_by_vmap
from expunge.per_sample.probe import TRIED, Choice, Engine, choose
from expunge.training.run import Run

Labels = Literal["all", "sampled", "true"]
LEAST = 4
"""Samples that a piece should hold before all directions are kept at once."""


def fisher_diagonal(
    model: nn.Module,
    batches: Iterable[Batch],
    run: Run,
    *,
    labels: Labels = "all",
    mask: Mask | None = None,
    engine: Engine = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    memory_bytes: int | None = None,
) -> dict[str, Tensor]:
    """Mean over samples of squared per-sample gradients; name -> tensor like the parameter.

    labels: whose loss is differentiated. "all" is the expectation over the model's own labels,
        F = mean_x sum_y p(y|x) (d loss_y)², exactly; "sampled" draws one label of p(y|x) for each
        sample (unbiased, seeded by the run); "true" takes the batch's labels and the run's task,
        the empirical Fisher. The first two need class logits.
    mask: weights that it cuts get 0.
    engine: "auto" is the fastest that is right for the model; "hooks", "vmap" or "loop" ask for one.
    precision: "bfloat16" lets the hooks' products and backward passes multiply in it; forward
        passes and sums stay float32. "auto" does so for models with convolutions on processors
        that have it, at a relative L1 error of 0.2 percent. The plain engines never do.
    memory_bytes: aimed at, beside the model and the result; batches are cut to it. None: 1 GiB, or
        an eighth of a GPU's memory if that is more.

    Squares are taken sample by sample, never of a batch's mean gradient, so the result does not
    depend on the batch size. Samples of all processes count.
    Raises ConfigError without samples, or for an engine that cannot follow the model.
    Source: Golatkar, Achille and Soatto, "Eternal Sunshine of the Spotless Net", CVPR 2020,
    section 5; Kunstner, Balles and Hennig, arXiv 1905.12558, for the three kinds of label.
    """
    if labels not in ("all", "sampled", "true"):
        raise ConfigError(f"labels = {labels!r}; choose all, sampled or true")
    with held_still(model):
        kept = checked_mask(model, mask)
        memory = memory_for(run.device, memory_bytes)
        squares = Squares(model, run, labels, engine, precision, memory)
        for batch in counted(batches):
            squares.add(batch)
        mean = squares.mean()
    return {
        name: value.masked_fill(~kept[name], 0) if name in kept else value
        for name, value in mean.items()
    }


class Squares:
    """Sums of squared per-sample gradients, one batch at a time."""

    def __init__(
        self,
        model: nn.Module,
        run: Run,
        labels: Labels,
        engine: Engine,
        precision: str,
        memory_bytes: int,
    ) -> None:
        self.model, self.run, self.engine, self.memory_bytes = model, run, engine, memory_bytes
        self.output: Output = run.task.losses if labels == "true" else class_logits(run.task)
        self.directions = {"all": _every, "sampled": _drawn(run), "true": _own}[labels]
        self.every = labels == "all"
        self.parameters = wanted(model)
        self.sums = {name: zeros_like(p) for name, p in self.parameters.items()}
        self.count = 0
        self.half = half_weights(precision, model, run.device)
        self.choice = Choice("none")

    def add(self, batch: Batch) -> None:
        """Add the squares of a batch."""
        if self.choice.tried < min(TRIED, len(batch)):
            self.choice = choose(self.model, self.parameters, self.output, batch, self.engine)
            self.choice.warn(self.run)
        self.count += len(batch)
        if self.choice.engine == "hooks":
            self._by_hooks(batch)
            return
        by = squares_by_vmap if self.choice.engine == "vmap" else squares_by_loop
        for part in pieces(batch, size_for(self.memory_bytes, self.choice.fixed_bytes)):
            found = by(self.model, self.parameters, self.output, self.directions, part)
            for name, value in found.items():
                self.sums[name].add_(value)

    def _by_hooks(self, batch: Batch) -> None:
        directions = self.choice.outputs - 1 if self.every else 1
        size, at_once = samples_and_directions(self.memory_bytes, self.choice, directions)
        for part in pieces(batch, size):
            with recording(self.model, self.choice.layers, self.half) as seen:
                outputs = self.output(self.model, channels_last(part))
            seen.check(len(part))
            along = self.directions(outputs.detach(), part).unbind(1)
            for start in range(0, len(along), at_once):
                some = along[start : start + at_once]
                keep = start + at_once < len(along)
                deltas = seen.backward(outputs, some, keep=keep)
                for layer in list(deltas):
                    add_squares(layer, seen.seen[layer].inputs, deltas.pop(layer), self.sums)

    def mean(self) -> dict[str, Tensor]:
        """Mean over the samples of all processes; ConfigError if there were none."""
        count = torch.tensor(self.count, dtype=torch.float64, device=self.run.device)
        total = float(self.run.sum(count))
        if not total:
            raise ConfigError(
                f"{self.run.label}: there are no samples to take a Fisher diagonal of; check the part"
            )
        return {
            name: (self.run.sum(value.contiguous()) / total).to(self.parameters[name].dtype)
            for name, value in self.sums.items()
        }


def samples_and_directions(memory_bytes: int, choice: Choice, directions: int) -> tuple[int, int]:
    """(samples in a piece, directions kept at once) within the memory, at least 1 of each."""
    fixed, each = choice.fixed_bytes, max(1, choice.direction_bytes)
    at_once = max(1, min(directions, (memory_bytes // LEAST - fixed) // each))
    return size_for(memory_bytes, fixed + at_once * each), at_once


# ---- directions: (outputs, batch) -> (batch, directions, *outputs)


def _every(logits: Tensor, _: Batch) -> Tensor:
    return label_factor(logits)


def _own(losses: Tensor, _: Batch) -> Tensor:
    return torch.ones_like(losses).unsqueeze(1)


def _drawn(run: Run) -> Directions:
    """Directions of one label per sample, drawn from p(y|x) in the order of the samples."""
    names = ("fisher",) if run.rank == 0 else ("fisher", run.rank)
    generator = torch.Generator().manual_seed(run.seed_for(*names))

    def directions(logits: Tensor, _: Batch) -> Tensor:
        # drawn on the CPU, so that a GPU draws the same labels
        uniform = torch.rand(len(logits), 1, dtype=torch.float64, generator=generator)
        return sampled_direction(logits, uniform.to(logits.device)).unsqueeze(1)

    return directions


def sampled_direction(logits: Tensor, uniform: Tensor) -> Tensor:
    """Gradient of the cross-entropy at a label of p by the logits: p - e_label.

    logits: (batch, classes). uniform: (batch, 1) in [0, 1); the label is where the distribution
    function of p passes it.
    """
    p = logits.double().softmax(1)
    label = (p.cumsum(1) <= uniform).sum(1).clamp(max=p.shape[1] - 1)
    return (p - functional.one_hot(label, p.shape[1])).to(logits.dtype)


def label_factor(logits: Tensor) -> Tensor:
    """Rows u_k with sum_k u_k u_kᵀ = diag(p) - p pᵀ: (..., classes) -> (..., classes - 1, classes).

    The matrix is the expectation over labels of (p - e_y)(p - e_y)ᵀ, so these directions replace
    one for each label, at one backward pass fewer and without error. It is the Cholesky factor in
    closed form: Tanabe and Sagae, "An exact Cholesky decomposition and the generalized inverse of
    the variance-covariance matrix of the multinomial distribution", J. R. Stat. Soc. B 54, 1992.
    """
    p = logits.double().softmax(-1)
    # what remains from k on: summed from the end, where 1 - cumsum would cancel
    remains = p.flip(-1).cumsum(-1).flip(-1)
    first, here, after = p[..., :-1], remains[..., :-1], remains[..., 1:]
    share = torch.where(here > 0, first / here, 0.0).sqrt()
    scale = torch.where(after > 0, share * after.rsqrt(), 0.0)
    behind = -(scale.unsqueeze(-1) * p.unsqueeze(-2)).triu(1)
    diagonal = (share * after.sqrt()).unsqueeze(-1)
    eye = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)[:-1]
    return (behind + diagonal * eye).to(logits.dtype)
