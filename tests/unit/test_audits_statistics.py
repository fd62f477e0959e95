from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from expunge.errors import ConfigError
from expunge.scores.statistics import mean_sd, paired_interval, student_interval, wilson

VALUES = st.lists(st.floats(-100, 100, allow_nan=False), min_size=2, max_size=20)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 9), (9, 9), (3, 10), (450, 4500)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_scipys(successes: int, n: int, confidence: float) -> None:
    theirs = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson(successes, n, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_is_exact_at_the_ends_and_knows_nothing_of_no_samples() -> None:
    assert wilson(0, 7)[0] == 0
    assert wilson(7, 7)[1] == 1
    assert wilson(0, 0) == (0, 1)


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_holds_the_share_inside_0_and_1(a: int, b: int) -> None:
    successes, n = min(a, b), max(a, b, 1)
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("successes", "n", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (1, 5, 1)])
def test_wilson_refuses_nonsense(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ConfigError):
        wilson(successes, n, confidence)


@given(VALUES)
def test_mean_sd_is_numpys(values: list[float]) -> None:
    assert mean_sd(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_student_interval_is_scipys(confidence: float) -> None:
    values = [93.1, 92.4, 95.0, 91.7]
    low, high = stats.t.interval(
        confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    assert student_interval(values, confidence) == pytest.approx((np.mean(values), low, high))


def test_one_value_has_a_mean_and_no_spread() -> None:
    assert mean_sd([4.0])[0] == 4
    assert math.isnan(mean_sd([4.0])[1])
    mean, low, high = student_interval([4.0])
    assert mean == 4
    assert math.isnan(low)
    assert math.isnan(high)


def test_paired_interval_is_the_paired_t_test() -> None:
    a, b = [3.0, 4.5, 5.0, 4.0], [2.5, 4.0, 5.5, 3.0]
    theirs = stats.ttest_rel(a, b).confidence_interval(0.95)
    mean, low, high = paired_interval(a, b)
    assert mean == pytest.approx(0.375)
    assert (low, high) == pytest.approx((theirs.low, theirs.high))


def test_pairing_needs_equal_numbers_and_a_mean_needs_a_value() -> None:
    with pytest.raises(ConfigError, match="2 and 1"):
        paired_interval([1.0, 2.0], [1.0])
    for call in (mean_sd, student_interval):
        with pytest.raises(ConfigError, match="none"):
            call([])
    with pytest.raises(ConfigError, match="confidence"):
        student_interval([1.0, 2.0], 0)
