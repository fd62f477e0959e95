"""What every pruner promises, whoever wrote it: the contract suite over the table of pruners."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from helpers import (
    global_randomness_stays,  # noqa: F401
    original,
)
from sparse_helpers import equal

from expunge.models.mask import layer_sparsity, sparsity_of
from expunge.pruning import PRUNERS, make_pruner
from expunge.testing import PRUNER_CHECKS, PRUNER_CHECKS_PER_MODEL, PrunerCase
from expunge.testing.ground import RECIPE

# Settings that make a pruner quick; {} for a pruner that is not here.
QUICK: dict[str, dict[str, Any]] = {
    "omp": {"rewind_epoch": 1},
    "imp": {"rewind_epoch": 1, "rate": 0.7},
    "synflow": {"steps": 10},
}
# Pruners whose mask of a given model is drawn by chance.
BY_CHANCE = {"random"}

every_pruner = pytest.mark.parametrize("name", PRUNERS)
both_models = pytest.mark.parametrize("architecture", ["cnn", "mlp"])


def case(name: str, architecture: str = "mlp") -> PrunerCase:
    return PrunerCase(PRUNERS[name], QUICK.get(name, {}), architecture)


@pytest.mark.parametrize("check", PRUNER_CHECKS)
@every_pruner
def test_a_promise(name: str, check: str) -> None:
    PRUNER_CHECKS[check](case(name))


@both_models
@pytest.mark.parametrize("check", PRUNER_CHECKS_PER_MODEL)
@every_pruner
def test_a_promise_on_a_model(name: str, check: str, architecture: str) -> None:
    PRUNER_CHECKS_PER_MODEL[check](case(name, architecture))


# --- what holds for this package's own pruners


@every_pruner
def test_a_pruner_is_a_file_of_its_name(name: str) -> None:
    pruner = PRUNERS[name]
    assert pruner.name == name
    assert pruner.__module__ == f"expunge.pruning.{name}"
    assert pruner() == make_pruner(name, allow_code=True)
    assert pruner().sparsity == 0.95


@both_models
@every_pruner
def test_a_mask_depends_on_the_seed_only_where_it_is_drawn(name: str, architecture: str) -> None:
    model = original(architecture)
    first, other = (case(name, architecture).cut(model, 0.8, seed=seed) for seed in (3, 4))
    assert equal(first, other) == (name not in BY_CHANCE)


@every_pruner
def test_the_record_says_what_was_done(name: str) -> None:
    found = case(name).prune(seed=6)
    record, pruner = found.record, case(name).pruner(sparsity=0.9)
    settings = {"pruner": name, **pruner.model_dump(), "recipe": RECIPE.model_dump()}
    assert record.step == "prune"
    assert record.settings == settings
    assert record.names == ("original", 6)
    assert 0 < record.cost.seconds < math.inf
    log = json.loads(json.dumps(record.log))
    assert log["sparsity"] == sparsity_of(found.mask or {})
    assert log["layers"] == layer_sparsity(found.mask or {})
    assert log["saw_data"] == PRUNERS[name].trained
    assert log["cuts"] == len(pruner.cuts())
    assert 0 < log["seconds_to_mask"] < record.cost.seconds
    assert len(log["losses"]) == RECIPE.epochs - log["first_epoch"]
    assert (found.dense is not None) == PRUNERS[name].trained
