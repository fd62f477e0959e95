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
from expunge.audits import audit_of
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.models.mask import overlap
from expunge.pruning import make_pruner
from expunge.pruning.criteria import pruning_criteria
from expunge.pruning.original import mask_in_other_order
from expunge.report.claims import sentence
from expunge.report.data_files import findings_csv, to_csv
from expunge.report.further import further_grid
from expunge.report.latex import to_latex
from expunge.report.markdown import further_markdown
from expunge.report.score_tables import score_tables
from expunge.report.sections import sections
from expunge.report.tables import bold_note, papers_table
from expunge.report.together import together_table
from expunge.scores.finding import NOT_MEASURABLE, OUTSIDE, UNDECIDED, WITHIN, Finding
from expunge.scores.joint import JudgedScore, found_together
from expunge.scores.looks import Plan
from expunge.scores.rows import FINDINGS_FILE, NAMED, SETTING
from expunge.scores.score import Score
from expunge.scores.statistics import paired_interval
from expunge.scores.table import AVERAGED
from expunge.study.cells import Row
from expunge.study.check import check_claims
from expunge.study.claims import parse_claim
from expunge.study.findings import findings_of
from expunge.study.launch import planned, run_study
from expunge.study.page import study_report
from expunge.study.results import for_tables, results, with_average_gap
from expunge.study.schema import Study
from expunge.study.store import CellStore
from expunge.study.verdicts import by_chance, judge, judge_all
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


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows that a study of this frame plans."""
    keys = frame[[*SETTING, "method", "seed"]].astype({"seed": int}).drop_duplicates()
    return [
        Row((d, m, r, density, scenario), method, seed, "", "")
        for d, m, r, density, scenario, method, seed in keys.to_numpy().tolist()
    ]


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
    found = judge(parse_claim("UA of finetune at sparsity 0.95 < at 0"), frame, rows_of(frame))
    assert found.verdict == verdict
    assert found.n == len(left)
    if len(left) > 1:
        mean, low, high = paired_interval(left, right)
        assert (found.difference, found.low, found.high) == pytest.approx((mean, low, high))
        assert f"{found.verdict}, difference" in sentence(found)
    else:
        assert "1 seed, and a spread takes two" in sentence(found)


def test_a_claim_about_what_is_not_there_says_so() -> None:
    frame = long({("dense", "finetune", 0): 1.0, ("dense", "finetune", 1): 1.0})
    found = judge(
        parse_claim("UA of finetune at density dense < at density 95 % omp"), frame, rows_of(frame)
    )
    assert found.verdict == "undecided"
    assert "no UA of finetune density 95 % omp" in sentence(found)


def test_several_settings_count_once_per_seed() -> None:
    """Ten data sets are not ten seeds: the differences of a seed are averaged first."""
    parts = []
    generator = np.random.default_rng(0)
    for data in range(10):
        values = {("dense", m, s): float(generator.normal(s)) for m in ("a", "b") for s in (0, 1)}
        parts.append(long(values).assign(data=f"d{data}"))
    found = judge(parse_claim("UA of a < UA of b"), pd.concat(parts), rows_of(pd.concat(parts)))
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
    found = judge(
        parse_claim("average gap of floor < average gap of finetune"), frame, rows_of(frame)
    )
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


def finding(name: str, word: str, p: float | None, **changes: Any) -> dict[str, Any]:
    """A score of a cell and what its audit found: 100 beside a retrained model's 50."""
    said = {"word": word, "why": f"{name} is {word}", "p": p, "decidable": True}
    score = {"name": name, "value": 100.0, "low": None, "high": None, "n": 90, "unit": "percent"}
    detail = {"original": 100.0, "references": [50.0] * changes.pop("references", 1)}
    target = {"target": "retrained", "reference": 50.0}
    return {**score, **target, "detail": detail, "finding": said, **changes}


def audited(tmp_path: Path, cells: dict[tuple[str, int], dict[str, Any]]) -> pd.DataFrame | None:
    """The findings of a study's cells, by method and seed."""
    store, rows = CellStore(tmp_path).prepare(), []
    for (method, seed), fields in cells.items():
        key, content = cell_of_study(f"{method}{seed}", **fields)
        with store.writing(key, content):
            pass
        rows.append(Row(("d", "m", "r", "dense", "class"), method, seed, key, ""))
    return findings_of(rows, store, results(rows, store))


