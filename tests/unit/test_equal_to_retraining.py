"""What several models say of the method that made them, beside retrained ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from expunge.audits.equal_to_retraining import method_lines
from expunge.audits.panel import Panel
from expunge.scores.margins import STATED, Margins
from expunge.scores.score import Score
from expunge.scores.table import SCORES

UA, RA = np.random.default_rng(0).normal([[10.0], [99.0]], 0.3, (2, 12)).round(2).tolist()


@dataclass(frozen=True)
class Models:
    """In place of a panel: a model is the pair of its UA and RA."""

    subject: tuple[float, float]
    siblings: tuple[tuple[float, float], ...] = ()
    references: tuple[tuple[float, float], ...] = ()
    margins: Margins = STATED
    n: int = 900

    def judging(self, subject: tuple[float, float]) -> Models:
        return replace(self, subject=subject)


class Both:
    info = (SCORES["UA"], SCORES["RA"], SCORES["RTE"])

    def scores(self, panel: Models) -> Iterator[Score]:
        for name, value in zip(("UA", "RA"), panel.subject, strict=True):
            known = {"references": [one[name == "RA"] for one in panel.references]}
            yield Score(name, value, panel.n, None, None, "percent", "retrained", known)
        yield Score("RTE", 1.0, 1, None, None, "seconds", "low")


def lines(panel: Models) -> tuple[str, ...]:
    audit: Any = Both()
    return method_lines(list(audit.scores(panel)), [audit], cast(Panel, panel))


def test_equality_is_shown_and_the_rate_of_a_true_retraining_said() -> None:
    made = list(zip(UA, RA, strict=True))
    told, rate = lines(Models(made[0], tuple(made[1:6]), tuple(made[6:])))
    assert (
        told == "the method, 6 models beside 6 retrained ones (two one-sided tests): within UA, RA"
    )
    assert rate.startswith("with 6 models a side a true retraining passes all of 2 scores in ")
    lost = [(ua, ra - 9) for ua, ra in made]
    told, _ = lines(Models(lost[0], tuple(lost[1:6]), tuple(made[6:])))
    assert told.endswith("within UA; outside RA")
    fine = Margins({"UA": 0.001, "RA": 0.001})
    _, rate = lines(Models(made[0], tuple(made[1:6]), tuple(made[6:]), fine, n=20))
    assert " in 100 % of " in rate, "nothing is finer than a sample of 20"


@pytest.mark.parametrize(("siblings", "references"), [(3, 6), (5, 4), (0, 6)])
def test_few_models_say_nothing_of_a_method(siblings: int, references: int) -> None:
    made = list(zip(UA, RA, strict=True))
    few = Models(made[0], tuple(made[1 : 1 + siblings]), tuple(made[6 : 6 + references]))
    assert lines(few) == ()
