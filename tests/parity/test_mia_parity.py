"""The attack's features against their formulas as loops, and the attack against plain calls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.svm import SVC

from expunge.audits import svm
from expunge.audits.mia import (
    ATTACKED,
    NO_REASON,
    SMALLEST_PROBABILITY,
    mia_efficacy,
    modified_entropy,
)
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.audits.svm import fit_rbf
from expunge.scores.table import FEATURES

LOGITS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
    elements=st.floats(-60, 60),
)


def log(value: float) -> float:
    return math.log(max(value, SMALLEST_PROBABILITY))


def loop(feature: str, row: list[float], label: int) -> list[float]:
    """One sample's feature, by the letter of its definition."""
    if feature == "confidence":
        return [row[label]]
    if feature == "correctness":
        return [float(row.index(max(row)) == label)]
    if feature == "entropy":
        return [-sum(p * log(p) for p in row)]
    if feature == "modified_entropy":
        value = -(1 - row[label]) * log(row[label])
        for c, p in enumerate(row):
            if c != label:
                value -= p * log(1 - p)
        return [value]
    return row


@pytest.mark.parametrize("feature", FEATURES)
@given(logits=LOGITS, seed=st.integers(0, 2**32 - 1))
def test_features_equal_their_loops(feature: str, logits: np.ndarray, seed: int) -> None:
    n, classes = logits.shape
    labels = np.random.default_rng(seed).integers(classes, size=n)
    probabilities = torch.softmax(torch.from_numpy(logits), dim=1)
    fast = ATTACKED[feature](probabilities, torch.from_numpy(labels)).reshape(n, -1).tolist()
    slow = [
        loop(feature, row, label)
        for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
    ]
    for ours, theirs in zip(fast, slow, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("feature", FEATURES)
def test_features_are_finite_for_certain_answers(feature: str) -> None:
    certain = torch.eye(3, dtype=torch.float64)
    for labels in (torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])):
        assert ATTACKED[feature](certain, labels).isfinite().all()


def test_trap_modified_entropy_depends_on_the_label() -> None:
    """A much-copied implementation overwrites a column of every row: its score ignores labels."""
    probabilities = torch.tensor([[0.7, 0.2, 0.1]] * 3, dtype=torch.float64)
    values = modified_entropy(probabilities, torch.tensor([0, 1, 2])).tolist()
    by_hand = [
        -0.3 * math.log(0.7) - 0.2 * math.log(0.8) - 0.1 * math.log(0.9),
        -0.8 * math.log(0.2) - 0.7 * math.log(0.3) - 0.1 * math.log(0.9),
        -0.9 * math.log(0.1) - 0.7 * math.log(0.3) - 0.2 * math.log(0.8),
    ]
    assert values == pytest.approx(by_hand)
    assert values[0] < values[1] < values[2]
    # A row's value must not depend on the labels of the other rows either.
    alone = [
        modified_entropy(probabilities[:1], torch.tensor([label])).item() for label in range(3)
    ]
    assert alone == values


def test_modified_entropy_orders_what_entropy_cannot() -> None:
    sure = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    right, wrong = modified_entropy(sure, torch.tensor([0, 1])).tolist()
    assert right == 0
    assert wrong == pytest.approx(-2 * math.log(SMALLEST_PROBABILITY))


def random_part(name: str, n: int, scale: float, seed: int) -> PartOutputs:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (n,), generator=generator)
    logits = torch.randn(n, 5, generator=generator)
    logits[torch.arange(n), labels] += scale
    return PartOutputs(logits, labels, tuple(f"{name}{i:03d}" for i in range(n)))


def test_attack_equals_the_papers_recipe_when_all_samples_are_drawn() -> None:
    """With as many retain as test samples nothing is left to chance."""
    forget, retain, test = (
        random_part(name, n, scale, seed)
        for seed, (name, n, scale) in enumerate([("f", 70, 3.0), ("r", 120, 4.0), ("t", 120, 2.0)])
    )
    attack = SVC(C=3, gamma="auto", kernel="rbf").fit(
        torch.cat([retain.true_class_confidence, test.true_class_confidence])[:, None].numpy(),
        [1] * 120 + [0] * 120,
    )
    called = attack.predict(forget.true_class_confidence[:, None].numpy())
    expected = 100 * (1 - called.mean())
    assert 0 < expected < 100
    assert mia_efficacy(Outputs(forget, retain, test)).value == pytest.approx(expected)


def signs(count: int) -> NDArray[np.float64]:
    return np.repeat([1.0, -1.0], count)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_the_machine_decides_as_libsvm_does_when_pressed(feature: str, scale: float) -> None:
    """As the public recipe's solver does at a thousandth of its usual tolerance."""
    forget, retain, test = (
        random_part(name, n, own * scale, seed)
        for seed, (name, n, own) in enumerate([("f", 90, 0.8), ("r", 150, 1.0), ("t", 150, 0.3)])
    )
    inputs, asked = (
        np.concatenate([one.each(ATTACKED[feature]).reshape(one.n, -1).numpy() for one in parts])
        for parts in ((retain, test), (forget,))
    )
    found = fit_rbf(inputs, signs(150), C=3, gamma=1 / inputs.shape[1])(asked)
    slow = SVC(C=3, gamma="auto", kernel="rbf", tol=1e-6).fit(inputs, signs(150))
    expected = slow.decision_function(asked)
    assert np.abs(found - expected).max() < 1e-3
    sure = np.abs(expected) > 1e-3
    assert ((found > 0) == (expected > 0))[sure].all() and sure.mean() > 0.9


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_of_many_best_biases_libsvms_is_taken(seed: int, count: int, apart: float) -> None:
    """Samples that nothing tells apart all lie inside the margin, and any bias of a range is best."""
    drawn = np.random.default_rng(seed)
    inputs = np.concatenate([drawn.random((count, 1)), apart + drawn.random((count, 1))])
    found = fit_rbf(inputs, signs(count), C=3, gamma=1)(inputs)
    slow = SVC(C=3, gamma=1, kernel="rbf", tol=1e-8).fit(inputs, signs(count))
    weights = np.abs(slow.dual_coef_)
    # one that rounding alone keeps off its bound counts as free there, and decides the bias
    assume(not ((weights != 3) & (np.minimum(weights, 3 - weights) < 1e-6)).any())
    assert np.abs(found - slow.decision_function(inputs)).max() < 5e-3


def test_a_kernel_of_too_high_a_rank_goes_to_the_slow_solver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = np.random.default_rng(0).normal(size=(60, 8))
    quick = fit_rbf(inputs, signs(30), C=3, gamma=0.5)(inputs)
    monkeypatch.setattr(svm, "FEW", 20)
    assert svm._factor(inputs, 0.5) is None
    slow = fit_rbf(inputs, signs(30), C=3, gamma=0.5)(inputs)
    assert np.abs(quick - slow).max() < 5e-3


def test_an_attack_that_learned_nothing_calls_everybody_a_member() -> None:
    """Equal samples on both sides: no decision has a sign but by rounding, on any processor."""
    inputs = np.tile(np.linspace(0, 1, 10)[:, None], (2, 1))
    assert np.abs(fit_rbf(inputs, signs(10), C=3, gamma=1)(inputs)).max() < NO_REASON
    same = random_part("x", 40, 1.0, 0)
    assert mia_efficacy(Outputs(same, same, same)).value == 0
