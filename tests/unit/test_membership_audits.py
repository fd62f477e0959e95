"""Membership audits: known laws, slow loops beside, and what they say where they cannot know."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special

from expunge.api import audit, train, unlearn
from expunge.audits.base import Audit
from expunge.audits.beside import FurtherModels
from expunge.audits.lira import Lira
from expunge.audits.low_fpr import LowFpr
from expunge.audits.never_seen import of_never_seen, spared
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.audits.panel import Panel
from expunge.audits.quantile_mia import QuantileMia, logit_margins
from expunge.audits.rmia import USUAL_A, Rmia, asked, chosen_a, mean_confidence, share_below
from expunge.audits.shadows import Shadows
from expunge.audits.strength import Strength
from expunge.audits.told_apart import auc
from expunge.audits.u_lira import ULira
from expunge.data.load import Data, load_data
from expunge.errors import ConfigError
from expunge.progress import Silent
from expunge.scores.margins import STATED, Margins
from expunge.scores.score import Score
from expunge.shadows.build import build
from expunge.training.recipe import Recipe

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits")


def part(phi: Floats, names: list[str]) -> PartOutputs:
    """Of two classes, the first the label: phi is the first's logit."""
    logits = np.stack([phi, np.zeros(len(phi))], axis=1).astype(np.float32)
    labels = torch.zeros(len(phi), dtype=torch.int64)
    return PartOutputs(torch.from_numpy(logits), labels, tuple(names))


def panel(mine: Floats, theirs: Floats, shadows: Shadows | None = None, **more: Any) -> Panel:
    """Samples f0 ... were to be forgotten, t0 ... nobody saw."""
    names = [f"f{i}" for i in range(len(mine))]
    seen = part(mine, names)
    test = part(theirs, [f"t{i}" for i in range(len(theirs))])
    told: dict[str, Any] = {
        "outputs": Outputs(seen, None, test),
        "shadows": shadows,
        "split": SimpleNamespace(forget=tuple(names)),
        "seed": 0,
        "forget": lambda outputs=None: (outputs or Outputs(seen, None, test)).forget,
        "retrained": None,
        "references": (),
        "drawn": True,
        "margins": STATED,
        "unlearned": None,
        **more,
    }
    return cast(Panel, SimpleNamespace(**told))


