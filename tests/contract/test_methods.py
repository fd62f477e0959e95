"""What every method promises, whoever wrote it: one suite over the table of methods.

A new method is swept unasked, with its default settings; to make it quick, give it a row in QUICK.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers import (
    EVERYTHING,
    changed,
    digits,
    named_digits,
    original,
    random_mask,
    resolved,
    run_on_cpu,
    same_state,
    view_of,
)
from torch import Tensor, nn

from expunge.api import Result, unlearn
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import AccessError, ConfigError, DivergenceError
from expunge.methods import METHODS, Method, make_method
from expunge.training.recipe import Recipe

# Settings that make a method quick and let it really move; {} for a method that is not here.
QUICK: dict[str, dict[str, Any]] = {
    "finetune": {"epochs": 1, "batch_size": 64},
    "gradient_ascent": {"epochs": 2, "batch_size": 8, "lr": 1e-3},
    "neggrad_plus": {"epochs": 1, "batch_size": 64},
    "l1_sparse": {"epochs": 1, "batch_size": 64},
    "influence": {"samples": 16, "batch_size": 64},
    "fisher": {"labels": "sampled", "batch_size": 64},
    "unsir": {
        "noise_used": None,
        "noise_batch": 8,
        "noise_steps": 4,
        "noise_repeats": 2,
        "batch_size": 64,
    },
}
# The original's recipe: what `retrain` trains by.
RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05)
# Methods that draw no random numbers at all, so that every seed gives the same weights.
WITHOUT_CHANCE: set[str] = set()
HUGE = 1e8
# Settings that throw the weights out at once, of methods that have no learning rate.
EXPLOSIVE: dict[str, dict[str, Any]] = {
    "influence": {"alpha": 1e12},
    "fisher": {"alpha": 1e12},
}

every_method = pytest.mark.parametrize("name", METHODS)
both_models = pytest.mark.parametrize("architecture", ["cnn", "mlp"])


def quick(name: str, **changes: Any) -> Method:
    return make_method(name, {**QUICK.get(name, {}), **changes})


def request(name: str, data: Data, share: float = 0.1, base: Split | None = None) -> Split:
    """A share of the data, or one class for a method that forgets nothing else."""
    if METHODS[name].scope == "classes":
        return Split.classes(data, [3], base=base)
    return Split.random(data, share, base=base)


def forget(name: str, model: nn.Module, architecture: str = "mlp", **changes: Any) -> Result:
    """`unlearn` on a tenth of 300 digits, as everybody calls it."""
    data = changes.pop("data", digits())
    given: dict[str, Any] = {
        "split": request(name, data),
        "method": quick(name),
        "recipe": RECIPE,
        "fresh": architecture,
        "device": "cpu",
        **changes,
    }
    return unlearn(model, data, **given)


@pytest.fixture(autouse=True)
def _global_randomness_stays() -> Iterator[None]:
    """A method draws from its run's seeds alone: torch's own stream is where it was."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@both_models
@every_method
def test_weights_are_finite_and_the_model_is_of_the_same_make(name: str, architecture: str) -> None:
    model = original(architecture)
    found = forget(name, model, architecture).model
    assert type(found) is type(model)
    before, after = model.state_dict(), found.state_dict()
    assert list(after) == list(before)
    flags = [[p.requires_grad for p in each.parameters()] for each in (model, found)]
    assert flags[0] == flags[1]
    for key, value in after.items():
        assert (value.shape, value.dtype) == (before[key].shape, before[key].dtype), key
        assert torch.isfinite(value).all(), key
    assert changed(model, found), "nothing was unlearned"


@both_models
@every_method
def test_the_callers_model_is_untouched(name: str, architecture: str) -> None:
    model = original(architecture).train()
    children = list(model.modules())
    children[-1].eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    gradient = torch.ones_like(parameters[-1])
    parameters[-1].grad = gradient
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in children]
    pointers = [p.data_ptr() for p in parameters]
    strides = [p.stride() for p in parameters]

    found = forget(name, model, architecture).model

    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in children] == modes
    assert [p.requires_grad for p in parameters] == [False] + [True] * (len(parameters) - 1)
    assert parameters[-1].grad is gradient
    assert torch.equal(gradient, torch.ones_like(gradient))
    assert list(model.parameters()) == parameters
    assert [p.data_ptr() for p in parameters] == pointers
    assert [p.stride() for p in parameters] == strides
    shared = {t.data_ptr() for t in model.state_dict().values()}
    assert not shared & {t.data_ptr() for t in found.state_dict().values()}, "memory is shared"


@every_method
def test_reads_are_declared(name: str) -> None:
    """What a method read is in its declaration, and taking it from there makes the read fail."""
    result = forget(name, original("mlp"))
    method = METHODS[name]
    read = [part for part in Part if result.record.cost.reads[part.names()[0]]]
    assert read
    for part in read:
        assert part in method.reads
        if part is Part.FORGET_LABELS and Part.FORGET in method.reads:
            continue  # who reads the samples may read their labels
        with pytest.raises(AccessError, match=f"reads {part.names()[0]} but"):
            directly(name, declared=method.reads & ~part)


