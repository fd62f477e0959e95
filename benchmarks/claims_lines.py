"""The papers' claims as records decide them: each with its number, its verdict and its parts.

A claim is decided within its study, over that study's seeds; Holm's p stands for that family, and once
more for all claims of a page together. Studies that are about no claim of these papers are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from claims_parts import Parts, parts_of
from recorded import read_record

from expunge.scores.sequential import PValues, adjusted, pair_of
from expunge.scores.statistics import seeds_needed, student_quantile
from expunge.scores.table import DERIVED, score_info
from expunge.study.differences import differences
from expunge.study.file import read_study
from expunge.study.launch import FILE, Planned
from expunge.study.results import with_derived
from expunge.study.schema import Study
from expunge.study.verdicts import LEVEL, Found, verdicts_of

NUMBERS: Mapping[str, str] = {
    "sparsity-class": "1",
    "sparsity-random": "1",
    "sparsity-sweep": "0",
    "l1-schedulers": "3",
    "pruners": "4",
    "trojan": "5",
    "transfer": "6",
    "unsir": "UNSIR",
    "mnist-mlp": "UNSIR",
}
"""Study -> the number of its claims."""
EXCEPTIONS: Sequence[tuple[str, str, str]] = (
    ("sparsity-class|sparsity-random", r"\bl1_sparse\b", "2"),
    ("sparsity-class", r"^(UA|MIA|RA change|TA change) of ", "0"),
)
"""Studies, a pattern of a claim's text, and the number of the claims that it finds; the first counts."""
STAYS: Sequence[tuple[str, str]] = (("sparsity-class", r"^TA change of "), ("trojan", r"^SA of "))
"""Studies and patterns of claims about a score of which the paper says that it stays."""


@dataclass(frozen=True)
class Line:
    """A claim in a table. both: its p values for Holm over the page, None of one that looks decided.

    data: what its study ran on, in a few words. asked: claims of its study. scale: of its file.
    parts: of a claim about the gap of one method at two densities.
    """

    number: str
    study: str
    record: str
    found: Found
    both: PValues | None
    page: Found | None = None
    data: str = ""
    asked: int = 1
    scale: str = ""
    parts: Parts | None = None

    @property
    def at_scale(self) -> str:
        """`, NAME` of a scale that the data do not name."""
        named = ("", "two-cores", self.data.split(":")[0])
        return "" if self.scale in named else f", {self.scale}"

    @property
    def unit(self) -> str:
        """Of the claim's difference; `percent` of a change or a gap of such."""
        score = self.found.claim.less.score
        return "percent" if score in DERIVED else score_info(score).unit

    @property
    def takes(self) -> str:
        """The seeds that tell the difference seen, with a chance of 80 %; `–` where none are wanted."""
        one = self.found
        if one.after_holm != "undecided" or self.both is None or one.lost or not one.difference:
            return "–"
        sd = (one.high - one.low) / 2 * math.sqrt(one.n) / student_quantile(0.975, one.n - 1)
        needed = seeds_needed(sd, one.difference, alpha=LEVEL / self.asked)
        return "over 10,000" if needed is None else f"{needed:,}"

    @property
    def verdict(self) -> str:
        """After Holm in its study; of one that looks decided, theirs."""
        return self.found.verdict if self.both is None else self.found.after_holm or "undecided"


def where(study: Study) -> str:
    """The data of a study, without their trigger's settings, and its scenario if it has but one."""
    named = []
    for one in study.data:
        base, *triggers = one.split("+")
        named.append("+".join([base, *(trigger.split(":")[0] for trigger in triggers)]))
    alone = study.scenarios if len(study.scenarios) == 1 else ()
    return ", ".join([*dict.fromkeys(named), *alone])


def number_of(study: str, text: str) -> str | None:
    """The number of a study's claim; None of a study that is about none of these."""
    for studies, pattern, number in EXCEPTIONS:
        if study in studies.split("|") and re.search(pattern, text):
            return number
    return NUMBERS.get(study)


def lines_of(record: Path) -> list[Line]:
    """The claims of a record, decided; none of a study that is left out."""
    study = read_study(record / FILE, recorded=record / FILE)
    if study.name not in NUMBERS or not study.claims:
        return []
    plan, frame = read_record(record)
    found = verdicts_of(plan, frame)
    both: Sequence[PValues | None] = [None] * len(found)
    if plan.study.until_decided is None:
        both = pairs_of(plan, frame, found)
    of_study = {"data": where(study), "asked": len(found), "scale": study.scale}
    return [
        Line(
            number_of(study.name, one.claim.text) or "",
            study.name,
            record.name,
            one,
            pair,
            parts=parts_of(one.claim, frame, plan.rows),
            **of_study,
        )
        for one, pair in zip(found, both, strict=True)
    ]


def pairs_of(plan: Planned, frame: pd.DataFrame, found: Sequence[Found]) -> list[PValues]:
    """Of each claim p of no difference, and p of one beyond the margin, as its study's Holm has them."""
    whole = with_derived(frame)
    pairs = []
    for one in found:
        apart = differences(one.claim, whole, plan.rows)
        same = math.nan
        if not one.lost:
            same = pair_of([*apart.by_seed.values()], one.margin, apart.step)[1]
        pairs.append((one.p, same))
    return pairs


def over_page(lines: Sequence[Line]) -> list[Line]:
    """The lines, each with what Holm over all of them leaves of its claim."""
    family = [line.both for line in lines if line.both is not None]
    left = iter(adjusted(family))
    made = []
    for line in lines:
        if line.both is None:
            made.append(line)
            continue
        different, same = next(left)
        after, p = "undecided", different
        if different <= LEVEL:
            after = "holds" if line.found.difference < 0 else "fails"
        elif same <= LEVEL:
            after, p = "equivalent", same
        made.append(replace(line, page=replace(line.found, holm=p, after_holm=after)))
    return made


def stays(line: Line) -> bool:
    """Whether the paper says that the score stays, where the claim asks whether it falls."""
    text = line.found.claim.text
    return any(line.study == study and re.search(one, text) for study, one in STAYS)


def by_reference(line: Line) -> bool:
    """Whether a claim holds or fails and its models alone are not shown to differ so."""
    if line.verdict not in ("holds", "fails") or line.parts is None:
        return False
    return not line.parts.bears(line.found.difference)
