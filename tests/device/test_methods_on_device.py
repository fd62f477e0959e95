"""Training, every method and every pruner on the device, seen from outside."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from contract.test_methods import quick, request
from helpers import (
    SAME_FLOAT32,
    changed,
    devices_of,
    digits,
    finite,
    inputs_of,
    original,
    random_mask,
    run_on,
    run_on_cpu,
    same_state,
    scores_of,
    streams_stay,
    unlearned,
)
from sparse_helpers import made_sparse
from thorough import THOROUGH
from torch import nn

from expunge.api import train, unlearn
from expunge.audits.observe import accuracy, observe
from expunge.data.split import Split
from expunge.methods import METHODS
from expunge.models.mask import layer_sparsity, sparsity_of
from expunge.place import Place
from expunge.pruning import PRUNERS, make_pruner
from expunge.pruning.criteria import pruning_criteria
from expunge.training.recipe import Recipe

pytestmark = THOROUGH  # of a processor, where there is no GPU


RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05)
every_method = pytest.mark.parametrize(
    "name", [name for name, one in METHODS.items() if one.takes_statistics and not one.takes_part]
)


def forget(name: str, model: nn.Module, device: str, **options: Any) -> Any:
    return unlearned(
        model,
        digits(),
        request(name, digits()),
        quick(name),
        recipe=RECIPE,
        fresh="cnn",
        device=device,
        **options,
    )


@every_method
def test_a_method_comes_back_from_the_device(name: str, device: str) -> None:
    model = original("cnn")
    before = copy.deepcopy(model)
    with streams_stay(device):
        result = forget(name, model, device)
    assert same_state(model, before), "the caller's model was changed"
    assert devices_of(model) == devices_of(result.model) == {"cpu"}
    assert finite(result.model)
    assert changed(model, result.model)
    assert all(value.device.type == "cpu" for value in result.artifacts.values())
    cost = result.record.cost
    assert torch.device(cost.device).type == torch.device(device).type
    assert cost.memory == ("device" if device.startswith("cuda") else "resident set")
    assert cost.peak_memory_bytes > 0 and cost.warmed_up


def test_certificates_come_back_from_the_device(device: str) -> None:
    """Of models that others are not: without running statistics, and with a head of its own."""
    place = Place(device=device)
    plain = train(digits(), "mlp", recipe=RECIPE, place=place)
    head = train(digits(), "cnn", recipe=RECIPE, method=quick("certified_head"), place=place)
    for before, name in ((plain, "noisy_finetune"), (head, "certified_head")):
        result = unlearn(before, "random:0.02", quick(name), place=place)
        assert devices_of(result.model) == {"cpu"}
        assert finite(result.model)
        assert changed(before.model, result.model)


@every_method
def test_a_mask_is_held_on_the_device(name: str, device: str) -> None:
    model = original("cnn")
    mask = random_mask(model)
    result = forget(name, model, device, mask=mask)
    found = dict(result.model.named_parameters())
    for key, keep in mask.items():
        assert not found[key][~keep].any(), key
        assert (found[key][keep] != 0).any(), key


def test_a_model_that_lies_on_the_device_stays_there(device: str) -> None:
    model = original("cnn").to(device)
    mask = {name: keep.to(device) for name, keep in random_mask(model).items()}
    result = forget("finetune", model, device, mask=mask)
    assert devices_of(model) == devices_of(result.model) == {torch.device(device).type}
    scores = scores_of(
        result.model,
        digits(),
        result.split,
        original=model,
        retrained=original("cnn"),
        also=("relearn_time", "weight_distance", "prediction_distribution"),
        mask=mask,
        device=device,
    )
    assert {"UA", "RA", "TA", "MIA", "relearn_time", "AIN"} <= {score.name for score in scores}
    assert devices_of(model) == {torch.device(device).type}


def test_outputs_on_the_device_are_those_on_the_processor(device: str) -> None:
    """A model that was trained on the device, observed on both in exact float32."""
    data = digits()
    with streams_stay(device):
        trained = train(data, "resnet20", recipe=RECIPE.but(epochs=1), place=Place(device=device))
    assert devices_of(trained.model) == {"cpu"}
    split = Split.random(data, 0.1, base=trained.split)
    here = observe(trained.model, data, split, run_on(device))
    there = observe(trained.model, data, split, run_on_cpu())
    for part in ("forget", "retain", "test_kept"):
        one, other = getattr(here, part), getattr(there, part)
        assert one.ids == other.ids
        scale = float(other.logits.abs().max())
        assert float((one.logits - other.logits).abs().max()) <= SAME_FLOAT32 * scale, part
    assert devices_of(trained.model) == {"cpu"}


def test_training_on_the_device_learns_as_on_the_processor(device: str) -> None:
    """The same draws of weights, order and crops: in float32 the two stay close for some steps."""
    data = digits(1000)
    recipe = Recipe(epochs=4, batch_size=64, lr=0.05, precision="float32", augmentation="crop")
    models = [
        train(data, "cnn", recipe=recipe, place=Place(device=where)).model
        for where in (device, "cpu")
    ]
    found = [accuracy(model, data, run_on_cpu()) for model in models]
    assert min(found) > 60
    assert abs(found[0] - found[1]) < 5  # percent; TF32 in training on a GPU moves some samples
    inputs, _ = inputs_of(data, 200, "cpu")
    agree = models[0].eval()(inputs).argmax(1) == models[1].eval()(inputs).argmax(1)
    assert float(agree.float().mean()) > 0.9


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruner_finds_its_sparsity_on_the_device(name: str, device: str) -> None:
    settings: dict[str, Any] = {"sparsity": 0.8}
    settings |= {"synflow": {"steps": 10}, "imp": {"rate": 0.56}}.get(name, {})
    found = made_sparse(
        digits(), "cnn", make_pruner(name, settings, allow_code=True), recipe=RECIPE, device=device
    )
    assert found.mask is not None
    assert sparsity_of(found.mask) == pytest.approx(0.8, abs=1e-3)
    parameters = dict(found.model.named_parameters())
    for key, keep in found.mask.items():
        assert keep.device.type == parameters[key].device.type == "cpu"
        assert not parameters[key][~keep].any()
    assert finite(found.model)
    for tensor in (found.early or {}).values():
        assert tensor.device.type == "cpu"
    if name in ("random", "synflow"):  # they look at initial weights alone, drawn on the processor
        other = made_sparse(
            digits(),
            "cnn",
            make_pruner(name, settings, allow_code=True),
            recipe=RECIPE,
            device="cpu",
        )
        assert other.mask is not None
        assert layer_sparsity(found.mask) == pytest.approx(layer_sparsity(other.mask), abs=0.01)


def test_a_trained_model_is_cut_further_on_the_device(device: str) -> None:
    first = made_sparse(
        digits(),
        "cnn",
        make_pruner("omp", {"sparsity": 0.5}, allow_code=True),
        recipe=RECIPE,
        device=device,
    )
    second = made_sparse(
        digits(),
        "cnn",
        make_pruner("omp", {"sparsity": 0.8}, allow_code=True),
        recipe=RECIPE,
        trained=first.model,
        mask=first.mask,
        sparse_recipe=RECIPE.but(epochs=1, schedule="constant", lr=0.01),
        device=device,
    )
    assert first.mask is not None and second.mask is not None
    assert sparsity_of(second.mask) == pytest.approx(0.8, abs=1e-3)
    assert not any((keep & ~first.mask[name]).any() for name, keep in second.mask.items())


def test_a_pruner_is_judged_on_the_device(device: str) -> None:
    split = Split.random(digits(), 0.1)
    pruner, place = make_pruner("omp", {"sparsity": 0.8}, allow_code=True), Place(device=device)
    sparse, dense = (
        train(
            digits(),
            "cnn",
            recipe=RECIPE.but(epochs=2),
            split=split.whole_again(),
            pruner=one,
            place=place,
        )
        for one in (pruner, None)
    )
    judged = pruning_criteria(sparse, dense, pruner, split, place=place)
    assert 0 < judged.overlap <= 1
