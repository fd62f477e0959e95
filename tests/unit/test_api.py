"""`train`, `unlearn` and `audit` as Python users call them: any module, any map-style dataset."""

from __future__ import annotations

import ast
import copy
import importlib
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import (
    CPU,
    Named,
    changed,
    digits,
    named_digits,
    original,
    random_mask,
    run_on_cpu,
    same_state,
    scores_of,
    unlearned,
)
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import expunge
from expunge import Recipe, Split, errors, load_data, train
from expunge.api import audit, unlearn
from expunge.audits.observe import accuracy, observe
from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.view import DataView
from expunge.errors import ConfigError, DivergenceError, ModelError, SplitError
from expunge.methods.base import Method
from expunge.methods.finetune import Finetune
from expunge.scores.score import Score
from expunge.training.run import Run
from expunge.training.session import constructor

RECIPE = Recipe(epochs=4, batch_size=64, lr=0.05)
QUICK = Recipe(epochs=1, batch_size=64, lr=0.05)


def by_name(scores: list[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores}


# --- on digits, from training to audit


def test_from_training_to_audit() -> None:
    data = load_data("digits:600")
    trained = train(data, "cnn", recipe=RECIPE.but(epochs=8, lr=0.1), place=CPU)
    assert accuracy(trained.model, data, run_on_cpu()) > 85
    split = Split.parse(data, "class:3", base=trained.split)
    recipe = trained.recipe
    fresh = {"fresh": "cnn", "recipe": recipe, "device": "cpu"}
    retrained = unlearned(trained.model, data, split, "retrain", **fresh)
    tuned = unlearned(trained.model, data, split, Finetune(epochs=1, lr=1e-4), **fresh)
    scores = by_name(
        scores_of(
            tuned.model,
            data,
            split,
            original=trained.model,
            retrained=retrained.model,
            device="cpu",
        )
    )
    assert list(scores) == ["UA", "RA", "TA", "TA_forget", "MIA"]
    assert scores["UA"].reference == 100, "a model that never saw a 3 never says 3"
    assert scores["TA_forget"].reference == 0
    for name, score in scores.items():
        assert score.gap == abs(score.value - score.reference), name  # type: ignore[operator]
        assert "original" in score.detail, name
        assert score.unit == "percent"
    # a little fine-tuning forgets nothing, and the scores say so
    assert scores["UA"].value < 40
    assert scores["UA"].gap > 60  # type: ignore[operator]
    assert scores["UA"].value == pytest.approx(scores["UA"].detail["original"], abs=10)
    assert scores["UA"].n == len(split.forget)
    assert scores["TA"].n + scores["TA_forget"].n == len(data.test)


def test_the_gap_of_retraining_to_itself_is_nothing() -> None:
    data = digits()
    split = Split.random(data, 0.2)
    model = original("mlp")
    for score in scores_of(model, data, split, retrained=model, device="cpu"):
        assert score.gap == 0
        assert score.reference == score.value
    for score in scores_of(model, data, split, device="cpu"):
        assert score.gap is None
        assert "original" not in score.detail


def test_scores_equal_a_plain_count() -> None:
    data, model = digits(), original("cnn")
    split = Split.random(data, 0.2)
    scores = by_name(scores_of(model, data, split, device="cpu"))
    norm = data.normalisation
    assert norm is not None

    def right(samples: Any, ids: Any) -> float:
        rows = [samples.position[name] for name in ids]
        images = (samples.store.tensor[rows].double() / 255 - norm.mean[0]) / norm.std[0]
        with torch.no_grad():
            answers = model(images.float()).argmax(1)
        return 100 * float(np.mean(answers.numpy() == samples.labels[rows]))

    assert scores["UA"].value == pytest.approx(100 - right(data.train, split.forget))
    assert scores["RA"].value == pytest.approx(right(data.train, split.retain))
    assert scores["TA"].value == pytest.approx(right(data.test, data.test.ids))
    assert accuracy(model, data, run_on_cpu()) == pytest.approx(scores["TA"].value)


def test_training_learns_from_everything_but_validation() -> None:
    dataset, data = named_digits()
    split = Split.whole(data, validation=0.2)
    dataset.forbidden = set(split.validation)
    result = train(data, "mlp", recipe=QUICK, split=split, place=CPU)
    assert set(dataset.read) == set(split.retain)
    assert result.split == split
    assert result.record.names == ("original", 0)
    assert result.record.step == "train"
    assert result.record.cost.reads["retain"] == len(split.retain)
    assert len(result.record.log["losses"]) == 1


def test_training_on_a_split_with_a_forget_set_learns_that_too() -> None:
    data = digits()
    split = Split.random(data, 0.3)
    asked = train(data, "mlp", recipe=QUICK, split=split, place=CPU)
    whole = train(data, "mlp", recipe=QUICK, place=CPU)
    assert set(asked.split.retain) == {*split.retain, *split.forget}
    assert not asked.split.forget
    assert same_state(asked.model, whole.model)


def test_training_is_repeatable_and_seeds_differ() -> None:
    one, again, other = (
        train(digits(), "mlp", recipe=QUICK, seed=seed, place=CPU).model for seed in (0, 0, 1)
    )
    assert same_state(one, again)
    assert not same_state(one, other)


def test_training_resolves_its_recipe_and_says_so() -> None:
    result = train(digits(), "mlp", recipe=QUICK, place=CPU)
    assert result.recipe == QUICK.but(augmentation="none")
    assert Recipe(**result.record.settings) == result.recipe
    colour = torch.randint(0, 256, (40, 3, 16, 16)).byte()
    path_free = load_data(TensorDataset(colour, torch.arange(40) % 2))
    plain = train(path_free, "mlp", recipe=QUICK, place=CPU)
    assert plain.recipe == QUICK.but(augmentation="none"), "tensors are fed as they are"


def test_colour_images_are_augmented_by_default(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "c.npz", x=colour, y=np.arange(40) % 2)
    result = train(load_data(tmp_path / "c.npz"), "mlp", recipe=QUICK, place=CPU)
    assert result.recipe == QUICK.but(augmentation="crop_flip")


def test_divergence_in_training_says_so() -> None:
    with pytest.raises(DivergenceError, match=r"training diverged in epoch \d of 1, step \d"):
        train(digits(), "mlp", recipe=QUICK.but(lr=1e8), place=CPU)


# --- a user's own model and dataset


class Scanner(nn.Module):
    """Somebody's model: two heads, dropout, a norm, a frozen stem, weights tied; nothing of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 32).requires_grad_(False)
        self.norm = nn.BatchNorm1d(32)
        self.drop = nn.Dropout(0.2)
        self.body = nn.Linear(32, 32)
        self.twin = self.body
        self.head = nn.Linear(32, 10)

    def forward(self, scan: Tensor) -> Tensor:
        hidden = self.drop(self.norm(self.stem(scan.flatten(1))).relu())
        logits: Tensor = self.head(self.twin(self.body(hidden).relu()).relu())
        return logits


def test_a_users_own_model_and_dataset_with_names_for_ids() -> None:
    _, data = named_digits(200)
    trained = train(data, Scanner, recipe=RECIPE, place=CPU)
    assert type(trained.model) is Scanner
    assert trained.model.twin is trained.model.body
    request = ["scan-007.png", "scan-031.png", "scan-150.png"]
    request = [name for name in request if name in trained.split.retain]
    split = Split.ids(data, request, base=trained.split)
    before = copy.deepcopy(trained.model)
    for method in ("finetune", "gradient_ascent", "neggrad_plus", "retrain"):
        result = unlearned(
            trained.model, data, split, method, recipe=RECIPE, fresh=Scanner, device="cpu"
        )
        assert type(result.model) is Scanner
        assert result.model.twin is result.model.body, "tied weights stay tied"
        assert set(result.split.forget) == set(request)
        if method != "retrain":
            assert not {"stem.weight", "stem.bias"} & changed(before, result.model), "it was frozen"
            flags = {name: p.requires_grad for name, p in result.model.named_parameters()}
            assert flags == {name: p.requires_grad for name, p in before.named_parameters()}
    assert same_state(trained.model, before)
    scores = by_name(scores_of(trained.model, data, split, device="cpu"))
    assert scores["UA"].n == len(request)
    assert "fewer than 30" in scores["UA"].detail["verdict"]


def test_ids_that_are_not_there_are_refused_with_an_example() -> None:
    _, data = named_digits()
    with pytest.raises(SplitError, match=r"'scan-7.png' is not .* did you mean 'scan-\d\d7.png'"):
        Split.ids(data, ["scan-7.png"])


def test_a_model_that_is_frozen_whole_cannot_learn() -> None:
    """As after `requires_grad_(False)` for inference: said in words, before anything is done."""
    model = original("mlp").requires_grad_(False)
    told = r"finetune: the model has no parameters to train, all are frozen; call requires_grad_\("
    with pytest.raises(ConfigError, match=told):
        unlearned(model, digits(), Split.random(digits(), 0.1), "finetune", device="cpu")


def test_a_frozen_model_can_be_retrained() -> None:
    """A retraining takes nothing from the model but its make."""
    split = Split.random(digits(), 0.1)
    found = [
        unlearned(model, digits(), split, "retrain", recipe=QUICK, fresh="mlp", device="cpu").model
        for model in (original("mlp"), original("mlp").requires_grad_(False))
    ]
    assert same_state(*found)


# --- models of dictionaries


class Words:
    """Token ids and an attention mask, as a tokenised dataset has them."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.tokens = torch.randint(0, 20, (count, 6), generator=generator)
        self.labels = (self.tokens[:, 0] >= 10).long().tolist()
        self.ids = [f"doc-{i}" for i in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {
            "input_ids": self.tokens[row],
            "attention_mask": torch.ones(6),
            "labels": self.labels[row],
        }


class Reader(nn.Module):
    """Called with keywords, answers with an object that has `logits`."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(48, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        hidden = self.embedding(input_ids) * attention_mask[..., None]
        return SimpleNamespace(logits=self.head(hidden.flatten(1)))


def test_a_model_of_dictionaries() -> None:
    data = load_data((Words(120), Words(60)))
    recipe = RECIPE.but(epochs=8, lr=0.3)
    trained = train(data, Reader, recipe=recipe, place=CPU)
    assert accuracy(trained.model, data, run_on_cpu()) > 85
    split = Split.random(data, 0.3, base=trained.split)
    for method in ("finetune", "gradient_ascent", "neggrad_plus", "retrain"):
        result = unlearned(
            trained.model, data, split, method, recipe=recipe, fresh=Reader, device="cpu"
        )
        assert changed(trained.model, result.model)
        assert not result.record.cost.warmed_up, (
            "the shape of an input is known by reading one only"
        )
    scores = by_name(scores_of(trained.model, data, split, retrained=result.model, device="cpu"))
    assert set(scores) == {"UA", "RA", "TA", "MIA"}


class Squares:
    """A task of the user's own: the model's answer is one number per class."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        target = nn.functional.one_hot(batch.labels, 10).float()
        return (model(batch.inputs) - target).square().sum(1)

    def observe(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"logits": model(batch.inputs)}


def test_a_task_of_ones_own() -> None:
    data, task = digits(), Squares()
    recipe = RECIPE.but(lr=0.01)
    trained = train(load_data(data, task=task), "mlp", recipe=recipe, place=CPU)
    result = unlearn(trained, "random:0.2", "gradient_ascent", place=CPU)
    assert changed(trained.model, result.model)
    assert len(audit(result, place=CPU)) == 5
    usual = train(data, "mlp", recipe=recipe, place=CPU)
    assert not same_state(usual.model, trained.model)


# --- what is said about a request


def test_a_near_empty_request_is_warned_of() -> None:
    data, model = digits(), original("mlp")
    base = Split.whole(data)
    few, enough = (Split.ids(data, base.retain[:n], base=base) for n in (29, 30))
    method = Finetune(epochs=1)
    warnings = unlearned(model, data, few, method, device="cpu").record.warnings
    assert len(warnings) == 1
    assert "only 29 samples to forget" in warnings[0]
    assert "no verdict on forgetting is given under 30" in warnings[0]
    assert unlearned(model, data, enough, method, device="cpu").record.warnings == ()
    assert all(
        ("verdict" in s.detail) == (s.name in ("UA", "MIA"))
        for s in scores_of(model, data, few, device="cpu")
    )
    assert not any("verdict" in s.detail for s in scores_of(model, data, enough, device="cpu"))


def test_copies_that_stay_are_warned_of_and_logged_by_name() -> None:
    inputs = torch.arange(200.0).reshape(100, 2)
    inputs[60:68] = inputs[3]
    data = load_data(
        (TensorDataset(inputs, torch.arange(100) % 2), TensorDataset(inputs, torch.arange(100) % 2))
    )
    base = Split.whole(data, validation=0)
    split = Split.ids(data, [str(i) for i in range(40)], base=base)
    model = nn.Linear(2, 2)
    record = unlearned(model, data, split, Finetune(epochs=1, lr=1e-6)).record
    (warning,) = record.warnings
    assert "8 exact copies of forget samples stay in the retain set" in warning
    assert record.log["exact_copies"][:2] == [("3", "60"), ("3", "61")]
    assert "add them to the request" in warning


def test_nothing_to_forget_is_refused() -> None:
    with pytest.raises(SplitError, match="nothing to forget; make one with Split"):
        unlearned(original("mlp"), digits(), Split.whole(digits()), "finetune", device="cpu")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            "finetun",
            r"no method 'finetun', did you mean 'finetune'\?; there are: retrain, finetune",
        ),
        ("zzz", r"^no method 'zzz'; there are: retrain"),
    ],
)
def test_an_unknown_method_gets_the_nearest_and_the_list(method: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        unlearned(original("mlp"), digits(), Split.random(digits(), 0.1), method, device="cpu")


def test_settings_of_a_method_are_checked_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match=r"^Finetune: lr = -1: input should be greater than 0$"):
        Finetune(lr=-1)
    with pytest.raises(
        ConfigError, match=r"^Finetune has no setting 'lrr', did you mean 'lr'\?; it "
    ):
        Finetune(lrr=1)
    with pytest.raises(
        ConfigError, match=r"^GradientAscent: norm = 'off': input should be 'eval' "
    ):
        expunge.METHODS["gradient_ascent"](norm="off")
    with pytest.raises(ConfigError, match=r"^NegGradPlus: alpha = 1.5: input should be less than"):
        expunge.METHODS["neggrad_plus"](alpha=1.5)


