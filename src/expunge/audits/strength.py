"""One word for a set of audits: those that fit the time and what is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from expunge.audits import AUDITS, Audit
from expunge.audits.base import Need
from expunge.audits.beside import NOTHING, FurtherModels
from expunge.audits.costs import AuditSizes, cost_lines, pass_seconds
from expunge.audits.equal_to_retraining import method_lines
from expunge.errors import ConfigError, LogitsError, nearest
from expunge.scores.finding import ENOUGH
from expunge.scores.joint import JudgedScore, found_together
from expunge.scores.margins import STATED, Margins
from expunge.trained.record import proved

if TYPE_CHECKING:
    from expunge.audits.panel import Panel
    from expunge.audits.scores import Scores
    from expunge.scores.score import Score

QUICK = ("quantile_mia", "zrf", "linear_probe")
STANDARD = (
    *QUICK,
    *(
        "rmia",
        "lira",
        "low_fpr",
        "near_copies",
        "neighbour_mia",
        "relearn_time",
        "relearn_held_out",
    ),
    *("activation_distance", "cka"),
)
THOROUGH = (
    *STANDARD,
    *("u_lira", "retrain_band", "klom_fixed", "challenge_epsilon", "swap"),
)
STRENGTHS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        word: tuple(name for name, audit in AUDITS.items() if audit.usual or name in names)
        for word, names in (("quick", QUICK), ("standard", STANDARD), ("thorough", THOROUGH))
    }
)
"""Word -> names of audits, the usual ones among them, in the order of the table of audits."""
SAYS: Mapping[str, str] = MappingProxyType(
    {
        "quick": "what one model alone allows, in seconds",
        "standard": "all that takes from seconds to a few minutes",
        "thorough": "also what makes many models forget, or needs many of them",
    }
)
WHOLE_CLASSES = frozenset({"neighbour_mia"})
"""Audits that are about whole classes alone."""
GIVE: Mapping[Need, str] = MappingProxyType(
    {
        "original": "needs the original; give it with --original DIR",
        "retrained": "needs a retrained model; give one with --retrained DIR (unlearn makes it: "
        "--with-reference)",
        "shadows": "needs a bank; make one with `expunge bank build ORIGINAL`",
        "method": "needs a bank that keeps weights, of the original of a model that a method made to "
        "forget",
        "siblings": "needs models that the method made from other seeds; give them with --sibling DIR",
        "swapped": "needs the original, with its recipe, of a model that a method made; give it with "
        "--original DIR",
    }
)
"""What to give for what an audit lacks."""


@dataclass(frozen=True, eq=False)
class Strength:
    """How hard an audit looks.

    Attributes:
        word: "quick", "standard" or "thorough": all audits of that word that fit what there is, and one
            sentence on what they find together; None: the usual audits, and no such sentence.
        margins: score -> the difference from retraining that does not matter, in the score's unit;
            `read_margins` of `expunge.scores.margins` reads a file of them.
        beside: models of a bank and others, for audits that look at more than the original and the
            retrained ones.
        seed: of the draws of attacks.

    Raises:
        ConfigError: for a word that there is not.
    """

    word: str | None = None
    _: KW_ONLY
    margins: Margins = STATED
    beside: FurtherModels = NOTHING
    seed: int = 0

    def __post_init__(self) -> None:
        if self.word is not None:
            check_strength(self.word)


@dataclass(frozen=True)
class Chosen:
    """What a strength chose. names: of audits. left_out: the others, and what to give for them."""

    strength: str = ""
    names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def check_strength(word: str) -> None:
    """Raise ConfigError for a word that there is not."""
    if word not in STRENGTHS:
        raise ConfigError(
            f"unknown strength {word!r}{nearest(word, STRENGTHS)}; there are: {', '.join(STRENGTHS)}"
        )


def choose_audits(word: str | None, beside: Collection[Need], *, whole_classes: bool) -> Chosen:
    """The audits of a strength that fit what there is; none of no strength.

    beside: what there is besides the model, as `there` says it. whole_classes: whether all samples of
    some classes are forgotten. Raises ConfigError for an unknown word.
    """
    if word is None:
        return Chosen()
    check_strength(word)
    lacks = {name: _lacks(AUDITS[name], beside, whole_classes) for name in STRENGTHS[word]}
    return Chosen(
        word,
        tuple(name for name, what in lacks.items() if not what),
        tuple(f"{name}: {what}" for name, what in lacks.items() if what),
    )


def _lacks(audit: type[Audit], beside: Collection[Need], whole_classes: bool) -> str:
    """What an audit needs that is not there, and what to give for it; empty where it fits."""
    if audit.name in WHOLE_CLASSES and not whole_classes:
        return "is about requests of whole classes"
    missing = [need for need in audit.needs - {"outputs", "model"} if need not in beside]
    return "; ".join(GIVE[need] for need in sorted(missing))


def score_chosen(
    panel: Panel,
    audits: Sequence[Audit],
    chosen: Chosen,
    asked: Collection[str],
    tell: Callable[[str], object],
) -> Scores:
    """As `score_panel`; of a strength the cost is told before, and what is found together after.

    asked: names of audits that somebody asked for besides. Raises as `score_panel` does.
    """
    from expunge.audits.scores import score_panel

    if not chosen.strength:
        return score_panel(panel, audits, asked)
    for line in strength_lines(panel, audits, chosen):
        tell(line)
    return judged_together(score_panel(panel, audits, asked), audits, chosen)


def strength_lines(panel: Panel, audits: Sequence[Audit], chosen: Chosen) -> Iterator[str]:
    """What each audit will cost, by a rate that is measured now; the sum; what cannot be found for want
    of retrained models; what was left out.
    """
    yield f"{chosen.strength}: {len(audits)} audits"
    with suppress(LogitsError):  # of a task without classes, which losses alone judge
        yield from cost_lines(audits, AuditSizes.of(panel), pass_seconds(panel))
    few = len(panel.references)
    if few < ENOUGH:
        given = "no retrained model" if not few else f"{few} retrained model{'s' * (few > 1)}"
        compared = "nothing is compared" if not few else "nothing can be found within"
        yield f"{given}: {compared}; {ENOUGH} are needed to say that a model forgot"
    yield from (f"left out: {line}" for line in chosen.left_out)


def judged_together(scores: Scores, audits: Sequence[Audit], chosen: Chosen) -> Scores:
    """The scores with what they say together, each with its finding as it stands among the others."""
    of = {info.name: one for one in audits for info in one.info}
    speak = [score for score in scores if score.name in of and _of_forgetting(score)]
    made = {of[score.name].name for score in scores if score.name in of}
    silent = [
        f"{name}: it has nothing to say here"
        for name in chosen.names
        if name not in made and not AUDITS[name].usual
    ]
    found = found_together(
        [JudgedScore(of[score.name].name, of[score.name].family, score) for score in speak],
        references=len(scores.panel.references),
        margins=scores.panel.margins,
        whole_classes=scores.asked.whole_classes,
        exact=proved(scores.panel.subject.history).startswith("exact"),
        left_out=(*chosen.left_out, *silent),
    )
    found = replace(found, method=method_lines(scores.scores, audits, scores.panel))
    own = {one.score.name: one.score for one in found.judged}
    return replace(scores, scores=[own.get(one.name, one) for one in scores], joint=found)


def _of_forgetting(score: Score) -> bool:
    """Whether a score says anything of forgetting; seconds do not."""
    return score.target == "retrained" or score.finding is not None
