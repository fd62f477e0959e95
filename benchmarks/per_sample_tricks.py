"""What each trick of the per-sample room brings: the same call with it and without it, in turns.

One line a trick and model: the processor's seconds without it over those with it. A trick that
brings under 1.3 on every model is not worth its lines, unless those that go make the whole slower
by more than a tenth: single figures do not add up, since each is taken with the others on. Seconds
are the process's own, on one thread, so that others on the machine disturb little; both ways of a
round follow each other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from machine import machine
from per_sample import batch_of, trained
from torch import Tensor, nn
from torch.nn import functional

from expunge import Run
from expunge.data.batch import Batch
from expunge.per_sample import (
    fisher,
    fisher_diagonal,
    gradient_products,
    gram,
    gram_matrix,
    layers,
    probe,
    products,
)
from expunge.training.run import accelerator_on

WORTH = 1.3
SAMPLES = {"mlp": 128, "cnn": 64, "resnet20": 32, "resnet18": 8}
GRAM_SAMPLES = {"mlp": 256, "cnn": 256, "resnet20": 96, "resnet18": 32}
LARGE_GRAM = 1000
"""Samples of a usual Gram matrix: memory is cut in proportion, so that passes are as many."""


@dataclass(frozen=True)
class Trick:
    """A call with a trick and without it.

    of: which of the three calls. options, without: of the call, with and without.
    off: what switches the trick off meanwhile.
    """

    name: str
    of: str
    options: Mapping[str, Any] = field(default_factory=dict)
    without: Mapping[str, Any] = field(default_factory=dict)
    off: Callable[[], AbstractContextManager[object]] = nullcontext


def without(module: Any, name: str, value: object) -> Callable[[], AbstractContextManager[object]]:
    """What puts a plain way in the place of a quick one."""
    return partial(patch.object, module, name, value)


def whole_squares(A: Tensor, B: Tensor, total: Tensor) -> None:
    """All of a sample's gradients at once."""
    if A.shape[2] == 1:
        layers.add_one_position_squares(A, B, total)
        return
    for a, b in zip(A, B, strict=True):
        rows = layers.weight_rows(a.unsqueeze(0), b.unsqueeze(0)).to(total.dtype)
        total += rows.square_().view(-1, *total.shape).sum(0)


def tiled_squares(A: Tensor, B: Tensor, total: Tensor) -> None:
    """Gradients made even where there is one position."""
    if A.shape[2] == 1:
        zeros = A.new_zeros(*A.shape[:2], 1), B.new_zeros(*B.shape[:3], 1)
        A, B = torch.cat([A, zeros[0]], -1), torch.cat([B, zeros[1]], -1)
    _tiled(A, B, total)


def as_they_are(batch: Batch) -> Batch:
    """Images in the layout that they came in."""
    return batch


def every_label(logits: Tensor) -> Tensor:
    """One direction for each label y, sqrt(p_y) (e_y - p): (batch, labels, classes)."""
    p = logits.double().softmax(1)
    away = torch.eye(p.shape[1], dtype=p.dtype) - p.unsqueeze(1)
    return (p.sqrt().unsqueeze(2) * away).to(logits.dtype)


