"""What every method promises, whoever wrote it: the contract suite over the table of methods.

A new method is swept unasked, with its default settings; to make it quick, give it a row in QUICK.
"""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from helpers import CPU, digits, original, same_state
from rich.console import Console
from thorough import THOROUGH, but_first
from torch import Tensor, nn

from expunge.api import adopt, train, unlearn
from expunge.cli.listing import listing
from expunge.data.batch import Batch
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError, DivergenceError
from expunge.methods import CONTROLS, METHODS, Method, make_method
from expunge.methods.card import method_card
from expunge.testing import METHOD_CHECKS, METHOD_CHECKS_PER_MODEL, MethodCase
from expunge.testing.ground import alone
from expunge.testing.methods import HUGE, forgets_a_single_sample
from expunge.trained.trained import Trained
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
    "random_label": {"epochs": 1, "batch_size": 64},
    "salun": {"epochs": 1, "batch_size": 64},
    "perturb": {"kind": "noise", "epochs": 1},
    "cfk": {"epochs": 1, "batch_size": 64},
    "scrub": {"epochs": 2, "batch_size": 64, "lr": 0.01, "rewind": True},
    "delete": {"epochs": 2, "batch_size": 16},
    "bad_teacher": {"batch_size": 64, "lr": 1e-3},
    "lotus": {"epochs": 1, "batch_size": 64, "margin": 1.0},
    "msg": {"epochs": 1, "batch_size": 64},
    "ssd": {"alpha": 1.0, "batch_size": 64},
    "amun": {"epochs": 1, "batch_size": 64, "steps": 10},
    "boundary_shrink": {"epochs": 2, "batch_size": 16, "lr": 1e-3},
    "boundary_expand": {"epochs": 2, "batch_size": 16, "lr": 1e-3},
    "fcs": {"rounds": 1, "batch_size": 64},
    "regun": {"epochs": 1, "batch_size": 32},
    "sfron": {"steps": 6, "batch_size": 64},
    "certified_head": {"noise_seed": 0, "penalty": 0.1, "spend": "measured"},
    "noisy_finetune": {
        "noise_seed": 0,
        "public": True,
        "noise_steps": 4,
        "epochs": 1,
        "batch_size": 64,
    },
    "sisa": {"shards": 2, "slices": 2},
    "fine_pruning": {"epochs": 1, "batch_size": 64, "tries": 4},
    "anp": {"steps": 4, "threshold": 1.0, "samples": 64},
    "ibau": {"epochs": 1, "steps": 1, "ascent_steps": 2, "batch_size": 64},
}
# The original's recipe: what `retrain` trains by.
RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05)
# Every learning rate of every method, each of which must be named where it is too high.
RATES = [
    (name, key)
    for name, method in METHODS.items()
    for key in method.model_fields
    if key == "lr" or key.endswith("_lr")
]

EVERY = {**METHODS, **CONTROLS}
every_method = pytest.mark.parametrize("name", EVERY)
both_models = pytest.mark.parametrize("architecture", ["cnn", "mlp"])


def quick(name: str, **changes: Any) -> Method:
    return make_method(name, {**QUICK.get(name, {}), **changes}, allow_code=True)


def case(name: str, architecture: str = "mlp", count: int = 300) -> MethodCase:
    return MethodCase(EVERY[name], QUICK.get(name, {}), architecture, count)


def request(name: str, data: Data, share: float = 0.1, base: Split | None = None) -> Split:
    """A share of the data, or one class for a method that forgets nothing else."""
    return case(name).split(data, base, share)


def forget(name: str, model: nn.Module, architecture: str = "mlp", **changes: Any) -> Trained:
    """`unlearn` on a tenth of 300 digits, as everybody calls it."""
    return case(name, architecture).forget(model, **{"recipe": RECIPE, **changes})


@pytest.mark.parametrize("check", METHOD_CHECKS)
@every_method
def test_a_promise(name: str, check: str) -> None:
    METHOD_CHECKS[check](case(name))


# Whose modes, flags and gradients these are does not depend on the layers.
ON_MLP_ALONE = {"leaves_the_callers_model_alone", "keeps_frozen_parameters", "repeats_itself"}


@pytest.mark.parametrize(
    ("check", "architecture"),
    [
        pytest.param(check, architecture, marks=THOROUGH if architecture == "cnn" else ())
        for check in METHOD_CHECKS_PER_MODEL
        for architecture in ("mlp", "cnn")
        if architecture == "mlp" or check not in ON_MLP_ALONE
    ],
)
@every_method
def test_a_promise_on_a_model(name: str, check: str, architecture: str) -> None:
    METHOD_CHECKS_PER_MODEL[check](case(name, architecture))


