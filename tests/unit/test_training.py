"""`fit`, the only optimiser loop: schedules, clipping, what is held, modes, divergence; and recipes."""

from __future__ import annotations

import copy
import hashlib
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import torch
from helpers import (
    batch_of,
    changed,
    digits,
    original,
    random_mask,
    resolved,
    run_on_cpu,
    same_state,
    view_of,
)
from torch import Tensor, nn

import expunge
from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.transform import Transform
from expunge.errors import AccessError, ConfigError, DataError, DivergenceError
from expunge.methods.finetune import Finetune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.models.layout import lay_out
from expunge.models.table import build_model
from expunge.names.seeds import seed_for
from expunge.place import Place
from expunge.trained.record import Record
from expunge.training import session
from expunge.training.cost import Account, Cost, Meter
from expunge.training.fit import FitLog, fit, train_from
from expunge.training.loop import evaluating, make_optimizer, parameter_norm
from expunge.training.precision import has_bfloat16, resolve_precision
from expunge.training.recipe import Recipe
from expunge.training.run import Run
from expunge.training.session import Session, open_session

CPU = torch.device("cpu")
PLAIN = Recipe(epochs=2, batch_size=16, lr=0.05, schedule="constant")
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(48, 6, generator=GENERATOR)
LABELS = torch.randint(3, (48,), generator=GENERATOR)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def small() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))


def normed() -> nn.Module:
    """Layers 0 and 3 are linear, 1 and 4 are BatchNorm with statistics of their own."""

    def build() -> nn.Module:
        model = nn.Sequential(
            nn.Linear(6, 5),
            nn.BatchNorm1d(5),
            nn.Tanh(),
            nn.Linear(5, 4),
            nn.BatchNorm1d(4),
            nn.Linear(4, 3),
        )
        for _ in range(3):
            model(torch.randn(20, 6))
        return model

    return seeded(build)


def batches(epoch: int = 0) -> list[Batch]:
    return [batch_of(INPUTS[i : i + 16], LABELS[i : i + 16]) for i in (0, 16, 32)]


def cross_entropy(model: nn.Module, batch: Batch, _: float = 0.0) -> Tensor:
    return Classification().losses(model, batch).mean()


def trained(
    model: nn.Module,
    recipe: Recipe = PLAIN,
    *,
    loss: Any = cross_entropy,
    stream: Any = batches,
    run: Run | None = None,
    **options: Any,
) -> FitLog:
    return fit(model, stream, loss, recipe=recipe, run=run or run_on_cpu(), **options)


@pytest.fixture(autouse=True)
def _global_randomness_stays() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


# --- the log and the loop


def test_the_log_holds_the_mean_loss_of_each_epoch() -> None:
    seen: list[float] = []

    def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
        value = cross_entropy(model, batch)
        seen.append(float(value.detach()))
        return value

    log = trained(small(), PLAIN.but(epochs=3), loss=loss)
    means = [sum(seen[i : i + 3]) / 3 for i in (0, 3, 6)]
    assert log.losses == pytest.approx(means)
    assert log.steps == 9
    assert log.seconds > 0
    assert log.precision == "float32"
    assert log.validation == []
    assert log.losses[-1] < log.losses[0]


def test_progress_runs_from_0_to_below_1() -> None:
    seen: list[float] = []

    def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
        seen.append(progress)
        return cross_entropy(model, batch)

    trained(small(), PLAIN.but(epochs=4), loss=loss)
    assert seen == pytest.approx([step / 12 for step in range(12)])


def test_a_stream_of_unknown_length_will_do() -> None:
    seen: list[float] = []

    def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
        seen.append(progress)
        return cross_entropy(model, batch)

    log = trained(small(), PLAIN, loss=loss, stream=lambda epoch: iter(batches()))
    assert log.steps == 6
    assert seen == [0, 0, 0, 0.5, 0.5, 0.5]


def test_each_epoch_asks_for_its_batches_once() -> None:
    asked = []

    def stream(epoch: int) -> list[Batch]:
        asked.append(epoch)
        return batches()

    trained(small(), PLAIN.but(epochs=3), stream=stream)
    assert asked == [0, 1, 2]


def test_nothing_to_train_on() -> None:
    with pytest.raises(ConfigError, match="run: there is nothing to train on"):
        trained(small(), stream=lambda epoch: [])


def test_pairs_with_an_empty_side_are_nothing_to_train_on() -> None:
    data = digits()
    view = view_of(data, Split.random(data, 0.1))
    with pytest.raises(ConfigError, match="nothing to train on"):
        trained(
            original("mlp"),
            stream=lambda e: view.pairs(view.source(Part.RETAIN), view.take(Part.FORGET, 0), 8),
        )


def test_after_epoch_sees_the_bare_model_and_the_number() -> None:
    seen: list[tuple[int, Tensor]] = []
    model = small()

    def after(given: nn.Module, epoch: int) -> None:
        assert given is model
        seen.append((epoch, given.get_parameter("0.weight").detach().clone()))

    trained(model, PLAIN.but(epochs=3), after_epoch=after)
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert not torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[2][1], model.get_parameter("0.weight"))


def test_after_epoch_ends_training_where_it_says_so() -> None:
    short, whole = small(), small()
    log = trained(short, PLAIN.but(epochs=9), after_epoch=lambda _, epoch: epoch == 1)
    trained(whole, PLAIN.but(epochs=2), after_epoch=lambda *_: False)
    assert len(log.losses) == 2
    assert same_state(short, whole)


def test_the_same_run_gives_the_same_bits_whatever_ran_before() -> None:
    def dropped() -> nn.Module:
        return seeded(lambda: nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.5), nn.Linear(9, 3)))

    first, second, other = dropped(), dropped(), dropped()
    trained(first)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        trained(second)
    trained(other, run=run_on_cpu(names=("run", 1)))
    assert same_state(first, second)
    assert not same_state(first, other), "dropout is drawn by the run's names"


def test_alternating_kinds_of_batch_under_one_optimiser() -> None:
    """A method may tell batches apart by their part."""
    kinds: list[Part | None] = []

    def stream(epoch: int) -> list[Batch]:
        return [
            Batch(b.ids, b.inputs, b.labels, part, b.weight)
            for b in batches()
            for part in (Part.FORGET, Part.RETAIN)
        ]

    def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
        kinds.append(batch.part)
        sign = -0.1 if batch.part is Part.FORGET else 1.0
        return sign * cross_entropy(model, batch)

    assert trained(small(), loss=loss, stream=stream).steps == 12
    assert kinds == [Part.FORGET, Part.RETAIN] * 6


# --- optimisers and schedules


def watched_rates(
    recipe: Recipe, steps: int = 3, sized: bool = True, **options: Any
) -> list[float]:
    """The learning rate at every step, read off the optimiser."""
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    def stream(epoch: int) -> Any:
        few = (batches() * 5)[:steps]
        return few if sized else iter(few)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", spy)
        trained(small(), recipe, stream=stream, **options)
    return rates


def torchs_rates(
    make: Callable[[torch.optim.Optimizer], Any], lr: float, ticks: int
) -> list[float]:
    """The sequence that torch's own scheduler gives when it is stepped that often."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(ticks):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_schedule_constant() -> None:
    assert watched_rates(PLAIN.but(lr=0.03)) == [0.03] * 6


def test_schedule_step() -> None:
    recipe = PLAIN.but(epochs=5, schedule="step", milestones=(2, 4), gamma=0.5, lr=0.08)
    epochs = torchs_rates(
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 4], gamma=0.5), 0.08, 5
    )
    assert epochs == pytest.approx([0.08, 0.08, 0.04, 0.04, 0.02])
    assert watched_rates(recipe) == pytest.approx([rate for rate in epochs for _ in range(3)])


def test_schedule_cosine() -> None:
    expected = torchs_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=12), 0.05, 12
    )
    assert watched_rates(PLAIN.but(epochs=4, schedule="cosine")) == pytest.approx(expected)
    assert expected[6] == pytest.approx(0.025)


@pytest.mark.parametrize("warmup", [0.3, 0.5])
def test_schedule_onecycle(warmup: float) -> None:
    recipe = PLAIN.but(epochs=4, schedule="onecycle", warmup_fraction=warmup)
    expected = torchs_rates(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, max_lr=0.05, total_steps=13, pct_start=warmup, cycle_momentum=False
        ),
        0.05,
        12,
    )
    rates = watched_rates(recipe)
    assert rates == pytest.approx(expected)
    assert rates[0] == pytest.approx(0.05 / 25)
    assert 0.045 < max(rates) <= 0.05
    assert rates[-1] < 0.01


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("warmup", [0.1, 0.2, 0.25, 0.3, 0.5, 0.9])
def test_onecycle_of_a_few_steps(warmup: float, steps: int) -> None:
    """However short the run, every rate lies between 0 and the peak."""
    recipe = PLAIN.but(epochs=1, schedule="onecycle", warmup_fraction=warmup)
    rates = watched_rates(recipe, steps=steps)
    assert len(rates) == steps
    assert all(0 < rate <= 0.05 for rate in rates)


def test_smooth_schedules_go_by_epochs_where_a_stream_has_no_length() -> None:
    recipe = PLAIN.but(epochs=4, schedule="cosine")
    expected = torchs_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=4), 0.05, 4
    )
    assert watched_rates(recipe, sized=False) == pytest.approx([r for r in expected for _ in "123"])


def test_schedule_plateau_follows_the_validation_loss() -> None:
    losses = iter([1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.5])
    recipe = PLAIN.but(epochs=7, schedule="plateau", patience=1, gamma=0.5, lr=0.08)
    rates = watched_rates(recipe, steps=1, validate=lambda model: next(losses))
    assert rates == pytest.approx([0.08, 0.08, 0.08, 0.08, 0.04, 0.04, 0.02])


def test_plateau_without_validation_is_refused() -> None:
    told = r"'plateau' watches a validation loss.*validation=0\.1.*another schedule"
    with pytest.raises(ConfigError, match=told):
        trained(small(), PLAIN.but(schedule="plateau"))
    data = digits()
    view = view_of(data, Split.whole(data, validation=0))
    with pytest.raises(ConfigError, match=told):
        train_from(original("mlp"), view, run_on_cpu(), PLAIN.but(schedule="plateau"))


def test_training_under_plateau_reads_validation_and_says_its_loss() -> None:
    data = digits()
    transform = Transform(data.normalisation, "crop_flip")  # for training, not for validation
    view = view_of(data, Split.whole(data), transform=transform)
    model = original("cnn")
    recipe = PLAIN.but(schedule="plateau", precision="float32")
    log = train_from(model, view, run_on_cpu(), recipe)
    assert view.reads[Part.VALIDATION] == 2 * len(view.split.validation)
    (batch,) = view.batches(Part.VALIDATION, 100, shuffle=False, augment=False)
    with evaluating(model), torch.no_grad():
        expected = float(cross_entropy(model, batch))
    assert log.validation[-1] == pytest.approx(expected, abs=1e-5)
    without = view_of(data, Split.whole(data))
    train_from(original("cnn"), without, run_on_cpu(), PLAIN)
    assert not without.reads[Part.VALIDATION]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov: bool) -> None:
    recipe = PLAIN.but(momentum=0.8, weight_decay=0.01, nesterov=nesterov)
    check_optimizer(
        recipe,
        lambda p: torch.optim.SGD(
            p, 0.05, 0.8, weight_decay=0.01, nesterov=nesterov, foreach=False
        ),
    )


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adam_is_torchs(kind: Any) -> None:
    recipe = PLAIN.but(optimizer=kind, momentum=0.85, weight_decay=0.01)
    reference = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    check_optimizer(
        recipe, lambda p: reference(p, 0.05, (0.85, 0.999), weight_decay=0.01, foreach=False)
    )


def check_optimizer(recipe: Recipe, make: Callable[[Any], torch.optim.Optimizer]) -> None:
    """Equal to torch's own optimiser in the plainest loop there is."""
    fast, slow = small().double(), small().double()
    doubled = [batch_of(b.inputs.double(), b.labels) for b in batches()]  # type: ignore[arg-type]
    trained(fast, recipe, stream=lambda epoch: doubled)
    optimizer = make(slow.parameters())
    for _ in range(recipe.epochs):
        for batch in doubled:
            optimizer.zero_grad()
            cross_entropy(slow, batch).backward()
            optimizer.step()
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def one_step(recipe: Recipe) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of one step, and what the model moved by, over the rate."""
    model = small()
    start = [p.detach().clone() for p in model.parameters()]
    first = batches()[:1]
    gradients = torch.autograd.grad(100 * cross_entropy(model, first[0]), list(model.parameters()))
    trained(
        model,
        recipe.but(epochs=1, momentum=0, weight_decay=0),
        loss=lambda m, b, _: 100 * cross_entropy(m, b),
        stream=lambda epoch: first,
    )
    moved = [(s - p.detach()) / recipe.lr for s, p in zip(start, model.parameters(), strict=True)]
    return list(gradients), moved


def total_norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def test_clip_norm() -> None:
    gradients, moved = one_step(PLAIN.but(clip_norm=0.5))
    assert total_norm(gradients) > 5
    assert total_norm(moved) == pytest.approx(0.5, rel=1e-3)
    for gradient, step in zip(gradients, moved, strict=True):
        torch.testing.assert_close(
            step, gradient * 0.5 / total_norm(gradients), rtol=1e-3, atol=1e-4
        )


def test_clip_value() -> None:
    gradients, moved = one_step(PLAIN.but(clip_value=0.7))
    for gradient, step in zip(gradients, moved, strict=True):
        torch.testing.assert_close(step, gradient.clamp(-0.7, 0.7), rtol=1e-3, atol=1e-4)
    assert max(float(g.abs().max()) for g in gradients) > 0.7


def test_without_clipping_the_gradient_is_taken_whole() -> None:
    gradients, moved = one_step(PLAIN.but(lr=0.001))
    for gradient, step in zip(gradients, moved, strict=True):
        torch.testing.assert_close(step, gradient, rtol=1e-2, atol=1e-2)


# --- what is held


OPTIMIZERS = [
    PLAIN.but(epochs=4, momentum=0.9, weight_decay=0.1),
    PLAIN.but(epochs=4, momentum=0.9, weight_decay=0.1, nesterov=True),
    PLAIN.but(epochs=4, optimizer="adam", lr=0.01, weight_decay=0.1),
    PLAIN.but(epochs=4, optimizer="adamw", lr=0.01, weight_decay=0.1),
]
every_optimizer = pytest.mark.parametrize(
    "recipe", OPTIMIZERS, ids=["momentum", "nesterov", "adam", "adamw"]
)


@every_optimizer
def test_masked_weights_are_zero_at_every_step(recipe: Recipe) -> None:
    model = small()
    mask = random_mask(model, kept=0.3)

    def loss(given: nn.Module, batch: Batch, _: float) -> Tensor:
        for name, keep in mask.items():
            assert not given.get_parameter(name)[~keep].any()
        return cross_entropy(given, batch)

    before = copy.deepcopy(model)
    trained(model, recipe, loss=loss, run=run_on_cpu(mask=mask))
    for name, keep in mask.items():
        assert not model.get_parameter(name)[~keep].any()
        moved = model.get_parameter(name) != before.get_parameter(name)
        assert moved[keep].all()


def test_weights_of_one_channel_are_laid_out_as_asked_for() -> None:
    """They count as either layout, so that `contiguous` would leave them as they are."""
    with torch.random.fork_rng():
        layer = nn.Conv2d(1, 8, 3)
    for form, channel in ((torch.channels_last, 1), (torch.contiguous_format, 9)):
        before = layer.weight.detach().clone()
        lay_out(layer, form)
        assert layer.weight.stride()[1] == channel and torch.equal(layer.weight, before)
        found = layer(torch.ones(4, 1, 6, 6))
        assert found.is_contiguous(memory_format=form), "or its pooling is slow"


def test_the_mask_of_a_convolution_is_held_in_any_memory_format() -> None:
    model = original("cnn")
    mask = random_mask(model)
    trained(model, stream=images, run=run_on_cpu(mask=mask))
    for name, keep in mask.items():
        assert not model.get_parameter(name)[~keep].any()
        assert model.get_parameter(name)[keep].all()


def images(epoch: int) -> Any:
    data = digits()
    return view_of(data, Split.whole(data)).batches(Part.RETAIN, 64, epoch=epoch)


@every_optimizer
def test_update_leaves_the_rest_bit_identical(recipe: Recipe) -> None:
    model = normed()
    before = copy.deepcopy(model)
    trained(model, recipe, update={"3.weight": True, "3.bias": True})
    assert changed(before, model) == {"3.weight", "3.bias"}, "buffers of frozen norms too"


@every_optimizer
def test_update_by_entries_leaves_the_other_entries_bit_identical(recipe: Recipe) -> None:
    model = normed()
    before = copy.deepcopy(model)
    chosen = torch.rand(5, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    trained(model, recipe, update={"0.weight": chosen, "5.weight": True, "3.bias": False})
    assert changed(before, model) == {"0.weight", "5.weight"}
    moved = model.get_parameter("0.weight") != before.get_parameter("0.weight")
    assert torch.equal(moved, chosen)


def test_update_of_all_or_no_entries_is_true_or_false() -> None:
    model, other = normed(), normed()
    before = copy.deepcopy(model)
    everything, nothing = torch.ones(5, 6, dtype=torch.bool), torch.zeros(4, 5, dtype=torch.bool)
    trained(model, update={"0.weight": everything, "3.weight": nothing})
    trained(other, update={"0.weight": True})
    assert same_state(model, other)
    assert changed(before, model) == {"0.weight"}


def test_update_of_a_norms_weights_moves_its_statistics() -> None:
    model = normed()
    before = copy.deepcopy(model)
    trained(model, update={"4.weight": True})
    statistics = {f"4.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed(before, model) == {"4.weight", *statistics}


def test_update_and_mask_together() -> None:
    """The mask is held even where nothing else may change."""
    model = small()
    mask = {"0.weight": torch.rand(5, 6, generator=torch.Generator().manual_seed(2)) < 0.5}
    chosen = torch.zeros(5, 6, dtype=torch.bool)
    chosen[:2] = True
    before = copy.deepcopy(model)
    trained(model, update={"0.weight": chosen}, run=run_on_cpu(mask=mask))
    found, keep = model.get_parameter("0.weight"), mask["0.weight"]
    assert not found[~keep].any()
    assert torch.equal(found[~chosen & keep], before.get_parameter("0.weight")[~chosen & keep])
    assert (found != before.get_parameter("0.weight"))[chosen & keep].all()
    assert changed(before, model) == {"0.weight"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": {"0.wight": True}}, "the update names '0.wight', which the model lacks"),
        ({"run": run_on_cpu(mask={"9.x": torch.ones(1)})}, "the mask names '9.x', which the model"),
        ({"update": {}}, "the model has no parameters to train"),
        ({"update": {"0.weight": False}}, "the model has no parameters to train"),
    ],
)
def test_update_and_mask_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    model = small()
    before = copy.deepcopy(model)
    with pytest.raises(ConfigError, match=message):
        trained(model, **options)
    assert same_state(model, before)
    assert all(p.requires_grad for p in model.parameters()), "flags come back after a refusal too"


def test_what_the_caller_froze_stays_frozen() -> None:
    model = normed()
    model[0].requires_grad_(False)  # type: ignore[index]
    before = copy.deepcopy(model)
    trained(model, PLAIN.but(weight_decay=0.1))
    assert not {"0.weight", "0.bias"} & changed(before, model)
    assert [p.requires_grad for p in model.parameters()][:3] == [False, False, True]


def test_norm_eval_uses_the_running_statistics_and_leaves_them() -> None:
    model, plain = normed(), normed()
    before = copy.deepcopy(model)
    trained(model, norm="eval")
    statistics = {n for n in model.state_dict() if "running" in n or "tracked" in n}
    assert not changed(before, model) & statistics
    assert changed(before, model) == set(before.state_dict()) - statistics
    plain.eval()
    optimizer = make_optimizer(list(plain.parameters()), PLAIN)
    for _ in range(2):
        for batch in batches():
            optimizer.zero_grad()
            cross_entropy(plain, batch).backward()
            optimizer.step()
    assert same_state(model, plain)


def test_norm_train_moves_the_statistics() -> None:
    model = normed()
    before = copy.deepcopy(model)
    trained(model)
    assert changed(before, model) == set(before.state_dict())


def test_modes_and_gradients_are_put_back() -> None:
    model = normed().eval()
    model[3].train()  # type: ignore[index]
    modes = [module.training for module in model.modules()]
    trained(model, update={"3.weight": True})
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(RuntimeError, match="mine"):
        trained(model, loss=raising, update={"3.weight": True}, norm="eval")
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad for p in model.parameters())


def raising(model: nn.Module, batch: Batch, _: float) -> Tensor:
    assert model.training
    raise RuntimeError("mine")


def test_a_batch_of_one_uses_the_running_statistics() -> None:
    """One sample has no variance: BatchNorm in training mode raises."""
    model = normed()
    norm: Any = model.get_submodule("1")
    start, modes = int(norm.num_batches_tracked), []

    def loss(given: nn.Module, batch: Batch, _: float) -> Tensor:
        modes.append(norm.training)
        return cross_entropy(given, batch)

    one = batch_of(INPUTS[:1], LABELS[:1])
    trained(model, stream=lambda epoch: [*batches(), one, *batches()], loss=loss)
    assert modes == [True, True, True, False, True, True, True] * 2
    assert int(norm.num_batches_tracked) == start + 12
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "options", [{"norm": "eval"}, {"update": {"5.weight": True}}], ids=["norm", "update"]
)
def test_a_batch_of_one_wakes_no_frozen_norm(options: dict[str, Any]) -> None:
    model = normed()
    before = copy.deepcopy(model)
    one = batch_of(INPUTS[:1], LABELS[:1])
    trained(model, stream=lambda epoch: [one, *batches()], **options)
    assert not {name for name in changed(before, model) if "running" in name}


def test_a_pair_with_a_batch_of_one() -> None:
    model = normed()
    one = batch_of(INPUTS[:1], LABELS[:1])
    log = trained(
        model,
        stream=lambda epoch: [(batch, one) for batch in batches()],
        loss=lambda m, pair, _: cross_entropy(m, pair[0]) + cross_entropy(m, pair[1]),
    )
    assert log.steps == 6
    assert all(value.isfinite().all() for value in model.state_dict().values())


# --- divergence


def test_a_loss_that_is_not_finite() -> None:
    seen: list[int] = []

    def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
        seen.append(1)
        return cross_entropy(model, batch) * (math.nan if len(seen) == 5 else 1)

    told = (
        r"^a run diverged in epoch 2 of 4, step 2: the loss is not finite; "
        r"lower lr \(now 0\.05\)"
    )
    recipe = PLAIN.but(epochs=4)
    with pytest.raises(DivergenceError, match=told):
        trained(small(), recipe, loss=loss, run=run_on_cpu(label="a run", recipe=recipe))
    assert len(seen) == 5, "it goes no further"


def test_an_infinite_loss() -> None:
    with pytest.raises(DivergenceError, match="epoch 1 of 2, step 1: the loss is not finite"):
        trained(small(), loss=lambda m, b, _: cross_entropy(m, b) * math.inf)


@pytest.mark.parametrize(
    ("settings", "own", "advice"),
    [
        ({}, True, "lower lr (now 0.05) or set clip_norm"),
        ({"clip_norm": 1.0}, True, "lower lr (now 0.05)"),  # it clips already
        ({"clip_value": 1.0}, True, "lower lr (now 0.05)"),
        ({}, False, "lower lr (now 0.05)"),  # a method without such a setting
    ],
)
def test_the_advice_is_one_that_can_be_followed(
    settings: dict[str, float], own: bool, advice: str
) -> None:
    recipe = PLAIN.but(**settings)
    run = run_on_cpu(recipe=recipe if own else None)
    with pytest.raises(DivergenceError) as caught:
        trained(small(), recipe, loss=lambda m, b, _: cross_entropy(m, b) * math.nan, run=run)
    assert str(caught.value).endswith(advice)


def test_weights_that_explode_while_the_loss_is_finite() -> None:
    model = small()
    told = r"epoch 1 of 1, step 3: the weights' norm is .*, more than 100 times the .*; lower lr \("
    with pytest.raises(DivergenceError, match=told):
        trained(model, PLAIN.but(epochs=1, lr=1e4), loss=lambda m, b, _: -m(b.inputs).tanh().mean())


def test_trap_of_a_norm_that_waits_for_the_device_once_a_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each number read off a GPU waits for all that it was asked before: they are read together."""
    weights = [nn.Parameter(torch.full((2,), float(value))) for value in range(1, 40)]
    expected = math.sqrt(2 * sum(value**2 for value in range(1, 40)))
    for name in ("__float__", "item"):
        monkeypatch.setattr(Tensor, name, None)
    found = parameter_norm(weights)
    monkeypatch.undo()
    assert found == pytest.approx(expected, rel=1e-6)


def test_explosions_are_found_within_an_epoch() -> None:
    """Not at its end alone: an epoch may be long."""
    seen: list[int] = []

    def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
        seen.append(1)
        return -1e5 * model(batch.inputs).tanh().mean()

    with pytest.raises(DivergenceError, match="step 50: the weights' norm"):
        trained(small(), loss=loss, stream=lambda epoch: batches() * 100)
    assert len(seen) == 50


@pytest.mark.parametrize("scale", [0.0, 0.05])
def test_small_weights_may_grow(scale: float) -> None:
    """Ordinary training from (nearly) zero takes the norm to any multiple of its start."""
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 3)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    log = trained(model, PLAIN.but(epochs=40, lr=0.5, weight_decay=0))
    assert log.losses[-1] < log.losses[0]


# --- precision


def test_precision_is_resolved_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    cnn, mlp = original("cnn"), original("mlp")
    for native in (True, False):
        monkeypatch.setattr("expunge.training.precision.has_bfloat16", lambda device, n=native: n)
        assert resolve_precision("auto", cnn, CPU) == ("bfloat16" if native else "float32")
        assert resolve_precision("auto", mlp, CPU) == "float32", "too small to gain"
        assert resolve_precision("bfloat16", mlp, CPU) == "bfloat16"
        assert resolve_precision("float32", cnn, CPU) == "float32"


def test_bfloat16_is_native_or_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, native in (
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False}, False),
        ({"avx512_f": True}, False),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda f=found: f, raising=False)
        for used, allowed in (("AVX512", True), ("AVX2", False), ("DEFAULT", False)):
            monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda u=used: u)
            assert has_bfloat16(CPU) is (native and allowed)
    assert not has_bfloat16(torch.device("meta"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_runs_in_the_recipes_precision(precision: Any) -> None:
    model, kinds = small(), set()
    model[0].register_forward_hook(lambda _, __, output: kinds.add(output.dtype))  # type: ignore[index]
    log = trained(model, PLAIN.but(precision=precision))
    assert kinds == {getattr(torch, precision)}
    assert log.precision == precision
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_losses_are_taken_in_float32() -> None:
    """Logits of bfloat16 have three digits; a cross-entropy of them would have no more."""
    batch = batches()[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = Classification().losses(small(), batch)
        logits = Classification().observe(small(), batch)["logits"]
    assert losses.dtype == logits.dtype == torch.float32
    assert not torch.equal(losses, losses.bfloat16().float())


def test_float64_models_stay_in_float64() -> None:
    model = small().double()
    log = trained(
        model, stream=lambda e: [batch_of(b.inputs.double(), b.labels) for b in batches()]
    )
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert log.precision == "float32"


# --- the task


def test_a_processs_loss_counts_by_its_share_of_the_batch() -> None:
    model = small()
    whole, share = batch_of(INPUTS, LABELS), batch_of(INPUTS, LABELS, weight=0.75)
    assert torch.equal(run_on_cpu().loss(model, whole), cross_entropy(model, whole))
    assert torch.equal(run_on_cpu().loss(model, share), 0.75 * cross_entropy(model, whole))


def test_losses_are_per_sample_cross_entropies() -> None:
    model = small()
    (batch, *_) = batches()
    found = Classification().losses(model, batch)
    logits = model(batch.inputs).double()
    assert batch.labels is not None
    expected = -torch.log_softmax(logits, 1)[torch.arange(16), batch.labels]
    torch.testing.assert_close(found.double(), expected)


class Wrapped(nn.Module):
    """Answers as models of the Hugging Face hub do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.inner = seeded(lambda: nn.Linear(6, 3))

    def forward(self, values: Tensor) -> Any:
        logits = self.inner(values)
        if self.kind == "mapping":
            return {"logits": logits}
        return type("Output", (), {"logits": logits})()


@pytest.mark.parametrize("kind", ["mapping", "object"])
def test_dictionaries_go_in_and_logits_come_out(kind: str) -> None:
    model = Wrapped(kind)
    batch = batch_of(INPUTS[:8], LABELS[:8])
    words = Batch(batch.ids, {"values": batch.inputs}, batch.labels, None)
    assert len(words) == 8
    found = Classification().observe(model, words)["logits"]
    assert torch.equal(found, model.inner(batch.inputs))
    trained(model, stream=lambda epoch: [words])


def test_what_is_no_classification_is_refused() -> None:
    batch = batches()[0]
    with pytest.raises(
        DataError, match=r"returns shape \(48,\); classification needs .*\(batch, c"
    ):
        Classification().losses(nn.Flatten(0), batch_of(INPUTS[:, 0], LABELS))
    with pytest.raises(DataError, match="needs labels, and this batch has none"):
        Classification().losses(small(), Batch(batch.ids, batch.inputs, None, None))


# --- recipes and seeds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1}, r"^Recipe: lr = -1: input should be greater than 0$"),
        ({"lr": "fast"}, r"^Recipe: lr = 'fast': input should be a valid number"),
        ({"lr": math.inf}, r"^Recipe: lr = inf: input should be a finite number"),
        ({"lr": math.nan}, r"^Recipe: lr = nan: "),
        ({"epochs": 0}, r"^Recipe: epochs = 0: input should be greater than or equal to 1$"),
        ({"epochs": 1.5}, r"^Recipe: epochs = 1\.5: "),
        ({"momentum": 1}, r"^Recipe: momentum = 1: input should be less than 1$"),
        ({"clip_norm": 0}, r"^Recipe: clip_norm = 0: input should be greater than 0$"),
        ({"optimizer": "sdg"}, r"^Recipe: optimizer = 'sdg': input should be 'sgd', 'adam' or"),
        ({"schedule": "cos"}, r"^Recipe: schedule = 'cos': input should be 'constant', 'step'"),
        (
            {"milestones": [3, "x"], "schedule": "step"},
            r"^Recipe: milestones\.1 = 'x': input should",
        ),
        ({"learning_rate": 1}, r"^Recipe has no setting 'learning_rate'.*; it has: epochs, batch_"),
        ({"weigth_decay": 1}, r"no setting 'weigth_decay', did you mean 'weight_decay'\?; it has"),
        ({"schedule": "step"}, r"^Recipe: schedule 'step' needs milestones, such as milestones="),
        ({"clip_norm": 1, "clip_value": 1}, r"^Recipe: clip_norm and clip_value exclude each oth"),
        ({"nesterov": True, "momentum": 0}, r"^Recipe: nesterov needs optimizer 'sgd' with mom"),
        ({"nesterov": True, "optimizer": "adam"}, r"^Recipe: nesterov needs optimizer 'sgd'"),
    ],
)
def test_recipes_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**settings)


def test_a_recipe_is_data() -> None:
    recipe = Recipe(schedule="step", milestones=(91, 136), lr=0.1, epochs=182)
    assert Recipe(**recipe.model_dump()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.but(epochs=3).epochs == 3
    assert recipe.epochs == 182
    with pytest.raises(ConfigError, match="epochs = -3"):
        recipe.but(epochs=-3)
    for name, field in Recipe.model_fields.items():
        assert field.description, name


def test_the_default_recipe_is_resolved_by_the_data() -> None:
    assert Recipe().augmentation == "auto"
    assert resolved(Recipe(), digits()).augmentation == "none"  # grey, 8 pixels
    assert resolved(Recipe(augmentation="flip"), digits()).augmentation == "flip"


def test_every_architecture_can_be_trained_as_it_is_built() -> None:
    model = seeded(lambda: build_model("resnet20", (1, 8, 8), 10, allow_code=True))
    log = trained(model, PLAIN.but(epochs=1), stream=images)
    assert math.isfinite(log.losses[0])


def test_seeds_hash_names_and_their_types() -> None:
    seeds = [
        seed_for("retrain", 0),
        seed_for("retrain", "0"),
        seed_for("retrain", 0, "floor"),
        seed_for("original", 0),
        seed_for(0, "retrain"),
        seed_for("retrain0"),
        seed_for("retrain"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [
        seed_for("retrain", 0),
        seed_for("retrain", "0"),
        seed_for("retrain", 0, "floor"),
        seed_for("original", 0),
        seed_for(0, "retrain"),
        seed_for("retrain0"),
        seed_for("retrain"),
    ]
    assert all(0 <= seed < 2**63 for seed in seeds)
    by_hand = hashlib.sha256(b"str:original\x1fint:0").digest()[:8]
    assert seed_for("original", 0) == int.from_bytes(by_hand, "big") // 2
    assert seed_for("original", 0) == 4_480_151_065_628_104_292, "the same on every machine"


# --- what is only reported


@contextmanager
def session_on_digits() -> Iterator[tuple[Session, nn.Module]]:
    """A measured session on a few digits, and its model."""
    data = digits()
    session = open_session(
        ("account", 0),
        "account",
        data,
        Split.whole(data),
        Part.RETAIN,
        recipe=PLAIN.but(augmentation="none"),
        fresh=None,
        mask=None,
        place=Place(device="cpu"),
    )
    model = original("mlp")
    with session.measured(model):
        yield session, model


def test_warming_up_costs_no_more_than_a_step_and_a_second_time_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once for each kind of step: what a method reads, and how much of it at a time."""
    monkeypatch.setattr("expunge.training.session._warm", set())
    passes: list[int] = []
    loss = Run.loss

    def counted(self: Run, model: nn.Module, batch: Batch) -> Tensor:
        if not len(batch.ids):  # the blank batch has no names
            passes.append(len(batch.inputs))
        return loss(self, model, batch)

    monkeypatch.setattr(Run, "loss", counted)
    trained = expunge.adopt(original("mlp"), digits(), recipe=PLAIN.but(augmentation="none"))
    few = expunge.Split.indices(trained.data, range(20), base=trained.split)
    place = Place(device="cpu")
    costs = [
        expunge.unlearn(trained, few, method, place=place).record.cost
        for method in (
            GradientAscent(epochs=1),
            GradientAscent(epochs=1),
            Finetune(epochs=1, batch_size=200),
            Finetune(epochs=1, batch_size=200, lr=0.02),
            Finetune(epochs=1, batch_size=40),
        )
    ]
    assert passes == [20, 200, 40]
    assert all(cost.warmed_up for cost in costs)


def test_a_model_of_the_same_weights_and_other_settings_is_warmed_up_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_warm", set())
    data = digits()

    class Tanh(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs.tanh())

    Tanh.__qualname__ = "Linear"
    warmed = []
    with torch.random.fork_rng():
        for stride, kind in ((1, nn.Linear), (2, nn.Linear), (2, Tanh), (2, Tanh)):
            layers = (nn.Conv2d(1, 4, 3, stride=stride), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            view, before = view_of(data, Split.whole(data)), len(session._warm)
            assert session.warm_up(nn.Sequential(*layers, kind(4, 10)), view, run_on_cpu())
            warmed.append(len(session._warm) - before)
    assert warmed == [1, 1, 1, 0]


def test_a_method_without_an_optimiser_loads_none() -> None:
    """The first of a process brings in torch's compiler, which takes seconds."""
    program = """
import sys, expunge, torch

class Asked(BaseException):
    pass

class Gate:  # who asks for the compiler is told so, sooner than it is loaded
    def find_spec(self, name, path=None, target=None):
        if name == "torch._dynamo":
            raise Asked

assert "torch._dynamo" not in sys.modules
sys.meta_path.insert(0, Gate())
data = expunge.load_data("digits:300")
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
trained = expunge.adopt(model, data)
for method in ("fisher", "influence", "head_zeroed"):
    expunge.unlearn(trained, "class:3", method, place=expunge.Place(device="cpu"))
try:
    expunge.unlearn(trained, "class:3", "gradient_ascent", place=expunge.Place(device="cpu"))
except Asked:
    pass
else:
    raise AssertionError("then torch needs no such care any more")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_over_at_once_has_a_peak_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sooner than the first sample is taken, in a pause or outside one."""
    monkeypatch.setattr(Meter, "_sample", lambda _: None)
    with Meter(torch.device("cpu")) as meter:
        pass
    assert meter.peak_memory_bytes > 0
    with Meter(torch.device("cpu")) as meter, meter.paused():
        pass
    assert meter.peak_memory_bytes > 0


def test_what_is_only_reported_stands_apart_from_the_cost() -> None:
    with session_on_digits() as (session, _):
        run, view = session.run, session.view
        first = next(iter(view.batches(Part.RETAIN, 30)))
        time.sleep(0.05)  # the resident set is sampled
        with run.only_reported(), run.named("part").only_reported():
            list(view.named("other").batches(Part.RETAIN, 100))
            held = torch.ones(2**26)  # 256 MiB
            time.sleep(0.3)
            del held
        with pytest.raises(AccessError), run.only_reported():
            view.batches(Part.FORGET, 10)
        next(iter(view.batches(Part.RETAIN, 10)))
    cost = session.cost
    whole = view.size(Part.RETAIN)
    assert len(first) == 30
    assert cost.reads["retain"] == 40 and cost.reported_reads == {"retain": whole}
    assert cost.epoch_equivalents == 40 / whole
    assert cost.seconds < 0.3 <= cost.reported_seconds
    assert cost.peak_memory_bytes < psutil.Process().memory_info().rss + 2**27


def test_where_nobody_measures_nothing_stands_apart() -> None:
    data = digits()
    view = view_of(data, Split.whole(data))
    run = run_on_cpu(account=Account(view.reads))
    with run.only_reported():
        list(view.batches(Part.RETAIN, 100))
    assert view.reads == {Part.RETAIN: view.size(Part.RETAIN)} and not run.account.reported


def test_a_cost_that_was_written_before_says_nothing_of_reports() -> None:
    """Cards and cells of earlier versions are read as they are."""
    old = {"seconds": 1.5, "reads": {"retain": 3}, "threads": 2, "warmed_up": True}
    record = Record.model_validate({"step": "finetune", "cost": old})
    assert record.cost == Cost(**old)
    assert (record.cost.reported_seconds, record.cost.reported_reads) == (0.0, {})
