"""Traps: mistakes that public code makes, each with a test of its name."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from helpers import (
    CPU,
    EVERYTHING,
    changed,
    digits,
    named_digits,
    original,
    run_on_cpu,
    same_state,
    toy,
    unlearned,
    view_of,
)
from sparse_helpers import made_sparse
from torch import Tensor, nn

from expunge.api import unlearn
from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import ConfigError, DivergenceError
from expunge.methods.finetune import Finetune
from expunge.methods.fisher import Fisher
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.influence import Influence
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.neggrad_plus import NegGradPlus
from expunge.methods.retrain import Retrain
from expunge.models.table import build_model
from expunge.per_sample import fisher_diagonal
from expunge.pruning import make_pruner
from expunge.training import fit as fitting
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def tenth() -> Split:
    return Split.random(digits(), 0.1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def is_statistic(name: str) -> bool:
    return name.endswith(STATISTICS)


# --- retrain


def test_retrain_never_starts_from_trained_weights() -> None:
    """Whatever model is handed in, the same model comes out."""
    trained, other = original("cnn"), original("cnn")
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.mul_(3)
    found = [
        unlearned(m, digits(), tenth(), Retrain(), recipe=RECIPE, fresh="cnn", device="cpu").model
        for m in (trained, other)
    ]
    assert same_state(*found)


class Nested(nn.Module):
    """Layers three levels deep, where a reset of the top-level children does not reach."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12)), nn.ReLU())
        self.body = nn.Sequential(nn.Sequential(nn.Flatten(), inner))
        self.scale = nn.Parameter(torch.randn(12))  # belongs to no layer, so nothing resets it
        self.register_buffer("offset", torch.randn(12))
        self.head = nn.Linear(12, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(inputs) * self.scale + self.offset)
        return logits


def test_retrain_draws_every_nested_parameter_and_buffer_anew() -> None:
    used = Nested()
    with torch.no_grad():
        for tensor in used.state_dict().values():
            tensor.fill_(7)
    still = RECIPE.but(lr=1e-30, schedule="constant", epochs=1, weight_decay=0)
    result = unlearned(
        used, digits(), tenth(), "retrain", recipe=still, fresh=Nested, device="cpu", seed=2
    )
    drawn = run_on_cpu(names=("retrain", 2), constructor=Nested).fresh().state_dict()
    for name, value in result.model.state_dict().items():
        assert not (value == 7).any(), name
        if not is_statistic(name):
            torch.testing.assert_close(value, drawn[name])
    steps = math.ceil(len(result.split.retain) / 64)
    assert result.model.state_dict()["body.0.1.0.1.num_batches_tracked"] == steps


def test_retrain_draws_other_weights_than_the_original() -> None:
    def first_weights(*names: str | int) -> nn.Module:
        return run_on_cpu(names=names, constructor=Nested).fresh()

    assert not same_state(first_weights("original", 0), first_weights("retrain", 0))
    assert not same_state(first_weights("retrain", 0), first_weights("retrain", 0, "floor"))
    assert same_state(first_weights("retrain", 0), first_weights("retrain", 0))


def test_retrain_without_a_recipe_never_guesses() -> None:
    with pytest.raises(ConfigError, match=r"retrain trains as the original.*without a recipe.*--r"):
        unlearned(original("mlp"), digits(), tenth(), "retrain", fresh="mlp", device="cpu")


def test_retrain_without_a_constructor_says_what_to_pass() -> None:
    with pytest.raises(ConfigError, match=r"retrain starts from untrained weights.*pass fresh="):
        unlearned(original("mlp"), digits(), tenth(), "retrain", recipe=RECIPE, device="cpu")


def test_retrain_leaves_the_forget_set_alone() -> None:
    """A retraining is that on data which never held the forget set, up to the order of reading."""
    dataset, data = named_digits()
    split = Split.random(data, 0.2)
    dataset.forbidden = set(split.forget) | set(split.validation)
    model = original("mlp")
    unlearned(model, data, split, "retrain", recipe=RECIPE, fresh="mlp", device="cpu")
    assert Counter(dataset.read) >= Counter(dict.fromkeys(split.retain, RECIPE.epochs))


