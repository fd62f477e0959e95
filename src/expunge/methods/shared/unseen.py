"""How often a model is right, and how often one would be that never saw the forget set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from expunge.data.parts import Part
from expunge.data.task import class_logits
from expunge.data.view import DataView, PartSource
from expunge.errors import ConfigError
from expunge.methods.shared.distillation import given_labels
from expunge.training.loop import evaluating
from expunge.training.run import Run


def share_right(model: nn.Module, source: PartSource, run: Run, size: int) -> float:
    """Share in [0, 1] of a source's samples whose class the model says: not augmented, in evaluation
    mode, over all processes. size: samples a batch, which changes nothing.
    """
    counts = torch.zeros(2, dtype=torch.int64, device=run.device)
    logits_of = class_logits(run.task)
    with evaluating(model), torch.no_grad():
        for batch in source.batches(size, shuffle=False, augment=False):
            if batch.weight:  # else a stand-in, which another process counts
                counts[0] += (logits_of(model, batch).argmax(dim=1) == given_labels(batch)).sum()
                counts[1] += len(batch)
    right, count = run.sum(counts).tolist()
    return float(right / count)


def tell_aimed_by(count: int, run: Run) -> None:
    """Warn that a method took what it aims at from so many validation samples."""
    run.log.setdefault("warnings", []).append(
        f"{run.label} took what it aims at from {count} validation samples: what is scored on them from "
        "now on says too much good of this model; judge it on the test set"
    )


@dataclass(frozen=True)
class Unseen:
    """Validation samples in place of the forget set, which no model can be asked for unseen.

    source: the samples. gone: share of the forget set in classes of which nothing is retained; a
    model that never saw these is never right.
    """

    source: PartSource
    gone: float

    def right(self, model: nn.Module, run: Run, size: int) -> float:
        """Share right that is to be expected of samples like the forget set, by this model.

        Warns where it reads samples for that, which may judge no more.
        """
        if self.gone == 1:
            return 0.0
        tell_aimed_by(len(self.source), run)
        return (1 - self.gone) * share_right(model, self.source, run, size)


def unseen_like(data: DataView, run: Run, *, same_classes: bool, remedy: str = "") -> Unseen:
    """The validation samples; same_classes: those alone of classes that lose some samples, not all.

    Raises ConfigError where there are none and some are needed. remedy: a further way out, for its
    text.
    """
    struck, kept = data.source(Part.FORGET).labels, data.source(Part.RETAIN).labels
    lasting = torch.isin(struck, kept)
    source = data.source(Part.VALIDATION)
    if same_classes:
        source = source.of_classes(struck[lasting])
    gone = 1 - int(lasting.sum()) / len(lasting)
    if gone < 1 and not len(source):
        which = (
            "validation samples of the forgotten classes" if same_classes else "validation samples"
        )
        raise ConfigError(
            f"{run.label} is guided by {which}, and there are none: keep some (validation=0.1; of an "
            f"imported model, --validation names them){remedy}"
        )
    return Unseen(source, gone)
