"""Settings judged on validation samples, in place of the test set and without a retrained model.

What is chosen so has seen nothing of the test set, which is left to say how good it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from expunge.audits.criterion import criterion
from expunge.audits.panel import Panel
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.samples import Samples
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.methods import Method
from expunge.names.seeds import numpy_generator
from expunge.scores.score import Score
from expunge.trained.trained import Trained
from expunge.training.run import Run


def reads_on(method: Method, original: Trained, split: Split) -> Part:
    """What a method reads with its settings, of this original and for this request."""
    return method.reads_now(original.recipe, whole=split.only_whole_classes(original.data))


def held_apart(original: Trained, split: Split, reads: Part) -> tuple[Split, Samples]:
    """What a method gets that reads so, and the samples to judge it by, which no model learned from.

    A method that reads validation samples gets one half of them, and is judged by the other: what it
    has looked at says too much good of it. Raises ConfigError where there is no half.
    """
    samples = original.data.train
    if Part.VALIDATION not in reads:
        return split, samples.subset(original.split.rows(samples, Part.VALIDATION))
    shuffled = numpy_generator("tuning", "halves").permutation(sorted(split.validation)).tolist()
    half = len(shuffled) // 2
    if not half:
        raise ConfigError(
            "a method that reads validation samples is tuned on one half of them and judged by the "
            "other, and there is no half of one; raise validation"
        )
    rows = np.sort(samples.rows_of(shuffled[half:]))
    return replace(split, validation=tuple(shuffled[:half])), samples.subset(rows)


def tested_on(judged: Samples, original: Trained) -> Data:
    """The original's data with samples of their own in place of the test set."""
    data = original.data
    if data.poison is not None:  # a test set is clean
        clean = [name not in data.poison.ids for name in judged.ids.tolist()]
        judged = judged.subset(np.flatnonzero(np.array(clean, dtype=bool)))
    return replace(data, test=judged)


def all_gone(split: Split, data: Data) -> bool:
    """Whether nothing of what the forget set teaches may stay, as `criterion` asks."""
    known = data.poison
    # a poison that left labels right is no reason to call its samples anything else
    poison = frozenset() if known is None or known.clean_label else known.ids
    return split.only_whole_classes(data) or not poison.isdisjoint(split.forget)


def unseen_panel(made: Trained, original: Trained, data: Data, run: Run) -> Panel:
    """A model beside its original, both on data as `tested_on` gives them."""
    return Panel(replace(made, data=data), made.split, run, original=replace(original, data=data))


def judged_unseen(panel: Panel) -> Score:
    """The criterion of the panel's subject beside its original."""
    if panel.original_outputs is None:
        raise ConfigError("settings are judged against the original, which is not there")
    gone = all_gone(panel.split, panel.subject.data)
    return criterion(panel.outputs, panel.original_outputs, all_gone=gone)