def test_an_unknown_architecture() -> None:
    with pytest.raises(ModelError, match=r"no architecture 'resnet81', did you mean 'res"):
        train(digits(), "resnet81", recipe=QUICK, place=CPU)


# --- seeds, names, masks


def test_names_replace_the_seed() -> None:
    split, fresh = Split.random(digits(), 0.1), {"recipe": QUICK, "fresh": "mlp", "device": "cpu"}

    def retrained(**given: Any) -> nn.Module:
        result = unlearned(original("mlp"), digits(), split, "retrain", **fresh, **given)
        assert result.record.names == given.get("names", ("retrain", given.get("seed", 0)))
        return result.model

    floor = retrained(names=("retrain", 0, "floor"))
    assert not same_state(floor, retrained())
    assert same_state(floor, retrained(names=("retrain", 0, "floor"), seed=8))
    assert same_state(retrained(names=("retrain", 5)), retrained(seed=5))


def test_a_sparse_model_stays_sparse_and_says_so() -> None:
    model = original("mlp")
    mask = random_mask(model)
    result = unlearned(
        model, digits(), Split.random(digits(), 0.1), Finetune(epochs=1), mask=mask, device="cpu"
    )
    assert result.mask is mask
    for name, keep in mask.items():
        assert not result.model.get_parameter(name)[~keep].any()


