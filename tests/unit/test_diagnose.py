from __future__ import annotations

import copy
import functools
import io
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import CPU, run_on_cpu, same_state, toy, unlearned, view_of
from PIL import Image
from rich.console import Console
from sparse_helpers import made_sparse
from torch import Tensor, nn

from expunge.api import train
from expunge.cli.show import theory_table
from expunge.data.batch import Batch
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.view import DataView
from expunge.errors import ConfigError, DivergenceError, SplitError
from expunge.methods import GradientAscent, Method
from expunge.methods.retrain import Retrain
from expunge.models.mask import Mask
from expunge.per_sample.curvature import masked
from expunge.place import Place
from expunge.pruning.omp import OneShot
from expunge.pruning.original import Pruned, prune
from expunge.report.theory import (
    sparsity_theory_figure,
    theory_grid,
    theory_notes,
    trend,
    write_theory,
)
from expunge.theory.sparsity import (
    COLUMNS,
    diagnose_sparsity,
    distance,
    factor_product,
    masked_eigenvalue,
    parameters,
)
from expunge.training.fit import train_from
from expunge.training.recipe import Recipe
from expunge.training.run import Run

RECIPE = Recipe(epochs=3, lr=0.1, batch_size=16, momentum=0.5, precision="float32")
SPARSITIES = (0.0, 0.5, 0.9)


@functools.cache
def clusters() -> Data:
    """Three noisy clusters in four dimensions, 90 samples."""
    generator = torch.Generator().manual_seed(0)
    labels = [n % 3 for n in range(90)]
    centres = torch.randn(3, 4, generator=generator)
    return toy(labels, inputs=centres[labels] + 0.7 * torch.randn(90, 4, generator=generator))


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def request() -> Split:
    return Split.random(clusters(), 0.1)


class Nothing(Method):
    """Returns the model as it is."""

    name: ClassVar[str] = "nothing"
    paper: ClassVar[str] = ""
    reads: ClassVar[Part] = Part.NONE

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        return model


class Explodes(Nothing):
    """Diverges on sparse models."""

    name: ClassVar[str] = "explodes"

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        if run.mask:
            raise DivergenceError("explodes diverged")
        return model


def diagnose(**changes: Any) -> pd.DataFrame:
    settings: dict[str, Any] = {
        "sparsities": SPARSITIES,
        "method": Nothing(),
        "recipe": RECIPE,
        "place": CPU,
        **changes,
    }
    data = load_data(clusters(), task=settings.pop("task", None))
    return diagnose_sparsity(
        data, settings.pop("model", small), request(), **settings, allow_code=True
    )


@functools.cache
def frame() -> pd.DataFrame:
    return diagnose(method=GradientAscent(lr=0.02))


def sparse_original(sparsity: float, recipe: Recipe) -> Any:
    """What the check should train, by the library's own calls."""
    split = Split.whole(clusters())
    common: dict[str, Any] = {"recipe": recipe, "split": split}
    dense = train(clusters(), small, place=CPU, **common)
    if not sparsity:
        return dense
    start = run_on_cpu(names=("original", 0), constructor=small).fresh().state_dict()
    return made_sparse(
        clusters(),
        small,
        OneShot(sparsity=sparsity),
        trained=dense.model,
        rewind=start,
        rewind_epoch=0,
        **common,
    )


def slow_eigenvalue(model: nn.Module, mask: Mask | None) -> float:
    """By the whole Hessian, in float64."""
    data, split = clusters(), Split.whole(clusters())
    (batch,) = view_of(data, split).batches(Part.RETAIN, 1000, shuffle=False)
    exact = copy.deepcopy(model).double()
    theta = parameters(exact)
    flat = torch.cat([value.flatten() for value in theta.values()])
    keep = masked({name: torch.ones_like(value) for name, value in theta.items()}, mask)
    kept = torch.cat([value.flatten() for value in keep.values()]).numpy()

    def loss(vector: Tensor) -> Tensor:
        pieces = torch.split(vector, [value.numel() for value in theta.values()])
        named = {n: p.view_as(v) for (n, v), p in zip(theta.items(), pieces, strict=True)}
        logits = torch.func.functional_call(exact, named, batch.inputs.double())
        return nn.functional.cross_entropy(logits, batch.labels)

    hessian = torch.autograd.functional.hessian(loss, flat).numpy()
    values = np.linalg.eigvalsh(kept[:, None] * hessian * kept[None, :])
    return float(values[np.abs(values).argmax()])


