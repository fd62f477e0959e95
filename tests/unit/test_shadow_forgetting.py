"""Models of a bank that forget as an audited model did, and two worlds that swap what is forgotten."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from expunge.api import train, unlearn
from expunge.audits.costs import COSTS, AuditSizes
from expunge.audits.u_lira import unless_lost
from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import ConfigError, DivergenceError
from expunge.methods.base import Method
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.retrain import Retrain
from expunge.place import Place
from expunge.scores.finding import UNDECIDED, WITHIN, Finding
from expunge.shadows.bank import Bank
from expunge.shadows.build import build
from expunge.shadows.forget import unlearned
from expunge.shadows.making import half_split, names_of, said_by
from expunge.shadows.swap import swapped
from expunge.shadows.training import as_original, trained_on
from expunge.testing.red_team import bench
from expunge.trained.trained import Trained
from expunge.training.processes import one_thread
from expunge.training.recipe import Recipe
from expunge.training.run import Run

CPU = Place(device="cpu")


class Noting(Method):
    """Notes what it is asked to forget, and changes nothing; it can be told to diverge."""

    name: ClassVar[str] = "noting"
    paper: ClassVar[str] = "none"
    reads: ClassVar[Part] = Part.FORGET

    asked: ClassVar[list[list[str]]] = []
    bad: ClassVar[tuple[int, ...]] = ()

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        if run.names[2] in self.bad:
            raise DivergenceError("it is not finite")
        self.asked.append(data.keys(Part.FORGET).tolist())
        return model


@pytest.fixture(scope="module")
def original() -> Trained:
    recipe = Recipe(epochs=2, lr=0.1, batch_size=128)
    return train(load_data("digits"), "mlp", recipe=recipe, place=CPU)


@pytest.fixture(scope="module")
def bank(original: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return build(original, tmp_path_factory.mktemp("here") / "bank", models=6, place=CPU)


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Noting, "asked", [])
    monkeypatch.setattr(Noting, "bad", ())


def test_retraining_as_the_method_is_training_without(original: Trained, bank: Bank) -> None:
    subject = unlearn(original, "random:0.1", "retrain", place=CPU)
    found = unlearned(bank, original, subject, place=CPU)()
    assert np.array_equal(found.learned, bank.shadows.learned)
    asked = np.isin(found.ids, subject.split.forget)
    assert found.forgot is not None and np.array_equal(found.forgot, found.learned & asked)
    assert not found.left_out
    half = half_split(original, bank, 3)
    kept = tuple(name for name in half.retain if name not in {*subject.split.forget})
    names = (*names_of(bank, 3), "forget", 0)
    with one_thread():
        network, _ = trained_on(original, replace(half, retain=kept), names, CPU, "without")
        said = said_by(as_original(original, network, half, names), bank, CPU)
    assert np.array_equal([*found.logits][3], said)


def test_who_diverges_counts_as_lost(
    original: Trained, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noting, "bad", (3,))
    found = unlearned(bank, original, Noting(), list(original.split.retain[:50]), place=CPU)()
    assert (len(found), found.lost_pairs, found.asked, len(found.left_out)) == (4, 1, 6, 1)
    within = Finding(WITHIN, "near", 0.9)
    assert unless_lost(within, 30, 32) is within
    assert unless_lost(within, 28, 32).word == UNDECIDED


def test_each_forgets_what_it_learned_of_it_and_once(original: Trained, bank: Bank) -> None:
    forget = list(original.split.retain[:40])
    before = {*(bank.folder / "forgot").glob("*")}
    making = unlearned(bank, original, Noting(), forget, place=CPU)
    assert making.left == 6
    found = making()
    assert making.left == 0
    panel = replace(bench(original, [original], original.asked("random:0.1")), shadows=found)
    for still, left in ((making, 0), (lambda: found, 6)):
        work = COSTS["u_lira"](AuditSizes.of(replace(panel, unlearned=still)))
        assert work.forgettings == left
    assert np.array_equal([*found.logits], [*bank.shadows.logits]), "a method that does nothing"
    for asked, learned in zip(Noting.asked, found.learned, strict=True):
        assert set(asked) == set(found.ids[learned]) & set(forget)
    (folder,) = {*(bank.folder / "forgot").glob("*")} - before
    (folder / "0004.safetensors").unlink()
    Noting.asked.clear()
    again = unlearned(bank, original, Noting(), forget, place=CPU)()
    assert len(Noting.asked) == 1, "what was done stays"
    assert np.array_equal([*again.logits], [*found.logits])
    folders = len(os.listdir(bank.folder / "forgot"))
    unlearned(bank, original, Noting(), forget, seed=1, place=CPU)()
    assert len(os.listdir(bank.folder / "forgot")) == folders + 1
    (folder / "0001.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match=r"0001\.safetensors"):
        unlearned(bank, original, Noting(), forget, place=CPU)()


def test_models_that_diverge_are_told_with_their_partners_left_out(
    original: Trained, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    place = replace(CPU, tell=told.append)
    forget = list(original.split.retain[40:80])
    monkeypatch.setattr(Noting, "bad", (3,))
    found = unlearned(bank, original, Noting(), forget, place=place)()
    assert len(found) == 4
    assert found.left_out == ("model 3 of the bank: it is not finite",) == tuple(told)
    whole = bank.shadows.learned
    assert np.array_equal(found.learned, whole[[0, 1, 4, 5]])
    monkeypatch.setattr(Noting, "bad", (1, 3))
    with pytest.raises(ConfigError, match=r"2 of 6 models .* diverged"):
        unlearned(bank, original, Noting(), forget[:39], place=place)()


def test_what_cannot_be_forgotten_is_refused_before(
    original: Trained, bank: Bank, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="forgot in 0 requests"):
        unlearned(bank, original, original)
    twice = unlearn(original, "random:0.1", "gradient_ascent", place=CPU)
    twice = unlearn(twice, "random:0.1", "gradient_ascent", place=CPU)
    with pytest.raises(ConfigError, match="forgot in 2 requests"):
        unlearned(bank, original, twice)
    with pytest.raises(ConfigError, match="learned nothing"):
        unlearned(bank, original, Noting(), original.split.validation[:5])
    with pytest.raises(ConfigError, match="only 0 pairs"):
        unlearned(bank, original, Noting(), original.split.retain[:1])
    bare = build(original, tmp_path / "bare", models=4, keep=False, place=CPU)
    with pytest.raises(ConfigError, match="have weights"):
        unlearned(bare, original, Noting(), original.split.retain[:40])


def weights(one: Trained) -> torch.Tensor:
    return torch.cat([value.flatten() for value in one.model.state_dict().values()])


@pytest.mark.parametrize("request_", ["random:0.2", "class:3"])
def test_swapped_worlds_differ_in_what_was_forgotten_alone(
    original: Trained, request_: str
) -> None:
    subject = unlearn(original, request_, Retrain(), place=CPU)
    make = swapped(original, subject, place=CPU)
    made = make()
    assert make() is made, "it is made once"
    forget, others = made.forget_ids, made.other_ids
    assert len(forget) == len(others) > 20 and set(forget) <= set(subject.split.forget)
    assert not set(others) & {*subject.split.retain, *subject.split.forget}
    models = (
        made.made_without_f,
        made.made_without_t,
        made.retrained_without_f,
        made.retrained_without_t,
    )
    for one in models:
        labels = one.data.train.labels
        where = [one.data.train.rows_of(ids) for ids in (forget, others)]
        assert np.array_equal(labels[where[0]], labels[where[1]])
        assert set(one.split.retain) == set(subject.split.retain)
        assert not {*others} & {*one.split.validation, *one.data.test.ids.tolist()}
        assert one.data.normalisation == original.data.normalisation
    assert [one.split.forget for one in models[:2]] == [
        made.made_without_f.split.forget,
        made.made_without_t.split.forget,
    ]
    assert set(models[0].split.forget) == set(forget) and set(models[1].split.forget) == set(others)
    assert torch.equal(weights(models[0]), weights(models[1])), "an exact method leaves no trace"


def test_swapped_worlds_show_a_method_that_does_nothing(original: Trained) -> None:
    subject = unlearn(original, "random:0.2", GradientAscent(epochs=1), place=CPU)
    made = swapped(original, subject, place=CPU)()
    assert not torch.equal(weights(made.made_without_f), weights(made.made_without_t))
    assert made.made_without_f.record.settings == subject.record.settings


def test_swapping_needs_unseen_samples_and_a_recipe() -> None:
    data = load_data("digits", test="none")
    split = Split.whole(data, validation=0.0)
    made = train(data, "mlp", recipe=Recipe(epochs=1, batch_size=256), split=split, place=CPU)
    subject = unlearn(made, "class:3", "gradient_ascent", place=CPU)
    with pytest.raises(ConfigError, match="kept a sample unseen"):
        swapped(made, subject)
    with pytest.raises(ConfigError, match="trained by a recipe alone"):
        swapped(replace(made, recipe=None), subject)
