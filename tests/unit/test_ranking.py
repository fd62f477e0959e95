"""Ranks of methods, and what tests show of them, against slow and obvious versions."""

from __future__ import annotations

import importlib
import itertools
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from expunge.scores.rows import FINDINGS_FILE, SETTING
from expunge.study.results import with_average_gap

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAN = math.nan


def opened(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module(name)
    for one in {"ranks", "ranking", "recorded"} - before:
        sys.modules.pop(one, None)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from opened("ranks", monkeypatch)


@pytest.fixture
def ranking(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from opened("ranking", monkeypatch)


def slow_ranks(values: list[float]) -> list[float]:
    """One plus those that are smaller, and half of the others that are equal."""
    seen = [math.inf if math.isnan(one) else one for one in values]
    return [
        1 + sum(other < one for other in seen) + (sum(other == one for other in seen) - 1) / 2
        for one in seen
    ]


def slow_holm(p: list[float], level: float) -> list[bool]:
    """Adjusted as in textbooks: each p times how many are left, never less than one before."""
    adjusted, largest = [0.0] * len(p), 0.0
    for place, at in enumerate(sorted(range(len(p)), key=lambda at: p[at])):
        largest = max(largest, min(1.0, (len(p) - place) * p[at]))
        adjusted[at] = largest
    return [one <= level for one in adjusted]


def slow_p(differences: list[float], least: float) -> float:
    """Of Student's t, by integrating its density."""
    n = len(differences)
    error = max(statistics.stdev(differences), least) / math.sqrt(n)
    t = abs(statistics.fmean(differences)) / error
    freedom = n - 1
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    x = np.linspace(0, t, 200_001)
    density = scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    return float(1 - 2 * np.trapezoid(density, x))


# --- ranks


def test_equal_gaps_share_their_rank_and_a_failed_method_comes_last(ranks: ModuleType) -> None:
    gaps = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, NAN], "c": [0.5, 3.0], "d": [7.0, NAN]})
    found = ranks.ranks_of(gaps)
    assert found.loc[0].tolist() == [2.5, 2.5, 1, 4]
    assert found.loc[1].tolist() == [1, 3.5, 2, 3.5]


def test_ranks_are_those_of_the_slow_version(ranks: ModuleType) -> None:
    drawn = np.random.default_rng(3).integers(0, 6, size=(40, 7)).astype(float)
    drawn[drawn == 5] = NAN
    found = ranks.ranks_of(pd.DataFrame(drawn))
    assert found.to_numpy().tolist() == [slow_ranks(row) for row in drawn.tolist()]


def test_a_rounding_error_breaks_no_tie(ranks: ModuleType) -> None:
    gaps = pd.DataFrame({"a": [0.1 + 0.2], "b": [0.3]})
    assert ranks.ranks_of(gaps).loc[0].tolist() == [1.5, 1.5]


def test_the_bootstrap_interval_holds_the_mean_and_is_that_of_all_draws(ranks: ModuleType) -> None:
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        rng.permuted(np.tile(np.arange(1.0, 6), (4, 1)), axis=1), columns=[*"abcde"]
    )
    ends = ranks.bootstrap(table)
    for name, own in table.items():
        low, high = ends[name]
        assert low <= own.mean() <= high
        every = [statistics.fmean(one) for one in itertools.product(own, repeat=len(own))]
        assert [low, high] == pytest.approx(np.quantile(every, [0.025, 0.975]), abs=0.26)
    assert ends.equals(ranks.bootstrap(table)), "draws are the same each time"
    assert ranks.bootstrap(table[:1]).isna().all(axis=None), "one seed tells no spread"


# --- comparisons


def test_words_are_those_of_paired_t_tests_by_holms_rule(ranks: ModuleType) -> None:
    rng = np.random.default_rng(0)
    centres = {"original": 5.0, "head_zeroed": 3.0, "floor": 0.2, "sisa": 1.0, "finetune": 4.0}
    centres |= {"near": 1.0, "same": 4.0, "maybe": 3.1, "far": 9.0}
    gaps = pd.DataFrame({name: at + 0.6 * rng.standard_normal(6) for name, at in centres.items()})
    gaps.loc[2, "near"] = NAN
    step = 0.3
    found = ranks.compared(gaps, step)
    others = {
        name: ["finetune", "original", "head_zeroed"] for name in ("near", "same", "maybe", "far")
    }
    pairs = [(one, of) for one, many in others.items() for of in many]
    pairs += [("finetune", "original"), ("finetune", "head_zeroed")]
    assert sorted(found) == sorted(pairs), "neither floor nor sisa is compared, nobody with itself"
    apart = {(one, of): (gaps[one] - gaps[of]).dropna().tolist() for one, of in found}
    assert len(apart["near", "original"]) == 5, "the seeds which both have"
    stands = slow_holm([slow_p(own, step) for own in apart.values()], 0.05)
    for (pair, own), stand in zip(apart.items(), stands, strict=True):
        mean = statistics.fmean(own)
        assert found[pair].mean == pytest.approx(mean)
        assert found[pair].low < mean < found[pair].high
        word = "undecided" if not stand else "nearer" if mean < 0 else "farther"
        assert found[pair].word == word, pair
    assert {one.word for one in found.values()} == {"nearer", "farther", "undecided"}
    alone = [pair for pair, own in apart.items() if slow_p(own, step) < 0.05]
    assert len(alone) > sum(stands), "Holm takes back what one test alone would say"


