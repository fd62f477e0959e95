from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import digits, original, panel_of, score_outputs, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.audits import AUDITS
from expunge.audits.accuracy import unlearning_accuracy
from expunge.audits.details import BINS, SHOWN, details
from expunge.audits.mia import FEATURES, Membership, mia_efficacy
from expunge.audits.near_empty import near_empty_report
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.audits.scores import read_against
from expunge.data.split import Split
from expunge.errors import ConfigError, DataError, ModelError, SplitError, UserError
from expunge.scores.score import Censoring, Score
from expunge.scores.shown import as_text
from expunge.scores.statistics import wilson
from expunge.scores.table import SCORES

CLASSES = 4


def part(name: str, n: int, *, right: int | None = None, margin: float = 3.0) -> PartOutputs:
    """n samples, the first `right` of them answered correctly, all by the same margin."""
    right = n if right is None else right
    labels = torch.arange(n) % CLASSES
    said = torch.where(torch.arange(n) < right, labels, (labels + 1) % CLASSES)
    logits = margin * torch.nn.functional.one_hot(said, CLASSES).float().reshape(n, CLASSES)
    return PartOutputs(logits, labels, tuple(f"{name}-{i}" for i in range(n)))


def random_part(name: str, n: int, seed: int) -> PartOutputs:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    logits = 3 * torch.randn(n, CLASSES, generator=generator)
    return PartOutputs(logits, labels, tuple(f"{name}-{i}" for i in range(n)))


def shuffled(outputs: PartOutputs, seed: int) -> PartOutputs:
    order = np.random.default_rng(seed).permutation(outputs.n).tolist()
    ids = tuple(outputs.ids[i] for i in order)
    return PartOutputs(outputs.logits[order], outputs.labels[order], ids)


EMPTY = part("none", 0)


def outputs(**parts: PartOutputs | None) -> Outputs:
    whole = {"forget": part("f", 40, right=30), "retain": part("r", 90, right=81)}
    return Outputs(**{"test_kept": part("t", 50, right=40), **whole, **parts})


def test_accuracies_in_percent_with_their_intervals() -> None:
    found = {score.name: score for score in score_outputs(outputs(), features=())}
    assert {name: score.value for name, score in found.items()} == {"UA": 25, "RA": 90, "TA": 80}
    assert {name: score.n for name, score in found.items()} == {"UA": 40, "RA": 90, "TA": 50}
    low, high = wilson(10, 40)
    assert (found["UA"].low, found["UA"].high) == (100 * low, 100 * high)


def test_forgotten_classes_are_scored_only_when_there_are_some() -> None:
    names = [s.name for s in score_outputs(outputs(test_forgotten=EMPTY), features=())]
    assert names == ["UA", "RA", "TA"]
    scores = score_outputs(outputs(test_forgotten=part("tf", 20, right=5)), features=())
    assert [(s.name, s.value) for s in scores][-1] == ("TA_forget", 25)


@pytest.mark.parametrize("forget", [None, EMPTY])
def test_before_any_forgetting_there_is_no_forget_score(forget: PartOutputs | None) -> None:
    assert [s.name for s in score_outputs(outputs(forget=forget))] == ["RA", "TA"]


def test_an_empty_part_has_no_accuracy() -> None:
    with pytest.raises(ConfigError, match="UA needs samples in the forget part"):
        unlearning_accuracy(EMPTY)


def test_every_score_is_in_the_table_and_in_its_order() -> None:
    everything = replace(
        outputs(test_forgotten=part("tf", 20)), triggered=part("t", 50), rest=part("p", 9), target=0
    )
    scores = score_outputs(everything, features=list(FEATURES))
    names = [score.name for score in scores]
    usual = [audit for audit in AUDITS.values() if audit.usual and audit.needs == {"outputs"}]
    assert sorted(names) == sorted(info.name for audit in usual for info in audit.info)
    assert names[:5] == ["UA", "RA", "TA", "TA_forget", "MIA"]
    for score in scores:
        assert (score.unit, score.target) == (SCORES[score.name].unit, SCORES[score.name].target)


def test_the_table_is_whole() -> None:
    for name, info in SCORES.items():
        assert name == info.name
        assert info.measures
        assert info.paper


