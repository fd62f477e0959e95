"""What a gate finds of numbers: of a method by many models, and of one model by those of the method.

Nothing is trained here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from expunge.audits import AUDITS
from expunge.requests.gate_file import DrawKind, Gate
from expunge.scores.equivalence import PassRate, difference, equivalent, pass_rate
from expunge.scores.joint import OUTPUTS
from expunge.scores.statistics import mean_sd, student_quantile
from expunge.scores.table import SCORES
from expunge.scores.words import NOT_MEASURABLE, OUTSIDE, WITHIN, AuditWord, GateWord

TAIL = "retained_tail"
"""The 95th percentile of the loss on what is retained, in nats: what few samples pay."""
ROUNDING = 1e-9
_BEHIND = {info.name for one in AUDITS.values() if one.family != OUTPUTS for info in one.info}
Limits = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Measured:
    """What was measured of one model on its own forget set.

    values: score -> value, finite. counts: score -> samples that it is of. original: score -> value of
    the model before, on the same samples. word, reason: what all audits of the strength said together;
    empty where they were not asked. shadows, bank: number of the models of the bank that it was measured
    beside, and that bank's digest; 0 and empty: beside none.
    """

    values: Mapping[str, float]
    counts: Mapping[str, int] = field(default_factory=dict)
    original: Mapping[str, float] = field(default_factory=dict)
    word: str = ""
    reason: str = ""
    shadows: int = 0
    bank: str = ""

    def step(self, name: str) -> float:
        """How far one sample moves a score, in its unit; 0 where nobody can say."""
        percent = name in SCORES and SCORES[name].unit == "percent"
        return 100 / max(1, self.counts.get(name, 1)) if percent else 0.0

    @property
    def before(self) -> Measured:
        """The same of the original, as if it had been offered."""
        return Measured(self.original, self.counts)


@dataclass(frozen=True)
class ScoreLine:
    """One required score of a method beside retraining; differences and margin in points."""

    name: str
    margin: float
    apart: float
    low: float
    high: float
    word: AuditWord
    why: str


@dataclass(frozen=True)
class MethodVerdict:
    """What a qualification found.

    lines: of the required scores. original: the same of doing nothing. rate: how often a true
    retraining would pass, simulated; None where nobody can say. held_out: of how many retrained models
    how many lie inside what the others predict.
    """

    verdict: GateWord
    reason: str
    lines: tuple[ScoreLine, ...]
    original: tuple[ScoreLine, ...]
    rate: PassRate | None = None
    held_out: tuple[int, int] = (0, 0)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        rate = None if self.rate is None else round(self.rate.joint, 4)
        return {
            "reason": self.reason,
            "scores": {one.name: _plain(one) for one in self.lines},
            "original": {one.name: one.word for one in self.original},
            "pass_rate": rate,
            "held_out_inside": list(self.held_out),
        }


def _plain(line: ScoreLine) -> dict[str, Any]:
    numbers = {"apart": line.apart, "low": line.low, "high": line.high}
    return {
        "margin": line.margin,
        "word": line.word,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
    }


def judge_method(
    gate: Gate, kind: DrawKind, ours: Sequence[Measured], retrained: Sequence[Measured]
) -> MethodVerdict:
    """Whether a method equals retraining on every required score, by models of both.

    `invalid` where a required score could not be measured, or where doing nothing would pass: for whole
    classes already where the scores behind the outputs let it pass, for those of the outputs can be
    bought with the last layer alone.
    """
    required = gate.required(kind)
    lines = [_line(name, required[name], ours, retrained, gate.alpha) for name in required]
    nothing = [one.before for one in ours]
    original = [_line(name, required[name], nothing, retrained, gate.alpha) for name in required]
    telling = [one for one in original if kind == "random" or looks_behind(one.name)]
    rate, inside = None, 0
    if all(one.word != NOT_MEASURABLE for one in lines):
        values = {name: [one.values[name] for one in retrained] for name in required}
        rate = pass_rate(values, required, min(len(ours), len(retrained)), gate.alpha)
        inside = sum(
            not outside_limits(one, predicted(_without(retrained, n), required, gate.alpha))
            for n, one in enumerate(retrained)
        )
    verdict, reason = _verdict(lines, telling, kind)
    held_out = (inside, len(retrained))
    return MethodVerdict(verdict, reason, tuple(lines), tuple(original), rate, held_out)


def _verdict(
    lines: Sequence[ScoreLine], telling: Sequence[ScoreLine], kind: DrawKind
) -> tuple[GateWord, str]:
    named: dict[str, list[str]] = {}
    for one in lines:
        named.setdefault(one.word, []).append(one.name)
    told = {word: ", ".join(names) for word, names in named.items()}
    if NOT_MEASURABLE in told:
        return "invalid", f"{told[NOT_MEASURABLE]} could not be measured of every model"
    if all(one.word == WITHIN for one in telling):
        which = "that look behind the outputs " if kind == "class" else ""
        return "invalid", f"the scores {which}would let the original pass, which forgot nothing"
    if OUTSIDE in told:
        return (
            "not equivalent",
            f"shown to differ from retraining by more than the margin: {told[OUTSIDE]}",
        )
    if set(told) == {WITHIN}:
        return "equivalent", "every required score is shown to be within its margin of retraining"
    open_ = ", ".join(one.name for one in lines if one.word != WITHIN)
    return "undecided", f"neither shown to be within the margin nor beyond it: {open_}"


def looks_behind(name: str) -> bool:
    """Whether a score is of an audit that looks behind what a model says."""
    return name in _BEHIND


def _line(
    name: str,
    margin: float,
    ours: Sequence[Measured],
    retrained: Sequence[Measured],
    alpha: float,
) -> ScoreLine:
    own, theirs = ([one.values.get(name, math.nan) for one in side] for side in (ours, retrained))
    step = max((one.step(name) for one in (*ours, *retrained)), default=0.0)
    found = equivalent(own, theirs, margin, step=step, alpha=alpha)
    ends = (math.nan,) * 3 if found.word == NOT_MEASURABLE else difference(own, theirs, alpha)
    return ScoreLine(name, max(margin, step), *ends, found.word, found.why)


def predicted(
    retrained: Sequence[Measured], names: Sequence[str] | Mapping[str, float], alpha: float
) -> Limits:
    """Score -> where one more retrained model lies, with a chance of `alpha` that any of these scores
    of it does not: Student's t of k - 1 degrees, Bonferroni over the scores.

    Scores that some of the k, two or more, lack are left out. The spread counts as no less than what
    one sample does.
    """
    found = {}
    whole = [name for name in names if all(name in one.values for one in retrained)]
    k = len(retrained)
    for name in whole:
        mean, sd = mean_sd([one.values[name] for one in retrained])
        sd = max(sd, *(one.step(name) for one in retrained))
        t = student_quantile(1 - alpha / (2 * len(whole)), k - 1)
        half = t * sd * math.sqrt(1 + 1 / k) + ROUNDING
        found[name] = (mean - half, mean + half)
    return found


def outside_limits(one: Measured, within: Limits) -> list[str]:
    """The scores by which a model lies outside some limits, or which it lacks."""
    return [
        name
        for name, (low, high) in within.items()
        if not low <= one.values.get(name, math.nan) <= high
    ]


def _without(retrained: Sequence[Measured], place: int) -> list[Measured]:
    return [one for n, one in enumerate(retrained) if n != place]


@dataclass(frozen=True)
class Accepted:
    """What acceptance found of one model, and of its controls. outside: scores, each with its limits.
    shadows: models of the bank that both were measured beside; 0: none, and left_out says why, where
    there was one now or at the qualification.
    """

    verdict: GateWord
    reason: str
    outside: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    shadows: int = 0
    left_out: str = ""

    def plain(self) -> dict[str, Any]:
        """For JSON; of each score outside: value, low, high."""
        finite = {
            name: [one if math.isfinite(one) else None for one in three]
            for name, three in self.outside.items()
        }
        bank = {"shadows": self.shadows, "left_out": self.left_out}
        return {"reason": self.reason, "outside": finite, **bank}


def accept(
    gate: Gate,
    kind: DrawKind,
    shipped: Measured,
    control: Measured,
    retrained: Sequence[Measured],
) -> Accepted:
    """Whether one model is as those that its method was qualified by.

    shipped: the model that is offered. control: the first of the retrained models of the qualification,
    measured again now. retrained: all of them, as they were measured then.

    It must lie inside the prediction interval of every required score, and of every other score that
    the audits of the strength gave for all retrained models (each family at the gate's alpha), and the
    audits may not say that it forgot nothing or is damaged. A control that fails, or an original that
    passes, makes the gate invalid.
    """
    lacking = [name for name in gate.required(kind) if name not in shipped.values]
    if lacking:
        return Accepted("invalid", f"{', '.join(lacking)} could not be measured")
    failed = outside(gate, kind, control, retrained)
    if failed or refused(control):
        why = ", ".join(failed) or control.reason
        return Accepted(
            "invalid", f"the control, a retrained model of the qualification, fails ({why})"
        )
    original = outside(gate, kind, shipped.before, retrained)
    if not any(kind == "random" or looks_behind(name) for name in original):
        return Accepted("invalid", "the original would pass, so these checks cannot tell here")
    wrong = outside(gate, kind, shipped, retrained)
    if wrong:
        told = ", ".join(wrong)
        return Accepted("not equivalent", f"outside what retrained models predict: {told}", wrong)
    if refused(shipped):
        return Accepted("not equivalent", f"the audits say {shipped.word}: {shipped.reason}")
    return Accepted("equivalent", "inside what retrained models predict, on every score")


def outside(
    gate: Gate, kind: DrawKind, one: Measured, retrained: Sequence[Measured]
) -> dict[str, tuple[float, float, float]]:
    """Scores by which a model lies outside what retrained ones predict -> its value, and the limits.

    The required scores share the gate's alpha, and those that all of them have besides another such.
    """
    required = [name for name in gate.required(kind) if name in one.values]
    further = sorted(set(one.values) - set(required))
    found: dict[str, tuple[float, float, float]] = {}
    for names in (required, further):
        within = predicted(retrained, names, gate.alpha)
        found |= {name: (one.values[name], *within[name]) for name in outside_limits(one, within)}
    return found


REFUSED = ("not forgotten", "damaged", "told apart")


def refused(one: Measured) -> bool:
    """Whether the audits together tell against a model."""
    return one.word in REFUSED
