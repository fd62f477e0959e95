"""Methods of a package outside this repository: short, made of public names, and they keep promises."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import digits, original, run_on_cpu, view_of
from seeded_helpers import global_randomness_stays  # noqa: F401
from torch import nn

import expunge
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.models.table import build_model
from expunge.testing import METHOD_CHECKS, METHOD_CHECKS_PER_MODEL, MethodCase, check_method
from expunge.training.fit import train_from
from expunge.training.recipe import Recipe

PACKAGE = Path(__file__).parents[1] / "third_party/forgetting_extras"
MODULES = sorted(set((PACKAGE / "forgetting_extras").glob("*.py")))
# name -> module:class, as an installed package would announce them
ENTRY_POINTS: dict[str, str] = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"][
    "entry-points"
]["expunge.methods"]
# Settings that make a method quick and let it really move.
QUICK: dict[str, dict[str, Any]] = {
    "saliency": {"epochs": 1, "batch_size": 64},
    "scrub_like": {"epochs": 2, "forget_epochs": 1, "batch_size": 64, "lr": 0.01},
    "random_teacher": {"batch_size": 64},
    "dampening": {"alpha": 1.5},
}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield


def kind(name: str) -> Any:
    module, _, attribute = ENTRY_POINTS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", QUICK)
def test_it_keeps_every_promise(name: str) -> None:
    check_method(kind(name), QUICK[name])


def test_every_method_of_the_package_is_announced_and_checked() -> None:
    assert set(ENTRY_POINTS) == set(QUICK)
    assert {kind(name).name for name in ENTRY_POINTS} == set(ENTRY_POINTS)
    assert {path.stem for path in MODULES} == {"__init__", *ENTRY_POINTS}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_method_takes_60_lines_and_public_names(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("expunge"):
            assert node.module == "expunge"
            assert {alias.name for alias in node.names} <= set(expunge.__all__)
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("expunge") for alias in node.names)


# --- that they do what their papers say, and not only what all promise


@functools.cache
def learned() -> nn.Module:
    """A model that knows its digits."""
    data = digits()
    view = view_of(data, Split.whole(data))
    recipe = Recipe(epochs=15, batch_size=64, lr=1e-2, optimizer="adam", schedule="constant")
    train_from(model := original("mlp"), view, run_on_cpu(), recipe)
    return model.eval()


def forgotten(name: str, **settings: Any) -> tuple[Any, Any, Any]:
    """The original, what a method makes of it, and the view, a twentieth of the digits to forget."""
    data = digits()
    view = view_of(data, Split.random(data, 0.05))
    before, after = learned(), copy.deepcopy(learned())
    run = run_on_cpu(constructor=lambda: build_model("mlp", (1, 8, 8), 10), label=name)
    kind(name)(**{**QUICK[name], **settings}).unlearn(after, view, run)
    return before, after, view


def mean_loss(model: Any, view: Any, part: Part) -> float:
    run = run_on_cpu()
    with torch.no_grad():
        losses = [run.task.losses(model, b) for b in view.batches(part, 64, shuffle=False)]
    return float(torch.cat(losses).mean())


def test_saliency_changes_no_more_than_its_share() -> None:
    before, after, _ = forgotten("saliency", share=0.2)
    pairs = list(zip(before.parameters(), after.parameters(), strict=True))
    moved = sum(int((one != other).sum()) for one, other in pairs)
    total = sum(one.numel() for one, _ in pairs)
    assert 0.1 * total < moved <= 0.2 * total + 1


@pytest.mark.parametrize("name", ["saliency", "scrub_like", "random_teacher"])
def test_the_forget_set_fares_worse_than_the_retain_set(name: str) -> None:
    strong = {
        "saliency": {"epochs": 5, "lr": 0.05},
        "scrub_like": {"epochs": 3, "forget_epochs": 3, "lr": 0.05, "forget_batch": 8},
        "random_teacher": {"epochs": 10, "lr": 1e-3, "share": 1.0},
    }[name]
    before, after, view = forgotten(name, **strong)
    rise = {
        part: mean_loss(after, view, part) - mean_loss(before, view, part)
        for part in (Part.FORGET, Part.RETAIN)
    }
    assert rise[Part.FORGET] > 2 * rise[Part.RETAIN]
    assert rise[Part.FORGET] > 0.1


def test_scrub_without_passes_over_the_forget_set_reads_none_of_it() -> None:
    _, _, view = forgotten("scrub_like", forget_epochs=0)
    assert view.reads[Part.FORGET] == 0
    assert view.reads[Part.RETAIN] == 2 * view.size(Part.RETAIN)


def test_dampening_is_its_formula_and_no_weight_grows() -> None:
    before, after, view = forgotten("dampening")
    model, run = copy.deepcopy(learned()), run_on_cpu()
    squares = {
        part: [torch.zeros_like(p) for p in model.parameters()]
        for part in (Part.FORGET, Part.RETAIN)
    }
    for part, sums in squares.items():
        for batch in view.batches(part, 1, shuffle=False, augment=False):
            for one in range(len(batch)):
                sample = expunge.Batch(
                    batch.ids[one : one + 1],
                    batch.inputs[one : one + 1],
                    batch.labels[one : one + 1],
                    part,
                )
                loss = run.task.losses(model, sample).sum()
                for total, value in zip(
                    sums, torch.autograd.grad(loss, list(model.parameters())), strict=True
                ):
                    total += value.square()
    counts = {part: view.size(part) for part in squares}
    for index, (start, end) in enumerate(zip(before.parameters(), after.parameters(), strict=True)):
        forget = squares[Part.FORGET][index] / counts[Part.FORGET]
        both = sum(squares[part][index] for part in squares) / sum(counts.values())
        factor = torch.where(forget > 1.5 * both, (both / forget).clamp(max=1), 1.0)
        torch.testing.assert_close(end, start * factor, rtol=1e-3, atol=1e-6)
        assert (end.abs() <= start.abs()).all()


def test_a_broken_third_party_is_told() -> None:
    """The parameters are the suite's own: a check by its name, on a case of one's own."""
    case = MethodCase(kind("dampening"), {"alpha": 1e9})
    with pytest.raises(AssertionError, match="nothing was unlearned"):
        METHOD_CHECKS_PER_MODEL["gives_finite_weights_of_the_same_make"](case)
    METHOD_CHECKS["explains_itself"](case)
