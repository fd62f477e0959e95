"""Looking at a study again and again without finding what is not there: a group-sequential boundary.

The error alpha is spent over the looks (`expunge.scores.looks`). Within a look all p values, of
Student's t over the seeds, face that look's share together by Holm's rule as Shaffer refined it (JASA
81, 1986): of a claim's two hypotheses, that there is no difference and that there is one beyond the
margin, no more than one can be true.

The chance of any false finding in any look is then at most the sum of the shares, alpha, however the
claims hang together: no joint distribution is assumed, only each p value's own, that is differences
over seeds that are normal, and a spread of at least what one sample makes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.scores.looks import FIRST_LOOK, Plan
from expunge.scores.statistics import equivalence_p_values, p_values, seeds_needed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIMULATED, CHUNK = 10_000, 500
"""Simulated studies, and how many of them at a time."""


@dataclass(frozen=True)
class Decision:
    """What a look decided of a claim.

    finding: "difference" or "equivalence". look: its seeds. p: of the finding. mean: of the differences
    that the look saw.
    """

    finding: str
    look: int
    p: float
    mean: float


def decide(
    differences: Sequence[Sequence[float]],
    margins: Sequence[float | None],
    plan: Plan,
    seeds: int,
    steps: Sequence[Sequence[float]] | None = None,
) -> list[Decision | None]:
    """What the looks that have been reached decide of each claim; None: nothing yet.

    differences: of each claim, a number for each seed in the order in which seeds were made; nan for one
    that the claim is not about. One that ends early lacks a seed, and is not judged at later looks; it
    counts in the family all the same. margins: in the differences' unit; None: no equivalence asked.
    seeds: so many are finished. steps: of each claim, by seed, the least spread and margin that count: a
    look goes by the largest that it has seen, so that no later seed takes a decision back.
    """
    import numpy as np

    decided: list[Decision | None] = [None] * len(differences)
    for look, level in plan.levels().items():
        if look > seeds:
            break
        both = [
            pair_of(one[:look] if len(one) >= look else (), margin, max(own[:look], default=0.0))
            for one, margin, own in zip(
                differences, margins, steps or [()] * len(differences), strict=True
            )
        ]
        for claim, finding in rejected(both, level):
            if decided[claim] is None:
                p = both[claim][finding == "equivalence"]
                mean = float(np.nanmean(differences[claim][:look]))
                decided[claim] = Decision(finding, look, p, mean)
    return decided


def pair_of(values: Sequence[float], margin: float | None, step: float = 0.0) -> PValues:
    """Both p values of a claim; nan under five seeds. Values that are nan do not count.

    step: the least spread and margin that count; see `p_values`.
    """
    import numpy as np

    known = np.asarray([[one for one in values if not math.isnan(one)]])
    if known.shape[1] < FIRST_LOOK:
        return math.nan, math.nan
    same = math.nan
    if margin is not None:
        same = float(equivalence_p_values(known, max(margin, step), least=step)[0])
    return float(p_values(known, least=step)[0]), same


PValues = tuple[float, float]
"""Of a claim: p of no difference, and p of one beyond the margin; nan: not asked, or not known."""
FINDINGS = ("difference", "equivalence")
"""What is found where one of the two falls."""


def adjusted(both: Sequence[PValues]) -> list[PValues]:
    """The p values, each to be compared with the level for the whole family.

    Step by step, the smallest p left is multiplied by the number of hypotheses that can still be true
    together: of a claim one, until both of its hypotheses have fallen. Without margins this is Holm's
    method (1979, Scand. J. Stat. 6). A claim of which nothing is known counts as one more.
    """
    left = sorted(
        (p, claim, kind)
        for claim, pair in enumerate(both)
        for kind, p in enumerate(pair)
        if not math.isnan(p)
    )
    standing = [max(1, sum(not math.isnan(p) for p in pair)) for pair in both]
    found = [[math.nan, math.nan] for _ in both]
    largest = 0.0
    for p, claim, kind in left:
        possible = max(1, sum(count > 0 for count in standing))
        largest = max(largest, min(1.0, p * possible))
        found[claim][kind] = largest
        standing[claim] -= 1
    return [(different, same) for different, same in found]


def rejected(both: Sequence[PValues], level: float) -> list[tuple[int, str]]:
    """What is found at a level for the whole family: (claim, one of FINDINGS), smallest p first."""
    below = sorted(
        (p, both[claim][kind], claim, FINDINGS[kind])
        for claim, pair in enumerate(adjusted(both))
        for kind, p in enumerate(pair)
        if p <= level
    )
    return [(claim, finding) for _, _, claim, finding in below]


def simulated_findings(
    plan: Plan,
    claims: int,
    *,
    shift: float = 0.0,
    margin: float | None = None,
    studies: int = SIMULATED,
    seed: int = 0,
) -> float:
    """Share of simulated studies in which a claim is decided wrongly in any look.

    Differences are independent normal numbers with standard deviation 1 and mean `shift`, the same for
    every claim: 0 makes each difference found a false one; shift = margin makes each equivalence found
    a false one, and differences true ones. Found at a look counts even where an earlier look had decided
    the claim otherwise, so this is no less than what a study does.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    false = FINDINGS[shift != 0]
    found = 0
    for start in range(0, studies, CHUNK):
        size = (min(CHUNK, studies - start), claims, plan.max_seeds)
        drawn = generator.standard_normal(size) + shift
        found += int(_wrong(drawn, plan, margin, false).sum())
    return found / studies


