"""Mistakes that void a certificate, each with a test of its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, digits, original, random_mask, run_on_cpu, same_state, toy, view_of
from torch import Tensor, nn

from expunge.api import adopt, unlearn
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError, ModelError
from expunge.methods.noisy_finetune import NoisyFinetune
from expunge.methods.shared.certified import SecretNoise
from expunge.methods.shared.covered import check_covered, untrained
from expunge.methods.shared.noisy_descent import NoisyDescent, concentration
from expunge.methods.shared.noisy_steps import descend
from expunge.models.table import build_model
from expunge.testing.method_case import MethodCase
from expunge.testing.methods import METHOD_CHECKS_PER_MODEL
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05, augmentation="none")
QUICK: dict[str, Any] = {"noise_steps": 3, "epochs": 1, "batch_size": 64, "noise_seed": 1}


def fresh() -> nn.Module:
    return build_model("mlp", (1, 8, 8), 10, allow_code=False)


def tenth() -> Split:
    return Split.random(digits(), 0.1)


def forgotten(model: nn.Module, settings: dict[str, Any] | None = None, **changes: Any) -> Trained:
    """`noisy_finetune` on a tenth of the digits."""
    given = {"fresh": fresh, "recipe": RECIPE, **changes}
    adopted = adopt(model, digits(), split=tenth().whole_again(), **given)
    return unlearn(adopted, tenth(), NoisyFinetune(**{**QUICK, **(settings or {})}), place=CPU)


# --- noise


@pytest.mark.parametrize("seed", [None, 3])
def test_noise_that_can_be_drawn_again_proves_nothing(seed: int | None) -> None:
    method = NoisyFinetune(epsilon=0.5, delta=1e-3, noise_seed=seed)
    assert method.proves() == ("certified(0.5, 0.001)" if seed is None else "none (seeded)")
    one, two = (SecretNoise(run_on_cpu(), seed) for _ in range(2))
    assert (one.name() == two.name()) is (seed is not None)
    assert torch.equal(one.normal(5), two.normal(5)) is (seed is not None)


def test_a_run_under_the_same_seed_draws_other_noise() -> None:
    """The contract suite asks for that where a certificate is claimed."""
    settings = {**QUICK, "noise_seed": None, "public": True}
    METHOD_CHECKS_PER_MODEL["repeats_itself"](MethodCase(NoisyFinetune, settings))
    record = forgotten(original("mlp"), {"noise_seed": None}).record
    assert record.guarantee == "certified(1, 1e-05)"


def test_noise_is_that_of_the_first_process_alone() -> None:
    """Another process that drew its own would leave each with other weights."""
    told: list[Tensor] = []

    def process(rank: int, total: Callable[[Tensor], Tensor]) -> SecretNoise:
        run: Any = SimpleNamespace(world=2, rank=rank, device=torch.device("cpu"), sum=total)
        return SecretNoise(run)

    first = process(0, lambda own: told.append(own) or own)  # type: ignore[func-returns-value]
    drawn = first.normal(4)
    other = process(1, lambda own: own + told[0])
    assert drawn.any()
    assert torch.equal(other.normal(4), drawn)


def test_the_noise_is_gaussian_in_float64() -> None:
    drawn = SecretNoise(run_on_cpu(), 0).normal(100_000)
    assert drawn.dtype == torch.float64
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.var()) - 1) < 0.02
    assert abs(float((drawn.abs() < 1).double().mean()) - 0.6827) < 0.01


# --- noisy_finetune


def some_rows() -> tuple[Tensor, list[int], list[str]]:
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    return inputs, [i % 3 for i in range(40)], [f"person-{i:02d}" for i in range(40)]


def of_rows(kept: list[int]) -> Data:
    inputs, labels, ids = some_rows()
    return toy(
        [labels[i] for i in kept],
        inputs=inputs[kept],
        ids=[ids[i] for i in kept],
        classes=["a", "b", "c"],
    )


def test_batches_that_tell_of_the_forget_set() -> None:
    """Weights are bit-equal where the forget set never was in the data, at whatever rows it stood."""
    struck = [0, 7, 8, 21, 39]
    rest = [i for i in range(40) if i not in struck]
    _, _, ids = some_rows()
    results = []
    for kept in (list(range(40)), rest):
        data = of_rows(kept)
        split = Split.whole(data, validation=0.0)
        if len(kept) == 40:
            split = Split.ids(data, [ids[i] for i in struck], base=split)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
        view = view_of(data, split, names=("here", 0))
        method = NoisyFinetune(noise_seed=2, noise_steps=9, epochs=2, batch_size=9)
        run = run_on_cpu(recipe=Recipe(augmentation="none"))
        results.append(method.unlearn(model, view, run))
        assert set(view.reads) == {Part.RETAIN}
    assert same_state(*results)


def test_a_start_at_0_forgets_the_original_wholly() -> None:
    """C0 = 0: two originals end at the same bits."""
    one, two = original("mlp"), fresh()
    found = [forgotten(each, {"start_norm": 0.0}).model for each in (one, two)]
    assert same_state(*found)
    assert not same_state(forgotten(one).model, forgotten(two).model)


def test_momentum_in_the_steps_with_noise() -> None:
    """The setting is of what follows; the steps with noise have none. Nor have they dropout."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 10))
    data = digits()
    after = []
    for momentum in (0.0, 0.9):
        method = NoisyFinetune(**QUICK, momentum=momentum)
        copied = torch.nn.Sequential(*[m for m in model])
        run, noise = run_on_cpu(recipe=RECIPE), SecretNoise(run_on_cpu(), 4)
        view = view_of(data, tenth())
        before = [p.detach().clone() for p in copied.parameters()]
        retain = view.mix(view.source(Part.RETAIN))
        descend(copied, method.descent(), retain, 64, run, noise)
        after.append([p.detach().clone() for p in copied.parameters()])
        with torch.no_grad():
            for p, b in zip(copied.parameters(), before, strict=True):
                p.copy_(b)
        assert all(m.training for m in model)
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))


def test_clipping_layer_by_layer_is_not_clipping() -> None:
    """One norm over all weights together: for the start, and for the mean gradient of a batch."""
    descent = NoisyDescent(1, 0.5, 2.0, 3.0, 0.0, concentration(1.0, 1e-5))
    start, gradient = torch.full((4,), 10.0), torch.tensor([0.0, 30.0, 40.0, 0.0])
    end = descent.descend(start, [None], lambda *_: gradient, lambda: torch.zeros(4).double())
    wanted = torch.full((4,), 1.0).double() - 0.5 * torch.tensor([0.0, 1.8, 2.4, 0.0]).double()
    torch.testing.assert_close(end, wanted, rtol=0, atol=1e-6)
    short = descent.descend(start / 100, [None], lambda *_: gradient / 100, lambda: torch.zeros(4))
    torch.testing.assert_close(short, (start / 100 - 0.5 * gradient / 100).double())


def test_a_stop_that_would_tell_of_the_path() -> None:
    """A gradient that is not finite counts as 0."""
    descent = NoisyDescent(2, 0.5, 2.0, 3.0, 0.0, 1.0)
    bad = torch.tensor([float("nan"), 1.0])
    end = descent.descend(torch.ones(2), [0, 1], lambda *_: bad, lambda: torch.zeros(2))
    assert torch.equal(end, torch.ones(2).double())


def test_what_is_seen_on_the_way_is_not_recorded() -> None:
    """Losses or weights of a step with noise would void the proof, which is of the last one alone."""
    made = forgotten(original("mlp"))
    noise = {"sigma", "on_a_weight", "of_an_initialiser", "steps", "epochs_after"}
    assert set(made.record.log["noise"]) == noise
    assert set(made.record.log) <= {"noise", "layout", "tiny", "forget"}
    assert not made.artifacts


def test_running_statistics_are_refused() -> None:
    for settings in ({}, {"public": True}):
        with pytest.raises(ModelError, match=r"^noisy_finetune proves nothing .*GroupNorm") as told:
            forgotten(original("cnn"), settings, fresh="cnn")
        assert "\n" not in str(told.value)


def test_frozen_weights_are_refused_unless_one_vouches() -> None:
    model = original("mlp")
    model.fc1.weight.requires_grad_(False)  # type: ignore[union-attr]
    with pytest.raises(ModelError, match=r"'fc1\.weight' is frozen; thaw it, or say public=true"):
        forgotten(model)
    result: Any = forgotten(model, {"public": True}).model
    assert torch.equal(result.fc1.weight, model.fc1.weight)  # type: ignore[union-attr, arg-type]


class WithBuffer(nn.Module):
    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.inner = fresh()
        self.register_buffer("scale", torch.tensor(value), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.inner(inputs) * self.scale
        return logits


def test_buffers_that_saw_data_are_refused() -> None:
    forgotten(WithBuffer(), fresh=WithBuffer)
    with pytest.raises(ModelError, match="proves nothing of buffers and the like, and 'scale'"):
        forgotten(WithBuffer(2.0), fresh=WithBuffer)
    with pytest.raises(ModelError, match="give fresh="):
        forgotten(WithBuffer(), fresh=None)
    forgotten(WithBuffer(2.0), {"public": True}, fresh=WithBuffer)


class Remembers(nn.Module):
    """Keeps what it saw where neither parameters nor buffers are."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.how = fresh(), how
        self.seen: Any = {"list": [torch.zeros(1)], "array": np.zeros(1)}.get(how, torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        value = inputs.detach().double().mean()
        if self.training and self.how == "tensor":
            self.seen = value.reshape(1)
        elif self.training and self.how == "list":
            self.seen[0] = value.reshape(1)
        elif self.training:
            self.seen[0] = float(value)
        logits: Tensor = self.inner(inputs)
        return logits


class Extra(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = fresh()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.inner(inputs)
        return logits

    def get_extra_state(self) -> Tensor:
        return torch.zeros(1)

    def set_extra_state(self, state: Tensor) -> None:
        """It has none."""


@pytest.mark.parametrize("how", ["tensor", "list", "array"])
def test_state_that_is_neither_weight_nor_buffer_is_refused(how: str) -> None:
    make = functools.partial(Remembers, how)
    check_covered(make(), make(), run_on_cpu(), public=False)  # as its author made it
    model = make()
    model(torch.rand(4, 1, 8, 8))
    with pytest.raises(ModelError, match=r"'seen' is not as an untrained model has it"):
        check_covered(model, make(), run_on_cpu(), public=False)
    check_covered(model, None, run_on_cpu(), public=True)


def test_state_of_its_own_kind_is_refused() -> None:
    with pytest.raises(ModelError, match=r"get_extra_state"):
        check_covered(Extra(), Extra(), run_on_cpu(), public=False)


def test_a_recurrent_model_has_nothing_beside_its_weights() -> None:
    """It lists them a second time; and its gradients in evaluation mode do without cuDNN."""
    model = nn.Sequential(nn.Flatten(1, 2), nn.GRU(8, 4, batch_first=True))
    check_covered(model, None, run_on_cpu(), public=False)


def test_cudnn_has_no_gradients_of_recurrent_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bool] = []
    model = Recurrent()
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    model.register_forward_hook(lambda *_: states.append(torch.backends.cudnn.enabled))
    method, view = NoisyFinetune(**QUICK), view_of(digits(), tenth())
    run = run_on_cpu(recipe=RECIPE)
    retain = view.mix(view.source(Part.RETAIN))
    descend(model, method.descent(), retain, 64, run, SecretNoise(run, 4))
    assert states and not any(states) and torch.backends.cudnn.enabled


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(8, 4, batch_first=True), nn.Linear(4, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(inputs[:, 0])[0][:, -1])
        return logits


def gone() -> nn.Module:
    raise ModelError("the base is not there")


def test_an_untrained_model_that_is_gone_is_missed_where_it_is_needed() -> None:
    run = run_on_cpu(constructor=gone)
    assert untrained(original("mlp"), run, public=False) is None
    assert untrained(WithBuffer(), run, public=True) is None
    with pytest.raises(ModelError, match="base is not there"):
        untrained(WithBuffer(), run, public=False)


def test_a_mask_that_saw_data_is_refused() -> None:
    model = original("mlp")
    mask = random_mask(model)
    with pytest.raises(ModelError, match="prune by pruner random or synflow"):
        forgotten(model, mask=mask)
    result = forgotten(model, {"public": True}, mask=mask).model
    for name, parameter in result.named_parameters():
        if name in mask:
            assert not parameter[~mask[name]].any()
            assert parameter[mask[name]].all()


def test_cut_weights_do_not_count_in_the_norms() -> None:
    """Under a mask a network and the same network with garbage in what is cut end alike."""
    model = original("mlp")
    mask = random_mask(model)
    results = []
    for garbage in (0.0, 1e3):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in mask:
                    parameter.masked_fill_(~mask[name], garbage)
        run = run_on_cpu(recipe=RECIPE, mask=mask)
        method = NoisyFinetune(**QUICK, public=True)
        results.append(method.unlearn(model, view_of(digits(), tenth()), run))
    assert same_state(*results)


def test_the_default_lies_below_an_initialiser_and_the_published_erases() -> None:
    log = forgotten(original("mlp"), {"noise_steps": 100}).record.log["noise"]
    assert 0.1 * log["of_an_initialiser"] < log["on_a_weight"] < log["of_an_initialiser"]
    assert log["of_an_initialiser"] == pytest.approx(0.05, rel=0.2)
    told = forgotten(original("mlp"), {"clip_norm": 1.0}).record.warnings
    assert any("the model is erased" in text for text in told)
    told = forgotten(original("mlp"), {"epsilon": 50.0, "noise_steps": 99}).record.warnings
    assert any("near 0" in text for text in told)


def test_what_costs_more_than_half_of_retraining_is_told() -> None:
    told = forgotten(original("mlp"), recipe=RECIPE.but(epochs=2)).record.warnings
    assert any("retraining, which is exact, takes 2" in text for text in told)
    told = forgotten(original("mlp"), recipe=RECIPE.but(epochs=9)).record.warnings
    assert not any("retraining, which is exact" in text for text in told)


def test_a_decay_that_turns_weights_over_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be below 1; lower decay"):
        NoisyFinetune(step_size=0.1, decay=10.0)


def test_half_precision_does_not_reach_the_sums() -> None:
    """bfloat16 is the gradient's alone; the weights keep their type."""
    result = forgotten(original("mlp"), recipe=RECIPE.but(precision="bfloat16")).model
    assert all(p.dtype == torch.float32 for p in result.parameters())
    assert all(bool(p.isfinite().all()) for p in result.parameters())