def test_what_audits_found_is_told_together(tmp_path: Path) -> None:
    """From the cells alone, and as `found_together` says it of each by hand."""
    left = finding("UA", UNDECIDED, 0.9)
    cells = {
        # by itself outside, which chance does among three; then an audit without any p
        ("x", 0): [finding("rmia", OUTSIDE, 0.04), left, finding("cka", NOT_MEASURABLE, None)],
        ("x", 1): [finding("rmia", OUTSIDE, 0.001), left, finding("lira", OUTSIDE, 0.0001)],
        ("x", 2): [left, finding("lira", OUTSIDE, 0.0001)],
        ("floor", 0): [left, {"name": "RTE", "value": None, "low": None, "high": None, "n": 0}],
    }
    old = {"name": "UA", "value": 1.0, "low": None, "high": None, "n": 9}
    given = {row: {"scores": scores} for row, scores in cells.items()}
    found = audited(tmp_path, {**given, ("retrain", 0): {"scores": [old]}})
    assert found is not None and [*found.columns] == [*FINDINGS_FILE, NAMED]
    for (method, seed), scores in cells.items():
        own = found[(found["method"] == method) & (found["seed"] == seed)]
        kept = [one for one in scores if "finding" in one]
        judged = [
            JudgedScore(
                audit_of(one["name"]).name,
                audit_of(one["name"]).family,
                Score(
                    *(one[name] for name in ("name", "value", "n", "low", "high", "unit")),
                    target="retrained",
                    detail=one["detail"],
                    reference=50.0,
                    finding=Finding(**one["finding"]),
                ),
            )
            for one in kept
        ]
        joint = found_together(judged, references=1)
        assert set(own["together"]) == {joint.word} and set(own["references"]) == {1}
        assert list(own["among_all"]) == [one.word for one in joint.judged]
        assert list(own["finding"]) == [one["finding"]["word"] for one in kept]
    assert "retrain" not in set(found["method"]), "its cell has no finding"
    table = together_table(found)
    assert table is not None and table.grid.headers[-1] == "outside"
    assert table.grid.texts == [
        ["floor", "1", "0", "0", "0", "0", "1", "none"],
        ["x", "3", "2", "0", "0", "0", "1", "lira 2, rmia 1"],
    ]
    assert "against 1 retrained model." in table.note and "fewer than 5 retrained" in table.note
    text = pd.read_csv(io.StringIO(findings_csv(found)))
    assert [*text.columns] == [*FINDINGS_FILE] and len(text) == 9
    assert text["p"].isna().sum() == 1 and text["why"][0] == "rmia is outside"


def test_what_is_within_of_five_retrained_models_is_forgotten(tmp_path: Path) -> None:
    """Of whole classes not by outputs alone, and code that nobody knows here counts as these."""
    near = {"value": 50.0, "references": 5}
    ours, theirs = (finding(name, WITHIN, 0.9, **near) for name in ("rmia", "probe"))
    strange = finding("somebody", WITHIN, 0.9, **near)
    gone = ["3"]
    words = {
        "part": {"scores": [ours]},
        "class": {"scores": [ours, strange], "forgotten_classes": gone, "whole_classes": True},
        "older": {"scores": [ours], "forgotten_classes": gone},
        "mixed": {"scores": [ours], "forgotten_classes": gone, "whole_classes": False},
        "inside": {"scores": [ours, theirs], "forgotten_classes": gone, "whole_classes": True},
    }
    found = audited(tmp_path, {(name, 0): fields for name, fields in words.items()})
    assert found is not None
    assert found.drop_duplicates("method").set_index("method")["together"].to_dict() == {
        **{"part": "forgot", "class": "cannot tell", "older": "cannot tell"},
        **{"mixed": "forgot", "inside": "forgot"},
    }
    table = together_table(found)
    assert table is not None and "fewer than" not in table.note
    assert "against 5 retrained models" in table.note and "scatter normally" in table.note


def test_without_findings_there_is_no_table_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    old = {"name": "UA", "value": 1.0, "low": None, "high": None, "n": 9}
    assert audited(tmp_path / "old", {("x", 0): {"scores": [old]}}) is None
    for place, changes in enumerate(({"word": "guilty"}, {"p": "small"}, {"why": 3})):
        one = finding("UA", OUTSIDE, 0.5)
        one["finding"] |= changes
        with pytest.raises(ConfigError, match=f"finding.{next(iter(changes))}"):
            audited(tmp_path / str(place), {("x", 0): {"scores": [one]}})
    # what others' code puts into a detail is no number that anything could be read from
    strange = finding("UA", OUTSIDE, 1e-9, detail={"original": {"a": 1}, "references": "two"})
    found = audited(tmp_path / "odd", {("x", 0): {"scores": [strange]}})
    assert found is not None and list(found["together"]) == ["damaged"]


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
    assert judge(claim, frame(98.0), rows_of(frame(98.0))).verdict == "holds"
    found = judge(claim, frame(5.0), rows_of(frame(5.0)))
    assert found.verdict == "undecided" and "the trigger never worked before" in sentence(found)


