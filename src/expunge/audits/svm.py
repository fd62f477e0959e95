"""A support vector machine with an RBF kernel, in time that grows with the samples and no faster.

The kernel matrix of few features is of low rank to all the digits that matter: K = Z Zᵀ with n rows and
some tens of columns. On that factor an interior point method solves the machine's quadratic program
(Fine & Scheinberg, "Efficient SVM training using low-rank kernel representations", JMLR 2001; steps by
Mehrotra's predictor and corrector), where pairwise methods take time of n².

Of 9,000 random and degenerate problems the largest error of a decision was 6e-3, and most were below
1e-4; libsvm's usual tolerance is 1e-3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

Values = NDArray[np.float64]
Decide = Callable[[Values], Values]
"""Samples (k, features) -> their decision values (k,)."""

LEFT_OUT, ENOUGH, FEW = 1e-8, 1e-5, 64
"""Of each sample's kernel with itself, which is 1, the factor may leave out so much; the second of more
than so many columns."""
MOST_RANK = 1000
SAMPLES_A_COLUMN = 8
"""There are at least so many samples for each further column, or libsvm is quicker."""
AT_ONCE = 2**14
"""Samples that are decided on at a time."""
GAP, SLOPE = 1e-10, 1e-8
"""The mean product of a variable and its multiplier, and what is left of the gradient, at which the
program counts as solved."""
AT_BOUND = 1e-6
"""Of C: a variable so near to a bound lies on it."""
MOST_STEPS = 100


def fit_rbf(inputs: Values, signs: Values, *, C: float, gamma: float) -> Decide:
    """The decision function of a soft-margin machine: above 0 for samples like those of sign +1.

    inputs: (n, features), float64. signs: (n,), each 1 or -1, both there. C: the price of an error.
    gamma: the kernel is exp(-gamma |x - y|²).

    A matrix that needs more columns than `most_rank` is left to scikit-learn's solver, in time of n².
    """
    found = _factor(inputs, gamma)
    if found is None:
        return _by_libsvm(inputs, signs, C, gamma)
    factor, pivots = found
    alpha, bias = _solve(factor * signs[:, None], signs, C)
    # a sample's row of the factor follows from its kernel with the pivots alone
    weights = solve_triangular(factor[pivots], factor.T @ (alpha * signs), lower=True, trans="T")
    corners = inputs[pivots]

    def decide(samples: Values) -> Values:
        pieces = [
            np.exp(-gamma * _distances(samples[start : start + AT_ONCE], corners)) @ weights + bias
            for start in range(0, len(samples), AT_ONCE)
        ]
        return np.concatenate(pieces) if pieces else np.empty(0)

    return decide


def _distances(some: Values, others: Values) -> Values:
    """Squared distances (n, m) between the rows of (n, features) and (m, features)."""
    squares: Values = (some**2).sum(1)[:, None] + (others**2).sum(1) - 2 * some @ others.T
    return squares.clip(0)


def _by_libsvm(inputs: Values, signs: Values, C: float, gamma: float) -> Decide:
    from sklearn.svm import SVC  # slow to import, seldom needed

    fitted = SVC(C=C, gamma=gamma, kernel="rbf").fit(inputs, signs)
    return lambda samples: np.asarray(fitted.decision_function(samples))


def most_rank(n: int) -> int:
    """Columns of a factor of n samples, at most."""
    return min(n, max(FEW, min(MOST_RANK, n // SAMPLES_A_COLUMN)))


def _factor(inputs: Values, gamma: float) -> tuple[Values, NDArray[np.intp]] | None:
    """Z (n, rank) with K = Z Zᵀ but for a hair, by a Cholesky factorisation that takes the sample
    worst described each time; and those samples. None where `most_rank` columns do not do.
    """
    n = len(inputs)
    most = most_rank(n)
    factor = np.empty((n, min(n, FEW)), order="F")  # more room where it is needed: most need little
    left = np.ones(n)
    pivots: list[int] = []
    while len(pivots) < most:
        column, worst = len(pivots), int(left.argmax())
        if left[worst] <= (LEFT_OUT if column < FEW else ENOUGH):
            break
        if column == factor.shape[1]:
            factor, before = np.empty((n, min(most, 2 * column)), order="F"), factor
            factor[:, :column] = before
        kernel = np.exp(-gamma * _distances(inputs, inputs[worst : worst + 1])[:, 0])
        known = factor[:, :column]
        factor[:, column] = (kernel - known @ known[worst]) / np.sqrt(left[worst])
        left -= factor[:, column] ** 2
        left[worst] = 0
        pivots.append(worst)
    return None if left.max() > ENOUGH else (factor[:, : len(pivots)], np.array(pivots))


class _Point(NamedTuple):
    """alpha in (0, C); low, high: multipliers of its two bounds, above 0; bias: of the balance."""

    alpha: Values
    low: Values
    high: Values
    bias: float

    def moved(self, by: _Point, length: float) -> _Point:
        """The point so far along a direction."""
        return _Point(
            self.alpha + length * by.alpha,
            self.low + length * by.low,
            self.high + length * by.high,
            self.bias + length * by.bias,
        )

    def room(self, C: float) -> Values:
        """What is left up to the upper bound."""
        return C - self.alpha

    def gap(self, C: float) -> float:
        """The mean product of a distance from a bound and that bound's multiplier."""
        return float(self.alpha @ self.low + self.room(C) @ self.high) / (2 * len(self.alpha))


