"""Traps of methods that learn from a teacher, each with a test of its name, and their known answers."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import (
    EVERYTHING,
    batch_of,
    changed,
    digits,
    global_randomness_stays,
    original,
    run_on_cpu,
    same_state,
    seeded,
    toy,
    unlearned,
    view_of,
)
from torch import Tensor, nn
from torch.nn import functional

from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import ConfigError, DataError, DivergenceError
from expunge.methods import Method, make_method
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.delete import Delete, without_label
from expunge.methods.finetune import Finetune
from expunge.methods.lotus import Lotus, gumbel
from expunge.methods.scrub import Scrub
from expunge.methods.shared import unseen
from expunge.methods.shared.distillation import divergence, given_labels
from expunge.methods.shared.epoch_states import EpochStates
from expunge.methods.shared.unseen import Unseen, share_right, unseen_like
from expunge.training import loop
from expunge.training.recipe import Recipe
from expunge.training.run import Run

__all__ = ["global_randomness_stays"]

QUICK: dict[str, Method] = {
    "scrub": Scrub(epochs=1, batch_size=64, lr=0.01, rewind=True),
    "delete": Delete(epochs=1, batch_size=16),
    "bad_teacher": BadTeacher(batch_size=64, lr=1e-3),
    "lotus": Lotus(epochs=1, batch_size=64, margin=1.0),
}
every_method = pytest.mark.parametrize("name", QUICK)


def request(name: str) -> Split:
    return Split.classes(digits(), [3]) if name == "delete" else Split.random(digits(), 0.1)


def digits_view(split: Split, **fields: Any) -> DataView:
    return view_of(digits(), split, EVERYTHING, **fields)


class Table(nn.Module):
    """A row of logits for each sample, in float64; inputs are row numbers. Nothing generalises."""

    def __init__(self, rows: int = 24, classes: int = 3) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(rows, classes, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits[inputs[:, 0].long()]


def table(seed: int = 0, classes: int = 3) -> Table:
    return seeded(lambda: Table(classes=classes), seed)


def table_view(forgotten: Any, classes: int = 3, validation: float = 0) -> DataView:
    data = toy([row % classes for row in range(24)])
    split = Split.indices(data, forgotten, base=Split.whole(data, validation=validation))
    return view_of(data, split, EVERYTHING)


# --- all of them


@every_method
def test_no_optimiser_holds_a_teacher(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    teachers: list[nn.Module] = []
    make, teacher = loop.make_optimizer, Run.teacher

    def made(parameters: list[nn.Parameter], recipe: Recipe) -> Any:
        held.extend(p.data_ptr() for p in parameters)
        return make(parameters, recipe)

    def taught(run: Run, model: nn.Module) -> nn.Module:
        teachers.append(teacher(run, model))
        return teachers[-1]

    monkeypatch.setattr(loop, "make_optimizer", made)
    monkeypatch.setattr(Run, "teacher", taught)
    given = original("cnn")
    run = run_on_cpu(constructor=lambda: original("cnn"))
    found = QUICK[name].unlearn(copy.deepcopy(given), digits_view(request(name)), run)
    assert len(teachers) == (2 if name == "bad_teacher" else 1)
    assert set(held) == {p.data_ptr() for p in found.parameters()}
    for one in teachers:
        assert not one.training
        assert not {p.data_ptr() for p in one.parameters()} & set(held)
        assert same_state(one, given), "it learns, or counts in BatchNorm"


@every_method
def test_bfloat16_of_the_original_is_used_and_losses_are_wide(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, torch.dtype]] = []
    mean = Run.mean

    def spied(run: Run, values: Tensor, batch: Any) -> Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), values.dtype))
        return mean(run, values, batch)

    monkeypatch.setattr(Run, "mean", spied)
    run = run_on_cpu(
        recipe=Recipe(precision="bfloat16", augmentation="none"),
        constructor=lambda: original("cnn"),
    )
    found = QUICK[name].unlearn(original("cnn"), digits_view(request(name)), run)
    assert set(seen) == {(True, torch.float32)}
    assert all(bool(torch.isfinite(value).all()) for value in found.state_dict().values())


@pytest.mark.parametrize("name", ["scrub", "bad_teacher", "lotus"])
def test_a_whole_class_needs_no_validation_samples_of_it(name: str) -> None:
    split = Split.classes(digits(), [3])
    made = unlearned(
        original("mlp"), digits(), split, QUICK[name], fresh=lambda: original("mlp"), device="cpu"
    )
    assert changed(original("mlp"), made.model)
    assert made.record.cost.reads["validation"] == 0
    if name == "scrub":
        assert made.record.log["validation_error"] == 1
    if name == "lotus":
        right = share_right(
            original("mlp"), digits_view(split).source(Part.FORGET), run_on_cpu(), 50
        )
        assert made.record.log["accuracy_gaps"] == [pytest.approx(right)]


# --- the divergence


@pytest.mark.parametrize("classes", [2, 50])
def test_a_divergence_is_a_sum_over_classes_and_a_mean_over_samples(classes: int) -> None:
    """`kl_div` left to itself divides by the number of classes too."""
    student = torch.zeros(6, classes)
    teacher = torch.zeros(6, classes).index_fill(1, torch.tensor([0]), 30.0)
    found = divergence(student, teacher)
    assert found.shape == (6,)
    assert found.tolist() == pytest.approx([math.log(classes)] * 6, rel=1e-5)
    trap = functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").mean()
    assert float(trap) == pytest.approx(math.log(classes) / classes, rel=1e-5)


def test_a_divergence_is_never_negative_and_0_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = (torch.randn(50, 7, generator=generator) for _ in range(2))
    assert divergence(one, other).min() > 0
    assert divergence(one, one).abs().max() < 1e-6
    assert divergence(one, one + 100).abs().max() < 1e-4, "a shift of all logits says nothing"


# --- scrub


def still_scrub(**settings: Any) -> Scrub:
    return Scrub(**{"alpha": 0.0, "gamma": 0.0, "forget_epochs": 0, "epochs": 1, **settings})


def test_scrub_without_terms_is_the_identity() -> None:
    model, view = original("cnn"), digits_view(request("scrub"))
    same = still_scrub(weight_decay=0.0, norm="eval")
    assert same_state(same.unlearn(copy.deepcopy(model), view, run_on_cpu()), model)
    statistics = still_scrub(weight_decay=0.0, norm="train")
    moved = changed(model, statistics.unlearn(copy.deepcopy(model), view, run_on_cpu()))
    assert moved and all("running" in name or "tracked" in name for name in moved)


def test_scrub_without_teacher_is_fine_tuning() -> None:
    view = digits_view(request("scrub"))
    common: dict[str, Any] = {"epochs": 2, "batch_size": 64, "weight_decay": 0.0}
    for gamma in (1.0, 0.5):
        scrub = Scrub(**common, lr=0.02, gamma=gamma, alpha=0.0, forget_epochs=0)
        found = scrub.unlearn(original("mlp"), view, run_on_cpu())
        tuned = Finetune(**common, lr=0.02 * gamma).unlearn(original("mlp"), view, run_on_cpu())
        for key, value in found.state_dict().items():
            torch.testing.assert_close(value, tuned.state_dict()[key], rtol=1e-4, atol=1e-6)


def test_the_first_maximising_step_of_scrub_has_no_gradient_but_by_batchnorm() -> None:
    """At the original's weights the divergence is at its minimum, so there is no way up yet."""

    def first_step(architecture: str, norm: Any) -> float:
        model = original(architecture).double()
        teacher = copy.deepcopy(model).eval()
        batch = next(iter(digits_view(request("scrub")).batches(Part.FORGET, 64)))
        inputs = batch.inputs.double()
        model.train(norm == "train")
        loss = -divergence(model(inputs), teacher(inputs).detach(), 4.0).mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return max(float(gradient.abs().max()) for gradient in gradients)

    assert first_step("mlp", "train") < 1e-12
    assert first_step("cnn", "eval") < 1e-12
    assert first_step("cnn", "train") > 1e-4
    # so one forget batch and no retain term leave the model where it is, to rounding
    still = still_scrub(forget_epochs=1, forget_batch_size=64, weight_decay=0.0, lr=1.0)
    found = still.unlearn(original("mlp"), digits_view(request("scrub")), run_on_cpu())
    for key, value in original("mlp").state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], value, rtol=0, atol=1e-4)


