"""What influence unlearning says when its solver does not get there."""

from __future__ import annotations

from helpers import digits, original, unlearned

from expunge.data.split import Split
from expunge.methods.influence import Influence


def forget(**settings: float | int | str) -> tuple[tuple[str, ...], dict[str, object]]:
    data = digits()
    method = Influence(samples=40, **settings)  # type: ignore[arg-type]
    record = unlearned(original("mlp"), data, Split.random(data, 0.2), method, device="cpu").record
    return record.warnings, record.log


def test_a_loose_solution_is_a_warning() -> None:
    warnings, log = forget(solver="cg", damping=0.01, iterations=2)
    assert float(str(log["residual"])) > 1e-2
    (told,) = warnings
    assert "left a residual of" in told and "raise iterations, or damping" in told
    assert "warnings" not in log


def test_a_good_solution_says_nothing() -> None:
    warnings, log = forget(solver="cg", damping=1.0)
    assert not warnings and float(str(log["residual"])) < 1e-5