@pytest.mark.parametrize("place", range(len(SPARSITIES)))
def test_the_factors_are_those_of_slow_code(place: int) -> None:
    row = frame().iloc[place]
    recipe = RECIPE.but(schedule="constant", augmentation="none")
    original = sparse_original(SPARSITIES[place], recipe)
    run = run_on_cpu(names=("original", 0), constructor=small)
    start = parameters(run.fresh())
    mask = original.mask or {}
    change = torch.cat(
        [
            ((p.double() - start[name].double()) * mask.get(name, torch.ones_like(p))).flatten()
            for name, p in parameters(original.model).items()
        ]
    )
    assert len(Split.whole(clusters()).retain) == 81
    steps = 3 * 5  # a last batch of one sample joins the one before it
    assert row["steps"] == steps
    assert row["weight_change_l2"] == pytest.approx(float(change.norm()), rel=1e-6)
    assert row["top_eigenvalue"] == pytest.approx(slow_eigenvalue(original.model, mask), rel=0.01)
    expected = 0.1**2 * steps * row["weight_change_l2"] * abs(row["top_eigenvalue"])
    assert row["factor_product"] == pytest.approx(expected, rel=1e-12)
    retrained = unlearned(
        original.model,
        clusters(),
        request(),
        Retrain(paired=True),
        recipe=recipe,
        fresh=small,
        mask=original.mask,
        names=("original", 0),
        device="cpu",
    )
    target = parameters(retrained.model)
    apart = distance(parameters(original.model), target)
    assert row["untouched_distance_l2"] == apart > 0
    again = run.fresh()
    view = view_of(clusters(), Split.whole(clusters()), names=("original", 0), cut="shifted")
    train_from(again, view, replace(run, mask=original.mask), recipe)
    floor = distance(parameters(original.model), parameters(again))
    assert row["floor_distance_l2"] == pytest.approx(floor, rel=1e-6)
    assert floor > 0
    share = 100 * row["distance_l2"] / distance(target)
    assert row["distance_percent_of_retrained"] == pytest.approx(share, rel=1e-12)


def test_an_eigenvalue_of_either_sign_counts_and_cut_weights_do_not() -> None:
    model = small()
    mask = {"0.weight": torch.arange(32).view(8, 4) % 3 == 0}
    batches = view_of(clusters(), Split.whole(clusters())).batches(Part.RETAIN, 32, shuffle=False)

    class Reversed(Classification):
        def losses(self, model: nn.Module, batch: Batch) -> Tensor:
            return -super().losses(model, batch)

    plain = masked_eigenvalue(model, batches, run_on_cpu(), mask)
    assert plain == pytest.approx(slow_eigenvalue(model, mask), rel=0.01)
    assert plain != pytest.approx(slow_eigenvalue(model, None), rel=0.01)
    reversed_ = masked_eigenvalue(model, batches, run_on_cpu(task=Reversed()), mask)
    assert reversed_ == pytest.approx(-plain, rel=0.01)
    assert factor_product(0.1, 10, 2.0, reversed_) == pytest.approx(0.2 * abs(plain), rel=0.01)