def test_an_unbounded_divergence_is_noticed() -> None:
    """Nothing stops the way up; the loss may well be finite, so the weights are watched."""
    up = Scrub(epochs=9, forget_epochs=9, gamma=0.0, alpha=0.0, lr=50.0, batch_size=64)
    with pytest.raises(DivergenceError, match=r"diverged in epoch \d of 9.*lower lr \(now 50\)"):
        up.unlearn(original("mlp"), digits_view(request("scrub")), run_on_cpu())


@pytest.mark.parametrize("forget_epochs", [0, 1, 3])
def test_forget_passes_are_made_in_the_first_epochs_alone(forget_epochs: int) -> None:
    parts: list[Part] = []

    class Spied(DataView):
        def batches(self, part: Part, *given: Any, **named: Any) -> Any:
            parts.append(part)
            return super().batches(part, *given, **named)

    view = digits_view(request("scrub"))
    spied = Spied(**{key: getattr(view, key) for key in ("data", "split", "declared", "names")})
    Scrub(epochs=2, forget_epochs=forget_epochs).unlearn(original("mlp"), spied, run_on_cpu())
    assert spied.reads[Part.FORGET] == min(2, forget_epochs) * len(view.split.forget)
    assert spied.reads[Part.RETAIN] == 2 * len(view.split.retain)
    assert spied.reads[Part.VALIDATION] == 0


