"""When a batch must start at the latest, and when it stops taking requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from expunge.errors import ConfigError

ENOUGH = 20
"""Recorded times of which the 95th percentile is taken; of fewer, the largest times `CAUTION`."""
CAUTION = 1.5
RETRAIN_CAUTION = 1.5
"""For the retraining that follows a gate which is not passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadSeconds:
    """Seconds that must be left before a due date, if the gate is not passed and retraining follows.

    Attributes:
        unlearn: every recorded time of one unlearning, at least one.
        gate: of the gate, which the retrained model must pass, too.
        retrain: of one full retraining.
        qualification: of a qualification that is missing; 0 where a valid one exists.
        review: that people take to look at the result and release it.
    """

    unlearn: Sequence[float]
    gate: float
    retrain: float
    qualification: float = 0.0
    review: float = 0.0

    def __post_init__(self) -> None:
        if not self.unlearn:
            raise ConfigError("no unlearning has been timed; run one, or plan a retraining")
        for field in fields(self):
            value = getattr(self, field.name)
            for seconds in value if field.name == "unlearn" else [value]:
                if not (math.isfinite(seconds) and seconds >= 0):
                    raise ConfigError(f"{field.name} = {seconds}: give seconds, 0 or more")

    @property
    def in_all(self) -> float:
        """Qualification + p95 of unlearning + gate + 1.5 retrainings + second gate + review."""
        slow = high_seconds(self.unlearn)
        retrain = RETRAIN_CAUTION * self.retrain
        return self.qualification + slow + self.gate + retrain + self.gate + self.review


def high_seconds(recorded: Sequence[float]) -> float:
    """The 95th percentile (nearest rank) of 20 or more times; of fewer, 1.5 times the largest."""
    ordered = sorted(recorded)
    if len(ordered) < ENOUGH:
        return CAUTION * ordered[-1]
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


def latest_safe_start(due_at: datetime, lead: LeadSeconds) -> datetime:
    """Until when a batch must start for a due date, in the zone of that; perhaps already past.

    Raises ConfigError for a due date without a time zone.
    """
    if due_at.utcoffset() is None:
        raise ConfigError(f"the due date {due_at} has no time zone; give one")
    # by the clock on the wall, the day on which it changes would have an hour too many or too few
    return (due_at.astimezone(UTC) - timedelta(seconds=lead.in_all)).astimezone(due_at.tzinfo)


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A request that is struck and waits for its batch. Both times have their zone."""

    id: str
    struck_at: datetime
    due_at: datetime
    samples: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """When a batch stops taking requests.

    Attributes:
        at: the moment; one that is past means now.
        reason: why then.
        taken: ids of the waiting requests that it takes, those due first before others.
    """

    at: datetime
    reason: str
    taken: tuple[str, ...]


def freeze_at(
    waiting: Sequence[WaitingRequest],
    lead: LeadSeconds,
    *,
    largest: int | None = None,
    window_end: datetime | None = None,
) -> Freeze:
    """When a batch freezes: at the earliest of three moments.

    Args:
        waiting: at least one.
        lead: what must be left before the first due date.
        largest: samples that the qualification covers; None: no limit. A request that is larger and
            due first makes a batch alone, for retraining.
        window_end: end of the calendar's window; None: there is none.

    Raises:
        ConfigError: if no request waits.
    """
    if not waiting:
        raise ConfigError("no request waits; a batch needs one")
    by_due = sorted(waiting, key=lambda one: (one.due_at, one.struck_at))
    moments = [
        (
            latest_safe_start(by_due[0].due_at, lead),
            "the latest safe start of the request that is due first",
        )
    ]
    full_at = _full_at(waiting, largest)
    if full_at is not None:
        moments.append((full_at, "the largest size that the qualification covers"))
    if window_end is not None:
        moments.append((window_end, "the end of the calendar window"))
    at, reason = min(moments, key=lambda one: one[0])
    return Freeze(at, reason, _taken(by_due, largest))


def _full_at(waiting: Sequence[WaitingRequest], largest: int | None) -> datetime | None:
    """When the request came that filled the batch, or was too many for it."""
    total = 0
    for one in sorted(waiting, key=lambda one: one.struck_at):
        total += one.samples
        if largest is not None and total >= largest:
            return one.struck_at
    return None


def _taken(by_due: Sequence[WaitingRequest], largest: int | None) -> tuple[str, ...]:
    """The first is always taken; of the others, those before the first that does not fit."""
    totals = accumulate(one.samples for one in by_due)
    fits = [
        one.id for one, n in zip(by_due, totals, strict=True) if largest is None or n <= largest
    ]
    return tuple(fits) or (by_due[0].id,)