def test_a_method_that_does_nothing_leaves_the_distance_of_the_original() -> None:
    found = diagnose(sparsities=(0.0, 0.75))
    assert (found["distance_l2"] == found["untouched_distance_l2"]).all()
    assert (found["moved_by_method_l2"] == 0).all()
    assert (found["ua_forgot_percent"] == found["ua_original_percent"]).all()
    assert (found["ta_forgot_percent"] == found["ta_original_percent"]).all()


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_retraining_without_what_was_never_learned_is_the_original(sparsity: float) -> None:
    """The pairing itself: initial weights, order and mask are the same, so nothing is left."""
    whole = Split.whole(clusters())
    learned = Split(whole.retain[1:], (), whole.validation, (whole.retain[0],))
    recipe = RECIPE.but(augmentation="none")
    original = made_sparse(
        clusters(),
        small,
        OneShot(rewind_epoch=0) if sparsity else "random",
        recipe=recipe,
        split=learned,
        device="cpu",
    )
    unseen = Split(learned.retain, whole.retain[:1], learned.validation)
    retrained = unlearned(
        original.model,
        clusters(),
        unseen,
        "retrain",
        recipe=recipe,
        fresh=small,
        mask=original.mask,
        names=("original", 0),
        device="cpu",
    )
    assert same_state(original.model, retrained.model)


def test_initial_weights_and_order_are_those_of_the_original() -> None:
    drawn: list[dict[str, Tensor]] = []

    def recorded() -> nn.Module:
        model = small()
        drawn.append({name: value.clone() for name, value in model.state_dict().items()})
        return model

    read: list[str] = []

    class Recording(Classification):
        def losses(self, model: nn.Module, batch: Batch) -> Tensor:
            if model.training and batch.part is Part.RETAIN:
                read.extend(str(name) for name in batch.ids)
            return super().losses(model, batch)

    diagnose(model=recorded, sparsities=(0.0, 0.5), task=Recording())
    assert len(drawn) >= 4
    for other in drawn[1:]:
        assert all(torch.equal(value, other[name]) for name, value in drawn[0].items())
    split = request()
    kept, gone = len(split.retain), len(split.forget)
    whole = 3 * (kept + gone)
    lengths = [whole, 3 * kept, whole] * 2  # original, retrained and floor at both sparsities
    assert len(read) == sum(lengths)
    ends = [0, *itertools.accumulate(lengths)]
    dense, retrained, floor, sparse, again, _ = (read[a:b] for a, b in itertools.pairwise(ends))
    assert retrained == [name for name in dense if name not in split.forget]
    assert sparse == floor == dense
    assert again == retrained


@pytest.mark.parametrize("pruner", ["omp", "random"])
def test_masks_are_nested_and_of_the_exact_sparsity(
    pruner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Pruned] = []

    def kept(*arguments: Any, **settings: Any) -> Pruned:
        made.append(prune(*arguments, **settings))
        return made[-1]

    monkeypatch.setattr("expunge.theory.sparsity.prune", kept)
    found = diagnose(pruner=pruner, sparsities=(0.9, 0.0, 0.5, 0.75))
    total = 4 * 8 + 8 * 3
    assert found["sparsity_percent"].tolist() == [0, 50, 75, 90]
    assert found["kept_weights"].tolist() == [round((1 - s) * total) for s in (0, 0.5, 0.75, 0.9)]
    masks = [result.mask or {} for result in made]
    for wide, narrow in itertools.pairwise(masks):
        assert all(not (keep & ~wide[name]).any() for name, keep in narrow.items())
    for result in made:
        assert result.record.log["first_epoch"] == 0
        for name, keep in (result.mask or {}).items():
            assert not parameters(result.model)[name][~keep].any()


def test_the_frame() -> None:
    found = frame()
    assert tuple(found.columns) == COLUMNS
    assert found["factor_product_relative"].iloc[0] == found["distance_relative"].iloc[0] == 1
    relative = found["distance_l2"] / found["distance_l2"].iloc[0]
    assert found["distance_relative"].tolist() == relative.tolist()
    numbers = found.drop(columns=["pruner", "method", "error"]).astype(float)
    assert np.isfinite(numbers.to_numpy()).all()
    assert (found["moved_by_method_l2"] > 0).all()
    assert set(found["error"]) == {""}
    again = diagnose(method=GradientAscent(lr=0.02))
    pd.testing.assert_frame_equal(found.drop(columns="seconds"), again.drop(columns="seconds"))


