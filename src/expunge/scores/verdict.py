"""What is said of one deletion, or of one cleansing: a word, and the reason in a sentence.

The margins are fixed before anything is measured. A score tells against a model only where it lies
beyond its margin and its 95 % interval does not touch those of the retrained models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from expunge.scores.finding import ENOUGH
from expunge.scores.margins import STATED, Margins
from expunge.scores.score import Score
from expunge.scores.statistics import student_interval, wilson
from expunge.scores.table import AVERAGED, MARGINS, NEAR_EMPTY, NO_VERDICT, SCORES, WORKS
from expunge.scores.words import (
    CANNOT_TELL,
    CLEANSED,
    DAMAGED,
    NOT_CLEANSED,
    NOT_FORGOTTEN,
    WITHIN_MARGINS,
    CleanseWord,
    PageWord,
)

VERDICTS: tuple[PageWord, ...] = get_args(PageWord)
CLEANSINGS: tuple[CleanseWord, ...] = get_args(CleanseWord)
ANOTHER_TRIGGER = (
    "if the model learned another one, see to the colour, size, place and margin of --trigger, and to "
    "--target"
)
"""What to do where a trigger does not work before the cleansing."""
CHEAP = 2.0
"""Retraining that took less than so many times as long as the method is the better choice."""

RELEARN_SHARE = 0.5
"""Of the retrained model's relearn time: below it the samples were still known."""
KNOWS_BELOW = tuple(name for name in MARGINS if SCORES[name].knows == "below")
KNOWS_ABOVE = tuple(n for n in MARGINS if SCORES[n].knows == "above" and n != "ASR")
"""Scores of the forgotten samples: on which side of retraining a model lies that still knows them.
Attack success, which is of the test set, is judged by itself.
"""
KEPT = ("RA", "TA", "SA")
"""Scores of what was to stay: lower is worse."""
ALONE = "outputs alone cannot tell a silenced class from a forgotten one"
BEHIND = ("relearn_time", "probe")
"""Scores that look behind the outputs, where a class is only silenced or really gone."""
JUDGED = (*MARGINS, "relearn_time")
"""Scores that the verdict goes by."""


def stated_margins(margins: Margins = STATED, scores: Iterable[str] = JUDGED) -> str:
    """The margins that some scores are judged by in a sentence, with the digest of all."""
    alike: dict[str, list[str]] = {}
    last = []
    for name in scores:
        if name == "relearn_time":
            last.append(
                f"{name} from {RELEARN_SHARE:g} to {1 / RELEARN_SHARE:g} times retraining's"
            )
        elif (margin := margins.of(name)) is not None:
            points = f" point{'s' * (margin != 1)}" if SCORES[name].unit == "percent" else ""
            alike.setdefault(f"{margin:g}{points} of", []).append(name)
    told = [f"{margin} {', '.join(names)}" for margin, names in alike.items()]
    return f"{'; '.join((*told, *last))} (digest {margins.digest})"


@dataclass(frozen=True)
class Asked:
    """What a model was asked to forget.

    Attributes:
        samples: how many.
        whole_classes: whether all samples of some classes.
        poison: whether it is to be cleansed of a backdoor.
        method: what was done; "retrain" for a model that never saw the samples.
    """

    samples: int
    whole_classes: bool = False
    poison: bool = False
    method: str = ""


@dataclass(frozen=True)
class PageVerdict:
    """word: one of `VERDICTS`, or of `CLEANSINGS` where a backdoor was to go; empty where none is given.
    reason: why, in a sentence.

    warnings: what should be known whatever the word is. references: retrained models it rests on.
    margins: that it went by, in a sentence.
    """

    word: PageWord | CleanseWord | Literal[""]
    reason: str
    warnings: tuple[str, ...] = ()
    references: int = 0
    margins: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.word else self.reason