def bank(
    phi: Callable[[NDArray[np.bool_]], Floats], models: int, forget: int, never: int, seed: int = 0
) -> Shadows:
    """phi: makes (K, n) of what was learned, (K, n)."""
    generator = np.random.default_rng(seed)
    even = generator.random((models // 2, forget + never)) < 0.5
    even[:, forget:] = False
    learned = np.stack([even, ~even], axis=1).reshape(models, -1)
    learned[:, forget:] = False
    values = phi(learned)
    logits = np.stack([values, np.zeros_like(values)], axis=2).astype(np.float32)
    ids = [f"f{i}" for i in range(forget)] + [f"t{i}" for i in range(never)]
    labels = np.zeros(len(ids), dtype=np.int64)
    return Shadows(np.array(ids), labels, logits, learned)


def only(audit: Audit, panel: Panel) -> Score:
    (score,) = audit.scores(panel)
    return score


@pytest.mark.parametrize(("online", "models"), [(True, 64), (True, 16), (False, 64), (False, 16)])
def test_known_normal_laws_have_their_area(online: bool, models: int) -> None:
    generator = np.random.default_rng(models)
    n, apart = 1500, 1.0
    mean, spread = generator.normal(size=2 * n), generator.uniform(0.5, 2, 2 * n)

    def law(learned: NDArray[np.bool_]) -> Floats:
        return mean + spread * (generator.normal(size=learned.shape) + apart * learned)

    shadows = bank(law, models, n, n)
    known = law(np.arange(2 * n)[None] < n)[0]
    found = only(Lira(online=online), panel(known[:n], known[n:], shadows))
    area = 100 * float(special.ndtr(apart / math.sqrt(2)))
    lost = 0.0 if models == 64 else 3.0  # what 8 models of a kind do not tell
    assert found.value == pytest.approx(area - lost, abs=3.5)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert list(found.per_sample) == [f"f{i}" for i in range(n)]
    if online:
        assert found.detail["bank"] == pytest.approx(area - lost, abs=3.5)
    again = law(np.zeros((1, 2 * n), dtype=bool))[0]  # retrained
    retrained = only(Lira(online=online), panel(again[:n], again[n:], shadows))
    assert retrained.value == pytest.approx(50, abs=3.5)


def test_samples_without_a_law_are_left_out_and_counted() -> None:
    generator = np.random.default_rng(0)
    shadows = bank(lambda learned: generator.normal(size=learned.shape) + learned, 8, 40, 30)
    shadows.learned[:, 3] = True  # nobody tells what those that did not learn say
    shadows.logits[:, 5] = np.nan  # struck
    asked = panel(generator.normal(size=40), generator.normal(size=30), shadows)
    for how in (Lira(), Lira(online=False), Rmia(), Rmia(online=True)):
        found = only(how, asked)
        assert found.n == len(found.per_sample) == 38
        assert found.detail["no law"] == 2
        assert not {"f3", "f5"} & set(found.per_sample)
    empty = replace(shadows, logits=np.full_like(shadows.logits, np.nan))
    for other in (Lira(), Rmia()):
        nothing = only(other, panel(np.zeros(40), np.zeros(30), empty))
        assert math.isnan(nothing.value)
        assert nothing.finding is not None
        assert nothing.finding.word == "not measurable"


def rmia_by_loop(
    shadows: Shadows, forget: list[float], never: list[float], how: Rmia, a: float
) -> list[float]:
    def p(phi: float) -> float:
        z = phi / how.temperature
        return math.exp(z) / (1 + math.exp(z))

    def ratio(i: int, phi: float) -> float:
        told = {True: [], False: []}  # type: dict[bool, list[float]]
        ones = spared(shadows, np.array([i]))[:, 0] | shadows.learned[:, i]
        for k in np.flatnonzero(ones):
            told[bool(shadows.learned[k, i])].append(p(float(shadows.logits[k, i, 0])))
        out = sum(told[False]) / len(told[False])
        if how.online and told[True]:
            return p(phi) / ((out + sum(told[True]) / len(told[True])) / 2)
        return p(phi) / (((1 + a) * out + 1 - a) / 2)

    z = [ratio(len(forget) + j, phi) for j, phi in enumerate(never)]
    x = [ratio(i, phi) for i, phi in enumerate(forget)]
    return [sum(one / other > how.gamma for other in z) / len(z) for one in x]


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (1.2, 2.0)])
def test_robust_membership_is_the_loop(online: bool, gamma: float, temperature: float) -> None:
    generator = np.random.default_rng(1)
    shadows = bank(lambda learned: generator.normal(size=learned.shape) + learned, 6, 25, 20)
    shadows.learned[0, :25], shadows.learned[1, :25] = True, False  # each kind is there
    # float32, as outputs are
    mine, theirs = (generator.normal(size=n).astype(np.float32).tolist() for n in (25, 20))
    how = Rmia(online=online, gamma=gamma, temperature=temperature, a=0.4)
    found = only(how, panel(np.array(mine), np.array(theirs), shadows))
    want = rmia_by_loop(shadows, mine, theirs, how, 0.4)
    assert list(found.per_sample.values()) == pytest.approx(want)
    assert found.detail["gamma"] == gamma
    assert found.detail["a"] == 0.4
    assert found.detail["temperature"] == temperature


