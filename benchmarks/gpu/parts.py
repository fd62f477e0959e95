"""Parts of a check one after another, each within its share of the time, none harming the others."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gpu.record import Outcome, Record

RESERVE_SECONDS = 4.0
"""Kept back at the end, for ending what runs and for writing."""


class LeftOutError(Exception):
    """A part has nothing to show here; the message says why. It is not counted as passed."""


class FailedError(Exception):
    """What a part looked at is not as it should be; the message says what."""


@dataclass(frozen=True)
class Part:
    """share: of the whole time, at most. least: seconds under which it is not begun."""

    name: str
    shows: str
    share: float
    least: float


class Clock:
    """seconds: the whole time. now: seconds, from any start."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._now, self._start = seconds, now, now()

    def spent(self) -> float:
        """Seconds since the start."""
        return self._now() - self._start

    def left(self) -> float:
        """Seconds that a part may still use, at least 0."""
        return max(0.0, self.seconds - RESERVE_SECONDS - self.spent())


Work = Callable[[Part, float], Outcome]
"""(part, seconds that it may take) -> what became of it. May raise."""


def run_all(
    parts: Sequence[Part], record: Record, clock: Clock, work: Work, say: Callable[[str], None]
) -> None:
    """Run parts in order; the record is written before and after each.

    A part that raises has failed, and the others go on; one that time does not allow is left out.
    """
    for part in parts:
        left = clock.left()
        if left < part.least:
            reason = f"time: {left:.0f} s were left, and it needs {part.least:.0f} s at least"
            record.parts[part.name] = Outcome("left out", reason=reason)
        else:
            budget = min(left, part.share * clock.seconds)
            record.parts[part.name] = Outcome("running", budget_seconds=budget)
            record.seconds = clock.spent()
            record.write()
            say(f"{part.name}: {part.shows}; at most {budget:.0f} s")
            record.parts[part.name] = _timed(part, budget, clock, work)
        record.seconds = clock.spent()
        record.write()
        say(_told(part.name, record.parts[part.name], clock))


def _timed(part: Part, budget: float, clock: Clock, work: Work) -> Outcome:
    start = clock.spent()
    try:
        outcome = work(part, budget)
    except LeftOutError as error:
        outcome = Outcome("left out", reason=str(error))
    except Exception as error:  # whatever it was, the other parts go on
        outcome = Outcome("failed", error=told(error))
    return replace(outcome, seconds=clock.spent() - start, budget_seconds=budget)


def told(error: BaseException) -> str:
    """An error in one line, and where it came from below it."""
    if isinstance(error, FailedError):
        return str(error)
    first = f"{type(error).__name__}: {error}"
    return f"{first}\n\n{''.join(traceback.format_exception(error)[-6:])}"


def _told(name: str, outcome: Outcome, clock: Clock) -> str:
    why = outcome.reason or next(iter(outcome.error.splitlines()), "")
    return (
        f"{name}: {outcome.status}{f' ({why})' if why else ''}, {outcome.seconds:.0f} s; "
        f"{clock.left():.0f} s left"
    )


def exit_code(record: Record) -> int:
    """0 if something passed and nothing failed, else 1."""
    statuses = [outcome.status for outcome in record.parts.values()]
    return 0 if "passed" in statuses and "failed" not in statuses else 1
