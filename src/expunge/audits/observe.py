"""A model's outputs on every part, observed once; all scores that need outputs come from these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from expunge.audits.outputs import Outputs, PartOutputs
from expunge.data.batch import Batch, Indices
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.poisoned import with_trigger
from expunge.data.samples import ResidentStore, Samples
from expunge.data.split import Split
from expunge.data.task import logits_of_task
from expunge.data.transform import Transform
from expunge.errors import ModelError
from expunge.progress import Step
from expunge.training.loop import evaluating
from expunge.training.run import Run

BATCH = {"cpu": 64}
"""Samples a pass by kind of device: a processor is fastest while activations stay in its caches."""
VECTORS, VECTOR_VALUES = 1024, 2**20
"""The most samples a pass on a processor, and their numbers in all, where a sample is a row of numbers:
so small a network's activations stay in the caches, and calls cost more than what they compute."""
LARGE_BATCH = 512


def observe(model: nn.Module, data: Data, split: Split, run: Run) -> Outputs:
    """Outputs on forget, retain and test: evaluation mode, no augmentation, float32.

    The test set is divided into samples of classes that stay and of classes forgotten whole. Poisoned
    samples are seen as the model learned them, trigger, wrong label and all; where a trigger is known,
    the whole test set is seen once more with it. The model comes back as it was.
    """
    gone = split.forgotten_classes(data)
    lost = np.isin(data.test.labels, gone)
    transform = Transform(data.normalisation)
    poison = data.poison

    wanted = [
        (data.train, split.rows(data.train, Part.FORGET)),
        (data.train, split.rows(data.train, Part.RETAIN)),
        (data.test, np.flatnonzero(~lost)),
        (data.test, np.flatnonzero(lost)),
    ]
    if poison is not None and poison.trigger is not None:
        wanted.append((with_trigger(data.test, poison.trigger), np.arange(len(data.test))))
    device = next((p.device for p in model.parameters()), run.device)
    model.to(run.device)
    parts = []
    try:
        passes = sum(len(_batches(samples, rows, run)) for samples, rows in wanted)
        with evaluating(model), run.progress.work("observing outputs", passes) as bar:
            for samples, rows in wanted:
                seen = _observe(model, samples, rows, transform, run, bar) if len(rows) else None
                parts.append(seen)
    finally:
        model.to(device)
    known = poison is not None and poison.target is not None
    rest = parts[1].of(poison.ids - poison.own) if poison and known and parts[1] else None
    return Outputs(
        forget=parts[0],
        retain=parts[1],
        test_kept=parts[2],
        test_forgotten=parts[3],
        triggered=parts[4] if len(parts) > 4 else None,
        rest=rest,
        target=poison.target if poison else None,
    )


def observe_test(model: nn.Module, data: Data, run: Run) -> PartOutputs:
    """Outputs on the whole test set. The model comes back as it was."""
    return observe_rows(model, data, data.test, np.arange(len(data.test)), run, "the test set")


def observe_learned(
    model: nn.Module, data: Data, split: Split, run: Run, *, most: int
) -> PartOutputs:
    """Outputs on the retain set, or on so many of it, evenly spaced. The model comes back as it was."""
    rows = split.rows(data.train, Part.RETAIN)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]
    return observe_rows(model, data, data.train, rows, run, "what was learned")


def observe_rows(
    model: nn.Module, data: Data, samples: Samples, rows: Indices, run: Run, what: str
) -> PartOutputs:
    """Outputs on some rows, in their order. what: these are, for progress. The model comes back as it
    was.
    """
    device = next((p.device for p in model.parameters()), run.device)
    model.to(run.device)
    try:
        passes = len(_batches(samples, rows, run))
        with evaluating(model), run.progress.work(f"observing {what}", passes) as bar:
            return _observe(model, samples, rows, Transform(data.normalisation), run, bar)
    finally:
        model.to(device)


