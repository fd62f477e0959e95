"""A study that judges its pruners: how far a mask depends on the forget set, and what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.pruning import make_pruner
from expunge.pruning.original import pruning_criteria
from expunge.report.further import further_markdown
from expunge.report.sections import sections
from expunge.study.claims import parse_claim
from expunge.study.launch import planned, run_study
from expunge.study.page import study_report
from expunge.study.results import for_tables, results
from expunge.study.schema import Study
from expunge.study.verdicts import judge
from expunge.training.recipe import Recipe

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
    made = run_study(planned(study(), tmp_path / "out", device="cpu"))
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
    pruner = make_pruner("omp", {"sparsity": 0.9, "rewind_epoch": 1})
    by_hand = pruning_criteria(
        data, "mlp", pruner, asked, recipe=Recipe(**RECIPE), seed=1, device="cpu"
    )
    row = judged[(judged["density"] == "90 % omp") & (judged["seed"] == 1)]
    assert row["value"].tolist() == [pytest.approx(100 * by_hand.overlap)]
    assert by_hand.overlap < 1

    seconds = frame[(frame["score"] == "mask_s") & (frame["density"] == "90 % omp")]
    logged = [
        made.store.read(made.store.read(key)["needs"][0])["log"]["seconds_to_mask"]
        for key in seconds["cell"]
    ]
    assert seconds["value"].tolist() == logged
    assert "| method | mask_overlap | mask_s |" in further_markdown(for_tables(frame))
    assert judge(parse_claim(CLAIM), frame).difference < 0

    page = study_report(made, "expunge study report out")
    sight, rewound = page.warnings
    assert sight.startswith("90 % omp: the mask was found with the forget set in sight")
    assert rewound.startswith("90 % omp: the original went on from weights of an early epoch")
    titles = [picture.drawn.title for picture in sections(page.frame, page.table, ())[0].pictures]
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
