"""Which audit catches which cheat, and how often audits sound at a model that really was retrained.

from expunge.testing.red_team import caught, red_team

frame = red_team(original, retrained_models, original.asked("class:3"), ["rmia"], shadows=bank.shadows)
print(caught(frame))
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from expunge.audits import chosen_audits, make_audit, there
from expunge.audits.base import Audit, Need
from expunge.audits.beside import NOTHING, FurtherModels
from expunge.audits.panel import Panel
from expunge.audits.scores import read_against
from expunge.audits.strength import choose_audits
from expunge.data.split import Split
from expunge.errors import ConfigError, ExpungeError
from expunge.place import HERE, Place
from expunge.scores.finding import Finding
from expunge.scores.joint import JudgedScore, found_together
from expunge.scores.score import Score
from expunge.scores.words import NOT_MEASURABLE, OUTSIDE, WITHIN, audit_word
from expunge.testing.cheats import CHEATS, Cheat
from expunge.trained.trained import Trained
from expunge.training.run import Run, accelerator_on

ORIGINAL, HELD_OUT = "original (nothing done)", "retrained (held out)"
TOGETHER = "together"
"""The row of what all audits that were made find together."""
CAUGHT, MISSED, CANNOT_TELL = "caught", "missed", "cannot tell"
"""What is said of a model and an audit: it found it outside, within, or neither."""

OF_THE_METHOD: frozenset[Need] = frozenset({"method", "siblings", "swapped"})
"""What audits need that look at a method and at other models which it made, never at the judged one."""


def red_team(
    original: Trained,
    retrained_models: Sequence[Trained],
    split: Split,
    audits: Sequence[str | Audit] = (),
    *,
    strengths: Sequence[str] = (),
    beside: FurtherModels = NOTHING,
    cheats: Mapping[str, Cheat] = CHEATS,
    seed: int = 0,
    place: Place = HERE,
    allow_code: bool,
) -> pd.DataFrame:
    """What the usual audits and some more find of every cheat.

    Args:
        original: the model that is to forget.
        retrained_models: two or more, from other seeds. The last one is held out: no audit sees it,
            cheats imitate it, and it is judged itself.
        split: what is to be forgotten, as `original.asked` gives it.
        audits: further ones, by name or as objects. Those that judge a method by other models than the
            one in question can find no cheat: they are left out, and `place` told.
        strengths: such as "standard": the audits of these that can be made, and a row for what they
            find together.
        beside: models of a bank and further ones, for audits that need them.
        cheats: name -> function that makes one.
        seed: of cheats and audits.
        place: device and progress.
        allow_code: whether an audit that is `module:Class` may be imported; False for names from a file.

    Returns:
        A row for each model and score with a finding, models being `ORIGINAL`, `HELD_OUT` and the
        cheats: model, audit (or `TOGETHER`, or a strength), score, value, reference, finding, why, p;
        and `joint`, the word for all that a strength found, in rows of these. A cheat that cannot be
        made of this request or model is left out.

    Raises:
        ConfigError: for fewer than two retrained models, or an audit that lacks something.
    """
    if len(retrained_models) < 2:
        raise ConfigError(
            f"{len(retrained_models)} retrained models; give two or more, of which the last is held out"
        )
    *known, held_out = retrained_models
    panel = bench(original, known, split, beside=beside, seed=seed, place=place)
    asked = _of_models(audits, place, allow_code=allow_code)
    chosen = audits_on(panel, asked, strengths, allow_code=allow_code)
    models = {ORIGINAL: original, HELD_OUT: held_out}
    for name, cheat in cheats.items():
        try:
            models[name] = cheat(original, held_out, split, seed=seed)
        except ExpungeError:
            continue
    rows: list[dict[str, Any]] = []
    for name, model in models.items():
        found = judged(panel.judging(model), chosen)
        rows += ({"model": name, **row} for row in told(found, panel, strengths))
    return pd.DataFrame(rows)


def bench(
    original: Trained,
    references: Sequence[Trained],
    split: Split,
    *,
    beside: FurtherModels = NOTHING,
    seed: int = 0,
    place: Place = HERE,
) -> Panel:
    """A panel whose subject is the original; `judging` puts another model in its place."""
    run = Run(
        names=("audit", seed),
        task=original.data.task,
        label="audit",
        progress=place.progress,
        accelerator=accelerator_on(place.device),
    )
    first, *others = references
    return Panel(
        original,
        split,
        run,
        original=original,
        retrained=first,
        others=tuple(others),
        seed=seed,
        **vars(beside),
    )


def audits_on(
    panel: Panel,
    audits: Sequence[str | Audit],
    strengths: Iterable[str] = (),
    *,
    allow_code: bool,
) -> list[Audit]:
    """The usual audits, some more, and those of strengths that can be made here."""
    wanted = [*audits, *(name for word in strengths for name in _names(panel, word))]
    return chosen_audits(wanted, beside=_there(panel), allow_code=allow_code)


def _of_models(
    audits: Sequence[str | Audit], place: Place, *, allow_code: bool
) -> list[str | Audit]:
    """Those that look at the judged model; `place` is told of others."""
    kept = []
    for one in audits:
        audit = make_audit(one, allow_code=allow_code) if isinstance(one, str) else one
        if audit.needs & OF_THE_METHOD:
            place.tell(f"left out: {audit.name} judges the method, by other models that it made")
        else:
            kept.append(one)
    return kept


def judged(panel: Panel, audits: Iterable[Audit]) -> list[JudgedScore]:
    """Every score with a finding; an audit that fails on this model cannot measure it."""
    found = []
    for audit in audits:
        try:
            scores = list(read_against(audit, panel))
        except ExpungeError as error:
            scores = [_failed(audit, str(error))]
        found += [JudgedScore(audit.name, audit.family, one) for one in scores if one.finding]
    return found


def told(
    found: Sequence[JudgedScore], panel: Panel, strengths: Iterable[str] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of one model, see `red_team`: of each score by itself, of all, and of each strength."""
    for one in found:
        score = one.score
        if score.finding is not None:
            known = {"score": score.name, "value": score.value, "reference": score.reference}
            yield {"audit": one.audit, **known, **_said(score.finding)}
    whole = panel.split.only_whole_classes(panel.subject.data)
    sets = {TOGETHER: found}
    for word in strengths:
        names = _names(panel, word)
        sets[word] = [one for one in found if one.audit in names]
    for word, own in sets.items():
        together = found_together(
            own,
            references=len(panel.references),
            margins=panel.margins,
            whole_classes=whole,
        )
        finding = Finding(audit_word(together.word), together.reason)
        known = {"score": "", "value": None, "reference": None, "joint": together.word}
        yield {"audit": word, **known, **_said(finding)}