class Noise(Method):
    """A method of the user's own that has never heard of masks, nor of `fit`."""

    name: ClassVar[str] = "noise"
    paper: ClassVar[str] = "none"
    reads: ClassVar[Part] = Part.NONE

    std: float = 0.1

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        generator = torch.Generator().manual_seed(run.seed_for("noise"))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += self.std * torch.randn(parameter.shape, generator=generator)
        return model


def test_a_method_of_ones_own_works_without_being_registered_and_the_mask_is_held() -> None:
    model = original("mlp")
    mask = random_mask(model)
    split = Split.random(digits(), 0.1)
    result = unlearned(model, digits(), split, Noise(std=0.2), mask=mask, device="cpu")
    assert result.record.step == f"{__name__}:Noise", "the name by which it can be made again"
    assert result.record.settings == {"std": 0.2}
    assert not any(result.record.cost.reads.values())
    for name, keep in mask.items():
        assert not result.model.get_parameter(name)[~keep].any()
        assert result.model.get_parameter(name)[keep].all()


def test_what_comes_out_is_ready_to_use() -> None:
    result = unlearned(
        original("cnn").train(),
        digits(),
        Split.random(digits(), 0.1),
        Finetune(epochs=1),
        device="cpu",
    )
    assert not any(module.training for module in result.model.modules())
    assert all(p.grad is None for p in result.model.parameters())
    assert all(p.is_contiguous() for p in result.model.parameters())
    assert all(p.requires_grad for p in result.model.parameters())


