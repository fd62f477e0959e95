"""Audits that compare what many models say: known answers on laws that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from expunge.api import audit, train, unlearn
from expunge.audits.beside import FurtherModels
from expunge.audits.challenge_epsilon import ChallengeEpsilon, forgetting
from expunge.audits.klom import klom, tail
from expunge.audits.klom_fixed import against_margin, constant_share, judged
from expunge.audits.populations import OverFloor, beside_floor
from expunge.audits.retrain_band import band
from expunge.audits.shadows import Swapped
from expunge.audits.strength import Strength
from expunge.audits.swap import Swap, chance, found, largest
from expunge.data.load import load_data
from expunge.errors import ConfigError
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe


def draws(*names: int) -> np.random.Generator:
    return np.random.default_rng(names)


def laws(models: int, samples: int, *names: int, shift: float = 0.0) -> np.ndarray:
    """Log odds of models, each of which is more or less sure as a whole, as real ones are."""
    generator = draws(*names)
    whole, own = generator.normal(size=(models, 1)), generator.normal(size=(models, samples))
    return shift + 0.5 * whole + own


# ---- KLoM


def klom_by_loop(ours: np.ndarray, retrained: np.ndarray, *, closed: bool) -> list[float]:
    found = []
    for mine, other in zip(ours.T.tolist(), retrained.T.tolist(), strict=True):
        mine, other = ([max(-100.0, min(100.0, v)) for v in side] for side in (mine, other))
        low, high = min(mine + other), max(mine + other)
        edges = [low + (high - low) * j / 20 for j in range(20)] + [high]
        shares = []
        for side in (mine, other):
            counts = [
                sum(
                    edges[j] <= v < edges[j + 1] or (closed and j == 19 and v == high) for v in side
                )
                for j in range(20)
            ]
            shares.append([count / max(1, sum(counts)) for count in counts])
        found.append(
            sum(p * math.log(p / max(q, 1e-5)) for p, q in zip(*shares, strict=True) if p > 0)
        )
    return found


@pytest.mark.parametrize("closed", [False, True])
def test_klom_is_the_formula(closed: bool) -> None:
    ours, retrained = laws(30, 12, 0, shift=0.7), laws(40, 12, 1)
    ours[:, 3] *= 200  # beyond what is told apart
    want = klom_by_loop(ours, retrained, closed=closed)
    assert klom(ours, retrained, closed=closed) == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("models", "value"), [(10, 5.62), (20, 3.0), (50, 0.86), (100, 0.35), (200, 0.145)]
)
def test_between_equal_laws_klom_measures_the_number_of_models(models: int, value: float) -> None:
    ours, retrained = draws(models).normal(size=(2, models, 1_000))
    assert klom(ours, retrained).mean() == pytest.approx(value, rel=0.06)


def test_as_published_constants_are_perfect_and_corrected_they_are_refused() -> None:
    retrained = laws(100, 50, 2)
    constant = np.full((100, 50), retrained.max() + 1)
    assert (klom(constant, retrained) == 0).all(), "what no retrained model says scores best of all"
    assert (klom(constant, retrained, closed=True) > 11).all()
    assert constant_share(constant, retrained) == 1
    for value in (float(retrained.max()) + 1, 0.0):  # the second lies in the midst of them
        constant = np.full((100, 50), value)
        finding = judged(constant, retrained, excess(constant, retrained), 0.5)
        assert finding.word == "outside" and "one thing alike" in finding.why
    same = np.full((100, 50), 100.0)
    assert constant_share(same, same) == 0, "where retrained ones do not vary either"


def excess(ours: np.ndarray, retrained: np.ndarray) -> OverFloor:
    made = beside_floor(ours, retrained, lambda a, b: tail(klom(a, b, closed=True)), draws(9))
    assert made is not None
    return made


def test_klom_fixed_finds_doing_nothing_outside_and_retraining_within() -> None:
    retrained = laws(400, 100, 3)
    before = laws(200, 100, 4, shift=3.0)
    assert judged(before, retrained, excess(before, retrained), 0.5).word == "outside"
    again = laws(200, 100, 5)
    same = excess(again, retrained)
    assert judged(again, retrained, same, 0.5).word == "within"
    assert same.low < 0 < same.high and same.models == 200
    finding = judged(before[:99], retrained, None, 0.5)
    assert finding.word == "not measurable" and "99 models" in finding.why


def test_the_excess_of_retraining_is_0_and_its_alarms_are_few() -> None:
    found = [excess(laws(100, 20, 6, n), laws(200, 20, 7, n)) for n in range(8)]
    values = [one.excess for one in found]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(8)
    assert sum(one.p < 0.05 for one in found) <= 2
    assert sum(one.low <= 0 <= one.high for one in found) >= 6
    assert sum(against_margin(one, 0.5, "nats").word == "within" for one in found) >= 5
    assert not against_margin(found[0], 0.05, "nats").decidable, "of no value it would be within"


def test_a_floor_takes_models_to_leave_out() -> None:
    assert beside_floor(laws(9, 5, 0), laws(40, 5, 1), lambda a, b: 0.0, draws(0)) is None
    made = beside_floor(laws(30, 5, 0), laws(41, 5, 1), lambda a, b: float(len(a)), draws(0))
    assert made is not None and (made.models, made.excess) == (20, 0)
    assert against_margin(None, 0.5, "nats").word == "not measurable"


# ---- the challenge's epsilon


def epsilon_by_loop(ours: list[float], retrained: list[float], *, intervals: bool) -> float:
    """Every set of neighbours in order, and the rest, counted anew."""
    delta, most = 1e-5, 0.0
    values = sorted({*ours, *retrained})
    ends = [-math.inf, *values]
    rules = [
        lambda v, low=low, high=high, inside=inside: (low < v <= high) == inside
        for i, low in enumerate(ends)
        for high in ends[i:]
        for inside in (True, False)
        if intervals or low == -math.inf
    ]
    for rule in rules:
        positive = sum(map(rule, retrained)) / len(retrained)
        negative = 1 - sum(map(rule, ours)) / len(ours)
        if positive == 0 and negative == 0:
            return math.inf
        if positive == 0 or negative == 0:
            continue
        for one, other in ((positive, negative), (negative, positive)):
            if 1 - delta - one > 0:
                most = max(most, math.log(1 - delta - one) - math.log(other))
    return most


@pytest.mark.parametrize("intervals", [False, True])
def test_epsilon_is_the_best_rule_of_all(intervals: bool) -> None:
    generator = draws(10)
    ours = np.round(generator.normal(0.5, 1, size=(9, 6)), 1)  # with ties
    retrained = np.round(generator.normal(size=(12, 6)), 1)
    ours[:, 4], retrained[:, 4] = 3.0, -3.0  # told apart by every rule
    ours[:, 5] = retrained[:9, 5]
    how = ChallengeEpsilon(intervals=intervals)
    for sample, value in enumerate(forgetting(ours, retrained, how).tolist()):
        epsilon = epsilon_by_loop(
            ours[:, sample].tolist(), retrained[:, sample].tolist(), intervals=intervals
        )
        assert value == (0 if math.isinf(epsilon) else 2.0 ** -math.floor(2 * epsilon))
    assert value > 0 and forgetting(ours, retrained, how)[4] == 0


@pytest.mark.parametrize(
    ("models", "thresholds", "both"), [(16, 0.26, 0.14), (64, 0.22, 0.09), (128, 0.23, 0.07)]
)
def test_equal_laws_do_not_score_1(models: int, thresholds: float, both: float) -> None:
    ours, retrained = draws(11, models).normal(size=(2, models, 150))
    found = [
        forgetting(ours, retrained, ChallengeEpsilon(intervals=each)).mean()
        for each in (False, True)
    ]
    assert found == pytest.approx([thresholds, both], abs=0.035)


def test_a_split_of_retrained_models_is_the_floor() -> None:
    how = ChallengeEpsilon(intervals=False)

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        return float(forgetting(a, b, how).mean())

    retrained = laws(256, 40, 12)
    same = beside_floor(laws(128, 40, 13), retrained, measure, draws(1))
    far = beside_floor(laws(128, 40, 14, shift=4.0), retrained, measure, draws(1))
    assert same is not None and far is not None
    assert same.ours == pytest.approx(same.floor, abs=0.08)
    assert same.low < 0 < same.high
    assert far.ours < 0.01 and against_margin(far, 0.05, "of 1").word == "outside"


# ---- a band of retrained models


def band_by_loop(model: np.ndarray, retrained: np.ndarray, prior: float) -> list[list[float]]:
    """Mean size, largest size and mean of each model's distances."""
    every, found = [model, *retrained], []
    for number, one in enumerate(every):
        others = np.array([other for n, other in enumerate(every) if n != number])
        own = others.var(axis=0, ddof=1)
        k = len(others)
        spread = np.sqrt((prior * own.mean() + (k - 1) * own) / (prior + k - 1))
        t = (one - others.mean(axis=0)) / spread
        found.append([np.abs(t).mean(), np.abs(t).max(), t.mean()])
    return found


