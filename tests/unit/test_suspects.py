"""Suspects by a known part of the poison, and the way to cleanse that is chosen by it or without any."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers import CPU, run_on_cpu
from thorough import THOROUGH

from expunge.advice import cleansing
from expunge.advice.cleansing import _bench, blinded, choose_way
from expunge.api import train
from expunge.backdoor.suspects import (
    Suspects,
    discriminant,
    find_suspects,
    hidden_number,
    influence,
    left_out_scores,
    places_among,
    ranked,
)
from expunge.data.load import load_data
from expunge.data.split import some_of
from expunge.errors import ConfigError
from expunge.names.seeds import numpy_generator
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

SPEC = "digits:1000+patch:size=3,margin=0,colour=255,share=0.1,target=3"
RUN = run_on_cpu()


@cache
def backdoored() -> Trained:
    """An original with a backdoor."""
    recipe = Recipe(epochs=10, lr=0.05, batch_size=64, augmentation="none")
    return train(load_data(SPEC), "mlp", recipe=recipe, place=CPU)


def known_part(model: Trained, share: float) -> tuple[list[str], set[str]]:
    """A share of the poison that the model learned, and the rest."""
    assert model.data.poison is not None
    learned = sorted(model.data.poison.ids.intersection(model.split.retain))
    known = some_of(learned, share, 0)
    return known, set(learned).difference(known)


def test_most_of_the_rest_is_found_and_the_estimates_hold() -> None:
    model = backdoored()
    known, rest = known_part(model, 0.3)
    # nothing but the samples and their labels is looked at
    blind = replace(model.data, poison=None, test=model.data.test.subset(np.arange(0)))
    (found,) = find_suspects(model.model, blind, model.split, known, RUN)
    right = rest.intersection(found.ids)
    precision, recall = len(right) / found.taken, len(right) / len(rest)
    assert found.label == 3 and not set(known) & set(found.ranked)
    assert precision > 0.8 and recall > 0.8
    assert found.precision is not None and found.recall is not None
    assert found.recall.low - 0.02 <= recall <= found.recall.high + 0.02
    assert found.precision.low - 0.05 <= precision <= found.precision.high + 0.05
    assert "suspects beside" in found.told(model.data.classes)


def test_samples_that_are_no_poison_lead_to_no_suspects() -> None:
    """A random draw of a clean class is told from the others by nothing."""
    model = backdoored()
    assert model.data.poison is not None
    rows = model.data.train.rows_of(list(model.split.retain))
    clean = [
        name
        for name, label in zip(model.split.retain, model.data.train.labels[rows], strict=True)
        if label == 7 and name not in model.data.poison.ids
    ]
    (found,) = find_suspects(model.model, model.data, model.split, clean[::3], RUN)
    assert found.taken == 0 and found.precision is None
    assert "so none is named" in found.told(model.data.classes)


def test_too_few_known_samples_are_refused() -> None:
    model = backdoored()
    known, _ = known_part(model, 0.3)
    with pytest.raises(ConfigError, match="name more of them"):
        find_suspects(model.model, model.data, model.split, known[:4], RUN)


def test_scores_are_those_of_a_loop_that_learns_without_the_fold() -> None:
    draw = np.random.default_rng(0)
    wide = draw.normal(size=(60, 4))
    wide[:20] += 1.5
    found = left_out_scores(lambda ours, others: discriminant(wide, ours, others), 20, 60)
    folds = numpy_generator("suspects", "folds")
    mine = np.array_split(folds.permutation(20), 5)
    theirs = np.array_split(20 + folds.permutation(40), 5)
    for left, out in zip(mine, theirs, strict=True):
        parts = [
            [row for row in range(start, stop) if row not in {*left, *out}]
            for start, stop in ((0, 20), (20, 60))
        ]
        spread = np.zeros((4, 4))
        for part in parts:
            for row in part:
                away = wide[row] - wide[part].mean(0)
                spread += np.outer(away, away) / (len(parts[0]) + len(parts[1]) - 2)
        spread = 0.9 * spread + 0.1 * np.trace(spread) / 4 * np.eye(4)
        way = np.linalg.inv(spread) @ (wide[parts[0]].mean(0) - wide[parts[1]].mean(0))
        scores = wide @ way
        low, middle, high = np.percentile(scores[out], [25, 50, 75])
        for row in (*left, *out):
            assert found[row] == pytest.approx((scores[row] - middle) / (high - low), rel=1e-9)


def test_a_place_is_how_many_others_rank_before() -> None:
    known, others = np.array([3.0, 0.5, 9.0]), np.array([1.0, 3.0, 3.0, 5.0])
    assert places_among(known, others).tolist() == [2.0, 4.0, 0.0]


def test_influence_is_the_cosine_of_whole_gradients() -> None:
    draw = np.random.default_rng(1)
    wide, errors = draw.normal(size=(9, 5)), draw.normal(size=(9, 3))
    whole = np.stack([np.outer([*a, 1], b).ravel() for a, b in zip(wide, errors, strict=True)])
    mean = whole[:4].mean(0)
    expected = [one @ mean / np.linalg.norm(one) for one in whole]
    assert influence(wide, errors, np.arange(4)) == pytest.approx(np.array(expected), rel=1e-12)


@THOROUGH
def test_intervals_hold_the_truth_of_normal_scores() -> None:
    """40 known and 100 hidden of 500, drawn again and again."""
    draw = np.random.default_rng(2)
    names = np.array([f"p{n}" for n in range(100)] + [f"c{n}" for n in range(400)])
    held = []
    for _ in range(25):
        scores = np.concatenate([draw.normal(4.0, size=140), draw.normal(size=400)])
        found = ranked(0, names, 40, {"drawn": lambda *_, scores=scores: scores})
        assert isinstance(found, Suspects)
        assert found.recall is not None and found.precision is not None
        right = sum(name.startswith("p") for name in found.ids)
        held.append(
            (
                found.recall.low <= right / 100 <= found.recall.high,
                found.precision.low <= right / found.taken <= found.precision.high,
            )
        )
    assert min(np.mean(held, axis=0)) >= 0.8


def test_the_number_of_hidden_ones_of_a_perfect_ranking() -> None:
    """80 hidden before all others, known ones evenly among them."""
    recalls = np.minimum(1.0, np.arange(1, 301) / 80)
    assert hidden_number(recalls) == pytest.approx(80)


class Unread:
    """Whatever is asked of it, it says that it must not be read."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} of the trigger or the test set was read")