def test_retrain_keeps_the_mask_and_draws_what_it_keeps() -> None:
    model = original("mlp")
    mask = {"fc1.weight": torch.rand(256, 64) < 0.5}
    still = RECIPE.but(lr=1e-30, schedule="constant", epochs=1, weight_decay=0)
    found = unlearned(
        model, digits(), tenth(), "retrain", recipe=still, fresh="mlp", mask=mask, device="cpu"
    ).model
    drawn = run_on_cpu(
        names=("retrain", 0), constructor=lambda: build_model("mlp", (1, 8, 8), 10, allow_code=True)
    ).fresh()
    expected = drawn.get_parameter("fc1.weight") * mask["fc1.weight"]
    torch.testing.assert_close(found.get_parameter("fc1.weight"), expected)


# --- gradient ascent


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_gradient_ascent_leaves_batchnorm_statistics_alone_unless_told(norm: Any) -> None:
    model = original("cnn")
    method = GradientAscent(epochs=2, lr=1e-3, batch_size=16, norm=norm)
    found = unlearned(model, digits(), tenth(), method, device="cpu").model
    moved = changed(model, found)
    statistics = {name for name in model.state_dict() if is_statistic(name)}
    assert statistics
    assert {name for name in moved if is_statistic(name)} == (
        set() if norm == "eval" else statistics
    )
    assert any(not is_statistic(name) for name in moved)


def test_gradient_ascent_does_not_train_batchnorm_by_default() -> None:
    assert GradientAscent().norm == "eval"
    assert GradientAscent().weight_decay == 0


def test_gradient_ascent_raises_the_loss_of_the_forget_set() -> None:
    model = original("mlp")
    method = GradientAscent(epochs=3, lr=0.01)
    found = unlearned(model, digits(), tenth(), method, device="cpu").model
    batch = next(iter(view_of(digits(), tenth()).batches(Part.FORGET, 100)))
    run = run_on_cpu()
    with torch.no_grad():
        assert run.loss(found, batch) > run.loss(model, batch) + 0.01


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_an_unbounded_loss_is_noticed(architecture: str) -> None:
    """The ascended loss has no ceiling: it rises, and stays finite for long."""
    method = GradientAscent(epochs=60, lr=2.0, batch_size=8)
    with pytest.raises(DivergenceError, match=r"gradient_ascent diverged.*lower lr \(now 2\)"):
        unlearned(original(architecture), digits(), tenth(), method, device="cpu")


def test_an_unbounded_loss_is_noticed_in_neggrad_plus_too() -> None:
    method = NegGradPlus(alpha=0, epochs=60, lr=2.0, batch_size=16)
    with pytest.raises(DivergenceError, match=r"neggrad_plus diverged in epoch \d+ of 60"):
        unlearned(original("mlp"), digits(), tenth(), method, device="cpu")


def test_a_rising_loss_alone_is_no_divergence() -> None:
    """GA's loss must be free to rise: here it triples, and the weights' norm hardly moves."""
    model = original("mlp")
    method = GradientAscent(epochs=20, lr=0.02)
    found = unlearned(model, digits(), tenth(), method, device="cpu").model
    batch = next(iter(view_of(digits(), tenth()).batches(Part.FORGET, 100)))
    with torch.no_grad():
        before, after = run_on_cpu().loss(model, batch), run_on_cpu().loss(found, batch)
    assert after > 3 * before


# --- NegGrad+


def test_neggrad_plus_with_alpha_1_is_finetuning() -> None:
    settings = {"epochs": 2, "lr": 0.02, "batch_size": 48}
    model = original("mlp")
    plus, tuned = (
        unlearned(model, digits(), tenth(), method, names=("same", 1), device="cpu").model
        for method in (NegGradPlus(alpha=1, **settings), Finetune(**settings))
    )
    assert changed(model, plus)
    for name, value in plus.state_dict().items():
        torch.testing.assert_close(value, tuned.state_dict()[name])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.95, 1.0])
