"""What per-sample gradients promise whatever is made of them: engine, precision, manners, errors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import batch_of, run_on_cpu
from per_sample_helpers import ENGINES, RUN, UNFIT, case, close, cut, digits_case, flat, slow_fisher
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.task import Classification
from expunge.errors import ConfigError
from expunge.per_sample import (
    fisher_diagonal,
    gradient_products,
    gram_matrix,
    per_sample_gradients,
    weighted_gradient,
)
from expunge.per_sample.half import half_backward, half_weights, rounded
from expunge.per_sample.probe import choose
from expunge.training.run import Run

# ---- which engine


@pytest.mark.parametrize("name", UNFIT)
def test_what_hooks_would_get_wrong_goes_elsewhere(name: str) -> None:
    model, batch = case(name)
    expected = slow_fisher(model, batch, "true")
    with pytest.raises(ConfigError, match="engine 'hooks' cannot follow"):
        fisher_diagonal(model, [batch], RUN, labels="true", engine="hooks")
    close(flat(fisher_diagonal(model, [batch], RUN, labels="true")), expected)
    parameters = dict(model.named_parameters())
    model.eval()
    assert choose(model, parameters, RUN.task.losses, batch, "auto").engine == UNFIT[name][1]


def test_a_first_batch_of_one_sample_shows_too_little() -> None:
    model, batch = case("centred")
    batches = [*cut(batch, 1)[:2], batch]
    whole = torch.cat([batch.inputs[:2], batch.inputs])
    labels = torch.cat([batch.labels[:2], batch.labels])  # type: ignore[index]
    found = fisher_diagonal(model, batches, RUN, labels="true")
    close(flat(found), slow_fisher(model, batch_of(whole, labels), "true"))


# ---- precision


def test_bfloat16_stays_under_one_percent() -> None:
    """Backward passes and products in bfloat16, wherever it runs; few samples are the worst case."""
    for name in ("cnn", "resnet20"):
        model, batch = digits_case(name, 16)
        exact = flat(fisher_diagonal(model, [batch], RUN))
        K = gram_matrix(model, [batch], RUN)
        model = model.float()
        batch = replace(batch, inputs=batch.inputs.float())
        found = flat(fisher_diagonal(model, [batch], RUN, precision="bfloat16"))
        error = float((found - exact).abs().sum() / exact.sum())
        assert 1e-5 < error < 0.01  # it did compute in bfloat16
        half = gram_matrix(model, [batch], RUN, precision="bfloat16")
        assert 1e-5 < float((half - K).norm() / K.norm()) < 0.01
        single = flat(fisher_diagonal(model, [batch], RUN, precision="float32"))
        assert float((single - exact).abs().sum() / exact.sum()) < 1e-5
        assert gram_matrix(model, [batch], RUN).dtype == torch.float32
        assert float((gram_matrix(model, [batch], RUN) - K).norm() / K.norm()) < 1e-5


def test_half_backward_skips_what_it_cannot_round() -> None:
    kinds = [
        nn.Conv2d(2, 3, 2, padding="same"),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 3, 2).double(),
        nn.Conv2d(2, 4, 2, groups=2),
        nn.Conv1d(2, 3, 2),
    ]
    found = half_weights("bfloat16", nn.ModuleList(kinds), RUN.device)
    assert found is not None and set(found) == set(kinds[3:])


@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16"])
def test_float64_models_stay_exact_unless_bfloat16_is_asked_for(asked: Any) -> None:
    model, _ = digits_case("cnn")
    assert (half_weights(asked, model, RUN.device) is None) == (asked != "bfloat16")


def test_half_precision_rounds_what_flows_back_and_not_what_goes_forward() -> None:
    """Strided, dilated and grouped convolutions against torch's own backward pass in bfloat16."""
    for layer, shape in [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (5, 4, 8, 9)),
        (nn.Conv2d(4, 6, 3, dilation=2), (5, 4, 8, 9)),
        (nn.Conv1d(4, 6, 3, padding=2), (5, 4, 9)),
    ]:
        inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        exact = layer(inputs)
        direction = torch.cos(torch.arange(exact.numel()).view_as(exact).float())
        (expected,) = torch.autograd.grad(exact, inputs, direction)
        found = half_backward(layer, rounded(layer.weight))(inputs)
        (gradient,) = torch.autograd.grad(found, inputs, direction)
        assert torch.equal(found, exact) and gradient.dtype == torch.float32
        error = float((gradient - expected).norm() / expected.norm())
        assert 1e-5 < error < 0.01  # of bfloat16's 8 bits


# ---- manners