def test_a_probability_that_equals_its_mean_is_chance() -> None:
    told = np.array([[0.2, 0.6], [0.4, 0.8], [0.9, 0.5]])
    learned = np.array([[False, False], [False, True], [True, False]])
    out = np.array([0.3, 0.55])
    np.testing.assert_allclose(mean_confidence(told, learned, 0.3), 0.65 * out + 0.35)
    np.testing.assert_allclose(mean_confidence(told, learned, 1.0), out)
    both = mean_confidence(told, learned, 0.3, online=True)
    np.testing.assert_allclose(both, [(0.3 + 0.9) / 2, (0.55 + 0.8) / 2])
    assert math.isnan(mean_confidence(told[:, :1], np.ones((3, 1), dtype=bool), 0.3)[0])

    # p = p̄ of every sample: no ratio is above another
    shadows = bank(lambda learned: np.full(learned.shape, math.log(3)), 4, 10, 12)
    equal = panel(np.full(10, math.log(3)), np.full(12, math.log(3)), shadows)
    found = only(Rmia(a=1.0), equal)
    assert found.value == 50
    assert set(found.per_sample.values()) == {0.0}


def test_a_sample_is_not_compared_with_itself() -> None:
    generator = np.random.default_rng(2)
    areas = [
        auc(share_below(values[:6], values[6:]), share_below(values[6:], values[6:], itself=True))[
            0
        ]
        for values in generator.random((4000, 12))
    ]
    assert np.mean(areas) == pytest.approx(50, abs=1.5), "with itself it would be 58"


def test_a_is_the_best_on_a_model_of_the_bank() -> None:
    generator = np.random.default_rng(3)
    # what nobody learned from well is hard: a sample's odds without it tell of those with it
    hard = generator.normal(size=600) * 2

    def law(learned: NDArray[np.bool_]) -> Floats:
        return hard + generator.normal(size=learned.shape) + np.where(learned, 2, 0)

    shadows = bank(law, 8, 400, 200)
    found = chosen_a(shadows, (), 1.0, 1.0)
    assert found == chosen_a(shadows, (), 1.0, 1.0)
    told, learned = asked(shadows, np.arange(600)), shadows.learned

    def area(a: float) -> float:
        ratio = shadows.confidence()[0] / mean_confidence(told[2:], learned[2:], a)
        ratio = ratio[np.isfinite(ratio)]
        inside = learned[0][np.isfinite(mean_confidence(told[2:], learned[2:], a))][:-200]
        one, two = ratio[:-200][inside], ratio[:-200][~inside]
        return float((one[:, None] > two).mean())

    best = max(area(step / 10) for step in range(11))
    assert area(found) > best - 0.005
    first = Shadows(shadows.ids, shadows.labels, np.stack([*shadows.logits])[:2], learned[:2])
    assert chosen_a(first, (), 1.0, 1.0) == USUAL_A
    assert chosen_a(shadows, [f"f{i}" for i in range(400)], 1.0, 1.0) == USUAL_A


def test_a_few_samples_that_are_still_known_are_found_at_low_rates() -> None:
    generator = np.random.default_rng(4)
    never, forget = generator.normal(size=10_000), generator.normal(size=1000)
    retrained = {s.name: s for s in LowFpr().scores(panel(forget, never))}
    forget[:50] = 6
    known = {s.name: s for s in LowFpr().scores(panel(forget, never))}
    for name, rate in (("tpr_1pct", 1), ("tpr_01pct", 0.1)):
        assert retrained[name].value == pytest.approx(rate, abs=1)
        assert retrained[name].finding is not None
        assert retrained[name].finding.word in ("within", "undecided")
        found = known[name]
        assert found.value == pytest.approx(rate + 5, abs=1)
        assert found.finding is not None
        assert found.finding.word == "outside"
        assert {i for i, value in found.per_sample.items() if value > 0} >= {
            f"f{i}" for i in range(50)
        }
    few = {s.name: s for s in LowFpr().scores(panel(forget, never[:300]))}
    assert math.isnan(few["tpr_01pct"].value)
    assert few["tpr_1pct"].value > 4
    assert {s.finding.word for s in few.values() if s.finding} == {"not measurable"}


