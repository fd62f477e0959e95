"""A study that goes on, seed by seed, until its claims are decided: looks, and what they cost.

`expunge.scores.sequential` has the boundary; when a study is looked at is fixed before its first look,
and kept in its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from expunge.errors import ConfigError
from expunge.progress import Reporter
from expunge.scores.looks import FIRST_LOOK, Plan
from expunge.scores.sequential import SIMULATED, simulated_findings
from expunge.study.launch import Planned, planned, run_study
from expunge.study.results import results
from expunge.study.seeds import check_seeds, with_seeds
from expunge.study.verdicts import Found, verdicts_of

Tell = Callable[[str], None]


def run_until_decided(
    study: Planned,
    *,
    workers: int | None = None,
    ray: str | None = None,
    renew: bool = False,
    progress: Reporter | None = None,
    tell: Tell = lambda _: None,
) -> Planned:
    """Run a study look by look, until each claim is decided, cannot be, or the last look is made.

    study: with `until_decided`. tell: called with lines about the plan and each look. The other
    arguments are those of `run_study`.
    """
    asked = study.study.until_decided
    if asked is None:
        raise ConfigError("the study has no plan of looks; see `until_decided`")
    check_seeds(study.study)
    plan, claims = asked.plan, len(study.study.claims)
    for line in plan_lines(plan, claims):
        tell(line)
    begun = max(FIRST_LOOK, len(study.study.seeds))
    # the seeds that there are may have reached a look already
    for seeds in (begun, *(look for look in plan.looks if look > begun)):
        grown = with_seeds(study.study, seeds)
        study = planned(grown, study.store.folder, place=study.bench.place)
        study = run_study(study, workers=workers, ray=ray, renew=renew, progress=progress)
        if not study.tuned:
            return study
        renew = False  # once is enough
        found = verdicts_of(study, results(study.rows, study.store))
        tell(look_line(plan, max(look for look in plan.looks if look <= seeds), found))
        if not any(is_open(one) for one in found):
            break
    return study


def is_open(found: Found) -> bool:
    """Whether further seeds could decide it: one that lacks a seed already is lost for good."""
    return found.verdict == "undecided" and not found.lost


def plan_lines(plan: Plan, claims: int) -> list[str]:
    """When the study is looked at, and how often that finds what is not there."""
    share = simulated_findings(plan, claims)
    looks = ", ".join(str(look) for look in plan.looks)
    return [
        f"looks at {looks} seeds; an error of {100 * plan.alpha:g} % is spent over them, for {claims} "
        f"claim{'s' if claims > 1 else ''} together",
        f"{SIMULATED:,} simulated studies of this size in which nothing differs (normal, one seed from "
        f"the next): {100 * share:.2f} % find a difference in any claim at any look",
    ]


def look_line(plan: Plan, look: int, found: Sequence[Found]) -> str:
    """What a look has decided, in a line."""
    decided = sum(one.verdict != "undecided" for one in found)
    level = plan.levels()[look]
    told = (
        f"look at {look} seeds: {decided} of {len(found)} claims decided (level {level:.4f} for all, "
        f"{level / len(found):.2g} for the first)"
    )
    lost = [one for one in found if one.verdict == "undecided" and one.lost]
    if lost:
        told += f"; {len(lost)} cannot be decided, for they lack a seed"
    return told


def look_rows(plan: Plan, found: Sequence[Found], seeds: int) -> list[tuple[str, ...]]:
    """Of each look: seeds, its share of the error, what the first p faces, what it decided."""
    rows: list[tuple[str, ...]] = []
    for look, level in plan.levels().items():
        own = [f"{one.claim.text}: {one.verdict}" for one in found if one.look == look]
        made = "not made yet" if look > seeds else "; ".join(own) or "nothing"
        rows.append((str(look), f"{level:.4f}", f"{level / len(found):.2g}", made))
    return rows


LOOK_HEADERS = ("seeds", "share of the error", "first threshold", "decided")