def verdict_of(scores: Iterable[Score], asked: Asked, margins: Margins = STATED) -> PageVerdict:
    """The verdict on one model from its scores, which hold the original's and retrained models' values.

    A cleansing is judged by the trigger and by accuracy alone, however few samples are forgotten, for
    both are measured on the test set. Of other requests: what is still known of the forgotten samples,
    if they are enough, then damage. Only with five retrained models or more a model can be within the
    margins.
    """
    sides = {score.name: _Side.of(score, margins) for score in scores}
    references = max((len(sides[name].references) for name in AVERAGED if name in sides), default=0)
    warnings = tuple(_fallen(sides))
    known = [text for side in sides.values() for text in _known(side, asked)]

    def found(word: PageWord | CleanseWord | Literal[""], reason: str) -> PageVerdict:
        by = stated_margins(margins, ("ASR",) if asked.poison else JUDGED)
        return PageVerdict(word, reason, warnings, references, by)

    if asked.poison:
        if known:
            warnings += (f"the poisoned samples themselves are still known: {_joined(known)}",)
        return found(*_cleansing(sides))
    if asked.samples < NEAR_EMPTY:
        return found("", NO_VERDICT)
    if asked.method == "retrain":
        return found("", "none: a retrained model never saw the samples")
    if known:
        return found(NOT_FORGOTTEN, _joined(known))
    damage = [text for side in sides.values() for text in _damage(side)]
    if damage:
        return found(DAMAGED, _joined(damage))
    return found(*_near(sides, asked, references))


@dataclass(frozen=True)
class _Side:
    """One score: the model's value and interval, the original's value, those of the retrained models."""

    name: str
    value: float
    low: float
    high: float
    n: int
    percent: bool
    original: float | None
    references: tuple[float, ...]
    stated: float = 0.0
    """The margin, of a score that has one."""

    @classmethod
    def of(cls, score: Score, margins: Margins = STATED) -> _Side:
        """Nan and None become what tells nothing."""
        found = score.detail.get("references")
        given = found if isinstance(found, Sequence) else (score.reference,)
        known = tuple(float(v) for v in given if v is not None and math.isfinite(v))
        low, high = (end if end is not None else score.value for end in (score.low, score.high))
        before = score.detail.get("original")
        original = float(before) if before is not None and math.isfinite(before) else None
        percent = score.unit == "percent"
        known = known if math.isfinite(score.value) else ()
        stated = margins.of(score.name) or 0.0
        return cls(score.name, score.value, low, high, score.n, percent, original, known, stated)

    @property
    def margin(self) -> float:
        """Points, and at least those of one sample."""
        return max(self.stated, 100 / max(self.n, 1))

    @property
    def hull(self) -> tuple[float, float]:
        """From the lowest to the highest end of the retrained models' intervals over samples."""
        ends = [_interval(value, self.n, self.percent) for value in self.references]
        return min(low for low, _ in ends), max(high for _, high in ends)

    @property
    def below(self) -> bool:
        """Whether it lies under retraining beyond chance and margin."""
        if not self.references or self.name not in MARGINS:
            return False
        return self.high < self.hull[0] and self.value < min(self.references) - self.margin

    @property
    def above(self) -> bool:
        """Whether it lies over retraining beyond chance and margin."""
        if not self.references or self.name not in MARGINS:
            return False
        return self.low > self.hull[1] and self.value > max(self.references) + self.margin

    @property
    def target(self) -> str:
        """The retrained models' values in words."""
        low, high = min(self.references), max(self.references)
        if f"{low:.1f}" == f"{high:.1f}":
            return f"{low:.1f}"
        return f"{low:.1f} to {high:.1f}"

    @property
    def beside(self) -> str:
        """`UA 1.2, of retraining 5.0`."""
        return f"{self.name} {self.value:.1f}, of retraining {self.target}"


def _interval(value: float, n: int, percent: bool) -> tuple[float, float]:
    """Wilson's interval of a share in percent; of anything else the value alone."""
    if not percent or n < 1:
        return value, value
    low, high = wilson(min(n, max(0, round(value * n / 100))), n)
    return 100 * low, 100 * high


