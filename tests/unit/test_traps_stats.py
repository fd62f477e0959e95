"""The traps of msg, ssd and sfron: each a test that fails on the wrong way of doing it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import changed, digits, original, random_mask, run_on_cpu, toy, unlearned, view_of
from torch import Tensor, nn

from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import ConfigError
from expunge.methods.msg import Msg, redraw
from expunge.methods.sfron import Sfron
from expunge.methods.ssd import Ssd
from expunge.training.pace import Pace
from expunge.training.recipe import Recipe
from expunge.training.schedule import Schedule, triangle


def small_view(count: int = 60, share: float = 0.25) -> DataView:
    """A few digits, some of them to forget."""
    data = digits()
    whole = Split.whole(data, validation=0)
    part = Split.ids(data, whole.retain[count:], base=whole).settled()
    return view_of(data, Split.random(data, share, base=part))


# --- msg


def random_gradient(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(p.shape, generator=generator) for n, p in model.named_parameters()}


def test_msg_draws_exact_counts_of_the_smallest_gradients() -> None:
    model = original("cnn")
    gradient = random_gradient(model)
    drawn = redraw(model, gradient, 0.3, run_on_cpu())
    convolutions = {n for n, p in model.named_parameters() if p.ndim == 4}
    assert set(drawn) == convolutions
    for name, chosen in drawn.items():
        assert int(chosen.sum()) == round(0.3 * chosen.numel())
        size = gradient[name].abs()
        assert size[chosen].max() <= size[~chosen].min()


def test_msg_breaks_ties_by_position() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3))
    zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    (drawn,) = redraw(model, zeros, 0.3, run_on_cpu()).values()
    assert drawn.flatten().nonzero().flatten().tolist() == list(range(round(0.3 * 72)))


def test_msg_keeps_biases_and_the_other_weights_to_the_bit() -> None:
    """A layer that is made anew has a bias of its own making."""
    model = original("cnn")
    before = copy.deepcopy(model)
    drawn = redraw(model, random_gradient(model), 0.3, run_on_cpu())
    assert changed(before, model) == set(drawn)
    for name, chosen in drawn.items():
        same = before.get_parameter(name) == model.get_parameter(name)
        assert same[~chosen].all()
        assert not same[chosen].any()


def test_msg_draws_with_variance_2_by_fan_out() -> None:
    model = nn.Sequential(nn.Conv2d(40, 20, 3, bias=False))
    drawn = redraw(model, random_gradient(model), 1.0, run_on_cpu())
    fan_out = 20 * 3 * 3
    values = model[0].weight.detach()[drawn["0.weight"]]
    assert len(values) == 7200
    assert values.var() == pytest.approx(2 / fan_out, rel=0.1)  # fan in is twice as much
    assert values.mean().abs() < 4 * (2 / fan_out / 7200) ** 0.5


def test_msg_leaves_pruned_weights_out_of_the_count() -> None:
    model = original("cnn")
    mask = random_mask(model, kept=0.5)
    before = copy.deepcopy(model)
    drawn = redraw(model, random_gradient(model), 0.3, run_on_cpu(mask=mask))
    for name, chosen in drawn.items():
        assert int(chosen.sum()) == round(0.3 * int(mask[name].sum()))
        assert not chosen[~mask[name]].any()
        assert torch.equal(
            model.get_parameter(name)[~mask[name]], before.get_parameter(name)[~mask[name]]
        )


def test_msg_does_not_look_in_the_mode_that_the_model_is_in() -> None:
    """In training mode BatchNorm normalises by the batch, and its statistics move."""
    found = []
    for training in (False, True):
        model = original("cnn").train(training)
        run = run_on_cpu()
        seen = redraw_of(model, run)
        assert model.training is training
        found.append(seen)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def redraw_of(model: nn.Module, run: Any, size: int = 64) -> dict[str, Tensor]:
    """What Msg draws anew, seen from outside: the weights that differ before any fine-tuning."""
    before = copy.deepcopy(model)
    seen: dict[str, Tensor] = {}

    class ReachedError(Exception):
        pass

    class Data(DataView):
        def batches(self, *_: Any, **__: Any) -> Any:
            for name, p in model.named_parameters():
                seen[name] = p != before.get_parameter(name)
            raise ReachedError

    data = small_view()
    data = Data(
        **{name: getattr(data, name) for name in ("data", "split", "declared", "transform")}
    )
    with pytest.raises(ReachedError):
        Msg(batch_size=size).unlearn(model, data, run)
    return seen


def test_msg_adds_gradients_of_samples_whatever_the_batch() -> None:
    """Means over batches give a short last batch, here of 1 in 8 or of 7 in 45, more weight."""
    found = [redraw_of(original("cnn"), run_on_cpu(), size) for size in (7, 8, 64)]
    for other in found[1:]:
        for name, chosen in found[0].items():
            # where two gradients are as small as rounding, their order may change
            assert int((chosen != other[name]).sum()) <= 0.01 * max(100, int(chosen.sum()))


def test_msg_has_no_adam_and_slows_what_is_kept() -> None:
    """Under Adam a gradient times 0.1 makes the same step; under SGD a tenth of it."""
    assert "optimizer" not in Msg.model_fields
    steps = {}
    for factor in (0.1, 1.0):
        model = original("cnn")
        start = copy.deepcopy(model)
        method = Msg(share=0.0, kept_factor=factor, epochs=1, momentum=0.0, weight_decay=0.0)
        method.unlearn(model, small_view(count=80), run_on_cpu())
        steps[factor] = {
            n: (p - start.get_parameter(n)).detach() for n, p in model.named_parameters()
        }
    for name, whole in steps[1.0].items():
        ratio = float(steps[0.1][name].norm() / whole.norm())
        assert ratio == pytest.approx(0.1 if whole.ndim == 4 else 1.0, rel=0.05), name


def test_msg_rate_rises_then_falls_by_epoch() -> None:
    """In an epoch all steps have one rate; the first is not 0, nor the last."""
    assert [triangle(e, 5) for e in range(6)] == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0])
    assert [triangle(e, 1) for e in range(2)] == [1, 0]
    assert [triangle(e, 4) for e in range(4)] == pytest.approx([1 / 2, 1, 2 / 3, 1 / 3])
    recipe = Recipe(schedule="triangle", lr=0.3, epochs=5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = Schedule(recipe, optimizer, 4, Pace(5, None, 3))
    schedule.after_step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)


# --- ssd


def line(weights: list[float]) -> nn.Module:
    """Two classes, of logits w x and 0, in float64."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(weights, dtype=torch.float64))

        def forward(self, inputs: Tensor) -> Tensor:
            score = inputs.double() @ self.w
            return torch.stack([score, torch.zeros_like(score)], 1)

    return Line()


