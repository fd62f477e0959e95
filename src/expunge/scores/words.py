"""The words that say what was found, and what each is in the other vocabularies.

Four vocabularies: of an audit of one score, of a page about one model, of all audits of a
strength together, and of a gate that judges a method by many models. Each line of `MEANINGS` is one
thing that can be found, in all four. A cleansing, which is judged by its trigger, has words of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AuditWord = Literal["within", "outside", "undecided", "not measurable"]
PageWord = Literal["within the stated margins", "damaged", "not forgotten", "cannot tell"]
CleanseWord = Literal["cleansed", "not cleansed", "damaged", "cannot tell"]
JointWord = Literal["forgot", "not forgotten", "damaged", "told apart", "cannot tell"]
GateWord = Literal["equivalent", "not equivalent", "undecided", "invalid"]

WITHIN: AuditWord = "within"
OUTSIDE: AuditWord = "outside"
UNDECIDED: AuditWord = "undecided"
NOT_MEASURABLE: AuditWord = "not measurable"

WITHIN_MARGINS: PageWord = "within the stated margins"
CLEANSED: Literal["cleansed"] = "cleansed"
NOT_CLEANSED: Literal["not cleansed"] = "not cleansed"
FORGOT: JointWord = "forgot"
TOLD_APART: JointWord = "told apart"
DAMAGED: Literal["damaged"] = "damaged"
NOT_FORGOTTEN: Literal["not forgotten"] = "not forgotten"
CANNOT_TELL: Literal["cannot tell"] = "cannot tell"


@dataclass(frozen=True)
class Meaning:
    """One thing that can be found. means: in plain words. The rest: what each vocabulary calls it."""

    means: str
    audit: AuditWord
    page: PageWord
    joint: JointWord
    gate: GateWord


MEANINGS: tuple[Meaning, ...] = (
    Meaning("shown to be as near as the margin", WITHIN, WITHIN_MARGINS, FORGOT, "equivalent"),
    Meaning(
        "shown to know what was forgotten",
        OUTSIDE,
        NOT_FORGOTTEN,
        NOT_FORGOTTEN,
        "not equivalent",
    ),
    Meaning(
        "shown to have lost what was to stay, or to stand out as forgotten",
        OUTSIDE,
        DAMAGED,
        DAMAGED,
        "not equivalent",
    ),
    Meaning("shown to differ, and not how", OUTSIDE, CANNOT_TELL, TOLD_APART, "not equivalent"),
    Meaning("neither is shown", UNDECIDED, CANNOT_TELL, CANNOT_TELL, "undecided"),
    Meaning(
        "nothing that was measured could show it",
        NOT_MEASURABLE,
        CANNOT_TELL,
        CANNOT_TELL,
        "invalid",
    ),
)
"""That no difference was found is no meaning: it is `neither is shown`."""


def means(joint: JointWord) -> str:
    """What a word on all audits of a strength means, in plain words."""
    return "; or ".join(one.means for one in MEANINGS if one.joint == joint)


def audit_word(joint: JointWord) -> AuditWord:
    """What one audit would have called what all of a strength found together."""
    return next(one.audit for one in MEANINGS if one.joint == joint)
