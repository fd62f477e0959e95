"""The scores of one model as a gate reads them, without a retrained model of the same forget set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from expunge.requests.gate_bank import GateBank
from expunge.requests.gate_file import MAKERS, DrawKind, Gate
from expunge.requests.judging import TAIL, Measured

if TYPE_CHECKING:
    from expunge.audits.base import Audit
    from expunge.audits.outputs import Outputs
    from expunge.place import Place
    from expunge.trained.trained import Trained

TAIL_SHARE = 0.95


def measured(
    model: Trained,
    original: Trained,
    gate: Gate,
    kind: DrawKind,
    *,
    deep: bool,
    bank: GateBank | None = None,
    place: Place,
) -> Measured:
    """Scores of a model on its own forget set.

    deep: all audits of the gate's strength that fit; else those of the required scores. bank: what
    needs one looks at it, RMIA at any strength. Costs in seconds are left out.
    """
    from expunge.api import audit
    from expunge.audits.beside import NOTHING, FurtherModels
    from expunge.audits.low_fpr import LowFpr
    from expunge.audits.rmia import Rmia
    from expunge.audits.strength import STRENGTHS, Strength

    word = gate.acceptance if deep else None
    made = STRENGTHS[gate.acceptance] if deep else ()
    also: list[str | Audit] = []
    also += sorted({MAKERS[name] for name in gate.required(kind)}.difference(made))
    also += [] if bank is None else [Rmia.name]
    # by the same score with a bank and without one, for it is compared with models of either
    also += [LowFpr(by="loss")] if LowFpr.name in made else []
    scores = audit(
        model,
        original=original,
        also=also,
        strength=Strength(
            word,
            margins=gate.margins,
            beside=NOTHING if bank is None else FurtherModels(shadows=bank.shadows),
        ),
        place=replace(place, tell=str),
        allow_code=place.allow_code,
    )
    told = [one for one in scores if one.target == "retrained" or one.finding is not None]
    before = {one.name: one.detail.get("original") for one in told}
    values = {one.name: one.value for one in told}
    if deep:
        values |= _tail(scores.panel.outputs)
        before |= _tail(scores.panel.original_outputs)
    joint = scores.joint
    return Measured(
        {name: float(value) for name, value in values.items() if math.isfinite(value)},
        {one.name: one.n for one in told},
        {
            name: float(one)
            for name, one in before.items()
            if one is not None and math.isfinite(one)
        },
        "" if joint is None else joint.word,
        "" if joint is None else joint.reason,
        *(() if bank is None else (len(bank.shadows), bank.digest)),
    )


def _tail(outputs: Outputs | None) -> dict[str, float]:
    """Of what is retained, where there is some."""
    part = None if outputs is None else outputs.retain
    if part is None or not part.n:
        return {}
    return {TAIL: float(part.losses.quantile(TAIL_SHARE))}


def to_plain(one: Measured) -> dict[str, Any]:
    """For JSON."""
    return {
        "values": dict(one.values),
        "counts": dict(one.counts),
        "original": dict(one.original),
        "word": one.word,
        "reason": one.reason,
        "shadows": one.shadows,
        "bank": one.bank,
    }


def from_plain(content: Mapping[str, Any]) -> Measured:
    """What `to_plain` made; earlier versions knew of no bank."""
    return Measured(**{name: content[name] for name in to_plain(Measured({})) if name in content})