def _wrong(
    drawn: NDArray[np.float64], plan: Plan, margin: float | None, false: str
) -> NDArray[np.bool_]:
    """Of each simulated study (studies, claims, seeds), whether it found what is not there."""
    import numpy as np

    studies, claims, _ = drawn.shape
    wrong = np.zeros(studies, dtype=bool)
    for look, level in plan.levels().items():
        seen = drawn[:, :, :look].reshape(-1, look)
        different = p_values(seen).reshape(studies, claims)
        same = np.full_like(different, math.nan)
        if margin is not None:
            same = equivalence_p_values(seen, margin).reshape(studies, claims)
        # no step is taken where no p reaches the first threshold
        least = np.fmin(different, same).min(axis=1)
        for study in np.flatnonzero((least <= level / claims) & ~wrong):
            pairs = list(zip(different[study].tolist(), same[study].tolist(), strict=True))
            wrong[study] = any(kind == false for _, kind in rejected(pairs, level))
    return wrong


@dataclass(frozen=True)
class Power:
    """How likely a difference is found.

    needed: seeds of a single look at level alpha / claims for a chance of 80 %; None: more than 10,000.
    chance: of finding it under the plan, in [0, 1]. seeds: mean number at which the plan then ends.
    """

    needed: int | None
    chance: float
    seeds: float


def power(
    plan: Plan,
    sd: float,
    difference: float,
    claims: int,
    *,
    studies: int = 4_000,
    seed: int = 0,
) -> Power:
    """The power of a plan to find a difference between two methods, among so many claims.

    sd: standard deviation of the paired differences over seeds, in their unit. difference: in the same.
    The level is the strictest of Holm's, as if no other claim were decided. Simulated, seeds normal.
    """
    import numpy as np

    needed = seeds_needed(sd, difference, alpha=plan.alpha / claims)
    needed = None if needed is None else max(FIRST_LOOK, needed)
    drawn = np.random.default_rng(seed).normal(difference, sd, (studies, plan.max_seeds))
    at = np.full(studies, math.nan)
    for look, level in plan.levels().items():
        found = (p_values(drawn[:, :look]) <= level / claims) & np.isnan(at)
        at[found] = look
    seen = ~np.isnan(at)
    return Power(
        needed, float(seen.mean()), float(np.where(seen, at, float(plan.max_seeds)).mean())
    )
