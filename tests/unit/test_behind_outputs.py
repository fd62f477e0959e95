"""Audits that lay a model beside retrained ones: predictions, features, neighbours, what comes back."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, digits, forgotten_eight, run_on_cpu, same_state, toy
from torch import Tensor, nn

from expunge.api import adopt, audit, unlearn
from expunge.audits import cka as alignments
from expunge.audits.activation_distance import distances, floors
from expunge.audits.cka import alignment, independence
from expunge.audits.likeness import divergences
from expunge.audits.neighbour_mia import held_out_decisions, shares
from expunge.audits.references import read_beside
from expunge.audits.relearn import Relearned, found_of_times
from expunge.audits.relearn_held_out import RelearnHeldOut
from expunge.audits.told_apart import auc
from expunge.audits.zrf import ZeroRetrainForgetting
from expunge.data.split import Split
from expunge.scores.info import ScoreInfo
from expunge.scores.margins import STATED, Margins
from expunge.scores.score import Score
from expunge.scores.table import SCORES
from expunge.trained.trained import Trained


def found(made: Trained, also: Any, retrained: Any = None, first: Trained | None = None) -> Any:
    """Scores beside the original and five retrained models."""
    known, again = forgotten_eight()
    retrained = again[:5] if retrained is None else retrained
    also = [also]
    return audit(made, original=first or known, retrained=retrained, also=also, place=CPU)


def untouched() -> Trained:
    """The original, said to have forgotten."""
    first, again = forgotten_eight()
    return replace(again[5], model=first.model)


def word(score: Score) -> str:
    assert score.finding is not None
    return score.finding.word


def probabilities(one: Trained, split: Split) -> np.ndarray:
    """Of the forget samples, in the order of the split, float64, one by one."""
    rows = one.data.train.rows_of(split.forget)
    mean = np.array(one.data.normalisation.mean)  # type: ignore[union-attr]
    std = np.array(one.data.normalisation.std)  # type: ignore[union-attr]
    images = one.data.train.store.tensor[rows].numpy() / 255  # type: ignore[attr-defined]
    inputs = (images - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        logits = one.model(torch.from_numpy(inputs.astype(np.float32))).double().numpy()
    each = []
    for z in logits:
        p = np.exp(z - z.max())
        each.append(p / p.sum())
    return np.array(each)


# --- predictions


def test_the_distance_of_predictions_is_the_mean_of_norms_and_its_floor_that_of_retrained() -> None:
    first, again = forgotten_eight()
    made = again[5]
    p = [probabilities(one, made.split) for one in (made, first, *again[:3])]

    def apart(one: int, *others: int) -> float:
        each = [
            np.sqrt(sum((a - b) ** 2)) for k in others for a, b in zip(p[one], p[k], strict=True)
        ]
        return float(np.mean(each))

    score = found(made, "activation_distance", again[:3])["activation_distance"]
    assert score.value == pytest.approx(apart(0, 2, 3, 4), rel=1e-4)
    assert score.detail["original"] == pytest.approx(apart(1, 2, 3, 4), rel=1e-4)
    floor = [apart(2, 3, 4), apart(3, 2, 4), apart(4, 2, 3)]
    wider = [max(0, 2 * one - np.mean(floor)) for one in floor]
    assert score.detail["references"] == pytest.approx(wider, rel=1e-4)
    assert np.mean(list(score.per_sample.values())) == pytest.approx(score.value)
    assert word(found(untouched(), "activation_distance")["activation_distance"]) == "outside"


def test_a_model_is_at_no_distance_from_itself_and_one_retrained_model_shows_no_floor() -> None:
    made = forgotten_eight()[1][0]
    score = found(made, "activation_distance", [made])["activation_distance"]
    assert score.value == 0 and score.reference is None
    assert word(score) == "not measurable" and "give more" in score.finding.why
    eye = torch.eye(3, dtype=torch.float64)
    assert distances(eye, [eye.roll(1, 0)]).tolist() == pytest.approx([2**0.5] * 3)


def test_a_distance_below_those_between_retrained_models_is_as_near_as_these() -> None:
    info = SCORES["activation_distance"]
    near = Score("activation_distance", 0.0, 90, None, None, info.unit, info.target)
    floor = [0.2, 0.21, 0.2, 0.19, 0.2]
    below = read_beside(near, 1.0, floor, info, STATED, lower_is_nearer=True)
    assert word(below) == "within" and not below.finding.beyond, "nearer is not beyond"
    assert word(read_beside(near, 1.0, floor, info, STATED)) == "outside"
    blunt = read_beside(near, 0.2, floor, info, STATED, lower_is_nearer=True)
    assert word(blunt) == "not measurable" and blunt.finding.interval == below.finding.interval
    few = replace(near, n=29)
    assert word(read_beside(few, 1.0, floor, info, STATED)) == "not measurable"
    silent = ScoreInfo("x", "", "", "low", "")
    assert read_beside(near, 1.0, floor, silent, STATED).finding is None


def test_a_true_retraining_is_seldom_far_by_distances() -> None:
    """Distances of retrained models are nearer together than a further one's, for pairs share them."""
    generator, alarms = np.random.default_rng(3), 0
    for _ in range(300):
        models = [torch.from_numpy(generator.normal(size=(1, 20))) for _ in range(6)]
        value = float(distances(models[0], models[1:])[0])
        score = Score("activation_distance", value, 90, None, None, "distance", "retrained")
        margins, info = Margins({"activation_distance": 1e-9}), SCORES["activation_distance"]
        floor = floors(models[1:])
        alarms += (
            word(read_beside(score, None, floor, info, margins, lower_is_nearer=True)) == "outside"
        )
    assert 1 <= alarms <= 15
    assert floors(models[:1]) == [] and len(set(floors(models[:2]))) == 1


