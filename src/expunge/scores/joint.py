"""What several audits find together: one word and one sentence, with a joint chance of error.

Each finding has a level of its own, and many of them would soon call a true retraining outside by
chance. So what is outside alone must be so among all of them (Holm 1979, Scandinavian Journal of
Statistics 6): where each p is right, a true retraining is outside in any of them with a chance of ALPHA
at most, however these hang together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from expunge.scores.finding import ALPHA, ENOUGH, SPREAD, Finding
from expunge.scores.margins import STATED, Margins
from expunge.scores.score import Score
from expunge.scores.table import NO_VERDICT, SCORES
from expunge.scores.verdict import ALONE, KEPT
from expunge.scores.words import (
    CANNOT_TELL,
    DAMAGED,
    FORGOT,
    NOT_FORGOTTEN,
    NOT_MEASURABLE,
    OUTSIDE,
    TOLD_APART,
    UNDECIDED,
    WITHIN,
    JointWord,
)

OUTPUTS = "outputs"
"""The family of audits that look at what a model says; all others look behind it."""
KNOWS, LOST = "it knows more of what was forgotten", "it knows less of what was to stay"
STANDS_OUT, DIFFERS = "it stands out as forgotten", "it differs in a way that tells neither"
DIRECTIONS: Mapping[str, JointWord] = MappingProxyType(
    {KNOWS: NOT_FORGOTTEN, LOST: DAMAGED, STANDS_OUT: DAMAGED, DIFFERS: TOLD_APART}
)
"""How a model that is outside differs from retrained ones: the word of the first that there is."""
EXACT = "its method's guarantee is exact, so this is chance, or a fault in its training"


@dataclass(frozen=True)
class JudgedScore:
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
        word: "forgot", "not forgotten", "damaged", "told apart" or "cannot tell".
        reason: why, in a sentence without its full stop.
        tests: how many findings share the level ALPHA.
        references: retrained models that they were read against.
        judged: the scores, in the order in which they were made.
        left_out: audits that were not made, and what to give for them, a line each.
        method: what several models say of the method that made them, in lines.
    """

    word: JointWord
    reason: str
    tests: int
    references: int
    judged: tuple[JudgedScore, ...] = ()
    left_out: tuple[str, ...] = ()
    method: tuple[str, ...] = ()

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
            "method": list(self.method),
        }


def joint_level(references: int) -> str:
    """With which chance a true retraining is outside in any of a model's scores, and under what
    condition. references: retrained models that these were read against.
    """
    provided = (
        "if retrained models scatter normally"
        if references >= SPREAD
        else "if retraining by itself strays no farther than the margins"
    )
    return f"with a chance of about {100 * ALPHA:g} %, {provided}"


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
    judged: Iterable[JudgedScore],
    *,
    references: int,
    margins: Margins = STATED,
    whole_classes: bool = False,
    exact: bool = False,
    left_out: Sequence[str] = (),
) -> Joint:
    """The word on a model, from the scores of some audits.

    A model forgot where no score tells it from retrained models, all that could show it do, and one of
    these at least tells the original from them: what would pass the original passes anything.

    references: retrained models that they were read against. margins: that they went by. whole_classes:
    whether all samples of some classes were asked for: then outputs alone are no reason to say that a
    model forgot. exact: whether the model's method is proved to forget exactly.
    """
    judged = list(judged)
    places = [n for n, one in enumerate(judged) if one.score.finding is not None]
    found = [_enough(judged[n].score) for n in places]
    alone = []
    for place, before, finding in zip(places, found, among_all(found), strict=True):
        judged[place] = _with(judged[place], finding)
        if finding.word != before.word:
            alone.append(judged[place])
    tests = sum(map(_is_test, found))
    word, reason = (
        _wrong(judged, tests, exact=exact)
        or _unknown(judged, alone, tests, references)
        or _right(judged, margins, whole_classes=whole_classes)
    )
    return Joint(word, reason, tests, references, tuple(judged), tuple(left_out))


def _with(one: JudgedScore, finding: Finding) -> JudgedScore:
    return replace(one, score=replace(one.score, finding=finding))


def _enough(score: Score) -> Finding:
    """The finding of a score; that of a nearly empty forget set is none."""
    finding = score.finding or Finding(NOT_MEASURABLE, "")
    if finding.word != NOT_MEASURABLE and score.detail.get("verdict") == NO_VERDICT:
        return Finding(NOT_MEASURABLE, NO_VERDICT.removeprefix("none: "))
    return finding


def _wrong(
    judged: Sequence[JudgedScore], tests: int, *, exact: bool
) -> tuple[JointWord, str] | None:
    """Word and reason, where something tells against the model."""
    outside = [one for one in judged if one.word == OUTSIDE]
    if not outside:
        return None
    ways = {way: [one for one in outside if _direction(one.score) == way] for way in DIRECTIONS}
    ways = {way: own for way, own in ways.items() if own}
    tell = "tells" if len(outside) == 1 else "tell"
    told = "; ".join(f"{way} ({_names(own)})" for way, own in ways.items())
    reason = f"{len(outside)} of {tests} scores {tell} it from retrained models: {told}"
    return DIRECTIONS[next(iter(ways))], f"{reason}. But {EXACT}" if exact else reason


def _direction(score: Score) -> str:
    """How a score that is outside says that a model differs from retrained ones: of `DIRECTIONS`."""
    mean, before = score.retrained_mean, score.detail.get("original")
    if mean is None:
        return DIFFERS
    above = score.value > mean
    if score.name in KEPT:
        return DIFFERS if above else LOST
    side = SCORES[score.name].knows if score.name in SCORES else ""
    if side == "as the original" and before is not None:
        side = "above" if before > mean else "below"
    if side == ("above" if above else "below"):
        return KNOWS
    opposite = side in ("above", "below") and score.target == "retrained"
    return STANDS_OUT if opposite else DIFFERS


def _unknown(
    judged: Sequence[JudgedScore], alone: Sequence[JudgedScore], tests: int, references: int
) -> tuple[JointWord, str] | None:
    """Word and reason, where a score that could show it does not. alone: outside by themselves."""
    if not references:
        return CANNOT_TELL, "without a retrained model nothing is compared"
    few = references < ENOUGH
    more = f"; give {ENOUGH} retrained models" if few else ""
    if alone:
        look = "score looks" if len(alone) == 1 else "scores look"
        chance = f"which chance may do among {tests}"
        return CANNOT_TELL, f"{len(alone)} {look} outside ({_names(alone)}), {chance}{more}"
    undecided = [one for one in judged if one.word == UNDECIDED and _decidable(one.score)]
    if not undecided:
        return None
    are = "is" if len(undecided) == 1 else "are"
    which = "" if few else f" ({_names(undecided)})"
    return CANNOT_TELL, (
        f"no score tells it from retrained models, but {len(undecided)} of {tests} {are} "
        f"undecided{which}{more}"
    )


def _right(
    judged: Sequence[JudgedScore], margins: Margins, *, whole_classes: bool
) -> tuple[JointWord, str]:
    """Word and reason, where nothing tells against the model and nothing is left open."""
    within = [one for one in judged if one.word == WITHIN]
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
    before, margin, mean = (
        score.detail.get("original"),
        margins.of(score.name),
        score.retrained_mean,
    )
    if before is None or margin is None or mean is None:
        return False
    return bool(abs(before - mean) > margin)


def _decidable(score: Score) -> bool:
    return score.finding is None or score.finding.decidable


def _names(judged: Sequence[JudgedScore]) -> str:
    return ", ".join(one.score.name for one in judged)
