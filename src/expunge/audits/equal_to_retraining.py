"""What is said of a method by several models that it made: whether they equal retrained ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.scores.equivalence import equivalent, pass_rate
from expunge.scores.finding import ENOUGH
from expunge.scores.table import AVERAGED

if TYPE_CHECKING:
    from expunge.audits.base import Audit
    from expunge.audits.panel import Panel
    from expunge.scores.score import Score

MOST = 16
"""Siblings that are looked at: each is asked about all samples."""


def method_lines(scores: Sequence[Score], audits: Sequence[Audit], panel: Panel) -> tuple[str, ...]:
    """Welch's two one-sided tests of the scores that must be equal, and how often a true retraining
    would pass all; nothing with fewer than ENOUGH models on a side.

    scores: those of the panel's subject, which is one of the models that the method made.
    """
    siblings = panel.siblings[:MOST]
    retrained = {one.name: one.retrained for one in scores if one.name in AVERAGED}
    k = len(panel.references)
    whole = {name for name, own in retrained.items() if len(own) == k}
    if len(siblings) + 1 < ENOUGH or k < ENOUGH or not whole:
        return ()
    ours = {one.name: [one.value] for one in scores if one.name in whole}
    steps = {one.name: 100 / max(1, one.n) for one in scores if one.name in whole}
    makers = [one for one in audits if whole & {info.name for info in one.info}]
    for sibling in siblings:
        beside = panel.judging(sibling)
        for score in (score for audit in makers for score in audit.scores(beside)):
            if score.name in whole:
                ours[score.name].append(score.value)
    # no margin is finer than one sample, for the test as for the rate of passing it
    margins = {name: max(panel.margins.of(name) or math.nan, steps[name]) for name in ours}
    words: dict[str, list[str]] = {}
    for name, values in ours.items():
        word = equivalent(values, retrained[name], margins[name]).word
        words.setdefault(word, []).append(name)
    told = "; ".join(f"{word} {', '.join(names)}" for word, names in words.items())
    n = min(len(siblings) + 1, k)
    rate = pass_rate({name: retrained[name] for name in ours}, margins, n)
    many = f"{len(siblings) + 1} models beside {k} retrained ones"
    return f"the method, {many} (two one-sided tests): {told}", str(rate)