def test_reference_fills_the_gaps() -> None:
    retrained = outputs(forget=part("f", 40, right=38), retain=part("r", 90))
    found = {s.name: s for s in score_outputs(outputs(), retrained)}
    alone = {s.name: s.value for s in score_outputs(retrained)}
    assert {name: s.reference for name, s in found.items()} == alone
    assert found["UA"].gap == 20
    assert all(s.reference is None for s in score_outputs(outputs()))


def test_a_reference_that_lacks_a_part_leaves_its_scores_without_one() -> None:
    found = {s.name: s for s in score_outputs(outputs(), outputs(retain=None))}
    assert found["RA"].reference is None
    assert found["MIA"].reference is None
    assert found["UA"].reference == 25


@pytest.mark.parametrize("name", ["forget", "retain", "test_kept"])
def test_a_reference_of_another_split_is_refused(name: str) -> None:
    with pytest.raises(SplitError, match=f"{name} part holds other samples"):
        score_outputs(outputs(), outputs(**{name: part("other", 40)}))


def test_few_forget_samples_give_intervals_and_no_verdict() -> None:
    few, enough = (
        {s.name: s for s in score_outputs(outputs(forget=part("f", n, right=20)))} for n in (29, 30)
    )
    for name in ("UA", "MIA"):
        assert few[name].detail["verdict"] == "none: fewer than 30 forget samples"
        assert few[name].low is not None
        assert "verdict" not in enough[name].detail
    assert "verdict" not in few["RA"].detail


def test_one_forgotten_sample_is_enough_to_score() -> None:
    scores = {s.name: s for s in score_outputs(outputs(forget=part("f", 1)))}
    assert scores["UA"].value == 0
    assert scores["UA"].n == scores["MIA"].n == 1
    assert scores["UA"].high > 70


def test_near_empty_report_pairs_by_id() -> None:
    mine = outputs(forget=random_part("f", 5, seed=0))
    retrained = random_part("f", 5, seed=1)
    rows = near_empty_report(mine, outputs(forget=shuffled(retrained, 3)))
    assert [row.id for row in rows] == [f"f-{i}" for i in range(5)]
    assert [row.label for row in rows] == mine.forget.labels.tolist()
    assert [row.loss for row in rows] == mine.forget.losses.tolist()
    assert [row.reference_loss for row in rows] == retrained.losses.tolist()


def test_near_empty_report_without_a_reference_or_a_forget_set() -> None:
    assert near_empty_report(outputs(forget=part("f", 1)))[0].reference_loss is None
    with_empty = near_empty_report(outputs(forget=part("f", 1)), outputs(forget=None))
    assert with_empty[0].reference_loss is None
    assert near_empty_report(outputs(forget=None)) == []
    with pytest.raises(SplitError, match="f-0"):
        near_empty_report(outputs(forget=part("f", 1)), outputs(forget=part("g", 1)))


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize(("margin", "expected"), [(12.0, 0.0), (0.2, 100.0)])
def test_mia_on_separable_data(feature: str, margin: float, expected: float) -> None:
    # Members are answered surely and rightly, non-members hesitantly and wrongly.
    right = 40 if margin > 1 else 0
    found = mia_efficacy(
        Outputs(
            forget=part("f", 40, right=right, margin=margin),
            retain=part("r", 90, margin=12.0),
            test_kept=part("t", 60, right=0, margin=0.2),
        ),
        feature,
    )
    assert found.value == expected
    assert found.n == 40
    assert found.detail["m"] == 60
    low, high = wilson(round(expected * 40 / 100), 40)
    assert (found.low, found.high) == (100 * low, 100 * high)


@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 25), st.integers(1, 25))
@settings(deadline=None, max_examples=30)
def test_scores_stay_in_percent_and_ignore_the_order_of_rows(
    seed: int, forget: int, retain: int, test: int
) -> None:
    parts = [random_part(n, k, seed) for n, k in (("f", forget), ("r", retain), ("t", test))]
    first = score_outputs(Outputs(*parts), seed=seed, features=list(FEATURES))
    again = score_outputs(
        Outputs(*(shuffled(p, seed) for p in parts)), seed=seed, features=list(FEATURES)
    )
    assert first == again
    for score in first:
        assert 0 <= score.low <= score.value <= score.high <= 100


