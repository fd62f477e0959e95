"""How many seeds a study needs for a difference, from the spread that it has shown so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from expunge.errors import ConfigError
from expunge.scores.looks import FIRST_LOOK, Plan
from expunge.scores.sequential import power
from expunge.scores.statistics import mean_sd, seeds_needed
from expunge.study.claims import Claim, parse_claim
from expunge.study.differences import differences
from expunge.study.launch import Planned
from expunge.study.results import results, with_derived


@dataclass(frozen=True)
class ClaimPower:
    """Of one claim.

    n, of: seeds that have both sides, of those asked. sd: of their differences, nan for fewer than two.
    difference: asked about, None where nobody said one for the score. needed: seeds for a chance of 80 %
    to find it in one look, 5 or more; least and most: the same at the ends of the 95 % interval of the
    spread (None: more than 10,000). chance, seeds: of finding it under the plan of looks, and the mean
    number at which that ends.
    """

    claim: Claim
    n: int
    of: int
    sd: float
    difference: float | None
    needed: int | None = None
    least: int | None = None
    most: int | None = None
    chance: float = math.nan
    seeds: float = math.nan


def study_power(study: Planned, plan: Plan, difference: float | None = None) -> list[ClaimPower]:
    """The power of a study's claims, from its finished seeds.

    difference: in the unit of each claim's score; None: the study's margin for it. Levels are the
    strictest of Holm's, alpha by the number of claims.
    Raises ConfigError for a study without claims, or a difference that is not above 0.
    """
    if difference is not None and not 0 < difference < math.inf:
        raise ConfigError(f"--difference {difference:g}: give a number above 0")
    claims = [parse_claim(text) for text in study.study.claims]
    if not claims:
        raise ConfigError(f"study {study.study.name} has no claims, so there is nothing to find")
    frame = with_derived(results(study.rows, study.store))
    found = []
    for claim in claims:
        apart = differences(claim, frame, study.rows)
        values = [*apart.by_seed.values()]
        asked = study.study.margin_of(claim.less.score) if difference is None else difference
        sd = mean_sd(values)[1] if values else math.nan
        found.append(_power(ClaimPower(claim, len(values), apart.of, sd, asked), plan, len(claims)))
    return found


def _power(start: ClaimPower, plan: Plan, claims: int) -> ClaimPower:
    if start.difference is None or math.isnan(start.sd):
        return start
    asked, alpha = start.difference, plan.alpha / claims
    found = power(plan, start.sd, asked, claims)
    low, high = (
        _least(seeds_needed(sd, asked, alpha=alpha)) for sd in _interval_of_sd(start.sd, start.n)
    )
    return ClaimPower(
        start.claim,
        start.n,
        start.of,
        start.sd,
        asked,
        found.needed,
        low,
        high,
        found.chance,
        found.seeds,
    )


def _least(seeds: int | None) -> int | None:
    """No look is made with fewer than the first one's."""
    return None if seeds is None else max(FIRST_LOOK, seeds)


def _interval_of_sd(sd: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a normal law's standard deviation, from n values."""
    from scipy import special

    ends = (special.chdtri(n - 1, share) for share in (0.025, 0.975))
    low, high = (sd * math.sqrt((n - 1) / float(end)) for end in ends)
    return low, high


HEADERS = (
    "claim",
    "seeds so far",
    "spread",
    "difference",
    "seeds for 80 %",
    "95 % interval",
    "found by the looks",
    "after seeds",
)


def power_row(one: ClaimPower) -> tuple[str, ...]:
    """A claim's power as texts under HEADERS."""
    if one.difference is None:
        return (
            one.claim.text,
            f"{one.n} of {one.of}",
            _number(one.sd),
            "say one",
            "–",
            "–",
            "–",
            "–",
        )
    if math.isnan(one.sd):
        return (
            one.claim.text,
            f"{one.n} of {one.of}",
            "–",
            f"{one.difference:g}",
            "–",
            "–",
            "–",
            "–",
        )
    return (
        one.claim.text,
        f"{one.n} of {one.of}",
        _number(one.sd),
        f"{one.difference:g}",
        _seeds(one.needed),
        f"{_seeds(one.least)} to {_seeds(one.most)}",
        f"{100 * one.chance:.0f} %",
        f"{one.seeds:.1f}",
    )


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def _seeds(number: int | None) -> str:
    return "over 10,000" if number is None else f"{number:,}"
