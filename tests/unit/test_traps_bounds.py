"""The traps of methods that move or relabel inputs, each with a test of its name."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from helpers import (
    changed,
    digits,
    original,
    random_mask,
    run_on_cpu,
    same_state,
    toy,
    unlearned,
    vectors,
    view_of,
)
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from expunge.data.batch import Batch
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError, ModelError
from expunge.methods import make_method
from expunge.methods.amun import Amun
from expunge.methods.base import Method
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.fcs import Fcs
from expunge.methods.regun import Regun
from expunge.methods.shared.attack import sign_step
from expunge.methods.shared.beside import retain_beside_forget
from expunge.methods.shared.contrast import flat_and_apart
from expunge.methods.shared.extra_row import one_row_more
from expunge.methods.shared.held_out import held_out_means
from expunge.training import loop
from expunge.training.recipe import Recipe
from expunge.training.run import Run

QUICK: dict[str, Method] = {
    "amun": Amun(epochs=1, steps=5, batch_size=64),
    "boundary_shrink": BoundaryShrink(epochs=1, lr=1e-3),
    "boundary_expand": BoundaryExpand(epochs=1, lr=1e-3),
    "fcs": Fcs(rounds=1, batch_size=64),
    "regun": Regun(epochs=1),
}
each_method = pytest.mark.parametrize("name", QUICK)


def request(name: str) -> Split:
    data = digits()
    return Split.classes(data, [3]) if name.startswith("bound") else Split.random(data, 0.1)


class Linear(nn.Module):
    """Vectors of five numbers to three classes, in float64; counts what it is asked in which mode."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3, bias=bias).double()
        self.asked = {True: 0, False: 0}
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked[self.training] += 1
        logits: Tensor = self.head(inputs.double())
        return logits


def on_vectors(rows: Any, method: Method, model: nn.Module, **fields: Any) -> tuple[nn.Module, Any]:
    """A method on 40 vectors of three classes, without what is around it; the run tells what it did."""
    data = vectors()
    split = Split.indices(data, rows, base=Split.whole(data, validation=fields.pop("held", 0)))
    run = run_on_cpu(label=method.name, **fields)
    view = view_of(data, split, method.reads)
    return method.unlearn(model, view, run), (run, view)


# --- amun


def trained_on(
    monkeypatch: pytest.MonkeyPatch, method: Method, model: nn.Module, **given: Any
) -> Any:
    """What a method trains on: inputs, labels and which are to be forgotten, of all its steps."""
    seen: list[Batch] = []
    step = loop.Loop.step

    def watched(self: Any, loss: Any, batch: Any, *others: Any) -> Any:
        seen.append(batch)
        return step(self, loss, batch, *others)

    monkeypatch.setattr(loop.Loop, "step", watched)
    made = on_vectors(range(6), method, model, **given)
    inputs = torch.cat([batch.inputs for batch in seen])
    labels = torch.cat([batch.labels for batch in seen])  # type: ignore[misc]
    return inputs, labels, torch.cat([batch.forget for batch in seen]), made