def test_mia_depends_on_the_seed_alone() -> None:
    whole = Outputs(random_part("f", 60, 0), random_part("r", 300, 1), random_part("t", 40, 2))
    values = [mia_efficacy(whole, seed=seed).value for seed in range(5)]
    assert values == [mia_efficacy(whole, seed=seed).value for seed in range(5)]
    assert len(set(values)) > 1


def test_mia_says_of_how_many_samples_and_compares_at_equal_numbers_alone() -> None:
    smaller = outputs(test_kept=part("t", 20, right=10))
    shown = as_text(score_outputs(outputs(), outputs(), features=FEATURES))
    assert shown.count("MIA: m = 50 samples of each side") == 1 and "does not compare" not in shown
    seen = panel_of(outputs(), original=smaller, retrained=smaller)
    found = {score.name: score for score in read_against(Membership(), seen)}["MIA"]
    assert found.detail["m"] == 50 and "original" not in found.detail
    assert found.reference is None and found.gap is None
    for who in ("original", "retrained"):
        told = (
            f"MIA: the attack on the {who} model learned from m = 20, so its value does not compare"
        )
        assert told in as_text([found])


def test_mia_bound_on_its_samples() -> None:
    assert mia_efficacy(outputs(), max_samples=10).detail["m"] == 10
    assert mia_efficacy(outputs(), max_samples=1000).detail["m"] == 50
    assert mia_efficacy(outputs(), max_samples=None).detail["m"] == 50
    assert Membership().max_samples == 10_000
    told = as_text([mia_efficacy(outputs(), max_samples=10)])
    assert "MIA: m = 10 of 50 samples of each side taught the attack" in told
    with pytest.raises(ConfigError, match="max_samples"):
        mia_efficacy(outputs(), max_samples=0)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("forget", "nothing to judge"),
        ("retain", "no members to learn from"),
        ("test_kept", "no non-members to learn from"),
    ],
)
def test_mia_says_which_part_is_missing(missing: str, says: str) -> None:
    for nothing in (None, EMPTY):
        with pytest.raises(UserError, match=says):
            mia_efficacy(outputs(**{missing: nothing}))


def test_mia_on_outputs_that_tell_nothing_is_a_number() -> None:
    same = Outputs(part("f", 5, margin=0.0), part("r", 9, margin=0.0), part("t", 9, margin=0.0))
    assert mia_efficacy(same).value in (0, 100)


def test_features_are_named_once_and_known() -> None:
    names = [s.name for s in score_outputs(outputs(), features=["entropy", "entropy"])]
    assert names[3:] == ["MIA-entropy"]
    assert [s.name for s in score_outputs(outputs(), features="entropy")][3:] == ["MIA-entropy"]
    with pytest.raises(ConfigError, match="modified_entropy"):
        score_outputs(outputs(), features=["guess"])
    with pytest.raises(ConfigError, match="'guess'"):
        mia_efficacy(outputs(), "guess")


def test_a_score_is_not_changed_by_its_reference() -> None:
    found = score_outputs(outputs(), outputs())
    assert [replace(s, reference=None, finding=None) for s in found] == score_outputs(outputs())
    assert all(s.gap == 0 and not math.isnan(s.value) for s in found)


# --- what reports draw: accuracy by class, confidence, single samples


def detailed_part(rows: list[tuple[list[float], int]], name: str) -> PartOutputs:
    logits = torch.tensor([row for row, _ in rows])
    return PartOutputs(
        logits,
        torch.tensor([label for _, label in rows]),
        tuple(f"{name}{i}" for i in range(len(rows))),
    )


FAR, HALF = [20.0, 0.0, -20.0], [1.0, 1.0, -40.0]