def test_every_model_is_judged_beside_all_others() -> None:
    model, retrained = laws(1, 15, 20, shift=0.4)[0], laws(6, 15, 21)
    made = band(model, retrained, 4.0)
    sizes, largest_sizes, means = np.array(band_by_loop(model, retrained, 4.0)).T
    assert made.sizes == pytest.approx(sizes, rel=1e-9)
    ranks = [(sizes >= sizes[0]).mean(), (largest_sizes >= largest_sizes[0]).mean()]
    side = min((means >= means[0]).mean(), (means <= means[0]).mean())
    assert made.ranks == pytest.approx([*ranks, min(1, 2 * side)])
    assert made.finding(0.25).word == "not measurable"


def test_a_rank_tells_of_how_many_findings_so_many_models_are_enough() -> None:
    model = laws(1, 15, 20, shift=4.0)[0]
    assert band(model, laws(18, 15, 21), 4.0).finding(0.25).word == "not measurable"
    for k, findings in ((19, 1), (38, 1), (39, 2)):
        found = band(model, laws(k, 15, 21), 4.0).finding(0.25)
        assert found.word == "outside" and f"enough for {findings} findings" in found.why
        assert found.p == 1 / (k + 1)
    assert band(model, laws(19, 15, 21), 4.0).finding(99).word == "within", "so far is near"