def state(model: nn.Module) -> list[Any]:
    modules = [
        (m.training, dict(m._forward_hooks), dict(m._forward_pre_hooks), "forward" in vars(m))
        for m in model.modules()
    ]
    return [modules, [(p.requires_grad, p.grad, p.dtype) for p in model.parameters()]]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_model_is_left_as_it_was(
    engine: Any, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = digits_case("cnn")
    model, batch = model.float().train(), replace(batch, inputs=batch.inputs.float())
    model.get_submodule("features.1").eval()
    next(model.parameters()).requires_grad_(False)
    weights, before = copy.deepcopy(model.state_dict()), state(model)
    random = torch.get_rng_state()

    class Failing(Classification):
        calls = 0

        def losses(self, model: nn.Module, batch: Batch) -> Tensor:
            self.calls += 1
            if self.calls > 8:
                raise RuntimeError("the task fails")
            return super().losses(model, batch)

    run = run_on_cpu(task=Failing()) if fails else RUN
    vector = {n: torch.ones_like(p) for n, p in model.named_parameters() if p.requires_grad}
    calls: list[Callable[[], object]] = [
        lambda: fisher_diagonal(
            model, [batch] * 9, run, labels="true", engine=engine, precision="bfloat16"
        ),
        lambda: gram_matrix(model, [batch] * 9, run, engine=engine, precision="bfloat16"),
        lambda: gradient_products(model, [batch] * 9, run, vector),
        lambda: weighted_gradient(model, [batch] * 9, run),
        lambda: per_sample_gradients(model, batch, run),
    ]
    for call in calls:
        if fails and call is not calls[-1]:
            run.task.calls = 0  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError, match="the task fails"):
                call()
        elif not fails:
            call()
        assert state(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_the_same_call_gives_the_same_bits() -> None:
    model, batch = digits_case("cnn")
    model, batch = model.float(), replace(batch, inputs=batch.inputs.float())
    for labels in ("all", "sampled"):
        one, two = (
            flat(fisher_diagonal(model, [batch], RUN, labels=labels, precision="bfloat16"))
            for _ in range(2)
        )
        assert torch.equal(one, two)
    assert torch.equal(gram_matrix(model, [batch], RUN), gram_matrix(model, [batch], RUN))


def test_gradients_may_be_disabled_around_it() -> None:
    model, batch = case("strided")
    expected = flat(fisher_diagonal(model, [batch], RUN))
    with torch.no_grad():
        assert torch.equal(flat(fisher_diagonal(model, [batch], RUN)), expected)
        assert len(gram_matrix(model, [batch], RUN)) == len(batch)


def test_stand_ins_count_for_nothing() -> None:
    model, batch = case("strided")
    idle = replace(batch, weight=0.0)
    close(
        flat(fisher_diagonal(model, [batch, idle], RUN)), flat(fisher_diagonal(model, [batch], RUN))
    )
    assert len(gradient_products(model, [batch, idle], RUN, {})) == len(batch)


# ---- errors


class Several(Run):
    world = 2  # type: ignore[assignment]


def test_errors_say_what_to_do() -> None:
    model, batch = case("strided")
    vector = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    name = next(iter(vector))
    frozen = copy.deepcopy(model).requires_grad_(False)
    once = iter(cut(batch, 2))
    several = Several(accelerator=RUN.accelerator)
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("solver='cg'", lambda: gram_matrix(model, [batch], several)),
        ("no samples", lambda: gram_matrix(model, [], RUN)),
        ("no samples", lambda: fisher_diagonal(model, [], RUN)),
        ("read several times", lambda: gram_matrix(model, once, RUN, memory_bytes=1)),
        ("all, sampled or true", lambda: fisher_diagonal(model, [batch], RUN, labels="any")),  # type: ignore[arg-type]
        ("requires_grad_", lambda: fisher_diagonal(frozen, [batch], RUN)),
        ("the mask names", lambda: fisher_diagonal(model, [batch], RUN, mask={"x": torch.ones(1)})),
        ("one per sample", lambda: weighted_gradient(model, [batch], RUN, torch.ones(3))),
        ("one per sample", lambda: weighted_gradient(model, [batch], RUN, torch.ones(1))),
        ("no parameter of", lambda: gradient_products(model, [batch], RUN, {"x": torch.ones(1)})),
        ("one number per", lambda: gradient_products(model, [batch], RUN, {name: torch.ones(1)})),
    ]
    for text, call in wrong:
        with pytest.raises(ConfigError, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)
    branches, vectors = case("branches")
    with pytest.raises(ConfigError, match="engine 'vmap' cannot follow"):
        fisher_diagonal(branches, [vectors], RUN, engine="vmap")
