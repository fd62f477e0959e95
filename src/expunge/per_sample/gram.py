"""The Gram matrix of per-sample gradients, layer by layer and never as n rows of all parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.errors import ConfigError
from expunge.models.mask import Mask
from expunge.per_sample.chunks import (
    PIECE,
    channels_last,
    checked_mask,
    counted,
    held_still,
    memory_for,
    pieces,
    size_for,
    wanted,
)
from expunge.per_sample.half import HalfWeights, half_weights
from expunge.per_sample.kernels import add_pairs, pairs_are_cheaper, products_along
from expunge.per_sample.layers import (
    Layer,
    as_matrix,
    left_factor,
    right_factor,
    rows_of,
    total_type,
    weight_rows,
)
from expunge.per_sample.passes import recording
from expunge.per_sample.plain import ByName, gradients_by_loop, gradients_by_vmap
from expunge.per_sample.probe import Choice, Engine, choose
from expunge.training.run import Run

BLOCK = 256
"""Rows of the Gram matrix that are made at a time, from the diagonal on: half of it is never made."""


def gram_matrix(
    model: nn.Module,
    batches: Iterable[Batch],
    run: Run,
    *,
    mask: Mask | None = None,
    engine: Engine = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    memory_bytes: int | None = None,
) -> Tensor:
    """G Gᵀ (n, n), rows of G the gradients of `run.task.losses` in the order of `batches`.

    batches: read several times where they do not fit a quarter of the memory.
    mask: weights that it cuts do not count.
    engine: "auto" is the fastest that is right for the model; "hooks", "vmap" or "loop" ask for one.
    precision: "bfloat16" lets products and backward passes multiply in it (forward passes stay
        float32), at an error of some tenths of a percent. "auto" is float32: who solves with the
        matrix divides by a small damping, and that multiplies errors.
    memory_bytes: aimed at, beside the model and the matrix. None: 1 GiB, or an eighth of a GPU's
        memory if that is more.

    float32, or float64 for a float64 model; symmetric to the bit.
    Raises ConfigError under several processes, for batches that can be read only once and do not
    fit, and without samples.
    """
    return gram_and_products(
        model,
        batches,
        run,
        None,
        mask=mask,
        engine=engine,
        precision=precision,
        memory_bytes=memory_bytes,
    )[0]


def gram_and_products(
    model: nn.Module,
    batches: Iterable[Batch],
    run: Run,
    vector: ByName | None,
    *,
    mask: Mask | None = None,
    engine: Engine = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    memory_bytes: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`gram_matrix` (n, n), and in the same passes over the samples G v (n,).

    vector: v, name -> tensor like the parameter, for all parameters; None gives zeros.
    """
    if run.world > 1:
        raise ConfigError(
            f"{run.label}: a Gram matrix needs all samples in one process, and there are "
            f"{run.world}; use solver='cg', or one process"
        )
    with held_still(model):
        parameters = wanted(model)
        kept = checked_mask(model, mask)
        memory = memory_for(run.device, memory_bytes)
        samples = KeptBatches(batches, memory // 4)
        first = max(samples.least(3), key=len, default=None)
        if first is None:
            raise ConfigError(
                f"{run.label}: there are no samples for a Gram matrix; check the part"
            )
        choice = choose(model, parameters, run.task.losses, first, engine)
        choice.warn(run)
        half = half_weights(precision, model, run.device) if precision == "bfloat16" else None
        one = next(iter(parameters.values()))
        K = torch.zeros(len(samples), len(samples), dtype=total_type(one.dtype), device=one.device)
        sums = Sums(K, torch.zeros_like(K[:, 0]))
        passes = Passes(model, run, samples, parameters, kept, memory, choice, half, vector)
        if choice.engine == "hooks":
            passes.by_hooks(sums)
        else:
            passes.by_rows(sums)
        return K.triu() + K.triu(1).t(), sums.products


@dataclass(frozen=True)
class Sums:
    """What the passes add to.

    K: (n, n), the upper triangle alone; what lies below it is undefined. products: (n,).
    """

    K: Tensor
    products: Tensor

    def add_rows(self, rows: Tensor, vector: Tensor | None) -> None:
        """Add rows rowsᵀ and rows times the vector: some columns of G, and of v."""
        K = self.K
        for start in range(0, len(K), BLOCK):
            K[start : start + BLOCK, start:] += rows[start : start + BLOCK] @ rows[start:].t()
        if vector is not None:
            self.products.add_(rows @ vector.to(rows.dtype))


class KeptBatches:
    """Batches that are read again and again: kept if they fit, else read anew.

    memory_bytes: that kept batches may take.
    """

    def __init__(self, batches: Iterable[Batch], memory_bytes: int) -> None:
        self.batches = batches
        self.kept: list[Batch] | None = []
        self.count = held = 0
        for batch in counted(batches):
            self.count += len(batch)
            held += _bytes(batch)
            if self.kept is not None:
                self.kept = [*self.kept, batch] if held <= memory_bytes else None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        if self.kept is not None:
            yield from self.kept
            return
        found = 0
        for batch in counted(self.batches):
            found += len(batch)
            yield batch
        if found != self.count:
            raise ConfigError(
                f"the batches held {self.count} samples at first and {found} when read again; give "
                "a list or a stream, which can be read several times, or more memory_bytes"
            )

    def least(self, count: int) -> list[Batch]:
        """The first batches, until one holds `count` samples."""
        found = []
        for batch in self:
            found.append(batch)
            if len(batch) >= count:
                break
        return found


@dataclass(frozen=True, eq=False)
class Item:
    """What one pass keeps of one layer.

    form: "rows" (some columns of the layer's gradients), "tiles" or "pairs" (inputs and output
        gradients, from which rows or products are made afterwards).
    numbers: kept per sample. start, stop: columns among the layer's kept weights, for rows.
    """

    layer: Layer
    form: str
    numbers: int
    start: int = 0
    stop: int = 0


@dataclass
class Passes:
    """Everything that the passes over the samples share."""

    model: nn.Module
    run: Run
    samples: KeptBatches
    parameters: Mapping[str, nn.Parameter]
    mask: Mapping[str, Tensor]
    memory_bytes: int
    choice: Choice
    half: HalfWeights | None
    vector: ByName | None = None

    def by_rows(self, sums: Sums) -> None:
        """Plain engines: as many columns of G at a time as fit, one pass for each."""
        K = sums.K
        every = sum(self.columns(name) for name in self.parameters)
        width = max(1, self.memory_bytes // 2 // (len(K) * K.element_size()))
        by = gradients_by_vmap if self.choice.engine == "vmap" else gradients_by_loop
        size = size_for(self.memory_bytes // 2, max(self.choice.fixed_bytes, 4 * every))
        for start in range(0, every, width):
            rows = K.new_empty(len(K), min(width, every - start))
            at = 0
            for batch in self.samples:
                for part in pieces(batch, size):
                    found = by(self.model, self.parameters, self.run.task.losses, part)
                    joined = self.joined(found)
                    rows[at : at + len(part)] = joined[:, start : start + width]
                    at += len(part)
            sums.add_rows(rows, self.along(found, start, start + width))

    def columns(self, name: str) -> int:
        """Weights of a parameter that count."""
        return int(self.mask[name].sum()) if name in self.mask else self.parameters[name].numel()

    def joined(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """Kept weights of named gradients (batch, *shape) side by side."""
        return torch.cat(
            [
                value[:, self.mask[name]] if name in self.mask else value.reshape(len(value), -1)
                for name, value in gradients.items()
            ],
            dim=1,
        )

    def along(self, names: Iterable[str], start: int, stop: int | None) -> Tensor | None:
        """Columns of the vector, in the order of `joined` for gradients of these names."""
        if self.vector is None:
            return None
        return self.joined({name: self.vector[name].unsqueeze(0) for name in names})[0, start:stop]

    def by_hooks(self, sums: Sums) -> None:
        """Some layers at a time, as many as fit: one pass over the samples, then their products."""
        K = sums.K
        limit = self.memory_bytes * 5 // 8
        group: list[Item] = []
        held = 0
        for item in self.items(limit // len(K)):
            size = item.numbers * len(K) * K.element_size()
            if group and held + size > limit:
                self.one_pass(sums, group)
                group, held = [], 0
            group.append(item)
            held += size
        if group:
            self.one_pass(sums, group)

    def items(self, bytes_per_sample: int) -> Iterator[Item]:
        """How each layer is treated, by its sizes alone."""
        for layer, sizes in self.choice.sizes.items():
            names = list(layer.own.values())
            columns = sum(self.columns(name) for name in names)
            factors = sizes.inputs + sizes.output
            if layer.kind == "factored":
                fan_out = sizes.output // max(1, sizes.positions)
                whole = not any(name in self.mask for name in names)
                if whole and pairs_are_cheaper(sizes.fan_in, fan_out, sizes.positions):
                    yield Item(layer, "pairs", factors)
                    continue
                if factors < columns:
                    yield Item(layer, "tiles", factors)
                    continue
            width = max(1, bytes_per_sample // 8)
            for start in range(0, columns, width):
                stop = min(start + width, columns)
                yield Item(layer, "rows", stop - start, start, stop)

    def one_pass(self, sums: Sums, group: list[Item]) -> None:
        """Read all samples once, keep what the items want, and add their products."""
        K = sums.K
        kept: dict[Item, list[Tensor]] = {}
        layers = list(dict.fromkeys(item.layer for item in group))
        size = size_for(
            self.memory_bytes // 8, self.choice.fixed_bytes + self.choice.direction_bytes
        )
        at = 0
        for batch in self.samples:
            for part in pieces(batch, size):
                with recording(self.model, layers, self.half) as seen:
                    losses = self.run.task.losses(self.model, channels_last(part))
                seen.check(len(part))
                deltas = seen.backward(losses, [torch.ones_like(losses)])
                for item in group:
                    delta = deltas[item.layer][0]
                    found = self.keep(item, seen.seen[item.layer].inputs, delta)
                    if item not in kept:  # one buffer, since joining pieces would hold them twice
                        kept[item] = [_room(value, len(K)) for value in found]
                    for room, value in zip(kept[item], found, strict=True):
                        room[at : at + len(part)] = value
                at += len(part)
        for item in group:
            first, *others = kept.pop(item)
            if item.form == "rows":
                names = item.layer.own.values()
                sums.add_rows(first, self.along(names, item.start, item.stop))
            elif item.form == "pairs":
                add_pairs(K, item.layer, first, others[0])
                if self.vector is not None:
                    products_along(sums.products, item.layer, first, others[0], self.vector)
            else:
                self.add_tiles(sums, item.layer, first, others[0])

    def keep(self, item: Item, inputs: tuple[Tensor, ...], delta: Tensor) -> tuple[Tensor, ...]:
        """What a piece leaves behind for an item."""
        if item.form != "rows":
            return inputs[0].to(delta.dtype), delta
        rows = rows_of(item.layer, inputs, delta)
        return (self.joined(rows)[:, item.start : item.stop],)

    def add_tiles(self, sums: Sums, layer: Layer, inputs: Tensor, delta: Tensor) -> None:
        """Gradients of some outputs of a factored layer at a time, all samples, times themselves."""
        K = sums.K
        B = right_factor(layer.module, [delta])[:, 0]  # (n, fan-out, positions)
        if "bias" in layer.own:
            bias = B.sum(-1, dtype=K.dtype)
            name = layer.own["bias"]
            rows = bias[:, self.mask[name]] if name in self.mask else bias
            sums.add_rows(rows, self.along([name], 0, None))
        if "weight" not in layer.own:
            return
        name = layer.own["weight"]
        weight = self.parameters[name]
        kept = as_matrix(self.mask[name]) if name in self.mask else None
        along = None if self.vector is None else as_matrix(self.vector[name])
        fan_in = weight[0].numel()
        width = max(1, self.memory_bytes // 8 // (len(K) * fan_in * B.element_size()))
        room = B.new_empty(len(K) * min(width, len(weight)) * fan_in)  # one for all tiles
        for start in range(0, len(weight), width):
            stop = min(start + width, len(weight))
            inside = None if kept is None else kept[start:stop].flatten().nonzero().flatten()
            columns = (stop - start) * fan_in if inside is None else len(inside)
            rows = room[: len(K) * columns].view(len(K), columns)
            for at in range(0, len(K), PIECE):
                some = slice(at, at + PIECE)
                A = left_factor(layer.module, inputs[some])
                made = weight_rows(A, B[some, start:stop].unsqueeze(1)).flatten(1)
                rows[some] = made if inside is None else made[:, inside]
            tile = None if along is None else along[start:stop].flatten()
            sums.add_rows(rows, tile if tile is None or inside is None else tile[inside])


def _room(piece: Tensor, count: int) -> Tensor:
    """An empty tensor for `count` rows like those of a piece, images channels last as theirs are."""
    shape = (count, *piece.shape[1:])
    last = piece.ndim == 4 and piece.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=piece.dtype, device=piece.device, memory_format=form)


def _bytes(batch: Batch) -> int:
    leaves = torch.utils._pytree.tree_leaves((batch.inputs, batch.labels))
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))
