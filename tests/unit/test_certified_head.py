"""The certified head: what it releases, what it keeps to itself, and when it refuses."""

from __future__ import annotations

import copy
import math
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CPU, digits, original, run_on_cpu, same_state, toy, view_of
from torch import Tensor, nn

from expunge.api import adopt, train, unlearn
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError, DivergenceError, ModelError
from expunge.folders.export import export_folder
from expunge.methods.certified_head import CertifiedHead
from expunge.methods.shared.one_vs_rest import OneVsRest
from expunge.methods.shared.unit_head import UnitHead, head_inputs, with_unit_head
from expunge.models.table import build_model
from expunge.place import Place
from expunge.testing.method_case import MethodCase
from expunge.testing.methods import METHOD_CHECKS_PER_MODEL
from expunge.trained.opening import load
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=64, lr=0.05, augmentation="none")
QUICK: dict[str, Any] = {"penalty": 0.05, "noise_seed": 1}


def trained(**settings: Any) -> Trained:
    method = CertifiedHead(**{**QUICK, **settings})
    return train(digits(), "mlp", recipe=RECIPE, method=method, place=CPU)


@pytest.fixture(scope="module")
def usual() -> Trained:
    return trained()


def problem_of(model: Trained, split: Split) -> OneVsRest:
    view = view_of(model.data, split)
    batches = view.batches(Part.RETAIN, 64, shuffle=False, augment=False)
    found, labels = head_inputs(model.model, batches, run_on_cpu())
    return OneVsRest(found, labels, len(labels), 0.05)


def test_the_released_head_is_the_kept_one_with_noise(usual: Trained) -> None:
    """Fitted to the features of the layers below, whose norm is 1; and noise of sigma / (lambda m)."""
    problem = problem_of(usual, usual.split)
    assert torch.allclose(problem.features.norm(dim=1), torch.ones(len(problem.labels)).double())
    kept = usual.kept.read("head")["weights"]
    for label in range(10):
        assert problem.gradient(kept[label], label).norm() < 1e-3  # features of other batches
    head: Any = usual.model.fc3
    released = torch.cat([head.weight, head.bias[:, None]], dim=1).detach()
    noise = (released - kept) * problem.modulus
    assert float(noise.std()) == pytest.approx(1.0, rel=0.05)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.1)
    deviation = usual.record.log["noise"]["on_a_weight"]
    assert deviation == pytest.approx(1 / problem.modulus)


def test_the_largest_score_is_the_answer(usual: Trained) -> None:
    (batch,) = view_of(usual.data, usual.split).batches(Part.RETAIN, 300, augment=False)
    seen: list[Tensor] = []
    head: Any = usual.model.fc3
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits = usual.model(batch.inputs)
    hook.remove()
    unit = seen[0] / seen[0].norm(dim=1, keepdim=True)
    scores = (unit @ head.weight.T + head.bias) / math.sqrt(2)
    torch.testing.assert_close(logits, scores)
    assert (logits.argmax(1) == batch.labels).double().mean() > 0.5


def test_a_removal_ends_near_the_fit_without_the_forgotten(usual: Trained) -> None:
    done = unlearn(usual, "random:0.02", CertifiedHead(), place=CPU)
    kept = done.kept.read("head")
    problem = problem_of(done, done.split)
    before = usual.kept.read("head")["weights"]
    away = [
        [float((w[label] - problem.fit(label)).norm()) for label in range(10)]
        for w in (before, kept["weights"])
    ]
    assert math.hypot(*away[1]) <= float(kept["spent"]) / problem.modulus
    assert math.hypot(*away[1]) < math.hypot(*away[0]) / 10
    assert done.record.guarantee == "none (seeded)"
    assert done.record.scope == "head"
    own = dict(done.model.named_parameters())
    for name, parameter in usual.model.named_parameters():
        assert torch.equal(own[name], parameter) is not name.startswith("fc3")