def true_labels(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """For each input whether it is one of the vectors, and the label of that."""
    data = vectors()
    table = data.train.store.whole()
    assert table is not None
    same = (inputs[:, None] == table[None]).all(2)
    return same.any(1), torch.from_numpy(data.train.labels)[same.long().argmax(1)]


@pytest.mark.parametrize(
    ("adv_only", "retain"), [(False, True), (True, True), (False, False), (True, False)]
)
def test_amun_trains_on_what_it_says(
    monkeypatch: pytest.MonkeyPatch, adv_only: bool, retain: bool
) -> None:
    """Retain and forget set under their labels, and adversaries as what the original takes them for."""
    model = Linear()
    first = copy.deepcopy(model)
    method = Amun(epochs=1, adv_only=adv_only, retain=retain, lr=0.5, batch_size=16)
    inputs, labels, forget, (_, (run, view)) = trained_on(monkeypatch, method, model)
    plain, own = true_labels(inputs)
    wrong = first(inputs).argmax(1) != own
    adversaries = ~plain | (
        forget & (labels != own)
    )  # one that was wrong already stays where it was
    assert int(adversaries.sum()) == 6 == run.log["adversaries"]["made"]
    assert torch.equal(labels[adversaries], first(inputs).argmax(1)[adversaries])
    assert forget[adversaries].all()
    assert torch.equal(labels[~adversaries], own[~adversaries])
    assert int((forget & ~adversaries).sum()) == (0 if adv_only else 6)
    assert int((~forget).sum()) == view.reads[Part.RETAIN] == (34 if retain else 0)
    assert view.reads[Part.FORGET] == 6 + 6 + (0 if adv_only else 6), "looked at, and trained on"
    assert wrong[forget & plain].any(), "the case of a sample that is wrong already is among them"


def test_amun_attacks_the_original_once_and_never_the_model_in_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More epochs ask the teacher nothing more; and the labels are the original's, see above."""
    teachers: list[Any] = []
    teach = Run.teacher

    def watched(run: Run, model: nn.Module) -> nn.Module:
        teachers.append(teach(run, model))
        return teachers[-1]

    monkeypatch.setattr(Run, "teacher", watched)
    for epochs in (1, 4):
        model = Linear()
        on_vectors(range(6), Amun(epochs=epochs, batch_size=16), model)
        assert model.asked[False] == 0, "the model in training is never attacked"
    assert [teacher.asked[True] for teacher in teachers] == [0, 0], "in evaluation mode"
    assert teachers[0].asked[False] == teachers[1].asked[False] > 0


def test_amun_leaves_out_what_cannot_be_fooled_and_says_so() -> None:
    """One radius reaches some of the six."""
    _, (run, view) = on_vectors(range(6), Amun(epochs=1, epsilon=0.5, rounds=1), Linear())
    made, left = run.log["adversaries"]["made"], run.log["adversaries"]["left_out"]
    assert made + left == 6
    assert 0 < left < 6
    assert view.reads[Part.FORGET] == 6 + 6 + made, (
        "looked at, trained on, and what has an adversary"
    )
    told = [
        text for text in run.log["warnings"] if f"{left} of 6 samples have no adversary" in text
    ]
    assert len(told) == 1
    assert "raise rounds (now 1)" in told[0]


def test_amun_without_a_single_adversary_is_refused() -> None:
    class Stubborn(nn.Module):
        """Says 0 whatever it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.scale * (inputs[:, :3] * 1e-9 + torch.tensor([9.0, 0, 0]))

    with pytest.raises(
        ConfigError, match=r"none of 2 samples .* within a radius of 81.92.*raise rounds"
    ):
        on_vectors([0, 3], Amun(epochs=1, steps=2), Stubborn())


def test_amun_presets() -> None:
    assert make_method("amun:adv_only", allow_code=False) == Amun(adv_only=True)
    assert make_method("amun:forget_only", allow_code=False) == Amun(retain=False)


# --- boundary_shrink


def shrunk(monkeypatch: pytest.MonkeyPatch, classes: list[int], epsilon: float) -> Any:
    """Labels that Boundary Shrink trains by, the true ones, and the original's logits there."""
    rows = [i for i in range(40) if i % 3 in classes]
    model = Linear()
    first = copy.deepcopy(model)
    seen: list[Batch] = []
    step = loop.Loop.step
    monkeypatch.setattr(
        loop.Loop,
        "step",
        lambda self, loss, batch, *more: seen.append(batch) or step(self, loss, batch, *more),
    )
    method = BoundaryShrink(epochs=1, epsilon=epsilon)
    _, (run, view) = on_vectors(rows, method, model)
    inputs, labels = seen[0].inputs, seen[0].labels
    assert labels is not None
    assert len(labels) == len(rows)
    assert view.reads[Part.FORGET] == 2 * len(rows)
    return labels, true_labels(inputs)[1], first(inputs).detach(), run


def test_a_failed_step_takes_the_runner_up_and_never_the_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step of nothing: y' = argmax f(x) would be y for all that the original gets right."""
    labels, own, says, run = shrunk(monkeypatch, [1], 1e-12)
    right = says.argmax(1) == own
    assert right.any()
    assert run.log["step_failed"] == int(right.sum())
    assert (labels != own).all()
    says[torch.arange(len(own)), own] = -math.inf
    assert torch.equal(labels, says.argmax(1))


def test_no_class_that_goes_is_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, own, says, _ = shrunk(monkeypatch, [0, 1], 1e-12)
    assert (labels == 2).all()
    says[torch.arange(len(own)), own] = -math.inf
    assert (says.argmax(1) != 2).any(), "or the test could not fail"


def test_the_step_reaches_the_class_across_the_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, own, _, run = shrunk(monkeypatch, [1], 3.0)
    assert run.log["step_failed"] < len(own)
    assert (labels != own).all()


def test_normalised_inputs_are_not_rounded_to_bytes() -> None:
    """x' of public code is a whole number of 255ths: a step of a thousandth would be lost."""
    data = digits()
    source = view_of(data, request("amun")).source(Part.FORGET)
    batch = next(iter(source.batches(8, shuffle=False)))
    weights = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))

    def logits(inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ weights

    moved = sign_step(logits, batch.inputs, batch.labels, source.bounds, 1e-3)  # type: ignore[arg-type]
    bounds = source.bounds
    assert bounds is not None
    inside = (batch.inputs > bounds[0]) & (batch.inputs < bounds[1])
    size = (1e-3 * (bounds[1] - bounds[0])).expand_as(moved)
    torch.testing.assert_close(
        (moved - batch.inputs).abs()[inside], size[inside], rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("kind", [BoundaryShrink, BoundaryExpand])
@pytest.mark.parametrize("norm", ["eval", "train"])
def test_statistics_do_not_drift_to_the_forgotten_class_unless_told(kind: Any, norm: str) -> None:
    model = original("cnn")
    method = kind(epochs=1, lr=1e-4, norm=norm)
    found = unlearned(model, digits(), request("boundary"), method).model
    drifted = {name for name in changed(model, found) if "running" in name}
    assert bool(drifted) is (norm == "train")
    assert changed(model, found) - drifted


# --- boundary_expand


def test_the_extra_logit_is_trained_to_and_does_not_stay() -> None:
    model = Linear()
    before, head = copy.deepcopy(model), model.head
    weight, bias = head.weight, head.bias
    seen: list[tuple[int, ...]] = []
    head.register_forward_hook(
        lambda module, _, out: seen.append(tuple(out.shape)) if module.training else None
    )
    found, _ = on_vectors(range(0, 40, 3), BoundaryExpand(epochs=30, lr=0.05), model)
    assert {shape[1] for shape in seen} == {4}
    assert found is model
    assert (head.weight is weight, head.bias is bias) == (True, True)
    assert [name for name, _ in found.named_parameters()] == ["head.weight", "head.bias"]
    struck = vectors().train.store.whole()[::3]  # type: ignore[index]
    assert found(struck).shape == (14, 3)
    own, was = found(struck).softmax(1)[:, 0].mean(), before(struck).softmax(1)[:, 0].mean()
    assert own < was, "the samples were drawn away from their class"


def test_the_extra_row_has_a_mask_and_is_the_same_for_the_same_names() -> None:
    model = Linear(bias=False)
    mask = {"head.weight": torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) < 0.5}
    run = run_on_cpu(mask=mask, names=("a", 1))
    rows = []
    for _ in range(2):
        with one_row_more(model, {"head.weight"}, run) as wider:
            assert wider.mask is not None
            assert torch.equal(wider.mask["head.weight"][:3], mask["head.weight"])
            assert wider.mask["head.weight"][3].all()
            rows.append(model.head.weight[3].detach().clone())
    assert torch.equal(*rows)
    assert rows[0].abs().max() <= 5**-0.5
    assert run.mask is mask
    with one_row_more(model, {"head.weight"}, run_on_cpu(names=("a", 2))):
        assert not torch.equal(model.head.weight[3], rows[0])
    with pytest.raises(ZeroDivisionError), one_row_more(model, {"head.weight"}, run):
        raise ZeroDivisionError
    assert model.head.weight.shape == (3, 5)


def test_a_frozen_head_is_refused() -> None:
    model = original("mlp")
    list(model.parameters())[-1].requires_grad_(False)
    told = (
        r"^boundary_expand gives the last layer a row more, and '.*' is frozen; thaw it, or choose"
    )
    with pytest.raises(ModelError, match=told):
        unlearned(model, digits(), request("boundary"), "boundary_expand")


def test_a_model_without_such_a_layer_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(64, 10))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.flatten(1) @ self.table

    told = r"^boundary_expand .* no linear or convolutional layer .* 10 classes; choose another"
    with pytest.raises(ModelError, match=told):
        unlearned(Odd(), digits(), request("boundary"), "boundary_expand")


