"""The linear probe: what features still hold of what the outputs do not say any more."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, digits, original, run_on_cpu, scores_of, seeded, toy
from torch import Tensor, nn

from expunge.api import adopt, audit, train, unlearn
from expunge.audits.features import features, narrowed
from expunge.audits.linear_probe import FOLDS, LinearProbe, draw, out_of_fold
from expunge.audits.panel import Panel
from expunge.audits.scores import score_panel
from expunge.data.load import Data, load_data
from expunge.data.split import Split
from expunge.data.transform import Transform
from expunge.errors import HeadError, ModelError
from expunge.scores.score import Score
from expunge.scores.shown import as_text
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe


class Headed(nn.Module):
    """A body, and a linear layer on what it gives."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs))
        return logits


def narrow() -> nn.Module:
    """Features of two numbers, which nine digits fill: a tenth has no place of its own there."""
    return Headed(nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)), 2)


def probe(model: nn.Module, split: Split, data: Data | None = None, **more: Any) -> Score:
    how = LinearProbe(**more.pop("how", {}))
    return scores_of(model, data or digits(), split, features=(), also=[how], **more)["probe"]


@functools.cache
def digits_without_3() -> Split:
    return Split.classes(digits(), [3])


def test_a_silenced_class_is_found_out() -> None:
    """UA is retrain's, and the probe is the original's to the bit, far from retrain's."""
    first = train(
        digits(1438),
        narrow,
        recipe=Recipe(epochs=12, lr=0.05, batch_size=64, augmentation="none"),
        place=CPU,
    )
    silent, retrained = (
        unlearn(first, "class:3", name, place=CPU) for name in ("head_zeroed", "retrain")
    )
    scores = audit(silent, original=first, retrained=retrained, also=["linear_probe"], place=CPU)
    assert scores["UA"].value > 95 and scores["UA"].gap < 5  # type: ignore[operator]
    found = scores["probe"]
    assert found.value == found.detail["original"] > 75
    assert found.reference is not None and found.reference < found.value - 20
    assert found.low is not None and found.low < found.value
    assert found.n == len(silent.split.forget) and found.detail["form"] == "class"
    assert set(found.per_sample) == set(silent.split.forget)
    assert 100 * np.mean(list(found.per_sample.values())) == pytest.approx(found.value)
    assert found.finding is not None and found.finding.word == "undecided"
    assert "5 retrained models are needed" in found.finding.why


class Seeing(nn.Module):
    """Sees in a point of the plane what a matrix tells of it; says nothing of the last class."""

    def __init__(self, sees: Tensor) -> None:
        super().__init__()
        self.sees = nn.Parameter(sees)
        self.head = nn.Linear(len(sees), 4)
        nn.init.constant_(self.head.bias[3:], -30)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs @ self.sees.mT)
        return logits


def test_five_retrained_models_decide() -> None:
    """They do not see what tells the forgotten class from another; a silenced original does."""
    generator = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [0.0, 6.0], [0.0, 12.0], [6.0, 12.0]])
    labels = np.arange(400) % 4
    inputs = middles[labels] + torch.randn(400, 2, generator=generator)
    data = toy(labels.tolist(), inputs=inputs)
    split = Split.classes(data, [3], base=Split.whole(data, validation=0))

    def adopted(turned: float, features: int) -> Trained:
        return adopt(
            Seeing(torch.tensor([[turned, 1.0], [1.0, 0.0]])[:features]), data, split=split
        )

    again = [adopted(turned, 1) for turned in (0.03, -0.02, 0.0, -0.03, 0.02, 0.01)]

    def word(one: Trained) -> str:
        scores = audit(one, retrained=again[:5], also=["linear_probe"], place=CPU)
        finding = scores["probe"].finding
        assert finding is not None and len(scores["probe"].detail["references"]) == 5
        return finding.word

    assert word(adopted(0.0, 2)) == "outside"
    assert word(again[5]) != "outside"


def test_a_rotation_of_the_features_leaves_it_nearly_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(128, 128, generator=generator)).Q
    plain = original("mlp")
    body = nn.Sequential(nn.Flatten(), plain.fc1, nn.ReLU(), plain.fc2, nn.ReLU())  # type: ignore
    model, turned = Headed(body, 128), Headed(nn.Sequential(body, nn.Linear(128, 128)), 128)
    with torch.no_grad():
        turned.body[1].weight.copy_(rotation)  # type: ignore[index]
        turned.body[1].bias.zero_()  # type: ignore[index]
    one, other = (probe(each, digits_without_3()) for each in (model, turned))
    assert one.value > 60, "an MLP that was trained a little tells digits apart"
    assert abs(one.value - other.value) <= 100 * 3 / one.n, "three samples more or fewer"


