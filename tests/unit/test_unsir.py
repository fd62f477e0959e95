"""UNSIR on digits: what its phases do, what it reads, and each trap of the programs it follows."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    CPU,
    Named,
    digits,
    named_digits,
    run_on_cpu,
    same_state,
    toy,
    unlearned,
    view_of,
)
from thorough import THOROUGH
from torch import Tensor, nn

from expunge.api import train
from expunge.audits.observe import observe_test
from expunge.data.batch import Batch
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.errors import AccessError, ConfigError, DivergenceError
from expunge.methods import make_method
from expunge.methods.shared.noise import Objective, learn_noise, sizes
from expunge.methods.unsir import Unsir
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

GONE = (2, 5)
RECIPE = Recipe(epochs=12, lr=0.05, batch_size=64)


@functools.cache
def trained() -> tuple[Data, Trained]:
    """A cnn that knows its digits: 1,000 of them."""
    data = digits(1000)
    return data, train(data, "cnn", recipe=RECIPE, place=CPU)


def split(data: Data) -> Split:
    return Split.classes(data, GONE)


@dataclass
class Spy(Classification):
    """The ordinary task, which also writes down every training batch that it sees."""

    batches: list[Batch] = field(default_factory=list)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        if model.training and len(batch.ids):  # the warm-up's blank batch has no names
            self.batches.append(batch)
        return super().losses(model, batch)


def forget(method: Unsir, model: nn.Module | None = None, **changes: Any) -> Trained:
    data, original = trained()
    return unlearned(
        model or original.model,
        data,
        split(data),
        method,
        recipe=original.recipe,
        device="cpu",
        **changes,
    )


def accuracies(model: nn.Module) -> tuple[float, float]:
    """On the test samples of the classes that stay, and of those that go, in percent."""
    data, _ = trained()
    seen = observe_test(model, data, run_on_cpu())
    gone = np.isin(seen.labels.numpy(), GONE)
    right = seen.correct.numpy()
    return 100 * right[~gone].mean(), 100 * right[gone].mean()


def noise_of(model: nn.Module, **changes: Any) -> tuple[Any, Tensor]:
    """Learned noise of both classes, and what it started from."""
    given: dict[str, Any] = {
        "recipe": Recipe(
            epochs=1,
            lr=0.1,
            optimizer="adam",
            schedule="constant",
            weight_decay=0.0,
            precision="float32",
        ),
        "count": 32,
        "steps": 40,
        "objective": Objective(0.1, "squared", 32),
    }
    run = run_on_cpu(names=("noise", 0))
    found = learn_noise(model, torch.tensor(GONE), (1, 8, 8), run, **{**given, **changes})
    still = given["recipe"].but(lr=1e-30)
    begun = {**given, **changes, "recipe": still, "steps": 1}
    start = learn_noise(model, torch.tensor(GONE), (1, 8, 8), run, **begun)
    return found, start.images


# --- what the phases do


@THOROUGH
def test_the_noise_is_more_wrong_while_its_objective_falls() -> None:
    _, original = trained()
    found, start = noise_of(original.model)
    classes = torch.tensor(GONE)

    def measured(images: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and objective of each class."""
        flat = images.flatten(0, 1)
        with torch.no_grad():
            losses = nn.functional.cross_entropy(
                original.model(flat), classes.repeat_interleave(32), reduction="none"
            )
        objective = 0.1 * sizes(flat, "squared") - losses
        return losses.reshape(2, -1).mean(1), objective.reshape(2, -1).mean(1)

    (loss, objective), (loss_before, objective_before) = measured(found.images), measured(start)
    assert (loss > loss_before + 1).all()
    assert (objective < objective_before - 1).all()
    torch.testing.assert_close(found.losses[0], loss_before, rtol=1e-3, atol=1e-3)
    assert (found.losses[-1] > found.losses[0] + 1).all()


def test_impair_breaks_and_repair_mends() -> None:
    _, original = trained()
    kept, gone = accuracies(original.model)
    assert kept > 90
    assert gone > 90
    settings: dict[str, Any] = {
        "noise_used": None,
        "noise_batch": 64,
        "retain_per_class": 100,
        "batch_size": 32,
    }
    impaired = accuracies(forget(Unsir(repair_epochs=0, **settings)).model)
    repaired = accuracies(forget(Unsir(**settings)).model)
    assert impaired[1] < 10
    assert impaired[0] < kept - 5
    assert repaired[0] > impaired[0] + 2
    assert repaired[1] < 10


