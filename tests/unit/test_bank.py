"""A bank of shadow models: halves, folder, and what an audit sees of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from expunge.api import audit, train, unlearn
from expunge.audits.beside import FurtherModels
from expunge.audits.log_odds import log_odds
from expunge.audits.shadows import Shadows
from expunge.data.load import load_data
from expunge.shadows.bank import open_bank
from expunge.shadows.build import build
from expunge.shadows.halves import learns
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe


@pytest.fixture(scope="module")
def original() -> Trained:
    return train(
        load_data("digits"), "mlp", recipe=Recipe(epochs=2, lr=0.1, batch_size=64), split=None
    )


def test_every_sample_is_left_out_by_exactly_half() -> None:
    ids = [f"s{n}" for n in range(101)]
    halves = np.stack([learns(ids, model) for model in range(8)])
    assert (halves.sum(axis=0) == 4).all()
    assert {51, 50} == set(halves.sum(axis=1).tolist())
    assert not np.array_equal(halves[0], halves[2])
    backwards = np.stack([learns(ids[::-1], model)[::-1] for model in range(8)])
    assert np.array_equal(halves, backwards), "a half does not depend on the order of the ids"


def test_a_bank_is_built_goes_on_and_serves_an_audit(original: Trained, tmp_path: Path) -> None:
    first = build(original, tmp_path / "bank", models=2)
    assert first.finished == [0, 1]
    before = first.logits_file(0).read_bytes()
    build(original, tmp_path / "bank", models=4)
    bank = open_bank(tmp_path / "bank")
    assert bank.finished == [0, 1, 2, 3]
    assert bank.logits_file(0).read_bytes() == before, "what is finished stays"
    shadows = bank.shadows
    assert shadows.learned.sum() == 2 * bank.learned
    assert shadows.never.sum() == len(bank.ids) - bank.learned
    made = unlearn(original, "random:0.1", "gradient_ascent")
    found = audit(made, also=["rmia"], beside=FurtherModels(shadows=shadows))["rmia"]
    assert 0 <= found.value <= 100
    assert set(found.per_sample) == set(made.split.forget)


def by_loop(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    found = []
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        rest = [np.exp(value) for c, value in enumerate(z) if c != y]
        found.append(z[y] - np.log(sum(rest)))
    return found


def test_log_odds_are_the_formula() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(20, 5)), generator.integers(0, 5, 20)
    np.testing.assert_allclose(log_odds(logits, labels), by_loop(logits, labels), rtol=1e-12)
    closed = np.array([[-np.inf, 0.0, 1.0], [0.0, -np.inf, -np.inf]])
    assert log_odds(closed, np.array([0, 0])).tolist() == [-100, 100]


def test_confidence_is_the_softmax() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(2, 6, 3)).astype(np.float32)
    labels = generator.integers(0, 3, 6)
    learned = np.zeros((2, 6), dtype=bool)
    shadows = Shadows(np.array(list("abcdef")), labels, logits, learned)
    p = np.exp(logits / 2.0)
    p /= p.sum(axis=2, keepdims=True)
    want = p[:, np.arange(6), labels]
    np.testing.assert_allclose(shadows.confidence(2.0), want, rtol=1e-5)
