"""Relearn time and AIN, weight distance, prediction distribution: what they are, and on copies."""

from __future__ import annotations

import copy
import functools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, digits, original, run_on_cpu, same_state, scores_of, unlearned, view_of
from scipy.spatial.distance import jensenshannon
from thorough import THOROUGH
from torch import Tensor, nn

from expunge.api import audit, train, unlearn
from expunge.audits import chosen_audits, further_audits, linear_probe, mia
from expunge.audits import panel as panels
from expunge.audits import relearn as relearning
from expunge.audits.criterion import criterion
from expunge.audits.linear_probe import LinearProbe
from expunge.audits.mia import Membership
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.audits.panel import Panel
from expunge.audits.predictions import (
    PredictionDistribution,
    jensen_shannon,
    mean_prediction,
    prediction_distribution,
)
from expunge.audits.relearn import Relearned, RelearnTime, relearn, relearn_scores
from expunge.audits.scores import score_panel
from expunge.audits.weights import layer_distances, weight_distance
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import AccessError, ConfigError, ModelError
from expunge.scores.shown import as_text
from expunge.scores.table import SCORES
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe


@functools.cache
def trio() -> tuple[Data, Split, Trained, Trained, Trained]:
    """Data, split, original, a model without class 3, and one to be judged."""
    data = digits(600)
    first = train(data, "cnn", recipe=Recipe(epochs=10, lr=0.05, batch_size=64), place=CPU)
    split = Split.classes(data, [3], base=first.split)
    retrained = unlearn(first, split, "retrain:paired", place=CPU)
    tuned = unlearn(first, split, "finetune", place=CPU)
    return data, split, first, retrained, tuned


# --- relearn time


