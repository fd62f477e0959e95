"""Scores that need the model itself, or ask more of its outputs; each works on a copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from torch import nn

from expunge.audits.observe import observe
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.audits.predictions import prediction_distribution
from expunge.audits.relearn import Relearned, Relearning, relearn, relearn_scores
from expunge.audits.weights import weight_distance
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.transform import Transform
from expunge.data.view import DataView
from expunge.errors import SplitError
from expunge.models.mask import Mask
from expunge.scores.score import Score
from expunge.training.run import Run


@dataclass(frozen=True)
class Subject:
    """A model to be audited, and the data as it wants them normalised. mask: held in relearning."""

    model: nn.Module
    data: Data
    mask: Mask | None = None


@dataclass(frozen=True)
class Panel:
    """A model beside its original and a retrained model, each observed once (see `observe_panel`).

    paired: whether the retrained model began with the original's initial weights and order.
    relearned: the retrained model's relearning once it is known, for a panel with another subject.
    """

    subject: Subject
    outputs: Outputs
    split: Split
    run: Run
    original_outputs: Outputs | None = None
    retrained: Subject | None = None
    retrained_outputs: Outputs | None = None
    paired: bool | None = None
    relearned: list[Relearned] = field(default_factory=list)


def observe_panel(
    subject: Subject,
    split: Split,
    run: Run,
    *,
    original: Subject | None = None,
    retrained: Subject | None = None,
    paired: bool | None = None,
) -> Panel:
    """Observe up to three models on a split."""

    def seen(one: Subject | None) -> Outputs | None:
        return None if one is None else observe(one.model, one.data, split, run)

    return Panel(
        subject,
        observe(subject.model, subject.data, split, run),
        split,
        run,
        original_outputs=seen(original),
        retrained=retrained,
        retrained_outputs=seen(retrained),
        paired=paired,
    )


def extra_scores(
    names: Collection[str], panel: Panel, how: Relearning | None = None
) -> Iterator[Score]:
    """The further scores that were asked for, in the order of `AUDITS`. No model is changed."""
    if "relearn_time" in names and panel.original_outputs is not None:
        percent = 100 * float(_forget(panel.original_outputs).correct.double().mean())
        if panel.retrained is not None and not panel.relearned:
            panel.relearned.append(_relearn(panel.retrained, panel, percent, how))
        mine = _relearn(panel.subject, panel, percent, how)
        yield from relearn_scores(mine, panel.relearned[0] if panel.relearned else None)
    if "weight_distance" in names and panel.retrained is not None:
        yield weight_distance(panel.subject.model, panel.retrained.model, paired=panel.paired)
    if "prediction_distribution" in names:
        other = panel.retrained_outputs
        yield prediction_distribution(
            _forget(panel.outputs), None if other is None else _forget(other)
        )


def _forget(outputs: Outputs) -> PartOutputs:
    if outputs.forget is None:
        raise SplitError(
            "these scores are about a forget set, and nothing was asked to be forgotten"
        )
    return outputs.forget


def _relearn(subject: Subject, panel: Panel, percent: float, how: Relearning | None) -> Relearned:
    """The same seed names for every model, so that they see the same batches."""
    run = replace(
        panel.run, names=("relearn", *panel.run.names), label="relearning", mask=subject.mask
    )
    view = DataView(
        data=subject.data,
        split=panel.split,
        declared=Part.FORGET,
        names=run.names,
        transform=Transform(subject.data.normalisation),
        device=run.device,
        rank=run.rank,
        world=run.world,
    )
    return relearn(subject.model, view, run, original_percent=percent, how=how)