def test_membership_of_random_features_is_chance() -> None:
    """There are more features than samples, so whatever is learned from is known by heart."""
    data = digits(1438)
    model = seeded(lambda: Headed(nn.Sequential(nn.Flatten(), nn.Linear(64, 600), nn.ReLU()), 600))
    found = probe(model, Split.random(data, 0.2), data)
    assert found.detail["form"] == "membership" and found.detail["chance"] == 50
    assert found.n > 300
    assert 38 < found.value < 62


def test_retrained_models_that_agree_by_chance_do_not_make_a_guess_sure() -> None:
    """Five that say the same have no spread; who is a member is guessed, and guesses have one."""
    data = digits(300)
    split = Split.random(data, 0.5)
    same, other = seeded(
        lambda: [
            adopt(Headed(nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), 8), data, split=split)
            for _ in range(2)
        ]
    )
    found = audit(other, retrained=[same] * 5, also=["linear_probe"], place=CPU)["probe"]
    assert found.finding is not None and found.finding.word == "undecided"
    assert not found.finding.decidable, "of so few samples no value would be within"


def test_membership_is_seen_where_features_tell_it() -> None:
    """The last feature says whether an image is one of those that are to be forgotten."""
    data = digits()
    split = Split.random(data, 0.3)
    rows = [data.train.position[name] for name in split.forget]
    known = Transform(data.normalisation)(data.train.store.tensor[rows])  # type: ignore

    class Remembering(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            flat = inputs.flatten(1)
            nearest = torch.cdist(flat, known.flatten(1)).min(dim=1).values
            return torch.cat([flat, (nearest[:, None] < 0.1).float()], dim=1)

    assert probe(Headed(Remembering(), 65), split).value == 100


def test_samples_and_folds_depend_on_ids_and_seed_alone() -> None:
    data, how = digits(), LinearProbe(per_class=12, classes=4)
    split = digits_without_3()
    one = draw(data, split, 0, how)
    order = np.random.default_rng(0).permutation(len(data.train))
    mixed = replace(data, train=data.train.subset(order))
    other = draw(mixed, split, 0, how)
    assert one.train == other.train and (one.targets == other.targets).all()
    assert one.train != draw(data, split, 1, how).train
    assert one.kinds == 4 and len(one.train) == 48 and one.n == 12
    assert set(one.targets[one.judged].tolist()) == {3} and not one.test
    for c in set(one.targets.tolist()):
        counts = np.bincount(one.folds[one.targets == c], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1, "every fold has its share of every class"


def test_many_forgotten_classes_leave_room_for_others() -> None:
    data = digits()
    split = Split.classes(data, [0, 1, 2, 3, 4, 5, 6])
    drawn = draw(data, split, 0, LinearProbe(classes=6))
    kinds = set(drawn.targets.tolist())
    assert len(kinds) == 6 and len(kinds & {7, 8, 9}) == 3
    assert set(drawn.targets[drawn.judged].tolist()) == kinds - {7, 8, 9}


def test_membership_compares_equal_shares_of_the_same_classes() -> None:
    data = digits()
    rare = [
        name
        for name in Split.whole(data).retain
        if data.train.labels[data.train.position[name]] in (2, 7)
    ][:30]
    drawn = draw(data, Split.ids(data, rare), 0, LinearProbe(per_class=9))
    mine = [data.train.labels[data.train.position[name]] for name in drawn.train]
    theirs = [data.test.labels[data.test.position[name]] for name in drawn.test]
    assert mine == theirs and set(mine) <= {2, 7} and drawn.n == 2 * len(mine) <= 36
    assert set(drawn.train) <= set(rare) and len(set(drawn.test)) == len(mine)
    assert drawn.targets.tolist() == [1] * len(mine) + [0] * len(mine)


def test_no_sample_is_judged_by_a_probe_that_learned_from_it() -> None:
    """Features and labels have nothing in common, and each sample has a feature of its own."""
    generator = np.random.default_rng(0)
    targets = np.arange(200) % 2
    inputs = np.hstack([np.eye(200), 1e-3 * generator.normal(size=(200, 5))])
    folds = generator.permutation(200) % FOLDS
    inputs[:, :200] *= np.where(targets == 1, 1.0, -1.0)[:, None]  # known by heart at once
    right = (out_of_fold(inputs, targets, folds) == targets).mean()
    assert 0.3 < right < 0.7


def test_wide_features_become_sums_with_signs() -> None:
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(6, 3000, generator=generator)
    found = narrowed(wide, 64)
    matrix = narrowed(torch.eye(3000), 64).double()  # what becomes of each feature by itself
    assert torch.allclose(found.double(), wide.double() @ matrix, atol=1e-4)
    assert (matrix.abs().sum(dim=1) == 1).all(), "each counts once"
    assert narrowed(wide, 3000) is wide and narrowed(wide, None) is wide
    data = digits()
    model = Headed(nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.Flatten()), 64 * 64)
    transform = Transform(data.normalisation)
    every = features(model, data.test, transform, run_on_cpu())
    few = features(model, data.test, transform, run_on_cpu(), rows=np.arange(9), most=100)
    assert every.shape == (len(data.test), 4096)
    assert torch.allclose(few, narrowed(every[:9], 100), atol=1e-4)


def test_too_few_to_divide_have_no_value_and_say_so() -> None:
    data = digits()
    split = Split.ids(data, Split.whole(data).retain[:3])
    found = probe(original("mlp"), split, original=original("mlp"))
    assert np.isnan(found.value) and found.n == 0 and found.low is None
    assert "probe: there are too few forgotten samples" in as_text([found])
    few = probe(original("mlp"), Split.ids(data, Split.whole(data).retain[:20]))
    assert few.detail["verdict"].startswith("none: fewer than 30")


class HeadLess(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Conv2d(1, 10, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.mean(inputs).flatten(1)  # type: ignore[no-any-return]


class Gated(HeadLess):
    """It has a linear layer, which does not give the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(10, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        logits = super().forward(inputs)
        return torch.cat([logits[:, :5], self.gate(logits).sigmoid()], dim=1)[:, :10]


def test_a_model_without_a_linear_head_says_so_when_asked_and_is_left_out_else() -> None:
    split = digits_without_3()
    with pytest.raises(ModelError, match=r"no linear layer as its head, .*; leave them out"):
        probe(HeadLess(), split)
    panel = Panel(adopt(HeadLess(), digits(), split=split), split, run_on_cpu())
    found = score_panel(panel, [LinearProbe()])
    assert not found.scores and "linear_probe was left out: the model has no linear" in str(found)
    with pytest.raises(HeadError):
        score_panel(panel, [LinearProbe()], ["linear_probe"])


def test_a_linear_layer_that_is_no_head_is_not_taken_for_one() -> None:
    class Wider(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(10, 7)

        def forward(self, inputs: Tensor) -> Tensor:
            logits = HeadLess.forward(self, inputs)
            return logits + self.gate(logits).sum(dim=1, keepdim=True)

    with pytest.raises(HeadError, match="does not give its class logits"):
        probe(Wider(), digits_without_3())


def test_the_probe_leaves_the_model_as_it_was() -> None:
    model = original("cnn").train()
    before, state = copy.deepcopy(model), torch.get_rng_state()
    features(model, digits().test, Transform(digits().normalisation), run_on_cpu())
    assert model.training and torch.equal(torch.get_rng_state(), state)
    for (name, one), other in zip(
        model.state_dict().items(), before.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_trigger_is_no_membership() -> None:
    """Poisoned samples are told from clean ones by what they carry, whoever has seen them."""
    data = load_data("digits:300+patch:size=3,share=0.2,target=3")
    drawn = draw(data, Split.parse(data, "poison"), 0, LinearProbe())
    assert drawn.form == "membership" and drawn.n == 0
    clean = draw(data, Split.parse(data, "random:0.2", seed=1), 0, LinearProbe())
    assert clean.n == 0, "some of a random fifth are poisoned"


def test_one_class_alone_is_nothing_to_tell_apart() -> None:
    """A fold would learn from a single class."""
    data = digits()
    of_3, of_4 = (np.flatnonzero(data.train.labels == c).tolist() for c in (3, 4))
    names = data.train.ids
    split = Split(
        retain=(str(names[of_4[0]]),),
        forget=tuple(str(names[row]) for row in of_3[:20]),
    )
    small = replace(data, train=data.train.subset(np.array(sorted([*of_3[:20], of_4[0]]))))
    assert draw(small, split, 0, LinearProbe()).n == 0