def test_neggrad_plus_weighs_the_two_losses(alpha: float, monkeypatch: Any) -> None:
    """alpha * loss(retain) - (1 - alpha) * loss(forget), each the mean over its own batch."""
    caught: dict[str, Any] = {}

    def catch(model: nn.Module, batches: Any, loss: Any, **_: Any) -> None:
        caught.update(batches=batches, loss=loss)

    monkeypatch.setattr(fitting, "fit", catch)
    data, model = digits(), original("mlp")
    view = view_of(data, tenth(), EVERYTHING)
    NegGradPlus(alpha=alpha, batch_size=20).unlearn(model, view, run_on_cpu())
    retain, forget = next(iter(caught["batches"](0)))
    assert (retain.part, forget.part) == (Part.RETAIN, Part.FORGET)
    assert set(retain.ids) <= set(tenth().retain)
    assert set(forget.ids) <= set(tenth().forget)

    def by_hand(batch: Batch) -> float:
        logits = model(batch.inputs).double()
        assert batch.labels is not None
        losses = [
            torch.logsumexp(row, 0) - row[label]
            for row, label in zip(logits, batch.labels.tolist(), strict=True)
        ]
        return float(sum(losses)) / len(batch)  # type: ignore[arg-type]

    with torch.no_grad():
        found = float(caught["loss"](model, (retain, forget), 0.0))
        expected = alpha * by_hand(retain) - (1 - alpha) * by_hand(forget)
    assert found == pytest.approx(expected, abs=1e-5)


def test_neggrad_plus_cycles_the_forget_set() -> None:
    """An epoch is one pass over the retain set; the forget set comes round as often as it takes."""
    dataset, data = named_digits(count=120)
    base = Split.whole(data, validation=0)
    split = Split.ids(data, base.retain[:10], base=base)
    method = NegGradPlus(epochs=1, batch_size=10)
    result = unlearned(original("mlp"), data, split, method, device="cpu")
    read = Counter(dataset.read)
    assert {read[name] for name in split.retain} == {1}
    assert {read[name] for name in split.forget} == {11}  # 110 retained in batches of 10
    assert result.record.cost.reads["forget"] == 110


def test_neggrad_plus_cycles_the_retain_set_where_that_is_shorter() -> None:
    dataset, data = named_digits(count=120)
    base = Split.whole(data, validation=0)
    split = Split.ids(data, base.retain[:100], base=base)
    unlearned(original("mlp"), data, split, NegGradPlus(epochs=2, batch_size=10), device="cpu")
    read = Counter(dataset.read)
    assert {read[name] for name in split.forget} == {2}
    assert {read[name] for name in split.retain} == {10}


# --- l1-sparse


def test_a_subgradient_gives_no_exact_zeros_and_the_record_does_not_say_so() -> None:
    """Sparse in name: what is counted as pruned is only near zero."""
    split, settings = tenth(), {"epochs": 3, "batch_size": 64, "gamma": 0.01}
    plain, proximal = (
        unlearned(original("mlp"), digits(), split, L1Sparse(proximal=p, **settings), device="cpu")
        for p in (False, True)
    )
    for result, any_zeros in ((plain, False), (proximal, True)):
        values = torch.cat([p.detach().flatten() for p in result.model.parameters()])
        zeros = float((values == 0).double().mean())
        assert result.record.log["zero_fraction"] == pytest.approx(zeros)
        assert (zeros > 0.05) == any_zeros
    assert plain.record.log["near_zero_fraction"] > plain.record.log["zero_fraction"]


