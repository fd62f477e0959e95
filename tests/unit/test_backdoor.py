"""Backdoor scores: against counting by hand, at their limits, and absent where there is no poison."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import digits, original, run_on_cpu, score_outputs, scores_of
from hypothesis import given
from hypothesis import strategies as st

from expunge import ConfigError, Split, SplitError
from expunge.audits.backdoor import (
    accuracy_on_clean,
    attack_success,
    attack_success_on_all,
    attack_success_on_rest,
)
from expunge.audits.observe import observe
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.data.load import Data, poisoned
from expunge.data.poison import NEXT, Poison, Poisoning, Target
from expunge.data.triggers import Patch
from expunge.scores.score import Score
from expunge.scores.statistics import wilson
from expunge.scores.table import SCORES

NAMES = ["ASR", "ASR_all", "ASR_rest", "SA"]


def backdoor_scores(outputs: Outputs) -> list[Score]:
    return [score for score in score_outputs(outputs) if score.name in NAMES]


def part(said: Any, labels: Any, name: str = "t") -> PartOutputs:
    """Samples of these labels that a model of four classes calls `said`."""
    logits = 2 * torch.nn.functional.one_hot(torch.as_tensor(said), 4).float()
    return PartOutputs(
        logits, torch.as_tensor(labels), tuple(f"{name}-{i}" for i in range(len(logits)))
    )


def random_part(n: int, seed: int, name: str = "t") -> PartOutputs:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    logits = torch.randn(n, 4, generator=generator)
    return PartOutputs(logits, labels, tuple(f"{name}-{i}" for i in range(n)))


def by_hand(outputs: PartOutputs, target: Target, *, every: bool) -> tuple[int, int]:
    """(called the target, asked), one image after another in float64."""
    called = asked = 0
    for row, label in zip(outputs.logits.double().tolist(), outputs.labels.tolist(), strict=True):
        goal = (label + 1) % 4 if target == "next" else target
        if not every and label == goal:
            continue
        best = 0
        for number in range(len(row)):
            if row[number] > row[best]:
                best = number
        asked += 1
        called += best == goal
    return called, asked


@given(st.integers(1, 80), st.integers(0, 500), st.sampled_from([0, 1, 2, 3, NEXT]))
def test_scores_are_what_counting_says(n: int, seed: int, target: Target) -> None:
    triggered = random_part(n, seed)
    found = [(attack_success_on_all(triggered, target), True)]
    if target == NEXT or (triggered.labels != target).any():
        found.append((attack_success(triggered, target), False))
    for score, every in found:
        called, asked = by_hand(triggered, target, every=every)
        assert score.n == asked
        assert score.value == pytest.approx(100 * called / asked)
        low, high = wilson(called, asked)
        assert (score.low, score.high) == (100 * low, 100 * high)
    right = sum(
        max(range(4), key=row.__getitem__) == label
        for row, label in zip(triggered.logits.tolist(), triggered.labels.tolist(), strict=True)
    )
    assert accuracy_on_clean(triggered).value == pytest.approx(100 * right / n)


def test_images_of_the_target_class_do_not_count() -> None:
    """Two of five others are called the target; the target's own three are, trigger or not."""
    triggered = part([0, 0, 1, 2, 3, 0, 0, 0], [1, 2, 1, 2, 3, 0, 0, 0])
    score = attack_success(triggered, 0)
    assert (score.value, score.n, score.detail["left_out"]) == (40.0, 5, 3)
    assert attack_success_on_all(triggered, 0).value == pytest.approx(100 * 5 / 8)
    # whatever they are called
    other = part([0, 0, 1, 2, 3, 3, 3, 3], [1, 2, 1, 2, 3, 0, 0, 0])
    assert attack_success(other, 0).value == 40.0


def test_all_to_all_asks_each_image_for_its_next_class() -> None:
    """Three of five are called the class after their own, one of them the first after the last."""
    triggered = part([1, 2, 0, 3, 0], [0, 1, 3, 3, 1])
    score = attack_success(triggered, NEXT)
    assert (score.value, score.n, score.detail) == (60.0, 5, {"target": "next", "left_out": 0})
    assert attack_success_on_all(triggered, NEXT).value == 60.0
    # poisoned samples that stay have the label that the poison gave them
    assert attack_success_on_rest(part([1, 2], [1, 3]), NEXT).value == 50.0
    outputs = Outputs(None, None, None, triggered=triggered, target=NEXT)
    assert [one.name for one in backdoor_scores(outputs)] == ["ASR", "ASR_all"]


def test_a_perfect_model_has_the_floor_of_asr_all() -> None:
    labels = [0, 1, 2, 3] * 10
    perfect = part(labels, labels)
    assert attack_success(perfect, 2).value == 0.0
    assert attack_success_on_all(perfect, 2).value == 25.0
    assert attack_success(part([2] * 40, labels), 2).value == 100.0


def test_sa_is_over_the_whole_test_set() -> None:
    kept, gone = part([0, 1, 1], [0, 1, 2]), part([3, 0], [3, 3], "g")
    assert accuracy_on_clean(kept, gone, None).value == 60.0
    outputs = Outputs(None, None, kept, gone, triggered=part([0] * 5, [0, 1, 2, 3, 3]), target=0)
    assert {s.name: s.value for s in backdoor_scores(outputs)}["SA"] == 60.0