def test_the_shape_for_a_new_model_is_never_learned_from_what_was_struck() -> None:
    dataset, data = named_digits(forbidden=["scan-000.png"])
    base = Split.ids(data, ["scan-000.png"], base=Split.whole(data, validation=0)).settled()
    assert type(constructor("mlp", data, base, allow_code=True)()) is type(original("mlp"))
    assert dataset.read == ["scan-001.png"]


# --- audits change nothing


def test_an_audit_leaves_models_and_randomness_as_they_were() -> None:
    _, data = named_digits()
    split = Split.random(data, 0.3)
    models = [Scanner().train() for _ in range(3)]
    models[1].norm.eval()
    before = copy.deepcopy(models)
    random = torch.get_rng_state()
    first = scores_of(models[0], data, split, original=models[1], retrained=models[2], device="cpu")
    assert torch.equal(torch.get_rng_state(), random)
    for model, was in zip(models, before, strict=True):
        assert same_state(model, was)
        assert [m.training for m in model.modules()] == [m.training for m in was.modules()]
        flags = [p.requires_grad for p in was.parameters()]
        assert [p.requires_grad for p in model.parameters()] == flags
        assert all(p.grad is None for p in model.parameters())
    again = scores_of(models[0], data, split, original=models[1], retrained=models[2], device="cpu")
    assert [s.to_dict() for s in first] == [s.to_dict() for s in again]