def test_l1_sparse_penalises_under_a_mask_and_keeps_it() -> None:
    model = original("mlp")
    mask = {"fc1.weight": torch.rand(256, 64, generator=seeded(1)) < 0.5}
    sizes = []
    for gamma in (0.0, 0.05):
        method = L1Sparse(epochs=2, batch_size=64, gamma=gamma)
        found = unlearned(model, digits(), tenth(), method, mask=mask, device="cpu").model
        weight = found.get_parameter("fc1.weight")
        assert not weight[~mask["fc1.weight"]].any()
        sizes.append(float(weight.detach().abs().sum()))
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("proximal", [False, True])
def test_schedulers_can_be_compared_at_equal_dose(proximal: bool) -> None:
    """At equal peak the sums are as 2 : 3 : 1 at T = 3: what is compared is the dose."""
    names = ("decreasing", "constant", "increasing")

    def doses(**settings: Any) -> list[float]:
        made = (L1Sparse(scheduler=name, proximal=proximal, **settings) for name in names)
        return [sum(one.weight(t / one.epochs) for t in range(one.epochs)) for one in made]

    peaks = doses(epochs=3, gamma=0.5)
    assert peaks == pytest.approx([1.0, 1.5, 0.5])
    for epochs in (2, 3, 10):
        assert doses(epochs=epochs, gamma=0.5, gamma_is="mean") == pytest.approx([epochs / 2] * 3)
    # decreasing from 2e-3 over three epochs has a mean of two thirds of that
    peak = L1Sparse(epochs=3, gamma=2e-3)
    mean = L1Sparse(epochs=3, gamma=2e-3 * 2 / 3, gamma_is="mean")
    for place in (0.0, 0.2, 0.4, 0.9):
        assert mean.weight(place) == pytest.approx(peak.weight(place))


def test_a_dose_that_no_gamma_gives_is_refused() -> None:
    with pytest.raises(ConfigError, match="no gamma has that mean"):
        L1Sparse(epochs=1, scheduler="increasing", gamma_is="mean")
    assert L1Sparse(epochs=1, scheduler="increasing").weight(0.0) == 0
    assert L1Sparse(epochs=1, gamma=0.5, gamma_is="mean").weight(0.0) == 0.5


# --- sparse originals


def test_rewinding_takes_batchnorm_statistics_back_too() -> None:
    """Weights of an early epoch under statistics of the last one are no network of any epoch."""
    recipe = RECIPE.but(epochs=3)
    pruner = make_pruner("omp", {"sparsity": 0.5, "rewind_epoch": 1}, allow_code=True)
    found = made_sparse(digits(), "cnn", pruner, recipe=recipe, device="cpu")
    assert found.early is not None
    assert found.dense is not None
    late = found.dense.state_dict()
    statistics = [name for name in late if is_statistic(name)]
    assert len(statistics) == 9
    for name in statistics:
        assert not torch.equal(found.early[name], late[name]), name
    # these statistics have counted one epoch; trained on from epoch 2 of 3, they count one more
    again = made_sparse(
        digits(),
        "cnn",
        make_pruner("omp", {"rewind_epoch": 2}, allow_code=True),
        recipe=recipe,
        device="cpu",
        trained=found.dense,
        rewind=found.early,
        rewind_epoch=2,
    )
    counted = again.model.state_dict()["features.1.num_batches_tracked"]
    steps = int(late["features.1.num_batches_tracked"]) // 3
    assert int(counted) == 2 * steps


def test_a_mask_found_on_all_data_says_that_it_saw_them() -> None:
    """It carries what the forget set taught into the reference that is retrained under it."""
    sparse = made_sparse(digits(), "mlp", "omp", recipe=RECIPE, device="cpu")
    blind = made_sparse(
        digits(),
        "mlp",
        make_pruner("synflow", {"steps": 5}, allow_code=True),
        recipe=RECIPE,
        device="cpu",
    )
    assert (sparse.record.log["saw_data"], blind.record.log["saw_data"]) == (True, False)
    for found in (sparse, blind):
        retrained = unlearn(found, tenth(), "retrain", place=CPU)
        assert retrained.record.log["mask"]["saw_forget_set"] is found.record.log["saw_data"]


# --- all