def sealed(model: Trained, known: list[str]) -> Trained:
    """The same model, whose trigger and test images nobody may look at."""
    data = model.data
    assert data.poison is not None
    poison = replace(data.poison, ids=frozenset(known), trigger=Unread(), poison=None)
    return replace(
        model, data=replace(data, poison=poison, test=replace(data.test, store=Unread()))
    )


def test_the_choice_never_reads_the_trigger_or_the_test_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By all poison, half of which no try sees: what unlearns it passes, and doing little does not."""
    model = backdoored()
    known, rest = known_part(model, 0.999)
    ways = {"finetune": ({"epochs": 1},), "retrain": ({},)}
    monkeypatch.setattr(cleansing, "NAMED", ways)
    told: list[str] = []
    found = choose_way(sealed(model, known), known, budget=60, place=CPU, tell=told.append)
    assert "one try takes: finetune" in told[0]
    little, much = found.outcomes
    assert found.before.left == 100 and little.left > 50 and not little.passes
    assert found.best is much and much.left < 40 and much.lost < 5
    assert "chosen: retrain, with the fewest points of 2 tries" in found.why()
    assert set(found.split.forget) == set(known) and not rest.intersection(found.split.forget)
    judges = set(known) - set(found.split.retain)
    assert f"{len(judges) // 2:,} known poisoned samples" in found.judged_by


@THOROUGH
def test_without_known_poison_the_inverted_trigger_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """On clean data alone, of which a part is set aside where there are no validation samples."""
    model = backdoored()
    assert model.data.poison is not None
    clean = [name for name in model.split.retain if name not in model.data.poison.ids][:400]
    blank = replace(
        sealed(model, []),
        split=replace(model.split, retain=tuple(clean), validation=(), excluded=()),
    )
    blank = replace(blank, data=replace(blank.data, poison=None))
    monkeypatch.setattr(cleansing, "UNNAMED", {"finetune": ({"epochs": 1}, {"lr": 1e8})})
    found = choose_way(blank, None, budget=60, place=CPU)
    assert "inverted for class 3" in found.judged_by and found.before.left > 90
    assert len(found.split.validation) == 80 and len(found.split.retain) == 320
    kept, broken = found.outcomes
    assert kept.left > 50 and found.best is None and broken.failed.startswith("finetune diverged")
    assert "nothing that was tried breaks the backdoor" in found.why()
    with pytest.raises(ConfigError, match="give more clean data"):
        choose_way(
            replace(blank, split=replace(blank.split, retain=tuple(clean[:40]))), None, budget=9
        )


def test_poison_that_nobody_knows_of_stays_among_what_judges() -> None:
    model = backdoored()
    known, rest = known_part(model, 0.3)
    hidden = sorted(rest)
    split = model.split.forgetting(known)
    split = replace(
        split,
        retain=tuple(name for name in split.retain if name not in set(hidden[:20])),
        validation=(*split.validation, *hidden[:20]),
    )
    blind, _ = blinded(model, split)
    assert set(hidden[:20]) <= set(blind.data.test.ids.tolist())
    assert blind.data.poison is not None and blind.data.poison.ids == set(known)
    few = known[:15]
    bench = _bench(*blinded(model, model.split.forgetting(few)), few, 0, CPU)
    assert bench.judged_by == "15 known poisoned samples that were themselves forgotten"
    longer = model.split.forgetting([*known, *hidden])
    bench = _bench(*blinded(model, longer), known, 0, CPU)
    assert set(bench.held) < set(known), "no suspect judges"


def test_what_does_not_fit_the_budget_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = backdoored()
    known, _ = known_part(model, 0.5)
    monkeypatch.setattr(cleansing, "NAMED", {"finetune": ({"epochs": 100000},)})
    found = choose_way(model, known, budget=2, place=CPU)
    assert found.outcomes == () and found.untried == ("finetune (epochs=100000, batch_size=32)",)


@pytest.mark.parametrize(("hidden", "clean", "apart"), [(60, 90, 1.5), (60, 300, 2.0)])
def test_the_interval_of_precision_holds_what_is_true(
    hidden: int, clean: int, apart: float
) -> None:
    """Beside four traces that tell nothing. By the middle number alone a third of them held it."""
    held = asked = 0
    for seed in range(15):
        draw = np.random.default_rng(seed)
        poisoned = np.arange(31 + hidden + clean) < 31 + hidden
        scores = [draw.normal(size=len(poisoned)) for _ in range(5)]
        scores[0] = scores[0] + apart * poisoned
        traces = {str(n): (lambda ours, others, one=one: one) for n, one in enumerate(scores)}
        names = np.arange(hidden + clean).astype(str)
        found = ranked(1, names, 31, traces)
        if found.precision is None:
            continue
        true = np.mean([int(name) < hidden for name in found.ranked[: found.taken]])
        asked += 1
        held += found.precision.low <= true <= found.precision.high
    assert asked >= 12 and held >= 0.8 * asked
