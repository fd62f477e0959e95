"""What several audits say together: the level that they share, the word, and the table."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from expunge.scores.finding import ALPHA, Finding, compared
from expunge.scores.joint import FORGOT, Joint, Judged, among_all, found_together, holm
from expunge.scores.joint_shown import by_family, joint_lines, joint_table
from expunge.scores.score import Score
from expunge.scores.shown import as_text
from expunge.scores.statistics import student_p, student_quantile
from expunge.scores.table import NO_VERDICT
from expunge.scores.words import (
    CANNOT_TELL,
    DAMAGED,
    NOT_FORGOTTEN,
    NOT_MEASURABLE,
    OUTSIDE,
    UNDECIDED,
    WITHIN,
    AuditWord,
)


def test_student_p_is_the_inverse_of_its_quantile() -> None:
    for freedom in (2.0, 7.0, float("inf")):
        for p in (0.5, 0.05, 1e-4):
            assert student_p(student_quantile(1 - p / 2, freedom), freedom) == pytest.approx(p)
            assert student_p(-student_quantile(1 - p / 2, freedom), freedom) == pytest.approx(p)


def by_hand(p_values: list[float]) -> list[bool]:
    """Holm as the closure of Bonferroni: a test rejects if every set of tests that holds it does."""
    m = len(p_values)
    sets = [s for r in range(1, m + 1) for s in itertools.combinations(range(m), r)]
    rejected = {s: min(p_values[n] for n in s) <= ALPHA / len(s) for s in sets}
    return [all(rejected[s] for s in sets if n in s) for n in range(m)]


def test_holm_is_the_closure_of_bonferroni() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        p_values = (generator.uniform(size=5) ** 4).tolist()
        assert holm(p_values) == by_hand(p_values)
    assert holm([]) == []
    assert holm([0.02, 0.03]) == [True, True], "Bonferroni alone would leave the second"


@pytest.mark.parametrize("shared", [0.0, 0.9], ids=["apart", "alike"])
def test_a_true_retraining_is_outside_in_any_with_a_chance_of_five_percent(shared: float) -> None:
    """Nine scores of 6 + 1 exchangeable models, and a margin that is no help."""
    generator = np.random.default_rng(1)
    runs, alarms, alone = 600, 0, 0
    for _ in range(runs):
        one = generator.normal(size=7)
        values = shared * one + (1 - shared**2) ** 0.5 * generator.normal(size=(9, 7))
        found = [compared(v[0], v[1:].tolist(), 1e-9) for v in values]
        alone += any(one.word == OUTSIDE for one in found)
        alarms += any(one.word == OUTSIDE for one in among_all(found))
    assert alarms / runs <= ALPHA + 2.6 * (ALPHA * (1 - ALPHA) / runs) ** 0.5
    assert alone > 2 * alarms, "each by itself would soon call a true retraining outside"


def test_what_chance_makes_among_many_is_undecided() -> None:
    weak, strong = Finding(OUTSIDE, "far", 0.04), Finding(OUTSIDE, "far", 1e-6)
    quiet = [Finding(WITHIN, "near", 0.6)] * 4
    assert [one.word for one in among_all([weak, *quiet])] == [UNDECIDED, *[WITHIN] * 4]
    assert among_all([weak])[0].word == OUTSIDE
    assert among_all([strong, *quiet])[0] is strong
    unknown = Finding(OUTSIDE, "a rule without a p")
    assert among_all([unknown, *quiet])[0].word == UNDECIDED
    assert among_all([unknown, Finding(NOT_MEASURABLE, "")])[0].word == OUTSIDE
    blunt = Finding(NOT_MEASURABLE, "the original lies as near", 0.7)
    assert among_all([unknown, blunt])[0].word == UNDECIDED, (
        "it might have been outside, and counts"
    )


def row(
    name: str,
    word: AuditWord | None,
    family: str = "outputs",
    value: float = 50.0,
    **detail: object,
) -> Judged:
    p = {OUTSIDE: 1e-9, WITHIN: 0.9, UNDECIDED: 0.3}.get(word or "")
    finding = None if word is None else Finding(word, "why", p)
    detail = {"original": 0.0, "references": [50.0, 50.0]} | detail
    score = Score(name, value, 100, 40, 60, "percent", "retrained", detail, 50.0, finding=finding)
    return Judged(name.lower(), family, score)


PROBE = row("probe", WITHIN, "representation")


@pytest.mark.parametrize(
    ("judged", "references", "classes", "word", "reason"),
    [
        ([row("UA", WITHIN), row("MIA", NOT_MEASURABLE)], 5, False, FORGOT, r"\(UA\)"),
        ([row("UA", WITHIN)], 5, True, CANNOT_TELL, "outputs alone"),
        ([row("UA", WITHIN), PROBE], 5, True, FORGOT, r"not \(UA, probe\)"),
        ([row("UA", OUTSIDE), PROBE], 5, True, NOT_FORGOTTEN, r"1 of 2 scores tells it .* \(UA\)"),
        ([row("UA", OUTSIDE), row("TA", OUTSIDE, value=9)], 5, True, NOT_FORGOTTEN, "2 of 2"),
        ([row("UA", WITHIN), row("TA", OUTSIDE, value=9)], 5, False, DAMAGED, r"\(TA\)"),
        ([row("TA", OUTSIDE, value=90)], 5, False, NOT_FORGOTTEN, r"\(TA\)"),
        ([row("UA", WITHIN), row("MIA", UNDECIDED)], 5, False, CANNOT_TELL, r"1 of 2 is undecided"),
        ([row("UA", UNDECIDED)], 1, False, CANNOT_TELL, "fewer than 5 retrained"),
        ([row("UA", None)], 0, False, CANNOT_TELL, "no retrained model"),
        ([row("UA", NOT_MEASURABLE)], 5, False, CANNOT_TELL, "finely enough"),
        ([row("UA", WITHIN, original=51.0)], 5, False, CANNOT_TELL, "tells the original"),
        ([row("UA", WITHIN, original=None)], 5, False, CANNOT_TELL, "not there"),
        ([row("UA", OUTSIDE, verdict=NO_VERDICT)], 5, False, CANNOT_TELL, "finely enough"),
    ],
)
def test_the_word_on_a_model(
    judged: list[Judged], references: int, classes: bool, word: str, reason: str
) -> None:
    found = found_together(judged, references=references, whole_classes=classes)
    assert found.word == word
    assert re.search(reason, found.reason), found.reason


def test_what_no_value_could_show_leaves_nothing_open() -> None:
    """With so few samples even a difference of 0 were undecided; one that is outside still is."""
    steps = dict(references=[0.0] * 6, margin=5, step=2.5)
    found = compared(0.0, **steps)
    assert (found.word, found.decidable) == (UNDECIDED, False)
    assert compared(40.0, **steps).word == OUTSIDE
    few = Judged("accuracy", "outputs", Score("TA_forget", 0, 40, 0, 9, "percent", "retrained"))
    few = Judged(few.audit, few.family, Score(**{**vars(few.score), "finding": found}))
    assert found_together([row("UA", WITHIN), few], references=6).word == FORGOT
    fine = compared(0.0, [0.0] * 6, 5, step=1)
    assert (fine.word, fine.decidable) == (WITHIN, True)


def test_one_table_by_family() -> None:
    judged = [row("relearn_time", None, "reversal"), row("UA", WITHIN), PROBE, row("MIA", OUTSIDE)]
    found = found_together(judged, references=5, left_out=["rmia: needs a bank"])
    assert [one.score.name for one in by_family(found)] == ["UA", "MIA", "probe", "relearn_time"]
    text = as_text([], last=[*joint_lines(found)], table=joint_table(found))
    assert "left out: rmia: needs a bank" in text
    assert "any of these 3 with a chance of 5 %" in text
    assert text.count("outputs") == 1
    plain = found.to_dict()
    assert plain["word"] == NOT_FORGOTTEN
    assert plain["families"]["probe"] == "representation"
    assert isinstance(found, Joint)