def test_outputs_are_observed_in_evaluation_mode_without_gradients() -> None:
    modes: list[tuple[bool, bool]] = []

    class Spy(Scanner):
        def forward(self, scan: Tensor) -> Tensor:
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(scan)

    data = digits()
    split = Split.random(data, 0.2)
    outputs = observe(Spy().train(), data, split, run_on_cpu())
    assert set(modes) == {(False, False)}
    assert outputs.forget is not None
    assert set(outputs.forget.ids) == set(split.forget)
    assert outputs.test_forgotten is None


def test_excluded_samples_are_not_read_by_an_audit() -> None:
    dataset, data = named_digits()
    base = Split.random(data, 0.2, base=Split.whole(data)).settled()
    split = Split.random(data, 0.2, seed=1, base=base)
    dataset.forbidden = {*split.excluded, *split.validation}
    scores_of(original("mlp"), data, split, device="cpu")
    assert set(dataset.read) == {*split.retain, *split.forget}


def test_a_model_with_broken_weights_gets_no_scores() -> None:
    model = original("mlp")
    with torch.no_grad():
        model.get_parameter("fc3.bias")[2] = math.nan
    with pytest.raises(ModelError, match="not finite"):
        scores_of(model, digits(), Split.random(digits(), 0.1), device="cpu")


def test_labels_beyond_the_models_outputs_are_named() -> None:
    dataset = Named(torch.randn(40, 64), [i % 12 for i in range(40)], [f"k{i}" for i in range(40)])
    data = load_data((dataset, dataset))
    split = Split.random(data, 0.3)
    with pytest.raises(
        expunge.DataError, match=r"have label 11 \(class .11.\), and the model has 10 outp"
    ):
        scores_of(original("mlp"), data, split, device="cpu")


# --- the public names


def tree() -> ast.Module:
    return ast.parse(Path(str(expunge.__file__)).read_text(encoding="utf-8"))


def test_public_names_are_sorted_and_there() -> None:
    names = expunge.__all__

    def key(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert names == sorted(set(names), key=key)
    assert dir(expunge) == sorted(names)
    for name in names:
        assert getattr(expunge, name) is not None


def test_homes_and_imports_for_type_checkers_agree_with_all() -> None:
    public = set(expunge.__all__) - {"__version__"}
    assert set(expunge._HOMES) == public
    imported = {}
    for block in tree().body:
        if isinstance(block, ast.If):
            for node in block.body:
                assert isinstance(node, ast.ImportFrom)
                imported |= {alias.asname or alias.name: node.module for alias in node.names}
    assert imported == {name: f"expunge.{home}" for name, home in expunge._HOMES.items()}
    for name, home in expunge._HOMES.items():
        module = importlib.import_module(f"expunge.{home}")
        assert getattr(module, name) is getattr(expunge, name)


def test_importing_the_package_is_light() -> None:
    code = "import sys, expunge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="module 'expunge' has no attribute 'unlern'"):
        _ = expunge.unlern


def test_exceptions_are_one_tree() -> None:
    drawn = ast.get_docstring(ast.parse(Path(str(errors.__file__)).read_text("utf-8")))
    assert drawn is not None
    kinds = [
        kind
        for kind in map(expunge.__getattr__, expunge._HOMES)
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(kinds) == 8
    for kind in kinds:
        assert issubclass(kind, expunge.ExpungeError)
        assert kind.__name__ in drawn
        assert kind.__doc__
    assert not issubclass(expunge.DivergenceError, expunge.UserError)
    assert not issubclass(expunge.AccessError, expunge.UserError)