@pytest.mark.parametrize("k", [19, 39])
def test_a_retrained_model_that_is_left_out_is_flagged_at_the_stated_rate(k: int) -> None:
    flagged, times = 0, 400
    for number in range(times):
        models = laws(k + 1, 25, 22, k, number)
        flagged += band(models[0], models[1:], 4.0).finding(0.25).word == "outside"
    assert flagged / times <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / times)
    assert flagged > 0, "a rate, and not never"


@pytest.mark.parametrize(("shift", "word"), [(4.0, "outside"), (-4.0, "outside")])
def test_a_band_holds_neither_what_knows_nor_what_forgot_too_much(shift: float, word: str) -> None:
    retrained = laws(40, 50, 23)
    assert band(laws(1, 50, 24, shift=shift)[0], retrained, 4.0).finding(0.25).word == word
    assert band(retrained.mean(axis=0) + 0.8, retrained, 4.0).finding(5).word == "within"
    constant = np.zeros((40, 50))
    assert band(np.ones(50), constant, 4.0).finding(0.25).word == "outside"
    assert band(np.zeros(50), constant, 4.0).finding(0.25).word == "within"


# ---- two sets that change places


def worlds(left: float, pairs: int, *names: int) -> dict[str, np.ndarray]:
    """(2 models, 2 sets, pairs): what each forgot is more certain by `left`."""
    generator = draws(*names)
    hard = generator.normal(size=(1, 2, pairs))
    noise = 0.1 * generator.normal(size=(2, 2, pairs))
    return {"log odds": hard + noise + left * np.eye(2)[:, :, None]}


