"""What several audits find together: one word and one sentence, with a joint chance of error.

Each finding has a level of its own, and many of them would soon call a true retraining outside by
chance. So what is outside alone must be so among all of them (Holm 1979, Scandinavian Journal of
Statistics 6): a true retraining is outside in any of them with a chance of ALPHA at most, however
these hang together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from expunge.scores.finding import ALPHA, ENOUGH, Finding
from expunge.scores.margins import STATED, Margins
from expunge.scores.score import Score
from expunge.scores.table import NO_VERDICT
from expunge.scores.verdict import ALONE, KEPT
from expunge.scores.words import (
    CANNOT_TELL,
    DAMAGED,
    NOT_FORGOTTEN,
    NOT_MEASURABLE,
    OUTSIDE,
    UNDECIDED,
    WITHIN,
)

FORGOT = "forgot"
OUTPUTS = "outputs"
"""The family of audits that look at what a model says; all others look behind it."""


@dataclass(frozen=True)
class Judged:
    """A score, and the audit and the family that it is of; its finding is the one among all."""

    audit: str
    family: str
    score: Score

    @property
    def word(self) -> str:
        """What was found; empty where nothing was looked for."""
        return "" if self.score.finding is None else self.score.finding.word


@dataclass(frozen=True)
class Joint:
    """What a set of audits says of one model.

    Attributes:
        word: "forgot", "not forgotten", "damaged" or "cannot tell".
        reason: why, in a sentence without its full stop.
        tests: how many findings share the level ALPHA.
        judged: the scores, in the order in which they were made.
        left_out: audits that were not made, and what to give for them, a line each.
    """

    word: str
    reason: str
    tests: int
    judged: tuple[Judged, ...] = ()
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; the scores and their findings stand beside it."""
        return {
            "word": self.word,
            "reason": self.reason,
            "tests": self.tests,
            "families": {one.score.name: one.family for one in self.judged},
            "left_out": list(self.left_out),
        }


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> list[bool]:
    """Which of m tests reject, so that a true hypothesis is rejected with a chance of alpha at most.

    p_values: one each, in [0, 1]. The i-th smallest, from 0, is held against alpha / (m - i), until one
    lies above.
    """
    found = [False] * len(p_values)
    for place, test in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[test] > alpha / (len(p_values) - place):
            break
        found[test] = True
    return found


def among_all(findings: Sequence[Finding]) -> list[Finding]:
    """Each finding as it stands among the others: one that chance alone may make among so many is
    undecided. One without a p counts with ALPHA, the level that it was found at.
    """
    tests = [n for n, one in enumerate(findings) if _is_test(one)]
    stand = dict(zip(tests, holm([_p(findings[n]) for n in tests]), strict=True))
    made = list(findings)
    for n, one in enumerate(findings):
        if one.word == OUTSIDE and not stand[n]:
            why = f"{one.why}; outside by itself, but {_p(one):.2g} is no small p of {len(tests)}"
            made[n] = replace(one, word=UNDECIDED, why=why)
    return made


def _is_test(finding: Finding) -> bool:
    """Whether it might have been outside: also one that has a p and only cannot be within."""
    return finding.word != NOT_MEASURABLE or finding.p is not None


def _p(finding: Finding) -> float:
    if finding.p is not None:
        return finding.p
    return ALPHA if finding.word == OUTSIDE else 1.0


