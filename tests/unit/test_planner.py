"""What a batch costs by each way, when approximate unlearning pays, and when a batch must start."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from expunge.errors import ConfigError
from expunge.requests.freezing import (
    LeadSeconds,
    WaitingRequest,
    freeze_at,
    high_seconds,
    latest_safe_start,
)
from expunge.requests.planner import (
    BatchCosts,
    batch_lines,
    break_even,
    expected_shards,
    plan_batch,
)

R = 3600.0
USUAL = BatchCosts(retrain=R, unlearn=0.1 * R, audits=0.05 * R, batches=20, forget_size=500)


def slow_break_even(costs: BatchCosts, most: int = 2000) -> int | None:
    """The first n of the definition, tried one by one; times are whole seconds, so sums are exact."""
    for n in range(1, most):
        qualification = 0 if costs.qualified else 8 * costs.retrain + 8 * costs.unlearn
        if qualification + n * (costs.unlearn + costs.audits) < n * costs.retrain:
            return n
    return None


def test_it_pays_from_eleven_batches_on() -> None:
    # 8.8 R + 0.15 R n < R n from n = 8.8 / 0.85 = 10.35 on
    assert break_even(USUAL) == 11
    assert plan_batch(replace(USUAL, batches=10)).recommended == "retrain"
    assert plan_batch(replace(USUAL, batches=11)).recommended == "approximate"
    ten, eleven = (plan_batch(replace(USUAL, batches=n)).in_all for n in (10, 11))
    assert ten["approximate"] == pytest.approx(10.3 * R) and ten["retrain"] == 10 * R
    assert eleven["approximate"] == pytest.approx(10.45 * R) and eleven["retrain"] == 11 * R


def test_break_even_against_trying_every_number() -> None:
    for unlearn in range(0, 120, 5):
        for audits in range(0, 120, 7):
            for qualified in (False, True):
                costs = BatchCosts(
                    retrain=100,
                    unlearn=unlearn,
                    audits=audits,
                    batches=1,
                    forget_size=500,
                    qualified=qualified,
                )
                assert break_even(costs) == slow_break_even(costs), costs


def test_at_equal_costs_the_exact_way_is_taken() -> None:
    # 8 R + 8 u = 1200, each batch saves 25: equal at 48
    costs = BatchCosts(retrain=100, unlearn=50, audits=25, batches=48, forget_size=500)
    plan = plan_batch(costs)
    assert plan.in_all["approximate"] == plan.in_all["retrain"]
    assert plan.recommended == "retrain" and plan.break_even == 49
    assert plan_batch(replace(costs, batches=49)).recommended == "approximate"


@pytest.mark.parametrize(("size", "way"), [(29, "retrain"), (30, "approximate")])
def test_under_thirty_samples_retraining_is_recommended(size: int, way: str) -> None:
    plan = plan_batch(replace(USUAL, forget_size=size))
    assert plan.recommended == way
    assert ("29 samples to forget, fewer than 30" in plan.reason) == (size == 29)


def test_a_qualification_that_exists_is_paid_already() -> None:
    plan = plan_batch(replace(USUAL, batches=1, qualified=True))
    assert plan.break_even == 1 and plan.recommended == "approximate"
    assert plan.per_batch["approximate"] == pytest.approx(0.15 * R)


def test_a_bank_that_every_batch_taints_costs_more_than_retraining() -> None:
    costs = replace(USUAL, bank_models=4)
    assert costs.bank == 2 * R and costs.bank_renewal == pytest.approx(2 * R)
    assert break_even(costs) is None and plan_batch(costs).recommended == "retrain"
    one = replace(costs, forget_size=1)
    assert one.bank_renewal == R, "one struck sample is in half of the halves"
    rng = random.Random(0)
    tainted = sum(any(rng.random() < 0.5 for _ in range(3)) for _ in range(20_000)) / 20_000
    three = replace(costs, forget_size=3)
    assert three.bank_renewal / three.bank == pytest.approx(tainted, abs=0.01)
    assert three.once == pytest.approx(8.8 * R + 2 * R)
    assert replace(three, bank_built=True).once == pytest.approx(8.8 * R)


def test_expected_shards_against_drawing_them() -> None:
    rng = random.Random(0)
    for shards, samples in [(2, 1), (5, 3), (10, 10), (20, 60)]:
        drawn = [len({rng.randrange(shards) for _ in range(samples)}) for _ in range(4000)]
        assert expected_shards(shards, samples) == pytest.approx(sum(drawn) / 4000, rel=0.02)
    assert expected_shards(1, 7) == 1 and expected_shards(10, 1) == pytest.approx(1)


def test_sisa_is_taken_where_it_is_cheapest_and_for_few_samples_too() -> None:
    plan = plan_batch(replace(USUAL, shards=10, forget_size=1, batches=3))
    assert plan.per_batch["sisa"] == pytest.approx(R / 10)
    assert plan.recommended == "sisa"
    many = plan_batch(replace(USUAL, shards=10, batches=30))
    assert many.recommended == "approximate", "500 samples are in every shard"
    assert many.per_batch["sisa"] == pytest.approx(R)
    assert "sisa" not in plan_batch(USUAL).per_batch


def test_costs_only_grow_with_what_they_are_made_of() -> None:
    base = replace(USUAL, bank_models=3, shards=7, forget_size=3)
    for name, larger in [("unlearn", R), ("audits", R), ("bank_models", 9), ("forget_size", 50)]:
        more = plan_batch(replace(base, **{name: larger})).per_batch  # type: ignore[arg-type]
        assert all(more[way] >= old for way, old in plan_batch(base).per_batch.items()), name
        assert more["approximate"] > plan_batch(base).per_batch["approximate"]
    shares = [plan_batch(replace(base, batches=n)).per_batch["approximate"] for n in (1, 2, 10, 99)]
    assert shares == sorted(shares, reverse=True)
    even = [break_even(replace(USUAL, unlearn=u * R)) for u in (0.0, 0.1, 0.5, 0.9)]
    assert even == sorted(even, key=lambda n: n or 0) and even[0] == 9


def test_the_plan_is_printed() -> None:
    assert batch_lines(plan_batch(USUAL)) == [
        "Retrain: 60 min a batch, 20.0 h for 20 batches",
        "Unlearn approximately: 35 min a batch, 11.8 h for 20 batches (each: unlearning 360 s, audits "
        "180 s; once: qualification 8.8 h)",
        "Unlearning approximately takes less than retraining if one qualification serves 11 batches or "
        "more; expected: 20.",
        "Recommended: unlearn approximately, because it costs less than every exact way; its gate must "
        "still be passed.",
    ]
    small = replace(USUAL, batches=1, forget_size=2, shards=5, bank_models=8, qualified=True)
    assert batch_lines(plan_batch(small)) == [
        "Retrain: 60 min a batch",
        "Retrain the SISA shards: 22 min a batch (expected: 1.8 of 5 shards trained anew)",
        "Unlearn approximately: 7.2 h a batch (each: unlearning 360 s, audits 180 s, renewing the bank "
        "3.0 h; once: bank 4.0 h)",
        "Unlearning approximately takes longer than retraining, however many batches.",
        "Recommended: retrain the SISA shards, because retraining the shards is as exact as retraining "
        "in full and cheaper, and unlearning approximately would cost no less.",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"retrain": 0.0}, "retrain is 0"),
        ({"retrain": float("nan")}, "retrain = nan"),
        ({"unlearn": -1.0}, "unlearn = -1.0"),
        ({"audits": float("inf")}, "audits = inf"),
        ({"batches": 0}, "batches = 0: give 1"),
        ({"forget_size": 0}, "forget_size = 0"),
        ({"bank_models": -1}, "bank_models = -1: give 0"),
        ({"shards": 0}, "shards = 0"),
    ],
)
def test_costs_that_cannot_be_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(USUAL, **change)  # type: ignore[arg-type]


# --- when a batch must start


LEAD = LeadSeconds(unlearn=[100.0, 40.0], gate=60.0, retrain=1000.0, review=3600.0)
LEAD_IN_ALL = 1.5 * 100 + 60 + 1500 + 60 + 3600


def test_the_slow_unlearning_of_few_and_of_many() -> None:
    assert high_seconds([3.0, 7.0]) == 1.5 * 7
    assert high_seconds([float(n) for n in range(1, 20)]) == 1.5 * 19
    assert high_seconds([float(n) for n in range(20, 0, -1)]) == 19
    assert high_seconds([float(n) for n in range(100)]) == 94, "the 95th of a hundred"
    with pytest.raises(ConfigError, match="no unlearning has been timed"):
        replace(LEAD, unlearn=[])
    with pytest.raises(ConfigError, match="unlearn = nan"):
        replace(LEAD, unlearn=[1.0, float("nan")])


def test_the_latest_safe_start_counts_real_seconds_over_a_clock_change() -> None:
    due = datetime(2026, 3, 29, 23, 59, 59, tzinfo=ZoneInfo("Europe/Berlin"))  # 02:00 is 03:00
    lead = replace(LEAD, qualification=86_000.0)
    start = latest_safe_start(due, lead)
    assert LEAD.in_all == LEAD_IN_ALL
    gone = due.astimezone(UTC) - start.astimezone(UTC)
    assert gone == timedelta(seconds=LEAD_IN_ALL + 86_000)
    assert start.utcoffset() == timedelta(hours=1) and start.tzinfo is due.tzinfo
    with pytest.raises(ConfigError, match="no time zone"):
        latest_safe_start(datetime(2026, 3, 29), LEAD)


def at(hour: int) -> datetime:
    return datetime(2026, 5, 4, tzinfo=UTC) + timedelta(hours=hour)


def waiting(struck: int, samples: int, due: int = 1000) -> WaitingRequest:
    return WaitingRequest(f"at {struck}", at(struck), at(due), samples)


def test_a_batch_freezes_at_the_earliest_of_three_moments() -> None:
    requests = [waiting(5, 40, due=500), waiting(1, 60), waiting(9, 20)]
    lead, everything = timedelta(seconds=LEAD_IN_ALL), ("at 5", "at 1", "at 9")
    alone = freeze_at(requests, LEAD)
    assert (alone.at, alone.taken) == (at(500) - lead, everything) and "due first" in alone.reason
    window = freeze_at(requests, LEAD, window_end=at(100), largest=121)
    assert (window.at, window.taken) == (at(100), everything) and "window" in window.reason
    full = freeze_at(requests, LEAD, window_end=at(100), largest=100)
    assert (full.at, full.taken) == (at(5), everything[:2]) and "largest size" in full.reason
    over = freeze_at(requests, LEAD, window_end=at(100), largest=119)
    assert (over.at, over.taken) == (at(9), everything[:2]), "the third no longer fits"
    assert freeze_at(requests, LEAD, window_end=at(900)).at == alone.at
    soon = freeze_at([waiting(1, 60, due=1)], LEAD, largest=60)
    assert soon.at == at(1) - lead, "past already: now"


def test_what_is_due_first_is_taken_first() -> None:
    requests = [waiting(1, 60), waiting(2, 60, due=500)]  # the later one's law gives less time
    assert freeze_at(requests, LEAD, largest=100).taken == ("at 2",)


def test_a_request_larger_than_what_is_covered_makes_a_batch_alone() -> None:
    frozen = freeze_at([waiting(1, 500), waiting(2, 3)], LEAD, largest=100)
    assert (frozen.at, frozen.taken) == (at(1), ("at 1",))
    with pytest.raises(ConfigError, match="no request waits"):
        freeze_at([], LEAD)