def test_units_targets_and_names_are_the_tables() -> None:
    outputs = Outputs(
        None,
        None,
        random_part(30, 0),
        triggered=random_part(30, 1),
        rest=random_part(9, 2, "r"),
        target=1,
    )
    scores = score_outputs(outputs)
    assert [s.name for s in scores] == ["TA", *NAMES]
    for score in scores[1:]:
        assert (score.unit, score.target) == (SCORES[score.name].unit, SCORES[score.name].target)
        assert score.low is not None and score.high is not None
        assert 0 <= score.low <= score.value <= score.high <= 100
    assert [SCORES[name].target for name in NAMES] == ["low", "low", "low", "high"]


def test_what_is_absent_is_left_out() -> None:
    test = random_part(30, 0)
    assert score_outputs(Outputs(None, None, test))[1:] == []
    only = Outputs(None, None, test, triggered=part([0, 1], [2, 2]), target=2)
    assert [s.name for s in backdoor_scores(only)] == ["ASR_all", "SA"]
    for function in (attack_success, attack_success_on_all, attack_success_on_rest):
        with pytest.raises(ConfigError, match=r"ASR.* needs samples"):
            function(part(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)), 0)
    with pytest.raises(ConfigError, match="SA needs samples"):
        accuracy_on_clean(None)


@pytest.mark.parametrize("target", [None, -1, 4])
def test_a_target_must_be_a_class(target: int | None) -> None:
    with pytest.raises(ConfigError, match="none of this model's 4 classes"):
        Outputs(None, None, None, triggered=random_part(3, 0), target=target)


def test_a_reference_fills_in_and_must_fit() -> None:
    first = Outputs(None, None, random_part(30, 0), triggered=random_part(30, 1), target=0)
    other = replace(first, triggered=random_part(30, 2))
    scores = {s.name: s for s in score_outputs(first, other)}
    assert other.triggered is not None
    assert scores["ASR"].reference == attack_success(other.triggered, 0).value
    with pytest.raises(SplitError, match="triggered part holds other samples"):
        score_outputs(first, replace(first, triggered=random_part(30, 1, "else")))


def poisoned_digits(**fields: Any) -> tuple[Data, Split]:
    data = poisoned(digits(300), Poison(**{"target": "3", "share": 0.3, **fields}))
    return data, Split.parse(data, "poison:0.5")


def test_what_is_observed_is_what_was_learned_and_the_test_set_twice() -> None:
    data, split = poisoned_digits()
    clean, model, run = digits(300), original("mlp"), run_on_cpu()
    outputs = observe(model, data, split, run)
    assert outputs.forget is not None and outputs.retain is not None and outputs.rest is not None
    assert outputs.triggered is not None and outputs.test_kept is not None
    assert data.poison is not None and outputs.target == 3
    assert outputs.forget.labels.tolist() == [3] * len(split.forget)

    def said(images: torch.Tensor) -> torch.Tensor:
        normal = data.normalisation
        assert normal is not None
        with torch.no_grad():
            return model((images.double() / 255 - normal.mean[0]).div(normal.std[0]).float())

    images, tested = clean.train.store.whole(), clean.test.store.whole()
    assert images is not None and tested is not None
    rows = [data.train.position[name] for name in outputs.forget.ids]
    assert torch.allclose(outputs.forget.logits, said(Patch().apply(images[rows])), atol=1e-4)
    assert outputs.triggered.ids == tuple(clean.test.ids.tolist())
    assert outputs.triggered.labels.tolist() == clean.test.labels.tolist()
    assert torch.allclose(outputs.triggered.logits, said(Patch().apply(tested)), atol=1e-4)
    assert torch.allclose(outputs.test_kept.logits, said(tested), atol=1e-4)
    # the rest: poisoned, retained, and of another class before
    expected = {
        name
        for name in data.poison.ids.intersection(split.retain)
        if clean.train.labels[clean.train.position[name]] != 3
    }
    assert set(outputs.rest.ids) == expected
    assert 0 < len(expected) < len(data.poison.ids.intersection(split.retain))


def test_other_scores_do_not_change() -> None:
    data, split = poisoned_digits()
    unknown = replace(data, poison=None)
    model = original("mlp")
    told = scores_of(model, data, split, original=model, device="cpu")
    plain = scores_of(model, unknown, split, original=model, device="cpu")
    assert [s.name for s in plain] == ["UA", "RA", "TA", "MIA"]
    assert [s.name for s in told] == ["UA", "RA", "TA", "MIA", *NAMES]
    assert [s.to_dict() for s in told[:4]] == [s.to_dict() for s in plain]
    for score in told[4:]:
        assert score.detail["original"] == score.value


def test_without_a_trigger_only_what_can_be_known() -> None:
    data, split = poisoned_digits()
    assert data.poison is not None
    some = Poisoning(data.poison.ids, None, 3)
    names = [
        s.name for s in scores_of(original("mlp"), replace(data, poison=some), split, device="cpu")
    ]
    assert names[4:] == ["ASR_rest", "SA"]
    unknown = Poisoning(data.poison.ids)
    names = [
        s.name
        for s in scores_of(original("mlp"), replace(data, poison=unknown), split, device="cpu")
    ]
    assert names[4:] == []


def test_scores_do_not_depend_on_order() -> None:
    triggered = random_part(60, 3)
    order = np.random.default_rng(0).permutation(60).tolist()
    shuffled = PartOutputs(
        triggered.logits[order], triggered.labels[order], tuple(triggered.ids[i] for i in order)
    )
    assert attack_success(triggered, 1) == attack_success(shuffled, 1)