def test_by_hand() -> None:
    outputs = Outputs(
        forget=detailed_part([(FAR, 0), (FAR, 1), (HALF, 1)], "f"),
        retain=detailed_part([(FAR, 0)] * 4, "r"),
        test_kept=detailed_part([(FAR, 0), (FAR, 1), (HALF, 0)], "k"),
        test_forgotten=detailed_part([(FAR, 1)], "g"),
    )
    found = details(outputs, ["cat", "<dog>", "none"])
    assert found["class_accuracy"] == [100.0, 0.0, None]
    first, middle, last = 0, BINS // 2, BINS - 1
    forget = found["confidence"]["forget"]
    assert sum(forget) == 3 and forget[first] == forget[middle] == forget[last] == 1
    assert found["confidence"]["retain"][last] == 4
    test = found["confidence"]["test"]
    assert sum(test) == 4 and test[first] == 2, "both parts of the test set"
    wrong = found["gallery"][1]
    assert (wrong["id"], wrong["label"], wrong["predicted"]) == ("f1", "<dog>", "cat")
    assert wrong["probability"] > 0.99 and wrong["true_probability"] < 0.01


def test_parts_that_are_not_there() -> None:
    outputs = Outputs(None, detailed_part([(FAR, 0)], "r"), None, None)
    found = details(outputs, ["a", "b", "c"])
    assert found["gallery"] == [] and set(found["confidence"]) == {"retain"}
    assert found["class_accuracy"] == [None, None, None]


def test_the_gallery_is_short() -> None:
    outputs = Outputs(detailed_part([(FAR, 0)] * 50, "f"), None, None, None)
    assert [one["id"] for one in details(outputs, "abc")["gallery"]] == [
        f"f{row}" for row in range(SHOWN)
    ]


# --- audits outputs


LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [-3.0, 1.0, 4.0]])
LABELS = torch.tensor([0, 1, 2])
IDS = ("a", "b", "c")


def test_what_follows_from_the_logits() -> None:
    part = PartOutputs(LOGITS, LABELS, IDS)
    for row in range(3):
        exponentials = [math.exp(value) for value in LOGITS[row].tolist()]
        p = exponentials[LABELS[row]] / sum(exponentials)
        assert part.true_class_confidence[row].item() == pytest.approx(p, abs=1e-12)
        assert part.losses[row].item() == pytest.approx(-math.log(p), abs=1e-12)
    assert part.n == 3
    assert part.probabilities.dtype == torch.float64
    assert part.probabilities.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert part.correct.tolist() == [True, False, True]  # a tie goes to the first class


def test_many_logits_are_looked_at_once_and_made_again_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 300 samples times 400 classes, no more than some rows are there at a time."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(300, 400, generator=generator)
    labels = torch.randint(400, (300,), generator=generator)
    ids = tuple(map(str, range(300)))
    told = PartOutputs(whole, labels, ids)
    alive, most, looks = weakref.WeakSet[torch.Tensor](), [0], [0]

    def logits() -> Iterator[torch.Tensor]:
        looks[0] += 1
        for start in range(0, 300, 10):
            chunk = whole[start : start + 10].clone()
            alive.add(chunk)
            most[0] = max(most[0], len(alive))
            yield chunk

    monkeypatch.setattr("expunge.audits.outputs.KEPT_VALUES", 20_000)
    monkeypatch.setattr("expunge.audits.outputs.AT_ONCE", 1000)
    seen = PartOutputs(logits, labels, ids)
    for name in ("losses", "predicted", "true_class_confidence", "correct"):
        assert torch.equal(getattr(seen, name), getattr(told, name))
    assert seen.classes == 400
    assert looks == [1]
    assert most[0] <= 6, "5 are kept, until they are too many"
    assert not alive
    assert torch.equal(seen.logits, whole)
    assert torch.equal(seen.probabilities, told.probabilities)
    torch.testing.assert_close(seen.mean_probabilities, told.probabilities.mean(dim=0))
    assert torch.equal(seen.of({"7", "250"}).logits, whole[[7, 250]])
    assert seen.each(lambda p, _: p.max(dim=1).values, first=8).shape == (8,)
    with pytest.raises(ConfigError, match="299 ids for 300 rows"):
        PartOutputs(logits, labels[:299], ids[:299])
    with pytest.raises(ConfigError, match="301 ids for 300 rows"):
        PartOutputs(logits, torch.cat([labels, labels[:1]]), (*ids, "more"))


def test_scores_are_the_same_where_logits_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    model = original("mlp")
    split = Split.classes(data, ["3"])
    more = ("prediction_distribution",)

    def found() -> list[tuple[str, float]]:
        scores = scores_of(model, data, split, retrained=model, features=FEATURES, also=more)
        return [(score.name, score.value) for score in scores if score.name != "RTE"]

    kept = found()
    monkeypatch.setattr("expunge.audits.outputs.KEPT_VALUES", 0)
    assert found() == kept


