"""No forgotten sample is taught a class that was itself forgotten, now or by an earlier request."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import digits, original, run_on_cpu, toy, view_of
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.methods import make_method
from expunge.methods.delete import without_label
from expunge.methods.shared.targets import open_classes

TEACHES: dict[str, dict[str, Any]] = {
    "random_label": {"epochs": 1},
    "random_label:salun": {"epochs": 2},
    "salun": {"epochs": 1},
    "boundary_shrink": {"epochs": 1},
    "amun": {"epochs": 1, "steps": 5, "retain": False, "adv_only": True},
}


class Taught(Classification):
    """The labels that forget samples were trained on."""

    def __init__(self, data: Data, split: Split) -> None:
        rows = data.train.rows_of(list(split.forget))
        self.own = dict(zip(split.forget, data.train.labels[rows].tolist(), strict=True))
        self.pairs: set[tuple[int, int]] = set()

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        if torch.is_grad_enabled() and model.training:
            for name, label in zip(batch.ids, batch.labels.tolist(), strict=True):
                if str(name) in self.own:
                    self.pairs.add((self.own[str(name)], label))
        return super().losses(model, batch)


def taught(name: str, data: Data, split: Split, model: nn.Module) -> set[tuple[int, int]]:
    task = Taught(data, split)
    method = make_method(name, TEACHES[name], allow_code=False)
    method.unlearn(model, view_of(data, split), run_on_cpu(task=task))
    assert task.pairs
    return task.pairs


@pytest.mark.parametrize("name", TEACHES)
def test_classes_that_are_forgotten_now_or_before_are_no_targets(name: str) -> None:
    data = digits()
    before = Split.classes(data, [8, 9, 1]).settled()
    both = Split.classes(data, [3, 5], base=before)
    pairs = taught(name, data, both, original("mlp"))
    assert {own for own, _ in pairs} == {3, 5}
    assert not {given for _, given in pairs} & {1, 3, 5, 8, 9}


@pytest.mark.parametrize("name", [name for name in TEACHES if name != "boundary_shrink"])
def test_samples_of_a_class_that_stays_are_taught_none_that_went(name: str) -> None:
    data = digits()
    before = Split.classes(data, [8, 9, 1]).settled()
    pairs = taught(name, data, Split.random(data, 0.2, base=before), original("mlp"))
    assert not {given for _, given in pairs} & {1, 8, 9}


def test_where_no_other_class_stays_any_is_taught() -> None:
    labels = torch.tensor([0, 1, 2])
    assert open_classes(labels, 3, [1, 2]).tolist() == [
        [False, True, True],
        [True, False, False],
        [True, False, False],
    ]
    assert open_classes(labels, 3, []).logical_not().equal(torch.eye(3, dtype=torch.bool))


def test_the_last_class_that_stays_is_taught_another() -> None:
    data = toy([row % 2 for row in range(40)])
    before = Split.classes(data, [1], base=Split.whole(data, validation=0.0)).settled()
    split = Split.random(data, 0.3, base=before)
    assert taught("random_label", data, split, nn.Linear(2, 2)) == {(0, 1)}


def test_delete_strikes_out_all_classes_that_went() -> None:
    data = digits()
    before = Split.classes(data, [8]).settled()
    view = view_of(data, Split.classes(data, [3, 5], base=before))
    assert view.forgotten_classes == (3, 5, 8)
    assert not view.reads[Part.FORGET] + view.reads[Part.FORGET_LABELS]
    says = without_label(torch.zeros(2, 10), torch.tensor([3, 5]), view.forgotten_classes)
    assert says.isinf().sum(0).nonzero().flatten().tolist() == [3, 5, 8]
    model, run = original("mlp"), run_on_cpu()
    with torch.no_grad():  # surest of another that goes, as where these lie close together
        list(model.parameters())[-1][[3, 5, 8]] += 20.0
    made = make_method("delete", {"epochs": 30, "lr": 0.05}, allow_code=False).unlearn(
        model, view, run
    )
    batch = next(iter(view.batches(Part.FORGET, 100)))
    with torch.no_grad():
        said = made.eval()(batch.inputs).argmax(1)
    assert not set(said.tolist()) & {3, 5, 8}