@pytest.mark.parametrize("text", ["0.95", "95 %", "95%", ".95"])
def test_sparsities_as_people_write_them(text: str) -> None:
    frame = long(
        {("95 % omp", "a", s): 1.0 + s / 9 for s in (0, 1)}
        | {("dense", "a", s): 5.0 for s in (0, 1)}
    )
    assert (
        judge(parse_claim(f"UA of a at sparsity {text} < at 0"), frame, rows_of(frame)).verdict
        == "holds"
    )


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
        "controls": False,
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
    assert judge(parse_claim(CLAIM), frame, rows_of(frame)).difference < 0

    page = study_report(made, "expunge study report out")
    sight, rewound, controls = page.warnings
    assert "made without controls" in controls
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


# --- no seed vanishes from a claim


def of_seeds(
    method: str, values: list[float | None], score: str = "UA", **more: Any
) -> pd.DataFrame:
    """One method's values of a score; None: the run broke off."""
    rows = [
        long({("dense", method, seed): np.nan}, "failed")
        if one is None
        else long({("dense", method, seed): one}, score)
        for seed, one in enumerate(values)
    ]
    return pd.concat(rows, ignore_index=True).assign(**more)


def test_a_seed_that_broke_off_leaves_no_verdict() -> None:
    """Four seeds of five would hold; the fifth diverged, which is no reason to forget it."""
    frame = pd.concat(
        [of_seeds("a", [1.0, 1.1, 0.9, None, 1.0]), of_seeds("b", [9.0, 9.1, 9.2, 9.0, 9.1])]
    )
    found = judge(parse_claim("UA of a < UA of b"), frame, rows_of(frame))
    assert (found.verdict, found.n, found.of) == ("undecided", 4, 5)
    assert "n = 4 of 5 (a failed at seed 3)" in sentence(found)
    assert np.isnan(found.p)


def test_a_seed_that_is_not_made_yet_leaves_no_verdict() -> None:
    frame = pd.concat([of_seeds("a", [1.0, 1.1, 0.9]), of_seeds("b", [9.0, 9.1, 9.2])])
    rows = rows_of(frame)
    made = frame[~((frame["method"] == "b") & (frame["seed"] == 2))]
    found = judge(parse_claim("UA of a < UA of b"), made, rows)
    assert (found.verdict, found.n, found.of) == ("undecided", 2, 3)
    assert "b is not finished at seed 2" in sentence(found)


def test_a_setting_that_lost_a_seed_does_not_vanish_behind_the_others() -> None:
    """The seed's mean would be of fewer settings, and would look like the others."""
    whole = pd.concat([of_seeds("a", [1.0, 1.2]), of_seeds("b", [9.0, 9.1])])
    broken = pd.concat([of_seeds("a", [None, 1.0]), of_seeds("b", [9.0, 9.1])])
    frame = pd.concat([whole.assign(data="d1"), broken.assign(data="d2")], ignore_index=True)
    found = judge(parse_claim("UA of a < UA of b"), frame, rows_of(frame))
    assert (found.verdict, found.n, found.of) == ("undecided", 1, 2)


def test_a_score_that_never_reached_its_target_is_censored_at_the_cap() -> None:
    capped = of_seeds("b", [500.0, 500.0, 120.0], "relearn_time").assign(
        bound=["at least", "at least", None]
    )
    frame = pd.concat([of_seeds("a", [20.0, 21.0, 22.0], "relearn_time"), capped])
    found = judge(parse_claim("relearn_time of a < relearn_time of b"), frame, rows_of(frame))
    assert (found.n, found.of, found.capped) == (3, 3, 2)
    assert found.difference == pytest.approx(21 - (500 + 500 + 120) / 3)
    assert "2 values at the cap" in sentence(found)


def test_an_undefined_score_is_told_with_its_seed() -> None:
    frame = pd.concat([of_seeds("a", [1.0, np.nan], "AIN"), of_seeds("b", [9.0, 9.1], "AIN")])
    found = judge(parse_claim("AIN of a < AIN of b"), frame, rows_of(frame))
    assert "AIN of a is undefined at seed 1" in sentence(found)