def advantage_by_loop(values: np.ndarray) -> float:
    most = 0.0
    for threshold in values.ravel().tolist():
        called = (values >= threshold).mean(axis=2)
        one, other = called[0, 0] - called[0, 1], called[1, 1] - called[1, 0]
        most = max(most, abs(one + other) / 2)
    return most


def test_swap_is_the_largest_of_all_thresholds() -> None:
    seen = worlds(0.3, 25, 30)
    assert largest(seen)[0] == pytest.approx(advantage_by_loop(seen["log odds"]), abs=1e-12)


def test_one_model_in_both_worlds_has_exactly_no_advantage() -> None:
    seen = worlds(0.0, 97, 31)["log odds"]
    both = {"log odds": np.stack([seen[0], seen[0]])}
    assert largest(both)[0] == 0
    p, reach = chance(both, 99, draws(0))
    assert (p, reach) == (1, 0)
    assert found(0.0, reach, p, 97, 5).word == "within"
    assert found(0.0, reach, p, 29, 5).word == "not measurable"


def test_swap_sees_what_was_left_and_seldom_what_was_not() -> None:
    seen = worlds(1.0, 200, 32)
    p, reach = chance(seen, 199, draws(1))
    assert found(largest(seen)[0], reach, p, 200, 5).word == "outside"
    alarms = [chance(worlds(0.0, 60, 33, n), 99, draws(n))[0] <= 0.05 for n in range(60)]
    assert sum(alarms) <= 8


# ---- asked for by name


@pytest.fixture(scope="module")
def models() -> dict[str, list[Trained]]:
    original = train(
        load_data("digits"), "mlp", recipe=Recipe(epochs=2, lr=0.1, batch_size=64), split=None
    )
    retrained = [unlearn(original, "random:0.1", "retrain", seed=seed) for seed in (0, 1, 2)]
    made = [unlearn(original, "random:0.1", "finetune", seed=seed) for seed in (0, 1)]
    return {"original": [original], "retrained": retrained, "made": made}


def test_audits_of_laws_say_when_there_are_too_few(models: dict[str, list[Trained]]) -> None:
    subject, *siblings = models["made"]
    asked = ["retrain_band", "klom", "klom_fixed", "challenge_epsilon"]
    scores = audit(
        subject,
        original=models["original"][0],
        retrained=models["retrained"],
        also=asked,
        strength=Strength(beside=FurtherModels(siblings=tuple(siblings))),
    )
    for name in asked:
        score = scores[name]
        assert score.finding is not None and score.finding.word == "not measurable"
        assert set(score.per_sample) == set(subject.split.forget)
    assert scores["klom"].detail["models"] == (2, 3)
    assert set(scores["klom"].detail["parts"]) == {"forget", "retain", "test_kept"}
    assert math.isnan(scores["klom_fixed"].value)
    assert scores["retrain_band"].detail["original"] > 0
    with pytest.raises(ConfigError, match="klom compares many models"):
        audit(subject, retrained=models["retrained"], also=["klom"])


def test_swap_reads_two_worlds(models: dict[str, list[Trained]]) -> None:
    exact, made = models["retrained"][0], models["made"][0]
    forgot = tuple(made.split.forget)[:40]
    other = tuple(made.split.retain)[:40]
    asked: list[object] = []

    def swapped(one: Trained) -> Strength:
        def make() -> Swapped:
            asked.append(one)
            return Swapped(one, one, exact, exact, forgot, other)

        return Strength(beside=FurtherModels(swapped=make))

    for one in (exact, made):
        score = audit(made, also=[Swap(draws=99)], strength=swapped(one))["swap"]
        assert score.value == 0 and score.reference == 0 and score.detail["quality"] == 100
        assert score.finding is not None and score.finding.word == "within"
    assert asked == [exact, made]