class Slow(nn.Module):
    """One weight per class: logits are that weight, whatever the input is."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(10))
        with torch.no_grad():
            self.logits[3] = start

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits.expand(len(inputs), 10)


def steps_of(start: float, percent: float = 100.0, **how: Any) -> Relearned:
    data = digits(600)
    view = view_of(data, Split.classes(data, [3]), Part.FORGET)
    return relearn(
        Slow(start), view, run_on_cpu(), original_percent=percent, how=RelearnTime(**how)
    )


def test_relearn_time_is_the_number_of_steps_until_the_answer_is_right() -> None:
    """Adam moves each weight by lr a step here: class 3 rises from -0.1, the others fall from 0."""
    lr = 0.01
    found = steps_of(-0.1, lr=lr, batch_size=16)
    expected = next(k for k in range(1, 100) if -0.1 + k * lr > 0 - k * lr)
    assert found == Relearned(expected, True)


def test_a_model_that_knows_needs_no_step() -> None:
    assert steps_of(0.5) == Relearned(0, True)


def test_accuracy_is_measured_in_evaluation_mode() -> None:
    """In training mode, this dropout hides nearly every answer."""

    class Forgetful(Slow):
        def forward(self, inputs: Tensor) -> Tensor:
            hidden = nn.functional.dropout(super().forward(inputs), 0.95, self.training)
            return hidden - 1e-3 * nn.functional.one_hot(torch.tensor(3), 10)

    data = digits(600)
    view = view_of(data, Split.classes(data, [3]), Part.FORGET)
    model = Forgetful(0.5).train()
    assert relearn(model, view, run_on_cpu(), original_percent=100.0) == Relearned(0, True)


def test_no_accuracy_to_come_back_to_needs_no_step() -> None:
    assert steps_of(-0.5, percent=0.0) == Relearned(0, True)


def test_relearning_stops_at_the_cap() -> None:
    assert steps_of(-1e3, lr=1e-4, cap=7, batch_size=16) == Relearned(7, False)


def test_the_margin_is_relative_to_the_original() -> None:
    """Within 5 % of 60 is 57, and not 55: of 55 samples, 31 are not enough and 32 are."""

    class RightOften(Slow):
        share = 0.0

        def forward(self, inputs: Tensor) -> Tensor:
            right = torch.arange(len(inputs)) < round(self.share * len(inputs))
            flat = torch.zeros(len(inputs), 10) + 0 * self.logits.sum()
            return flat + 5.0 * nn.functional.one_hot(torch.where(right, 3, 4), 10)

    data = digits(600)
    view = view_of(data, Split.classes(data, [3]), Part.FORGET)
    how = RelearnTime(cap=1, batch_size=1000)
    assert len(Split.classes(data, [3]).forget) == 55
    for share, wanted in ((31 / 55, False), (32 / 55, True)):
        model = RightOften(0.0)
        model.share = share
        found = relearn(model, view, run_on_cpu(), original_percent=60.0, how=how)
        assert (found.steps == 0) is wanted


@THOROUGH
def test_relearning_leaves_the_model_as_it_was() -> None:
    data, split, _, retrained, _ = trio()
    model = copy.deepcopy(retrained.model)
    modes = [module.training for module in model.modules()]
    view = view_of(data, split, Part.FORGET)
    before = torch.get_rng_state()
    found = relearn(model, view, run_on_cpu(), original_percent=100.0)
    assert found.steps > 0
    assert same_state(model, retrained.model)
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)
    assert found == relearn(model, view, run_on_cpu(), original_percent=100.0)
    with pytest.raises(AccessError):
        relearn(model, view_of(data, split, Part.RETAIN), run_on_cpu(), original_percent=100.0)


def test_a_model_that_cannot_learn_any_more_is_told_from_one_that_does() -> None:
    data = digits(600)
    view = view_of(data, Split.classes(data, [3]), Part.FORGET)
    wild = RelearnTime(lr=1e6, cap=50, batch_size=16)
    found = relearn(original("cnn"), view, run_on_cpu(), original_percent=100.0, how=wild)
    assert not found.reached
    assert found.steps < 50


def test_a_sparse_model_stays_sparse_while_it_relearns() -> None:
    """Every weight is cut, so it never gets there."""
    data = digits(600)
    view = view_of(data, Split.classes(data, [3]), Part.FORGET)
    model = Slow(-0.1)
    mask = {"logits": torch.zeros(10, dtype=torch.bool)}
    how = RelearnTime(lr=0.01, batch_size=16, cap=20)
    free = relearn(model, view, run_on_cpu(), original_percent=100.0, how=how)
    held = relearn(model, view, run_on_cpu(mask=mask), original_percent=100.0, how=how)
    assert free.reached
    assert held == Relearned(20, False)
    assert float(model.logits.detach()[3]) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("mine", "other", "ratio", "bound"),
    [
        (Relearned(4, True), Relearned(8, True), 0.5, None),
        (Relearned(0, True), Relearned(8, True), 0.0, None),
        (Relearned(4, True), Relearned(0, True), math.nan, None),
        (Relearned(500, False), Relearned(8, True), 62.5, "at least"),
        (Relearned(23, False), Relearned(8, True), 62.5, "at least"),  # it diverged
        (Relearned(4, True), Relearned(500, False), 0.008, "at most"),
        (Relearned(0, True), Relearned(500, False), 0.0, None),
        (Relearned(500, False), Relearned(500, False), math.nan, None),
        (Relearned(500, False), Relearned(0, True), math.nan, None),
    ],
)
def test_ain_is_the_ratio_or_a_bound_and_nothing_where_there_is_none(
    mine: Relearned, other: Relearned, ratio: float, bound: str | None
) -> None:
    time, ain = relearn_scores(mine, other, cap=500)
    assert time.name == "relearn_time"
    assert (time.detail["steps"], time.detail["retrained_steps"]) == (mine.steps, other.steps)
    for value, known, one in (
        (time.value, time.bound, mine),
        (time.reference, time.reference_bound, other),
    ):
        assert (value, known) == ((one.steps, None) if one.reached else (500, "at least"))
    assert ain.value == pytest.approx(ratio, nan_ok=True) and ain.bound == bound
    assert ain.reference == 1.0
    (alone,) = relearn_scores(mine, cap=500)
    assert (alone.name, alone.value, alone.bound) == ("relearn_time", time.value, time.bound)


def test_who_never_relearns_is_shown_at_the_cap() -> None:
    text = as_text(relearn_scores(Relearned(500, False), Relearned(12, True), cap=500))
    assert "≥ 500 steps" in text and "≥ 488.00" in text and "≥ 41.67" in text
    assert (
        "this model had not relearned after 500 steps, so it counts as one that needs 500" in text
    )
    text = as_text(relearn_scores(Relearned(4, True), Relearned(23, False), cap=500))
    assert "≥ 500 steps" in text and "≤ 0.01" in text
    assert "the retrained model had not relearned after 23 steps, where it diverged, so" in text


# --- weight distance


def test_weight_distance_is_the_norm_of_the_difference() -> None:
    one, other = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), None
    other = copy.deepcopy(one)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(2.0)
        for parameter in one.parameters():
            parameter.fill_(2.0)
        one[0].weight[0, 0] += 3.0
        one[0].bias[1] -= 4.0
        one[1].running_mean += 100.0  # type: ignore[operator]  # a buffer is no weight
    found = layer_distances(one, other)
    assert list(found) == ["0", "1", ""]
    assert found["0"].l2 == pytest.approx(5.0)
    assert found["0"].relative == pytest.approx(5.0 / math.sqrt(6 * 4))
    assert found["1"].l2 == 0.0
    assert found[""].l2 == pytest.approx(5.0)
    score = weight_distance(one, other, paired="batches")
    assert score.value == pytest.approx(5.0 / math.sqrt(10 * 4))
    assert score.detail["l2"] == pytest.approx(5.0)
    assert score.detail["paired"] == "batches"
    assert score.detail["layers"]["0"]["l2"] == pytest.approx(5.0)


def test_weight_distance_of_other_architectures_and_of_zero_weights() -> None:
    with pytest.raises(ModelError, match="different parameters"):
        layer_distances(nn.Linear(2, 3), nn.Linear(3, 2))
    zero = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(zero.weight)
    assert math.isnan(layer_distances(nn.Linear(2, 2, bias=False), zero)["weight"].relative)


def test_a_paired_retraining_is_nearer_than_one_from_other_weights() -> None:
    data, split, first, paired, _ = trio()
    fresh = unlearned(
        first.model, data, split, "retrain", recipe=first.recipe, fresh="cnn", device="cpu"
    )
    near, far = (weight_distance(r.model, paired.model).value for r in (first, fresh))
    assert near < 0.8 * far


# --- prediction distribution


def part(logits: Tensor) -> PartOutputs:
    count = len(logits)
    labels = torch.zeros(count, dtype=torch.int64)
    return PartOutputs(logits.float(), labels, tuple(map(str, range(count))))


def test_jensen_shannon_equals_scipys() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        p, q = generator.dirichlet(np.full(7, 0.3), size=2)
        p[0] = 0.0
        p /= p.sum()
        found = jensen_shannon(torch.from_numpy(p), torch.from_numpy(q))
        assert found == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-12)
    same = torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64)
    assert jensen_shannon(same, same) == 0.0
    apart = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert jensen_shannon(same, apart) == pytest.approx(1.0)


def test_the_mean_prediction_is_of_probabilities_and_not_of_logits() -> None:
    logits = torch.tensor([[10.0, 0.0], [0.0, 1.0]])
    first = [math.exp(10) / (math.exp(10) + 1), 1 / (1 + math.e)]
    expected = torch.tensor([sum(first) / 2, 1 - sum(first) / 2], dtype=torch.float64)
    torch.testing.assert_close(mean_prediction(part(logits)), expected, rtol=1e-6, atol=1e-9)


def test_the_score_has_both_distributions_and_no_value_alone() -> None:
    mine, other = part(torch.tensor([[50.0, 0.0]])), part(torch.tensor([[0.0, 50.0]]))
    score = prediction_distribution(mine, other)
    assert score.value == pytest.approx(1.0)
    assert score.n == 1
    assert score.to_dict()["detail"]["retrained"] == pytest.approx([0.0, 1.0], abs=1e-12)
    alone = prediction_distribution(mine)
    assert math.isnan(alone.value)
    assert "retrained" not in alone.detail


# --- all of them, through `audit`


def test_audit_gives_them_when_asked_and_changes_no_model() -> None:
    _, _, first, retrained, tuned = trio()
    models = (first.model, retrained.model, tuned.model)
    before = [copy.deepcopy(model) for model in models]
    common: dict[str, Any] = {"original": first, "retrained": retrained, "place": CPU}
    plain = [score.name for score in audit(tuned, **common)]
    also = ["relearn_time", "weight_distance", "prediction_distribution"]
    assert set(also) <= set(further_audits())
    scores = audit(tuned, also=also, **common)
    named = {score.name: score for score in scores if score.name not in plain}
    assert [s.name for s in scores if s.name in plain] == plain
    assert list(named) == [
        "relearn_time",
        "AIN",
        "weight_distance",
        "prediction_distribution",
    ]
    assert set(named) <= set(SCORES)
    for name, score in named.items():
        assert score.unit == SCORES[name].unit
        assert score.target == SCORES[name].target
    assert named["AIN"].value < 1, "fine-tuning on the rest does not make a digit forgotten"
    assert named["weight_distance"].detail["paired"] == "batches"
    assert 0 <= named["prediction_distribution"].value <= 1
    for model, old in zip(models, before, strict=True):
        assert same_state(model, old)
        assert not model.training


def test_what_is_known_of_the_other_models_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel with another subject passes it on: fewer passes and attacks, and the same scores."""
    _, split, first, retrained, tuned = trio()
    asked: Any = [Membership(features=("confidence", "entropy")), RelearnTime(cap=3)]
    asked += [PredictionDistribution(), LinearProbe(per_class=20)]
    audits = chosen_audits(asked, beside=("original", "retrained"), allow_code=False)
    audits = [audit for audit in audits if audit.name != "run_time"]
    done: Counter[str] = Counter()
    for module, name in (
        (panels, "observe"),
        (mia, "attacks"),
        (relearning, "relearn"),
        (linear_probe, "out_of_fold"),
    ):
        real = getattr(module, name)

        def counted(*given: Any, real: Any = real, name: str = name, **more: Any) -> Any:
            done[name] += 1
            return real(*given, **more)

        monkeypatch.setattr(module, name, counted)

    def fresh(subject: Trained) -> Panel:
        return Panel(subject, split, run_on_cpu(), original=first, retrained=retrained, seed=2)

    def told(panel: Panel) -> list[Any]:
        return [score.to_dict() for score in score_panel(panel, audits)]

    subjects = (tuned, first, retrained)
    alone = [told(fresh(subject)) for subject in subjects]
    assert done == {"observe": 9, "attacks": 9, "relearn": 6, "out_of_fold": 9}
    done.clear()
    start = fresh(subjects[0])
    together = [told(start.judging(subject)) for subject in subjects]
    assert done == {"observe": 5, "attacks": 5, "relearn": 4, "out_of_fold": 5}
    assert together == alone
    done.clear()
    audits = [RelearnTime(cap=4)]
    assert told(start.judging(tuned)) == told(fresh(tuned)), "other settings ask anew"