def test_published_defaults() -> None:
    """Settings that belong to a method's own paper, not to another's."""
    assert Finetune().model_dump() == {
        "epochs": 10,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 256,
    }
    assert GradientAscent().model_dump() == {
        "epochs": 5,
        "lr": 1e-4,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "batch_size": 256,
        "norm": "eval",
    }
    assert NegGradPlus().model_dump() == {
        "alpha": 0.95,
        "epochs": 10,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 256,
        "norm": "train",
    }
    assert L1Sparse().model_dump() == {
        "gamma": 5e-4,
        "scheduler": "decreasing",
        "proximal": False,
        "epochs": 10,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 256,
    }
    assert Influence().model_dump() == {
        "alpha": 1.0,
        "damping": 1.0,
        "samples": 1000,
        "curvature": "fisher",
        "solver": "auto",
        "iterations": 200,
        "tolerance": 1e-6,
        "batch_size": 256,
    }
    fisher = Fisher().model_dump()
    assert 1e-9 <= fisher.pop("alpha") <= 1e-6
    assert fisher == {
        "variant": "released",
        "sigma": 1e-3,
        "floor": 1e-8,
        "labels": "all",
        "batch_size": 256,
    }
    assert Retrain().model_dump() == {"paired": False, "floor": True}


def test_seed_0_is_a_seed() -> None:
    """`if seed:` would take 0 for none."""
    model, method = original("mlp"), Finetune(epochs=1, batch_size=32)
    zero, again, one = (
        unlearned(model, digits(), tenth(), method, seed=seed, device="cpu").model
        for seed in (0, 0, 1)
    )
    assert same_state(zero, again)
    assert not same_state(zero, one)


def test_a_teacher_shares_nothing_with_its_student() -> None:
    student = original("cnn").train()
    teacher = run_on_cpu().teacher(student)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert student.training
    assert all(p.requires_grad for p in student.parameters())
    with torch.no_grad():
        for tensor in student.state_dict().values():
            tensor.zero_()
    assert changed(student, teacher) >= {"classifier.weight", "features.1.running_var"}


# --- the traps of influence unlearning and Fisher forgetting, each with a test


# --- influence


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def sample_gradients(model: nn.Module, batches: Iterable[Batch]) -> Tensor:
    """One row per sample, in evaluation mode."""
    model = copy.deepcopy(model).eval()
    rows = []
    for batch in batches:
        for inputs, label in zip(batch.inputs, batch.labels, strict=True):  # type: ignore[arg-type]
            loss = nn.functional.cross_entropy(model(inputs.unsqueeze(0)), label.unsqueeze(0))
            rows.append(flat(torch.autograd.grad(loss, list(model.parameters()))))
    return torch.stack(rows)


def linear_problem() -> tuple[nn.Module, DataView]:
    """A linear model in float64 on 30 vectors, 8 of them to forget."""
    generator = seeded(3)
    data = toy([i % 3 for i in range(30)], inputs=torch.randn(30, 4, generator=generator))
    split = Split.indices(data, range(8), base=Split.whole(data, validation=0))
    model = nn.Sequential(Doubled(), nn.Linear(4, 3).double())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model, view_of(data, split)