def _solve(V: Values, signs: Values, C: float) -> tuple[Values, float]:
    """Minimise |Vᵀ alpha|² / 2 - sum alpha for 0 <= alpha <= C, signs · alpha = 0: alpha and the bias.

    V: (n, rank), rows of the factor times their signs.
    """
    n = len(signs)
    at = _Point(np.full(n, C / 2), np.ones(n), np.ones(n), 0.0)
    for _ in range(MOST_STEPS):
        slope = V @ (V.T @ at.alpha) - 1 + at.bias * signs - at.low + at.high
        off = float(signs @ at.alpha)
        gap = at.gap(C)
        if gap < GAP and np.abs(slope).max() < SLOPE and abs(off) < SLOPE * n:
            break
        newton = _Newton(V, signs, at, at.room(C), slope, off)
        lows, highs = -at.alpha * at.low, -at.room(C) * at.high
        guess = newton.direction(lows, highs)
        reached = at.moved(guess, _longest(at, guess, C)).gap(C)
        centre = (reached / gap) ** 3 * gap
        lows = lows + centre - guess.alpha * guess.low
        highs = highs + centre + guess.alpha * guess.high
        direction = newton.direction(lows, highs)
        at = at.moved(direction, min(1.0, 0.995 * _longest(at, direction, C)))
    return at.alpha, _bias(at.alpha, signs - signs * (V @ (V.T @ at.alpha)), signs, C)


def _bias(alpha: Values, level: Values, signs: Values, C: float) -> float:
    """The middle of all biases that are best: where no sample lies on the margin there are many, and
    libsvm takes this one. level: (n,), the bias that puts a sample on its margin.
    """
    inside, left = alpha > AT_BOUND * C, alpha < (1 - AT_BOUND) * C
    least = level[np.where(signs > 0, left, inside)]
    most = level[np.where(signs > 0, inside, left)]
    return float(least.max() + most.min()) / 2


class _Newton:
    """Newton's equations of the program at a point, factored once for several right sides."""

    def __init__(
        self, V: Values, signs: Values, at: _Point, room: Values, slope: Values, off: float
    ) -> None:
        self.signs, self.at, self.room, self.slope, self.off = signs, at, room, slope, off
        self.diagonal = at.low / at.alpha + at.high / room
        self.scaled = V / self.diagonal[:, None]
        self.small = cho_factor(np.eye(V.shape[1]) + V.T @ self.scaled)
        self.balance = self._inverse(signs)

    def _inverse(self, right: Values) -> Values:
        """(diagonal + V Vᵀ)⁻¹ right, by Woodbury's identity."""
        inner: Values = cho_solve(self.small, self.scaled.T @ right)
        return right / self.diagonal - self.scaled @ inner

    def direction(self, lows: Values, highs: Values) -> _Point:
        """The step that takes slope and balance to 0 and changes the products with the bounds so."""
        at = self.at
        first = self._inverse(lows / at.alpha - highs / self.room - self.slope)
        bias = float(self.signs @ first + self.off) / float(self.signs @ self.balance)
        alpha = first - bias * self.balance
        low = (lows - at.low * alpha) / at.alpha
        return _Point(alpha, low, (highs + at.high * alpha) / self.room, bias)


def _longest(at: _Point, by: _Point, C: float) -> float:
    """How far, up to 1, one may go with nothing below 0."""
    pairs = ((at.alpha, by.alpha), (at.room(C), -by.alpha), (at.low, by.low), (at.high, by.high))
    limits = (-(one[its < 0] / its[its < 0]) for one, its in pairs)
    return min(1.0, *(float(limit.min()) for limit in limits if len(limit)), 1.0)
