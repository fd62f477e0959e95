"""Claims decided by a study's seeds, or left undecided.

No seed vanishes: a claim of which one lacks a side, because a run diverged, failed or is not made yet,
or because a score is undefined, is not decided, and says how many of how many seeds it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from expunge.scores.looks import Plan
from expunge.scores.sequential import Decision, adjusted, decide, pair_of
from expunge.scores.statistics import p_values, student_interval
from expunge.study.cells import Row
from expunge.study.claims import Claim, parse_claim
from expunge.study.differences import Differences, differences, finished_seeds
from expunge.study.launch import Planned
from expunge.study.results import with_derived

Verdict = Literal["holds", "fails", "equivalent", "undecided"]
LEVEL = 0.05


@dataclass(frozen=True)
class Found:
    """What became of a claim: mean difference less - more over n of the `of` seeds, 95 % interval.

    "holds": the whole interval is below 0; "fails": above; "equivalent": the difference lies within
    `margin`, by two one-sided tests at 5 seeds or more; "undecided": none of these, or a seed lacks a
    side (`lost`). Where the study is looked at again and again (`look`: seeds of the look that decided),
    the look's boundary decides in place of the interval. p: two-sided, of no difference. holm: p of
    what `after_holm` says, adjusted for the number of claims. capped: values that stand at a score's
    cap. why: what is missing, or unfit.
    """

    claim: Claim
    verdict: Verdict
    difference: float
    low: float
    high: float
    n: int
    of: int
    p: float = math.nan
    holm: float = math.nan
    after_holm: str = ""
    margin: float | None = None
    capped: int = 0
    look: int | None = None
    lost: bool = False
    why: str = ""


def judge_all(
    claims: Sequence[Claim],
    frame: pd.DataFrame,
    rows: Sequence[Row],
    *,
    margins: Mapping[str, float | None],
    plan: Plan | None = None,
) -> list[Found]:
    """Decide a study's claims.

    frame: as `results` returns it. rows: all that the study plans, so that nothing is left out unseen.
    margins: score -> what is no difference worth speaking of, in its unit; None or absent: not asked.
    What one sample makes is the least that counts as margin and as spread.
    plan: of a study that is looked at again and again.
    """
    whole = with_derived(frame)
    finished = finished_seeds(frame, rows)
    if plan is not None:  # what is not finished belongs to a look that is still to come
        rows = [row for row in rows if row.seed in finished]
    apart = [differences(claim, whole, rows) for claim in claims]
    limits = [margins.get(claim.less.score) for claim in claims]
    found = [_fixed(*each) for each in zip(claims, apart, limits, strict=True)]
    if plan is None:
        return _adjusted(found, apart)
    series = [[*one.series.values()] for one in apart]
    steps = [[one.steps.get(seed, 0.0) for seed in one.series] for one in apart]
    decided = decide(series, limits, plan, len(finished), steps)
    return [_looked_at(one, at) for one, at in zip(found, decided, strict=True)]


def verdicts_of(study: Planned, frame: pd.DataFrame) -> list[Found]:
    """What became of the claims of a study, by its own margins and its own plan of looks."""
    asked = study.study
    claims = [parse_claim(text) for text in asked.claims]
    margins = {claim.less.score: asked.margin_of(claim.less.score) for claim in claims}
    plan = None if asked.until_decided is None else asked.until_decided.plan
    return judge_all(claims, frame, study.rows, margins=margins, plan=plan)


def judge(
    claim: Claim, frame: pd.DataFrame, rows: Sequence[Row], margin: float | None = None
) -> Found:
    """Decide a single claim; see `judge_all`."""
    return judge_all([claim], frame, rows, margins={claim.less.score: margin})[0]


def _fixed(claim: Claim, apart: Differences, margin: float | None) -> Found:
    """By the interval over the seeds that there are."""
    values = [*apart.by_seed.values()]
    n = len(values)
    why = "; ".join(filter(None, (apart.lost, apart.unfit)))
    lost = bool(apart.lost)
    if n < 2:
        mean = float(np.mean(values)) if n else math.nan
        why = why or f"{n} seed{'' if n == 1 else 's'}, and a spread takes two"
        return Found(claim, "undecided", mean, math.nan, math.nan, n, apart.of, lost=lost, why=why)
    mean, low, high = student_interval(values, least=apart.step)
    found = Found(
        claim,
        "undecided",
        mean,
        low,
        high,
        n,
        apart.of,
        margin=None if margin is None else max(margin, apart.step),
        capped=apart.capped,
        lost=lost,
        why=why,
    )
    if lost:
        return found
    found = replace(found, p=float(p_values(np.asarray([values]), least=apart.step)[0]))
    if high < 0 or low > 0:
        return replace(found, verdict="holds" if high < 0 else "fails")
    if pair_of(values, margin, apart.step)[1] <= LEVEL:
        return replace(found, verdict="equivalent")
    return found


def _adjusted(found: Sequence[Found], apart: Sequence[Differences]) -> list[Found]:
    """With the verdict that is left once p is adjusted for the number of claims."""
    both = [
        (one.p, math.nan if one.lost else pair_of([*a.by_seed.values()], one.margin, a.step)[1])
        for one, a in zip(found, apart, strict=True)
    ]
    told = []
    for one, (different, same) in zip(found, adjusted(both), strict=True):
        if different <= LEVEL:
            after, p = ("holds" if one.difference < 0 else "fails"), different
        elif same <= LEVEL:
            after, p = "equivalent", same
        else:
            after, p = ("" if math.isnan(different) else "undecided"), different
        told.append(replace(one, holm=p, after_holm=after))
    return told


def _looked_at(found: Found, decision: Decision | None) -> Found:
    """By the looks, not by the interval, nor by a p that knows of one look alone."""
    if decision is None:
        return replace(found, verdict="undecided")
    if decision.finding == "equivalence":
        return replace(found, verdict="equivalent", look=decision.look)
    return replace(found, verdict="holds" if decision.mean < 0 else "fails", look=decision.look)


def by_chance(asked: int) -> str:
    """How many of so many claims would be decided if none were true, in a sentence."""
    if asked < 1:
        return ""
    each = asked * LEVEL / 2
    return (
        f"{asked} claim{'' if asked == 1 else 's'} asked: if nothing differed, chance alone would let "
        f"{each:.2g} hold and {each:.2g} fail at 95 % each; Holm's p is adjusted for their number."
    )