def test_a_relearn_time_of_an_earlier_version_counts_at_the_cap(tmp_path: Path) -> None:
    """Such a cell has no value, and says in its detail that the target was not reached."""
    store = CellStore(tmp_path).prepare()
    old = {
        "name": "relearn_time",
        "value": None,
        "n": 1,
        "detail": {"steps": 500, "reached": False},
    }
    key, content = cell_of_study("a", scores=[old])
    with store.writing(key, content):
        pass
    frame = results([Row(("d", "m", "r", "dense", "class"), "x", 0, key, "")], store)
    row = frame[frame["score"] == "relearn_time"].iloc[0]
    assert (row["value"], row["bound"]) == (500.0, "at least")


def test_attacks_of_unequal_size_are_not_compared() -> None:
    """MIA was 17.8 with m = 100 and 25.3 with m = 1,500, of the same outputs."""
    frame = pd.concat(
        [of_seeds("a", [10.0, 11.0], "MIA", m=100.0), of_seeds("b", [30.0, 31.0], "MIA", m=1500.0)]
    )
    found = judge(parse_claim("MIA of a < MIA of b"), frame, rows_of(frame))
    assert found.verdict == "undecided" and "m = 100, 1500" in sentence(found)
    same = judge(parse_claim("MIA of a < MIA of b"), frame.assign(m=100.0), rows_of(frame))
    assert same.verdict == "holds"


def test_a_change_is_read_against_the_own_original() -> None:
    """Under sparsity RA falls before anything is forgotten: only what forgetting took away counts."""
    dense = {("dense", "original", s): 99.0 for s in (0, 1)} | {
        ("dense", "a", s): 90.0 - s for s in (0, 1)
    }
    sparse = {("95 % omp", "original", s): 80.0 for s in (0, 1)} | {
        ("95 % omp", "a", s): 79.0 - s / 2 for s in (0, 1)
    }
    frame = long(dense | sparse, "RA")
    raw = judge(parse_claim("RA of a at sparsity 0.95 < at 0"), frame, rows_of(frame))
    assert raw.difference < 0
    own = judge(parse_claim("RA change of a at sparsity 0 < at 0.95"), frame, rows_of(frame))
    assert own.difference == pytest.approx(np.mean([-9.0 - -1.0, -10.0 - -1.5]))
    with pytest.raises(ConfigError, match="the original, which has none"):
        check_claims(
            ["RA change of original at sparsity 0.95 < at 0"],
            rows=["original", "a"],
            settings={},
            sparsities=[0.0, 0.95],
            transfer=False,
            criteria=False,
            foreign=False,
        )


def test_equivalence_needs_five_seeds_and_a_margin() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95]
    frame = pd.concat([of_seeds("a", values), of_seeds("b", [1.02, 1.0, 1.0, 1.0, 1.01])])
    claim = parse_claim("UA of a < UA of b")
    found = judge(claim, frame, rows_of(frame), 1.0)
    assert found.verdict == "equivalent" and "within 1" in sentence(found)
    assert judge(claim, frame, rows_of(frame)).verdict == "undecided"
    few = frame[frame["seed"] < 4]
    assert judge(claim, few, rows_of(few), 1.0).verdict == "undecided"


def test_claims_are_adjusted_for_their_number() -> None:
    """One of ten that holds by its own interval is undecided once ten were asked."""
    generator = np.random.default_rng(3)
    parts = [of_seeds("a", [0.0, 0.1, -0.1, 0.2, -0.2])]
    parts += [of_seeds("b", [0.5, 0.12, 0.4, 0.35, 0.3])]
    parts += [of_seeds(f"n{k}", generator.normal(0, 1, 5).tolist()) for k in range(9)]
    frame = pd.concat(parts)
    texts = ["UA of a < UA of b", *(f"UA of a < UA of n{k}" for k in range(9))]
    found = judge_all([parse_claim(text) for text in texts], frame, rows_of(frame), margins={})
    assert found[0].verdict == "holds" and found[0].after_holm == "undecided"
    assert found[0].holm == pytest.approx(10 * found[0].p)
    assert found[0].n == found[0].of == 5
    assert "10 claims asked" in by_chance(10) and "0.25 hold and 0.25 fail" in by_chance(10)