def test_a_budget_that_is_spent_refuses(usual: Trained) -> None:
    before = usual.kept.read("head")
    with pytest.raises(ConfigError, match=r"spends the budget of 0\.228.*refit=true") as told:
        unlearn(usual, "class:3", CertifiedHead(), place=CPU)
    assert "\n" not in str(told.value)
    numbers = re.findall(r"[0-9]+\.[0-9]+", str(told.value))
    assert numbers == ["0.228"]  # of the settings alone: what is spent is of the secret head
    assert torch.equal(usual.kept.read("head")["weights"], before["weights"])
    anew = unlearn(usual, "class:3", CertifiedHead(refit=True), place=CPU)
    problem = problem_of(anew, anew.split)
    kept = anew.kept.read("head")
    assert float(kept["spent"]) == 0
    for label in range(10):
        assert problem.gradient(kept["weights"][label], label).norm() < 1e-3


def test_every_removal_spends_and_they_add_up(usual: Trained) -> None:
    spent, model = [0.0], usual
    for request in range(3):
        model = unlearn(model, "random:0.01", CertifiedHead(), forget_seed=request, place=CPU)
        spent.append(float(model.kept.read("head")["spent"]))
    assert spent == sorted(set(spent))
    alone = unlearn(usual, "random:0.01", CertifiedHead(), forget_seed=0, place=CPU)
    assert float(alone.kept.read("head")["spent"]) == spent[1]


def test_what_is_left_takes_less_than_its_bound(usual: Trained) -> None:
    bound, left = (
        unlearn(usual, "random:0.02", CertifiedHead(spend=each), place=CPU).kept.read("head")
        for each in ("bound", "measured")
    )
    assert 0 < left["spent"] < bound["spent"]


def test_noise_is_drawn_anew_for_each_release() -> None:
    """The same noise twice would tell the step itself, to who holds both heads."""
    first = trained(noise_seed=None)
    assert first.record.log["noise"]
    done = [unlearn(first, "random:0.02", CertifiedHead(), place=CPU) for _ in range(2)]
    assert all(one.record.guarantee == "certified(1, 0.0001)" for one in done)
    noises = []
    for one in (first, *done):
        head: Any = one.model.fc3
        released = torch.cat([head.weight, head.bias[:, None]], dim=1).detach()
        noises.append(released - one.kept.read("head")["weights"])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (noises[one] - noises[other]).std() > noises[one].std()
    settings = {**QUICK, "noise_seed": None}
    METHOD_CHECKS_PER_MODEL["repeats_itself"](MethodCase(CertifiedHead, settings))


def test_the_kept_head_does_not_depend_on_noise() -> None:
    """Steps from weights with noise would leave what depends on its draw."""
    one, two = (
        unlearn(trained(noise_seed=seed), "random:0.02", CertifiedHead(), place=CPU)
        for seed in (1, None)
    )
    for key in ("weights", "spent"):
        assert torch.equal(one.kept.read("head")[key], two.kept.read("head")[key])
    assert not same_state(one.model, two.model)


def test_the_forgotten_are_not_read(usual: Trained) -> None:
    done = unlearn(usual, "random:0.02", CertifiedHead(), place=CPU)
    reads = done.record.cost.reads
    assert reads["retain"] == len(done.split.retain) and not reads["forget"]


def test_the_secret_is_its_owners_and_in_no_record(tmp_path: Path, usual: Trained) -> None:
    done = unlearn(usual, "random:0.02", CertifiedHead(), place=CPU)
    done.save(tmp_path / "m")
    (secret,) = (tmp_path / "m" / "artifacts").iterdir()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.name.startswith("private-")
    card = (tmp_path / "m" / "model.json").read_text()
    assert str(float(done.kept.read("head")["spent"]))[:8] not in card
    assert set(done.record.log["noise"]) == {"on_a_weight"}
    (tmp_path / "out").mkdir()
    export_folder(tmp_path / "m", tmp_path / "out" / "m.safetensors")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.safetensors"]


