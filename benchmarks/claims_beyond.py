"""What a control does in the comparison that a claim makes, and how far the method goes beyond it.

A claim that a setting brings a method nearer to retraining says nothing for the method where a zeroed
row of the last layer, or doing nothing, comes as much nearer: then the setting has moved the original
and the retrained model, not what is between them. `claims.py` puts it beside each claim of that kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from expunge.scores.rows import CONTROLS, HEAD_ZEROED, ORIGINAL
from expunge.scores.statistics import student_interval
from expunge.scores.table import AVERAGE_GAP
from expunge.study.cells import Row
from expunge.study.claims import Claim
from expunge.study.differences import differences


@dataclass(frozen=True)
class Beyond:
    """control: its name. moved: its own difference, left less right. mean, low, high: the method's
    difference less that one, seed by seed, with the 95 % interval; nan for one seed.
    """

    control: str
    moved: float
    mean: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        ends = "" if math.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.control} {self.moved:+.2f}, beyond it {self.mean:+.2f}{ends}"


def beyond(claim: Claim, whole: pd.DataFrame, rows: Sequence[Row]) -> Beyond | None:
    """Of a claim about the average gap of one method under two settings; None of any other.

    The control is the zeroed row where the scenario has one, else the original. whole: with derived
    scores. Only seeds at which both have both sides count; None where there is none.
    """
    less, more = claim.less, claim.more
    if less.score != AVERAGE_GAP or less.method != more.method:
        return None
    if less.method in (*CONTROLS, ORIGINAL):
        return None
    mine = differences(claim, whole, rows)
    for control in (HEAD_ZEROED, ORIGINAL):
        sides = (replace(side, method=control) for side in (less, more))
        theirs = differences(Claim(claim.text, *sides), whole, rows)
        both = [seed for seed in mine.by_seed if seed in theirs.by_seed]
        if both:
            further = [mine.by_seed[seed] - theirs.by_seed[seed] for seed in both]
            ends = student_interval(further, least=max(mine.step, theirs.step))
            moved = sum(theirs.by_seed[seed] for seed in both) / len(both)
            return Beyond(control, moved, *ends)
    return None
