"""Transfer: the target's form, the head, the two scorers of harm, and adapting."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from expunge.audits.features import features, head_name
from expunge.data.load import Data, load_data
from expunge.data.samples import ResidentStore, Samples, digest_arrays, row_ids
from expunge.data.transform import Transform
from expunge.errors import ConfigError, DataError, ModelError
from expunge.models.table import ARCHITECTURES, build_model
from expunge.report.further import further_grid
from expunge.report.markdown import further_markdown
from expunge.report.score_tables import score_tables
from expunge.study.launch import Planned, planned, run_study
from expunge.study.results import for_tables, results
from expunge.study.scenarios import scenario_of
from expunge.study.schema import Study
from expunge.study.work import Bench
from expunge.training.recipe import Recipe
from expunge.training.run import Run
from expunge.transfer.adapt import full_finetune, linear_probe
from expunge.transfer.harm import class_harm, most_harmful
from expunge.transfer.head import last_block, with_head, without_head
from expunge.transfer.target import TargetTask, as_target

RUN = Run(names=("test",))


def images(shape: tuple[int, ...], classes: int, *, seed: int = 0, kind: str = "uint8") -> Data:
    generator = np.random.default_rng(seed)

    def part(count: int) -> Samples:
        values = generator.integers(0, 256, (count, *shape))
        inputs = values.astype(np.uint8) if kind == "uint8" else (values / 255).astype(np.float32)
        labels = np.arange(count) % classes
        return Samples(
            row_ids(count),
            labels,
            ResidentStore(torch.from_numpy(inputs)),
            digest_arrays(inputs, labels),
            True,
        )

    return Data(part(40), part(20), tuple(map(str, range(classes))))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Data]:
    """A model of digits that is far from chance."""
    from expunge.api import train

    data = load_data("digits:400")
    recipe = Recipe(epochs=6, batch_size=32, lr=0.05, precision="float32")
    return train(data, "cnn", recipe=recipe, place=CPU).model, data


# --- the target's form


def test_the_target_takes_the_sources_form_and_its_own_samples_stay() -> None:
    source, target = images((3, 16, 12), 4), images((1, 8, 8), 3, seed=1)
    before = target.train.store.whole().clone()  # type: ignore[union-attr]
    made = as_target(source, target)
    assert made.train.shape() == made.test.shape() == (3, 16, 12)
    assert made.normalisation == source.normalisation
    whole = made.train.store.whole()
    assert whole is not None and whole.dtype == torch.uint8
    assert torch.equal(whole[:, 0], whole[:, 1]) and torch.equal(whole[:, 0], whole[:, 2])
    assert torch.equal(target.train.store.whole(), before)  # type: ignore[arg-type]
    assert made.train.fingerprint != target.train.fingerprint
    assert list(made.train.ids) == list(target.train.ids)


def test_colour_becomes_its_mean_and_the_same_form_is_kept() -> None:
    colour = images((3, 8, 8), 2, kind="float")
    grey = as_target(images((1, 8, 8), 2), colour).train.store.whole()
    expected = colour.train.store.whole().mean(dim=1, keepdim=True)  # type: ignore[union-attr]
    assert grey is not None and torch.allclose(grey, expected)
    same = as_target(colour, colour)
    assert same.train.store is colour.train.store


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"the target's samples have shape \(5,\)"):
        as_target(images((1, 8, 8), 2), images((5,), 2))


# --- the head


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "allcnn"])
def test_features_times_the_head_are_the_outputs(name: str) -> None:
    data = images((3, 32, 32), 4)
    model = build_model(name, (3, 32, 32), 4, allow_code=True)
    before = copy.deepcopy(model.state_dict())
    transform = Transform(data.normalisation)
    found = features(model, data.test, transform, RUN)
    head = model.get_submodule(head_name(model))
    whole = data.test.store.whole()
    assert isinstance(head, nn.Linear) and whole is not None
    with torch.no_grad():
        assert torch.allclose(head(found), model.eval()(transform(whole)), atol=1e-4)
    block = last_block(model)
    ours = {id(p) for p in head.parameters()}
    assert block and not ours & {id(p) for p in block}
    assert sum(p.numel() for p in block) < sum(p.numel() for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_last_block_is_the_one_before_the_head() -> None:
    model = build_model("resnet18", (3, 32, 32), 10, allow_code=True)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(names[id(p)].startswith("layer4.") for p in last_block(model))


def test_models_without_a_head_say_so() -> None:
    with pytest.raises(ModelError, match="no linear layer"):
        head_name(nn.Conv2d(1, 1, 1))
    with pytest.raises(ModelError, match="nothing with parameters before its head"):
        last_block(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


def test_another_head_leaves_the_model_as_it_is() -> None:
    model = build_model("mlp", (1, 4, 4), 3, allow_code=True)
    frozen = next(model.parameters()).requires_grad_(False)
    changed = with_head(model, torch.ones(5, 128), torch.zeros(5))
    inputs = torch.rand(2, 1, 4, 4)
    assert changed(inputs).shape == (2, 5) and model(inputs).shape == (2, 3)
    assert all(p.requires_grad for p in changed.parameters()) and not frozen.requires_grad


# --- adapting


def test_the_probe_is_logistic_regression_on_standardised_features(
    trained: tuple[nn.Module, Data],
) -> None:
    model, source = trained
    before = copy.deepcopy(model.state_dict())
    target = as_target(source, load_data("digits:200"))
    transform = Transform(target.normalisation)
    learned, held = (
        features(model, part, transform, RUN).double().numpy()
        for part in (target.train, target.test)
    )
    mean, spread = learned.mean(axis=0), learned.std(axis=0)
    spread[spread == 0] = 1
    fitted = LogisticRegression(max_iter=2000).fit((learned - mean) / spread, target.train.labels)
    right = int((fitted.predict((held - mean) / spread) == target.test.labels).sum())
    found = linear_probe(model, target, RUN)
    assert abs(found.right - right) <= 1, "float32 may turn a tie"
    assert found.n == len(target.test) and found.right > 0.8 * found.n
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    score, seconds = found.scores("linear_probe")
    assert score.value == 100 * found.right / found.n and score.low < score.value < score.high  # type: ignore[operator]
    assert (seconds.name, seconds.unit) == ("linear_probe_s", "seconds")


@pytest.mark.parametrize("labels", [[0, 1], [0, 2], [1, 3]])
def test_two_classes_and_absent_ones(trained: tuple[nn.Module, Data], labels: list[int]) -> None:
    model, source = trained
    part = load_data("digits")
    keep = np.flatnonzero(np.isin(part.train.labels, labels))[:60]
    test = np.flatnonzero(np.isin(part.test.labels, labels))[:40]
    target = as_target(source, Data(part.train.subset(keep), part.test.subset(test), tuple("abcd")))
    assert linear_probe(model, target, RUN).right >= 38


def test_full_finetuning_learns_the_target_and_is_repeatable(
    trained: tuple[nn.Module, Data],
) -> None:
    model, source = trained
    before = copy.deepcopy(model.state_dict())
    target = as_target(source, load_data("digits:200"))
    recipe = Recipe(epochs=3, batch_size=32, lr=0.02, precision="float32", augmentation="none")
    one, two = (full_finetune(model, target, RUN, recipe) for _ in range(2))
    assert one.right == two.right > 0.7 * one.n
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    other = full_finetune(model, target, Run(names=("other",)), recipe)
    weights = [list(found.model.parameters())[-2] for found in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# --- harm


def test_cosine_by_hand(trained: tuple[nn.Module, Data]) -> None:
    """Mean features in float64, one class after another."""
    model, source = trained
    target = as_target(source, load_data("digits:120"))
    found = class_harm(model, source.train, source, target, RUN, scorer="cosine")

    def means(data: Data) -> list[torch.Tensor]:
        every = features(model, data.train, Transform(data.normalisation), RUN).double()
        return [every[torch.from_numpy(data.train.labels == c)].mean(0) for c in range(10)]

    theirs = means(target)
    for row, ours in enumerate(means(source)):
        cosines = [float(ours @ t / ours.norm() / t.norm()) for t in theirs]
        assert found[row] == pytest.approx(-sum(cosines) / len(cosines), abs=1e-9)


def test_gradient_by_hand(trained: tuple[nn.Module, Data]) -> None:
    """The formula with one backward pass over everything, for the source and for the target."""
    model, source = trained
    target = as_target(source, load_data("digits:120"))
    found = class_harm(model, source.train, source, target, RUN, scorer="gradient")
    adapted = linear_probe(model, target, RUN).model

    def gradient(network: nn.Module, data: Data, rows: np.ndarray) -> torch.Tensor:
        network = copy.deepcopy(network).double().eval()
        raw = data.train.store.fetch(rows, torch.device("cpu"))
        inputs = Transform(data.normalisation)(raw).double()
        loss = functional.cross_entropy(network(inputs), torch.from_numpy(data.train.labels[rows]))
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, last_block(network))])

    theirs = gradient(adapted, target, np.arange(len(target.train)))
    for label in range(10):
        ours = gradient(model, source, np.flatnonzero(source.train.labels == label))
        expected = -float(ours @ theirs)
        scale = float(ours.norm() * theirs.norm())
        assert found[label] == pytest.approx(expected, abs=2e-4 * scale)
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())


def test_classes_that_are_the_target_harm_least(trained: tuple[nn.Module, Data]) -> None:
    """Known answer: the target is the source's own sevens and nines."""
    model, source = trained
    rows, tests = (
        np.flatnonzero(np.isin(part.labels, [7, 9])) for part in (source.train, source.test)
    )
    same = as_target(
        source, Data(source.train.subset(rows), source.test.subset(tests), source.classes)
    )
    harm = class_harm(model, source.train, source, same, RUN, scorer="cosine")
    assert set(np.argsort(harm)[:2]) == {7, 9}


