"""The head's fits, Newton steps and bounds against closed forms and plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from expunge.methods.shared.one_vs_rest import OneVsRest, hidden


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(n: int, d: int, seed: int = 0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Rows of norm 1 at most, and labels of three classes that depend on them."""
    g = seeded(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    x = scale * x / x.norm(dim=1).max()
    y = (x @ torch.randn(d, 3, generator=g, dtype=torch.float64)).argmax(1)
    return x, y


def objective(w: Tensor, x: Tensor, y: Tensor, label: int, penalty: float, loss: str) -> Tensor:
    total = penalty * len(x) / 2 * w @ w
    for row, own in zip(x, y.tolist(), strict=True):
        sign = 1.0 if own == label else -1.0
        score = row @ w
        total = total + (
            torch.log1p(torch.exp(-sign * score)) if loss == "logistic" else (score - sign) ** 2 / 2
        )
    return total


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_gradient_and_hessian_are_those_of_the_objective(loss: str) -> None:
    x, y = samples(20, 4)
    problem = OneVsRest(x, y, 20, 0.03, loss)  # type: ignore[arg-type]
    w = torch.randn(4, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    made = lambda w: objective(w, x, y, 1, 0.03, loss)  # noqa: E731
    (gradient,) = torch.autograd.grad(made(w), w)
    torch.testing.assert_close(problem.gradient(w.detach(), 1), gradient, rtol=1e-12, atol=1e-12)
    hessian = torch.autograd.functional.hessian(made, w)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(problem.hessian(w.detach(), 1), hessian, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 1.0])
def test_a_fit_ends_at_the_minimum(penalty: float) -> None:
    x, y = samples(60, 5)
    problem = OneVsRest(x, y, 60, penalty)
    for label in range(3):
        w = problem.fit(label).requires_grad_()
        (gradient,) = torch.autograd.grad(objective(w, x, y, label, penalty, "logistic"), w)
        assert gradient.norm() <= 2 * problem.tolerance


def test_squared_loss_removes_exactly_what_the_ridge_refit_does() -> None:
    x, y = samples(80, 6)
    whole, rest = OneVsRest(x, y, 80, 0.01, "squared"), OneVsRest(x[9:], y[9:], 71, 0.01, "squared")
    for label in range(3):
        signs = torch.where(y[9:] == label, 1.0, -1.0).double()
        gram = x[9:].T @ x[9:] + 0.01 * 71 * torch.eye(6).double()
        refit = torch.linalg.solve(gram, x[9:].T @ signs)
        step = rest.step(whole.fit(label), label)
        torch.testing.assert_close(step.weights, refit, rtol=0, atol=1e-10)
        assert step.bound < 1e-8


def test_the_step_is_the_published_one_where_the_head_is_a_minimum() -> None:
    """w + H⁻¹ Delta, Delta = lambda n_f w + the forget set's gradient, H over the retain set."""
    x, y = samples(80, 6)
    w = OneVsRest(x, y, 80, 0.01).fit(2).requires_grad_()
    (delta,) = torch.autograd.grad(objective(w, x[:9], y[:9], 2, 0.01, "logistic"), w)
    rest = objective(w.detach(), x[9:], y[9:], 2, 0.01, "logistic")
    assert rest > 0
    hessian = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda v: objective(v, x[9:], y[9:], 2, 0.01, "logistic"), w.detach()
    )
    wanted = w.detach() + torch.linalg.solve(hessian, delta)
    found = OneVsRest(x[9:], y[9:], 71, 0.01).step(w.detach(), 2).weights
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_a_thousand_removals_leave_no_more_than_their_bounds() -> None:
    """From weights that fit more samples, and from any others; the bound is no empty one either."""
    tightest = 0.0
    for seed in range(250):
        n, d = 8 + seed % 40, 1 + seed % 7
        x, y = samples(n, d, seed, scale=(1.0, 0.3)[seed % 2])
        penalty = 10.0 ** -(1 + seed % 4)
        gone = 1 + seed % (n // 2)
        whole = OneVsRest(x, y, n, penalty)
        rest = OneVsRest(x[gone:], y[gone:], n - gone, penalty)
        starts = [whole.fit(k) for k in range(3)]
        starts.append(torch.randn(d, generator=seeded(seed), dtype=torch.float64) * 5)
        for label, start in enumerate(starts):
            step = rest.step(start, label % 3)
            w = step.weights
            signs = torch.where(y[gone:] == label % 3, 1.0, -1.0).double()
            slopes = signs / (1 + torch.exp(signs * (x[gone:] @ w)))
            measured = float((penalty * (n - gone) * w - slopes @ x[gone:]).norm())
            assert measured <= step.measured <= step.bound + 4 * rest.tolerance
            tightest = max(tightest, measured / step.bound)
            if label == 0:
                assert (w - rest.fit(0)).norm() <= step.measured / rest.modulus
    assert tightest > 0.5


def test_what_is_left_of_earlier_removals_does_not_add_up() -> None:
    x, y = samples(90, 5)
    w = OneVsRest(x, y, 90, 0.01).fit(0)
    for gone in range(3, 33, 3):
        step = OneVsRest(x[gone:], y[gone:], 90 - gone, 0.01).step(w, 0)
        assert step.measured <= step.bound
        w = step.weights
    alone = OneVsRest(x[30:], y[30:], 60, 0.01)
    assert (w - alone.fit(0)).norm() <= step.bound / alone.modulus


def test_the_norm_is_no_power_iteration() -> None:
    """Of equal singular values but one, which a few iterations from a random start miss."""
    x = torch.eye(30, dtype=torch.float64)
    x[0, 0] = 1 + 1e-3
    problem = OneVsRest(x / 1.001, torch.zeros(30, dtype=torch.int64), 30, 0.1)
    exact = float(torch.linalg.matrix_norm(x / 1.001, 2))
    assert problem.spectral_norm >= exact
    assert problem.spectral_norm == pytest.approx(exact, rel=1e-8)
    v = torch.randn(30, generator=seeded(0), dtype=torch.float64)
    for _ in range(20):
        v = problem.features.T @ (problem.features @ v)
        estimate, v = math.sqrt(float(v.norm())), v / v.norm()
    assert estimate < exact


def test_shares_of_several_processes_make_one_head() -> None:
    x, y = samples(60, 5)
    whole = OneVsRest(x, y, 60, 0.01)

    def total(own: Tensor) -> Tensor:
        return own + others.pop(0)

    others: list[Tensor] = []
    mine = OneVsRest(x[::2], y[::2], 60, 0.01, total=total)
    w = whole.fit(1)
    second = OneVsRest(x[1::2], y[1::2], 60, 0.01)
    others.append(second.gradient(w, 1) - second.modulus * w)
    torch.testing.assert_close(mine.gradient(w, 1), whole.gradient(w, 1), rtol=0, atol=1e-12)
    others.append(second.hessian(w, 1) - second.modulus * torch.eye(5).double())
    torch.testing.assert_close(mine.hessian(w, 1), whole.hessian(w, 1), rtol=0, atol=1e-12)
    others.append(x[1::2].T @ x[1::2])
    assert mine.spectral_norm == pytest.approx(whole.spectral_norm, rel=1e-12)


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("delta", [0.09, 1e-2, 1e-4, 1e-8])
def test_the_budget_is_within_the_exact_delta_of_gaussians(epsilon: float, delta: float) -> None:
    """Balle and Wang, ICML 2018, theorem 8. For large epsilon the closed form no longer holds."""

    def exact(apart: float, epsilon: float) -> float:
        def phi(z: float) -> float:
            return math.erfc(-z / math.sqrt(2)) / 2

        far = apart / 2
        return phi(far - epsilon / apart) - math.exp(epsilon) * phi(-far - epsilon / apart)

    assert exact(hidden(epsilon, delta), epsilon) <= delta
    if epsilon >= 0.5 and delta <= 1e-4:
        assert exact(2 * hidden(epsilon, delta), epsilon) > delta
    assert exact(hidden(12.0, 1e-4), 12.0) > 1e-4
