"""What every pruner promises, whoever wrote it: one suite over the table of pruners."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from helpers import digits, original, run_on_cpu, same_state
from seeded_helpers import global_randomness_stays  # noqa: F401
from sparse_helpers import blind, equal, is_within, made_sparse
from torch import nn

from expunge.errors import ConfigError
from expunge.models.mask import Mask, keep_largest, layer_sparsity, prunable, sparsity_of
from expunge.pruning import PRUNERS, Pruner, make_pruner
from expunge.pruning.original import Pruned
from expunge.training.recipe import Recipe

# Settings that make a pruner quick; {} for a pruner that is not here.
QUICK: dict[str, dict[str, Any]] = {
    "omp": {"rewind_epoch": 1},
    "imp": {"rewind_epoch": 1, "rate": 0.7},
    "synflow": {"steps": 10},
}
RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05, augmentation="none")
# Pruners whose mask of a given model is drawn by chance.
BY_CHANCE = {"random"}

every_pruner = pytest.mark.parametrize("name", PRUNERS)
both_models = pytest.mark.parametrize("architecture", ["cnn", "mlp"])


def quick(name: str, **changes: Any) -> Pruner:
    return make_pruner(name, {**QUICK.get(name, {}), **changes})


def cut(
    name: str, model: nn.Module, sparsity: float, *, within: Mask | None = None, seed: int = 0
) -> Mask:
    """One cut on a view that hands out no sample at all."""
    run = run_on_cpu(names=("original", seed))
    return quick(name).mask(model, blind(), run, sparsity=sparsity, within=within)


def pruned(name: str, architecture: str = "mlp", seed: int = 0) -> Pruned:
    pruner = quick(name, sparsity=0.9)
    return made_sparse(digits(), architecture, pruner, recipe=RECIPE, seed=seed, device="cpu")


@every_pruner
def test_a_pruner_explains_itself(name: str) -> None:
    pruner = PRUNERS[name]
    assert pruner.name == name
    assert pruner.__module__ == f"expunge.pruning.{name}", "one file per pruner, of its name"
    assert (vars(pruner).get("__doc__") or "").strip()
    assert pruner.paper.strip()
    assert isinstance(pruner.trained, bool)
    for key, field in pruner.model_fields.items():
        assert (field.description or "").strip(), f"{key} needs a description"
        assert not field.is_required(), f"{key} needs a default"
    assert pruner() == make_pruner(name)
    assert pruner().sparsity == 0.95


@every_pruner
def test_settings_survive_json(name: str) -> None:
    for chosen in (PRUNERS[name](), quick(name, sparsity=0.3)):
        text = chosen.model_dump_json()
        assert PRUNERS[name].model_validate_json(text) == chosen
        assert make_pruner(name, json.loads(text)) == chosen


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, math.nan])
@every_pruner
def test_a_sparsity_outside_0_to_below_1_is_refused(name: str, sparsity: float) -> None:
    with pytest.raises(ConfigError, match="sparsity = "):
        make_pruner(name, {"sparsity": sparsity})


@pytest.mark.parametrize("sparsity", [0.3, 0.9, 0.99])
@both_models
@every_pruner
def test_a_cut_keeps_the_number_that_was_asked_for(
    name: str, architecture: str, sparsity: float
) -> None:
    model = original(architecture)
    mask = cut(name, model, sparsity)
    weights = prunable(model)
    assert list(mask) == list(weights)
    for key, keep in mask.items():
        assert keep.dtype == torch.bool
        assert keep.shape == weights[key].shape
    total = sum(weight.numel() for weight in weights.values())
    assert sum(int(keep.sum()) for keep in mask.values()) == round((1 - sparsity) * total)


@every_pruner
def test_a_sparsity_of_0_keeps_all(name: str) -> None:
    assert all(keep.all() for keep in cut(name, original("cnn"), 0.0).values())


@both_models
@every_pruner
def test_a_cut_changes_nothing_of_the_model(name: str, architecture: str) -> None:
    model = original(architecture).train()
    list(model.modules())[-1].eval()
    next(iter(model.parameters())).requires_grad_(False)
    before = copy.deepcopy(model)
    modes = [module.training for module in model.modules()]
    cut(name, model, 0.8)
    assert same_state(model, before)
    assert [module.training for module in model.modules()] == modes
    flags = [[p.requires_grad for p in each.parameters()] for each in (model, before)]
    assert flags[0] == flags[1]
    assert all(p.grad is None for p in model.parameters())


@both_models
@every_pruner
def test_the_same_seed_gives_the_same_mask(name: str, architecture: str) -> None:
    model = original(architecture)
    first = cut(name, model, 0.8, seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = cut(name, model, 0.8, seed=3)
    other = cut(name, model, 0.8, seed=4)
    assert equal(first, second)
    assert equal(first, other) == (name not in BY_CHANCE)


@both_models
@every_pruner
def test_what_is_cut_stays_cut(name: str, architecture: str) -> None:
    """`within` is no earlier mask of the pruner's own, but any: here one by chance."""
    model = original(architecture)
    generator = torch.Generator().manual_seed(5)
    chance = {key: torch.rand(p.shape, generator=generator) for key, p in prunable(model).items()}
    within = keep_largest(chance, 0.5)
    before = {key: keep.clone() for key, keep in within.items()}
    total = sum(keep.numel() for keep in within.values())
    for sparsity in (0.5, 0.6, 0.95):
        mask = cut(name, model, sparsity, within=within)
        assert is_within(mask, within)
        assert sum(int(k.sum()) for k in mask.values()) == round((1 - sparsity) * total)
    assert equal(within, before), "the earlier mask itself is left alone"


@every_pruner
def test_a_mask_cannot_be_cut_to_less_than_it_is(name: str) -> None:
    model = original("mlp")
    within = cut(name, model, 0.8)
    with pytest.raises(ConfigError, match=r"sparsity 0\.5 is below that of the mask"):
        cut(name, model, 0.5, within=within)


@both_models
@every_pruner
def test_a_sparse_original_is_sparse_and_can_be_used(name: str, architecture: str) -> None:
    found = pruned(name, architecture)
    assert found.mask is not None
    total = sum(keep.numel() for keep in found.mask.values())
    assert abs(sparsity_of(found.mask) - 0.9) <= 0.5 / total
    parameters = dict(found.model.named_parameters())
    for key, keep in found.mask.items():
        assert not parameters[key][~keep].any(), key
        assert parameters[key][keep].all(), key
    assert all(torch.isfinite(value).all() for value in found.model.state_dict().values())
    assert not found.model.training
    assert list(found.model.state_dict()) == list(original(architecture).state_dict())


@every_pruner
def test_the_same_seed_gives_the_same_sparse_original(name: str) -> None:
    first = pruned(name, seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = pruned(name, seed=3)
    other = pruned(name, seed=4)
    assert same_state(first.model, second.model)
    assert not same_state(first.model, other.model)
    assert equal(first.mask or {}, second.mask or {})
    assert not equal(first.mask or {}, other.mask or {})


@every_pruner
def test_the_record_says_what_was_done(name: str) -> None:
    found = pruned(name, seed=6)
    record, pruner = found.record, quick(name, sparsity=0.9)
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