def test_most_harmful() -> None:
    assert most_harmful([0.1, 0.9, float("nan"), 0.9, 0.2], 2) == [1, 3]
    assert most_harmful([0.5, 0.5, 0.1], 1) == [0], "the first of equal ones"
    for count in (0, 3, 9):
        with pytest.raises(ConfigError, match="some must stay"):
            most_harmful([1.0, 2.0, 3.0], count)
    with pytest.raises(ConfigError, match="no scorer 'cosin', did you mean 'cosine'"):
        model, data = build_model("mlp", (1, 8, 8), 2, allow_code=True), images((1, 8, 8), 2)
        class_harm(model, data.train, data, data, RUN, scorer="cosin")


def test_a_class_without_samples_has_no_harm(trained: tuple[nn.Module, Data]) -> None:
    model, source = trained
    some = source.train.subset(np.flatnonzero(source.train.labels != 4))
    target = as_target(source, load_data("digits:120"))
    for scorer in ("cosine", "gradient"):
        harm = class_harm(model, some, source, target, RUN, scorer=scorer)
        assert np.isnan(harm[4]) and np.isfinite(np.delete(harm, 4)).all()


def test_harm_never_reads_the_targets_test_set(trained: tuple[nn.Module, Data]) -> None:
    model, source = trained
    target = as_target(source, load_data("digits:120"))

    class Closed:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"the test set was asked for {name}")

    closed = replace(target, test=Closed())  # type: ignore[arg-type]
    for scorer in ("cosine", "gradient"):
        assert np.isfinite(
            class_harm(model, source.train, source, closed, RUN, scorer=scorer)
        ).all()