def states_of(*errors: float, unseen: float) -> tuple[EpochStates, nn.Module]:
    """States after epochs with these errors on the forget set, the last wrong on a share of others."""
    model = nn.BatchNorm1d(1)
    source: Any = SimpleNamespace(right=lambda *_: 1 - unseen)
    run, forget = run_on_cpu(), table_view(range(4)).source(Part.FORGET)
    states = EpochStates(source, forget, run, 8)
    for epoch, error in enumerate(errors):
        assert model.running_mean is not None
        with torch.no_grad():
            model.weight.fill_(epoch)
            model.running_mean.fill_(10.0 + epoch)
        states.errors.append(error)
        states.states.append(copy.deepcopy(model.state_dict()))
    return states, model


@pytest.mark.parametrize(
    ("errors", "unseen", "best"),
    [((0.1, 0.4, 0.9), 0.45, 1), ((0.1, 0.4, 0.9), 1.0, 2), ((0.5, 0.3, 0.5), 0.4, 0)],
)
def test_rewinding_takes_the_nearest_error_and_its_statistics(
    errors: tuple[float, ...], unseen: float, best: int
) -> None:
    """|error on the forget set after each epoch - error on unseen samples after the last|."""
    states, model = states_of(*errors, unseen=unseen)
    states.load_best(model)
    found = model.state_dict()
    assert (found["weight"], found["running_mean"]) == (best, 10 + best)
    assert states.run.log["rewound_to_epoch"] == best + 1


def test_a_kept_state_is_whole_and_its_own() -> None:
    """A state that shares memory with the model would be the last one, whichever is chosen."""
    model = original("cnn")
    view = digits_view(request("scrub"))
    states = EpochStates(
        unseen_like(view, run_on_cpu(), same_classes=True),
        view.source(Part.FORGET),
        run_on_cpu(),
        64,
    )
    before = copy.deepcopy(model.state_dict())
    states.keep(model, 0)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    (kept,) = states.states
    assert list(kept) == list(before)
    assert all(torch.equal(kept[key], before[key]) for key in before)
    assert {value.device.type for value in kept.values()} == {"cpu"}


