"""The table of scores, and that what it says is said nowhere else."""

from __future__ import annotations

import ast
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from expunge.errors import ConfigError
from expunge.scores.columns import MEANINGS
from expunge.scores.gaps import average_gap, beyond_floor, excess_gap, gap, own_gaps
from expunge.scores.info import GOALS
from expunge.scores.looks import Plan
from expunge.scores.rows import SAID, ordered_methods
from expunge.scores.sequential import adjusted, decide, power, rejected, simulated_findings
from expunge.scores.statistics import (
    equivalence_p_values,
    mean_sd,
    p_values,
    paired_interval,
    seeds_needed,
    student_interval,
    wilson,
)
from expunge.scores.table import (
    AVERAGED,
    CRITERIA,
    OF_AUDITS,
    SCORES,
    TRANSFERRED,
    USUAL,
    own_words,
    score_info,
    score_infos,
)

SRC = Path(__file__).resolve().parents[2] / "src"
ROOM = SRC / "expunge" / "scores"


def test_every_score_says_all_of_itself() -> None:
    for name, info in SCORES.items():
        assert name == info.name
        assert info.measures and info.paper and info.unit
        assert info.target in GOALS
        assert info.reads.endswith(".") and MEANINGS[name] == info.reads
        assert (info.unit == "percent") == (info.limits == (0, 100))
    assert all(SCORES[name].title for name in (*AVERAGED, "ASR", "SA")), "they are drawn"
    assert all(SCORES[name].decimals == 1 for name in USUAL if name != "RTE")


def test_each_kind_of_score_has_its_names() -> None:
    assert AVERAGED == ("UA", "MIA", "RA", "TA"), "the order in which tables print them"
    assert TRANSFERRED == ("linear_probe", "linear_probe_s", "full_finetune", "full_finetune_s")
    assert CRITERIA == ("mask_overlap", "mask_overlap_floor", "mask_s")
    assert set(SCORES) == {*OF_AUDITS, *TRANSFERRED, *CRITERIA}
    assert not set(OF_AUDITS) & {*TRANSFERRED, *CRITERIA}, "not every study has these"


def test_a_score_of_somebody_elses_is_what_it_says() -> None:
    info = score_info("speed", "images/s", "high")
    assert (info.name, info.unit, info.target, info.limits) == ("speed", "images/s", "high", None)
    assert info.reads == "A score of another package, in images/s. High is good."
    assert info.measures == "in images/s; high is good"
    assert score_info("share", "percent").limits == (0, 100)
    assert score_info("share", "percent").reads == "A score of another package, in percent."
    silent = score_info("speed")
    assert (silent.reads, silent.measures, silent.target) == ("", "", "retrained")
    assert score_info("UA", "bits", "low") is SCORES["UA"], "the table knows better"
    with pytest.raises(ConfigError, match="'speed' has the target 'fast'; there are: retrained"):
        score_info("speed", "images/s", "fast")


def test_frames_say_what_their_scores_are() -> None:
    frame = pd.DataFrame({"score": ["speed", "UA", "failed", "speed", "odd"]})
    assert list(score_infos(frame)) == ["speed", "UA", "odd"]
    assert score_infos(frame)["speed"].unit == ""
    frame["unit"] = [np.nan, None, None, "images/s", None]
    frame["target"] = [None, None, None, "high", np.nan]
    infos = score_infos(frame)
    assert (infos["speed"].unit, infos["speed"].target) == ("images/s", "high")
    assert infos["UA"] is SCORES["UA"] and infos["odd"].unit == ""
    assert score_infos(frame.iloc[:0]) == {}
    assert own_words("UA", "percent", "retrained") == {}
    assert list(own_words("speed", "images/s", "high")) == list(SAID)


def test_yardsticks_come_first() -> None:
    assert ordered_methods(["b", "floor", "a", "b", "original"]) == ["original", "floor", "b", "a"]


def test_the_room_loads_nothing_heavy() -> None:
    """`expunge list` and every mistake read it."""
    modules = ", ".join(f"expunge.scores.{file.stem}" for file in ROOM.glob("[a-z]*.py"))
    heavy = "{'torch', 'numpy', 'pandas', 'scipy', 'sklearn', 'matplotlib'}"
    code = f"import {modules}, sys; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


