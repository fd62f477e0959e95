"""A rehearsal foretells seconds: its arithmetic, with a clock that only the work moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import CPU, EVERYTHING, digits, original, run_on_cpu, view_of
from torch import Tensor, nn

from expunge.api import unlearn
from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.view import DataView
from expunge.methods.finetune import Finetune
from expunge.methods.noisy_finetune import NoisyFinetune
from expunge.methods.shared.certified import SecretNoise
from expunge.methods.shared.noisy_steps import descend
from expunge.trained.trained import Trained
from expunge.training import rehearsal as module
from expunge.training.fit import fit
from expunge.training.recipe import Recipe
from expunge.training.rehearsal import Rehearsal, RehearsalError, going_on, rehearsing

SECONDS = {Part.RETAIN: 5.0, Part.FORGET: 2.0}


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self) -> None:
        self.time = 0.0
        self.steps = 0

    def __call__(self) -> float:
        return self.time

    def work(self, seconds: float) -> None:
        self.time += seconds
        self.steps += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


def rehearsed(clock: Clock, **fields: Any) -> tuple[Rehearsal, DataView]:
    data = digits()
    made = Rehearsal(clock=clock, **{"seconds": 0.0, **fields})
    view = view_of(data, Split.random(data, 0.2, seed=0), EVERYTHING)
    return made, replace(view, rehearsal=made.a_pass)


def training(clock: Clock, made: Rehearsal, batches: Any, epochs: int = 5, **hooks: Any) -> None:
    def loss(model: nn.Module, batch: Any, _: float) -> Tensor:
        pieces = [batch] if isinstance(batch, Batch) else batch
        clock.work(sum(SECONDS[one.part] for one in pieces))
        return torch.stack([model(one.inputs).sum() for one in pieces]).sum() * 0

    recipe = Recipe(epochs=epochs, lr=0.01, schedule="onecycle", augmentation="none")
    fit(original("mlp"), batches, loss, recipe=recipe, run=run_on_cpu(rehearsal=made), **hooks)


def test_epochs_of_several_kinds_of_steps_are_foretold_exactly(clock: Clock) -> None:
    made, view = rehearsed(clock)
    retain, forget = view.source(Part.RETAIN), view.source(Part.FORGET)

    def batches(epoch: int) -> Any:
        kept = retain.batches(16, epoch=epoch)
        return view.chain(forget.batches(8, epoch=epoch), kept) if epoch < 2 else kept

    def after(*_: Any) -> None:
        clock.work(1.0)

    training(clock, made, batches, after_epoch=after)
    kept, struck = len(retain.batches(16)), len(forget.batches(8))
    assert made.now() == 5 * kept * 5 + 2 * struck * 2 + 5 * 1
    assert clock.steps == 2 * module.ENOUGH_STEPS + 1 < 5 * kept


def test_steps_are_foretold_whatever_the_epochs(clock: Clock) -> None:
    made, view = rehearsed(clock)
    training(clock, made, lambda epoch: view.batches(Part.RETAIN, 32, epoch=epoch), steps=100)
    assert made.now() == 500 and clock.steps == module.ENOUGH_STEPS


def test_steps_are_foretold_of_streams_of_any_length_too(clock: Clock) -> None:
    made, view = rehearsed(clock)
    training(clock, made, lambda epoch: iter(view.batches(Part.RETAIN, 32, epoch=epoch)), steps=100)
    assert made.now() == 500 and clock.steps == module.ENOUGH_STEPS


def test_steps_of_a_loop_of_ones_own_that_span_cut_passes_are_foretold(clock: Clock) -> None:
    """Slow steps: each pass by itself would be cut after a few, and booked whole over and over."""
    made, view = rehearsed(clock, seconds=0.4)
    passes: list[int] = []

    def batches(epoch: int) -> Any:
        passes.append(epoch)
        return view.batches(Part.RETAIN, 16, epoch=epoch, augment=False)

    wanted = 4 * len(view.batches(Part.RETAIN, 16)) + 2
    for _ in run_on_cpu(rehearsal=made).steps(batches, wanted):
        clock.work(1.0)
    assert made.now() == wanted and clock.steps == module.ENOUGH_STEPS
    real = replace(view, rehearsal=None)
    taken = [*run_on_cpu().steps(lambda n: real.batches(Part.RETAIN, 16, epoch=n), wanted)]
    assert len(taken) == wanted
    again = [one for n in range(5) for one in real.batches(Part.RETAIN, 16, epoch=n)]
    assert all((a.ids == b.ids).all() for a, b in zip(taken, again[:wanted], strict=True))


def test_the_steps_with_noise_are_foretold(clock: Clock) -> None:
    made, view = rehearsed(clock)
    descent = NoisyFinetune(noise_steps=60).descent()

    run = run_on_cpu(rehearsal=made, task=SlowTask(clock))
    descend(original("mlp"), descent, view.source(Part.RETAIN), 16, run, SecretNoise(run, 1))
    assert made.now() == 60 * 5 and clock.steps == module.ENOUGH_STEPS


class SlowTask(Classification):
    """Each look at a batch takes 5 seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        self.clock.work(5.0)
        return super().losses(model, batch)