def test_the_originals_row_has_no_time(tmp_path: Path) -> None:
    """Nothing was done to it; the seconds of its training are no cost of forgetting."""
    store = CellStore(tmp_path).prepare()
    rows = []
    for name in ("original", "x"):
        plain = {"name": "UA", "value": 1.0, "low": None, "high": None, "n": 9}
        key, content = cell_of_study(name, scores=[plain])
        with store.writing(key, content):
            pass
        rows.append(Row(("d", "m", "r", "dense", "class"), name, 0, key, ""))
    frame = results(rows, store)
    assert set(frame.loc[frame["score"] == "RTE", "method"]) == {"x"}
    grid = score_tables(for_tables(frame)).papers
    at = grid.headers.index("RTE s")
    assert grid.texts[0][at] == "–"


# --- what does next to nothing is not beaten by words


def frame_of(own: dict[str, list[float]]) -> pd.DataFrame:
    """Own: each row's distance from retraining in UA, seed by seed."""
    seeds = len(own["x"])
    rows = [
        {"scenario": "s", "method": method, "seed": seed, "score": score, "value": value}
        for method, values in {**own, "retrain": [0.0] * seeds, "floor": [0.1] * seeds}.items()
        for seed, apart in enumerate(values)
        for score in AVERAGED
        for value in [apart if score == "UA" else 0.0]
    ]
    return pd.DataFrame(rows)


def crowned(own: dict[str, list[float]]) -> pd.DataFrame:
    """The table of `frame_of`."""
    return papers_table(frame_of(own)).set_index("method")


def test_a_method_that_a_control_equals_is_not_praised() -> None:
    good, bad = [4.0, 4.4, 4.1], [80.0, 82.0, 81.0]
    table = crowned({"original": bad, "head_zeroed": good, "last_epoch": bad, "x": good})
    assert table.loc["x", "nearest"] and not table.loc["x", "best"]
    assert table.loc["x", "equalled_by"] == ("head_zeroed",)
    # nearer in the mean, and not shown to be nearer
    table = crowned({"original": bad, "head_zeroed": [4.0, 9.0, 5.0], "x": good})
    assert not table.loc["x", "best"]
    table = crowned({"original": bad, "head_zeroed": bad, "last_epoch": bad, "x": good})
    assert table.loc["x", "best"] and table.loc["x", "equalled_by"] == ()
    assert not table.loc[["original", "head_zeroed", "last_epoch"], "nearest"].any()


def of_trigger(values: list[float | None], before: list[float | None]) -> pd.DataFrame:
    """ASR of a method and of its original; None: the run broke off."""
    return pd.concat([of_seeds("a", values, "ASR"), of_seeds("original", before, "ASR")])


def test_a_seed_whose_original_broke_off_is_lost_and_not_unfit() -> None:
    """Nobody knows whether the trigger worked there."""
    claim = parse_claim("ASR of a < ASR of original")
    frame = of_trigger([1.0, 1.2, 1.1, 1.0, 1.1], [99.0, 98.0, 99.5, None, 99.0])
    found = judge(claim, frame, rows_of(frame))
    assert found.verdict == "undecided" and found.lost and (found.n, found.of) == (4, 5)
    rows = rows_of(frame)
    made = frame[~((frame["method"] == "original") & (frame["seed"] == 3))]
    assert judge(claim, made, rows).verdict == "undecided"


def test_a_seed_whose_trigger_never_worked_is_told_and_blocks_nothing() -> None:
    frame = of_trigger([1.0, 1.2, 1.1, 3.0, 1.1], [99.0, 98.0, 99.5, 5.0, 99.0])
    found = judge(parse_claim("ASR of a < ASR of original"), frame, rows_of(frame))
    assert (found.verdict, found.lost, found.n, found.of) == ("holds", False, 4, 5)
    assert "n = 4 of 5" in sentence(found)
    assert "the trigger never worked before at seed 3" in sentence(found)


def test_one_sample_is_the_least_margin_and_spread() -> None:
    """Of 7 forgotten samples one more makes 14.3 points: seeds that are equal do not show equality."""
    frame = pd.concat([of_seeds("a", [100.0] * 5, n=7), of_seeds("b", [100.0] * 5, n=7)])
    found = judge(parse_claim("UA of a < UA of b"), frame, rows_of(frame), 1.0)
    assert found.margin == pytest.approx(100 / 7) and found.high - found.low > 10
    masks = frame.assign(score="mask_overlap", n=1)
    found = judge(parse_claim("mask_overlap of a < mask_overlap of b"), masks, rows_of(frame), 1.0)
    assert found.margin == 1.0, "a share of weights, of one mask"
    many = judge(parse_claim("UA of a < UA of b"), frame.assign(n=5000), rows_of(frame), 1.0)
    assert (many.verdict, many.margin) == ("equivalent", 1.0)


