"""The traps of msg, ssd and sfron: each a test that fails on the wrong way of doing it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import changed, digits, original, random_mask, run_on_cpu, view_of
from torch import Tensor, nn

from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.methods.msg import Msg, redraw
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

    class Stop(Exception):
        pass

    class Data(DataView):
        def batches(self, *_: Any, **__: Any) -> Any:
            for name, p in model.named_parameters():
                seen[name] = p != before.get_parameter(name)
            raise Stop

    data = small_view()
    data = Data(
        **{name: getattr(data, name) for name in ("data", "split", "declared", "transform")}
    )
    with pytest.raises(Stop):
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