def test_rates_take_the_score_of_a_bank_where_there_is_one() -> None:
    generator = np.random.default_rng(5)
    shadows = bank(lambda learned: generator.normal(size=learned.shape) + learned, 4, 40, 200)
    asked = panel(generator.normal(size=40), generator.normal(size=200), shadows)
    assert next(iter(LowFpr().scores(asked))).detail["by"] == "rmia"
    for how in (LowFpr(by="loss"), LowFpr(by="lira")):
        score = next(iter(how.scores(asked)))
        assert score.detail["by"] == how.by
        assert len(score.per_sample) == score.n == 40
    no_bank = panel(np.zeros(9), np.zeros(200))
    assert math.isnan(next(iter(LowFpr(by="lira").scores(no_bank))).value)
    without = panel(generator.normal(size=40), generator.normal(size=200))
    assert next(iter(LowFpr().scores(without))).detail["by"] == "loss"


def test_never_seen_samples_are_those_of_the_forgotten_classes_or_of_those_that_stay() -> None:
    def of(labels: list[int]) -> PartOutputs:
        named = tuple(f"{labels}{i}" for i in range(len(labels)))
        return PartOutputs(torch.zeros(len(labels), 4), torch.tensor(labels), named)

    def asked(outputs: Outputs, *, alike: bool) -> list[int]:
        found = of_never_seen(outputs, lambda part: part.labels.numpy(), alike=alike)
        return [int(label) for label in found]

    whole = Outputs(of([2, 2]), None, of([0, 1, 3]), of([2, 2, 2]))
    assert asked(whole, alike=True) == [2, 2, 2]
    assert asked(whole, alike=False) == [0, 1, 3]
    some = Outputs(of([0, 3]), None, of([0, 1, 3, 2]))
    assert asked(some, alike=True) == [0, 3]
    assert asked(some, alike=False) == [0, 1, 3, 2]
    assert asked(Outputs(of([0]), None, None), alike=True) == []


def test_margins_are_the_formula() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 4.0], [-torch.inf, 0.0, 0.0]])
    seen = PartOutputs(logits, torch.tensor([2, 0, 0]), ("a", "b", "c"))
    assert logit_margins(seen).tolist() == [-1, 1, -1e6]


def test_a_quantile_of_never_seen_samples_finds_what_is_known(digits: Data) -> None:
    generator = np.random.default_rng(6)
    forget, never = digits.train.ids[:200].tolist(), digits.test.ids.tolist()
    hard = digits.train.labels[:200] * 3.0, digits.test.labels * 3.0  # some classes are surer

    def asked(shift: float) -> Panel:
        def of(labels: NDArray[np.int64], ids: list[str], base: Floats, by: float) -> PartOutputs:
            z = np.zeros((len(ids), 10), dtype=np.float32)
            z[np.arange(len(ids)), labels] = base + generator.normal(size=len(ids)) + by
            return PartOutputs(torch.from_numpy(z), torch.from_numpy(labels), tuple(ids))

        mine = of(digits.train.labels[:200], forget, hard[0], shift)
        seen = Outputs(mine, None, of(digits.test.labels, never, hard[1], 0))
        return panel(
            np.zeros(0),
            np.zeros(0),
            outputs=seen,
            forget=lambda outputs=None: mine,
            split=SimpleNamespace(forget=tuple(forget)),
            subject=SimpleNamespace(data=digits),
            margins=Margins({"quantile_mia": 1.25}),
            run=SimpleNamespace(progress=Silent()),
        )

    like = only(QuantileMia(trees=15), asked(0))
    assert like.value == pytest.approx(10, abs=10)
    known = only(QuantileMia(trees=15), asked(3))
    margins = logit_margins(known_part := asked(3).forget())
    limit = np.quantile(logit_margins(asked(3).outputs.test_kept), 0.9)  # type: ignore[arg-type]
    everywhere = 100 * float((margins > limit).mean())
    assert known_part.n == 200
    assert known.value > max(2 * everywhere, 30), "one threshold for all finds the easy ones alone"
    assert known.finding is not None
    assert known.finding.word == "outside" and "margin 1.25" in known.finding.why
    assert known.n == len(known.per_sample) == 200
    assert sum(value > 0 for value in known.per_sample.values()) == known.value * 2
    odd = asked(0)
    few = Outputs(odd.outputs.forget, None, odd.outputs.test_kept.of(never[:40]))  # type: ignore[union-attr]
    odd.outputs = few  # type: ignore[misc]
    nothing = only(QuantileMia(), odd)
    assert math.isnan(nothing.value)
    assert nothing.finding is not None
    assert "needed" in nothing.finding.why