def directly(name: str, declared: Part) -> nn.Module:
    """The method itself on a view of our making, without `unlearn` around it."""
    data = digits()
    recipe = resolved(RECIPE, data)
    run = run_on_cpu(label=name, recipe=recipe, constructor=lambda: original("mlp"))
    view = view_of(data, request(name, data), declared)
    return quick(name).unlearn(original("mlp"), view, run)


@every_method
def test_nothing_declared_means_nothing_done(name: str) -> None:
    with pytest.raises(AccessError):
        directly(name, declared=Part.NONE)
    directly(name, declared=EVERYTHING)  # it was the declaration, nothing else


def streamed(name: str, gone: bool) -> tuple[Any, Data, Split]:
    """A dataset that reads items one by one, 12 of them excluded; with `gone` they are not there."""
    dataset, data = named_digits()
    whole = Split.whole(data)
    split = request(name, data, 0.2, Split.random(data, 0.1, base=whole).settled())
    assert len(split.excluded) >= round(0.1 * len(whole.retain))
    forbidden = set(split.excluded)
    if gone:
        keep = [row for row, key in enumerate(dataset.ids) if key not in forbidden]
        dataset.inputs = dataset.inputs[keep]
        dataset.targets = [dataset.targets[row] for row in keep]
        dataset.ids = [dataset.ids[row] for row in keep]
        data = load_data((dataset, data.test.store.dataset))  # type: ignore[attr-defined]
    dataset.forbidden = forbidden
    return dataset, data, split


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
@every_method
def test_excluded_samples_are_never_read(name: str, gone: bool) -> None:
    """Nor is anything else that was not declared, be it for the shape of one input."""
    dataset, data, split = streamed(name, gone)
    method = METHODS[name]
    if Part.FORGET not in method.reads:
        dataset.forbidden |= set(split.forget)
    if Part.RETAIN not in method.reads:
        dataset.forbidden |= set(split.retain)
    if Part.VALIDATION not in method.reads:
        dataset.forbidden |= set(split.validation)
    result = forget(name, original("mlp"), data=data, split=split, fresh="mlp")
    assert not set(dataset.read) & dataset.forbidden
    assert not set(dataset.read) & set(split.excluded)
    assert all(torch.isfinite(p).all() for p in result.model.parameters())


@every_method
def test_every_sample_read_is_counted(name: str) -> None:
    dataset, data, split = streamed(name, gone=False)
    result = forget(name, original("mlp"), data=data, split=split, fresh=lambda: original("mlp"))
    for part, ids in (("retain", split.retain), ("forget", split.forget)):
        assert result.record.cost.reads[part] == sum(key in set(ids) for key in dataset.read)


@both_models
@every_method
def test_the_same_seed_gives_the_same_bits(name: str, architecture: str) -> None:
    model = original(architecture)
    first = forget(name, model, architecture, seed=3).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)  # whatever ran before must not matter
        second = forget(name, model, architecture, seed=3).model
    other = forget(name, model, architecture, seed=4).model
    assert same_state(first, second)
    assert same_state(first, other) == (name in WITHOUT_CHANCE)


@both_models
@every_method
def test_mask_zeros_stay_zero(name: str, architecture: str) -> None:
    """Nine weights in ten are masked out, in a model that was not even sparse before."""
    model = original(architecture)
    mask = random_mask(model)
    before = dict(model.named_parameters())
    found = dict(forget(name, model, architecture, mask=mask).model.named_parameters())
    for key, keep in mask.items():
        assert 0.05 < keep.float().mean() < 0.2
        assert not found[key][~keep].any(), key
        assert (found[key][keep] != 0).any(), key
    still = [k for k, keep in mask.items() if torch.equal(before[k][keep], found[k][keep])]
    assert len(still) < len(mask), "the weights that are kept did not move"