def test_a_target_of_one_class_is_refused(trained: tuple[nn.Module, Data]) -> None:
    model, source = trained
    some = load_data("digits").train
    one = some.subset(np.flatnonzero(some.labels == 3)[:20])
    with pytest.raises(DataError, match="a task needs two or more"):
        linear_probe(model, as_target(source, replace(source, train=one)), RUN)


# --- scenarios of a study: what they ask, and a transfer study from end to end


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "moving",
        "data": ["digits:200"],
        "models": ["mlp"],
        "recipes": {"quick": {"epochs": 4, "lr": 0.05, "batch_size": 32}},
        "scenarios": ["harmful:2"],
        "controls": False,
        "class_also": [],
        "methods": {"finetune": {"epochs": 1}},
        "seeds": [0, 1],
        "transfer": {"data": "digits:100", "recipe": {"epochs": 2, "batch_size": 32}},
    }
    return Study.model_validate({**given, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    made = planned(study(), tmp_path_factory.mktemp("moving"), place=CPU)
    made = run_study(made)
    assert made.counts().done == len(made.cells)
    return made


@pytest.mark.parametrize(
    ("text", "seed", "request_", "told"),
    [
        ("class", 13, "class:#3", "one class"),
        ("class:cat", 13, "class:cat", "class:cat"),
        ("classes:2", 9, "class:#9,#0", "2 classes"),
        ("random:0.25", 5, "random:0.25", "random 25%"),
        ("harmful:1", 5, "harmful:1", "the most harmful class"),
        ("harmful:3", 5, "harmful:3", "the 3 most harmful classes"),
        ("ids:gone.txt", 5, "ids:gone.txt", "ids:gone.txt"),
        ("poison", 5, "poison", "poison"),
        ("poison:0.3", 5, "poison:0.3", "30% of the poison"),
        ("clean:0.1", 5, "clean:0.1", "10% of clean data alone"),
    ],
)
def test_requests_and_words(text: str, seed: int, request_: str, told: str) -> None:
    scenario = scenario_of(text)
    scenario.check(text)
    assert scenario.request(text, seed, 10) == request_
    assert scenario.told(text) == told


@pytest.mark.parametrize("text", ["harmful", "harmful:0", "harmful:many", "classes:x"])
def test_texts_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(ConfigError, match="write how many"):
        scenario_of(text).check(text)


def test_harm_needs_a_target() -> None:
    with pytest.raises(ConfigError, match="give transfer"):
        study(transfer=None)


def test_the_most_harmful_classes_of_each_original_are_forgotten(finished: Planned) -> None:
    """By hand: the scorer on the stored original, and what the cells say they forgot."""
    bench = Bench(finished.store, CPU)
    cells = {cell.key: cell for cell in finished.cells}
    for row in finished.rows:
        content = finished.store.read(row.cell)
        base = bench.original(cells[row.cell].starts[0])
        learned = base.data.train.subset(
            np.array([base.data.train.position[name] for name in base.split.retain])
        )
        target = as_target(base.data, bench.data("digits:100"))
        harm = class_harm(base.model, learned, base.data, target, Run(names=("test",)))
        expected = [base.data.classes[label] for label in most_harmful(harm, 2)]
        assert content["forgotten_classes"] == expected


def test_every_row_is_scored_on_the_target(finished: Planned) -> None:
    frame = results(finished.rows, finished.store)
    for name in ("linear_probe", "full_finetune", "linear_probe_s", "full_finetune_s"):
        own = frame[frame["score"] == name]
        assert set(own["method"]) == {"original", "retrain", "floor", "finetune"}
        assert (own["value"] > 0).all() and len(own) == 8
    probe = frame[frame["score"] == "linear_probe"]
    assert ((probe["low"] <= probe["value"]) & (probe["value"] <= probe["high"])).all()
    table = for_tables(frame)
    found = further_grid(table)
    assert found is not None
    assert found.headers == [
        "method",
        "linear_probe",
        "linear_probe_s",
        "full_finetune",
        "full_finetune_s",
    ]
    by_hand = probe[probe["method"] == "finetune"]["value"]
    line = next(row for row in found.texts if row[0] == "finetune")
    assert line[1] == f"{by_hand.mean():.4g}±{by_hand.std():.2g}"
    assert f"| finetune | {line[1]} |" in further_markdown(score_tables(table))


def test_the_target_is_a_part_of_the_key(tmp_path: Path) -> None:
    one = {cell.key for cell in planned(study(), tmp_path / "one").cells}
    other = study(transfer={"data": "digits:100", "scorer": "gradient", "recipe": {"epochs": 2}})
    two = planned(other, tmp_path / "two").cells
    assert {c.key for c in two if c.kind == "original"} <= one, "originals do not depend on it"
    assert not {c.key for c in two if c.kind != "original"} & one


def test_a_mask_is_held_while_a_sparse_model_adapts(tmp_path: Path) -> None:
    """A sparse `mlp` is masked in its head too, which another head replaces."""
    sparse = study(densities=[{"pruner": "omp", "sparsity": 0.8}], seeds=[0], floor=False)
    made = run_study(planned(sparse, tmp_path / "out", place=CPU))
    assert made.counts().done == len(made.cells), [made.store.failure(c.key) for c in made.cells]
    base = made.bench.original(made.cells[0])
    target = as_target(base.data, load_data("digits:100"))
    assert base.mask is not None
    held = without_head(base.mask, base.model)
    recipe = Recipe(epochs=2, batch_size=32, augmentation="none")
    adapted = full_finetune(base.model, target, Run(names=("test",), mask=held), recipe).model
    weights = dict(adapted.named_parameters())
    assert held and all((weights[name][~keep] == 0).all() for name, keep in held.items())


def test_defaults_of_a_target() -> None:
    assert TargetTask(data="mnist").scorer == "cosine"
    partly = TargetTask(data="mnist", recipe={"epochs": 5})
    assert partly.recipe.augmentation == "none", "digits are not flipped for a colour source's sake"
    assert (partly.recipe.epochs, partly.recipe.lr) == (5, 0.02)
    with pytest.raises(ConfigError, match="scorer"):
        TargetTask(data="mnist", scorer="best")