def rows(inputs: list[list[float]], labels: list[int], forget: int) -> DataView:
    """Samples of which the first are to be forgotten."""
    data = toy(labels, inputs=torch.tensor(inputs))
    return view_of(data, Split.indices(data, range(forget), base=Split.whole(data, validation=0)))


def test_ssd_by_hand() -> None:
    """The gradient of the loss of label 0 is (p - 1) x, of label 1 p x, with p = 1 / (1 + exp(-w x))."""
    model = line([2.0, -1.0, 3.0, 4.0])
    inputs = [[0.0, 4.0, 0.0, 1.0], [0.0] * 4, [0.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 4.0]]
    run = run_on_cpu()
    Ssd(alpha=3.0, dampening=2.0).unlearn(model, rows(inputs, [0, 0, 1, 1], forget=1), run)
    # at the first w x = 0: of the second weight I_F = 4, I_D = 1, so that 2 I_D / I_F = 1 / 2 is left;
    # of the last I_F = 1 / 4, I_D is about 8; of the others both are 0
    assert model.w.tolist() == [2.0, -0.5, 3.0, 4.0]
    assert run.log["dampened_fraction"] == 0.25


def test_ssd_never_divides_0_by_0() -> None:
    """Of a weight that nothing depends on, I_F = I_D = 0."""
    model = line([2.0, -1.0])
    Ssd(alpha=0.0, dampening=1e-3).unlearn(
        model, rows([[0.0, 1.0], [0.0, 1.0]], [0, 1], 1), run_on_cpu()
    )
    assert model.w[0] == 2.0
    assert torch.isfinite(model.w).all()


