"""`fit` under a mask and from a later epoch: zeros that hold, and the same batches and rates."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from helpers import (  # noqa: F401
    batch_of,
    changed,
    digits,
    global_randomness_stays,
    original,
    random_mask,
    run_on_cpu,
    same_state,
    seeded,
    toy,
    view_of,
)
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.transform import Transform
from expunge.data.view import DataView
from expunge.errors import AccessError, ConfigError, DataError, DivergenceError
from expunge.per_sample.chunks import pieces
from expunge.progress import Silent
from expunge.training.fit import FitLog, fit, train_from
from expunge.training.loop import StepRule
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
    with torch.random.fork_rng():
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


# --- what a method's author builds with: several fits in a run, steps, rules by part, hooks, marks


PLAIN_SGD = Recipe(
    epochs=2, batch_size=16, lr=0.05, schedule="constant", momentum=0, weight_decay=0
)
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(48, 6, generator=GENERATOR)
LABELS = torch.randint(3, (48,), generator=GENERATOR)


def small() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)))


def batches(epoch: int = 0) -> list[Batch]:
    return [batch_of(INPUTS[i : i + 16], LABELS[i : i + 16]) for i in (0, 16, 32)]


def of_parts(epoch: int = 0) -> list[Batch]:
    """A forget batch, a retain batch, and one that no part is known of."""
    parts = (Part.FORGET, Part.RETAIN, None)
    return [
        Batch(b.ids, b.inputs, b.labels, part) for b, part in zip(batches(), parts, strict=True)
    ]


def cross_entropy(model: nn.Module, batch: Batch, _: float = 0.0) -> Tensor:
    return Classification().losses(model, batch).mean()


def fitted(model: nn.Module, recipe: Recipe = PLAIN_SGD, **options: Any) -> FitLog:
    given = {"batches": batches, "loss": cross_entropy, "run": run_on_cpu(), **options}
    return fit(model, given.pop("batches"), given.pop("loss"), recipe=recipe, **given)


def by_hand(model: nn.Module, steps: list[tuple[Batch, float, float | None]]) -> nn.Module:
    """Plain SGD over (batch, rate, largest norm)."""
    for batch, rate, bound in steps:
        model.zero_grad()
        cross_entropy(model, batch).backward()
        if bound is not None:
            nn.utils.clip_grad_norm_(model.parameters(), bound)
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= rate * parameter.grad
    return model


def assert_near(one: nn.Module, other: nn.Module) -> None:
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key], rtol=0, atol=1e-6)


def view(**split: Any) -> DataView:
    data = digits()
    return view_of(data, Split.random(data, 0.2), **split)


# --- steps in place of epochs


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_steps_end_a_training_wherever_the_epoch_is(steps: int) -> None:
    model, slow, asked, seen = small(), small(), [], []

    def stream(epoch: int) -> list[Batch]:
        asked.append(epoch)
        return batches()

    def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
        seen.append(progress)
        return cross_entropy(model, batch)

    log = fitted(model, batches=stream, loss=loss, steps=steps)
    assert log.steps == steps
    assert asked == list(range(math.ceil(steps / 3)))
    assert len(log.losses) == len(asked)
    assert seen == pytest.approx([step / steps for step in range(steps)])
    by_hand(slow, [((batches() * 3)[step], 0.05, None) for step in range(steps)])
    assert_near(model, slow)


def test_as_many_steps_as_the_epochs_have_are_the_epochs() -> None:
    one, other = small(), small()
    recipe = PLAIN_SGD.but(schedule="onecycle", momentum=0.9)
    fitted(one, recipe)
    fitted(other, recipe.but(epochs=7), steps=6)
    assert same_state(one, other)


def test_steps_count_in_a_stream_of_unknown_length() -> None:
    rates: list[float] = []

    def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
        rates.append(progress)
        return cross_entropy(model, batch)

    fitted(small(), batches=lambda _: iter(batches()), loss=loss, steps=4)
    assert rates == [0, 0.25, 0.5, 0.75]


def test_an_endless_stream_ends_with_its_steps() -> None:
    """Every fifth step on the forget set, the others on the retain set, both begun again at need."""
    data, parts = view(), []

    def again(part: Part) -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from data.batches(part, 64, epoch=epoch)

    def stream(epoch: int) -> Iterator[Batch]:
        forget, retain = again(Part.FORGET), again(Part.RETAIN)
        for step in itertools.count():
            yield next(forget if step % 5 == 0 else retain)

    def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
        parts.append(batch.part)
        return cross_entropy(model, batch)

    assert fitted(original("mlp"), batches=stream, loss=loss, steps=12).steps == 12
    assert [part is Part.FORGET for part in parts] == [step % 5 == 0 for step in range(12)]


def test_steps_are_what_progress_shows() -> None:
    told: list[tuple[str, int, str]] = []

    class Spy(Silent):
        def work(self, label: str, steps: int = 1, done: int = 0, unit: str = "steps") -> Any:
            told.append((label, steps, unit))
            return super().work(label, steps, done, unit)

    fitted(small(), steps=5, run=run_on_cpu(label="mine", progress=Spy()), name="second")
    assert told == [("mine (second)", 5, "steps")]


def test_a_divergence_is_told_by_its_step() -> None:
    def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
        return cross_entropy(model, batch) * (math.inf if progress >= 0.5 else 1)

    with pytest.raises(
        DivergenceError, match=r"^run diverged in step 4 of 6: the loss is not finite; lower mine"
    ):
        fitted(small(), loss=loss, steps=6, rate="mine")
    with pytest.raises(DivergenceError, match=r"^run diverged in step \d of 6: the weights' norm"):
        fitted(small(), PLAIN_SGD.but(lr=1e6), steps=6)


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 3, "first_epoch": 1}])
def test_steps_that_cannot_be_made(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="steps = "):
        fitted(small(), **options)


def test_no_batches_are_no_endless_search_for_steps() -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        fitted(small(), batches=lambda _: [], steps=3)


# --- several fits in a run


def dropped() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.5), nn.Linear(9, 3)))


def test_a_further_fit_has_its_own_dropout_if_it_has_a_name() -> None:
    """A trap: two calls in one run drew the same masks, unless the run was replaced by hand."""
    models = {name: dropped() for name in ("", "first", "second", "again")}
    for key, model in models.items():
        fitted(model, name={"": None, "again": "first"}.get(key, key))
    assert same_state(models["first"], models["again"])
    assert not same_state(models["first"], models["second"])
    assert not same_state(models["first"], models[""])


def test_a_named_fit_says_its_name_and_rate() -> None:
    with pytest.raises(DivergenceError, match=r"^run \(repair\) diverged .*; lower repair_lr"):
        fitted(small(), PLAIN_SGD.but(lr=1e6), name="repair", rate="repair_lr")


def test_a_named_view_has_its_own_order_and_one_count() -> None:
    data = view()
    further = data.named("repair")
    orders = [
        [key for batch in each.batches(Part.RETAIN, 64) for key in batch.ids]
        for each in (data, further, data.named("repair"))
    ]
    assert orders[0] != orders[1] == orders[2]
    assert set(orders[0]) == set(orders[1])
    assert data.reads is further.reads
    assert data.reads[Part.RETAIN] == 3 * len(orders[0])
    with pytest.raises(AccessError):
        view(declared=Part.RETAIN).named("more").batches(Part.FORGET, 8)


# --- rules by part, and the gradient hook


def test_clipping_and_rate_by_part() -> None:
    """Only steps on the forget set are clipped, only those on the retain set are slower."""
    rules = {Part.FORGET: StepRule(clip_norm=0.01), Part.RETAIN: StepRule(lr_factor=0.5)}
    model = small()
    fitted(model, batches=of_parts, by_part=rules)
    forget, retain, other = of_parts()
    steps = [(forget, 0.05, 0.01), (retain, 0.025, None), (other, 0.05, None)]
    assert_near(model, by_hand(small(), steps * 2))


def test_a_part_without_a_bound_of_its_own_is_clipped_as_the_recipe_says() -> None:
    model = small()
    rules = {Part.FORGET: StepRule(clip_norm=0.01)}
    fitted(model, PLAIN_SGD.but(clip_norm=0.02), batches=of_parts, by_part=rules)
    forget, retain, other = of_parts()
    steps = [(forget, 0.05, 0.01), (retain, 0.05, 0.02), (other, 0.05, 0.02)]
    assert_near(model, by_hand(small(), steps * 2))


def test_a_rate_by_part_leaves_the_schedule_alone() -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: Any, *args: Any, **options: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", spy)
        recipe = PLAIN_SGD.but(schedule="cosine")
        fitted(small(), recipe)
        plain, rates = rates, []
        fitted(small(), recipe, batches=of_parts, by_part={Part.RETAIN: StepRule(lr_factor=0.1)})
    factors = [1, 0.1, 1] * 2
    assert rates == pytest.approx([a * b for a, b in zip(plain, factors, strict=True)])


@pytest.mark.parametrize(
    "wrong", [{"lr_factor": -1.0}, {"lr_factor": math.nan}, {"clip_norm": 0.0}]
)
def test_rules_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        StepRule(**wrong)


def test_the_gradient_can_be_changed_before_it_is_clipped() -> None:
    model = small()
    seen: list[tuple[Part | None, float]] = []

    def only_the_head(given: nn.Module, batch: Batch, progress: float) -> None:
        assert given is model
        seen.append((batch.part, progress))
        for name, parameter in given.named_parameters():
            assert parameter.grad is not None
            if name.startswith("0."):
                parameter.grad.zero_()

    fitted(model, PLAIN_SGD.but(clip_norm=0.01), batches=of_parts, after_backward=only_the_head)
    assert [part for part, _ in seen] == [Part.FORGET, Part.RETAIN, None] * 2
    assert [progress for _, progress in seen] == pytest.approx([k / 6 for k in range(6)])

    slow = small()
    for batch in of_parts() * 2:
        slow.zero_grad()
        cross_entropy(slow, batch).backward()
        head = list(slow[2].parameters())  # type: ignore[index]
        nn.utils.clip_grad_norm_(head, 0.01)
        with torch.no_grad():
            for parameter in head:
                parameter -= 0.05 * parameter.grad  # type: ignore[operator]
    assert_near(model, slow)


def test_the_hook_sees_no_gradient_of_what_must_not_change() -> None:
    model = small()
    mask = {"0.weight": torch.arange(30).reshape(5, 6) % 2 == 0}

    def hook(given: nn.Module, batch: Batch, progress: float) -> None:
        grad = given.get_parameter("0.weight").grad
        assert grad is not None
        assert not grad[~mask["0.weight"]].any()
        assert grad[mask["0.weight"]].any()

    fitted(model, run=run_on_cpu(mask=mask), after_backward=hook)


# --- streams one after another


def test_a_chain_is_its_streams_in_turn_with_their_length() -> None:
    data = view()
    forget, retain = data.batches(Part.FORGET, 16), data.batches(Part.RETAIN, 64)
    chain = data.chain(forget, retain)
    assert len(chain) == len(forget) + len(retain)
    for _ in range(2):  # as often as wanted
        parts = [batch.part for batch in chain]
        assert parts == [Part.FORGET] * len(forget) + [Part.RETAIN] * len(retain)
    assert list(data.chain()) == []
    longer = data.chain(chain, data.pairs(data.source(Part.RETAIN), data.source(Part.FORGET), 64))
    assert len(longer) == len(list(longer))


def test_passes_that_take_turns_under_one_optimiser() -> None:
    data, model, seen = view(), original("mlp"), []

    def loss(model: nn.Module, batch: Batch, progress: float) -> Tensor:
        seen.append((batch.part, progress))
        return cross_entropy(model, batch) * (-0.1 if batch.part is Part.FORGET else 1)

    def stream(epoch: int) -> Any:
        retain = data.batches(Part.RETAIN, 64, epoch=epoch)
        return data.chain(data.batches(Part.FORGET, 16, epoch=epoch), retain) if epoch else retain

    log = fitted(model, batches=stream, loss=loss)
    forget, retain = len(data.batches(Part.FORGET, 16)), len(data.batches(Part.RETAIN, 64))
    assert log.steps == 2 * retain + forget
    parts = [part for part, _ in seen]
    assert parts == [Part.RETAIN] * retain + [Part.FORGET] * forget + [Part.RETAIN] * retain
    assert all(0 <= progress < 1 for _, progress in seen)


# --- who is to be forgotten, and other labels


@pytest.mark.parametrize("part", [Part.RETAIN, Part.FORGET, Part.VALIDATION])
def test_a_batch_of_one_part_knows_who_is_to_be_forgotten(part: Part) -> None:
    for batch in view().batches(part, 20):
        assert batch.forget.dtype == torch.bool
        assert batch.forget.tolist() == [part is Part.FORGET] * len(batch)


def test_a_mixed_batch_knows_who_is_to_be_forgotten() -> None:
    data = view()
    made = data.tensors(torch.zeros(9, 1, 8, 8), torch.zeros(9, dtype=torch.int64))
    mix = data.mix(data.source(Part.RETAIN), data.source(Part.FORGET), made)
    within = data.mix(mix, data.take(Part.FORGET, 5))
    wanted = set(data.split.forget)
    for source in (mix, within):
        for batch in source.batches(30):
            assert batch.forget.tolist() == [str(key) in wanted for key in batch.ids]
            cut = list(pieces(batch, 7))
            assert torch.cat([piece.forget for piece in cut]).equal(batch.forget)
            assert all(len(piece.forget) == len(piece) for piece in cut)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_process_marks_its_own_share(rank: int) -> None:
    data = view(rank=rank, world=3)
    mix = data.mix(data.source(Part.RETAIN), data.source(Part.FORGET))
    wanted = set(data.split.forget)
    for batch in mix.batches(8):
        assert batch.forget.tolist() == [str(key) in wanted for key in batch.ids]


def test_who_did_not_declare_the_forget_set_never_sees_it_marked() -> None:
    data = view(declared=Part.RETAIN | Part.FORGET_LABELS)
    with pytest.raises(AccessError):
        data.mix(data.source(Part.RETAIN), data.source(Part.FORGET))
    made = data.tensors(torch.zeros(9, 1, 8, 8), torch.zeros(9, dtype=torch.int64))
    for batch in data.mix(data.source(Part.RETAIN), made).batches(30):
        assert not batch.forget.any()


def test_other_labels() -> None:
    batch = next(iter(view().batches(Part.FORGET, 20)))
    other = batch.relabelled(torch.zeros(len(batch), dtype=torch.int64))
    assert other.labels is not None and not other.labels.any()
    assert batch.labels is not None and batch.labels.any()
    assert (other.ids == batch.ids).all() and other.inputs is batch.inputs
    assert other.part is Part.FORGET and other.forget.all()
    shares = torch.full((len(batch), 10), 0.1)
    loss = Classification().losses(original("mlp"), batch.relabelled(shares))
    assert loss.shape == (len(batch),)
    for wrong in (torch.zeros(len(batch) + 1), torch.tensor(3)):
        with pytest.raises(DataError, match="one label per sample"):
            batch.relabelled(wrong)


# --- the mean, and a teacher


def test_a_mean_of_values_per_sample_is_this_process_share() -> None:
    run = run_on_cpu()
    batch = batch_of(INPUTS[:10], LABELS[:10], weight=0.5)
    values = torch.arange(10.0)
    assert run.mean(values, batch) == 0.5 * 4.5
    assert run.loss(small(), batch).equal(run.mean(Classification().losses(small(), batch), batch))


def test_a_mean_over_classes_too_is_refused() -> None:
    """A trap: `kl_div` divides by samples and classes by default, and hides a factor."""
    batch = batch_of(INPUTS[:10], LABELS[:10])
    for wrong in (torch.zeros(10, 3), torch.tensor(0.0), torch.zeros(9)):
        with pytest.raises(ConfigError, match=r"a value per sample has shape \(10,\)"):
            run_on_cpu().mean(wrong, batch)


def test_what_is_observed_can_be_learned_from() -> None:
    model = small()
    inputs = INPUTS[:10].clone().requires_grad_(True)
    logits = Classification().observe(model, batch_of(inputs, LABELS[:10]))["logits"]
    logits.square().sum().backward()
    assert inputs.grad is not None and inputs.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_a_teacher_stays_while_its_student_learns() -> None:
    run, student = run_on_cpu(), small()
    before = copy.deepcopy(student)
    teacher = run.teacher(student)

    def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
        apart = (
            run.task.observe(model, batch)["logits"] - run.task.observe(teacher, batch)["logits"]
        )
        return run.loss(model, batch) + run.mean(apart.square().sum(1), batch)

    fitted(student, loss=loss, run=run)
    assert same_state(teacher, before)
    assert not same_state(student, before)


def test_vectors_have_marks_too() -> None:
    data = toy([0, 1] * 10)
    one = view_of(data, Split.indices(data, [0, 1, 2], base=Split.whole(data, validation=0)))
    mix = one.mix(one.source(Part.RETAIN), one.source(Part.FORGET))
    assert sum(int(batch.forget.sum()) for batch in mix.batches(8)) == 3
