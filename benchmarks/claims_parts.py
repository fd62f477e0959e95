"""What of a claim's difference comes from the model, and what from the reference that moved with it.

A setting that brings a method nearer to retraining, as pruning may, changes the retrained model, too.
The average gap is a distance, so that the one can make it smaller without the other: a model that lies
below a reference comes nearer when this one falls. Hence both models are read against one and the same
reference as well, once against each: the mean of the two differences is the model's part, and what is
left is the reference's. Both add up to the difference (Shapley 1953, of two players).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean

import pandas as pd

from expunge.scores.rows import CONTROLS, HEAD_ZEROED, ORIGINAL, RETRAIN, SETTING
from expunge.scores.statistics import student_interval
from expunge.scores.table import AVERAGE_GAP
from expunge.study.cells import Row
from expunge.study.claims import Claim
from expunge.study.differences import differences, is_at
from expunge.study.results import with_average_gap


@dataclass(frozen=True)
class Parts:
    """model, low, high: the model's part with its 95 % interval, nan for one seed. reference: the
    reference's part. control: a row that does next to nothing, with parts of its own in the same
    comparison, nan where there is none.
    """

    model: float
    low: float
    high: float
    reference: float
    control: str = ""
    control_model: float = math.nan
    control_reference: float = math.nan

    def bears(self, difference: float) -> bool:
        """Whether the model's part alone is shown to lie on the difference's side of 0."""
        return self.high < 0 if difference < 0 else self.low > 0

    def __str__(self) -> str:
        ends = "" if math.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        beside = f"; {self.control} {self.control_model:+.2f}, {self.control_reference:+.2f}"
        return f"{self.model:+.2f}{ends}, {self.reference:+.2f}{beside if self.control else ''}"


@dataclass(frozen=True)
class Readings:
    """The scores, read against the retrained model of each density's own, and of one for all.

    frame: as `results` gives it.
    """

    frame: pd.DataFrame
    rows: Sequence[Row]
    densities: Sequence[str]

    @cached_property
    def each(self) -> pd.DataFrame:
        """With average gaps, each density against its own reference."""
        return with_average_gap(self.frame)

    @cached_property
    def alike(self) -> Sequence[pd.DataFrame]:
        """With average gaps against the reference of one density, for each of them."""
        return [with_average_gap(with_reference(self.frame, one)) for one in self.densities]

    def parted(self, claim: Claim) -> tuple[list[float], list[float], float]:
        """The model's part and the whole difference of each seed at which all is there, and the step
        of such a difference.
        """
        whole = differences(claim, self.each, self.rows)
        alike = [differences(claim, one, self.rows).by_seed for one in self.alike]
        seeds = [seed for seed in whole.by_seed if all(seed in one for one in alike)]
        model = [sum(one[seed] for one in alike) / len(alike) for seed in seeds]
        return model, [whole.by_seed[seed] for seed in seeds], whole.step


def parts_of(claim: Claim, frame: pd.DataFrame, rows: Sequence[Row]) -> Parts | None:
    """Of a claim about the average gap of one method at two densities; None of any other.

    frame: as `results` gives it. Only seeds at which all is there count; None where there is none.
    """
    less, more = claim.less, claim.more
    if less.score != AVERAGE_GAP or less.method != more.method:
        return None
    settings = frame[[*SETTING]].drop_duplicates().astype(str).to_dict("records")
    own = [{one["density"] for one in settings if is_at(side, one)} for side in (less, more)]
    if any(len(one) != 1 for one in own) or own[0] == own[1]:
        return None
    readings = Readings(frame, rows, [*own[0], *own[1]])
    model, whole, step = readings.parted(claim)
    if not model:
        return None
    ends = student_interval(model, least=step)
    return Parts(*ends, mean(whole) - ends[0], *control_of(claim, readings))


def with_reference(frame: pd.DataFrame, density: str) -> pd.DataFrame:
    """The frame with the retrained models of one density as those of all."""
    kept = frame[frame["method"] != RETRAIN]
    one = frame[(frame["method"] == RETRAIN) & (frame["density"] == density)]
    labels = frame["density"].unique()
    return pd.concat([kept, *(one.assign(density=label) for label in labels)], ignore_index=True)


def control_of(claim: Claim, readings: Readings) -> tuple[str, float, float]:
    """A control's name and parts: the zeroed row where the scenario has one, else the original.

    Over all seeds that have the control, which may be more than the method's.
    """
    if claim.less.method in (*CONTROLS, ORIGINAL):
        return "", math.nan, math.nan
    for control in (HEAD_ZEROED, ORIGINAL):
        sides = (replace(side, method=control) for side in (claim.less, claim.more))
        model, whole, _ = readings.parted(Claim(claim.text, *sides))
        if model:
            return control, mean(model), mean(whole) - mean(model)
    return "", math.nan, math.nan
