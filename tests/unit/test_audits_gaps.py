from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats

from expunge.errors import ConfigError
from expunge.scores.gaps import average_gap, beyond_floor, excess_gap, gap, own_gaps


def test_gap_is_of_the_means_not_the_mean_of_gaps() -> None:
    found = gap([4.0, 6.0], [6.0, 4.0])
    assert found.value == 0
    assert (found.method_mean, found.retrain_mean, found.n) == (5, 5, 2)
    assert gap([22.0, 23.0], [100.0]).value == 77.5


def test_average_gap_over_the_four_scores() -> None:
    # Fine-tuning, random 10 %, as Jia et al. (2023) print it: 1.42, 1.85, 3.39, 4.29 -> 2.74.
    method = {"UA": [6.83], "MIA": [14.97], "RA": [96.61], "TA": [90.13]}
    retrain = {"UA": [5.41], "MIA": [13.12], "RA": [100.0], "TA": [94.42]}
    found = average_gap(method, retrain)
    assert found.value == pytest.approx(2.7375)
    assert found.gaps["RA"].value == pytest.approx(3.39)
    assert average_gap(method, retrain, ["UA"]).value == pytest.approx(1.42)


def test_average_gap_names_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="missing: MIA, TA"):
        average_gap({"UA": [1.0], "RA": [1.0], "TA": [1.0]}, {"UA": [1.0], "RA": [1.0]})


def test_excess_gap_by_hand() -> None:
    method, retrain, floor = [7.0, 4.0, 6.0], [5.0, 5.0, 5.0], [5.5, 4.5, 5.0]
    differences = [2 - 0.5, 1 - 0.5, 1 - 0.0]
    half = stats.t.ppf(0.975, 2) * stats.tstd(differences) / math.sqrt(3)
    found = excess_gap(method, retrain, floor)
    assert found.value == pytest.approx(1.0)
    assert (found.low, found.high) == pytest.approx((1 - half, 1 + half))
    assert found.n == 3
    assert found.undecided


def test_the_floor_has_no_excess_and_is_undecided() -> None:
    found = excess_gap([5.5, 4.0], [5.0, 5.0], [5.5, 4.0])
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert found.undecided


def test_a_clear_excess_is_decided_and_one_seed_never() -> None:
    assert not excess_gap([9.0, 9.1, 9.2], [5.0] * 3, [5.1] * 3).undecided
    one = excess_gap([9.0], [5.0], [5.1])
    assert one.value == pytest.approx(3.9)
    assert math.isnan(one.low)
    assert one.undecided


def test_excess_gap_pairs_seeds() -> None:
    with pytest.raises(ConfigError, match="2 of the method, 1 of retraining, 2 of the floor"):
        excess_gap([1.0, 2.0], [1.0], [1.0, 2.0])
    with pytest.raises(ConfigError):
        excess_gap([], [], [])


def rows(names: list[object], **scores: list[float]) -> pd.DataFrame:
    return pd.DataFrame(scores, index=names)


def test_own_gaps_do_not_cancel_over_seeds() -> None:
    four = {"UA": [10.0, 30.0], "MIA": [0.0, 0.0], "RA": [4.0, 4.0], "TA": [0.0, 8.0]}
    target = {"UA": [20.0, 20.0], "MIA": [0.0, 0.0], "RA": [0.0, 0.0], "TA": [0.0, 0.0]}
    found = own_gaps(rows([0, 1], **four), rows([1, 0], **target))
    assert found.to_dict() == {0: 3.5, 1: 5.5}
    assert average_gap(four, target).value == 2.0, "that of the means: UA is 0 away"


def test_own_gaps_of_rows_that_share_a_name_and_of_missing_scores() -> None:
    """Several methods of one seed are compared with one retrained model."""
    four = {score: [1.0, 2.0, 3.0] for score in ("UA", "MIA", "RA", "TA")}
    target = {score: [0.0] for score in four}
    found = own_gaps(rows(["s", "s", "t"], **four), rows(["s"], **target))
    assert found.tolist()[:2] == [1.0, 2.0] and math.isnan(found.iloc[2])
    assert own_gaps(rows(["s"], UA=[1.0]), rows(["s"], **target)).isna().all()


def test_gaps_that_are_known_seed_by_seed_have_the_same_excess() -> None:
    method, retrain, floor = [5.0, 9.0, 4.0], [1.0, 2.0, 3.0], [1.5, 2.0, 2.0]
    apart = [[abs(x - r) for x, r in zip(one, retrain, strict=True)] for one in (method, floor)]
    assert beyond_floor(*apart) == excess_gap(method, retrain, floor)