def test_what_rewinding_compares_with() -> None:
    """Validation samples of the classes that lose some; classes that go whole are always wrong."""
    data = toy([row % 3 for row in range(60)])
    base = Split.whole(data, validation=0.2)

    def unseen_of(rows: Any) -> Unseen:
        split = Split.indices(data, rows, base=base)
        return unseen_like(view_of(data, split, EVERYTHING), run_on_cpu(), same_classes=True)

    learned = [row for row in range(60) if str(data.train.ids[row]) in set(base.retain)]
    twos = [row for row in learned if row % 3 == 2]
    ones = [row for row in learned if row % 3 == 1]
    few = unseen_of(ones[:3])
    assert few.gone == 0
    assert set(few.source.labels.tolist()) == {1}
    held = view_of(data, base, EVERYTHING).source(Part.VALIDATION).labels
    assert len(few.source) == int((held == 1).sum()) > 0
    assert unseen_of(twos).gone == 1
    mixed = unseen_of([*twos, *ones[:4]])
    assert mixed.gone == pytest.approx(len(twos) / (len(twos) + 4))
    assert set(mixed.source.labels.tolist()) == {1}
    constant = seeded(lambda: nn.Linear(2, 3))
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    assert few.right(constant, run_on_cpu(), 5) == 1
    assert mixed.right(constant, run_on_cpu(), 5) == pytest.approx(1 - mixed.gone)
    assert unseen_of(twos).right(constant, run_on_cpu(), 5) == 0


@pytest.mark.parametrize("method", [Scrub(rewind=True), Lotus()])
def test_without_validation_samples_nothing_is_trained(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "make_optimizer", lambda *_: pytest.fail("it trains"))
    with pytest.raises(ConfigError, match=r"validation samples.*none.*validation=0\.1") as caught:
        method.unlearn(table(), table_view(range(4)), run_on_cpu(label=method.name))
    assert str(caught.value).startswith(method.name)
    assert ("rewind=false" in str(caught.value)) == (method.name == "scrub")


def test_a_share_right_is_independent_of_batches_and_processes() -> None:
    model = original("cnn").train()
    split = request("scrub")
    whole = share_right(model, digits_view(split).source(Part.FORGET), run_on_cpu(), 64)
    assert model.training and 0 < whole < 1
    for size in (1, 7):
        source = digits_view(split).source(Part.FORGET)
        assert share_right(model, source, run_on_cpu(), size) == whole

    def counted(split: Split, world: int) -> Tensor:
        counts: list[Tensor] = []

        def keep(counted: Tensor) -> Tensor:
            counts.append(counted)
            return torch.ones(2)

        for rank in range(world):
            part = digits_view(split, rank=rank, world=world).source(Part.FORGET)
            given: Any = SimpleNamespace(device="cpu", task=run_on_cpu().task, sum=keep)
            share_right(model, part, given, 8)
        return sum(counts, torch.zeros(2))

    right, count = counted(split, 3).tolist()
    assert (right / count, count) == (whole, len(split.forget))
    alone = Split.ids(digits(), [Split.whole(digits()).retain[0]])
    assert counted(alone, 3)[1] == 1, "a stand-in counts for nothing"


def test_published_settings_of_scrub() -> None:
    assert Scrub().model_dump() == {
        "epochs": 3,
        "lr": 5e-4,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "forget_batch_size": 32,
        "forget_epochs": 2,
        "gamma": 0.99,
        "alpha": 0.001,
        "temperature": 4.0,
        "optimizer": "sgd",
        "milestones": (3, 5, 9),
        "norm": "train",
        "rewind": False,
    }
    assert Scrub(**Scrub.presets["large"]) == Scrub()  # type: ignore[arg-type]
    # the rate of a run of three epochs is constant
    assert Scrub().recipe(run_on_cpu()).milestones[0] == Scrub().epochs
    assert Scrub(milestones=()).recipe(run_on_cpu()).schedule == "constant"


# --- delete


