"""Which audit catches which cheat, and how often audits sound at a model that really was retrained.

from expunge.testing.red_team import caught, red_team

frame = red_team(original, retrained_models, original.asked("class:3"), ["rmia"], shadows=bank.shadows)
print(caught(frame))
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from expunge.audits import chosen_audits, there
from expunge.audits.base import Audit
from expunge.audits.panel import Panel
from expunge.audits.scores import read_against
from expunge.audits.shadows import Shadows
from expunge.data.split import Split
from expunge.errors import ConfigError, ExpungeError
from expunge.place import HERE, Place
from expunge.scores.finding import NOT_MEASURABLE, OUTSIDE, WITHIN, Finding
from expunge.testing.cheats import CHEATS, Cheat
from expunge.trained.trained import Trained
from expunge.training.run import Run, accelerator_on

ORIGINAL, HELD_OUT = "original (nothing done)", "retrained (held out)"
CAUGHT, MISSED, CANNOT_TELL = "caught", "missed", "cannot tell"
"""What is said of a model and an audit: it found it outside, within, or neither."""


def red_team(
    original: Trained,
    retrained_models: Sequence[Trained],
    split: Split,
    audits: Sequence[str | Audit] = (),
    *,
    shadows: Shadows | None = None,
    cheats: Mapping[str, Cheat] = CHEATS,
    seed: int = 0,
    place: Place = HERE,
    allow_code: bool = True,
) -> pd.DataFrame:
    """What the usual audits and some more find of every cheat.

    Args:
        original: the model that is to forget.
        retrained_models: two or more, from other seeds. The last one is held out: no audit sees it,
            cheats imitate it, and it is judged itself.
        split: what is to be forgotten, as `original.asked` gives it.
        audits: further ones, by name or as objects.
        shadows: models of a bank, for audits that need them.
        cheats: name -> function that makes one.
        seed: of cheats and audits.
        place: device and progress.
        allow_code: whether an audit that is `module:Class` may be imported; False for names from a file.

    Returns:
        A row for each model and score with a finding, models being `ORIGINAL`, `HELD_OUT` and the
        cheats: model, audit, score, value, reference, finding, why, p. A cheat that cannot be made of
        this request or model is left out.

    Raises ConfigError for fewer than two retrained models, or an audit that lacks something.
    """
    if len(retrained_models) < 2:
        raise ConfigError(
            f"{len(retrained_models)} retrained models; give two or more, of which the last is held out"
        )
    *known, held_out = retrained_models
    panel = bench(original, known, split, shadows=shadows, seed=seed, place=place)
    beside = there(original, panel.retrained, shadows)
    chosen = chosen_audits(audits, beside=beside, allow_code=allow_code)
    rows = [*judged(panel, chosen, ORIGINAL), *judged(panel.judging(held_out), chosen, HELD_OUT)]
    for name, cheat in cheats.items():
        try:
            made = cheat(original, held_out, split, seed=seed)
        except ExpungeError:
            continue
        rows += judged(panel.judging(made), chosen, name)
    return pd.DataFrame(rows)


def bench(
    original: Trained,
    references: Sequence[Trained],
    split: Split,
    *,
    shadows: Shadows | None = None,
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
        shadows=shadows,
    )


def judged(panel: Panel, audits: Sequence[Audit], model: str) -> Iterator[dict[str, Any]]:
    """The rows of one model, see `red_team`; an audit that fails on it cannot measure it.

    model: what it is called there.
    """
    for audit in audits:
        try:
            scores = list(read_against(audit, panel))
        except ExpungeError as error:
            yield _row(model, audit.name, "", Finding(NOT_MEASURABLE, str(error)))
            continue
        for one in scores:
            if one.finding is not None:
                known = {"value": one.value, "reference": one.reference}
                yield _row(model, audit.name, one.name, one.finding, **known)


def _row(
    model: str,
    audit: str,
    score: str,
    finding: Finding,
    value: float | None = None,
    reference: float | None = None,
) -> dict[str, Any]:
    return {
        "model": model,
        "audit": audit,
        "score": score,
        "value": value,
        "reference": reference,
        "finding": finding.word,
        "why": finding.why,
        "p": finding.p,
    }


def verdict(words: Collection[str]) -> str:
    """One word for the findings of all of an audit's scores: outside in one of them is caught."""
    if OUTSIDE in words:
        return CAUGHT
    return MISSED if words and set(words) == {WITHIN} else CANNOT_TELL


def caught(frame: pd.DataFrame) -> pd.DataFrame:
    """Models as rows, audits as columns: `CAUGHT`, `MISSED` or `CANNOT_TELL`.

    frame: as `red_team` gives it.
    """
    words = frame.groupby(["model", "audit"], sort=False)["finding"].agg(
        lambda found: verdict(list(found))
    )
    models, audits = (frame[column].unique() for column in ("model", "audit"))
    return words.unstack("audit").reindex(index=models, columns=audits).fillna(CANNOT_TELL)