# --- what holds for this package's own methods


@every_method
def test_a_method_is_a_file_of_its_name(name: str) -> None:
    method = EVERY[name]
    assert method.name == name
    assert method.__module__ == f"expunge.methods.{name}"
    assert method() == make_method(name, allow_code=True)
    for preset, values in method.presets.items():
        assert make_method(f"{name}:{preset}", allow_code=True) == method(**values)


@THOROUGH
@every_method
def test_a_forget_set_of_one_sample_on_a_deep_model(name: str) -> None:
    forgets_a_single_sample(case(name, "resnet20", count=60))


@pytest.mark.parametrize("architecture", but_first(1, ["mlp", "cnn"]))
@pytest.mark.parametrize(("name", "key"), RATES)
def test_a_rate_that_is_too_high_is_named(name: str, key: str, architecture: str) -> None:
    if case(name, architecture).refused:
        return
    model = original(architecture)
    before = copy.deepcopy(model)
    method = quick(name, **{key: HUGE})
    place = r"(epoch \d+ of \d+, step \d+|step \d+ of \d+)"
    where = rf"^{name}( \([a-z]+\))? diverged in {place}: "
    told = rf"{where}.*; lower {key} \(now 1e\+08\)"
    with pytest.raises(DivergenceError, match=told):
        forget(name, model, architecture, method=method)
    assert same_state(model, before)


@both_models
@pytest.mark.parametrize("name", ["retrain", "euk"])
def test_retraining_at_too_high_a_rate_names_the_recipes(name: str, architecture: str) -> None:
    told = rf"^{name} diverged in epoch \d+ of \d+, step \d+: .*; lower lr \(now 1e\+08\)"
    with pytest.raises(DivergenceError, match=told):
        forget(name, original(architecture), architecture, recipe=RECIPE.but(lr=HUGE))


@both_models
@pytest.mark.parametrize("name", ["influence", "fisher"])
def test_weights_set_at_once_that_explode_say_so(name: str, architecture: str) -> None:
    told = rf"^{name} diverged: the weights' norm is .*, more than 100 times .*; .*lower alpha"
    with pytest.raises(DivergenceError, match=told):
        forget(name, original(architecture), architecture, method=quick(name, alpha=1e12))


def test_every_method_but_these_can_diverge() -> None:
    """So that a new one does not leave `diverges` empty by oversight."""
    no_rate = {"retrain", "euk", "sisa"}  # the recipe's alone
    shrinks = {"ssd", "anp"}
    untold = {name for name, method in METHODS.items() if not method.diverges}
    assert untold - {"certified_head"} == no_rate | shrinks


def test_the_list_says_what_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    proved = {name: method.guarantee for name, method in METHODS.items()}
    assert {name for name, what in proved.items() if what == "exact"} == {"retrain", "sisa"}
    certified = {name for name, what in proved.items() if what == "certified(epsilon, delta)"}
    assert certified == {"certified_head", "noisy_finetune"}
    for name in METHODS:
        Console(width=200).print(listing("methods", name))
        assert f"guarantee: {METHODS[name].guarantee}" in capsys.readouterr().out


@every_method
def test_a_method_tells_its_equation_cost_and_when_to_use_it(name: str) -> None:
    card = method_card(EVERY[name])
    for text in (card.summary, card.equation, card.cost, card.use, card.avoid):
        assert text.endswith(".")
    assert 0 < len(card.short_cost) <= 90


@pytest.mark.parametrize("name", [n for n, method in EVERY.items() if method.scope == "random"])
def test_a_whole_class_is_warned_of_by_a_method_for_samples(name: str) -> None:
    data = digits()
    result = forget(name, original("mlp"), split=Split.classes(data, [3]))
    assert any("takes all of '3'" in text for text in result.record.warnings)
    result = forget(name, original("mlp"), split=Split.random(data, 0.1))
    assert not any("takes all of" in text for text in result.record.warnings)


@pytest.mark.parametrize("name", [n for n, method in EVERY.items() if method.scope == "class"])
def test_a_refusal_names_the_methods_that_could(name: str) -> None:
    data = digits()
    with pytest.raises(ConfigError, match=rf"^{name} forgets whole classes only") as caught:
        forget(name, original("mlp"), split=Split.random(data, 0.1))
    assert "finetune" in str(caught.value)
    assert name not in str(caught.value).removeprefix(name)