def unfolded(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Patches by torch, channels before places of the kernel: the diagonal's columns are in that
    order, too, so it is the time that counts and not the result.
    """
    return functional.unfold(
        inputs, module.kernel_size, module.dilation, module.padding, module.stride
    )


def channels_first(module: nn.Module, deltas: Sequence[Tensor]) -> Tensor:
    """Output gradients stored as their axes are ordered."""
    if isinstance(module, nn.Linear):
        return _right(module, deltas)
    return torch.stack([delta.flatten(2) for delta in deltas], 1)


@contextmanager
def copied_number_by_number() -> Iterator[None]:
    """Patches and output gradients that are not copied in runs of channels."""
    with (
        patch.object(layers, "patches", unfolded),
        patch.object(layers, "right_factor", channels_first),
    ):
        yield


@contextmanager
def one_direction_a_label() -> Iterator[None]:
    """As many directions as labels, planned for as such."""

    def planned(memory_bytes: int, choice: probe.Choice, directions: int) -> tuple[int, int]:
        return _planned(memory_bytes, choice, directions + 1)

    with (
        patch.object(fisher, "label_factor", every_label),
        patch.object(fisher, "samples_and_directions", planned),
    ):
        yield


def one_direction(memory_bytes: int, choice: probe.Choice, directions: int) -> tuple[int, int]:
    """As many samples as with all directions at once, and one direction at a time."""
    return _planned(memory_bytes, choice, directions)[0], 1


def normalisation_by_vmap(module: nn.Module) -> str:
    """Layers that have a rule for scale and shift go the way of layers that have none."""
    kind = _family(module)
    return "generic" if kind == "scaled" else kind


def rows_alone(passes: gram.Passes, bytes_per_sample: int) -> Iterator[gram.Item]:
    """Layers whose inputs and output gradients would be kept leave rows of gradients instead."""
    width = max(1, bytes_per_sample // 8)
    for item in _items(passes, bytes_per_sample):
        if item.form != "tiles":
            yield item
            continue
        columns = sum(passes.columns(name) for name in item.layer.own.values())
        for start in range(0, columns, width):
            stop = min(start + width, columns)
            yield gram.Item(item.layer, "rows", stop - start, start, stop)


_items = gram.Passes.items
_right = layers.right_factor
_tiled, _planned, _family = (
    layers.add_weight_squares,
    fisher.samples_and_directions,
    layers.family_of,
)
SINGLE = {"precision": "float32"}
TRICKS = [
    Trick("hooks on layers, not vmap", "fisher", SINGLE, {**SINGLE, "engine": "vmap"}),
    Trick("vmap, not a loop", "fisher", {"engine": "vmap"}, {"engine": "loop"}),
    Trick("half precision", "fisher", {"precision": "bfloat16"}, SINGLE),
    Trick("images channels last", "fisher", off=without(fisher, "channels_last", as_they_are)),
    Trick("copies in runs of channels", "fisher", off=copied_number_by_number),
    Trick("fewer directions than labels", "fisher", off=one_direction_a_label),
    Trick(
        "directions at once", "fisher", off=without(fisher, "samples_and_directions", one_direction)
    ),
    Trick(
        "tiles of squares",
        "fisher",
        SINGLE,
        SINGLE,
        off=without(layers, "add_weight_squares", whole_squares),
    ),
    Trick("one position", "fisher", off=without(layers, "add_weight_squares", tiled_squares)),
    Trick(
        "normalisation by its rule",
        "fisher",
        off=without(probe, "family_of", normalisation_by_vmap),
    ),
    Trick("hooks on layers, not vmap", "gram", {}, {"engine": "vmap"}),
    Trick(
        "pairs of positions", "gram", off=without(gram, "pairs_are_cheaper", lambda *sizes: False)
    ),
    Trick("factors kept, not rows", "gram", off=without(gram.Passes, "items", rows_alone)),
    Trick("half precision", "gram", {"precision": "bfloat16"}),
    Trick("images channels last", "gram", off=without(gram, "channels_last", as_they_are)),
    Trick("copies in runs of channels", "gram", off=without(layers, "patches", unfolded)),
    Trick("forward mode", "products", off=without(products, "forward_mode", products.one_by_one)),
]


def main() -> int:
    options = arguments().parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for name in options.models:
        for trick in TRICKS:
            if not options.tricks or any(part in trick.name for part in options.tricks):
                found.append(measure(trick, name, options.rounds))
                if options.json is not None:
                    results = {"machine": machine("cpu"), "tricks": found}
                    options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def measure(trick: Trick, name: str, rounds: int) -> dict[str, Any]:
    """Seconds both ways in turns, after one call of each that is not timed; prints the line."""
    count = (GRAM_SAMPLES if trick.of == "gram" else SAMPLES)[name]
    call = CALLS[trick.of](name, count)
    times: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(rounds + 1):
        took = {"with": seconds(call, trick.options)}
        with trick.off():
            took["without"] = seconds(call, trick.without)
        for way, value in took.items() if number else ():
            times[way].append(value)
    ratios = [b / a for a, b in zip(times["with"], times["without"], strict=True)]
    row = {
        "trick": trick.name,
        "of": trick.of,
        "model": name,
        "samples": count,
        "ratio": round(statistics.median(ratios), 2),
        **{
            f"{way}_seconds": [round(value, 3) for value in values] for way, values in times.items()
        },
    }
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    print(
        f"{trick.of:9} {trick.name:28} {name:9} {count:4} samples  {row['ratio']:6.2f} {spread}",
        flush=True,
    )
    return row


def seconds(call: Callable[..., object], options: Mapping[str, Any]) -> float:
    """Of the processor, for this process alone."""
    start = time.process_time()
    call(**options)
    return time.process_time() - start


# ---- the three calls


def problem(name: str, count: int) -> tuple[nn.Module, list[Batch], Run]:
    """A trained model, its samples in batches, and a run."""
    model, images = trained(name, "cpu", count)
    run = Run(names=("benchmark", 0), accelerator=accelerator_on("cpu"))
    return model, [batch_of(part) for part in images.split(128)], run


def fisher_call(name: str, count: int) -> Callable[..., object]:
    """The exact Fisher diagonal over all labels."""
    return partial(fisher_diagonal, *problem(name, count))


def gram_call(name: str, count: int) -> Callable[..., object]:
    """The Gram matrix, in the share of memory that these samples have of a usual number."""
    return partial(gram_matrix, *problem(name, count), memory_bytes=2**30 * count // LARGE_GRAM)


def products_call(name: str, count: int) -> Callable[..., object]:
    """Products of all gradients with one vector."""
    model, batches, run = problem(name, count)
    vector = {key: torch.ones_like(value) for key, value in model.named_parameters()}
    return partial(gradient_products, model, batches, run, vector)


CALLS = {"fisher": fisher_call, "gram": gram_call, "products": products_call}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--tricks", nargs="*", metavar="PART", help="only names that hold a PART")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