def test_one_class_of_several_leaves_the_other() -> None:
    data, original = trained()
    one = Split.classes(data, [GONE[0]])
    method = Unsir(noise_used=None, noise_batch=64, retain_per_class=100, batch_size=32)
    found = unlearned(original.model, data, one, method, recipe=original.recipe, device="cpu").model
    seen = observe_test(found, data, run_on_cpu())
    for label, low, high in ((GONE[0], 0, 10), (GONE[1], 50, 100)):
        mine = seen.labels == label
        assert low <= 100 * float(seen.correct[mine].double().mean()) <= high


def test_the_record_tells_phases_and_noise() -> None:
    result = forget(Unsir(noise_used=None, noise_batch=4, noise_steps=3, noise_repeats=2))
    log = result.record.log
    assert list(log["seconds"]) == ["noise", "impair", "repair"]
    assert 0 < sum(log["seconds"].values()) <= result.record.cost.seconds
    assert log["noise_images_added"] == 2 * 4 * 2
    assert list(log["noise_loss"]) == ["2", "5"]
    assert result.artifacts["noise"].shape == (2, 4, 1, 8, 8)
    assert result.artifacts["noise_classes"].tolist() == [2, 5]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"noise_optimizer": "sgd", "noise_lr": 1.0},
        {"noise_lr": 0.02},
        {"noise_steps": 9},
        {"noise_weight": 0.5},
        {"noise_norm": "l2"},
    ],
    ids=str,
)
def test_each_setting_of_the_noise_reaches_it(changes: dict[str, Any]) -> None:
    """The method's noise is `learn_noise` with its own settings, and not those of impair."""
    data, original = trained()
    method = Unsir(
        **{"noise_used": None, "noise_batch": 4, "noise_steps": 5, "retain_per_class": 2, **changes}
    )
    run = run_on_cpu(names=("settings", 0), label="unsir")
    method.unlearn(copy.deepcopy(original.model), view_of(data, split(data)), run)
    adam = method.noise_optimizer == "adam"
    recipe = Recipe(
        epochs=1,
        lr=method.noise_lr,
        optimizer=method.noise_optimizer,
        momentum=0.9 if adam else 0.0,
        weight_decay=0.0,
        schedule="constant",
        augmentation="none",
    )
    expected = learn_noise(
        original.model,
        torch.tensor(GONE),
        (1, 8, 8),
        run,
        recipe=recipe,
        count=4,
        steps=method.noise_steps,
        objective=Objective(method.noise_weight, method.noise_norm, 4),
    )
    assert torch.equal(run.artifacts["noise"], expected.images)


# --- zero glance


def test_it_works_when_the_forget_samples_are_not_on_the_machine() -> None:
    """Their labels are known; touching an image of theirs raises, whoever touches it."""
    dataset, data = named_digits()
    asked = Split.classes(data, [3])
    assert len(asked.forget) > 3
    lost = torch.zeros(0)
    dataset.forbidden = set(asked.forget)
    dataset.inputs = [  # type: ignore[assignment]
        lost if key in dataset.forbidden else image
        for key, image in zip(dataset.ids, dataset.inputs, strict=True)
    ]
    with pytest.raises(RuntimeError, match="was read"):
        dataset[dataset.ids.index(asked.forget[0])]
    data = load_data((dataset, data.test.store.dataset))  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = unlearned(model, data, asked, "unsir", device="cpu")
    reads = result.record.cost.reads
    assert reads["forget"] == 0
    assert reads["forget_labels"] == len(asked.forget)
    assert reads["retain"] == len(dataset.read) > 0
    with pytest.raises(RuntimeError, match="was read"):
        unlearned(model, data, asked, "neggrad_plus", device="cpu")


def test_it_declares_a_part_of_the_retain_set_and_labels_alone() -> None:
    assert Unsir.reads == Part.RETAIN | Part.FORGET_LABELS
    result = forget(Unsir(noise_used=None, noise_batch=4, noise_steps=2, retain_per_class=5))
    # one for the shape of an input, and 5 of each of 8 classes for impair and for repair
    assert result.record.cost.reads["retain"] == 1 + 2 * 5 * 8