@pytest.mark.parametrize("alpha", [1.0, 1.9])
def test_ssd_selects_nothing_where_the_forget_set_is_as_all_data(alpha: float) -> None:
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(3)).tolist()
    labels = [i % 2 for i in range(20)]
    model = line([1.0, -2.0, 0.5])
    before = copy.deepcopy(model)
    run = run_on_cpu()
    Ssd(alpha=alpha).unlearn(model, rows([*inputs, *inputs], [*labels, *labels], forget=20), run)
    assert not changed(before, model)
    assert run.log["dampened_fraction"] == 0
    assert "lower alpha" in run.log["warnings"][0]


def test_ssd_warns_where_it_selects_next_to_nothing() -> None:
    """One weight of thousands, and the record would say that it forgot."""
    told = {}
    for width in (500, 2000):
        one, other = ([float(at == place) for at in range(width)] for place in (0, 1))
        run, model = run_on_cpu(label="ssd"), line([1.0] * width)
        Ssd(alpha=2.0).unlearn(model, rows([one, *[other] * 9], [0] * 10, forget=1), run)
        assert run.log["dampened_fraction"] == 1 / width
        told[width] = run.log.get("warnings", [])
    assert not told[500]
    (warning,) = told[2000]
    assert warning.startswith("ssd: 0.0500% of the weights matter alpha = 2 times as much")
    assert "little is forgotten; lower alpha" in warning


def test_ssd_refuses_an_alpha_that_no_weight_can_reach() -> None:
    """All data hold the forget set, so of a tenth of them I_F is at most 10 I_D: 10 would do nothing."""
    model = original("mlp")
    data = small_view(share=0.1)
    with pytest.raises(
        ConfigError, match=r"alpha = 10 selects no weight.* 10 times I_D; set alpha"
    ):
        Ssd(alpha=10.0).unlearn(model, data, run_on_cpu())
    assert not data.reads
    for share, expected in ((0.1, 5.0), (1 / 60, 10.0)):
        run = run_on_cpu()
        Ssd().unlearn(original("mlp"), small_view(share=share), run)
        assert run.log["alpha"] == expected


def test_ssd_never_squares_the_gradient_of_a_batch_mean() -> None:
    """Else alpha means another thing at each batch size."""
    found = []
    for size in (1, 7, 64):
        model = original("mlp").double()
        Ssd(alpha=2.0, batch_size=size).unlearn(Doubled(model), small_view(), run_on_cpu())
        found.append(model)
    start = original("mlp").double()
    assert changed(start, found[0])
    for other in found[1:]:
        for name, value in found[0].state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-9, atol=1e-12)