def caught(frame: pd.DataFrame) -> pd.DataFrame:
    """Models as rows, audits and strengths as columns: `CAUGHT`, `MISSED` or `CANNOT_TELL`.

    frame: as `red_team` gives it. An audit caught a model if one of its scores lies outside.
    """
    found = frame.groupby(["model", "audit"], sort=False)["finding"]
    words = found.agg(lambda own: verdict(list(own)))
    models, audits = (frame[column].unique() for column in ("model", "audit"))
    return words.unstack("audit").reindex(index=models, columns=audits).fillna(CANNOT_TELL)


def verdict(words: Collection[str]) -> str:
    """One word for the findings of all of an audit's scores."""
    if OUTSIDE in words:
        return CAUGHT
    return MISSED if words and set(words) == {WITHIN} else CANNOT_TELL


def _there(panel: Panel) -> frozenset[Any]:
    """What there is of the judged model; whatever its method made besides tells of no cheat."""
    return there(panel.original, panel.retrained, FurtherModels(panel.shadows))


def _names(panel: Panel, strength: str) -> tuple[str, ...]:
    """Of a strength's audits, those that can be made."""
    whole = panel.split.only_whole_classes(panel.subject.data)
    return choose_audits(strength, _there(panel), whole_classes=whole).names


def _failed(audit: Audit, why: str) -> Score:
    """In place of the scores of an audit that failed."""
    info, finding = audit.info[0], Finding(NOT_MEASURABLE, why)
    return Score(info.name, float("nan"), 0, None, None, info.unit, info.target, finding=finding)


def _said(finding: Finding) -> dict[str, Any]:
    return {"finding": finding.word, "why": finding.why, "p": finding.p}
