"""What several audits say together: the level that they share, the word, and the table."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from expunge.cli.screen import PlainConsole
from expunge.scores.finding import ALPHA, Finding, compared
from expunge.scores.joint import (
    DIFFERS,
    EXACT,
    KNOWS,
    LOST,
    STANDS_OUT,
    Joint,
    JudgedScore,
    among_all,
    found_together,
    holm,
)
from expunge.scores.joint_shown import by_family, joint_grid, joint_lines, joint_table
from expunge.scores.score import Score
from expunge.scores.shown import as_text
from expunge.scores.statistics import student_p, student_quantile
from expunge.scores.table import NO_VERDICT
from expunge.scores.words import (
    CANNOT_TELL,
    DAMAGED,
    FORGOT,
    NOT_FORGOTTEN,
    NOT_MEASURABLE,
    OUTSIDE,
    TOLD_APART,
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
) -> JudgedScore:
    p = {OUTSIDE: 1e-9, WITHIN: 0.9, UNDECIDED: 0.3}.get(word or "")
    finding = None if word is None else Finding(word, "why", p)
    detail = {"original": 0.0, "references": [50.0, 50.0]} | detail
    score = Score(name, value, 100, 40, 60, "percent", "retrained", detail, 50.0, finding=finding)
    return JudgedScore(name.lower(), family, score)


PROBE = row("probe", WITHIN, "representation")
LOST_TA = row("TA", OUTSIDE, value=9)


@pytest.mark.parametrize(
    ("judged", "references", "classes", "word", "reason"),
    [
        ([row("UA", WITHIN), row("MIA", NOT_MEASURABLE)], 5, False, FORGOT, r"\(UA\)"),
        ([row("UA", WITHIN)], 5, True, CANNOT_TELL, "outputs alone"),
        ([row("UA", WITHIN), PROBE], 5, True, FORGOT, r"not \(UA, probe\)"),
        (
            [row("UA", OUTSIDE, value=9), PROBE],
            5,
            True,
            NOT_FORGOTTEN,
            r"1 of 2 scores tells .* \(UA\)",
        ),
        (
            [row("UA", OUTSIDE, value=9), LOST_TA],
            5,
            True,
            NOT_FORGOTTEN,
            rf"2 of 2.*{KNOWS}.*{LOST}",
        ),
        (
            [row("UA", OUTSIDE, value=90), LOST_TA],
            5,
            True,
            DAMAGED,
            rf"{LOST} .TA.; {STANDS_OUT} .UA",
        ),
        ([row("zrf", OUTSIDE, value=9)], 5, False, TOLD_APART, rf"{DIFFERS} \(zrf\)"),
        ([row("theirs", OUTSIDE, value=9)], 5, False, TOLD_APART, DIFFERS),
        ([row("lira", OUTSIDE, value=40)], 5, False, NOT_FORGOTTEN, KNOWS),
        ([row("lira", OUTSIDE, value=40, original=99.0)], 5, False, DAMAGED, STANDS_OUT),
        ([row("rmia", OUTSIDE, value=90), row("UA", OUTSIDE)], 5, False, NOT_FORGOTTEN, KNOWS),
        ([row("relearn_time", OUTSIDE, value=90)], 5, False, DAMAGED, STANDS_OUT),
        ([row("UA", WITHIN), LOST_TA], 5, False, DAMAGED, r"\(TA\)"),
        ([row("TA", OUTSIDE, value=90)], 5, False, TOLD_APART, r"\(TA\)"),
        ([row("UA", WITHIN), row("MIA", UNDECIDED)], 5, False, CANNOT_TELL, r"1 of 2 is undecided"),
        ([row("UA", UNDECIDED)], 1, False, CANNOT_TELL, "1 of 1 is undecided; give 5 retrained"),
        ([row("UA", None)], 0, False, CANNOT_TELL, "without a retrained model"),
        ([row("UA", NOT_MEASURABLE)], 5, False, CANNOT_TELL, "finely enough"),
        ([row("UA", WITHIN, original=51.0)], 5, False, CANNOT_TELL, "tells the original"),
        ([row("UA", WITHIN, original=None)], 5, False, CANNOT_TELL, "not there"),
        ([row("UA", OUTSIDE, verdict=NO_VERDICT)], 5, False, CANNOT_TELL, "finely enough"),
    ],
)
def test_the_word_on_a_model(
    judged: list[JudgedScore], references: int, classes: bool, word: str, reason: str
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
    few = JudgedScore(
        "accuracy", "outputs", Score("TA_forget", 0, 40, 0, 9, "percent", "retrained")
    )
    few = JudgedScore(few.audit, few.family, Score(**{**vars(few.score), "finding": found}))
    assert found_together([row("UA", WITHIN), few], references=6).word == FORGOT
    fine = compared(0.0, [0.0] * 6, 5, step=1)
    assert (fine.word, fine.decidable) == (WITHIN, True)


def test_one_table_by_family() -> None:
    judged = [row("relearn_time", None, "reversal"), row("UA", WITHIN), PROBE, row("MIA", OUTSIDE)]
    found = found_together(judged, references=5, left_out=["rmia: needs a bank"])
    assert [one.score.name for one in by_family(found)] == ["UA", "MIA", "probe", "relearn_time"]
    text = as_text([], last=[*joint_lines(found)], table=joint_table(found))
    assert "left out: rmia: needs a bank" in text
    assert "any of these 3 scores with a chance of about 5 %, if retrained models scatter" in text
    assert text.count("outputs") == 1
    plain = found.to_dict()
    assert plain["word"] == NOT_FORGOTTEN
    assert plain["families"]["probe"] == "representation"
    assert isinstance(found, Joint)


def test_the_level_is_said_with_what_it_rests_on() -> None:
    judged = [row("UA", WITHIN), row("MIA", OUTSIDE, value=9)]
    few, many = (" ".join(joint_lines(found_together(judged, references=k))) for k in (2, 3))
    assert "if retraining by itself strays no farther than the margins" in few
    assert "if retrained models scatter normally" in many
    bare = joint_lines(found_together([row("UA", None), row("MIA", None)], references=0))
    assert list(bare) == ["cannot tell: without a retrained model nothing is compared"]


def test_one_number_of_scores_is_said() -> None:
    """What cannot be within and might have been outside is one of the tests everywhere."""
    blunt = row("probe", NOT_MEASURABLE)
    blunt = JudgedScore(
        "probe",
        "outputs",
        replace(blunt.score, finding=Finding(NOT_MEASURABLE, "as near", 0.7)),
    )
    found = found_together([row("UA", OUTSIDE, value=9), blunt], references=5)
    assert found.tests == 2 and found.reason.startswith("1 of 2 scores tells")


def test_what_chance_may_do_is_said_by_name() -> None:
    weak = row("UA", OUTSIDE)
    weak = JudgedScore("a", "outputs", replace(weak.score, finding=Finding(OUTSIDE, "far", 0.04)))
    for references, more in ((3, "; give 5 retrained models"), (5, "")):
        found = found_together([weak, row("MIA", UNDECIDED)], references=references)
        assert found.word == CANNOT_TELL
        assert found.reason == f"1 score looks outside (UA), which chance may do among 2{more}"


def test_an_exact_method_that_is_told_apart_is_chance_or_a_fault() -> None:
    judged = [row("zrf", OUTSIDE)]
    assert EXACT in found_together(judged, references=5, exact=True).reason
    assert EXACT not in found_together(judged, references=5).reason
    assert EXACT not in found_together([row("UA", WITHIN)], references=5, exact=True).reason


def test_the_table_has_means_and_leaves_out_what_no_score_has() -> None:
    several = row("UA", WITHIN, references=[40.0, 60.0, 80.0])
    headers, rows = joint_grid(found_together([several], references=3))
    assert headers[4:6] == ["original", "retrained (mean of 3)"]
    assert rows[0][3:6] == ("50.00", "0.00", "60.00")
    alone = replace(several.score, finding=None, reference=None, detail={"original": 3.0})
    headers, _ = joint_grid(found_together([JudgedScore("a", "outputs", alone)], references=0))
    assert headers == ["looks at", "audit", "score", "value", "original"]


def test_the_table_says_where_one_more_retrained_model_would_lie() -> None:
    values = {"UA": 9.0, "TA": 50.0, "MIA": 50.0}
    judged = [row(name, OUTSIDE, value=value) for name, value in values.items()]
    for n, own in ((0, (40.0, 60.0)), (1, (40.0, 60.004))):
        finding = replace(judged[n].score.finding, interval=own, p=(1e-9, 0.4)[n])
        judged[n] = replace(judged[n], score=replace(judged[n].score, finding=finding))
    headers, rows = joint_grid(found_together(judged, references=3))
    column = [line[headers.index("one more retrain")] for line in rows]
    assert column == ["40.00 – 60.00 (beyond)", "40.00 – 60.00", "–"]
    headers, _ = joint_grid(found_together(judged[2:], references=3))
    assert "one more retrain" not in headers


@pytest.mark.parametrize(("width", "whole"), [(80, False), (100, False), (150, True)])
def test_a_narrow_line_has_room_for_what_was_found(width: int, whole: bool) -> None:
    spread = replace(PROBE.score.finding, interval=(40.0, 60.0))
    judged = [
        row("near_copies_accuracy", OUTSIDE, value=9),
        replace(PROBE, score=replace(PROBE.score, finding=spread)),
    ]
    table = joint_table(found_together(judged, references=6), width)
    screen = PlainConsole(file=io.StringIO(), width=width)
    screen.print(table)
    text = screen.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert all(
        one in text for one in ("near_copies_accuracy ", "outside", "representation", "(mean of 6)")
    )
    assert ("why" in text) == whole
    assert ("40.00 – 60.00" in text) == (width >= 100)