def test_far_logits_stay_finite() -> None:
    part = PartOutputs(torch.tensor([[1e30, -1e30]]), torch.tensor([0]), ("a",))
    assert part.losses.tolist() == [0]
    assert part.probabilities.tolist() == [[1, 0]]


def test_a_closed_class_is_allowed() -> None:
    part = PartOutputs(torch.tensor([[0.0, -math.inf]]), torch.tensor([1]), ("a",))
    assert part.losses.tolist() == [math.inf]


def test_no_samples_are_allowed() -> None:
    part = PartOutputs(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), ())
    assert part.n == len(part.losses) == len(part.correct) == len(part.true_class_confidence) == 0


@pytest.mark.parametrize(
    ("logits", "labels", "ids", "says"),
    [
        (LOGITS[0], LABELS, IDS, "n, classes"),
        (LOGITS.double(), LABELS, IDS, "float32"),
        (LOGITS, LABELS[:2], IDS, "one per row"),
        (LOGITS, LABELS.int(), IDS, "int64"),
        (LOGITS, LABELS, ("a", "b"), "2 ids for 3 rows"),
    ],
)
def test_misfits_are_refused(
    logits: torch.Tensor, labels: torch.Tensor, ids: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        PartOutputs(logits, labels, ids)


def test_a_label_the_model_lacks_is_refused() -> None:
    with pytest.raises(DataError, match="label 3"):
        PartOutputs(LOGITS, torch.tensor([0, 3, 1]), IDS)
    with pytest.raises(DataError, match="label -1"):
        PartOutputs(LOGITS, torch.tensor([0, -1, 1]), IDS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_mean_nothing_are_refused(value: float) -> None:
    logits = LOGITS.clone()
    logits[1, 0] = value
    with pytest.raises(ModelError, match="1 of 3"):
        PartOutputs(logits, LABELS, IDS)


def test_gap_is_absolute_and_absent_without_a_reference() -> None:
    score = Score("UA", 5.0, 100, 2.0, 9.0, "percent", "retrained")
    assert score.gap is None
    assert Score("UA", 5.0, 100, 2.0, 9.0, "percent", "retrained", reference=7.5).gap == 2.5


@pytest.mark.parametrize(
    ("value", "bound", "reference", "reference_bound", "gap"),
    [
        (500.0, "at least", 12.0, None, 488),
        (12.0, None, 500.0, "at least", 488),
        (0.1, "at most", 1.0, None, 0.9),
        (1.5, "at most", 1.0, None, 0),
        (1.0, None, 1.5, "at least", 0.5),
        (1.5, None, 1.0, "at least", 0),
        (500.0, "at least", 500.0, "at least", math.nan),
    ],
)
def test_the_gap_of_a_bound_is_the_smallest_that_it_allows(
    value: float, bound: Censoring, reference: float, reference_bound: Censoring, gap: float
) -> None:
    score = Score(
        *("relearn_time", value, 1, None, None, "steps", "retrained", {}),
        *(reference, bound, reference_bound),
    )
    assert score.gap == pytest.approx(gap, nan_ok=True)
    assert score.gap_bound == "at least"
    assert score.to_dict()["bound"] == bound


def test_to_dict_is_json_without_nan() -> None:
    detail = {
        "nan": math.nan,
        "inside": [np.float64(math.inf), np.int64(3), torch.tensor([1.0, math.nan])],
        "pair": (1, None),
        "set": {"b", "a"},
        4: True,
    }
    score = Score("UA", math.nan, 1, None, 1.5, "percent", "retrained", detail, reference=2.0)
    text = json.dumps(score.to_dict(), allow_nan=False)
    assert json.loads(text) == {
        "name": "UA",
        "value": None,
        "n": 1,
        "low": None,
        "high": 1.5,
        "unit": "percent",
        "target": "retrained",
        "reference": 2.0,
        "gap": None,
        "bound": None,
        "reference_bound": None,
        "finding": None,
        "detail": {
            "nan": None,
            "inside": [None, 3, [1.0, None]],
            "pair": [1, None],
            "set": ["a", "b"],
            "4": True,
        },
    }