def test_a_layer_of_as_many_rows_that_gives_no_logits_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh(), Scaled())
    told = (
        r"^boundary_expand gives the last layer a row more, and '1.bias'.* does not give the logits"
    )
    with pytest.raises(ModelError, match=told):
        unlearned(model, digits(), request("boundary"), BoundaryExpand(epochs=1, lr=1e-3))


class Scaled(nn.Module):
    """A last step that mixes what the layer before it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(10, 10, generator=torch.Generator().manual_seed(0)))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.table


# --- fcs


def batches(count: int) -> tuple[Batch, Batch]:
    """Three forget samples beside some retain samples, as 5 numbers each."""
    generator = torch.Generator().manual_seed(1)

    def one(n: int) -> Batch:
        labels = torch.zeros(n, dtype=torch.int64)
        return Batch(vectors().train.ids[:n], torch.randn(n, 5, generator=generator), labels, None)

    return one(3), one(count)


def test_one_retain_sample_gives_no_contrast() -> None:
    model = Linear()
    _, apart = flat_and_apart(run_on_cpu(), 1.15)
    value = apart(model, batches(1), 0.0)
    assert value == 0
    assert not any(g.any() for g in torch.autograd.grad(value, list(model.parameters())))
    assert apart(model, batches(2), 0.0) >= math.log(2)
    with pytest.raises(ConfigError, match="batch_size"):
        Fcs(batch_size=1)


def test_the_contrast_has_no_gradient_in_the_retain_samples_and_is_least_where_all_are_alike() -> (
    None
):
    _, apart = flat_and_apart(run_on_cpu(), 1.15)
    struck, kept = batches(4)
    kept.inputs.requires_grad_(True)
    value = apart(Linear(), (struck, kept), 0.0)
    assert torch.autograd.grad(value, kept.inputs, allow_unused=True) == (None,)
    blind = Linear()
    with torch.no_grad():
        blind.head.weight.zero_()
    assert apart(blind, (struck, kept), 0.0).item() == pytest.approx(math.log(4), abs=1e-12)
    assert value.item() > math.log(4)


def test_outputs_are_flat_where_the_first_loss_is_0() -> None:
    flat, _ = flat_and_apart(run_on_cpu(), 1.15)
    model = Linear()
    assert flat(model, batches(1)[0], 0.0) > 0
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(7)
    assert flat(model, batches(1)[0], 0.0).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("count", [1, 10, 30])
def test_each_forget_sample_is_contrasted_once_a_round_with_more_than_one_retain_sample(
    count: int,
) -> None:
    """Also where the retain set is the shorter one, at which public code stops."""
    data = vectors()
    split = Split.indices(data, range(count), base=Split.whole(data, validation=0))
    drawn = []
    for epoch in (0, 1):
        pairs = list(retain_beside_forget(view_of(data, split), 8, epoch=epoch))
        assert sorted(i for struck, _ in pairs for i in struck.ids) == sorted(split.forget)
        assert all(len(kept) > 1 for _, kept in pairs)
        drawn.append({i for _, kept in pairs for i in kept.ids})
    assert count == 30 or drawn[0] != drawn[1], "drawn anew each round"


def test_the_contrast_falls_along_a_cosine_to_nothing_and_no_further() -> None:
    shares = [
        Fcs(rounds=4)._falling(lambda *_: torch.ones(()), n)(Linear(), (), 0.0) for n in range(4)
    ]
    wanted = [(1 + math.cos(math.pi * n / 4)) / 2 for n in range(4)]
    assert [float(share) for share in shares] == pytest.approx(wanted)


# --- regun


def held(labels: list[int]) -> tuple[Data, Split]:
    """Vectors of which the last ones, of these labels, are held out."""
    inputs = torch.randn(12 + len(labels), 5, generator=torch.Generator().manual_seed(4))
    data = toy([i % 3 for i in range(12)] + labels, inputs=inputs, classes=["a", "b", "c"])
    whole = Split.whole(data, validation=0).retain
    split = Split(whole[6:12], whole[:6], whole[12:])
    return data, split


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_target_is_the_mean_of_held_out_samples_of_the_class(size: int) -> None:
    """A class that has none takes all of them; batches make no difference."""
    data, split = held([0, 0, 0, 1])
    model, run = Linear(), run_on_cpu(label="regun")
    means = held_out_means(model.train(), view_of(data, split), run, size)
    says = model(data.train.store.whole()[12:]).softmax(1)  # type: ignore[index]
    wanted = torch.stack([says[:3].mean(0), says[3], says.mean(0)])
    torch.testing.assert_close(means, wanted, rtol=1e-12, atol=1e-12)
    assert model.training


class TiedHead(nn.Module):
    """Its last weights are those of the layer before it, which the model names first or last."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        head, middle = nn.Linear(10, 10), nn.Linear(10, 10)
        middle.weight = head.weight
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        parts = [("head", head), ("middle", middle)]
        for name, part in parts if first else parts[::-1]:
            self.add_module(name, part)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.middle(self.body(inputs))))
        return logits