def test_pairs_are_a_kind_of_their_own(clock: Clock) -> None:
    made, view = rehearsed(clock)
    retain, forget = view.source(Part.RETAIN), view.source(Part.FORGET)
    training(clock, made, lambda epoch: view.pairs(retain, forget, 16, epoch=epoch), epochs=3)
    assert made.now() == 3 * len(retain.batches(16)) * 7


def test_epochs_of_which_nobody_knows_the_length_are_made_once(clock: Clock) -> None:
    made, view = rehearsed(clock)
    training(clock, made, lambda epoch: iter(view.batches(Part.RETAIN, 64, epoch=epoch)), epochs=3)
    steps = len(view.batches(Part.RETAIN, 64))
    assert made.now() == 3 * steps * 5 and clock.steps == steps


def test_the_first_step_warms_up_and_says_nothing(clock: Clock) -> None:
    made, view = rehearsed(clock)
    for number, _ in enumerate(view.batches(Part.RETAIN, 8)):
        clock.work(100.0 if number == 0 else 1.0)
    assert made.now() == 100 + len(view.batches(Part.RETAIN, 8)) - 1


def test_a_pass_goes_on_until_it_has_been_measured_long_enough(clock: Clock) -> None:
    made, view = rehearsed(clock, seconds=10.0)
    for _ in view.batches(Part.RETAIN, 8):
        clock.work(1.0)
    assert clock.steps == 10 and made.now() == len(view.batches(Part.RETAIN, 8))


def test_passes_side_by_side_count_once(clock: Clock) -> None:
    made, view = rehearsed(clock)
    for _ in zip(view.batches(Part.RETAIN, 16), view.batches(Part.RETAIN, 16), strict=False):
        clock.work(1.0)
    assert made.now() == len(view.batches(Part.RETAIN, 16)) > clock.steps


def test_a_pass_that_its_reader_ends_adds_nothing(clock: Clock) -> None:
    made, view = rehearsed(clock)
    for _ in view.batches(Part.RETAIN, 16):
        clock.work(1.0)
        break
    assert made.now() == 1
    for _ in view.batches(Part.RETAIN, 16):  # and the next is cut short again
        clock.work(1.0)
    assert made.now() == 1 + len(view.batches(Part.RETAIN, 16)) > clock.steps


def test_whole_passes_are_made_in_full_and_trainings_are_not(clock: Clock) -> None:
    made, view = rehearsed(clock, whole_passes=True)
    names = [name for batch in view.batches(Part.RETAIN, 16) for name in batch.ids]
    assert len(names) == view.size(Part.RETAIN)
    training(clock, made, lambda epoch: view.batches(Part.RETAIN, 32, epoch=epoch))
    assert clock.steps == module.ENOUGH_STEPS


def test_one_step_must_do_where_time_is_short_and_far_too_long_is_an_error(clock: Clock) -> None:
    made, view = rehearsed(clock, most=2.0)
    for _ in view.batches(Part.RETAIN, 16):
        clock.work(3.0)
    assert clock.steps == 1 and made.now() == 3 * len(view.batches(Part.RETAIN, 16))
    clock.work(3.5)
    with pytest.raises(RehearsalError):
        made.now()


@pytest.fixture(scope="module")
def small() -> Trained:
    from expunge.api import adopt

    return adopt(original("mlp"), digits(), split=Split.whole(digits()))


def test_a_rehearsal_changes_nothing_and_ends_with_its_block(small: Trained) -> None:
    before = {name: one.clone() for name, one in small.model.state_dict().items()}
    made = Rehearsal(seconds=0.0)
    with rehearsing(made):
        assert going_on() is made
        short = unlearn(small, "random:0.2", Finetune(epochs=20), place=CPU)
    assert going_on() is None
    assert sum(short.record.cost.reads.values()) < 20 * len(short.split.retain)
    assert made.skipped > 0
    for name, one in small.model.state_dict().items():
        assert torch.equal(one, before[name]), name
    whole = unlearn(small, "random:0.2", Finetune(epochs=2), place=CPU)
    assert whole.record.cost.reads["retain"] == 2 * len(whole.split.retain)