def _fallen(sides: Mapping[str, _Side]) -> Iterator[str]:
    """Accuracies under the interval of retraining, margin or not."""
    for side in (sides[name] for name in ("TA", "RA") if name in sides):
        now = f"{side.name} fell to {side.value:.1f} ({side.low:.1f} to {side.high:.1f})"
        if side.references and side.high < side.hull[0]:
            low, high = side.hull
            yield f"{now}, beyond the interval of retraining, {low:.1f} to {high:.1f}"
        elif not side.references and side.original is not None:
            low, high = _interval(side.original, side.n, side.percent)
            if side.high < low:
                yield f"{now}, beyond the interval of the original, {low:.1f} to {high:.1f}"


def poison_left(retrained: Iterable[float]) -> str:
    """What is said where the trigger works on retrained models too, which then are no yardstick of a
    clean one; empty where it does not.

    retrained: their attack success, in percent.
    """
    known = [value for value in retrained if math.isfinite(value)]
    firing = [value for value in known if value >= WORKS]
    if not firing:
        return ""
    of = "" if len(known) == 1 else f" ({len(firing)} of {len(known)} models)"
    mean = sum(firing) / len(firing)
    return f"the retrained model has ASR {mean:.1f} too{of}: poison is left in the data"


def _cleansing(sides: Mapping[str, _Side]) -> tuple[CleanseWord, str]:
    """What the trigger and accuracy say, and whether retraining kept the backdoor."""
    side = sides.get("ASR")
    if side is None:
        return CANNOT_TELL, "attack success was not measured; say the trigger and its target"
    left = poison_left(side.references)
    word, reason = _triggered(replace(side, references=()) if left else side, sides.get("SA"))
    return word, "; ".join(filter(None, (reason, left)))


def _triggered(side: _Side, clean: _Side | None) -> tuple[CleanseWord, str]:
    """side: attack success, with retrained models on which the trigger does not work. clean: SA."""
    if side.original is None:
        return CANNOT_TELL, "attack success before is not known; name the original"
    change = (
        f"the trigger worked on {side.original:.1f} % before and works on {side.value:.1f} % now"
    )
    if side.n < NEAR_EMPTY:
        return CANNOT_TELL, f"{change}, of only {side.n:,} test samples that it can change"
    if side.original < WORKS:
        return CANNOT_TELL, (
            f"the trigger worked on only {side.original:.1f} % before; {ANOTHER_TRIGGER}"
        )
    if side.high >= _interval(side.original, side.n, side.percent)[0]:
        return NOT_CLEANSED, change
    if side.high >= WORKS:
        return NOT_CLEANSED, f"weakened: {change}"
    if side.above:
        return NOT_CLEANSED, f"weakened: {change}, but on {side.target} % after retraining"
    if clean is None:
        return CANNOT_TELL, f"{change}, but accuracy was not measured"
    price = (
        "" if clean.original is None else f"; SA {clean.original:.1f} before, {clean.value:.1f} now"
    )
    if clean.original is not None and clean.value < clean.original / 2:
        return DAMAGED, f"{change}, and accuracy is gone with it{price}"
    mistakes = 100 - clean.low
    if not side.references and side.low > mistakes + side.margin:
        return CANNOT_TELL, (
            f"weakened: {change}, more often than mistakes explain ({100 - clean.value:.1f} %), and "
            "there is no clean retrained model to compare with"
        )
    before = None if clean.original is None else _interval(clean.original, clean.n, clean.percent)
    paid = ", at a price" if before is not None and clean.high < before[0] else ""
    return CLEANSED, f"{change}{paid}{price}"


def _known(side: _Side, asked: Asked) -> Iterator[str]:
    """What shows that the forgotten samples are still known."""
    if (side.name in KNOWS_BELOW and side.below) or (side.name in KNOWS_ABOVE and side.above):
        yield side.beside
    if side.name == "relearn_time" and side.references:
        least = RELEARN_SHARE * min(side.references)
        if side.value < least:
            yield f"relearned in {side.value:.0f} steps, retraining in {side.target}"
    alone = side.name == "UA" and asked.whole_classes and not side.references
    if alone and side.high < 100 - side.margin:
        yield (
            f"{100 - side.value:.1f} % of the forgotten samples are still called by their class, which "
            "no retrained model would know"
        )


