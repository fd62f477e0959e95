"""The words that say what was found, and what each is in the other vocabularies.

Three vocabularies: of an audit of one score, of a page about one model, and of a gate that judges a
method by many models. Each line of `MEANINGS` is one thing that can be found, in all three.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

AuditWord = Literal["within", "outside", "undecided", "not measurable"]
PageWord = Literal["within the stated margins", "damaged", "not forgotten", "cannot tell"]
GateWord = Literal["equivalent", "not equivalent", "undecided", "invalid"]

WITHIN: AuditWord = "within"
OUTSIDE: AuditWord = "outside"
UNDECIDED: AuditWord = "undecided"
NOT_MEASURABLE: AuditWord = "not measurable"

WITHIN_MARGINS: PageWord = "within the stated margins"
DAMAGED: PageWord = "damaged"
NOT_FORGOTTEN: PageWord = "not forgotten"
CANNOT_TELL: PageWord = "cannot tell"

EQUIVALENT: GateWord = "equivalent"
NOT_EQUIVALENT: GateWord = "not equivalent"
GATE_UNDECIDED: GateWord = "undecided"
INVALID: GateWord = "invalid"


@dataclass(frozen=True)
class Meaning:
    """One thing that can be found. means: in plain words. The rest: what each vocabulary calls it."""

    means: str
    audit: AuditWord
    page: PageWord
    gate: GateWord


MEANINGS: tuple[Meaning, ...] = (
    Meaning("shown to be as near as the margin", WITHIN, WITHIN_MARGINS, EQUIVALENT),
    Meaning("shown to know what was forgotten", OUTSIDE, NOT_FORGOTTEN, NOT_EQUIVALENT),
    Meaning("shown to have lost what was to stay", OUTSIDE, DAMAGED, NOT_EQUIVALENT),
    Meaning("neither is shown", UNDECIDED, CANNOT_TELL, GATE_UNDECIDED),
    Meaning("nothing that was measured could show it", NOT_MEASURABLE, CANNOT_TELL, INVALID),
)
"""That no difference was found is no meaning: it is `neither is shown`."""


def page_words(word: AuditWord) -> tuple[PageWord, ...]:
    """What a page may call it; of two the first where something is still known, else the second."""
    return tuple(one.page for one in MEANINGS if one.audit == word)


def gate_word(word: AuditWord) -> GateWord:
    """What a gate calls it."""
    return next(one.gate for one in MEANINGS if one.audit == word)


def joint(words: Iterable[AuditWord]) -> AuditWord:
    """What several audits found together: outside where any did, within only where all did."""
    found = set(words)
    for word in (OUTSIDE, UNDECIDED, NOT_MEASURABLE):
        if word in found:
            return word
    return WITHIN if found else NOT_MEASURABLE