def test_zrf_is_one_for_the_random_network_itself_and_else_the_formula() -> None:
    made = forgotten_eight()[1][0]
    how = ZeroRetrainForgetting(networks=1)
    run = replace(run_on_cpu(), names=("zrf", 0), constructor=made.fresh)
    network = replace(made, model=run.fresh(0))
    assert found(network, how, [made])["zrf"].value == pytest.approx(1)
    score = found(made, how, [made])["zrf"]
    each = []
    for p, q in zip(
        probabilities(made, made.split), probabilities(network, made.split), strict=True
    ):
        middle = (p + q) / 2
        bits = sum(
            a * np.log2(a / m) for one in (p, q) for a, m in zip(one, middle, strict=True) if a > 0
        )
        each.append(1 - bits / 2)
    assert score.value == pytest.approx(np.mean(each), abs=1e-5)
    assert score.value < 0.9 and score.reference == pytest.approx(score.value)
    nobody = replace(made, fresh=None)
    assert "untrained" in found(nobody, how, [made])["zrf"].finding.why


def test_divergence_is_one_bit_of_what_has_nothing_in_common() -> None:
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    assert divergences(p, p.flip(1)).tolist() == [1.0, 0.0]


# --- features


def layered(change: Tensor | None = None) -> Trained:
    """Two layers on digits; the first turned and scaled by a matrix."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Linear(12, 10))
    if change is not None:
        with torch.no_grad():
            model[1].weight.copy_(change @ model[1].weight)  # type: ignore[operator]
            model[1].bias.copy_(change @ model[1].bias + 7)  # type: ignore[operator]
    return adopt(model, digits())


def test_rotation_shift_and_scale_leave_features_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q
    stretch = torch.diag(torch.logspace(-2, 2, 12))
    models = [layered(), layered(5 * turn), layered(stretch @ turn)]
    ids = digits().train.ids[:100].tolist()
    alike = alignment(models, ["1"], ids, run_on_cpu())[0]
    assert alike[0, 1] == pytest.approx(1, abs=1e-4) and np.allclose(np.diag(alike), 1)
    assert alike[0, 2] < 0.9
    monkeypatch.setattr(alignments, "AT_ONCE", 25)
    pieces = alignment(models, ["1"], ids, run_on_cpu())[0]
    assert np.allclose(pieces, alike, atol=0.1), "in pieces, so that memory does not grow"


def test_independence_is_the_mean_over_all_fours_of_samples() -> None:
    """Without bias: that of unrelated features is 0 in the mean, however many features there are."""
    generator = np.random.default_rng(0)

    def gram(n: int, width: int) -> Tensor:
        inputs = torch.from_numpy(generator.normal(size=(n, width)))
        return inputs @ inputs.mT

    k, m = gram(6, 3), gram(6, 4)
    each = [
        float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]))
        for i, j, q, r in itertools.permutations(range(6), 4)
    ]
    value = independence(torch.stack([k, m]))
    assert float(value[0, 1]) == pytest.approx(np.mean(each))
    many = [independence(torch.stack([gram(20, 400), gram(20, 400)])) for _ in range(200)]
    alike = [float(one[0, 1] / (one[0, 0] * one[1, 1]).sqrt()) for one in many]
    assert abs(np.mean(alike)) < 0.02


def test_cka_is_a_diagnosis_beside_what_retrained_models_have_among_themselves() -> None:
    first = untouched()
    before = copy.deepcopy(first.model)
    score = found(first, "cka")["cka"]
    assert word(score) == "not measurable" and "diagnosis" in score.finding.why
    assert 0 < score.value < score.reference < 1
    assert set(score.detail["layers"]) == set(score.detail["floor"]) == {"fc1", "fc2", "fc3"}
    assert same_state(first.model, before)
    assert not any(module._forward_hooks for module in first.model.modules())


# --- neighbours


class Mixed(nn.Module):
    """Knows the first `known` of four classes, by how near their middles are; or spreads the last one
    evenly over the others.
    """

    def __init__(self, known: int, seed: int = 0, even: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.middles = nn.Parameter(MIDDLES + 0.02 * torch.randn(4, 2, generator=generator))
        self.known, self.even = known, even

    def forward(self, inputs: Tensor) -> Tensor:
        logits = -(inputs[:, None] - self.middles).square().sum(dim=2)
        if self.even:
            alike = torch.zeros_like(logits)
            logits = torch.where(logits.argmax(dim=1, keepdim=True) == 3, alike, logits)
        logits[:, self.known :] = -30
        return logits


MIDDLES = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [1.0, 7.0]])


def test_a_class_that_is_spread_evenly_is_found_out() -> None:
    """The forgotten class lies beside the third; retrained models take it for that one."""
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(800) % 4
    inputs = MIDDLES[labels] + torch.randn(800, 2, generator=generator)
    whole = toy(labels.tolist(), inputs=inputs)
    data = replace(
        whole,
        train=whole.train.subset(np.arange(400)),
        test=whole.train.subset(np.arange(400, 800)),
    )
    split = Split.classes(data, [3], base=Split.whole(data, validation=0))

    def adopted(model: nn.Module) -> Trained:
        return adopt(model, data, split=split)

    first = adopt(Mixed(4), data, split=split.whole_again())
    again = [adopted(Mixed(3, seed)) for seed in range(1, 7)]
    common: dict[str, Any] = {"retrained": again[:5], "first": first}
    honest = found(again[5], "neighbour_mia", **common)["neighbour_mia"]
    score = found(adopted(Mixed(3, even=True)), "neighbour_mia", **common)["neighbour_mia"]
    assert word(honest) != "outside" and 60 < honest.value < 90
    assert word(score) == "outside" and score.value > honest.value + 5
    assert set(score.per_sample) == set(split.forget)
    assert score.detail["neighbours"]["3"][0] == "2"


def test_tiny_classes_have_no_neighbours_and_other_requests_none() -> None:
    data = digits(100)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    tiny = adopt(model, data, split=Split.classes(data, [8]))
    score = audit(tiny, also=["neighbour_mia"], place=CPU)["neighbour_mia"]
    assert word(score) == "not measurable" and "are needed" in score.finding.why  # type: ignore
    some = adopt(model, data, split=Split.random(data, 0.5))
    assert "neighbour_mia" not in audit(some, also=["neighbour_mia"], place=CPU)


def test_the_attack_tells_what_can_be_told_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    targets = np.repeat([1, 0], [150, 100])
    noise = generator.normal(size=(250, 5))
    nothing = held_out_decisions(noise, targets)
    assert 38 < auc(nothing[:150], nothing[150:])[0] < 62, "it learned from others than it judges"
    noise[:150, 2] += 8
    told = held_out_decisions(noise, targets)
    assert auc(told[:150], told[150:])[0] == 100
    rest = shares(np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]), [1, 2])
    assert np.allclose(rest, [[0.6, 0.4], [0.5, 0.5]])


# --- what comes back


def test_a_masked_head_comes_back_and_a_retrained_model_does_not() -> None:
    first, again = forgotten_eight()
    masked = unlearn(first, "class:8", "head_zeroed", place=CPU)
    before = copy.deepcopy(masked.model)
    how = RelearnHeldOut(most=4)
    scores = found(masked, how)
    assert scores["UA"].value == 100, "its outputs show nothing"
    score, right = scores["relearn_held_out"], scores["relearn_held_out_accuracy"]
    assert word(score) == "outside" and score.value > 0.1
    assert right.value > 0.2 and right.finding is None
    assert same_state(masked.model, before)
    taught = len(masked.split.forget) - len(score.per_sample)
    assert len(score.per_sample) == (len(masked.split.forget) + 1) // 2 and taught > 4
    assert score.detail["tunings"] == ("1", "4", "unrelated")
    honest = found(again[5], how)["relearn_held_out"]
    assert word(honest) == "within" and abs(honest.value) < 0.1


def test_the_scale_goes_from_retrained_to_original() -> None:
    _, (one, *_) = forgotten_eight()
    how = RelearnHeldOut(steps=2, most=4)
    assert found(one, how, [one])["relearn_held_out"].value == 0
    score = found(untouched(), how, [one])["relearn_held_out"]
    assert score.value == pytest.approx(1) and score.reference == 0
    assert score.detail["original"] == 1 and word(score) == "outside"
    nothing = found(untouched(), how, [untouched()])["relearn_held_out"]
    assert word(nothing) == "not measurable" and "hardly better" in nothing.finding.why


def test_few_samples_leave_none_to_hold_out() -> None:
    first, _ = forgotten_eight()
    few = Split.indices(first.data, range(40), base=first.split)
    made = adopt(first.model, first.data, split=few)
    score = audit(made, original=first, retrained=[made], also=["relearn_held_out"], place=CPU)[
        "relearn_held_out"
    ]
    assert word(score) == "not measurable" and "held-out" in score.finding.why  # type: ignore


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ((20, True), [(20, True)] * 5, "within"),
        ((20, True), [(20, True)] * 2, "undecided"),
        ((5, True), [(20, True), (22, True), (19, True)], "outside"),
        ((500, False), [(20, True)] * 5, "outside"),
        ((5, True), [(500, False)] * 5, "outside"),
        ((9, True), [(20, True)], "undecided"),
        ((2, True), [(20, True)], "outside"),
        ((500, False), [(500, False), (499, True)] * 3, "undecided"),
        ((500, False), [(12, False)] * 5, "not measurable"),
        ((0, True), [(0, True)] * 5, "not measurable"),
    ],
)
def test_relearn_time_within_half_and_twice_the_steps_of_retraining(
    mine: tuple[int, bool], theirs: list[tuple[int, bool]], expected: str
) -> None:
    result = found_of_times(Relearned(*mine), [Relearned(*one) for one in theirs], 500)
    assert result.word == expected
    if expected != "not measurable":
        assert result.why.startswith(f"{mine[0]} steps against ")


def test_one_more_retrained_model_relearns_in_so_many_steps() -> None:
    """By hand on the scale of doublings: 3 and 7 and 15 steps are 2, 3 and 4 of them."""
    found = found_of_times(Relearned(1, True), [Relearned(n, True) for n in (3, 7, 15)], 100)
    half = 4.302653 * (4 / 3) ** 0.5
    assert found.interval == pytest.approx((0.0, 100.0)), "from no step to the cap"
    assert not found.beyond and found.band is None
    many = found_of_times(Relearned(1, True), [Relearned(n, True) for n in (31, 63, 127)], 10**6)
    assert many.interval == pytest.approx((2 ** (6 - half) - 1, 2 ** (6 + half) - 1), rel=1e-5)
    assert many.beyond


def test_where_each_audit_looks() -> None:
    from expunge.audits import AUDITS

    families = {name: one.family for name, one in AUDITS.items()}
    behind = {"linear_probe", "cka", "weight_distance"}
    assert {name for name, one in families.items() if one == "representation"} == behind
    again = {"relearn_time", "relearn_held_out"}
    assert {name for name, one in families.items() if one == "reversal"} == again
