"""When a request must be confirmed and answered: the laws' spans, counted on a calendar."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from expunge.errors import ConfigError
from expunge.requests.policy import Policies, Policy, Span, policy_of

SATURDAY = 5
YEARS = range(2000, 2100)
"""In which a request can be received; a clock that says another year is wrong."""


@dataclass(frozen=True, slots=True)
class DueDates:
    """Ends of days in the policy's zone.

    Attributes:
        confirm_by: until when receipt must be confirmed; None where the law does not ask for it.
        due_at: until when the request must be answered.
    """

    confirm_by: datetime | None
    due_at: datetime


def due_dates(received_at: datetime, law: str, policies: Policies) -> DueDates:
    """When a request must be confirmed and answered.

    Args:
        received_at: with its time zone; the day is that of the policy's zone.
        law: name of a policy.
        policies: of `read_policies`.

    Raises:
        ConfigError: for an unknown law, or a time without a zone or outside the years 2000 to 2099.
    """
    policy = policy_of(law, policies)
    received = _day(received_at, "received_at", policy)

    def end(span: Span) -> datetime:
        return _end(last_day(received, span, policy), policy)

    return DueDates(end(policy.confirm) if policy.confirm else None, end(policy.answer))


def extended_due(
    received_at: datetime, law: str, told_at: datetime, reasons: str, policies: Policies
) -> datetime:
    """The later due date of a request whose person was told of the delay, and why.

    It is counted from receipt, too, and not from the first due date.

    Args:
        received_at: with its time zone.
        law: name of a policy.
        told_at: when the person was told, with its time zone.
        reasons: that the person was told.
        policies: of `read_policies`.

    Raises:
        ConfigError: where the law allows none: it knows no extension, the person was told after the
            first due date or before the request, or without reasons.
    """
    policy = policy_of(law, policies)
    if policy.extended is None:
        raise ConfigError(f"{policy.title} knows no extension; answer by the due date")
    if not reasons.strip():
        raise ConfigError(
            f"{policy.title} allows an extension only with reasons; say what the person was told"
        )
    received = _day(received_at, "received_at", policy)
    told, first = _day(told_at, "told_at", policy), last_day(received, policy.answer, policy)
    if told_at < received_at:
        raise ConfigError(
            f"told_at {told} lies before the request, received on {received}; check both"
        )
    if told > first:
        raise ConfigError(
            f"the extension is too late: the person was told on {told}, and {policy.title} asks for "
            f"that by {first}, when the answer was due; answer now, and say that it is late"
        )
    return _end(last_day(received, policy.extended, policy), policy)


def window_end(at: datetime, policy: Policy) -> datetime | None:
    """The last second of the policy's window that a moment lies in: its day, its week until Sunday, or
    its month; None where the policy has no window.
    """
    from dateutil.relativedelta import relativedelta

    day = at.astimezone(policy.clock).date()
    match policy.window:
        case None:
            return None
        case "week":
            day += timedelta(days=6 - day.weekday())
        case "month":
            day += relativedelta(day=31)
    return _end(day, policy)


def is_working_day(day: date, place: str) -> bool:
    """Neither a Saturday, a Sunday nor a public holiday of the place, such as DE-BE."""
    return day.weekday() < SATURDAY and day not in _holidays(place, day.year)


def last_day(received: date, span: Span, policy: Policy) -> date:
    """The last day of a span that begins on a day, which itself is not counted."""
    from dateutil.relativedelta import relativedelta

    if span.business_days is not None:
        day = received
        for _ in range(span.business_days):
            day = _working_day(day + timedelta(days=1), policy.place)
        return day
    day = received + relativedelta(months=span.months or 0, days=span.days or 0)
    return _working_day(day, policy.place) if policy.next_working_day else day


def _working_day(day: date, place: str) -> date:
    """The day, or the first working day after it."""
    while not is_working_day(day, place):
        day += timedelta(days=1)
    return day


@lru_cache(maxsize=64)
def _holidays(place: str, year: int) -> frozenset[date]:
    import holidays  # half a second

    country, _, part = place.partition("-")
    return frozenset(holidays.country_holidays(country, subdiv=part or None, years=year))


def _day(moment: datetime, name: str, policy: Policy) -> date:
    """The day of a moment where the policy counts."""
    if moment.utcoffset() is None:
        raise ConfigError(
            f"{name} {moment} has no time zone; give one, such as {moment.isoformat()}+00:00"
        )
    if moment.year not in YEARS:
        raise ConfigError(f"{name} {moment} lies outside the years 2000 to 2099; check the clock")
    return moment.astimezone(policy.clock).date()


def _end(day: date, policy: Policy) -> datetime:
    """The last second of a day; of a clock that shows it twice, the second time."""
    return datetime.combine(day, time(23, 59, 59, fold=1), policy.clock)