def test_a_folder_without_its_secret_is_refused(tmp_path: Path, usual: Trained) -> None:
    usual.save(tmp_path / "m")
    again = unlearn(load(tmp_path / "m"), "random:0.02", CertifiedHead(), place=CPU)
    assert same_state(again.model, unlearn(usual, "random:0.02", CertifiedHead(), place=CPU).model)
    (secret,) = (tmp_path / "m" / "artifacts").iterdir()
    secret.unlink()
    with pytest.raises(ModelError, match="is not there, and certified_head forgets from it"):
        unlearn(load(tmp_path / "m"), "random:0.02", CertifiedHead(), place=CPU)


def test_other_models_are_refused() -> None:
    plain = adopt(original("mlp"), digits(), recipe=RECIPE)
    with pytest.raises(ConfigError, match="expunge train --method certified_head"):
        unlearn(plain, "random:0.1", CertifiedHead(), place=CPU)
    with pytest.raises(ConfigError, match=r"with sigma 1\.0, not 2\.0"):
        unlearn(trained(), "random:0.1", CertifiedHead(sigma=2.0), place=CPU)


class Odd(nn.Module):
    """Its last linear layer is not what gives its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build_model("mlp", (1, 8, 8), 10, allow_code=False)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.inner(inputs) * 2
        return logits


def test_a_model_that_ends_otherwise_is_refused() -> None:
    with pytest.raises(ModelError, match="does not give its logits"):
        train(digits(), Odd, recipe=RECIPE, method=CertifiedHead(), place=CPU)
    convolutions = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(ModelError, match=r"no linear layer at its end"):
        with_unit_head(convolutions)


def test_outputs_that_are_not_finite_are_told_as_that(usual: Trained) -> None:
    model = copy.deepcopy(usual.model)
    with torch.no_grad():
        model.fc1.weight.fill_(math.nan)  # type: ignore[union-attr, operator]
    batches = view_of(usual.data, usual.split).batches(Part.RETAIN, 64, augment=False)
    with pytest.raises(DivergenceError, match=r"outputs are not finite.*lower lr"):
        head_inputs(model, batches, run_on_cpu())


def test_the_new_head_has_the_old_names_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    model = original("cnn")
    names = {name: p.shape for name, p in model.named_parameters()}
    made = with_unit_head(model)
    assert {name: p.shape for name, p in made.named_parameters()} == names
    assert sum(isinstance(one, UnitHead) for one in made.modules()) == 1
    assert torch.equal(before, torch.get_rng_state())


def test_features_of_norm_0_and_no_label_of_a_class() -> None:
    """A sample that all units are silent on is the constant alone; a class that is gone is the rest."""
    data = toy([0, 0, 1, 1], inputs=torch.zeros(4, 2), classes=["a", "b", "c"])
    model = with_unit_head(nn.Sequential(nn.Identity(), nn.Linear(2, 3)))
    batches = view_of(data, Split.whole(data, validation=0.0)).batches(
        Part.RETAIN, 4, augment=False
    )
    found, labels = head_inputs(model, batches, run_on_cpu())
    assert found.tolist() == [[0.0, 0.0, pytest.approx(1 / math.sqrt(2))]] * 4
    gone = OneVsRest(found, labels, 4, 0.01).fit(2)
    assert float(found[0] @ gone) < -1


def test_noise_that_drowns_the_head_is_told() -> None:
    first = trained(sigma=30.0)
    assert any("may be drowned" in text for text in first.record.log["warnings"])
    with pytest.raises(DivergenceError, match=r"lower sigma \(now 1e\+12\)"):
        trained(sigma=1e12)


def test_it_says_that_it_is_about_the_head() -> None:
    told: list[str] = []
    first = train(
        digits(),
        "mlp",
        recipe=RECIPE,
        method=CertifiedHead(**QUICK),
        place=Place(device="cpu", tell=told.append),
    )
    done = unlearn(first, "random:0.02", CertifiedHead(), place=CPU)
    for text in (*told, *done.record.log["told"]):
        assert "about the head only" in text


def test_epsilon_above_2_is_refused() -> None:
    """There the closed form of the budget no longer holds."""
    with pytest.raises(ConfigError, match="epsilon = 3"):
        CertifiedHead(epsilon=3.0)