def _damage(side: _Side) -> Iterator[str]:
    """What shows that more was lost than forgetting takes."""
    if side.name in KEPT and side.below:
        yield side.beside
    if side.name in KNOWS_BELOW and side.above:
        yield f"{side.beside}: it stands out as forgotten"
    lost = side.name in KEPT and not side.references and side.original is not None
    if lost and side.original is not None and side.value < side.original / 2:
        yield f"{side.name} {side.value:.1f}, before {side.original:.1f}"


def _near(sides: Mapping[str, _Side], asked: Asked, references: int) -> tuple[PageWord, str]:
    """Of a model that nothing speaks against."""
    lacking = [name for name in AVERAGED if name not in sides or not sides[name].references]
    if not any(side.references for side in sides.values()):
        return CANNOT_TELL, "there is no retrained model to compare with"
    if lacking:
        return CANNOT_TELL, f"{', '.join(lacking)} cannot be compared with retraining"
    judged = [one for one in sides.values() if _needed(one)]
    fewer = [
        f"{one.name} is known of only {len(one.references)} of {references} retrained models"
        for one in judged
        if len(one.references) < references
    ]
    if fewer:
        return CANNOT_TELL, _joined(fewer)
    wide = [side.beside for side in sides.values() if side.references and _apart(side)]
    if wide:
        return (
            CANNOT_TELL,
            f"{_joined(wide)}: beyond the margin, though its interval allows for chance",
        )
    behind = [name for name in BEHIND if name in sides and sides[name].references]
    outputs = asked.whole_classes and not behind
    if references < ENOUGH:
        many = "one retrained model shows"
        many = many if references == 1 else f"{references} retrained models show"
        return CANNOT_TELL, f"as near as {many}{f', but {ALONE}' if outputs else ''}"
    if outputs:
        return CANNOT_TELL, f"{ALONE} (--also linear_probe,relearn_time)"
    unsure = [one.beside for one in judged if not _inside(one)]
    if unsure:
        return CANNOT_TELL, f"{_joined(unsure)}: the intervals reach beyond the margins"
    names = ", ".join(one.name for one in judged)
    return WITHIN_MARGINS, f"{names} lie within their margins of {references} retrained models"


def _apart(side: _Side) -> bool:
    """Whether a value lies beyond its margin, chance or not; a backdoor that is gone never does."""
    if side.name == "relearn_time":
        return side.value > max(side.references) / RELEARN_SHARE
    if side.name not in MARGINS or side.name == "ASR":
        return False
    low, high = min(side.references) - side.margin, max(side.references) + side.margin
    return side.value < low or (side.value > high and side.name not in KEPT)


def _needed(side: _Side) -> bool:
    """Whether a score must be shown to lie within its margin: one that is made of all the retrained
    models. Attack success is judged before; what looks behind the outputs is only made when asked for.
    """
    return side.name in MARGINS and bool(side.references) and side.name not in ("ASR", *BEHIND)


def _inside(side: _Side) -> bool:
    """Whether the difference to the mean of retraining lies within the margin, with its 95 % interval:
    Student's over the retrained models, and Wilson's over the samples of this one.
    """
    mean, low, _ = student_interval(side.references)
    over = max(side.high - side.value, side.value - side.low)
    return abs(side.value - mean) + math.hypot(mean - low, over) <= side.margin


def _joined(texts: Sequence[str]) -> str:
    return "; ".join(texts)


def exact_model(seconds: float, retraining: float, where: str | None, method: str) -> str:
    """The hint to take the retrained model, where it was no great saving to do without; else empty.

    where: its folder; None where it lies in none.
    """
    if not (0 < retraining < CHEAP * seconds):
        return ""
    exact = "the retrained model is exact" if where is None else f"an exact model lies in {where}"
    return f"{exact}: use it; retraining took {retraining:.1f} s, {method} {seconds:.1f} s"