def test_flat_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 7, generator=generator)
    data = toy([i % 3 for i in range(60)], inputs=inputs)
    model = nn.Sequential(nn.Linear(7, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    result = unlearned(model, data, Split.classes(data, [1]), "unsir:notebook", device="cpu")
    assert result.artifacts["noise"].shape == (1, 3, 7)
    assert all(torch.isfinite(p).all() for p in result.model.parameters())


def test_inputs_that_noise_cannot_stand_for_are_refused() -> None:
    tokens = toy([0, 1, 2] * 10, inputs=torch.arange(30).reshape(30, 1))
    model = nn.Sequential(nn.Embedding(30, 4), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(ConfigError, match=r"noise is learned in place of inputs.*use neggrad_plus"):
        unlearned(model, tokens, Split.classes(tokens, [1]), "unsir", device="cpu")

    class Pairs(Named):
        def __getitem__(self, row: int) -> Any:
            image, label = super().__getitem__(row)
            return {"left": image, "right": image, "labels": label}

    class Left(nn.Linear):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            assert left.shape == right.shape
            return super().forward(left.flatten(1))

    data = digits()
    pixels = data.train.store.tensor[:60].float()  # type: ignore[attr-defined]
    labels = data.train.labels[:60].tolist()
    pairs = load_data(Pairs(pixels, labels, [f"p{row}" for row in range(60)]))
    with pytest.raises(ConfigError, match="noise is learned in place of inputs"):
        unlearned(Left(64, 10), pairs, Split.classes(pairs, [1]), "unsir", device="cpu")


def test_noise_that_leaves_the_finite_world_says_which_rate_it_was() -> None:
    with pytest.raises(
        DivergenceError, match=r"^unsir \(noise\) diverged in epoch .*lower noise_lr"
    ):
        forget(Unsir(noise_lr=1e6))


def test_more_images_than_there_are_cannot_be_used() -> None:
    with pytest.raises(ConfigError, match="noise_used 50 is more than noise_batch 5 has"):
        Unsir(noise_used=50, noise_batch=5)


def test_batch_norm_without_statistics_gets_a_warning() -> None:
    """Then images of one pass see each other, evaluation mode or not."""
    data, _ = trained()
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.Linear(8, 10),
    )
    method = Unsir(noise_used=None, noise_batch=4, noise_steps=2, retain_per_class=5)
    found = unlearned(model, data, split(data), method, device="cpu").record.warnings
    assert any("keeps no running statistics" in warning for warning in found)
    assert not any("statistics" in warning for warning in forget(method).record.warnings)


def test_presets_and_their_names() -> None:
    assert make_method("unsir:notebook", {"noise_lr": 0.2}, allow_code=True) == Unsir(
        noise_used=3, noise_repeats=20, noise_lr=0.2
    )
    assert (
        make_method("unsir:mnist_mlp", {"impair_lr": 0.1}, allow_code=True).model_dump()[
            "impair_lr"
        ]
        == 0.1
    )
    with pytest.raises(
        ConfigError, match=r"unsir has no preset 'notebok', did you mean 'notebook'"
    ):
        make_method("unsir:notebok", allow_code=True)
    with pytest.raises(ConfigError, match=r"finetune has no preset 'x'; there are: none"):
        make_method("finetune:x", allow_code=True)


# --- the traps


def test_trap_each_noise_batch_carries_its_own_class() -> None:
    """The authors' loop labels the noise of every class 0."""
    spy = Spy()
    result = forget(
        Unsir(noise_used=None, noise_batch=4, noise_steps=10, noise_repeats=3), task=spy
    )
    labels: list[int] = []
    for batch in spy.batches:
        made = np.char.startswith(batch.ids, "made:")
        if made.any():
            assert batch.labels is not None
            mine = batch.labels[torch.from_numpy(made)]
            for image, label in zip(
                batch.inputs[torch.from_numpy(made)], mine.tolist(), strict=True
            ):
                learned = result.artifacts["noise"][GONE.index(label)]
                assert any(torch.equal(image, one) for one in learned), "another class's noise"
                labels.append(label)
    assert sorted(labels) == [2] * 12 + [5] * 12


def test_trap_noise_is_learned_in_evaluation_mode() -> None:
    """Learned in training mode, as the authors do, noise moves BatchNorm's statistics."""
    _, original = trained()
    model = copy.deepcopy(original.model).train()
    before = copy.deepcopy(model)
    assert any("running_mean" in name for name in model.state_dict())
    noise_of(model)
    assert same_state(model, before)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    # no image sees another: alone or together they come out alike. In float64, for Adam divides by the
    # size of a gradient, so that the rounding of one near 0 becomes a step in the other direction
    exact = {"count": 8, "dtype": torch.float64}
    model = model.double()
    alone = noise_of(model, chunk=1, **exact)[0].images
    together = noise_of(model.eval(), **exact)[0].images
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


def test_trap_noise_is_indexed_where_it_lies_and_not_copied() -> None:
    """The authors copy each image through the CPU into a Python list, as often as it is repeated."""
    data, _ = trained()
    view = view_of(data, split(data))
    images, labels = torch.randn(6, 1, 8, 8), torch.tensor([2, 2, 2, 5, 5, 5])
    source = view.tensors(images, labels, repeats=1000)
    assert len(source) == 6000
    assert source.inputs.data_ptr() == images.data_ptr()
    found = list(source.batches(256))
    rows = torch.cat([batch.inputs for batch in found])
    counts = [int((rows == one).flatten(1).all(1).sum()) for one in images]
    assert counts == [1000] * 6
    for batch in found:
        assert batch.labels is not None
        numbers = [int(name.removeprefix("made:")) for name in batch.ids.tolist()]
        assert torch.equal(batch.inputs, images[numbers])
        assert torch.equal(batch.labels, labels[numbers])


def test_trap_the_notebook_counts_channels() -> None:
    """It means 20 times the batch, and adds 3 images 20 times: a preset each."""
    quick = {"noise_steps": 1}
    notebook = forget(make_method("unsir:notebook", quick, allow_code=True))  # type: ignore[arg-type]
    assert notebook.record.log["noise_images_added"] == 2 * 60
    whole = forget(
        make_method("unsir:text", {"noise_steps": 1, "noise_batch": 30}, allow_code=True)
    )  # type: ignore[arg-type]
    assert whole.record.log["noise_images_added"] == 2 * 20 * 30
    assert Unsir().noise_batch == 256


@functools.cache
def mnist_mlp() -> Trained:
    """The preset on an eighth of its images: the rate is of a mean over them, so an eighth of it."""
    method = make_method(
        "unsir:mnist_mlp", {"noise_batch": 32, "noise_lr": 2.56 / 8}, allow_code=True
    )
    return forget(method)  # type: ignore[arg-type]


def test_trap_of_the_mnist_program_cross_entropy_is_raised_not_lowered() -> None:
    """With its own settings, the loss on each class's noise rises, by a nat and more."""
    log = mnist_mlp().record.log
    for start, end in log["noise_loss"].values():
        assert end > start + 1


def test_trap_of_the_mnist_program_noise_stands_alone() -> None:
    """It adds the noise to real forget images; here none is read, and none could be."""
    result = mnist_mlp()
    assert result.record.cost.reads["forget"] == 0
    assert not Unsir.reads & Part.FORGET
    data, _ = trained()
    with pytest.raises(AccessError):
        view_of(data, split(data), Unsir.reads).batches(Part.FORGET, 8)


def test_trap_of_the_mnist_program_each_batch_is_seen_once() -> None:
    """It appends all batches stored so far to every step of impair."""
    spy = Spy()
    forget(
        Unsir(noise_used=None, noise_batch=4, noise_steps=2, noise_repeats=3, batch_size=16),
        task=spy,
    )
    made = [name for batch in spy.batches for name in batch.ids.tolist() if "made:" in name]
    assert len(made) == 2 * 4 * 3
    assert all(made.count(name) == 3 for name in set(made))
    seen = [one for one in spy.batches if one.part is not None or len(one.ids) > 2]  # no trial
    real = [name for batch in seen for name in batch.ids.tolist() if "made:" not in name]
    assert all(real.count(name) == 2 for name in set(real)), "once in impair, once in repair"
    assert max(len(batch) for batch in spy.batches) <= 16 + 7
