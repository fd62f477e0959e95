"""What the benchmark scripts promise beyond numbers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CPU, changed, digits, original, run_on_cpu, same_state, unlearned

from expunge.audits.observe import observe_test
from expunge.data.split import Split
from expunge.training.recipe import Recipe

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def unsir_runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("unsir_runs", BENCHMARKS / "unsir_runs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "unsir_runs", module)
    spec.loader.exec_module(module)
    return module


def test_trap_of_the_mnist_program_ratio_leaves_the_weights_bit_identical(unsir_runs: Any) -> None:
    """Its `ratio` looks like the share of a class that is forgotten; it decides what is measured."""
    data = digits()
    split = Split.classes(data, [0])
    settings = {"noise_batch": 8, "noise_steps": 3}
    start = original("mlp")
    made, measured = [], []
    for ratio in (0.1, 0.5, 1.0):
        model = unlearned(
            start, data, split, unsir_runs.make_method("unsir:mnist_mlp", settings), device="cpu"
        ).model
        before = original("mlp")
        before.load_state_dict(model.state_dict())
        measured.append(unsir_runs.kept_and_forgotten(model, data, [0], run_on_cpu(), ratio))
        assert same_state(model, before)
        made.append(model)
    assert same_state(made[0], made[1]) and same_state(made[0], made[2])
    assert changed(start, made[0])
    assert len({kept for kept, _ in measured}) == 1


def test_ratio_measures_a_share_of_the_forgotten_class(unsir_runs: Any) -> None:
    """By hand: accuracy on all test samples of the class, and on one drawn sample: 0 or 100."""
    data, model = digits(), original("mlp")
    seen = observe_test(model, data, run_on_cpu())
    labels, right = seen.labels.numpy(), seen.correct.numpy()
    for label in range(10):
        mine = right[labels == label]
        kept, gone = unsir_runs.kept_and_forgotten(model, data, [label], run_on_cpu())
        assert gone == pytest.approx(100 * mine.mean())
        assert kept == pytest.approx(100 * right[labels != label].mean())
        one = unsir_runs.kept_and_forgotten(model, data, [label], run_on_cpu(), 1 / len(mine))[1]
        assert one in (0.0, 100.0)


def test_unsir_runs_write_one_row_for_each_score(unsir_runs: Any) -> None:
    experiment = unsir_runs.Experiment(
        "digits:300",
        "mlp",
        Recipe(epochs=3, lr=0.05, batch_size=64),
        ("unsir:notebook",),
        counts=(1, 2),
        floor=False,
        also=("weight_distance",),
    )
    frame = unsir_runs.run_seed(experiment, 7, digits(), CPU)
    assert not frame.duplicated(["scenario", "method", "seed", "score"]).any()
    assert frame["scenario"].unique().tolist() == ["1 of 10 classes", "2 of 10 classes"]
    wide = frame.pivot(index=["scenario", "method"], columns="score", values="value")
    assert set(wide.index.get_level_values("method")) == {"original", "retrain", "unsir:notebook"}
    assert (wide.xs("retrain", level="method")["UA"] == 100).all()
    assert np.isfinite(wide.xs("unsir:notebook", level="method")).all().all()
    one, two = (unsir_runs.struck(experiment, count, 7, 10) for count in (1, 2))
    assert len(two) == 2 and set(one) < set(two)