def test_audit_holds_the_mask_of_a_sparse_model_while_it_relearns() -> None:
    data = digits(600)
    common: dict[str, Any] = {
        "original": Slow(0.5),
        "also": ["relearn_time"],
        "features": (),
        "device": "cpu",
    }
    split = Split.classes(data, [3])
    mask = {"logits": torch.arange(10) != 3}
    free, held = (
        scores_of(Slow(-0.1), data, split, mask=given, **common)["relearn_time"].value
        for given in (None, mask)
    )
    assert free > held == 1, "the weight that is cut stays 0, above the others after one step"


@pytest.mark.parametrize(
    ("also", "given", "message"),
    [
        ("relearn_time", ("retrained",), "give the original too .audit: --original DIR"),
        (
            "weight_distance",
            ("original",),
            r"give one too .*--retrained DIR; unlearn: --with-ref",
        ),
        (
            "prediction_distribution",
            ("original",),
            r"give one too .*--retrained DIR; unlearn: --with-ref",
        ),
        ("UA", ("original", "retrained"), "no audit 'UA'; there are: .*relearn_time"),
    ],
)
def test_what_a_score_compares_with_must_be_there(
    also: str, given: tuple[str, ...], message: str
) -> None:
    data, split, first, retrained, tuned = trio()
    models = {"original": first.model, "retrained": retrained.model}
    with pytest.raises(ConfigError, match=message):
        scores_of(tuned.model, data, split, also=[also], **{name: models[name] for name in given})


