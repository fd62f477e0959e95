"""One word for a set of audits: those that fit the time and what is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from expunge.audits import AUDITS, Audit
from expunge.audits.base import Need
from expunge.audits.costs import Sizes, cost_lines, pass_seconds
from expunge.errors import ConfigError, nearest
from expunge.scores.joint import Judged, joint

if TYPE_CHECKING:
    from expunge.audits.panel import Panel
    from expunge.audits.scores import Scores
    from expunge.scores.score import Score

QUICK = ("quantile_mia", "zrf", "linear_probe")
STANDARD = (
    *QUICK,
    *("rmia", "low_fpr", "near_copies", "neighbour_mia", "relearn_time", "relearn_held_out"),
    *("activation_distance", "cka"),
)
THOROUGH = (
    *STANDARD,
    *("lira", "u_lira", "retrain_band", "klom_fixed", "challenge_epsilon", "swap"),
)
STRENGTHS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        word: tuple(name for name, audit in AUDITS.items() if audit.usual or name in names)
        for word, names in (("quick", QUICK), ("standard", STANDARD), ("thorough", THOROUGH))
    }
)
"""Word -> names of audits, the usual ones among them, in the order of the table of audits.

quick: what one model alone allows, in seconds. standard: all that takes seconds to a few minutes.
thorough: also what makes many models forget, or needs many of them.
"""
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
    }
)
"""What to give for what an audit lacks."""


@dataclass(frozen=True)
class Chosen:
    """The audits of a strength that fit. left_out: the others, and what to give for them."""

    strength: str
    audits: tuple[Audit, ...]
    left_out: tuple[str, ...]

    def lines(self, panel: Panel) -> Iterator[str]:
        """What each audit will cost, by a rate that is measured now; the sum; what was left out."""
        from expunge.errors import LogitsError

        yield f"{self.strength}: {len(self.audits)} audits"
        try:
            rate = pass_seconds(panel)
        except LogitsError:  # of a task without classes, which losses alone judge
            return
        yield from cost_lines(self.audits, Sizes.of(panel), rate)
        yield from (f"left out: {line}" for line in self.left_out)


def check_strength(word: str) -> None:
    """Raise ConfigError for a word that there is not."""
    if word not in STRENGTHS:
        raise ConfigError(
            f"unknown strength {word!r}{nearest(word, STRENGTHS)}; there are: {', '.join(STRENGTHS)}"
        )


def choose(
    word: str,
    beside: Collection[Need],
    *,
    whole_classes: bool,
    also: Sequence[Audit] = (),
) -> Chosen:
    """The audits of a strength that fit what there is.

    beside: what there is besides the model, as `there` says it. whole_classes: whether all samples of
    some classes are forgotten. also: audits that were asked for by name, which take the place of those
    of their name. Raises ConfigError for an unknown word.
    """
    check_strength(word)
    asked = {one.name: one for one in also}
    audits, left_out = [], []
    for name in STRENGTHS[word]:
        lacks = _lacks(AUDITS[name], beside, whole_classes)
        if lacks and name not in asked:
            left_out.append(f"{name}: {lacks}")
        elif name not in asked:
            audits.append(AUDITS[name]())
    return Chosen(word, (*audits, *also), tuple(left_out))


def _lacks(audit: type[Audit], beside: Collection[Need], whole_classes: bool) -> str:
    """What an audit needs that is not there, and what to give for it; empty where it fits."""
    if audit.name in WHOLE_CLASSES and not whole_classes:
        return "is about requests of whole classes"
    missing = [need for need in audit.needs - {"outputs", "model"} if need not in beside]
    return "; ".join(GIVE.get(need, f"needs {need}") for need in sorted(missing))


def judged(scores: Scores, chosen: Chosen) -> Scores:
    """The scores with what they say together, each with its finding as it stands among the others."""
    of = {info.name: one for one in chosen.audits for info in one.info}
    silent = [
        f"{one.name}: has nothing to say of this model and request"
        for one in chosen.audits
        if not one.usual and not any(of.get(score.name) is one for score in scores)
    ]
    found = joint(
        (
            Judged(of[score.name].name, of[score.name].family, score)
            for score in scores
            if _speaks(score, of)
        ),
        references=len(scores.panel.references),
        whole_classes=scores.asked.whole_classes,
        left_out=(*chosen.left_out, *silent),
    )
    own = iter(found.judged)
    together = [next(own).score if _speaks(one, of) else one for one in scores]
    return replace(scores, scores=together, joint=found)


def _speaks(score: Score, of: Mapping[str, Audit]) -> bool:
    """Whether a score of these audits says anything of forgetting; seconds do not."""
    return score.name in of and (score.target == "retrained" or score.finding is not None)