def test_doing_nothing_scores_as_the_original(
    digits: Data, tmp_path_factory: pytest.TempPathFactory
) -> None:
    original = train(digits, "mlp", recipe=Recipe(epochs=4, lr=0.1, batch_size=64), split=None)
    shadows = build(original, tmp_path_factory.mktemp("bank"), models=6, keep=False).shadows
    exact = unlearn(original, "random:0.1", "retrain")
    asked = np.isin(shadows.ids, exact.split.forget)
    nothing = replace(shadows, forgot=shadows.learned & asked)
    also: list[str | Audit] = ["rmia", "lira", "quantile_mia", "low_fpr", "u_lira"]
    scores = audit(
        original,
        forget="random:0.1",
        original=original,
        retrained=exact,
        also=also,
        strength=Strength(beside=FurtherModels(shadows=shadows, unlearned=lambda: nothing)),
    )
    for name in ("rmia", "lira", "quantile_mia", "tpr_1pct", "u_lira"):
        score = scores[name]
        assert score.value == pytest.approx(score.detail["original"])
        assert score.reference is not None
        assert score.finding is not None
        assert set(score.per_sample) == set(exact.split.forget)
    with pytest.raises(ConfigError, match="forget"):
        list(ULira().scores(replace(scores.panel, unlearned=lambda: shadows)))


def test_a_share_is_read_beside_retrained_models_and_else_of_random_draws_alone() -> None:
    """Hard samples are outside by chance alone, whoever learned from them."""
    generator = np.random.default_rng(7)
    hard, never = generator.normal(size=400) + 6, generator.normal(size=2000)
    found = {}
    for drawn, references in ((True, ()), (False, ()), (True, (object(),))):
        asked = panel(hard, never, drawn=drawn, references=references)
        found[drawn, len(references)] = next(iter(LowFpr(by="loss").scores(asked))).finding
    assert found[True, 0].word == "outside"  # type: ignore[union-attr]
    assert found[False, 0].word == "undecided"  # type: ignore[union-attr]
    assert found[True, 1] is None, "for it is compared with what these have"


@pytest.mark.parametrize("name", ["tpr_1pct", "u_lira"])
def test_audits_that_judge_alone_go_by_the_margin_given(name: str) -> None:
    generator = np.random.default_rng(8)
    shadows = bank(lambda learned: generator.normal(size=learned.shape), 16, 300, 1000)
    made = replace(shadows, forgot=shadows.learned)
    given = panel(
        generator.normal(size=300),
        generator.normal(size=1000),
        shadows,
        unlearned=lambda: made,
        margins=Margins({name: 1.25}),
    )
    audits: tuple[Audit, ...] = (LowFpr(), ULira())
    scores = {score.name: score for one in audits for score in one.scores(given)}
    finding = scores[name].finding
    assert finding is not None and "margin 1.25" in finding.why


def test_forgetting_is_not_found_where_the_models_never_knew() -> None:
    """Nothing tells who learned from a sample in these models, so that nothing tells who forgot."""
    generator = np.random.default_rng(9)
    for shift, word in ((0.0, "not measurable"), (2.0, "within")):
        shadows = bank(
            lambda learned, by=shift: generator.normal(size=learned.shape) + by * learned,
            32,
            300,
            9,
        )
        noise = generator.normal(size=shadows.logits.shape).astype(np.float32)
        made = replace(shadows, logits=noise, forgot=shadows.learned)
        seen = panel(np.zeros(300), np.zeros(9), shadows, unlearned=lambda made=made: made)
        finding = only(ULira(), seen).finding
        assert finding is not None and finding.word == word
