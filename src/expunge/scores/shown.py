"""Scores as a table: on the screen by rich, or as plain text."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from expunge.names.text import clean
from expunge.scores.info import ScoreInfo
from expunge.scores.score import SIGNS, Censoring, Score
from expunge.scores.table import SCORES, score_info

TEXT_WIDTH = 160
"""Characters of a line of plain text."""


def scores_table(scores: Iterable[Score], info: Mapping[str, ScoreInfo] = SCORES) -> Table:
    """One row per score: value, 95 % interval, original, retrained, gap. info: what each is."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    columns = ("score", "value", "95 % interval", "n", "original", "retrained", "gap", "what it is")
    for name in columns:
        table.add_column(name, justify="left" if name in ("score", "what it is") else "right")
    for score in scores:
        known = info.get(score.name) or score_info(score.name, score.unit, score.target)
        interval = "–" if score.low is None else f"{score.low:.1f} to {score.high:.1f}"
        before = score.detail.get("original")
        apart = score.gap if score.target == "retrained" else None
        table.add_row(
            score.name,
            shown_value(score.value, score.unit, score.bound),
            interval,
            str(score.n),
            "–" if before is None else shown_value(before, score.unit),
            "n/a"
            if score.reference is None
            else shown_value(score.reference, score.unit, score.reference_bound),
            "n/a" if apart is None else shown_value(apart, "", score.gap_bound),
            known.measures,
        )
    return table


def shown_value(value: float, unit: str, bound: Censoring | None = None) -> str:
    """A value as tables have it, with the unit that is not percent; n/a where there is none."""
    if not math.isfinite(value):
        return "n/a"
    sign = SIGNS[bound]
    if unit == "steps":
        return f"{sign}{value:.0f} step{'' if value == 1 else 's'}"
    return f"{sign}{value:.1f} s" if unit == "seconds" else f"{sign}{value:z.2f}"


def as_text(
    scores: Sequence[Score],
    notes: Sequence[str] = (),
    info: Mapping[str, ScoreInfo] = SCORES,
    last: Sequence[str] = (),
    *,
    table: Table | None = None,
) -> str:
    """The table and what a number alone would hide, as plain text. table: in place of the usual one."""
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=TEXT_WIDTH,
        highlight=False,
        color_system=None,
        markup=False,
        emoji=False,
    )
    console.print(scores_table(scores, info) if table is None else table)
    for note in (*notes, *score_notes(scores), *last):
        console.print(note, soft_wrap=True)
    return clean("\n".join(line.rstrip() for line in buffer.getvalue().split("\n")).rstrip("\n"))


def taught_by(score: Score) -> int | None:
    """The number of samples of each side that a membership attack learned from; None of other scores."""
    return score.detail.get("m") if score.name.partition("-")[0] == "MIA" else None


def score_notes(scores: Iterable[Score]) -> list[str]:
    """What a number alone would hide."""
    notes = []
    scores = list(scores)
    attacks = {m: score.detail.get("of") for score in scores if (m := taught_by(score))}
    for m, there in attacks.items():
        drawn = f" of {there:,}" if there else ""
        notes.append(
            f"MIA: m = {m:,}{drawn} samples of each side taught the attack; compare values of equal m "
            "alone"
        )
    for score in scores:
        detail = score.detail
        if score.name == "relearn_time":
            for who, key in (("this model", ""), ("the retrained model", "retrained_")):
                if detail.get(f"{key}reached") is False:
                    steps, cap = detail[f"{key}steps"], detail["cap"]
                    broke = "" if steps == cap else ", where it diverged"
                    notes.append(
                        f"relearn_time: {who} had not relearned after {steps} steps{broke}, so it "
                        f"counts as one that needs {cap} or more"
                    )
        for who, other in detail.get("other_m", {}).items():
            notes.append(
                f"{score.name}: the attack on the {who} model learned from m = {other}, so its value "
                "does not compare and is left out"
            )
        if score.name == "probe" and not math.isfinite(score.value):
            notes.append(
                "probe: there are too few forgotten samples, or test samples of their classes, to learn "
                "from some and measure on others, or a trigger tells them apart"
            )
        if score.name == "AIN" and not math.isfinite(score.value):
            notes.append(
                "AIN is undefined: the retrained model needs no step, or neither of the two relearned"
            )
        if score.name == "weight_distance":
            notes.append(_of_distance(detail))
    return notes


def _of_distance(detail: Mapping[str, Any]) -> str:
    """How far a weight distance can be read."""
    paired, floor = detail.get("paired"), detail.get("floor")
    if paired == "none":
        return (
            "weight_distance: the retrained model began elsewhere, so this measures mostly the draw of "
            "initial weights; for another, unlearn with --with-reference --paired"
        )
    if paired == "order":
        return (
            "weight_distance: the retrained model began as the original did, but in other batches, so "
            "this measures these too; --with-reference --paired keeps the original's, unless "
            "something was forgotten before"
        )
    if paired != "batches":
        return (
            "weight_distance: nobody knows whether the retrained model began with the original's "
            "initial weights; if not, this measures mostly these"
        )
    if floor is None:
        return (
            "weight_distance: no floor was made, so nobody knows how much of this would be there with "
            "nothing forgotten"
        )
    return (
        f"weight_distance: its floor is {floor['relative']:.3g}: so far from the original ends its own "
        "training again, in other batches, with nothing forgotten"
    )