HOME = {
    "AVERAGED",
    "USUAL",
    "YARDSTICKS",
    "SETTING",
    "TRANSFERRED",
    "CRITERIA",
    "average_gap",
    "excess_gap",
    "own_gaps",
    "student_interval",
}


def made_in(source: str) -> set[str]:
    """The names that a module gives a value to, or that are functions of it."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in [*targets, *([node.target] if isinstance(node, ast.AnnAssign) else [])]:
            found |= {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}
    return found


def test_what_a_score_is_stands_in_one_place() -> None:
    """The average gap stood four times, Student's interval twice, the names of settings twice."""
    homes: dict[str, list[str]] = {}
    for file in SRC.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for name in made_in(text) & HOME:
            homes.setdefault(name, []).append(file.name)
        if "stdtrit" in text:
            homes.setdefault("Student's quantile", []).append(file.name)
    assert {name: len(files) for name, files in homes.items()} == dict.fromkeys(homes, 1)
    assert set(homes) == {*HOME, "Student's quantile"}
    inside = {file.name for file in ROOM.glob("*.py")}
    assert {file for files in homes.values() for file in files} <= inside


# --- audits gaps


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


# --- audits statistics


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


# --- p values, Holm, looks


def test_p_values_are_scipys() -> None:
    rows = np.random.default_rng(0).normal(0.3, 1.0, (5, 7))
    assert p_values(rows) == pytest.approx(stats.ttest_1samp(rows, 0, axis=1).pvalue)
    margin = 0.8
    upper = stats.ttest_1samp(rows, margin, axis=1, alternative="less").pvalue
    lower = stats.ttest_1samp(rows, -margin, axis=1, alternative="greater").pvalue
    assert equivalence_p_values(rows, margin) == pytest.approx(np.maximum(upper, lower))


def test_without_any_spread_the_difference_decides() -> None:
    rows = np.array([[0.0] * 5, [0.3] * 5, [2.0] * 5])
    assert p_values(rows).tolist() == [1.0, 0.0, 0.0]
    assert equivalence_p_values(rows, 1.0).tolist() == [0.0, 0.0, 1.0]


def test_five_equal_shares_of_few_samples_have_a_spread() -> None:
    """They go in steps: five times one sample more is no proof, and no difference of 0 is one either.

    Differences of -1 and 1 with equal chance: without a least spread, 6 % of five seeds are "found".
    """
    step = 1.0
    rows = np.random.default_rng(0).choice([-step, step], (4000, 5))
    assert (p_values(rows) <= 0.05).mean() > 0.055
    assert (p_values(rows, least=step) <= 0.05).mean() == 0
    assert equivalence_p_values(np.zeros((1, 5)), 1.0, least=10.0)[0] > 0.05
    mean, low, high = student_interval([2.0] * 5, least=1.0)
    half = stats.t.ppf(0.975, 4) / math.sqrt(5)
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half))


def test_holm_by_hand() -> None:
    def holm(*p: float) -> list[float]:
        return [different for different, _ in adjusted([(one, math.nan) for one in p])]

    assert holm(0.01, 0.04, 0.03) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(0.5, 0.9) == pytest.approx([1.0, 1.0])
    known, missing = holm(0.01, math.nan)
    assert known == pytest.approx(0.02), "what is not known was asked all the same"
    assert math.isnan(missing)


def test_looks_spend_alpha_and_no_more() -> None:
    plan = Plan(20)
    assert plan.looks == (5, 7, 10, 14, 20)
    levels = plan.levels()
    assert sum(levels.values()) == pytest.approx(0.05)
    # Lan & DeMets' function of Pocock's type at a quarter of the seeds
    assert levels[5] == pytest.approx(0.05 * math.log(1 + (math.e - 1) / 4))
    assert Plan(5).levels() == {5: pytest.approx(0.05)}
    with pytest.raises(ConfigError, match="first look is at 5 seeds"):
        Plan(4)