def found_together(
    judged: Iterable[Judged],
    *,
    references: int,
    margins: Margins = STATED,
    whole_classes: bool = False,
    left_out: Sequence[str] = (),
) -> Joint:
    """The word on a model, from the scores of some audits.

    A model forgot where no score tells it from retrained models, all that could show it do, and one of
    these at least tells the original from them: what would pass the original passes anything.

    references: retrained models that they were read against. margins: that they went by. whole_classes:
    whether all samples of some classes were asked for: then outputs alone are no reason to say that a
    model forgot.
    """
    judged = list(judged)
    places = [n for n, one in enumerate(judged) if one.score.finding is not None]
    found = [_enough(judged[n].score) for n in places]
    for place, finding in zip(places, among_all(found), strict=True):
        one = judged[place]
        judged[place] = replace(one, score=replace(one.score, finding=finding))
    measured = [one for one in judged if one.word not in ("", NOT_MEASURABLE)]
    word, reason = _wrong(measured) or _unknown(measured, references)
    if not word:
        word, reason = _right(measured, margins, whole_classes=whole_classes)
    return Joint(word, reason, sum(map(_is_test, found)), tuple(judged), tuple(left_out))


def _enough(score: Score) -> Finding:
    """The finding of a score; that of a nearly empty forget set is none."""
    finding = score.finding or Finding(NOT_MEASURABLE, "")
    if finding.word != NOT_MEASURABLE and score.detail.get("verdict") == NO_VERDICT:
        return Finding(NOT_MEASURABLE, NO_VERDICT.removeprefix("none: "))
    return finding


def _wrong(measured: Sequence[Judged]) -> tuple[str, str] | None:
    """Word and reason, where something tells against the model."""
    outside = [one for one in measured if one.word == OUTSIDE]
    if not outside:
        return None
    word = DAMAGED if all(_lost(one.score) for one in outside) else NOT_FORGOTTEN
    tell = "tells" if len(outside) == 1 else "tell"
    some = f"{len(outside)} of {len(measured)} scores {tell} it from retrained models"
    return word, f"{some} ({_names(outside)})"


def _unknown(measured: Sequence[Judged], references: int) -> tuple[str, str]:
    """Word and reason, where a score that could show it does not; else nothing."""
    if not references:
        return CANNOT_TELL, "there is no retrained model to compare with"
    undecided = [one for one in measured if one.word == UNDECIDED and _decidable(one.score)]
    if undecided:
        few = f"; with fewer than {ENOUGH} retrained models nothing is found within"
        are = "is" if len(undecided) == 1 else "are"
        return CANNOT_TELL, (
            f"no score tells it from retrained models, but {len(undecided)} of {len(measured)} {are} "
            f"undecided ({_names(undecided)}){few if references < ENOUGH else ''}"
        )
    return "", ""


def _right(measured: Sequence[Judged], margins: Margins, *, whole_classes: bool) -> tuple[str, str]:
    """Word and reason, where nothing tells against the model and nothing is left open."""
    within = [one for one in measured if one.word == WITHIN]
    if not within:
        return CANNOT_TELL, "nothing could be measured finely enough"
    if all(one.score.detail.get("original") is None for one in within):
        return CANNOT_TELL, (
            "the original is not there, so nobody knows whether these scores would find that it "
            "forgot nothing"
        )
    able = [one for one in within if _finds_original(one.score, margins)]
    if not able:
        return CANNOT_TELL, "no score tells the original from retrained models either"
    if whole_classes and all(one.family == OUTPUTS for one in able):
        return CANNOT_TELL, ALONE
    return FORGOT, (
        "every score that could tell finds it within what retraining does "
        f"({_names(within)}); the original is not ({_names(able)})"
    )


def _finds_original(score: Score, margins: Margins) -> bool:
    """Whether the original lies beyond the margin of a score."""
    before, margin = score.detail.get("original"), margins.of(score.name)
    known = score.detail.get("references") or [score.reference]
    values = [one for one in known if one is not None and math.isfinite(one)]
    if before is None or margin is None or not values:
        return False
    return bool(abs(before - sum(values) / len(values)) > margin)


def _decidable(score: Score) -> bool:
    return score.finding is None or score.finding.decidable


def _lost(score: Score) -> bool:
    """Whether it says no more than that what was to stay has suffered."""
    low = score.reference is not None and score.value < score.reference
    return score.name in KEPT and low


def _names(judged: Sequence[Judged]) -> str:
    return ", ".join(one.score.name for one in judged)