class Doubled(nn.Module):
    """A model in float64 that takes what the view hands out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(inputs.double())
        return logits


@pytest.mark.parametrize("forget", [0.25, 1 / 60])
def test_ssd_grows_no_weight_and_turns_no_sign(forget: float) -> None:
    """Of one sample too, which is all for which some weights matter."""
    model = original("cnn")
    before = copy.deepcopy(model)
    Ssd(alpha=1.0, dampening=1.2).unlearn(model, small_view(share=forget), run_on_cpu())
    moved = changed(before, model)
    assert moved
    assert moved <= {name for name, _ in model.named_parameters()}  # no statistics of BatchNorm
    for name, weight in model.named_parameters():
        old = before.get_parameter(name)
        assert (weight.abs() <= old.abs()).all()
        assert (weight * old >= 0).all()


def test_ssd_dampens_shared_weights_once() -> None:
    class Tied(nn.Module):
        def __init__(self, tie: bool) -> None:
            super().__init__()
            self.first = nn.Linear(2, 2, bias=False)
            self.second = nn.Linear(2, 2, bias=False)
            with torch.no_grad():
                self.first.weight.copy_(torch.tensor([[1.0, 0.5], [-0.5, 1.0]]))
            if tie:
                self.second.weight = self.first.weight

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.second(torch.tanh(self.first(inputs)))
            return logits

    model = Tied(tie=True)
    start = model.first.weight.detach().clone()
    data = rows([[3.0, 1.0], [0.1, 0.1], [0.1, -0.1], [-0.1, 0.1]], [1, 0, 1, 0], forget=1)
    run = run_on_cpu()
    Ssd(alpha=1.0).unlearn(model, data, run)
    assert model.second.weight is model.first.weight
    grads = []
    for part in (Part.FORGET, Part.RETAIN):
        for batch in data.batches(part, 1, shuffle=False):
            twin = Tied(tie=True)
            loss = nn.functional.cross_entropy(twin(batch.inputs), batch.labels)
            grads.append(torch.autograd.grad(loss, twin.first.weight)[0] ** 2)
    i_f, i_d = grads[0], torch.stack(grads).mean(0)
    factor = torch.where(i_f > i_d, (i_d / i_f).clamp(max=1), 1.0)
    assert (factor < 1).any()
    torch.testing.assert_close(model.first.weight.detach(), start * factor)


# --- sfron


def sfron_on(model: nn.Module, data: DataView | None = None, **settings: Any) -> nn.Module:
    values = {"steps": 6, "every": 3, "batch_size": 16, "alpha": 1.0, **settings}
    run = run_on_cpu()
    return Sfron(**values).unlearn(model, data or small_view(), run)


def test_sfron_with_power_0_is_plain_ascent() -> None:
    """Every w_i is 1 / n, so that the weighted sum is the mean."""
    model = original("mlp")
    run = run_on_cpu()
    batch = next(iter(small_view().batches(Part.FORGET, 16)))
    plain = Sfron(power=0.0)._weighted(model, batch, run)
    torch.testing.assert_close(plain, run.loss(model, batch))
    weighted = Sfron(power=2.0)._weighted(model, batch, run)
    assert weighted < plain  # what is nearly forgotten weighs less than what is known
    losses = run.task.losses(model, batch).detach()
    shares = losses**-2 / (losses**-2).sum()
    torch.testing.assert_close(weighted, (shares * losses).sum())


@pytest.mark.parametrize("first", [2.0, 0.01])
def test_sfron_weights_are_detached_and_bounded(first: float) -> None:
    """Of a loss of 0 the weight would be infinite; and a weight's own gradient must not count."""
    model = line([50.0])
    data = rows([[first], [-0.01], [1.0]], [0, 0, 1], forget=2)
    batch = next(iter(data.batches(Part.FORGET, 2, shuffle=False)))
    run = run_on_cpu()
    value = Sfron(power=1.0)._weighted(model, batch, run)
    (gradient,) = torch.autograd.grad(value, model.w)
    losses = run.task.losses(model, batch)
    weights = losses.detach().clamp(min=1e-6) ** -1.0
    assert torch.isfinite(weights).all()
    (exact,) = torch.autograd.grad((weights / weights.sum() * losses).sum(), model.w)
    torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=0)


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"weight_decay": 0.1}])
def test_sfron_moves_no_weight_outside_the_mask_in_forget_steps(settings: dict[str, float]) -> None:
    """Momentum of the retain steps, and weight decay, move weights that have no gradient."""
    model = original("cnn")
    data = small_view()
    before, after = copy.deepcopy(model), []

    class Data(DataView):
        def batches(self, part: Part, *given: Any, **options: Any) -> Any:
            stream = super().batches(part, *given, **options)
            for batch in stream:
                after.append((batch.part, copy.deepcopy(model)))
                yield batch

    watched = Data(**{n: getattr(data, n) for n in ("data", "split", "declared", "transform")})
    method = Sfron(steps=6, every=3, batch_size=16, alpha=1.0, **settings)
    run = run_on_cpu()
    mask = method._mask(model, data, run)
    assert 0 < run.log["mask_fraction"] < 1
    method.unlearn(model, watched, run)
    seen = [(part, one) for part, one in after if changed(before, one)]
    # the second forget step: between its batch and the retain batch that follows
    first = next(i for i, (part, _) in enumerate(seen) if part is Part.FORGET)
    start, end = seen[first][1], seen[first + 1][1]
    inside = 0
    for name, chosen in mask.items():
        moved = start.get_parameter(name) != end.get_parameter(name)
        assert not moved[~chosen].any()
        inside += int(moved[chosen].sum())
    assert inside