def test_the_gradient_of_delete_in_the_logits_is_p_minus_q() -> None:
    generator = torch.Generator().manual_seed(2)
    student, teacher = (
        torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    labels = torch.tensor([0, 3, 1, 1, 2])
    student.requires_grad_(True)
    loss = divergence(student, without_label(teacher, labels)).sum()
    (gradient,) = torch.autograd.grad(loss, student)
    q = teacher.exp().scatter(1, labels.unsqueeze(1), 0.0)
    q = q / q.sum(dim=1, keepdim=True)
    torch.testing.assert_close(gradient, student.detach().softmax(1) - q, rtol=0, atol=1e-12)


def test_with_two_classes_delete_teaches_the_other_one() -> None:
    logits = torch.tensor([[9.0, -3.0], [0.5, 0.25]])
    targets = without_label(logits, torch.tensor([0, 1])).softmax(1)
    assert targets.tolist() == [[0, 1], [1, 0]]


def test_the_optimum_of_delete_keeps_the_teachers_ratios() -> None:
    model = table()
    with torch.no_grad():
        model.logits.mul_(0.4)
    before = copy.deepcopy(model)
    gone = [row for row in range(24) if row % 3 == 1]
    method = Delete(epochs=80, lr=24.0, momentum=0.0, batch_size=24)
    method.unlearn(model, table_view(gone), run_on_cpu())
    after = model.logits.detach().softmax(1)
    assert float(after[gone, 1].max()) < 0.02
    ratios = [
        one.logits.detach()[gone, 0] - one.logits.detach()[gone, 2] for one in (model, before)
    ]
    torch.testing.assert_close(ratios[0], ratios[1], rtol=0, atol=0.05)
    kept = [row for row in range(24) if row % 3 != 1]
    assert torch.equal(model.logits[kept], before.logits[kept]), "no other row is read"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_masked_fill_is_safe_in_half_precision(dtype: torch.dtype) -> None:
    """-1e10 is more than float16 can hold."""
    logits = torch.tensor([[60000.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]], dtype=dtype)
    labels = torch.tensor([0, 3])
    if dtype == torch.float16:
        with pytest.raises(RuntimeError, match="overflow"):
            logits.masked_fill(functional.one_hot(labels, 4).bool(), -1e10)
    student = torch.zeros(2, 4, dtype=dtype, requires_grad=True)
    found = divergence(student, without_label(logits, labels))
    assert torch.isfinite(found).all() and found.dtype == torch.float32
    wanted = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]).softmax(1)
    plain = (wanted * (wanted.log() + math.log(4))).sum(dim=1)
    torch.testing.assert_close(found.detach(), plain, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert torch.isfinite(gradient).all()


def test_delete_leaves_batchnorm_statistics_alone_unless_asked() -> None:
    for norm in ("eval", "train"):
        method = Delete(epochs=1, batch_size=16, norm=norm)
        found = method.unlearn(original("cnn"), digits_view(request("delete")), run_on_cpu())
        moved = changed(original("cnn"), found)
        assert any("running" in name for name in moved) == (norm == "train")
        assert any("weight" in name for name in moved)


# --- bad_teacher


def test_bad_teaching_has_nothing_to_teach_who_says_what_both_teachers_say() -> None:
    gone = range(6)
    model, bad = table(0), table(7)
    with torch.no_grad():
        model.logits[list(gone)] = bad.logits[list(gone)]
    losses: list[float] = []

    def run_with(constructor: Any) -> Run:
        class Spied(Run):
            def mean(self, per_sample: Tensor, batch: Any) -> Tensor:
                losses.extend(per_sample.tolist())
                return super().mean(per_sample, batch)

        plain = run_on_cpu(constructor=constructor)
        return Spied(accelerator=plain.accelerator, constructor=constructor)

    method = BadTeacher(batch_size=24, retain_share=1.0)
    method.unlearn(copy.deepcopy(model), table_view(gone), run_with(lambda: table(7)))
    assert len(losses) == 24
    assert max(map(abs, losses)) < 1e-12
    losses.clear()
    method.unlearn(copy.deepcopy(model), table_view(gone), run_with(lambda: table(8)))
    assert sum(loss > 1e-3 for loss in losses) == len(gone), "the bad teacher is for them alone"


def test_the_bad_teacher_is_of_the_same_make_and_untrained() -> None:
    made: list[nn.Module] = []

    def constructor() -> nn.Module:
        made.append(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        return made[-1]

    given = copy.deepcopy(seeded(constructor, 3))
    made.clear()
    view = digits_view(request("bad_teacher"))
    drawn = [
        BadTeacher().unlearn(
            copy.deepcopy(given), view, run_on_cpu(names=names, constructor=constructor)
        )
        for names in (("a", 0), ("a", 0), ("a", 1))
    ]
    assert len(made) == 3, "one, made by the original's own constructor"
    assert same_state(made[0], made[1]) and not same_state(made[0], made[2])
    assert not same_state(made[0], given)
    assert same_state(drawn[0], drawn[1])


def test_without_a_constructor_bad_teaching_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^bad_teacher starts from untrained weights.*fresh="):
        BadTeacher().unlearn(
            original("mlp"), digits_view(request("bad_teacher")), run_on_cpu(label="bad_teacher")
        )


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("kind", [BadTeacher, Lotus])
def test_a_share_of_the_retain_set_is_read(kind: Any, share: float) -> None:
    view = digits_view(request("lotus"))
    settings = {"margin": 1.0} if kind is Lotus else {}
    method = kind(epochs=2, retain_share=share, **settings)
    method.unlearn(original("mlp"), view, run_on_cpu(constructor=lambda: original("mlp")))
    assert view.reads[Part.RETAIN] == 2 * round(share * len(view.split.retain))
    looked = 2 if kind is Lotus else 0  # ahead of each epoch
    assert view.reads[Part.FORGET] == (2 + looked) * len(view.split.forget)


# --- lotus


@pytest.mark.parametrize("temperature", [0.05, 1.0, 50.0])
def test_gumbel_draws_a_class_by_its_probability_at_any_temperature(temperature: float) -> None:
    count, logits = 3000, torch.tensor([1.0, 0.0, -1.0, 2.0], dtype=torch.float64)
    ids: Any = [str(number) for number in range(count)]
    targets = ((logits + gumbel(ids, 4, "draws", 0)) / temperature).softmax(1)
    found = torch.bincount(targets.argmax(1), minlength=4) / count
    wanted = logits.softmax(0)
    deviation = (wanted * (1 - wanted) / count).sqrt()
    assert ((found - wanted).abs() < 4 * deviation).all()


def test_gumbel_noise_is_a_samples_own_and_of_the_seed() -> None:
    """Torch's own stream would give other noise in other batches, and other noise on a GPU."""
    ids: Any = ["a", "b", "c"]
    noise = gumbel(ids, 5, "run", 0)
    assert noise.device.type == "cpu" and noise.dtype == torch.float64
    assert torch.equal(gumbel(ids[::-1], 5, "run", 0), noise.flip(0))
    assert torch.equal(gumbel(ids[1:2], 5, "run", 0), noise[1:2])
    assert not torch.equal(gumbel(ids, 5, "run", 1), noise)
    assert len(set(noise.flatten().tolist())) == 15


def lotus_log(
    method: Lotus, rights: list[float], monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], nn.Module]:
    """A run in which the original is right on `rights[0]` of unseen samples, and then the model ahead
    of each epoch on the others of the forget set."""
    left = iter(rights)
    monkeypatch.setattr(unseen, "share_right", lambda *_: next(left))
    run = run_on_cpu()
    view = digits_view(request("lotus"))
    return run.log, method.unlearn(original("mlp"), view, run)


def test_lotus_without_alpha_has_temperature_1(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = lotus_log(Lotus(alpha=0.0, epochs=2), [0.5, 0.9, 0.7], monkeypatch)
    assert log["temperatures"] == [1.0, 1.0]


def test_lotus_stops_when_it_is_no_better_than_on_unseen_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rights = [0.5, 0.9, 0.5, 0.495, 0.25, 0.9]
    log, found = lotus_log(Lotus(alpha=2.0), rights, monkeypatch)
    assert log["accuracy_gaps"] == pytest.approx([0.4, 0.0, -0.005, -0.25])
    assert log["temperatures"] == pytest.approx([math.exp(2 * gap) for gap in log["accuracy_gaps"]])
    assert changed(original("mlp"), found)
    (told,) = log["warnings"]
    assert "validation samples" in told and "judge it on the test set" in told


def test_lotus_that_has_nothing_to_do_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    log, found = lotus_log(Lotus(), [0.9, 0.85], monkeypatch)
    assert same_state(found, original("mlp"))
    _, told = log["warnings"]
    assert "changed nothing" in told and "85.0%" in told


def test_accuracies_of_lotus_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """To whole percents 0.504 and 0.496 are one percent apart, or none."""
    log, _ = lotus_log(Lotus(epochs=1), [0.5, 0.496], monkeypatch)
    assert log["accuracy_gaps"] == pytest.approx([-0.004])
    assert not any("changed nothing" in one for one in log["warnings"])


def test_retain_targets_of_lotus_are_what_the_original_says() -> None:
    """One-hot at the largest logit, without noise: a row that is sure is left where it is."""
    model = table()
    with torch.no_grad():
        model.logits.mul_(40)  # as good as one-hot itself
    before = copy.deepcopy(model)
    view = table_view(range(6), validation=0.2)
    method = Lotus(epochs=1, retain_share=1.0, weight_decay=0.0, lr=0.01, margin=1.0)
    method.unlearn(model, view, run_on_cpu())
    rows = {
        part: view.split.rows(view.samples, part).tolist() for part in (Part.RETAIN, Part.FORGET)
    }
    start = before.logits.detach()
    moved = (model.logits.detach() - start).abs().max(dim=1).values
    assert float(moved[rows[Part.FORGET]].max()) > 1e-3
    sure = [row for row in rows[Part.RETAIN] if start[row].softmax(0).max() > 1 - 1e-12]
    assert sure and float(moved[sure].max()) < 1e-4


def test_published_settings_of_the_others() -> None:
    assert Delete().model_dump() == {
        "epochs": 20,
        "lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "batch_size": 128,
        "norm": "eval",
    }
    assert BadTeacher().model_dump() == {
        "epochs": 1,
        "lr": 1e-4,
        "batch_size": 256,
        "retain_share": 0.3,
        "temperature": 1.0,
    }
    assert Lotus().model_dump() == {
        "alpha": 8.0,
        "margin": 0.01,
        "retain_share": 0.3,
        "epochs": 10,
        "lr": 1e-4,
        "weight_decay": 5e-4,
        "batch_size": 128,
    }


def test_a_batch_without_labels_is_refused() -> None:
    batch = batch_of(torch.zeros(2, 2), [0, 1])
    assert given_labels(batch).tolist() == [0, 1]
    with pytest.raises(DataError, match="needs labels"):
        given_labels(replace(batch, labels=None))


@pytest.mark.parametrize("name", ["lotus", "scrub"])
def test_who_aims_by_validation_samples_says_that_they_judge_no_more(name: str) -> None:
    """Where they are read, and only there: a class that goes whole has no unseen samples."""
    settings: Any = {"rewind": True, "epochs": 1} if name == "scrub" else {"epochs": 1}
    data, told = digits(), {}
    for split in (Split.random(data, 0.2), Split.classes(data, [3])):
        run, view = run_on_cpu(label=name), view_of(data, split)
        make_method(name, settings, allow_code=False).unlearn(original("mlp"), view, run)
        warnings = [one for one in run.log.get("warnings", ()) if "too much good" in one]
        told[view.reads[Part.VALIDATION] > 0] = len(warnings)
    assert told == {True: 1, False: 0}