@every_method
def test_the_record_says_what_was_done(name: str) -> None:
    method = quick(name)
    result = forget(name, case(name).model(), method=method, seed=6)
    record = result.record
    assert record.step == name
    assert (record.scope, record.guarantee) == (method.scope, method.proves())
    assert make_method(name, json.loads(json.dumps(record.settings)), allow_code=True) == method
    names = ("retrain", 6) if name == "retrain" else ("unlearn", name, 6)
    if EVERY[name].takes_part:
        names = ("original", 0)  # what it does again, it does as in training
    assert record.names == names
    assert 0 < record.cost.seconds < math.inf
    assert record.cost.peak_memory_bytes > 0
    total = sum(record.cost.reads[key] for key in ("retain", "forget", "validation"))
    assert record.cost.epoch_equivalents == total / len(result.split.retain)
    assert not result.model.training


@every_method
def test_a_request_of_one_sample_is_warned_of(name: str) -> None:
    data = digits()
    whole = Split.whole(data)
    base = alone(data, whole) if EVERY[name].scope == "class" else whole
    one = Split.ids(data, [whole.retain[7]], base=base)
    result = forget(name, case(name).model(), split=one)
    assert any("only 1 samples to forget" in text for text in result.record.warnings)


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, one in EVERY.items()
        if not one.trains and not one.takes_part and "batch_size" in one.model_fields
    ],
)
def test_what_only_takes_statistics_does_not_depend_on_the_batch(name: str) -> None:
    model = original("cnn")
    small, large = (
        forget(name, model, "cnn", method=quick(name, batch_size=size)).model.state_dict()
        for size in (7, 64)
    )
    for key, start in model.state_dict().items():
        moved = float((small[key].double() - start).abs().max())
        assert torch.allclose(small[key], large[key], rtol=0, atol=1e-2 * moved + 1e-7), key


class Copying:
    """A task without classes: to give back what goes in."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        return (model(batch.inputs) - batch.inputs.flatten(1)).square().mean(1)

    def observe(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"copy": model(batch.inputs)}


@every_method
def test_a_task_without_classes_is_met_or_refused(name: str) -> None:
    """Who changes labels, or needs logits, would learn what is to be forgotten by an ordinary loss."""
    kind, data = EVERY[name], load_data(digits(), task=Copying())
    split = request(name, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 64))
    told = f"^{name} needs classes, and the task's .*'copy'.*; choose .*: retrain, finetune"

    def made() -> nn.Module:
        if kind.takes_part:
            return train(
                data, lambda: copy.deepcopy(model), recipe=RECIPE, method=quick(name), place=CPU
            ).model
        given = adopt(
            model,
            data,
            recipe=RECIPE,
            fresh=lambda: copy.deepcopy(model),
            split=split.whole_again(),
        )
        return unlearn(given, split, quick(name), place=CPU).model

    if not kind.needs_classes:
        assert not same_state(made(), model)
        return
    with pytest.raises(ConfigError, match=told):
        made()


@pytest.mark.parametrize(
    ("name", "settings", "plateau", "whole", "looks"),
    [
        ("scrub", {}, False, False, False),
        ("scrub", {"rewind": True}, False, False, True),
        ("scrub", {"rewind": True}, False, True, False),
        ("lotus", {}, False, False, True),
        ("lotus", {}, False, True, False),
        ("regun", {}, False, False, True),
        *((name, {}, plateau, False, plateau) for name in ("euk", "retrain") for plateau in (0, 1)),
    ],
)
def test_validation_samples_are_read_where_it_is_said(
    name: str, settings: dict[str, Any], plateau: bool, whole: bool, looks: bool
) -> None:
    """Nobody is refused for them, or has them halved, whose settings read none."""
    data = digits()
    split = Split.classes(data, [3]) if whole else Split.random(data, 0.1)
    recipe = RECIPE.but(schedule="plateau" if plateau else "cosine", epochs=1)
    method = quick(name, **({"rewind": False} if name == "scrub" else {}) | settings)
    told = Part.VALIDATION in method.reads_now(recipe, whole=split.only_whole_classes(data))
    made = forget(name, original("mlp"), method=method, split=split, recipe=recipe)
    assert told == looks == bool(made.record.cost.reads["validation"])