def test_the_rate_is_constant_unless_the_recipe_is_to_be_kept() -> None:
    stepped = RECIPE.but(schedule="step", milestones=(1,))
    constant, kept = (
        diagnose(sparsities=(0.0,), recipe=stepped, constant_rate=flag) for flag in (True, False)
    )
    usual = frame()["weight_change_l2"].iloc[0]
    assert constant["weight_change_l2"].iloc[0] == usual
    assert kept["weight_change_l2"].iloc[0] < usual


def test_a_sparsity_that_diverges_is_recorded_and_the_rest_stays() -> None:
    found = diagnose(method=Explodes())
    assert found["error"].tolist() == ["", "explodes diverged", "explodes diverged"]
    assert found["distance_l2"].notna().tolist() == [True, False, False]
    assert found["factor_product"].notna().all()
    assert math.isnan(trend(found).rho)
    assert [texts[0] for texts in theory_grid(found).texts] == [
        "0",
        "50 (diverged)",
        "90 (diverged)",
    ]
    assert any("At sparsity 90 %: explodes diverged." in line for line in theory_notes(found))
    assert words(sparsity_theory_figure(found)).count("diverged") == 2


def test_a_dense_training_that_diverges_ends_the_check() -> None:
    with pytest.raises(DivergenceError, match="diverged"):
        diagnose(recipe=RECIPE.but(lr=1e6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsities": (0.5, 0.9)}, "give 0 among"),
        ({"sparsities": ()}, "give 0 among"),
        ({"sparsities": (0, 95)}, "no share"),
        ({"sparsities": (0, math.nan)}, "no share"),
        ({"recipe": RECIPE.but(optimizer="adam")}, "SGD"),
        ({"hessian_samples": 0}, "1 or more"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        diagnose(**changes)


def test_nothing_to_forget() -> None:
    with pytest.raises(SplitError, match="nothing to forget"):
        diagnose_sparsity(clusters(), small, Split.whole(clusters()), place=CPU, allow_code=True)


def test_a_model_that_cannot_be_paired_is_refused() -> None:
    numbers = itertools.count()

    def drifting() -> nn.Module:
        model = small()
        nn.init.constant_(model[2].bias, float(next(numbers)))  # type: ignore[index, arg-type]
        return model

    with pytest.raises(ConfigError, match="other weights from the same seed"):
        diagnose(model=drifting)


def test_progress_reaches_its_end() -> None:
    class Counting:
        def __init__(self) -> None:
            self.work_steps: dict[str, int] = {}
            self.done: dict[str, int] = {}

        def work(self, label: str, steps: int = 1, done: int = 0, unit: str = "steps") -> Any:
            self.work_steps[label] = steps
            return Bar(self, label)

    class Bar:
        def __init__(self, owner: Counting, label: str) -> None:
            self.owner, self.label = owner, label

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def advance(self, note: str = "") -> None:
            self.owner.done[self.label] = self.owner.done.get(self.label, 0) + 1

        def note(self, text: str) -> None:
            return None

    for method in (Nothing(), Explodes()):
        counting = Counting()
        diagnose(method=method, place=Place(device="cpu", progress=counting))
        assert counting.work_steps["sparsity and theory"] == 15
        assert counting.done["sparsity and theory"] == 15


def made_up(products: list[float], distances: list[float]) -> pd.DataFrame:
    found = pd.concat([frame().iloc[:1]] * len(products), ignore_index=True)
    return found.assign(
        sparsity_percent=range(len(products)),
        factor_product=products,
        distance_l2=distances,
        factor_product_relative=np.array(products) / products[0],
        distance_relative=np.array(distances) / distances[0],
    )


def test_the_trend_is_spearmans() -> None:
    up = trend(made_up([1, 2, 3, 4, 5, 6], [1, 20, 21, 22, 23, 24]))
    assert up.rho == pytest.approx(1)
    assert trend(made_up([1, 2, 3, 4], [4, 3, 2, 1])).rho == pytest.approx(-1)
    # d = (0, 1, 1, 0): 1 - 6 * 2 / (4 * 15)
    assert trend(made_up([1, 2, 3, 4], [1, 3, 2, 4])).rho == pytest.approx(0.8)
    assert trend(made_up([1, 2, 3, 4], [1, 3, math.nan, 4])).n == 3
    for useless in (made_up([1, 2], [1, 2]), made_up([1, 2, 3], [1, 1, 1])):
        assert math.isnan(trend(useless).rho)
        assert "no rank correlation" in theory_notes(useless)[0]
    long = trend(made_up(list(range(1, 11)), [*range(1, 9), 10, 9]))
    assert 0.9 < long.rho < 1
    told = "\n".join([*theory_notes(frame()), *words(sparsity_theory_figure(frame()))])
    assert "p =" not in told and "tests nothing" in told, "both series follow sparsity"


def words(figure: Any) -> list[str]:
    """Every text that a figure shows."""
    found = []
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in (*axes.texts, *axes.get_legend().get_texts())]
        found += [label.get_text() for label in axes.get_xticklabels()]
    return found


def test_the_figure_says_what_it_shows() -> None:
    figure = sparsity_theory_figure(frame())
    text = "\n".join(words(figure))
    for word in (
        "product: η² t",
        "measured",
        "floor: trained again",
        "σ(m)",
        "rank correlation",
        "n = 3",
        "relative to",
        "sparsity (percent",
        "90",
    ):
        assert word in text
    looks = {
        (line.get_linestyle(), line.get_marker())
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_marker() != "None"
    }
    assert len(looks) == 5, "lines must be told apart without colour"


def test_the_files(tmp_path: Path) -> None:
    out = tmp_path / "theory"
    written = write_theory(frame(), out)
    names = ["figure.png", "figure.svg", "table.csv", "table.json", "table.md"]
    assert [path.name for path in written] == names
    with Image.open(out / "figure.png") as image:
        assert image.size[0] > 1000
    svg = (out / "figure.svg").read_text()
    assert "<dc:date>" not in svg
    assert "$" not in svg
    back = pd.read_csv(out / "table.csv")
    assert tuple(back.columns) == COLUMNS
    assert trend(back) == trend(frame())
    assert theory_grid(back) == theory_grid(frame())
    content = json.loads((out / "table.json").read_text())
    assert content["trend"] == {"rho": trend(frame()).rho, "n": 3}
    assert content["notes"] == theory_notes(frame())
    assert content["rows"][2]["sparsity_percent"] == 90
    assert "| 90 |" in (out / "table.md").read_text()
    before = {path: path.read_bytes() for path in written}
    with pytest.raises(ConfigError, match="exists"):
        write_theory(frame(), out)
    write_theory(frame(), out, overwrite=True)
    assert {path: path.read_bytes() for path in written} == before


def test_diverged_rows_are_written_as_null(tmp_path: Path) -> None:
    write_theory(made_up([1, 2, 3], [1, math.nan, 2]), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "table.json").read_text())
    assert content["trend"]["rho"] is None
    assert content["rows"][1]["distance_l2"] is None


def test_notes_tell_what_the_method_changed() -> None:
    hardly = diagnose(sparsities=(0.0,), method=GradientAscent(lr=1e-7))
    assert any("if nothing is done" in line for line in theory_notes(hardly))
    assert not any("if nothing is done" in line for line in theory_notes(frame()))
    assert any("momentum" in line for line in theory_notes(frame()))


@pytest.mark.parametrize("width", [80, 140, 190])
def test_the_table_fits_the_terminal(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    console.print(theory_table(frame(), width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert "90" in text


def test_a_frame_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="lacks distance_l2"):
        trend(frame().drop(columns="distance_l2"))
    with pytest.raises(ConfigError, match="no rows"):
        theory_grid(frame().iloc[:0])
