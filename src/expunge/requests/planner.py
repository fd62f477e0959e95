"""What forgetting a batch would cost by each way, what is recommended, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from expunge.advice.duration import in_seconds
from expunge.errors import ConfigError
from expunge.scores.table import NEAR_EMPTY

RETRAINS, UNLEARNINGS = 8, 8
"""That a qualification compares."""

ForgetWay = Literal["retrain", "sisa", "approximate"]
"""Of equal costs, the one that stands first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCosts:
    """What is known before a batch, from recorded costs.

    Attributes:
        retrain: seconds of one full retraining.
        unlearn: seconds of one approximate unlearning.
        audits: seconds of the audits by which its model is accepted.
        batches: that one qualification is expected to serve, this one included.
        forget_size: samples of this batch.
        qualified: whether a valid qualification exists, whose cost is then spent already.
        bank_models: of the bank that the gate uses; 0: it uses none.
        bank_built: whether a bank without struck samples exists.
        shards: of the live model, if it is a SISA ensemble.
    """

    retrain: float
    unlearn: float
    audits: float
    batches: int
    forget_size: int
    qualified: bool = False
    bank_models: int = 0
    bank_built: bool = False
    shards: int | None = None

    def __post_init__(self) -> None:
        for name in ("retrain", "unlearn", "audits"):
            _check_seconds(name, getattr(self, name))
        if self.retrain == 0:
            raise ConfigError("retrain is 0 seconds; give what one full retraining takes")
        least = {"batches": 1, "forget_size": 1, "bank_models": 0, "shards": 1}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in least and value is not None and value < least[field.name]:
                raise ConfigError(f"{field.name} = {value}: give {least[field.name]} or more")

    @property
    def qualification(self) -> float:
        """Seconds of a qualification that is still to be made."""
        seconds = RETRAINS * self.retrain + UNLEARNINGS * self.unlearn
        return 0.0 if self.qualified else seconds

    @property
    def bank(self) -> float:
        """Seconds of a whole bank, each of whose models learns a half of the data."""
        return self.bank_models * self.retrain / 2

    @property
    def bank_renewal(self) -> float:
        """Expected seconds after a batch: a model stays if its half, drawn at random, has no struck
        sample.
        """
        return self.bank * (1 - 0.5**self.forget_size)

    @property
    def once(self) -> float:
        """Seconds that a qualification with its bank takes before the first approximate batch."""
        return self.qualification + (0.0 if self.bank_built else self.bank)

    @property
    def each(self) -> float:
        """Seconds of each approximate batch, with the renewal of the bank that it taints."""
        return self.unlearn + self.audits + self.bank_renewal


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Costs of the ways to forget, and the one that is recommended.

    Attributes:
        costs: from which it was made.
        per_batch: expected seconds of each way, with its share of what is made once; `sisa` only for a
            live model of shards.
        in_all: the same for all the batches that one qualification serves.
        break_even: fewest batches with which the approximate way takes less than retraining; None if
            no number does.
        recommended: a way of `per_batch`.
        reason: why, as one sentence.
    """

    costs: BatchCosts
    per_batch: Mapping[ForgetWay, float]
    in_all: Mapping[ForgetWay, float]
    break_even: int | None
    recommended: ForgetWay
    reason: str


def plan_batch(costs: BatchCosts) -> BatchPlan:
    """What each way to forget a batch costs, and which is recommended.

    The approximate way is recommended only if it is cheaper than every exact one, and the forget set
    has enough samples for its test to tell anything (30). A SISA ensemble, which retrains the shards
    that had the samples, is as exact as retraining, so the cheaper of both is taken.
    """
    in_all: dict[ForgetWay, float] = {"retrain": costs.batches * costs.retrain}
    if costs.shards is not None:
        shards = expected_shards(costs.shards, costs.forget_size)
        in_all["sisa"] = costs.batches * shards * costs.retrain / costs.shards
    in_all["approximate"] = costs.once + costs.batches * costs.each
    recommended, reason = _recommended(costs, in_all)
    return BatchPlan(
        costs,
        MappingProxyType({way: seconds / costs.batches for way, seconds in in_all.items()}),
        MappingProxyType(in_all),
        break_even(costs),
        recommended,
        reason,
    )


def expected_shards(shards: int, samples: int) -> float:
    """How many of a SISA ensemble's shards hold at least one of so many samples, on average.

    S (1 - (1 - 1/S)^b), for samples that lie in shards drawn at random: from 1 to S.
    """
    return shards * (1 - (1 - 1 / shards) ** samples)


def break_even(costs: BatchCosts) -> int | None:
    """Fewest batches n with `once + n each < n retrain`; None if there are none."""
    saved = Fraction(costs.retrain) - Fraction(costs.each)
    return math.floor(Fraction(costs.once) / saved) + 1 if saved > 0 else None


def batch_lines(plan: BatchPlan) -> list[str]:
    """The plan in words: a line for each way, the break-even, and the recommendation."""
    costs, lines = plan.costs, []
    for way, seconds in plan.per_batch.items():
        name = _NAMES[way][:1].upper() + _NAMES[way][1:]
        told = f"{name}: {in_seconds(seconds)} a batch"
        if costs.batches > 1:
            told += f", {in_seconds(plan.in_all[way])} for {costs.batches:,} batches"
        lines.append(told + _made_of(way, costs))
    if plan.break_even is None:
        lines.append("Unlearning approximately takes longer than retraining, however many batches.")
    else:
        word = "batch" if plan.break_even == 1 else "batches"
        lines.append(
            "Unlearning approximately takes less than retraining if one qualification serves "
            f"{plan.break_even:,} {word} or more; expected: {costs.batches:,}."
        )
    lines.append(f"Recommended: {_NAMES[plan.recommended]}, because {plan.reason}.")
    return lines


_NAMES: dict[ForgetWay, str] = {
    "retrain": "retrain",
    "sisa": "retrain the SISA shards",
    "approximate": "unlearn approximately",
}


def _recommended(costs: BatchCosts, in_all: Mapping[ForgetWay, float]) -> tuple[ForgetWay, str]:
    exact: ForgetWay = (
        "sisa" if "sisa" in in_all and in_all["sisa"] < in_all["retrain"] else "retrain"
    )
    said = {
        "retrain": "retraining is exact",
        "sisa": "retraining the shards is as exact as retraining in full and cheaper",
    }[exact]
    least = break_even(costs)
    pays = least is not None and costs.batches >= least
    if not pays or in_all["approximate"] >= in_all[exact]:
        return exact, f"{said}, and unlearning approximately would cost no less"
    if costs.forget_size < NEAR_EMPTY:
        return exact, (
            f"{said}, and with {costs.forget_size} samples to forget, fewer than {NEAR_EMPTY}, no test "
            "can tell whether the approximate way worked"
        )
    return "approximate", "it costs less than every exact way; its gate must still be passed"


def _made_of(way: ForgetWay, costs: BatchCosts) -> str:
    """What the seconds of a way consist of, in brackets."""
    if way == "retrain":
        return ""
    if way == "sisa" and costs.shards is not None:
        shards = expected_shards(costs.shards, costs.forget_size)
        return f" (expected: {shards:.1f} of {costs.shards} shards trained anew)"
    each = [f"unlearning {in_seconds(costs.unlearn)}", f"audits {in_seconds(costs.audits)}"]
    once = [] if costs.qualified else [f"qualification {in_seconds(costs.qualification)}"]
    if costs.bank_models:
        each.append(f"renewing the bank {in_seconds(costs.bank_renewal)}")
        once += [] if costs.bank_built else [f"bank {in_seconds(costs.bank)}"]
    return f" (each: {', '.join(each)}" + (f"; once: {', '.join(once)})" if once else ")")


def _check_seconds(name: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigError(f"{name} = {seconds}: give seconds, 0 or more")