def plain_with(change: Any) -> nn.Module:
    head = nn.Linear(8, 10)
    change(head)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), head)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: TiedHead(first=True), "also the weight of another layer"),
        (lambda: TiedHead(first=False), "also the weight of another layer"),
        (lambda: plain_with(parametrizations.weight_norm), "gives the last layer a row more"),
        (lambda: plain_with(nn.utils.weight_norm), "made of"),
        (lambda: plain_with(nn.utils.spectral_norm), "a row more"),
        (
            lambda: plain_with(lambda head: prune.random_unstructured(head, "weight", 0.5)),
            "made of",
        ),
        (
            lambda: plain_with(lambda head: parametrizations.orthogonal(head, "weight")),
            "a row more",
        ),
    ],
)
def test_a_head_that_cannot_have_a_row_more_is_refused(make: Any, told: str) -> None:
    """Tied weights would be parted for the training, and written over afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
    view = view_of(digits(), request("boundary"))
    with pytest.raises(ModelError, match=told) as caught:
        BoundaryExpand(epochs=1).unlearn(model, view, run_on_cpu(label="boundary_expand"))
    assert "\n" not in str(caught.value) and "boundary_shrink" in str(caught.value)


def test_held_out_samples_that_taught_may_not_judge_and_that_is_told() -> None:
    data, split = held([0, 1, 2])
    view = view_of(data, split, Regun.reads)
    run = run_on_cpu(label="regun")
    Regun(epochs=2).unlearn(Linear(), view, run)
    assert view.reads[Part.VALIDATION] == 3 == run.log["held_out"]
    (told,) = run.log["warnings"]
    assert "3 validation samples" in told
    assert "judge it on the test set" in told


def test_tuning_judges_by_the_half_of_the_held_out_samples_that_did_not_teach() -> None:
    """What a study does for every method that declares that it reads them."""
    from expunge.api import adopt
    from expunge.audits.unseen import held_apart

    assert Part.VALIDATION in Regun.reads
    data = digits()
    split = request("regun")
    given = adopt(original("mlp"), data, split=split.whole_again())
    teaching, judging = held_apart(given, split, Regun.reads)
    assert set(teaching.validation).isdisjoint(judging.ids.tolist())
    assert set(teaching.validation) | set(judging.ids.tolist()) == set(split.validation)


def test_without_held_out_samples_it_says_how_to_keep_some() -> None:
    data = digits()
    split = Split.random(data, 0.1, base=Split.whole(data, validation=0))
    with pytest.raises(
        ConfigError, match=r"^regun is guided by validation samples.*--validation 0.1"
    ):
        unlearned(original("mlp"), data, split, Regun(epochs=1))


def test_regun_with_its_own_target_has_nothing_to_learn() -> None:
    """At retain_weight 0, where the model says of all what it says of the held-out: no gradient."""
    data, split = held([0, 1, 2])
    model = Linear()
    with torch.no_grad():
        model.head.weight.zero_()
    before = copy.deepcopy(model)
    method = Regun(epochs=2, retain_weight=0)
    found = method.unlearn(model, view_of(data, split), run_on_cpu(label="regun"))
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, before.state_dict()[name], rtol=0, atol=1e-12)


# --- all of them


def test_published_defaults() -> None:
    """The settings of each method's own paper or program, not another's."""
    sgd = {"momentum": 0.9, "weight_decay": 0.0}
    assert Amun().model_dump() == {
        "epochs": 10,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "epsilon": 0.04,
        "steps": 50,
        "step_size": 0.1,
        "rounds": 12,
        "retain": True,
        "adv_only": False,
    }
    boundary = {"epochs": 20, "lr": 1e-5, "batch_size": 64, "norm": "eval", **sgd}
    assert BoundaryShrink().model_dump() == {**boundary, "epsilon": 0.1}
    assert BoundaryExpand().model_dump() == boundary
    assert Fcs().model_dump() == {
        "rounds": 8,
        "uniform_lr": 5e-3,
        "contrast_lr": 3e-4,
        "retain_lr": 0.001 * 256 / 64,
        "temperature": 1.15,
        "weight_decay": 0.01,
        "momentum": 0.9,
        "batch_size": 256,
    }
    regun = {"epochs": 10, "lr": 0.01, "batch_size": 128, "retain_weight": 0.5, **sgd}
    assert Regun().model_dump() == regun


@each_method
def test_half_precision_is_finite_and_the_same_kind_of_result(name: str) -> None:
    recipe = Recipe(precision="bfloat16", augmentation="none")
    model = original("mlp")
    found = unlearned(model, digits(), request(name), QUICK[name], recipe=recipe).model
    assert all(bool(value.isfinite().all()) for value in found.state_dict().values())
    assert changed(model, found)


@each_method
def test_no_optimiser_holds_a_teachers_parameter(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    held: list[nn.Parameter] = []
    make = loop.make_optimizer
    monkeypatch.setattr(
        loop, "make_optimizer", lambda given, recipe: held.extend(given) or make(given, recipe)
    )
    model = original("mlp")
    view = view_of(digits(), request(name), QUICK[name].reads)
    given = {id(parameter) for parameter in model.parameters()}
    made = QUICK[name].unlearn(model, view, run_on_cpu(label=name))
    assert given == {id(parameter) for parameter in made.parameters()}
    # two parameters with a row more stand in for the head's own while that row is there
    others = {id(parameter) for parameter in held} - given
    assert len(others) == (2 if name == "boundary_expand" else 0)


@each_method
def test_a_masked_model_stays_masked(name: str) -> None:
    model = original("mlp")
    mask = random_mask(model, kept=0.5)
    found = unlearned(model, digits(), request(name), QUICK[name], mask=mask).model
    after = dict(found.named_parameters())
    assert all(not after[key][~keep].any() for key, keep in mask.items())


@each_method
def test_settings_that_do_not_move_leave_the_model(name: str) -> None:
    """Learning rates of next to nothing: only then what else moves it would be seen."""
    rates = {key: 1e-30 for key in type(QUICK[name]).model_fields if key.endswith("lr")}
    decay = {"weight_decay": 0.0}
    method = type(QUICK[name])(**{**QUICK[name].model_dump(), **rates, **decay})
    model = original("mlp")
    assert same_state(unlearned(model, digits(), request(name), method).model, model)