def test_one_seed_or_none_decides_nothing(ranks: ModuleType) -> None:
    gaps = pd.DataFrame({"original": [9.0, NAN], "finetune": [1.0, NAN], "a": [NAN, 1.0]})
    found = ranks.compared(gaps, 0.1)
    assert {one.word for one in found.values()} == {"undecided"}
    assert math.isnan(found["a", "original"].mean) and math.isnan(found["finetune", "original"].low)
    assert str(found["a", "original"]) == "–" and str(found["finetune", "original"]) == "-8.00"


def test_equal_differences_in_all_seeds_are_no_proof_below_one_sample(ranks: ModuleType) -> None:
    gaps = pd.DataFrame({"original": [1.0] * 3, "finetune": [0.9] * 3})
    assert ranks.compared(gaps, 0.2)["finetune", "original"].word == "undecided"
    assert ranks.compared(gaps, 0.001)["finetune", "original"].word == "nearer"


# --- over blocks


def test_the_critical_difference_is_that_of_demsar_2006(ranks: ModuleType) -> None:
    """Section 3.2.2 there: four classifiers, fourteen data sets."""
    assert ranks.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    for methods, q in {3: 2.343, 4: 2.569, 10: 3.164}.items():  # table 5 (a)
        expected = q * math.sqrt(methods * (methods + 1) / 60)
        assert ranks.critical_difference(methods, 10) == pytest.approx(expected, abs=0.002)


def test_fewer_than_five_blocks_give_none(ranks: ModuleType) -> None:
    assert [ranks.critical_difference(4, blocks) for blocks in range(1, 5)] == [None] * 4
    assert ranks.critical_difference(4, 5) and ranks.critical_difference(2, 5) is None


# --- from scores to the page

GAPS = {
    "original": 50.0,
    "floor": 0.5,
    "head_zeroed": 20.0,
    "finetune": 30.0,
    "good": 2.0,
    "sisa": 1.0,
}
"""By how much UA of each row is from retraining's, which is 100."""


def scores(scenario: str = "class", data: str = "digits", seeds: int = 4) -> pd.DataFrame:
    """As `results` has them; `breaks` failed at seed 1, and is otherwise the nearest."""
    made = []
    for seed, (method, gap) in itertools.product(
        range(seeds), {"retrain": 0.0, **GAPS, "breaks": 0.1}.items()
    ):
        common = dict(zip(SETTING, (data, "mlp", "quick", "dense", scenario), strict=True))
        common |= {"method": method, "seed": seed, "n": 1000, "cell": f"{method}{seed}"}
        if method == "breaks" and seed == 1:
            made.append({**common, "score": "failed", "value": NAN})
            continue
        made.append({**common, "score": "UA", "value": 100 - gap - (seed % 2) * bool(gap) / 10})
        made += [{**common, "score": name, "value": 90.0} for name in ("MIA", "RA", "TA")]
        if method != "original":
            made.append(
                {**common, "score": "RTE", "value": 8.0 if method == "retrain" else 2.0 + seed}
            )
    return with_average_gap(pd.DataFrame(made))


def findings(scenario: str = "class") -> pd.DataFrame:
    """Two scores of `good` at each seed, found together."""
    words = ["not forgotten", "cannot tell", "not forgotten", "not forgotten"]
    setting = dict(zip(SETTING, ("digits", "mlp", "quick", "dense", scenario), strict=True))
    lines = [
        {**setting, "method": "good", "seed": seed, "score": score, "together": word}
        for seed, word in enumerate(words)
        for score in ("zrf", "lira")
    ]
    return pd.DataFrame(lines, columns=[*FINDINGS_FILE])


NONE = pd.DataFrame(columns=[*FINDINGS_FILE])


def test_a_block_is_one_data_set_and_scenario(ranks: ModuleType) -> None:
    frame = pd.concat([scores(), scores("random:0.1"), scores(data="mnist")])
    blocks = [*ranks.blocks_of(frame, findings())]
    assert [one.name for one in blocks] == [
        "digits, one class",
        "digits, random 10%",
        "mnist, one class",
    ]
    assert [[*one.together.items()] for one in blocks[:2]] == [
        [("good", "not forgotten 3, cannot tell 1")],
        [],
    ]
    block = blocks[0]
    assert [*block.ranks] == ["finetune", "good", "breaks"], "neither sisa nor what is no method"
    assert block.ranks.loc[0].tolist() == [3, 2, 1] and block.ranks.loc[1].tolist() == [2, 1, 3]
    assert block.failed("breaks") == 1 and block.label("breaks") == "breaks†"
    assert block.gaps.loc[0, "good"] == pytest.approx(0.5) and block.step == 100 / 4000
    assert block.share["good"] == pytest.approx(3.5 / 8) and block.controls == [
        "head_zeroed",
        "original",
    ]
    assert block.is_shown("good") and not block.is_shown("finetune")
    assert block.beaten("breaks") == block.controls and not block.is_shown("breaks"), (
        "it failed once"
    )
    assert block.beaten("finetune") == ["original"]


def test_other_models_make_other_blocks(ranks: ModuleType) -> None:
    frame = pd.concat([scores(), scores().assign(model="cnn")])
    names = [one.name for one in ranks.blocks_of(frame, NONE)]
    assert names == ["digits, one class, mlp", "digits, one class, cnn"]
    with pytest.raises(SystemExit, match="the same row"):
        [*ranks.blocks_of(pd.concat([scores(), scores()]), NONE)]


def test_a_seed_that_a_method_lacks_is_not_ranked_and_is_told(ranking: ModuleType) -> None:
    frame = scores()
    frame = frame[(frame["method"] != "good") | (frame["seed"] != 3)]
    (block,) = ranking.blocks_of(frame, NONE)
    assert [*block.seeds] == [0, 1, 2] and len(block.ranks) == 3
    assert "3 seeds (1 more are not whole)" in ranking.page([block])


def test_the_page_says_what_is_shown_and_of_how_many_it_is_not(ranking: ModuleType) -> None:
    text = ranking.page([*ranking.blocks_of(scores(), findings())])
    assert "2 of the 3 methods are not shown to be nearer to retraining" in text
    assert "every control here (head_zeroed, original)" in text and "to be so: good.\n" in text
    rows = {
        line.split(" | ")[0].strip("| "): line
        for line in text.partition("## Over")[0].splitlines()
        if line[:2] == "| "
    }
    assert "| 1 of 4 |" in rows["breaks"] and rows["good"].endswith(
        "| not forgotten 3, cannot tell 1 |"
    )
    assert rows["sisa"].count("|") == rows["floor"].count("|") == 6
    assert "1 block, 3 methods: a critical difference wants five blocks" in text
    assert "audits together" not in ranking.page([*ranking.blocks_of(scores(), NONE)])


def test_five_blocks_have_a_critical_difference(ranking: ModuleType) -> None:
    frame = pd.concat(
        [scores(data=name) for name in ("digits", "mnist", "cifar10", "svhn", "faces")]
    )
    text = ranking.page([*ranking.blocks_of(frame, NONE)])
    assert (
        f"at 5 %: {ranking.critical_difference(3, 5):.2f}" in text and "Friedman's p over 5" in text
    )


def test_figures_are_drawn_with_a_panel_for_each_block(ranking: ModuleType, tmp_path: Path) -> None:
    blocks = [*ranking.blocks_of(pd.concat([scores(), scores("random:0.1")]), NONE)]
    ranks, costs = ranking.rank_figure(blocks), ranking.cost_figure(blocks)
    for figure in (ranks, costs):
        assert [axes.get_title() for axes in figure.axes] == [one.name for one in blocks]
        figure.savefig(tmp_path / "figure.png")
    names = [text.get_text() for text in ranks.axes[0].get_yticklabels()]
    assert names == ["finetune", "good", "breaks†"], "the nearest on top"
    written = {text.get_text() for text in costs.axes[0].texts}
    assert {"floor", "original", "good", "head_zeroed"} <= written and "sisa" not in written


def test_what_a_control_beats_is_not_on_the_front(ranking: ModuleType) -> None:
    (block,) = ranking.blocks_of(scores(), NONE)
    axes = ranking.canvas(4, 4).subplots()
    points, front = ranking.draw_costs(axes, block)
    control = points["head_zeroed"]
    beaten = {name for name, at in points.items() if at[0] >= control[0] and at[1] > control[1]}
    assert beaten and front and not beaten & {*front} and not {*front} & {*block.controls}
