"""Methods of a package outside this repository: short, made of public names, and they keep promises."""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import json
import random
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import (
    digits,
    global_randomness_stays,  # noqa: F401
    original,
    run_on_cpu,
    view_of,
)
from pydantic import Field, model_serializer
from torch import Tensor, nn

import expunge
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import AccessError, DivergenceError
from expunge.methods.base import Method, SgdMethod
from expunge.models.mask import Mask
from expunge.models.table import build_model
from expunge.pruning.base import Pruner
from expunge.testing import (
    METHOD_CHECKS,
    METHOD_CHECKS_PER_MODEL,
    MethodCase,
    PromiseError,
    PrunerCase,
    check_method,
    check_pruner,
)
from expunge.testing.pruners import PRUNER_CHECKS, PRUNER_CHECKS_PER_MODEL
from expunge.training.fit import fit, train_from
from expunge.training.recipe import Recipe
from expunge.training.run import Run

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


@pytest.mark.thorough
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
    run = run_on_cpu(
        constructor=lambda: build_model("mlp", (1, 8, 8), 10, allow_code=True), label=name
    )
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


# --- the contract suites find what is broken: a faulty method for each promise, and what is said


CHECKS = {**METHOD_CHECKS, **METHOD_CHECKS_PER_MODEL}


class Sound(SgdMethod):
    """Fine-tuning, in few steps."""

    name: ClassVar[str] = "sound"
    paper: ClassVar[str] = "none"
    reads: ClassVar[Part] = Part.RETAIN

    epochs: int = Field(default=1, description="passes")
    lr: float = Field(default=0.05, description="learning rate")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        fit(
            model,
            lambda epoch: data.batches(Part.RETAIN, self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
        )
        return model


class Nameless(Sound):
    """A name that nobody can type."""

    name: ClassVar[str] = "Name Less"


class Undescribed(Sound):
    """A setting that says nothing of itself."""

    mystery: int = 3


class Required(Sound):
    """A setting without a default."""

    mystery: int = Field(description="something")


class Forgetful(Sound):
    """A setting that is lost on the way to JSON."""

    scale: float = Field(default=1.0, description="lost")

    @model_serializer
    def _lossy(self) -> dict[str, Any]:
        return {"epochs": self.epochs + 1}


class Nosy(Sound):
    """Reads the data behind the view's back."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        samples = data.samples
        rows = np.array([samples.position[key] for key in data.split.forget])
        for inputs in samples.store.stream([rows], data.device):
            with torch.no_grad():
                next(iter(model.parameters())).add_(float(inputs.float().mean()))
        return model


class Undeclared(Sound):
    """Reads what it does not declare."""

    reads: ClassVar[Part] = Part.FORGET


class Idle(Sound):
    """Does nothing."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        list(data.batches(Part.RETAIN, 64))
        return model


class Wild(Sound):
    """Draws from torch's own stream."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        super().unlearn(model, data, run)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter) * (parameter != 0))
        return model


class Rolling(Sound):
    """Draws from Python's own stream."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        random.random()
        return super().unlearn(model, data, run)


class Seedless(Sound):
    """Says that seeds do not matter, and they do."""

    seeded: ClassVar[bool] = False


class Stubborn(Sound):
    """Says that seeds matter, and draws nothing."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        list(data.batches(Part.RETAIN, 64))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9 if parameter.requires_grad else 1.0)
        return model


class Thawing(Sound):
    """Trains what came frozen."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        return super().unlearn(model.requires_grad_(True), data, run)


class Wrapping(Sound):
    """Returns something else."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        return nn.Sequential(super().unlearn(model, data, run))


class Spoiling(Sound):
    """Leaves weights that are no numbers."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        super().unlearn(model, data, run)
        with torch.no_grad():
            next(iter(model.parameters())).view(-1)[0] = float("nan")
        return model


class Needy(Sound):
    """Gives up on a request of one sample."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        super().unlearn(model, data, run)
        if data.size(Part.FORGET) < 2:
            with torch.no_grad():
                next(iter(model.parameters())).fill_(float("inf"))
        return model


class Silent(Sound):
    """Catches its divergence and returns what is left."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        try:
            return super().unlearn(model, data, run)
        except DivergenceError:
            return model


class Vague(Sound):
    """Diverges without a word of advice."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        try:
            return super().unlearn(model, data, run)
        except DivergenceError:
            raise DivergenceError("vague went wrong") from None


class Picky(Sound):
    """Weights that are not numbers where a whole class goes."""

    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET_LABELS

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        model = super().unlearn(model, data, run)
        if len(data.forget_labels().unique()) == 1:
            next(model.parameters()).data.fill_(torch.nan)
        return model


class Coarse(Sound):
    """Weights that are not numbers where training is in half precision."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        model = super().unlearn(model, data, run)
        if run.recipe is not None and run.recipe.precision == "bfloat16":
            next(model.parameters()).data.fill_(torch.nan)
        return model


FAULTS: Mapping[str, tuple[type[Method], str]] = {
    "name": (Nameless, "explains_itself"),
    "description": (Undescribed, "explains_itself"),
    "default": (Required, "explains_itself"),
    "json": (Forgetful, "settings_survive_json"),
    "past the view": (Nosy, "never_reads_what_is_struck"),
    "uncounted": (Nosy, "counts_every_sample"),
    "reads nothing": (Nosy, "reads_what_it_declares"),
    "undeclared": (Undeclared, "reads_what_it_declares"),
    "idle": (Idle, "gives_finite_weights_of_the_same_make"),
    "wrapping": (Wrapping, "gives_finite_weights_of_the_same_make"),
    "not finite": (Spoiling, "gives_finite_weights_of_the_same_make"),
    "torch's stream": (Wild, "repeats_itself"),
    "python's stream": (Rolling, "repeats_itself"),
    "says unseeded": (Seedless, "repeats_itself"),
    "says seeded": (Stubborn, "repeats_itself"),
    "thawing": (Thawing, "keeps_frozen_parameters"),
    "one sample": (Needy, "forgets_a_single_sample"),
    "whole class": (Picky, "forgets_a_whole_class"),
    "half precision": (Coarse, "works_in_half_precision"),
    "silent": (Silent, "says_when_it_diverges"),
    "vague": (Vague, "says_when_it_diverges"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    kind, check = FAULTS[fault]
    # weights that are not finite are refused by `unlearn` itself, before any promise is looked at
    found = {
        "undeclared": AccessError,
        "not finite": DivergenceError,
        "one sample": DivergenceError,
        "whole class": DivergenceError,
        "half precision": DivergenceError,
    }
    with torch.random.fork_rng(), pytest.raises(found.get(fault, PromiseError)):
        CHECKS[check](MethodCase(kind))


def test_a_sound_method_passes() -> None:
    check_method(Sound, {"batch_size": 64})


class Masking(Method):
    """Weights set at once, masked ones too, which `unlearn` puts back to 0."""

    name: ClassVar[str] = "masking"
    paper: ClassVar[str] = "none"
    reads: ClassVar[Part] = Part.RETAIN

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        list(data.batches(Part.RETAIN, 64))
        generator = torch.Generator().manual_seed(run.seed_for("noise"))
        with torch.no_grad():
            for parameter in model.parameters():
                noise: Tensor = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.01 * noise * parameter.requires_grad)
        return model


def test_a_method_that_cannot_diverge_passes_too() -> None:
    check_method(Masking, architectures=("mlp",))


def test_all_that_is_broken_is_told_at_once() -> None:
    with pytest.raises(AssertionError) as caught:
        check_method(Seedless, architectures=("mlp", "cnn"))
    lines = str(caught.value).splitlines()
    count = len(METHOD_CHECKS) + 2 * len(METHOD_CHECKS_PER_MODEL)
    assert lines[0] == f"Seedless breaks 2 of {count} promises:"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "- repeats_itself [mlp]",
        "- repeats_itself [cnn]",
    ]
    assert "`seeded` is False, and another seed gives other weights" in lines[1]


def test_a_mistake_keeps_its_traceback_and_says_where() -> None:
    class Typo(Sound):
        """Has a bug."""

        def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
            return model.no_such_thing  # type: ignore[return-value]

    with pytest.raises(AttributeError, match="no_such_thing") as caught:
        check_method(Typo, architectures=("mlp",))
    assert caught.value.__notes__ == ["while Typo was checked: reads_what_it_declares"]


class Halves(Pruner):
    """Cuts half of everything, whatever is asked."""

    name: ClassVar[str] = "halves"
    paper: ClassVar[str] = "none"
    trained: ClassVar[bool] = False

    def mask(
        self,
        model: nn.Module,
        data: DataView,
        run: Run,
        *,
        sparsity: float,
        within: Mask | None = None,
    ) -> Mask:
        return {
            f"{name}.weight": torch.arange(module.weight.numel()).view_as(module.weight) % 2 == 0
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        }


@pytest.mark.parametrize(
    "check",
    [
        "cuts_the_number_that_was_asked_for",
        "cuts_within_a_mask",
        "refuses_to_grow_a_mask",
        "makes_a_sparse_original",
    ],
)
def test_a_faulty_pruner_is_found(check: str) -> None:
    with pytest.raises(PromiseError):
        {**PRUNER_CHECKS, **PRUNER_CHECKS_PER_MODEL}[check](PrunerCase(Halves))
    with pytest.raises(PromiseError, match=rf"(?s)^Halves breaks 4 of 9 promises:.*- {check}"):
        check_pruner(Halves, architectures=("mlp",))


def test_every_check_is_found_to_find_something() -> None:
    """A check that no faulty method fails might check nothing."""
    spared = {
        "leaves_the_callers_model_alone",  # a method gets a copy, and cannot reach the caller's
        "keeps_masked_weights_at_zero",  # `unlearn` holds the mask once more
        "forgets_a_single_sample_without_variance",  # as forgets_a_single_sample
        "refuses_what_it_cannot_forget",  # `unlearn` refuses for it
    }
    assert set(CHECKS) - spared == {check for _, check in FAULTS.values()}
    assert json.loads(Sound().model_dump_json())["epochs"] == 1
