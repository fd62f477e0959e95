"""Results of a study as a frame and as tables, and its claims."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import CPU, cell_of_study
from scipy import stats

from expunge.api import train
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.models.mask import overlap
from expunge.pruning import make_pruner
from expunge.pruning.criteria import pruning_criteria
from expunge.pruning.original import mask_in_other_order
from expunge.report.data_files import to_csv
from expunge.report.further import further_grid
from expunge.report.latex import to_latex
from expunge.report.markdown import further_markdown
from expunge.report.score_tables import score_tables
from expunge.report.sections import sections
from expunge.report.tables import papers_table
from expunge.scores.statistics import paired_interval
from expunge.scores.table import AVERAGED
from expunge.study.cells import Row
from expunge.study.claims import parse_claim
from expunge.study.launch import planned, run_study
from expunge.study.page import study_report
from expunge.study.results import for_tables, results, with_average_gap
from expunge.study.schema import Study
from expunge.study.store import CellStore
from expunge.study.verdicts import judge, sentence
from expunge.training.recipe import Recipe


def long(values: dict[tuple[str, str, int], float], score: str = "UA") -> pd.DataFrame:
    """(density, method, seed) -> value of one score."""
    rows = [
        {
            "data": "d",
            "model": "m",
            "recipe": "r",
            "density": density,
            "scenario": "class",
            "method": method,
            "seed": seed,
            "score": score,
            "value": value,
        }
        for (density, method, seed), value in values.items()
    ]
    return pd.DataFrame(rows)


def test_the_average_gap_by_hand() -> None:
    target = {"UA": 100.0, "MIA": 90.0, "RA": 99.0, "TA": 95.0}
    mine = {"UA": 80.0, "MIA": 100.0, "RA": 98.0, "TA": 96.0}
    frames = [
        long({("dense", name, 3): values[score]}, score)
        for name, values in (("retrain", target), ("finetune", mine))
        for score in values
    ]
    whole = with_average_gap(pd.concat(frames))
    found = whole[whole["score"] == "average gap"]
    assert found[["method", "seed"]].to_numpy().tolist() == [["finetune", 3]]
    assert found["value"].item() == pytest.approx((20 + 10 + 1 + 1) / 4)


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [
        ([1.0, 2.0, 3.0], [4.0, 5.5, 6.0], "holds"),
        ([4.0, 5.5, 6.0], [1.0, 2.0, 3.0], "fails"),
        ([1.0, 5.0, 3.0], [4.0, 2.0, 3.5], "undecided"),
        ([1.0], [4.0], "undecided"),
    ],
)
def test_claims_are_decided_by_paired_differences(
    left: list[float], right: list[float], verdict: str
) -> None:
    frame = long(
        {("95 % omp", "finetune", seed): value for seed, value in enumerate(left)}
        | {
            ("dense", "finetune", 2 - seed): right[2 - seed]
            for seed in range(len(right))
            if len(right) == 3
        }
        | ({("dense", "finetune", 0): right[0]} if len(right) == 1 else {})
    )
    found = judge(parse_claim("UA of finetune at sparsity 0.95 < at 0"), frame)
    assert found.verdict == verdict
    assert found.n == len(left)
    if len(left) > 1:
        mean, low, high = paired_interval(left, right)
        assert (found.difference, found.low, found.high) == pytest.approx((mean, low, high))
        assert f"{found.verdict}, difference" in sentence(found)
    else:
        assert "1 seed with both sides" in sentence(found)


def test_a_claim_about_what_is_not_there_says_so() -> None:
    frame = long({("dense", "finetune", 0): 1.0, ("dense", "finetune", 1): 1.0})
    found = judge(parse_claim("UA of finetune at density dense < at density 95 % omp"), frame)
    assert found.verdict == "undecided"
    assert "no UA of finetune density 95 % omp" in sentence(found)


def test_several_settings_count_once_per_seed() -> None:
    """Ten data sets are not ten seeds: the differences of a seed are averaged first."""
    parts = []
    generator = np.random.default_rng(0)
    for data in range(10):
        values = {("dense", m, s): float(generator.normal(s)) for m in ("a", "b") for s in (0, 1)}
        parts.append(long(values).assign(data=f"d{data}"))
    found = judge(parse_claim("UA of a < UA of b"), pd.concat(parts))
    assert found.n == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("UA of a", "compares nothing"),
        ("a < b < c", "compares nothing"),
        ("x < UA of b", "names no score"),
        ("UA of a < UA of a", "with itself"),
        ("UA of a at sparsty 0.9 < at 0", "did you mean 'sparsity'"),
        ("UA of a at sparsity < at 0", "has no value"),
    ],
)
def test_claims_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_claim(text)


def test_tables_name_what_differs() -> None:
    frame = pd.concat([long({("dense", "a", 0): 1.0}), long({("95 % omp", "a", 0): 1.0})])
    assert for_tables(frame)["scenario"].tolist() == ["one class, dense", "one class, 95 % omp"]
    random = frame.assign(scenario="random:0.25")
    assert for_tables(random)["scenario"].iloc[0] == "random 25%, dense"


# --- from cells to the table, by hand

SCORES: dict[str, list[dict[str, float]]] = {  # one dict a seed
    "retrain": [
        {"UA": 100.0, "MIA": 99.0, "RA": 98.0, "TA": 90.0},
        {"UA": 100.0, "MIA": 97.0, "RA": 99.0, "TA": 92.0},
        {"UA": 100.0, "MIA": 98.0, "RA": 97.0, "TA": 91.0},
    ],
    "floor": [
        {"UA": 100.0, "MIA": 98.0, "RA": 98.5, "TA": 90.5},
        {"UA": 100.0, "MIA": 97.0, "RA": 98.0, "TA": 91.0},
        {"UA": 100.0, "MIA": 100.0, "RA": 97.0, "TA": 93.0},
    ],
    "finetune": [
        {"UA": 60.0, "MIA": 79.0, "RA": 98.0, "TA": 91.0},
        {"UA": 70.0, "MIA": 87.0, "RA": 97.0, "TA": 90.0},
        {"UA": 80.0, "MIA": 92.0, "RA": 99.0, "TA": 92.0},
    ],
}


def test_a_table_made_by_hand(tmp_path: Path) -> None:
    """Cells written by hand, read as a study's results, against arithmetic on paper and scipy's."""
    store, rows = CellStore(tmp_path).prepare(), []
    for method, seeds in SCORES.items():
        for seed, scores in enumerate(seeds):
            listed = [
                {"name": n, "value": v, "low": None, "high": None, "n": 9}
                for n, v in scores.items()
            ]
            cost = {"seconds": 10.0 * (1 + (method == "retrain")), "device": "cpu"}
            key, content = cell_of_study(f"{method}{seed}", scores=listed, cost=cost)
            with store.writing(key, content):
                pass
            setting = ("d", "m", "r", "dense", "class")
            rows.append(Row(setting, method, seed, key, cell_of_study(f"retrain{seed}")[0]))
    frame = results(rows, store)
    table = papers_table(for_tables(frame)).set_index("method")
    cell = table.loc["finetune", "UA"]
    assert (cell.mean, cell.gap, cell.n) == (70.0, 30.0, 3)
    assert cell.sd == pytest.approx(10.0)
    interval = stats.t.interval(0.95, 2, loc=70, scale=stats.sem([60, 70, 80]))
    assert (cell.low, cell.high) == pytest.approx(interval)
    # gaps of the means: UA 30, MIA |86 - 98| = 12, RA |98 - 98| = 0, TA |91 - 91| = 0
    assert table.loc["finetune", "avg_gap"] == pytest.approx(42 / 4)
    assert table.loc["finetune", "rte_ratio"] == pytest.approx(0.5)
    # per seed: method (40+20+0+1)/4, (30+10+2+2)/4, (20+6+2+1)/4; floor (0+1+.5+.5)/4, 2/4, (2+2)/4
    mine, floor = [61 / 4, 44 / 4, 29 / 4], [2 / 4, 2 / 4, 4 / 4]
    assert table.loc["finetune", "seed_gap"] == pytest.approx(sum(mine) / 3)
    assert table.loc["floor", "seed_gap"] == pytest.approx(sum(floor) / 3)
    excess = table.loc["finetune", "excess_gap"]
    apart = [m - f for m, f in zip(mine, floor, strict=True)]
    assert excess.value == pytest.approx(sum(apart) / 3)
    test = stats.ttest_rel(mine, floor).confidence_interval(0.95)
    assert (excess.low, excess.high) == pytest.approx((test.low, test.high))
    # and a claim, from the same cells
    found = judge(parse_claim("average gap of floor < average gap of finetune"), frame)
    assert found.difference == pytest.approx(-excess.value)
    assert (found.low, found.high) == pytest.approx((-excess.high, -excess.low))
    assert found.verdict == ("holds" if excess.low > 0 else "undecided")


def test_what_is_not_finished_is_left_out_and_what_failed_is_counted(tmp_path: Path) -> None:
    store = CellStore(tmp_path).prepare()
    scores = [{"name": "UA", "value": 1.0, "low": None, "high": None, "n": 9}]
    done, content = cell_of_study("a", scores=scores)
    with store.writing(done, content):
        pass
    store.fail("b", ValueError("broke"), "run")
    setting = ("d", "m", "r", "dense", "class")
    rows = [Row(setting, "x", seed, key, "r") for seed, key in enumerate([done, "b", "c"])]
    table = papers_table(for_tables(results(rows, store))).iloc[0]
    assert (table["seeds"], table["failed"]) == (1, 1)


def test_further_scores_have_the_retrained_models_beside_them(tmp_path: Path) -> None:
    """What the others were compared with is a row, and a mean over fewer seeds says so."""
    store = CellStore(tmp_path).prepare()
    steps = {("original", 0): 0.0, ("original", 1): 0.0, ("x", 0): 12.0, ("x", 1): None}
    rows = []
    for method in ("original", "retrain", "x"):
        for seed in (0, 1):
            scores = [{"name": "UA", "value": 50.0, "low": None, "high": None, "n": 9}]
            if method != "retrain":
                value = steps[method, seed]
                scores.append(
                    {
                        "name": "relearn_time",
                        "value": value,
                        "low": None,
                        "high": None,
                        "n": 1,
                        "reference": 30.0 + seed,
                    }
                )
            key, content = cell_of_study(f"{method}{seed}", scores=scores)
            with store.writing(key, content):
                pass
            setting = ("d", "m", "r", "dense", "class")
            rows.append(Row(setting, method, seed, key, cell_of_study(f"retrain{seed}")[0]))
    table = for_tables(results(rows, store))
    further = further_grid(table)
    assert further is not None and further.headers == ["method", "relearn_time"]
    assert further.texts == [["original", "0±0"], ["retrain", "30.5±0.71"], ["x", "12 (1 of 2)"]]
    line = pd.read_csv(io.StringIO(to_csv(score_tables(table)))).set_index("method")
    assert line.loc["retrain", "relearn_time_mean"] == 30.5
    assert line.loc["x", ["relearn_time_mean", "relearn_time_n"]].tolist() == [12, 1]
    assert line["UA_mean"].tolist() == [50, 50, 50]
    text = to_latex(score_tables(table))
    assert text.count(r"\begin{table}") == 2
    assert r"x & 12 (1 of 2) \\" in text and r"relearn\_time" in text


def test_a_score_of_somebody_elses_says_what_it_is(tmp_path: Path) -> None:
    """Where it is in no table, its rows bring unit and target along, as far as the tables."""
    store = CellStore(tmp_path).prepare()
    plain = {"value": 50.0, "low": None, "high": None, "n": 9}
    usual = {"name": "UA", "unit": "percent", "target": "retrained", **plain}
    own = {"name": "speed", "unit": "images/s", "target": "high", **plain}
    setting, rows = ("d", "m", "r", "dense", "class"), []
    for name, scores in (("a", [usual, own]), ("b", [usual])):
        key, content = cell_of_study(name, scores=scores)
        with store.writing(key, content):
            pass
        rows.append(Row(setting, name, 0, key, ""))
    frame = results(rows, store)
    said = frame.set_index("score")[["unit", "target"]]
    assert said.loc["speed"].tolist() == ["images/s", "high"]
    assert said.drop("speed").isna().all().all()
    further = score_tables(for_tables(frame)).scenarios[0].further
    assert further is not None and further.headers == ["method", "speed, images/s"]
    assert "unit" not in results(rows[1:], store), "nothing changes for the scores that are known"


def test_an_undefined_further_score_is_no_failed_run() -> None:
    """AIN is nan where the retrained model needs no step; nothing has failed."""
    table = papers_table(
        pd.DataFrame(
            [
                {"scenario": "a", "method": "x", "seed": 0, "score": score, "value": value}
                for score, value in (("UA", 1.0), ("AIN", np.nan))
            ]
        )
    ).iloc[0]
    assert (table["seeds"], table["failed"]) == (1, 0)


def test_gaps_compare_the_seeds_that_both_have() -> None:
    """A method that equals retraining at its only seed is 0 away, whatever other seeds are like."""
    rows = [
        {"scenario": "a", "method": method, "seed": seed, "score": score, "value": value}
        for method, values in (("retrain", (10.0, 90.0)), ("x", (10.0,)), ("y", (15.0, 95.0)))
        for seed, value in enumerate(values)
        for score in AVERAGED
    ]
    table = papers_table(pd.DataFrame(rows)).set_index("method")
    assert table.loc["x", "avg_gap"] == pytest.approx(0)
    assert table.loc["y", "avg_gap"] == pytest.approx(5)
    assert table.loc["y", "best"] and not table.loc["x", "best"], "one seed is no ground for bold"


def test_nothing_is_claimed_where_the_trigger_never_worked() -> None:
    keys = {"data": "d", "model": "m", "recipe": "r", "density": "dense", "scenario": "poison"}

    def frame(before: float) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {**keys, "method": method, "seed": seed, "score": "ASR", "value": value + seed / 10}
                for method, value in (("original", before), ("x", 1.0))
                for seed in (0, 1, 2)
            ]
        )

    claim = parse_claim("ASR of x < ASR of original")
    assert judge(claim, frame(98.0)).verdict == "holds"
    found = judge(claim, frame(5.0))
    assert found.verdict == "undecided" and "where the trigger worked before" in sentence(found)


@pytest.mark.parametrize("text", ["0.95", "95 %", "95%", ".95"])
def test_sparsities_as_people_write_them(text: str) -> None:
    frame = long(
        {("95 % omp", "a", s): 1.0 + s / 9 for s in (0, 1)}
        | {("dense", "a", s): 5.0 for s in (0, 1)}
    )
    assert judge(parse_claim(f"UA of a at sparsity {text} < at 0"), frame).verdict == "holds"


def test_rows_that_wait_for_a_failed_original_count_as_failed(tmp_path: Path) -> None:
    store = CellStore(tmp_path).prepare()
    store.fail("base", ValueError("broke"), "run")
    rows = [Row(("d", "m", "r", "dense", "class"), "x", 0, "a", "r", "base")]
    assert results(rows, store)["score"].tolist() == ["failed"]


# --- a study that judges its pruners: how far a mask depends on the forget set, and what it took


RECIPE = {"epochs": 2, "lr": 0.05, "batch_size": 32, "augmentation": "none"}
CLAIM = "mask_overlap of original at density 90 % omp < at density 90 % synflow"


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "masks",
        "data": ["digits:200"],
        "models": ["mlp"],
        "recipes": {"quick": RECIPE},
        "densities": [
            {},
            {"pruner": "omp", "sparsity": 0.9, "settings": {"rewind_epoch": 1}},
            {"pruner": "synflow", "sparsity": 0.9},
        ],
        "scenarios": ["random:0.3"],
        "methods": {"finetune": {"epochs": 1}},
        "seeds": [0, 1],
        "floor": False,
        "criteria": True,
        "claims": [CLAIM],
    }
    return Study.model_validate({**given, **changes})


def test_the_originals_masks_are_judged_as_by_hand(tmp_path: Path) -> None:
    made = run_study(planned(study(), tmp_path / "out", place=CPU))
    assert made.counts().done == len(made.cells), [made.store.failure(c.key) for c in made.cells]
    frame = results(made.rows, made.store)
    judged = frame[frame["score"] == "mask_overlap"]
    assert set(judged["method"]) == {"original"}
    assert set(judged["density"]) == {"90 % omp", "90 % synflow"}, "a dense model has no mask"
    assert len(judged) == 4, "two pruners, two seeds"
    assert (judged.loc[judged["density"] == "90 % synflow", "value"] == 100).all()

    data = load_data("digits:200")
    whole = Split.whole(data, validation=0.1)
    asked = Split.random(data, 0.3, base=whole, seed=1)
    pruner = make_pruner("omp", {"sparsity": 0.9, "rewind_epoch": 1}, allow_code=True)
    sparse, dense = (
        train(data, "mlp", recipe=Recipe(**RECIPE), split=whole, pruner=one, seed=1, place=CPU)
        for one in (pruner, None)
    )
    by_hand = pruning_criteria(sparse, dense, pruner, asked, place=CPU)
    row = judged[(judged["density"] == "90 % omp") & (judged["seed"] == 1)]
    assert row["value"].tolist() == [pytest.approx(100 * by_hand.overlap)]
    assert by_hand.overlap < 1
    other = mask_in_other_order(
        data, "mlp", pruner, asked, recipe=Recipe(**RECIPE), seed=1, place=CPU, allow_code=True
    )
    floors = frame[frame["score"] == "mask_overlap_floor"].set_index(["density", "seed"])["value"]
    assert floors["90 % omp", 1] == pytest.approx(100 * overlap(sparse.mask or {}, other))
    assert floors["90 % omp", 1] < 100 == floors["90 % synflow", 1]

    seconds = frame[(frame["score"] == "mask_s") & (frame["density"] == "90 % omp")]
    logged = [
        made.store.read(made.store.read(key)["needs"][0])["log"]["seconds_to_mask"]
        for key in seconds["cell"]
    ]
    assert seconds["value"].tolist() == logged
    assert "| method | mask_overlap | mask_overlap_floor | mask_s |" in further_markdown(
        score_tables(for_tables(frame))
    )
    assert judge(parse_claim(CLAIM), frame).difference < 0

    page = study_report(made, "expunge study report out")
    sight, rewound = page.warnings
    assert sight.startswith("90 % omp: the mask was found with the forget set in sight")
    assert rewound.startswith("90 % omp: the original went on from weights of an early epoch")
    titles = [
        picture.drawn.title
        for picture in sections(page.frame, score_tables(page.table), ())[0].pictures
    ]
    assert titles == ["Scores against sparsity: omp", "Scores against sparsity: synflow"]


def test_judging_changes_nothing_but_the_sparse_originals_rows(tmp_path: Path) -> None:
    """Whoever asks for it later keeps every cell that was made."""
    plain = {c.key for c in planned(study(criteria=False, claims=[]), tmp_path / "one").cells}
    judged = planned(study(), tmp_path / "two").cells
    new = [cell for cell in judged if cell.key not in plain]
    assert len(new) == 4
    assert all(c.kind == "unlearn" and c.config["label"] == "original" for c in new)


def test_criteria_need_a_mask() -> None:
    with pytest.raises(ConfigError, match="every density is dense"):
        study(densities=[{}], claims=[])


def test_a_claim_about_masks_needs_criteria() -> None:
    with pytest.raises(ConfigError, match="no score 'mask_overlap'"):
        study(criteria=False)


@pytest.mark.parametrize(
    "claim",
    [
        "mask_overlap of finetune at density 90 % omp < at density 90 % synflow",
        "mask_s of original at density dense < at density 90 % omp",
        "mask_s of original at sparsity 0 < at 0.9",
    ],
)
def test_a_claim_about_masks_that_there_are_not(claim: str) -> None:
    with pytest.raises(ConfigError, match="known of `original` at a sparse density alone"):
        study(claims=[claim])