def accuracy(model: nn.Module, data: Data, run: Run) -> float:
    """Accuracy on the whole test set, in percent."""
    return 100 * float(observe_test(model, data, run).correct.double().mean())


def _batches(samples: Samples, rows: Indices, run: Run) -> list[Indices]:
    size = BATCH.get(run.device.type, LARGE_BATCH)
    held = samples.store.tensor if isinstance(samples.store, ResidentStore) else None
    if held is not None and held.ndim == 2 and held.is_floating_point():
        size = max(size, min(VECTORS, VECTOR_VALUES // max(1, held.shape[1])))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _observe(
    model: nn.Module, samples: Samples, rows: Indices, transform: Transform, run: Run, bar: Step
) -> PartOutputs:
    @torch.no_grad()
    def logits() -> Iterator[Tensor]:
        for batch in _read(samples, rows, transform, run):
            yield logits_of_task(run.task.observe(model, batch)).float().cpu()

    def first() -> Iterator[Tensor]:
        for chunk in logits():
            yield chunk
            bar.advance()

    def again() -> Iterator[Tensor]:
        device = next((p.device for p in model.parameters()), run.device)
        model.to(run.device)
        try:
            with evaluating(model):
                yield from logits()
        finally:
            model.to(device)

    looks = iter([first])
    return PartOutputs(
        lambda: next(looks, again)(),
        labels=torch.from_numpy(samples.labels[rows]),
        ids=samples.ids[rows],
    )


def observe_losses(model: nn.Module, data: Data, split: Split, run: Run) -> dict[str, list[float]]:
    """Part (forget, retain, test) -> the task's loss of each sample; as `observe` sees them."""
    wanted = {
        "forget": (data.train, split.rows(data.train, Part.FORGET)),
        "retain": (data.train, split.rows(data.train, Part.RETAIN)),
        "test": (data.test, np.arange(len(data.test))),
    }
    transform = Transform(data.normalisation)
    device = next((p.device for p in model.parameters()), run.device)
    model.to(run.device)
    found = {}
    try:
        passes = sum(len(_batches(samples, rows, run)) for samples, rows in wanted.values())
        with (
            evaluating(model),
            torch.no_grad(),
            run.progress.work("observing losses", passes) as bar,
        ):
            for part, (samples, rows) in wanted.items():
                losses = []
                for batch in _read(samples, rows, transform, run):
                    seen = run.task.losses(model, batch).double()
                    if not seen.isfinite().all():
                        raise ModelError(
                            "the model's losses are not finite: its weights or its inputs hold nan or "
                            "inf, so no score would mean anything"
                        )
                    losses += seen.tolist()
                    bar.advance()
                if losses:
                    found[part] = losses
    finally:
        model.to(device)
    return found


def check_logits(model: nn.Module, data: Data, split: Split, run: Run) -> None:
    """Raise LogitsError for a task without class logits, by a look at one retain sample."""
    rows = split.rows(data.train, Part.RETAIN)[:1]
    device = next((p.device for p in model.parameters()), run.device)
    model.to(run.device)
    try:
        with evaluating(model), torch.no_grad():
            for batch in _read(data.train, rows, Transform(data.normalisation), run):
                logits_of_task(run.task.observe(model, batch))
    finally:
        model.to(device)


def _read(samples: Samples, rows: Indices, transform: Transform, run: Run) -> Iterator[Batch]:
    """Batches of some rows on the device, in their order, as a model in evaluation sees them."""
    batches = _batches(samples, rows, run)
    for index, raw in zip(batches, samples.store.stream(batches, run.device), strict=True):
        labels = torch.from_numpy(samples.labels[index]).to(run.device)
        yield Batch(samples.ids[index], _channels_last(transform(raw)), labels, None)


def _channels_last(inputs: Any) -> Any:
    """Images with their channels innermost, the layout that convolutions are fastest in."""
    if isinstance(inputs, Tensor) and inputs.ndim == 4:
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs
