"""`fit` under a mask and from a later epoch: zeros that hold, and the same batches and rates."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from helpers import (
    batch_of,
    changed,
    digits,
    original,
    random_mask,
    run_on_cpu,
    same_state,
    view_of,
)
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.transform import Transform
from expunge.training.fit import FitLog, fit, train_from
from expunge.training.recipe import Recipe

PLAIN = Recipe(epochs=3, batch_size=64, lr=0.05, schedule="constant", precision="float32")
OPTIMIZERS = {
    "momentum": PLAIN.but(momentum=0.9, weight_decay=0.1),
    "nesterov": PLAIN.but(momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": PLAIN.but(optimizer="adam", lr=0.01, weight_decay=0.1),
    "adamw": PLAIN.but(optimizer="adamw", lr=0.01, weight_decay=0.1),
    "clipped": PLAIN.but(momentum=0.9, weight_decay=0.1, clip_norm=0.1),
    "clipped by value": PLAIN.but(momentum=0.9, weight_decay=0.1, clip_value=0.01),
    "clipped adam": PLAIN.but(optimizer="adam", lr=0.01, weight_decay=0.1, clip_norm=0.1),
    "bfloat16": PLAIN.but(momentum=0.9, weight_decay=0.1, precision="bfloat16"),
    "one-cycle": PLAIN.but(momentum=0.9, weight_decay=0.1, schedule="onecycle"),
}
every_optimizer = pytest.mark.parametrize("recipe", OPTIMIZERS.values(), ids=OPTIMIZERS)


def images(epoch: int) -> Any:
    return view_of(digits(), Split.whole(digits())).batches(Part.RETAIN, 64, epoch=epoch)


def loss_of(model: nn.Module, batch: Batch, _: float = 0.0) -> Tensor:
    return Classification().losses(model, batch).mean()


def trained(
    model: nn.Module,
    recipe: Recipe,
    *,
    mask: Any = None,
    stream: Any = images,
    loss: Any = loss_of,
    **options: Any,
) -> FitLog:
    return fit(model, stream, loss, recipe=recipe, run=run_on_cpu(mask=mask), **options)


# --- a mask is held


@pytest.mark.parametrize("architecture", ["cnn", "mlp"])
@every_optimizer
def test_cut_weights_are_zero_after_every_step(recipe: Recipe, architecture: str) -> None:
    model = original(architecture)
    mask = random_mask(model, kept=0.2)
    stirred: list[bool] = []

    def cut(given: nn.Module) -> list[Tensor]:
        return [given.get_parameter(key).detach()[~keep] for key, keep in mask.items()]

    def loss(given: nn.Module, batch: Batch, progress: float) -> Tensor:
        assert not any(values.any() for values in cut(given)), "before the first step, after each"
        return loss_of(given, batch)

    def after_step(given: nn.Module, progress: float) -> None:
        stirred.append(any(bool(values.any()) for values in cut(given)))

    def after_epoch(given: nn.Module, epoch: int) -> None:
        assert not any(values.any() for values in cut(given))

    before = copy.deepcopy(model)
    log = trained(
        model, recipe, mask=mask, loss=loss, after_step=after_step, after_epoch=after_epoch
    )
    assert log.steps == len(stirred) == 3 * len(images(0))
    if recipe.clip_norm is None:  # else their gradients are dropped before
        assert all(stirred), "the optimiser moves them: it is the mask that holds"
    assert not any(values.any() for values in cut(model))
    for key, keep in mask.items():
        was, now = before.get_parameter(key)[keep], model.get_parameter(key)[keep]
        # weights of pixels that are always blank may stand still but for their decay
        assert (was != now).float().mean() > 0.9, key


def test_cut_gradients_do_not_count_in_the_clipped_norm() -> None:
    """The cut weights have by far the larger part of the gradient here."""
    model = nn.Sequential(nn.Linear(6, 3, bias=False)).double()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 6, generator=generator, dtype=torch.float64)
    inputs[:, :5] *= 1000
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(3, 6, generator=generator) / 1000)
    batch = batch_of(inputs, torch.arange(16) % 3)
    keep = torch.zeros(3, 6, dtype=torch.bool)
    keep[:, 5] = True
    start = model[0].weight.detach() * keep
    by_hand = start.clone().requires_grad_(True)
    loss = nn.functional.cross_entropy(inputs @ by_hand.T, batch.labels)
    (gradient,) = torch.autograd.grad(loss, by_hand)
    norm = (gradient * keep).norm()
    assert gradient.norm() > 100 * norm
    assert norm > 0.02, "it is clipped"
    recipe = PLAIN.but(epochs=1, momentum=0, weight_decay=0, clip_norm=0.02)
    trained(model, recipe, mask={"0.weight": keep}, stream=lambda epoch: [batch])
    expected = start - 0.05 * gradient * keep * (0.02 / norm)
    torch.testing.assert_close(model[0].weight.detach(), expected, rtol=1e-4, atol=1e-12)
    assert (model[0].weight.detach() - start).norm() == pytest.approx(0.05 * 0.02, rel=1e-3)


def test_an_all_true_mask_changes_no_bit() -> None:
    masked, plain = original("cnn"), original("cnn")
    before = copy.deepcopy(plain)
    mask = {key: torch.ones_like(keep) for key, keep in random_mask(plain).items()}
    trained(masked, PLAIN, mask=mask)
    trained(plain, PLAIN)
    assert same_state(masked, plain)
    assert changed(before, plain)


# --- after each step


def test_after_step_is_called_before_the_mask_is_put_back() -> None:
    """What it writes into cut weights is gone by the next step; what it writes elsewhere stays."""
    model = original("mlp")
    keep = torch.ones(10, dtype=torch.bool)
    keep[3] = False
    told: list[float] = []

    def after_step(given: nn.Module, progress: float) -> None:
        assert given is model
        told.append(progress)
        with torch.no_grad():
            given.get_parameter("fc3.bias").fill_(7.0)

    def loss(given: nn.Module, batch: Batch, progress: float) -> Tensor:
        bias = given.get_parameter("fc3.bias").detach()
        expected = torch.where(keep, 7.0, 0.0)
        assert not told or torch.equal(bias, expected)
        assert not bias[3]
        return loss_of(given, batch)

    log = trained(model, PLAIN, mask={"fc3.bias": keep}, loss=loss, after_step=after_step)
    assert told == pytest.approx([step / log.steps for step in range(log.steps)])
    assert torch.equal(model.get_parameter("fc3.bias").detach(), torch.where(keep, 7.0, 0.0))


def test_after_step_comes_after_the_update() -> None:
    model = original("mlp")
    seen: list[Tensor] = []

    def loss(given: nn.Module, batch: Batch, progress: float) -> Tensor:
        seen.append(given.get_parameter("fc1.weight").detach().clone())
        return loss_of(given, batch)

    def after_step(given: nn.Module, progress: float) -> None:
        seen.append(given.get_parameter("fc1.weight").detach().clone())

    trained(model, PLAIN.but(epochs=1), loss=loss, after_step=after_step)
    for before, after, later in zip(seen[::2], seen[1::2], seen[2::2], strict=False):
        assert not torch.equal(before, after)
        assert torch.equal(after, later)


# --- from a later epoch


@dataclass
class Watched:
    """What each step of a run had."""

    ids: list[list[str]] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    log: FitLog = field(default_factory=FitLog)


def watch(recipe: Recipe, first_epoch: int, sized: bool = True, **options: Any) -> Watched:
    """A run on augmented digits; learning rates are read off the optimiser, where it steps."""
    found = Watched()
    step = torch.optim.SGD.step
    transform = Transform(digits().normalisation, "crop_flip")
    view = view_of(digits(), Split.whole(digits()), transform=transform)

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.rates.append(self.param_groups[0]["lr"])
        found.fresh.append(not self.state)
        return step(self, *args, **kwargs)

    def loss(given: nn.Module, batch: Batch, progress: float) -> Tensor:
        found.ids.append(list(batch.ids))
        found.inputs.append(batch.inputs)
        found.progress.append(progress)
        return loss_of(given, batch)

    def stream(epoch: int) -> Any:
        batches = view.batches(Part.RETAIN, 64, epoch=epoch)
        return batches if sized else iter(batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", spy)
        found.log = trained(
            original("mlp"),
            recipe,
            stream=stream,
            loss=loss,
            first_epoch=first_epoch,
            after_epoch=lambda _, epoch: found.epochs.append(epoch),
            **options,
        )
    return found


SCHEDULES = {
    "constant": {"schedule": "constant"},
    "step": {"schedule": "step", "milestones": (1, 3, 4), "gamma": 0.5},
    "cosine": {"schedule": "cosine"},
    "onecycle": {"schedule": "onecycle"},
    "late onecycle": {"schedule": "onecycle", "warmup_fraction": 0.9},
}


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("first_epoch", [1, 3, 4])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_later_start_has_the_batches_and_rates_of_a_whole_run(
    schedule: str, first_epoch: int, sized: bool
) -> None:
    recipe = PLAIN.but(epochs=5, **SCHEDULES[schedule])
    whole, late = watch(recipe, 0, sized), watch(recipe, first_epoch, sized)
    skipped = first_epoch * len(images(0))
    assert len(whole.rates) == 5 * len(images(0))
    assert len(set(whole.rates)) > 1 or schedule == "constant"
    assert late.rates == whole.rates[skipped:]
    assert late.ids == whole.ids[skipped:]
    assert all(torch.equal(a, b) for a, b in zip(late.inputs, whole.inputs[skipped:], strict=True))
    assert late.progress == whole.progress[skipped:]
    assert late.epochs == list(range(first_epoch, 5))
    assert late.fresh == [True] + [False] * (len(late.fresh) - 1), "no momentum from before"
    assert late.log.steps == len(late.rates)
    assert len(late.log.losses) == 5 - first_epoch


def test_a_later_start_under_plateau_watches_what_is_left() -> None:
    losses = iter([1.0, 1.0, 1.0, 1.0])
    recipe = PLAIN.but(epochs=6, schedule="plateau", patience=1, gamma=0.5)
    late = watch(recipe, 2, validate=lambda model: next(losses))
    steps = len(images(0))
    assert late.rates == pytest.approx(
        [rate for rate in (0.05,) * 3 + (0.025,) for _ in "1" * steps]
    )
    assert len(late.log.validation) == 4


def test_the_first_epoch_is_one_of_the_recipes() -> None:
    """An epoch that it has not leaves nothing to train."""
    assert watch(PLAIN.but(momentum=0), 2).epochs == [2]
    assert math.isfinite(watch(PLAIN, 2).log.losses[0])


def test_training_goes_on_where_it_was() -> None:
    """Without momentum, k epochs and then the rest are the whole, bit for bit."""
    recipe = PLAIN.but(epochs=4, momentum=0, schedule="cosine")
    whole, early = original("cnn"), {}
    view = view_of(digits(), Split.whole(digits()))

    def after_epoch(model: nn.Module, epoch: int) -> None:
        early[epoch] = copy.deepcopy(model.state_dict())

    train_from(whole, view, run_on_cpu(), recipe, after_epoch=after_epoch)
    for first_epoch in (1, 2, 3):
        late = original("cnn")
        late.load_state_dict(early[first_epoch - 1])
        train_from(late, view, run_on_cpu(), recipe, first_epoch=first_epoch)
        assert same_state(late, whole)
