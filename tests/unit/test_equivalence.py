"""Equality that has to be shown: known rates of passing, reproduced by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from expunge.errors import ConfigError
from expunge.scores import equivalence
from expunge.scores.equivalence import (
    equivalent,
    pass_rate,
    passes,
)
from expunge.scores.finding import compared
from expunge.scores.statistics import left_out_band

MANY = 40_000


def sides(n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Of methods that many times have n runs a side, at so many standard deviations of retraining."""
    ours, retrained = np.random.default_rng(n).normal(size=(2, MANY, n))
    return ours + shift, retrained


@pytest.mark.parametrize(("n", "rate"), [(3, 0.31), (5, 0.77), (8, 0.96)])
def test_a_true_retraining_passes_at_the_known_rate(
    n: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equivalence, "ENOUGH", 2)
    assert passes(*sides(n, 0.0), 2.0).mean() == pytest.approx(rate, abs=0.015)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_a_method_at_the_margin_passes_as_seldom_as_stated(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equivalence, "ENOUGH", 2)
    ours, retrained = sides(n, 2.0)
    assert 0.03 <= passes(ours, retrained, 2.0).mean() <= 0.055
    if n == 3:  # where a test for a difference lets most through
        no_difference = stats.ttest_ind(ours, retrained, axis=1, equal_var=False).pvalue > 0.05
        assert no_difference.mean() == pytest.approx(0.63, abs=0.02)


def test_welch_is_that_of_scipy() -> None:
    generator = np.random.default_rng(3)
    ours, retrained = generator.normal(0.4, 1, 7), generator.normal(0, 3, 12)
    low = stats.ttest_ind(ours + 2, retrained, equal_var=False, alternative="greater").pvalue
    high = stats.ttest_ind(ours - 2, retrained, equal_var=False, alternative="less").pvalue
    found = equivalent(ours, retrained, 2.0)
    assert found.p == pytest.approx(max(low, high), rel=1e-9)
    interval = stats.ttest_ind(ours, retrained, equal_var=False).confidence_interval(0.9)
    assert f"interval {interval.low:.3g} to {interval.high:.3g}" in found.why


@pytest.mark.parametrize(
    ("ours", "retrained", "word", "why"),
    [
        ([5, 5.1, 4.9, 5, 5], [5, 5.2, 4.8, 5, 5], "within", "90 % interval"),
        ([9, 9.1, 8.9, 9, 9], [5, 5.2, 4.8, 5, 5], "outside", "+4 points"),
        ([1, 9, 3, 7, 5], [2, 8, 4, 6, 5], "undecided", "90 % interval"),
        ([5, 5, 5, 5], [5, 5, 5, 5], "undecided", "a decision takes 5"),
        ([5, 5, 5, 5, 5], [6, 6, 6, 6, 6], "within", "neither side varies"),
        ([0.1 + 0.2] * 5, [0.3] * 6, "within", "neither side varies"),
        ([5, 5, 5, 5, 5], [7, 7, 7, 7, 7], "outside", "neither side varies"),
        ([5, 5, 5, 5, 5], [5, 5.2, 4.8, 5, 5], "within", "90 % interval"),
        ([5, 5, 5, 5, math.nan], [5, 5, 5, 5, 5], "not measurable", "not finite"),
        ([], [5, 5, 5, 5, 5], "not measurable", "no value"),
    ],
)
def test_what_is_found(ours: list[float], retrained: list[float], word: str, why: str) -> None:
    found = equivalent(ours, retrained, 2.0)
    assert found.word == word and why in found.why


def test_a_margin_is_no_smaller_than_a_sample_and_above_0() -> None:
    assert equivalent([5] * 5, [7] * 5, 1.0, step=3.0).word == "within"
    with pytest.raises(ConfigError, match="lies above 0"):
        equivalent([5] * 5, [5] * 5, 0.0)


def test_one_more_retrained_model_lies_in_its_interval_as_often_as_stated() -> None:
    draws = np.random.default_rng(0).normal(size=(2_000, 6))
    found = [compared(row[5], row[:5].tolist(), 1.0) for row in draws]
    inside = [
        one.interval[0] <= row[5] <= one.interval[1] for one, row in zip(found, draws, strict=True)
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)
    assert inside == [not one.beyond for one in found]


def test_the_interval_and_the_band_stand_in_what_is_found() -> None:
    retrained = [96.0, 97.0, 99.5]
    found = compared(90.0, retrained, 2.0, step=0.5, tests=3, limits=(0.0, 100.0))
    half = stats.t.ppf(0.975, 2) * np.std(retrained, ddof=1) * math.sqrt(4 / 3)
    assert found.interval == pytest.approx((97.5 - half, 100.0)), "95 %, however many are tested"
    assert found.band == pytest.approx((96.0 - 98.25, 99.5 - 96.5))
    assert found.why.endswith("beyond the -2.25 to +3 among retrained ones") and not found.beyond
    assert "inside the -2.25 to +3" in compared(96.0, retrained, 2.0).why
    alike = compared(90.0, [97.0] * 3, 2.0, step=0.5)
    assert alike.interval == pytest.approx((97 - 2.4842, 97 + 2.4842), abs=1e-4), (
        "one sample's step"
    )
    assert alike.beyond and "beyond the +0 to +0" in alike.why
    few = compared(90.0, [96.0, 97.0], 2.0)
    assert (few.interval, few.band, few.beyond) == (None, None, False), "no spread to go by"


def test_the_band_of_those_left_out_by_a_loop() -> None:
    values = np.random.default_rng(1).normal(size=9)
    apart = [values[i] - np.delete(values, i).mean() for i in range(9)]
    assert left_out_band(values.tolist()) == pytest.approx((min(apart), max(apart)))
    with pytest.raises(ConfigError, match="three retrained models"):
        left_out_band([1.0, 2.0])


def test_the_joint_rate_of_a_true_retraining() -> None:
    generator = np.random.default_rng(2)
    law = generator.normal(size=(3, 400))
    law = (law - law.mean(axis=1, keepdims=True)) / law.std(axis=1, ddof=1, keepdims=True)
    apart = {name: row.tolist() for name, row in zip("abc", law, strict=True)}
    margins = dict.fromkeys("abc", 2.0)
    found = pass_rate(apart, margins, 5)
    assert found.single["a"] == pytest.approx(0.77, abs=0.03)
    assert found.joint == pytest.approx(0.77**3, abs=0.06), "three that have nothing in common"
    assert f"in {100 * found.joint:.0f} %" in str(found)
    same = pass_rate(dict.fromkeys("abc", apart["a"]), margins, 5)
    assert same.joint == pytest.approx(same.single["a"]), "three that are the same"
    assert pass_rate(apart, margins, 4).joint == 0, "too few can decide nothing"
    with pytest.raises(ConfigError, match=r"no margin of \['c'\]"):
        pass_rate(apart, {"a": 2.0, "b": 2.0}, 5)
