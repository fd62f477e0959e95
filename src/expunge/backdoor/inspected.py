"""What is looked at for a backdoor: a model, and what is at hand to look with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from expunge.audits.features import features
from expunge.data.batch import Batch, Indices
from expunge.data.parts import Part
from expunge.data.samples import Samples
from expunge.data.task import logits_of_task
from expunge.data.transform import Normalisation, Transform
from expunge.errors import DataError, ModelError
from expunge.names.seeds import numpy_generator
from expunge.place import HERE, Place
from expunge.trained.trained import Trained
from expunge.training.loop import evaluating
from expunge.training.run import Run, accelerator_on

WIDEST = 1024
"""Features; wider ones are summed to so many, see `audits.features.narrowed`."""
BATCH = 64


@dataclass(frozen=True, eq=False)
class Inspected:
    """A model and the data to look at it with; nothing of it is changed.

    Attributes:
        model: any module that the run's task knows.
        classes: their names, in the order of the model's outputs.
        normalisation: of its inputs.
        clean: samples that nobody has poisoned, correctly labelled, which need not be those that the
            model learned from.
        run: device, task and progress.
        learned: what it learned from, labelled as it was then; None where that is not at hand.
        inputs: samples to be judged; None for none.
        seed: of all draws.
        drawn: whether the clean samples were set aside from a file that may be poisoned itself.
    """

    model: nn.Module
    classes: tuple[str, ...]
    normalisation: Normalisation | None
    clean: Samples
    run: Run
    learned: Samples | None = None
    inputs: Samples | None = None
    seed: int = 0
    drawn: bool = False

    @classmethod
    def of(
        cls,
        trained: Trained,
        *,
        clean: Samples | None = None,
        inputs: Samples | None = None,
        seed: int = 0,
        place: Place = HERE,
    ) -> Inspected:
        """A trained model, with what it learned from.

        clean: by default its test set.
        """
        data = trained.data
        ours = data.poison is not None and data.poison.poison is not None  # then tests are clean
        run = Run(accelerator=accelerator_on(place.device), progress=place.progress, task=data.task)
        return cls(
            trained.model,
            data.classes,
            data.normalisation,
            data.test if clean is None else clean,
            run,
            learned=data.train.subset(trained.split.rows(data.train, Part.RETAIN)),
            inputs=inputs,
            seed=seed,
            drawn=clean is None and data.test_drawn and not ours,
        )

    @contextmanager
    def looking(self) -> Iterator[None]:
        """The model on the device and in evaluation mode for a while; it comes back as it was."""
        device = next((p.device for p in self.model.parameters()), self.run.device)
        self.model.to(self.run.device)
        try:
            with evaluating(self.model):
                yield
        finally:
            self.model.to(device)

    def logits(self, images: Tensor) -> Tensor:
        """Class logits (n, classes) of images (n, channels, height, width) from 0 to 1, as they are
        before normalisation; differentiable in them.
        """
        inputs = Transform(self.normalisation).normalise(images)
        batch = Batch(np.full(len(images), "seen"), inputs, None, None)
        return logits_of_task(self.run.task.observe(self.model, batch)).float()

    def seen(self, samples: Samples, rows: Indices) -> Tensor:
        """Class logits (n, classes) of some rows, float32 on the processor.

        Raises:
            ModelError: for logits that are not finite.
        """
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        transform = Transform(self.normalisation)
        told: list[Tensor] = []
        with self.looking(), torch.no_grad():
            stream = samples.store.stream(batches, self.run.device)
            for index, raw in zip(batches, stream, strict=True):
                labels = torch.from_numpy(samples.labels[index]).to(self.run.device)
                batch = Batch(samples.ids[index], transform(raw), labels, None)
                told.append(logits_of_task(self.run.task.observe(self.model, batch)).float().cpu())
        seen = torch.cat(told) if told else torch.zeros(0, len(self.classes))
        if not bool(seen.isfinite().all()):
            raise ModelError(
                "the model's outputs are not finite: its weights or its inputs hold nan or inf, so "
                "nothing can be said of it"
            )
        return seen

    def features(self, samples: Samples, rows: Indices) -> Tensor:
        """What goes into the last layer for some rows: (n, width) float32 on the processor.

        Raises HeadError for a model without such a layer.
        """
        transform = Transform(self.normalisation)
        return features(self.model, samples, transform, self.run, rows=rows, most=WIDEST)

    def some(self, samples: Samples, most: int, *names: str | int) -> Indices:
        """Rows of at most so many samples, drawn by seed and names, ascending."""
        if len(samples) <= most:
            return np.arange(len(samples))
        draw = numpy_generator("inspect", self.seed, *names)
        return np.sort(draw.choice(len(samples), most, replace=False))

    def some_of_each(self, samples: Samples, most: int, *names: str | int) -> Indices:
        """Rows of at most so many samples of each class, drawn by seed and names, ascending."""
        draw = numpy_generator("inspect", self.seed, *names)
        order = draw.permutation(len(samples))
        kept = [order[samples.labels[order] == c][:most] for c in np.unique(samples.labels)]
        return np.sort(np.concatenate(kept)) if kept else order

    def pictures(self, samples: Samples, rows: Indices) -> Tensor:
        """Images from 0 to 1, float32 (n, channels, height, width), on the device.

        Raises:
            DataError: for what is no image of uint8 or of floats from 0 to 1.
        """
        raw = samples.store.fetch(rows, self.run.device)
        if not isinstance(raw, Tensor) or raw.ndim != 4:
            raise DataError("a trigger is sought in images, and these samples are none")
        if raw.dtype == torch.uint8:
            return raw.float() / 255
        low, high = (float(raw.min()), float(raw.max())) if raw.numel() else (0.0, 1.0)
        if not raw.is_floating_point() or low < 0 or high > 1:
            raise DataError(
                f"a trigger is sought in images from 0 to 1, and these go from {low:g} to {high:g}; "
                "give them unnormalised, from 0 to 1 or as uint8"
            )
        return raw.float()