def test_an_attack_of_unknown_size_is_not_compared_with_a_known_one() -> None:
    frame = pd.concat(
        [of_seeds("a", [10.0, 11.0], "MIA", m=100.0), of_seeds("b", [30.0, 31.0], "MIA", m=np.nan)]
    )
    found = judge(parse_claim("MIA of a < MIA of b"), frame, rows_of(frame))
    assert found.verdict == "undecided" and "m = 100, unknown" in sentence(found)


def test_unlike_units_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="UA is in percent and RTE in seconds"):
        check_claims(
            ["UA of a < RTE of a"],
            rows=["a"],
            settings={},
            sparsities=[0.0],
            transfer=False,
            criteria=False,
            foreign=False,
        )


def test_an_equivalence_is_adjusted_for_the_number_of_claims_too() -> None:
    near = [0.9, -0.8, 0.5, -0.4, 0.2]
    parts = [of_seeds("a", [0.0] * 5), of_seeds("b", near)]
    parts += [of_seeds(f"n{k}", [9.0, -9.0, 8.0, -8.0, float(k)]) for k in range(9)]
    frame = pd.concat(parts)
    texts = ["UA of a < UA of b", *(f"UA of a < UA of n{k}" for k in range(9))]
    claims = [parse_claim(text) for text in texts]
    alone = judge(claims[0], frame, rows_of(frame), 1.0)
    found = judge_all(claims, frame, rows_of(frame), margins={"UA": 1.0})[0]
    assert alone.verdict == alone.after_holm == "equivalent"
    assert found.verdict == "equivalent" and found.after_holm == "undecided"


def test_one_seed_and_a_control_that_failed_show_nothing() -> None:
    """Neither lets a method be praised: what is not known is not beaten."""
    good, bad = [4.0, 4.4, 4.1], [80.0, 82.0, 81.0]
    lost = {"original": bad, "head_zeroed": bad, "last_epoch": [80.0, np.nan, 81.0], "x": good}
    assert crowned(lost).loc["x", "equalled_by"] == ("last_epoch",)
    single = {name: values[:1] for name, values in lost.items()}
    one = papers_table(frame_of(single)).set_index("method")
    assert one.loc["x", "nearest"] and not one.loc["x", "best"]


def test_what_bold_means_is_said_as_it_is() -> None:
    assert "beats every control" in bold_note(["original", "last_epoch", "x"])
    assert "no controls" in bold_note(["original", "retrain", "x"])


def test_a_control_with_the_smaller_gap_of_means_equals_too() -> None:
    """It may scatter around retraining, and so have large gaps seed by seed."""
    rows = [
        {"scenario": "s", "method": method, "seed": seed, "score": score, "value": value}
        for method, values in {
            "retrain": [50.0] * 3,
            "head_zeroed": [40.0, 50.0, 60.0],
            "original": [0.0] * 3,
            "x": [50.8, 50.9, 51.0],
        }.items()
        for seed, value in enumerate(values)
        for score in AVERAGED
    ]
    table = papers_table(pd.DataFrame(rows)).set_index("method")
    assert table.loc["head_zeroed", "avg_gap"] < table.loc["x", "avg_gap"]
    assert table.loc["x", "equalled_by"] == ("head_zeroed",) and not table.loc["x", "best"]


def test_a_later_seed_of_fewer_samples_takes_no_decision_back() -> None:
    """Its step is larger; a look goes by the steps of the seeds that it has seen."""
    close = [0.0, 0.1, -0.1, 0.05, -0.05, 0.0, 0.1]
    parts = [of_seeds("a", close), of_seeds("b", [0.0] * 7)]
    frame = pd.concat(parts, ignore_index=True).assign(n=5000)
    claims, margins = [parse_claim("UA of a < UA of b")], {"UA": 1.0}
    plan = Plan(10)
    early = judge_all(claims, frame, rows_of(frame), margins=margins, plan=plan)[0]
    assert (early.verdict, early.look) == ("equivalent", 5)
    small = frame.assign(n=frame["n"].where(frame["seed"] != 6, 3))
    late = judge_all(claims, small, rows_of(small), margins=margins, plan=plan)[0]
    assert (late.verdict, late.look) == ("equivalent", 5)
    assert judge(claims[0], small, rows_of(small), 1.0).margin == pytest.approx(100 / 3)