class Doubled(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.double()


def test_influence_is_no_recursion_with_a_stale_inverse_product() -> None:
    """The copied recursion keeps o = F⁻¹ g of the first gradient g, and only rescales it.

    So whatever the other gradients are, what it returns is v plus a multiple of the first of them.
    Recomputed for every gradient, the same recursion is the solve.
    """
    model, view = linear_problem()
    rows = sample_gradients(model, view.batches(Part.RETAIN, 50, shuffle=False))
    forget = sample_gradients(model, view.batches(Part.FORGET, 50, shuffle=False))
    n, n_f = len(rows), len(forget)
    v = forget.sum(0) / (n + n_f) - n_f / ((n + n_f) * n) * rows.sum(0)

    def recursion(stale: bool) -> Tensor:
        k, inverse = v.clone(), torch.eye(len(v), dtype=torch.float64)
        o = rows[0].clone()
        for row in rows:
            if not stale:
                o = inverse @ row
            along = torch.dot(o, row)
            k = k - torch.dot(k, row) / (n + along) * o
            inverse = inverse - torch.outer(o, o) / (n + along)
            if stale:
                o = o - along / (n + along) * o
        return k

    solved = torch.linalg.solve(rows.T @ rows / n + torch.eye(len(v), dtype=torch.float64), v)
    stale = recursion(stale=True)
    error = stale - v
    multiple = torch.dot(error, rows[0]) / rows[0].square().sum()
    torch.testing.assert_close(error, multiple * rows[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(recursion(stale=False), solved, rtol=1e-9, atol=1e-12)
    assert (stale - solved).norm() > 0.05 * solved.norm()

    for solver in ("gram", "cg"):
        before = flat(model.parameters())
        method = Influence(damping=1.0, alpha=1.0, solver=solver, tolerance=1e-10)
        moved = flat(method.unlearn(copy.deepcopy(model), view, run_on_cpu()).parameters()) - before
        assert (moved - solved).norm() < 1e-6 * solved.norm()
        assert (moved - stale).norm() > 0.05 * solved.norm()


def test_influence_sums_over_all_of_both_sets() -> None:
    """`samples` is of the curvature alone: far below the damping, it makes no difference."""
    model, view = linear_problem()
    before = flat(model.parameters())
    steps = []
    for samples in (2, 1000):
        method = Influence(damping=1e6, alpha=1e3, samples=samples)
        found = method.unlearn(copy.deepcopy(model), view, run_on_cpu())
        steps.append(flat(found.parameters()) - before)
    assert (steps[0] - steps[1]).norm() < 1e-4 * steps[1].norm()
    assert steps[1].norm() > 0


def test_influence_forgets_rather_than_learns() -> None:
    """The sign: the step goes up the loss of the forget set."""
    model = original("mlp")
    method = Influence(damping=0.1, samples=50)
    found = unlearned(model, digits(), tenth(), method, device="cpu").model
    batch = next(iter(view_of(digits(), tenth()).batches(Part.FORGET, 100)))
    with torch.no_grad():
        assert run_on_cpu().loss(found, batch) > run_on_cpu().loss(model, batch)


@pytest.mark.parametrize("method", [Influence(samples=20), Fisher(labels="sampled")])
def test_what_only_looks_leaves_batchnorm_statistics_alone(method: Any) -> None:
    model = original("cnn")
    found = unlearned(model, digits(), tenth(), method, device="cpu").model
    moved = changed(model, found)
    assert moved
    assert not {name for name in moved if "running" in name or "tracked" in name}


# --- fisher


def test_fisher_never_squares_the_gradient_of_a_batch_mean() -> None:
    """The squared mean shrinks as the batch grows; the mean of squares does not know of batches."""
    model, view = linear_problem()
    found = {}
    for size in (1, 11, 22):
        batches = view.batches(Part.RETAIN, size, shuffle=False)
        found[size] = flat(fisher_diagonal(model, batches, run_on_cpu(), labels="true").values())
    rows = sample_gradients(model, view.batches(Part.RETAIN, 50, shuffle=False))
    by_hand = rows.square().mean(0)
    trap = {size: rows.split(size) for size in found}
    squared_means = {
        size: torch.stack([part.mean(0).square() for part in parts]).mean(0)
        for size, parts in trap.items()
    }
    for size, value in found.items():
        torch.testing.assert_close(value, by_hand, rtol=1e-9, atol=1e-15)
        assert (squared_means[size].sum() < 0.5 * by_hand.sum()) == (size > 1)


@pytest.mark.parametrize("variant", ["released", "theory"])
def test_fisher_leaves_pruned_weights_without_noise(variant: Any) -> None:
    """A weight of 0 with no information would get the largest noise of all."""
    model = original("cnn")
    mask = {"features.4.weight": torch.rand(64, 32, 3, 3, generator=seeded(2)) < 0.1}
    method = Fisher(variant=variant, alpha=1e-6, labels="sampled")
    view = view_of(digits(), tenth())
    with torch.no_grad():
        model.get_parameter("features.4.weight").mul_(mask["features.4.weight"])
    found = method.unlearn(copy.deepcopy(model), view, run_on_cpu(mask=mask))
    weight = found.get_parameter("features.4.weight")
    assert not weight[~mask["features.4.weight"]].any(), "by the method, not by a mask put on later"
    assert (weight != model.get_parameter("features.4.weight"))[mask["features.4.weight"]].all()