# --- what settings are judged by where nobody has a retrained model


def seen(logits: Tensor, labels: Tensor) -> PartOutputs:
    return PartOutputs(logits, labels, tuple(map(str, range(len(labels)))))


def parts(seed: int, forget: float, kept: float) -> Outputs:
    """Outputs of 40 forget and 60 validation samples, their labels' logits raised by so much."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for n, sure in ((40, forget), (60, kept)):
        logits = torch.randn(n, 5, generator=generator)
        labels = torch.randint(0, 5, (n,), generator=generator)
        logits[torch.arange(n), labels] += sure
        made.append(seen(logits, labels))
    return Outputs(forget=made[0], retain=None, test_kept=made[1])


@pytest.mark.parametrize("all_gone", [False, True])
def test_the_criterion_of_tuning_by_hand(all_gone: bool) -> None:
    """Against loops over samples and over all pairs of losses."""
    model, before = parts(1, 0.5, 1.0), parts(2, 3.0, 2.0)

    def accuracy(part: PartOutputs | None) -> float:
        assert part is not None
        right = [
            int(row.argmax()) == int(y) for row, y in zip(part.logits, part.labels, strict=True)
        ]
        return 100 * sum(right) / len(right)

    lost = max(0.0, accuracy(before.test_kept) - accuracy(model.test_kept))
    if all_gone:
        wanted = accuracy(model.forget) + lost
    else:
        losses = [
            [
                float(-torch.log_softmax(row.double(), 0)[y])
                for row, y in zip(p.logits, p.labels, strict=True)
            ]
            for p in (model.forget, model.test_kept)
            if p is not None
        ]
        pairs = [(f > v) + (f == v) / 2 for f in losses[0] for v in losses[1]]
        told_apart = 100 * abs(sum(pairs) / len(pairs) - 0.5)
        wanted = abs(accuracy(model.forget) - accuracy(model.test_kept)) + lost + told_apart
    assert lost > 0
    found = criterion(model, before, all_gone=all_gone)
    assert found.value == pytest.approx(wanted) and found.unit == "points"
    assert sum(found.detail.values()) == pytest.approx(found.value)
    with pytest.raises(ConfigError, match="no forget sample"):
        criterion(Outputs(None, None, model.test_kept), before, all_gone=all_gone)


def test_the_criterion_prefers_what_lost_the_back_door() -> None:
    """A trigger that is obeyed is "right" by the poisoned label, as a good model is on clean samples."""
    before = parts(2, 9.0, 9.0)
    obeys, cleansed = parts(3, 9.0, 9.0), parts(4, -9.0, 9.0)
    points = [criterion(one, before, all_gone=True).value for one in (cleansed, obeys)]
    assert points[0] < 5 < 90 < points[1]