def test_sfron_with_beta_1_has_no_slow_copy() -> None:
    fast, slow, still = (original("mlp") for _ in range(3))
    sfron_on(fast, beta=1.0)
    sfron_on(slow, beta=0.5)
    sfron_on(still, beta=1e-6)
    weights = nn.utils.parameters_to_vector(original("mlp").parameters())
    assert changed(fast, slow)
    far, near = (
        float(nn.utils.parameters_to_vector(one.parameters()).sub(weights).norm().detach())
        for one in (fast, still)
    )
    assert near < 1e-3 * far


def test_sfron_with_gamma_0_masks_nothing() -> None:
    run = run_on_cpu()
    mask = Sfron(gamma=0.0)._mask(original("cnn"), small_view(), run)
    assert all(bool(one.all()) for one in mask.values())
    assert run.log["mask_fraction"] == 1.0


def test_sfron_masks_are_of_samples_whatever_the_batch() -> None:
    """Squares of batch means would depend on it; so would a quotient, 0 / 0 at pruned weights."""
    model = original("mlp")
    pruned = random_mask(model, kept=0.5)
    found = [
        Sfron(batch_size=size)._mask(model, small_view(), run_on_cpu(mask=pruned))
        for size in (1, 7, 64)
    ]
    for other in found[1:]:
        for name, one in found[0].items():
            assert int((one != other[name]).sum()) <= 0.002 * one.numel()  # rounding alone
    for name, kept in pruned.items():
        assert found[0][name][~kept].all()


def test_sfron_reads_a_forget_batch_ahead_of_every_fifth() -> None:
    parts = [batch.part for batch in Sfron(steps=7, batch_size=16)._turns(small_view())]
    f, r = Part.FORGET, Part.RETAIN
    assert parts == [f, r, r, r, r, r, f, r, r]
    batches = list(Sfron(steps=4, every=1, batch_size=16)._turns(small_view()))
    for part, size in ((f, 15), (r, 45)):  # both begin again where they end, in another order
        ids = [str(name) for batch in batches if batch.part is part for name in batch.ids]
        assert len(set(ids[:size])) == len(set(ids)) == size < len(ids)
        assert ids[size:] != ids[: len(ids) - size]


# --- all

ALL = [Msg(epochs=1, batch_size=64), Ssd(alpha=1.0), Sfron(steps=4, batch_size=64)]


@pytest.mark.parametrize("method", ALL)
def test_a_whole_class_under_a_mask_in_bfloat16(method: Any) -> None:
    recipe = Recipe(precision="bfloat16", augmentation="none")
    data = digits()
    model = original("cnn")
    mask = random_mask(model, kept=0.5)
    asked = Split.classes(data, [3])
    made = unlearned(model, data, asked, method, recipe=recipe, mask=mask)
    assert any("takes all of '3'" in one for one in made.record.warnings) == (method.name == "msg")
    for name, weight in made.model.named_parameters():
        assert torch.isfinite(weight).all()
        assert name not in mask or not weight[~mask[name]].any()
    moved = changed(model, made.model)
    assert moved >= {name for name, p in model.named_parameters() if p.ndim == 4}
