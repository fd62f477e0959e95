"""What an audit found of one model, read against what it finds of the original and retrained models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from expunge.scores.finding import (
    NO_LIMITS,
    NOT_MEASURABLE,
    OUTSIDE,
    UNDECIDED,
    WITHIN,
    Z95,
    Finding,
    compared,
)
from expunge.scores.info import ScoreInfo
from expunge.scores.margins import Margins
from expunge.scores.score import Score
from expunge.scores.statistics import mean_sd
from expunge.scores.table import NEAR_EMPTY
from expunge.scores.verdict import KEPT

if TYPE_CHECKING:
    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel
    from expunge.data.batch import Ids
    from expunge.trained.trained import Trained
    from expunge.training.recipe import Settings

T = TypeVar("T")


def of_others(
    audit: Settings, panel: Panel, find: Callable[[Trained], T]
) -> tuple[T | None, list[T]]:
    """What `find` gives of the original, None without one, and of each retrained model, the reference
    first. It is asked once for each, whoever is judged.
    """
    before = panel.original
    return (
        None if before is None else panel.once(audit, "original", partial(find, before)),
        [
            panel.once(audit, f"retrained {number}", partial(find, one))
            for number, one in enumerate(panel.references)
        ],
    )


def forget_of(panel: Panel, one: Trained) -> PartOutputs:
    """What one of a panel's models said of the forget set."""
    beside = None if one is panel.subject else panel.beside(one)
    return panel.forget() if beside is None else beside.forget()


def read_beside(
    score: Score,
    before: float | None,
    references: Sequence[float],
    info: ScoreInfo,
    margins: Margins,
    *,
    lower_is_nearer: bool = False,
    step: float | None = None,
    tests: int = 1,
    least: int = 1,
) -> Score:
    """The score with the original's value, the retrained models' and what is found against these.

    before: None where it is not known. margins: what does not matter, by score. lower_is_nearer: of
    distances, of which one below those between retrained models counts as one of these. step: what one
    sample, or pair of them, moves the value by, or more; by default of a share of n samples. tests: how
    many findings the audit has. least: retrained models without which nothing is decided, where samples
    do not show how far these differ. Nothing is found of fewer than 30 samples, without retrained
    models, or by a score without a margin. Nobody is within by a score that the original, which forgot
    nothing, has too, but for those of what was to stay.
    """
    detail = dict(score.detail)
    if before is not None:
        detail["original"] = before
    if len(references) > 1:
        detail["references"] = list(references)
    score = replace(
        score, detail=detail, reference=references[0] if references else score.reference
    )
    margin = margins.judging(info)
    if score.finding is not None or margin is None or not references:
        return score
    if score.n < NEAR_EMPTY:
        return replace(score, finding=too_few(score.n))
    if len(references) < least:
        why = f"{least} retrained models are needed, and there are {len(references)}"
        return replace(score, finding=Finding(UNDECIDED, why))
    percent = info.unit == "percent"
    if step is None:
        step = 100 / score.n if percent else 0.0
    found = partial(
        compared,
        references=references,
        margin=margin,
        error=standard_error(score),
        step=step,
        tests=tests,
        unit="points" if percent else info.unit,
        limits=info.limits or NO_LIMITS,
    )
    floor = mean_sd(references)[0] if lower_is_nearer else -math.inf
    finding = found(max(score.value, floor))
    if before is not None and score.name not in KEPT:
        finding = beyond_original(finding, found(before))
    return replace(score, finding=finding)


def beyond_original(finding: Finding, original: Finding) -> Finding:
    """The finding; what the original, which forgot nothing, passes too does not find a model within."""
    if finding.word != WITHIN or original.word == OUTSIDE:
        return finding
    return replace(finding, word=NOT_MEASURABLE, why="the original lies as near to retraining")


def beside_chance(panel: Panel, finding: Finding) -> Finding | None:
    """What is found of a share of the forget set that is known by chance alone, from samples like it.

    None beside retrained models: it is read against these then, for what was asked for may be harder or
    easier than what nobody saw. Without them that is left open, but for a request that was drawn.
    """
    if finding.word == NOT_MEASURABLE:
        return finding
    if panel.references:
        return None
    if panel.drawn:
        return finding
    why = f"{finding.why}; samples that were not drawn at random may differ by themselves"
    return replace(finding, word=UNDECIDED, why=why, decidable=False)


def standard_error(score: Score) -> float:
    """Of the value, by its interval; 0 without one."""
    if score.low is None or score.high is None:
        return 0.0
    return (score.high - score.low) / (2 * Z95)


def too_few(count: int) -> Finding:
    """What is found of a forget set that is nearly empty."""
    return Finding(NOT_MEASURABLE, f"{count} samples tell too little; {NEAR_EMPTY} are needed")


def not_measured(info: ScoreInfo, why: str) -> Score:
    """A score that could not be measured, and why, in a sentence without its full stop."""
    finding = Finding(NOT_MEASURABLE, why)
    return Score(info.name, math.nan, 0, None, None, info.unit, info.target, finding=finding)


def some_ids(ids: Ids | Sequence[str], most: int, *names: str | int) -> list[str]:
    """At most so many of the ids, in an order drawn by the names and the ids alone."""
    import numpy as np

    from expunge.data.keyed import hashes_of

    order = np.argsort(hashes_of(ids, *names), kind="stable")
    return [str(ids[place]) for place in order[:most].tolist()]
