"""Scenarios of a study: what they ask, and a transfer study from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CPU

from expunge.data.load import load_data
from expunge.errors import ConfigError
from expunge.report.further import further_grid
from expunge.report.markdown import further_markdown
from expunge.report.score_tables import score_tables
from expunge.study.launch import Planned, planned, run_study
from expunge.study.results import for_tables, results
from expunge.study.scenarios import scenario_of
from expunge.study.schema import Study
from expunge.study.work import Bench
from expunge.training.recipe import Recipe
from expunge.training.run import Run
from expunge.transfer.adapt import full_finetune
from expunge.transfer.harm import class_harm, most_harmful
from expunge.transfer.head import without_head
from expunge.transfer.target import TargetTask, as_target


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "moving",
        "data": ["digits:200"],
        "models": ["mlp"],
        "recipes": {"quick": {"epochs": 4, "lr": 0.05, "batch_size": 32}},
        "scenarios": ["harmful:2"],
        "methods": {"finetune": {"epochs": 1}},
        "seeds": [0, 1],
        "transfer": {"data": "digits:100", "recipe": {"epochs": 2, "batch_size": 32}},
    }
    return Study.model_validate({**given, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    made = planned(study(), tmp_path_factory.mktemp("moving"), place=CPU)
    made = run_study(made)
    assert made.counts().done == len(made.cells)
    return made


@pytest.mark.parametrize(
    ("text", "seed", "request_", "told"),
    [
        ("class", 13, "class:#3", "one class"),
        ("class:cat", 13, "class:cat", "class:cat"),
        ("classes:2", 9, "class:#9,#0", "2 classes"),
        ("random:0.25", 5, "random:0.25", "random 25%"),
        ("harmful:1", 5, "harmful:1", "the most harmful class"),
        ("harmful:3", 5, "harmful:3", "the 3 most harmful classes"),
        ("ids:gone.txt", 5, "ids:gone.txt", "ids:gone.txt"),
    ],
)
def test_requests_and_words(text: str, seed: int, request_: str, told: str) -> None:
    scenario = scenario_of(text)
    scenario.check(text)
    assert scenario.request(text, seed, 10) == request_
    assert scenario.told(text) == told


@pytest.mark.parametrize("text", ["harmful", "harmful:0", "harmful:many", "classes:x"])
def test_texts_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ConfigError, match="write how many"):
        scenario_of(text).check(text)


def test_harm_needs_a_target() -> None:
    with pytest.raises(ConfigError, match="give transfer"):
        study(transfer=None)


def test_the_most_harmful_classes_of_each_original_are_forgotten(finished: Planned) -> None:
    """By hand: the scorer on the stored original, and what the cells say they forgot."""
    bench = Bench(finished.store, CPU)
    for row in finished.rows:
        content = finished.store.read(row.cell)
        base = bench.original(content["needs"][0])
        learned = base.data.train.subset(
            np.array([base.data.train.position[name] for name in base.split.retain])
        )
        target = as_target(base.data, bench.data("digits:100"))
        harm = class_harm(base.model, learned, base.data, target, Run(names=("test",)))
        expected = [base.data.classes[label] for label in most_harmful(harm, 2)]
        assert content["forgotten_classes"] == expected


def test_every_row_is_scored_on_the_target(finished: Planned) -> None:
    frame = results(finished.rows, finished.store)
    for name in ("linear_probe", "full_finetune", "linear_probe_s", "full_finetune_s"):
        own = frame[frame["score"] == name]
        assert set(own["method"]) == {"original", "retrain", "floor", "finetune"}
        assert (own["value"] > 0).all() and len(own) == 8
    probe = frame[frame["score"] == "linear_probe"]
    assert ((probe["low"] <= probe["value"]) & (probe["value"] <= probe["high"])).all()
    table = for_tables(frame)
    found = further_grid(table)
    assert found is not None
    assert found.headers == [
        "method",
        "linear_probe",
        "linear_probe_s",
        "full_finetune",
        "full_finetune_s",
    ]
    by_hand = probe[probe["method"] == "finetune"]["value"]
    line = next(row for row in found.texts if row[0] == "finetune")
    assert line[1] == f"{by_hand.mean():.4g}±{by_hand.std():.2g}"
    assert f"| finetune | {line[1]} |" in further_markdown(score_tables(table))


def test_the_target_is_a_part_of_the_key(tmp_path: Path) -> None:
    one = {cell.key for cell in planned(study(), tmp_path / "one").cells}
    other = study(transfer={"data": "digits:100", "scorer": "gradient", "recipe": {"epochs": 2}})
    two = planned(other, tmp_path / "two").cells
    assert {c.key for c in two if c.kind == "original"} <= one, "originals do not depend on it"
    assert not {c.key for c in two if c.kind != "original"} & one


def test_a_mask_is_held_while_a_sparse_model_adapts(tmp_path: Path) -> None:
    """A sparse `mlp` is masked in its head too, which another head replaces."""
    sparse = study(densities=[{"pruner": "omp", "sparsity": 0.8}], seeds=[0], floor=False)
    made = run_study(planned(sparse, tmp_path / "out", place=CPU))
    assert made.counts().done == len(made.cells), [made.store.failure(c.key) for c in made.cells]
    base = made.bench.original(made.cells[0].key)
    target = as_target(base.data, load_data("digits:100"))
    assert base.mask is not None
    held = without_head(base.mask, base.model)
    recipe = Recipe(epochs=2, batch_size=32, augmentation="none")
    adapted = full_finetune(base.model, target, Run(names=("test",), mask=held), recipe).model
    weights = dict(adapted.named_parameters())
    assert held and all((weights[name][~keep] == 0).all() for name, keep in held.items())


def test_defaults_of_a_target() -> None:
    assert TargetTask(data="mnist").scorer == "cosine"
    partly = TargetTask(data="mnist", recipe={"epochs": 5})
    assert partly.recipe.augmentation == "none", "digits are not flipped for a colour source's sake"
    assert (partly.recipe.epochs, partly.recipe.lr) == (5, 0.02)
    with pytest.raises(ConfigError, match="scorer"):
        TargetTask(data="mnist", scorer="best")