def test_a_step_of_shaffers_by_hand() -> None:
    """Two claims with margins: two of four hypotheses can be true at once, until both of one fall."""
    assert rejected([(0.02, 0.9), (0.6, 0.7)], 0.05) == [(0, "difference")]
    assert rejected([(0.026, 0.9), (0.6, 0.7)], 0.05) == []
    # the second claim's own hypothesis still stands, so nothing is gained for the first
    assert rejected([(0.04, 0.9), (0.01, 0.7)], 0.05) == [(1, "difference")]
    # without margins it is Holm's: one left, level for one
    assert rejected([(0.04, math.nan), (0.01, math.nan)], 0.05) == [
        (1, "difference"),
        (0, "difference"),
    ]
    # a claim that cannot be judged counts in the family
    assert rejected([(0.04, math.nan), (math.nan, math.nan)], 0.05) == []


@pytest.mark.parametrize(("claims", "seeds"), [(1, 12), (9, 20)])
def test_looking_often_does_not_find_what_is_not_there(claims: int, seeds: int) -> None:
    plan = Plan(seeds)
    assert simulated_findings(plan, claims) <= 0.055
    assert simulated_findings(plan, claims, margin=1.0, shift=1.0) <= 0.055
    # what looking often does without a boundary: each look at the whole level
    drawn = np.random.default_rng(0).standard_normal((2000, claims, seeds))
    naive = np.zeros(2000, dtype=bool)
    for look in plan.looks:
        naive |= (p_values(drawn[:, :, :look].reshape(-1, look)) <= 0.05).reshape(-1, claims).any(1)
    assert naive.mean() > 0.1


def test_the_fast_simulation_decides_as_the_looks_do() -> None:
    """Study by study, by `decide`, which a real study goes by."""
    plan, claims, studies = Plan(7), 3, 300
    drawn = np.random.default_rng(5).standard_normal((studies, claims, plan.max_seeds))

    def slow(margin: float | None) -> float:
        found = [decide(one.tolist(), [margin] * claims, plan, plan.max_seeds) for one in drawn]
        return float(
            np.mean([any(d and d.finding == "difference" for d in decided) for decided in found])
        )

    assert simulated_findings(plan, claims, studies=studies, seed=5) == pytest.approx(slow(None))
    more = simulated_findings(plan, claims, margin=1.0, studies=studies, seed=5)
    assert more >= slow(1.0), "an earlier look may have decided otherwise"


def test_a_decision_stays_and_says_at_which_look() -> None:
    plan = Plan(7)
    clear = [-5.0, -5.1, -4.9, -5.0, -5.2, 30.0, 30.0]
    (found,) = decide([clear], [None], plan, 7)
    assert found is not None and (found.finding, found.look) == ("difference", 5)
    assert found.mean == pytest.approx(-5.04)
    assert decide([clear], [None], plan, 4) == [None], "no look yet"
    # a seed that was lost later does not take it back; one that was lost before leaves it open
    (kept,) = decide([clear[:5]], [None], plan, 7)
    assert kept is not None
    assert decide([clear[:4]], [None], plan, 7) == [None]


def test_the_seeds_that_a_difference_needs() -> None:
    """Against scipy's noncentral t, which `seeds_needed` does not use."""

    def chance(n: int, effect: float, alpha: float) -> float:
        critical = stats.t.ppf(1 - alpha / 2, n - 1)
        return float(1 - stats.nct.cdf(critical, n - 1, effect * math.sqrt(n)))

    for sd, difference, alpha in ((3.0, 2.0, 0.05), (3.0, 2.0, 0.05 / 9), (1.0, 3.0, 0.05)):
        n = seeds_needed(sd, difference, alpha=alpha)
        assert n is not None
        assert chance(n, difference / sd, alpha) >= 0.8 > chance(n - 1, difference / sd, alpha)
    assert seeds_needed(1.0, 0.001) is None
    with pytest.raises(ConfigError, match="other than 0"):
        seeds_needed(1.0, 0.0)


def test_power_grows_with_the_difference() -> None:
    small, large = (power(Plan(10), 1.0, difference, 4) for difference in (0.5, 2.0))
    assert small.chance < 0.5 < 0.9 < large.chance
    assert large.seeds < small.seeds <= 10
