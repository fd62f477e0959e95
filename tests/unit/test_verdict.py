"""The verdict on one deletion and on one cleansing: a table of cases, read by people who delete."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.scores.score import Score
from expunge.scores.statistics import wilson
from expunge.scores.table import NO_VERDICT
from expunge.scores.verdict import (
    CLEANSINGS,
    MARGINS,
    VERDICTS,
    Asked,
    PageVerdict,
    exact_model,
    stated_margins,
    verdict_of,
)
from expunge.scores.words import (
    CANNOT_TELL,
    CLEANSED,
    DAMAGED,
    NOT_CLEANSED,
    NOT_FORGOTTEN,
    WITHIN_MARGINS,
)

AS_RETRAINED = {"UA": 6.0, "MIA": 12.0, "RA": 99.0, "TA": 94.0}
UNTOUCHED = {"UA": 0.0, "MIA": 1.0, "RA": 99.0, "TA": 94.0}
"""Values of an original, which knows what it was trained on."""


def score(
    name: str, value: float, retrained: Any = None, before: float | None = None, n: int = 2_000
) -> Score:
    """retrained: one value, or those of several models."""
    steps = name == "relearn_time"
    low, high = (None, None) if steps else wilson(round(value * n / 100), n)
    several = list(retrained) if isinstance(retrained, list | tuple) else []
    detail = {"references": several} if several else {}
    return Score(
        name,
        value,
        n,
        None if low is None else 100 * low,
        None if high is None else 100 * high,
        "steps" if steps else "percent",
        "retrained",
        detail | ({} if before is None else {"original": before}),
        reference=several[0] if several else retrained,
    )


def judged(
    values: dict[str, float],
    retrained: dict[str, Any] | None = None,
    before: dict[str, float] = UNTOUCHED,
    n: int = 2_000,
    **asked: Any,
) -> PageVerdict:
    known = retrained or {}
    scores = [score(k, v, known.get(k), before.get(k), n) for k, v in values.items()]
    return verdict_of(scores, Asked(**{"samples": 500, **asked}))


def spread(by: float, models: int) -> dict[str, list[float]]:
    """Retrained models around AS_RETRAINED, `by` points apart."""
    middle = (models - 1) / 2
    return {k: [v + by * (i - middle) for i in range(models)] for k, v in AS_RETRAINED.items()}


CLASS = {"UA": 100.0, "MIA": 100.0, "RA": 99.0, "TA": 94.0, "TA_forget": 0.0}


@pytest.mark.parametrize(
    ("values", "retrained", "word", "says"),
    [
        (AS_RETRAINED, AS_RETRAINED, CANNOT_TELL, "as near as one retrained model shows"),
        (AS_RETRAINED, spread(0.2, 4), CANNOT_TELL, "as near as 4 retrained models show"),
        (AS_RETRAINED, spread(0.2, 5), WITHIN_MARGINS, "5 retrained models"),
        (AS_RETRAINED, spread(2.5, 5), CANNOT_TELL, "intervals reach beyond"),
        (AS_RETRAINED, None, CANNOT_TELL, "no retrained model"),
        ({"UA": 6.0, "RA": 99.0}, AS_RETRAINED, CANNOT_TELL, "MIA, TA cannot be compared"),
        # still known
        (UNTOUCHED, AS_RETRAINED, NOT_FORGOTTEN, "UA 0.0, of retraining 6.0"),
        (UNTOUCHED, spread(0.2, 5), NOT_FORGOTTEN, "MIA 1.0"),
        ({**AS_RETRAINED, "MIA": 3.0}, AS_RETRAINED, NOT_FORGOTTEN, "MIA 3.0, of retraining 12.0"),
        ({**CLASS, "TA_forget": 40.0}, CLASS, NOT_FORGOTTEN, "TA_forget 40.0"),
        ({**CLASS, "relearn_time": 8}, {**CLASS, "relearn_time": 60}, NOT_FORGOTTEN, "8 steps"),
        # what was to stay is lost, or too much of what was to go
        ({**AS_RETRAINED, "TA": 85.0}, AS_RETRAINED, DAMAGED, "TA 85.0, of retraining 94.0"),
        ({**AS_RETRAINED, "RA": 90.0}, spread(0.2, 5), DAMAGED, "RA 90.0"),
        ({**AS_RETRAINED, "UA": 60.0}, AS_RETRAINED, DAMAGED, "stands out as forgotten"),
        ({**AS_RETRAINED, "TA": 40.0}, None, DAMAGED, "TA 40.0, before 94.0"),
        # both: that the samples are known goes first
        ({**UNTOUCHED, "TA": 50.0}, AS_RETRAINED, NOT_FORGOTTEN, "UA 0.0"),
        # better than retraining is no damage; nearer than the margin is none either
        ({**AS_RETRAINED, "TA": 98.5}, AS_RETRAINED, CANNOT_TELL, "as near as one"),
        ({**AS_RETRAINED, "UA": 2.0}, AS_RETRAINED, CANNOT_TELL, "as near as one"),
    ],
)
def test_a_deletion(
    values: dict[str, float], retrained: dict[str, Any] | None, word: str, says: str
) -> None:
    found = judged(values, retrained)
    assert found.word == word and says in found.reason
    assert "\n" not in str(found)


def test_few_samples_measured_leave_room_for_chance() -> None:
    """12 points of 40 samples are no finding, and nearness is not claimed either."""
    found = judged({**AS_RETRAINED, "UA": 17.5}, AS_RETRAINED, n=40)
    assert found.word == CANNOT_TELL and "allows for chance" in found.reason


@pytest.mark.parametrize("retrained", [None, AS_RETRAINED, spread(0.2, 6)])
@pytest.mark.parametrize("values", [AS_RETRAINED, UNTOUCHED])
def test_under_thirty_samples_there_is_no_verdict(
    values: dict[str, float], retrained: dict[str, Any] | None
) -> None:
    found = judged(values, retrained, samples=29)
    assert (found.word, found.reason) == ("", NO_VERDICT)


@pytest.mark.parametrize("name", ["MIA", "TA", "TA_forget"])
@pytest.mark.parametrize("lost", [None, float("nan")])
def test_a_score_that_some_retrained_models_lack_lets_no_model_pass(
    name: str, lost: float | None
) -> None:
    exact: dict[str, Any] = {**spread(0.2, 6), "TA_forget": [40.0] * 6}
    values = {**AS_RETRAINED, "TA_forget": 40.0}
    whole = judged(values, exact)
    assert whole.word == WITHIN_MARGINS
    assert whole.reason.startswith("UA, MIA, RA, TA, TA_forget lie within"), "those, and no others"
    exact[name] = [lost, *exact[name][1:]]
    found = judged(values, exact)
    assert found.word == CANNOT_TELL
    assert found.reason == f"{name} is known of only 5 of 6 retrained models"


@pytest.mark.parametrize("models", [1, 2, 4])
def test_fewer_than_five_retrained_models_never_let_a_model_pass(models: int) -> None:
    found = judged(AS_RETRAINED, spread(0.0, models))
    assert found.word in set(VERDICTS) - {WITHIN_MARGINS} and found.references == models


def test_a_class_that_is_only_silenced_does_not_pass_by_outputs() -> None:
    """A zeroed row of the last layer has the outputs of five retrained models."""
    exact = {name: [value] * 5 for name, value in CLASS.items()}
    found = judged(CLASS, exact, whole_classes=True)
    assert found.word == CANNOT_TELL and "linear_probe" in found.reason
    behind = {**exact, "relearn_time": 60}
    assert judged({**CLASS, "relearn_time": 58}, behind, whole_classes=True).word == WITHIN_MARGINS
    assert judged({**CLASS, "relearn_time": 8}, behind, whole_classes=True).word == NOT_FORGOTTEN
    assert judged({**CLASS, "relearn_time": 300}, behind, whole_classes=True).word == CANNOT_TELL


def test_a_class_that_is_still_named_needs_no_retrained_model() -> None:
    found = judged({**CLASS, "UA": 30.0}, whole_classes=True)
    assert found.word == NOT_FORGOTTEN and "70.0 %" in found.reason
    assert judged({**CLASS, "UA": 30.0}).word == CANNOT_TELL


def test_a_retrained_model_is_the_yardstick_itself() -> None:
    assert judged(AS_RETRAINED, AS_RETRAINED, method="retrain").word == ""


BACKDOOR = {**UNTOUCHED, "ASR": 98.0, "SA": 95.0}
CLEAN = {**AS_RETRAINED, "ASR": 1.0, "SA": 95.0}
FIRING = {**CLEAN, "ASR": 98.0}
LEFT = "the retrained model has ASR 98.0 too: poison is left in the data"


@pytest.mark.parametrize(
    ("values", "retrained", "word", "says"),
    [
        # nothing else is looked at, however near the four scores are
        ({**AS_RETRAINED, "ASR": 98.0, "SA": 95.0}, CLEAN, NOT_CLEANSED, "works on 98.0 % now"),
        # part of the poison stays, so retraining keeps the backdoor, and is no yardstick
        ({**CLEAN, "ASR": 97.5}, FIRING, NOT_CLEANSED, f"works on 97.5 % now; {LEFT}"),
        (CLEAN, FIRING, CLEANSED, f"SA 95.0 before, 95.0 now; {LEFT}"),
        ({**CLEAN, "ASR": 30.0}, FIRING, CANNOT_TELL, LEFT),
        (CLEAN, {"ASR": [1.0, 97.0, 99.0]}, CLEANSED, "ASR 98.0 too (2 of 3 models)"),
        ({**CLEAN, "ASR": 60.0}, None, NOT_CLEANSED, "weakened: the trigger worked on 98.0 %"),
        ({**CLEAN, "ASR": 30.0}, CLEAN, NOT_CLEANSED, "but on 1.0 % after retraining"),
        ({**CLEAN, "ASR": 30.0}, None, CANNOT_TELL, "more often than mistakes explain (5.0 %)"),
        ({**CLEAN, "SA": 20.0}, None, DAMAGED, "accuracy is gone with it; SA 95.0 before, 20.0"),
        ({**CLEAN, "SA": 85.0}, CLEAN, CLEANSED, ", at a price; SA 95.0 before, 85.0 now"),
        (CLEAN, CLEAN, CLEANSED, "works on 1.0 % now; SA 95.0 before, 95.0 now"),
        (CLEAN, None, CLEANSED, "works on 1.0 % now"),
        (AS_RETRAINED, AS_RETRAINED, CANNOT_TELL, "attack success was not measured"),
    ],
)
@pytest.mark.parametrize("samples", [12, 500])
def test_a_cleansing_rests_on_the_trigger(
    values: dict[str, float], retrained: dict[str, Any] | None, word: str, says: str, samples: int
) -> None:
    """Attack success is measured on the test set, however few samples were to be forgotten."""
    found = judged(values, retrained, BACKDOOR, poison=True, samples=samples)
    assert (found.word, found.word in CLEANSINGS) == (word, True) and says in found.reason
    again = judged(values, retrained, BACKDOOR, poison=True, method="retrain")
    assert again.word == word, "retraining with poison left cleanses nothing"
    few = judged(values, retrained, BACKDOOR, n=12, poison=True)
    assert few.word == CANNOT_TELL
    assert "of only 12 test samples" in few.reason or "ASR" not in values


def test_poison_that_is_known_by_heart_is_a_warning_beside_a_cleansing() -> None:
    found = judged({**CLEAN, "UA": 0.0}, CLEAN, BACKDOOR, poison=True)
    assert found.word == CLEANSED
    assert any("samples themselves are still known: UA 0.0" in text for text in found.warnings)


def test_where_no_trigger_worked_there_is_nothing_to_cleanse() -> None:
    found = judged(CLEAN, CLEAN, {**BACKDOOR, "ASR": 20.0}, poison=True)
    assert found.word == CANNOT_TELL and "only 20.0 % before" in found.reason
    assert "see to the colour, size, place and margin of --trigger" in found.reason


def test_an_accuracy_beyond_the_interval_of_retraining_is_a_warning() -> None:
    """Whatever the word is: one point is no damage, and of 2,000 samples it is no chance."""
    (warning,) = judged({**AS_RETRAINED, "RA": 97.5}, AS_RETRAINED).warnings
    assert warning.startswith("RA fell to 97.5 (") and "interval of retraining" in warning
    assert not judged({**AS_RETRAINED, "RA": 97.5}, {**AS_RETRAINED, "RA": [99.0, 98.0]}).warnings
    (alone,) = judged({**AS_RETRAINED, "TA": 80.0}).warnings
    assert "interval of the original" in alone


def test_an_exact_model_that_cost_little_more_is_named() -> None:
    assert "an exact model lies in runs/exact: use it" in exact_model(2, 3, "runs/exact", "unsir")
    assert exact_model(2, 3, None, "unsir").startswith("the retrained model is exact: use it")
    assert exact_model(2, 4.1, "runs/exact", "unsir") == ""


def test_all_margins_are_stated() -> None:
    assert all(name in stated_margins() for name in MARGINS)