class OnePixel(nn.Module):
    """BatchNorm on feature maps of one pixel, where a batch of one has no variance at all."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 8)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Linear(8, 8)
        self.norm1d = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.norm(self.convolution(inputs)).relu().flatten(1)
        logits: Tensor = self.head(self.norm1d(self.hidden(features)).relu())
        return logits


def one_pixel() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return OnePixel()


def alone(data: Data, whole: Split) -> Split:
    """The same split, in which the eighth sample is the only one of its class."""
    first = whole.retain[7]
    label = data.train.labels[data.train.position[first]]
    others = {
        key
        for key in (*whole.retain, *whole.validation)
        if data.train.labels[data.train.position[key]] == label and key != first
    }
    return Split(
        tuple(key for key in whole.retain if key not in others),
        (),
        tuple(key for key in whole.validation if key not in others),
        tuple(sorted(others)),
    )


@pytest.mark.parametrize("architecture", ["mlp", "cnn", "one_pixel", "resnet20"])
@every_method
def test_a_forget_set_of_one_sample(name: str, architecture: str) -> None:
    few = digits(100) if architecture == "resnet20" else digits()
    build: Any = one_pixel if architecture == "one_pixel" else architecture
    model = one_pixel() if build is one_pixel else original(architecture, len(few.train))
    class_only = METHODS[name].scope == "classes"
    whole = Split.whole(few)
    split = Split.ids(few, [whole.retain[7]], base=alone(few, whole) if class_only else whole)
    assert len(split.forget) == 1
    recipe = RECIPE.but(epochs=1)
    found = forget(name, model, data=few, split=split, fresh=build, recipe=recipe)
    assert all(torch.isfinite(value).all() for value in found.model.state_dict().values())
    assert any("only 1 samples to forget" in warning for warning in found.record.warnings)


@both_models
@every_method
def test_settings_that_diverge_raise_and_say_what_to_change(name: str, architecture: str) -> None:
    rates = [key for key in METHODS[name].model_fields if key == "lr" or key.endswith("_lr")]
    if not rates and name != "retrain":
        assert name in EXPLOSIVE, "a learning rate, or a row there"
        pytest.skip(f"{name} has no learning rate to set too high")
    method = quick(name, **dict.fromkeys(rates, HUGE))
    recipe = RECIPE.but(lr=HUGE) if name == "retrain" else RECIPE
    model = original(architecture)
    before = copy.deepcopy(model)
    with pytest.raises(DivergenceError) as caught:
        forget(name, model, architecture, method=method, recipe=recipe)
    which = rf"{name}( \([a-z]+\))? diverged in epoch \d+ of \d+, step \d+: "
    told = rf"{which}.*; lower ([a-z]+_)?lr \(now 1e\+08\)"
    assert caught.match(told)
    assert same_state(model, before)


@both_models
@pytest.mark.parametrize("name", EXPLOSIVE)
def test_weights_set_at_once_that_explode_raise_too(name: str, architecture: str) -> None:
    model = original(architecture)
    before = copy.deepcopy(model)
    with pytest.raises(DivergenceError) as caught:
        forget(name, model, architecture, method=quick(name, **EXPLOSIVE[name]))
    told = rf"^{name} diverged: the weights' norm is .*, more than 100 times .*; .*lower alpha"
    assert caught.match(told)
    assert same_state(model, before)


@every_method
def test_a_method_explains_itself(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.__module__ == f"expunge.methods.{name}", "one file per method, of its name"
    assert (vars(method).get("__doc__") or "").strip()
    assert method.paper.strip()
    assert method.reads
    assert isinstance(method.reads, Part)
    for key, field in method.model_fields.items():
        assert (field.description or "").strip(), f"{key} needs a description"
        assert not field.is_required(), f"{key} needs a default"
    assert method() == make_method(name)
    for preset, values in method.presets.items():
        assert make_method(f"{name}:{preset}") == method(**values)


@every_method
def test_requests_that_do_not_fit_are_refused(name: str) -> None:
    """A method that forgets whole classes only names those that do what was asked."""
    if not METHODS[name].scope == "classes":
        forget(name, original("mlp"))  # some of every class
        return
    data = digits()
    model = original("mlp")
    whole = Split.whole(data)
    zeros = [key for key in whole.retain if data.train.labels[data.train.position[key]] == 0]
    more = Split.classes(data, [3], base=whole)
    mixed = Split.ids(data, [*more.forget, zeros[0]], base=whole)
    for split in (Split.random(data, 0.1), Split.ids(data, zeros[1:]), mixed):
        with pytest.raises(ConfigError, match=rf"^{name} forgets whole classes only") as caught:
            forget(name, model, split=split)
        assert "finetune" in str(caught.value)
        assert name not in str(caught.value).removeprefix(name)


@every_method
def test_settings_survive_json(name: str) -> None:
    method = quick(name)
    for chosen in (METHODS[name](), method):
        text = chosen.model_dump_json()
        assert METHODS[name].model_validate_json(text) == chosen
        assert make_method(name, json.loads(text)) == chosen


@every_method
def test_the_record_says_what_was_done(name: str) -> None:
    method = quick(name)
    result = forget(name, original("mlp"), method=method, seed=6)
    record = result.record
    assert record.step == name
    assert make_method(name, json.loads(json.dumps(record.settings))) == method
    assert record.names == (("retrain", 6) if name == "retrain" else ("unlearn", name, 6))
    assert 0 < record.cost.seconds < math.inf
    assert record.cost.peak_memory_bytes > 0
    total = sum(record.cost.reads[key] for key in ("retain", "forget", "validation"))
    assert record.cost.epoch_equivalents == total / len(result.split.retain)
    assert not result.model.training
